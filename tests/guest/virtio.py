#!/usr/bin/env python3
"""A virtio_net port in a guest: the observer's sojourn against the delay measured outside of the ring.

Run by `cargo xtask vm --virtio` in a guest with two virtio NICs, nic0 and nic1, on one cable of a given rate that pushes
back. The guest is sender, router and receiver at once: fast0 (a veth) feeds nic0, nic1 is the receiver's. UDP at 1.2
times the cable's rate fills the ring of 256 with the AQM off; then CoDel holds it short. Exits with 1 and says what is wrong.
"""
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

RATE_BPS = 10_000_000
FRAME = 1_466
TOLERANCE_NS = 2_000_000 + 2 * FRAME * 8 * 10**9 // RATE_BPS
WEIR = sys.argv[1]


def run(command):
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def build():
    for command in (
        "ip netns add snd", "ip netns add rcv",
        "ip link add fast0 type veth peer name far0 netns snd",
        "ip link set nic1 netns rcv",
        "ip link set fast0 up", "ip link set nic0 up",
        "ip -n snd link set far0 up", "ip -n rcv link set nic1 up",
        "ip addr add 10.77.1.254/24 dev fast0", "ip -n snd addr add 10.77.1.1/24 dev far0",
        "ip addr add 10.77.2.254/24 dev nic0", "ip -n rcv addr add 10.77.2.1/24 dev nic1",
        "ip -n snd route add default via 10.77.1.254", "ip -n rcv route add default via 10.77.2.254",
        "ip netns exec snd ethtool -K far0 tx off tso off gso off",
        "sysctl -qw net.ipv4.ip_forward=1",
    ):
        run(command)
    mac = run("ip netns exec rcv cat /sys/class/net/nic1/address").strip()
    run(f"ip neigh replace 10.77.2.1 lladdr {mac} dev nic0 nud permanent")


def in_namespace(name, make):
    """What `make` returns, made by a thread that has entered the namespace."""
    import ctypes

    made = []

    def enter():
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{name}") as namespace:
            if libc.setns(namespace.fileno(), 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        made.append(make())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return made[0]


def receiver_socket():
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    made.bind(("10.77.2.1", 9))
    made.settimeout(2)
    return made


def sender_socket():
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.connect(("10.77.2.1", 9))
    return made


def experiment(aqm, seconds):
    """Runs weir over an overload; returns what arrived as (stamp, time), what status said, and the last status."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(f'[[ingress]]\ndevice = "fast0"\n[[port]]\ndevice = "nic0"\n[port.aqm]\nalgorithm = "{aqm}"\n')
        config.flush()
        daemon = subprocess.Popen([WEIR, "run", "-c", config.name], stdout=subprocess.PIPE, text=True)
        for line in daemon.stdout:
            print(f"  {line.rstrip()}")
            if line.startswith("running"):
                break
        arrived, seen, done = [], [], threading.Event()
        receiver, sender = in_namespace("rcv", receiver_socket), in_namespace("snd", sender_socket)

        def receive():
            while True:
                try:
                    stamp = struct.unpack_from("<Q", receiver.recv(2048))[0]
                except TimeoutError:
                    return
                arrived.append((stamp, time.monotonic_ns()))

        def send():
            padding = bytes(FRAME - 14 - 28 - 8)
            gap = FRAME * 8 * 10**9 * 10 // (RATE_BPS * 12)
            start = time.monotonic_ns()
            due = start
            while due < start + seconds * 10**9:
                due += gap
                while (wait := due - time.monotonic_ns()) > 0:
                    time.sleep(wait / 1e9)
                sender.send(struct.pack("<Q", time.monotonic_ns()) + padding)
            done.set()

        threads = [threading.Thread(target=receive), threading.Thread(target=send)]
        for thread in threads:
            thread.start()
        while not done.is_set():
            status = json.loads(run(f"{WEIR} status --json"))
            seen.append(status["ports"][0]["rings"][0])
            time.sleep(0.02)
        for thread in threads:
            thread.join()
        status = json.loads(run(f"{WEIR} status --json"))
        daemon.terminate()
        daemon.wait()
    return arrived, seen, status


def main():
    build()
    failures = []
    arrived, seen, status = experiment("none", 10)
    errors = []
    for ring in seen:
        observed, sojourn = ring["observed_ns"], ring["head_sojourn_ns"]
        # The frame that left the ring when the observer looked is the one that arrived next.
        after = [(at, at - stamp) for stamp, at in arrived if at >= observed]
        if sojourn == 0 or not after:
            continue
        errors.append(after[0][1] - sojourn)
    errors = sorted(abs(e) for e in errors)
    # The emulated cable takes frames in steps: the ring's oldest frame waits on for up to one after it was looked at.
    gaps = sorted(b[1] - a[1] for a, b in zip(arrived, arrived[1:]))
    step = gaps[len(gaps) * 99 // 100] if gaps else 0
    longest = max((at - stamp for stamp, at in arrived), default=0)
    if len(errors) < 15:
        failures.append(f"{len(errors)} comparisons of {len(seen)} looks and {len(arrived)} frames")
    else:
        middle, worst = errors[len(errors) // 2], errors[-1]
        print(f"sojourn against delay: {len(errors)} comparisons up to {longest / 1e6:.1f} ms, half within "
              f"{middle / 1e6:.2f} ms, all within {worst / 1e6:.2f} ms; the cable's steps are {step / 1e6:.1f} ms")
        if errors[len(errors) * 3 // 4] > TOLERANCE_NS + step:
            failures.append(f"three of four are not within {(TOLERANCE_NS + step) / 1e6:.1f} ms")
    held, _, codel = experiment("codel", 4)
    delays = sorted(at - stamp for stamp, at in held)
    p99 = delays[len(delays) * 99 // 100] if delays else 0
    print(f"CoDel: p99 {p99 / 1e6:.1f} ms of {len(delays)} frames")
    if not delays or p99 > 60_000_000:
        failures.append(f"CoDel's p99 is {p99 / 1e6:.1f} ms")
    for name, found in (("none", status), ("codel", codel)):
        port = found["ports"][0]
        print(f"{name}: drops {port['drops']}")
        if port["drops"].get("ring_drops") or port["unaccounted"]:
            failures.append(f"{name}: ring_drops {port['drops'].get('ring_drops')}, unaccounted {port['unaccounted']}")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    os.environ["PYTHONUNBUFFERED"] = "1"
    sys.exit(main())
