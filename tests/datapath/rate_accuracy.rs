//! How exactly a policed rate is kept: UDP above the rate for ten seconds, what leaves the ring counted in bytes as weir
//! counts them. `cargo xtask rates` runs this and writes its rows into docs/rate-accuracy.md.

use std::time::{Duration, Instant};

use super::frame::{RECEIVER, udp};
use super::load::{Drain, Load, run, run_on_two};
use super::policy_rates::adds_up;
use super::router::{Router, privileged};

const MBIT: u64 = 1_000_000;
/// At a fifth above the rate the bursts of the port and of a class, 20 frames together at 1 Mbit/s, are used up before.
const SETTLE: Duration = Duration::from_secs(3);
const WINDOW: Duration = Duration::from_secs(10);
/// Of the rate.
const BOUND: f64 = 0.005;

#[test]
#[ignore = "a minute; `cargo xtask rates` runs it"]
fn udp_above_1_mbit_gets_it_within_half_a_percent_over_ten_seconds() {
    every_port_on_one_and_two_processors(1, 500);
}

#[test]
#[ignore = "a minute; `cargo xtask rates` runs it"]
fn udp_above_10_mbit_gets_it_within_half_a_percent_over_ten_seconds() {
    every_port_on_one_and_two_processors(10, 500);
}

#[test]
#[ignore = "a minute; `cargo xtask rates` runs it"]
fn udp_above_100_mbit_gets_it_within_half_a_percent_over_ten_seconds() {
    every_port_on_one_and_two_processors(100, 1_514);
}

#[test]
#[ignore = "a minute; `cargo xtask rates` runs it"]
fn udp_above_1_gbit_gets_it_within_half_a_percent_over_ten_seconds() {
    every_port_on_one_and_two_processors(1_000, 1_514);
}

fn every_port_on_one_and_two_processors(mbit: u64, length: usize) {
    let Some(_machine) = privileged("udp_above_a_policed_rate") else { return };
    let mut beyond = Vec::new();
    for class in [false, true] {
        for cpus in [1, 2] {
            let measured = measure(mbit, length, class, cpus);
            let what = if class { "one class" } else { "no classes" };
            let Measured { offered, accepted } = measured;
            let off = accepted / (mbit * MBIT) as f64 - 1.0;
            println!(
                "| {mbit} Mbit/s | {what} | {cpus} | {:.1} | {:.3} | {:+.3} % |",
                offered / 1e6,
                accepted / 1e6,
                off * 100.0
            );
            if off.abs() > BOUND {
                beyond.push((what, cpus, offered, accepted));
            }
        }
    }
    assert!(beyond.is_empty(), "{mbit} Mbit/s, bits offered and accepted a second: {beyond:?}");
}

/// Bits per second.
struct Measured {
    offered: f64,
    accepted: f64,
}

fn measure(mbit: u64, length: usize, class: bool, cpus: u32) -> Measured {
    let router = Router::new();
    let class =
        if class { format!("[[port.class]]\nname = \"a\"\nrate = \"{mbit}mbit\"\n") } else { String::new() };
    let port = format!("mode = \"policer\"\nrate = \"{mbit}mbit\"\n{class}");
    let running = router.start_text(&router.config_text("", &port));
    let load = |bits| Load::new([udp(RECEIVER.0).ports(1_000, 5_000).payload(length - 42)], bits);
    let bits = mbit * MBIT * 6 / 5;
    let start = Instant::now();
    let rates = if cpus == 1 {
        run(&router, &running, &[load(bits)], Drain::Fast, SETTLE, WINDOW)
    } else {
        run_on_two(&router, &running, [&[load(bits / 2)], &[load(bits / 2)]], Drain::Fast, SETTLE, WINDOW)
    };
    let took = start.elapsed().as_secs_f64();
    adds_up(&running);
    let offered = running.port("seen") as f64 * length as f64 * 8.0 / took;
    Measured { offered, accepted: rates.total }
}
