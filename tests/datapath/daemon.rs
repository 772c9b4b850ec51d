//! The daemon as people start and stop it: the real binary, its messages, its exit status, and what it leaves behind.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir::datapath::{Error, Reader, ethtool::Ethtool, netdev};
use weir::lab::{device, netlink};

use super::frame::{RECEIVER, udp};
use super::router::{LAN, Namespace, OTHER, Router, WAN, causes, namespace, privileged, wait_for};

/// A configuration file, readable by anybody, that goes away with the value.
fn file(text: &str) -> tempfile::NamedTempFile {
    use std::os::unix::fs::PermissionsExt as _;
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    file
}

fn weir(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env("NO_COLOR", "1").env_remove("WEIR_LOG");
    command
}

/// `weir run` on the router; killed when dropped, and what it leaves is taken away.
pub struct Daemon {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    said: String,
    _config: tempfile::NamedTempFile,
}

impl Daemon {
    /// Starts the daemon and waits until it says that it runs.
    fn start(router: &Router) -> Self {
        Self::start_in(router.namespace(), &router.config_text("", ""))
    }

    /// The same with a configuration of its own.
    pub fn start_in(namespace: &Namespace, text: &str) -> Self {
        let config = file(text);
        let path = config.path().to_str().unwrap();
        let mut child = namespace.run(|| {
            let run = weir(&["run", "-c", path]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
            Ok(run.unwrap())
        });
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut daemon = Self { child, output, said: String::new(), _config: config };
        // Ends with the daemon's output at the latest.
        while !daemon.said.contains("running;") {
            if daemon.output.read_line(&mut daemon.said).unwrap() == 0 {
                let mut errors = String::new();
                daemon.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
                panic!("the daemon did not start:\n{}{errors}", daemon.said);
            }
        }
        daemon
    }

    /// Sends a signal and waits for the end: exit status and what was said after the start, the log included.
    pub fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails where it has ended, which is what is wanted.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Takes away what a killed daemon left, also when a test fails.
struct Leftovers<'a>(&'a Router);

impl Drop for Leftovers<'_> {
    fn drop(&mut self) {
        // An instance that is started and stopped removes them.
        let _gone = self.0.try_start("", "").map(drop);
    }
}

fn pins(router: &Router) -> PathBuf {
    PathBuf::from("/sys/fs/bpf/weir").join(router.instance())
}

/// Nothing of the instance is attached, pinned, or remembered.
fn assert_nothing_left(router: &Router) {
    assert!(!pins(router).exists(), "{} is left", pins(router).display());
    let manifest = PathBuf::from("/run/weir").join(format!("{}.json", router.instance()));
    assert!(!manifest.exists(), "{} is left", manifest.display());
    let devices = router.run(netdev::all).unwrap();
    let programs: Vec<_> = devices.iter().filter(|d| d.xdp.is_some()).map(|d| &d.name).collect();
    assert!(programs.is_empty(), "XDP programs are left on {programs:?}");
    assert!(matches!(Reader::open(router.instance()), Err(Error::NoInstance { .. })));
}

/// Runs `weir run` with these configuration keys to its end, which must be a failure at run time.
fn refused(router: &Router, text: &str, prepare: impl FnOnce(&mut Command)) -> String {
    let config = file(text);
    let mut command = weir(&["run", "-c", config.path().to_str().unwrap()]);
    prepare(&mut command);
    let Output { status, stdout, stderr } = router.run(|| command.output().unwrap());
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{}{said}", String::from_utf8_lossy(&stdout));
    assert!(!said.contains("panicked"), "{said}");
    // Messages are wrapped for the terminal: a sentence is compared without its line breaks.
    said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[test]
fn without_privileges_the_daemon_names_what_it_needs() {
    let Some(_machine) = privileged("without_privileges_the_daemon") else { return };
    let router = Router::new();
    let said = refused(&router, &router.config_text("", ""), |command| {
        command.uid(65_534).gid(65_534);
    });
    assert_says(&said, &["CAP_NET_ADMIN", "CAP_BPF", "uid 65534", "run it as root"]);
    assert_nothing_left(&router);
}

/// The child gets a mount namespace in which nothing is mounted at the place of the BPF file system.
fn hide_bpffs() -> std::io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    while umount2("/sys/fs/bpf", MntFlags::MNT_DETACH).is_ok() {}
    Ok(())
}

#[test]
fn without_a_bpf_file_system_and_the_right_to_mount_one_the_daemon_says_how_to() {
    let Some(_machine) = privileged("without_a_bpf_file_system") else { return };
    let router = Router::new();
    let said = refused(&router, &router.config_text("", ""), |command| {
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe {
            command.pre_exec(|| {
                hide_bpffs()?;
                // Out of the bounding set: the program that is executed as root does not get it (capabilities(7)).
                const CAP_SYS_ADMIN: libc::c_ulong = 21;
                match libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
    });
    assert_says(&said, &["there is no BPF file system at /sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf"]);
    assert_nothing_left(&router);
}

#[test]
fn a_missing_bpf_file_system_is_mounted_and_said_so() {
    let Some(_machine) = privileged("a_missing_bpf_file_system") else { return };
    let router = Router::new();
    // The configuration ends the run right after the mount, before anything is attached.
    let text = router.config_text("", "").replace(WAN, "wan9");
    let config = file(&text);
    let path = config.path().to_str().unwrap().to_owned();
    let (mounted, said) = router.run(move || {
        hide_bpffs().unwrap();
        let output = weir(&["run", "-c", &path]).output().unwrap();
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
        (mounts.contains(" /sys/fs/bpf bpf "), String::from_utf8_lossy(&output.stderr).into_owned())
    });
    assert!(mounted, "{said}");
    assert_says(&said, &["wan9"]);
    assert_nothing_left(&router);
}

#[test]
fn a_device_that_does_not_exist_is_answered_with_those_that_do() {
    let Some(_machine) = privileged("a_device_that_does_not_exist") else { return };
    let router = Router::new();
    for missing in [LAN, WAN] {
        let text = router.config_text("", "").replace(missing, "eth9");
        let said = refused(&router, &text, |_| {});
        assert_says(&said, &["device eth9 does not exist", "the devices here:", OTHER]);
        assert_nothing_left(&router);
    }
}

#[test]
fn a_device_with_somebody_elses_xdp_program_is_left_alone() {
    let Some(_machine) = privileged("a_device_with_somebody_elses") else { return };
    let router = Router::new();
    let redirect = router.run(|| {
        let (lan, wan) = (device::index_of(LAN).unwrap(), device::index_of(WAN).unwrap());
        weir::datapath::baseline::Redirect::attach(lan, wan).unwrap()
    });
    let program = || router.run(|| netdev::by_name(LAN)).unwrap().xdp;
    let before = program();
    assert!(before.is_some());
    let said = refused(&router, &router.config_text("", ""), |_| {});
    let id = format!("id {}", before.unwrap());
    assert_says(&said, &["device lan0 already has an XDP program", &id, "weir replaces no program"]);
    assert_eq!(program(), before);
    drop(redirect);
    wait_for("the other program is gone", Duration::from_secs(2), || program().is_none());
    assert_nothing_left(&router);
}

#[test]
fn a_veth_port_whose_peer_is_elsewhere_and_does_not_poll_is_refused_with_a_hint() {
    let Some(_machine) = privileged("a_veth_port_whose_peer_is_elsewhere") else { return };
    let router = Router::new();
    let (_name, far) = namespace("rcv");
    router.run(|| {
        netlink::with_handle(async |handle| {
            netlink::add_veth(&handle, "veth0", "veth0", far.0.raw_fd()).await
        })
        .unwrap();
    });
    let text = router.config_text("", "").replace(WAN, "veth0");
    let said = refused(&router, &text, |_| {});
    assert_says(&said, &["device veth0 (driver veth) cannot be a redirect target", "ethtool -K PEER gro on"]);
    assert_nothing_left(&router);
}

#[test]
fn a_veth_peer_gets_gro_while_the_instance_runs_and_loses_it_wherever_the_instance_is_dropped() {
    let Some(_machine) = privileged("a_veth_peer_gets_gro") else { return };
    let router = Router::new();
    router.run(|| {
        netlink::with_handle(async |handle| {
            let pair = rtnetlink::LinkVeth::new("veth0", "veth1").build();
            handle.link().add(pair).execute().await.map_err(weir::lab::Error::netlink("make a pair"))?;
            let up = |name| rtnetlink::LinkUnspec::new_with_name(name).up().build();
            for name in ["veth0", "veth1"] {
                handle.link().set(up(name)).execute().await.map_err(weir::lab::Error::netlink("set up"))?;
            }
            Ok(())
        })
        .unwrap();
    });
    let gro = || router.run(|| Ethtool::open().unwrap().gro("veth1").unwrap());
    assert!(!gro());
    let text = router.config_text("", "").replace(WAN, "veth0");
    let config = weir::config::Config::from_toml_str("t.toml", &text).unwrap();
    let instance = router.run(|| {
        weir::datapath::Instance::start(&config, &weir::datapath::StartOptions::default())
            .unwrap_or_else(|e| panic!("{}", causes(&e)))
    });
    assert!(gro(), "{:?}", instance.actions());
    assert_says(&instance.actions().join("\n"), &["switched GRO on", "veth1"]);
    // On this thread, which is in another namespace.
    drop(instance);
    assert!(!gro());
    assert_nothing_left(&router);
}

#[test]
fn an_instance_that_runs_is_not_started_twice_and_another_name_is_another_instance() {
    let Some(_machine) = privileged("an_instance_that_runs") else { return };
    let (router, second) = (Router::new(), Router::new());
    let running = router.start("", "");
    let said = refused(&router, &router.config_text("", ""), |_| {});
    assert_says(&said, &["is already running", router.instance()]);
    // The same instance in this very process, too.
    assert!(matches!(router.try_start("", ""), Err(Error::InstanceBusy { .. })));
    let other = second.start("", "");
    for _ in 0..3 {
        router.inject(&udp(RECEIVER.0).build());
        second.inject(&udp(RECEIVER.1).build());
        second.inject(&udp(RECEIVER.1).build());
    }
    assert_eq!((router.drain().len(), second.drain().len()), (3, 6));
    assert_eq!((running.port("sent"), other.port("sent")), (3, 6));
    drop(other);
    assert_nothing_left(&second);
    router.inject(&udp(RECEIVER.0).build());
    assert_eq!((router.drain().len(), running.port("sent")), (1, 4));
    drop(running);
    assert_nothing_left(&router);
}

#[test]
fn a_start_right_after_a_stop_finds_its_devices_free() {
    let Some(_machine) = privileged("a_start_right_after_a_stop") else { return };
    let router = Router::new();
    for round in 0..5 {
        let running = router.try_start("", "").unwrap_or_else(|e| panic!("round {round}: {}", causes(&e)));
        assert!(running.actions().iter().all(|action| !action.contains("died")), "{:?}", running.actions());
        drop(running);
        assert_nothing_left(&router);
    }
}

#[test]
fn sigint_and_sigterm_detach_everything_and_the_status_is_json() {
    let Some(_machine) = privileged("sigint_and_sigterm_detach") else { return };
    let router = Router::new();
    for (signal, name) in [(Signal::SIGINT, "SIGINT"), (Signal::SIGTERM, "SIGTERM")] {
        let daemon = Daemon::start(&router);
        assert_says(&daemon.said, &[router.instance(), LAN, WAN]);
        for _ in 0..7 {
            router.inject(&udp(RECEIVER.0).build());
        }
        assert_eq!(router.drain().len(), 7);
        let output = weir(&["status", "--json", "--instance", router.instance()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status["instance"], router.instance());
        assert_eq!(status["ingress"][0]["counters"]["received"], 7);
        assert_eq!(status["ingress"][0]["counters"]["redirected"], 7);
        assert_eq!(status["ports"][0]["counters"]["sent"], 7);
        assert_eq!(status["ports"][0]["drops"]["ring_drops"], 0);
        assert_eq!(status["ports"][0]["rings"][0]["slots"], 1_000);
        let table = weir(&["status", "--instance", router.instance()]).output().unwrap();
        assert_says(&String::from_utf8_lossy(&table.stdout), &[router.instance(), LAN, WAN]);

        let (code, said) = daemon.stop(signal);
        assert_eq!(code, Some(0), "{said}");
        assert_says(&said, &[name, "detaching"]);
        assert_nothing_left(&router);
        let output = weir(&["status", "--instance", router.instance()]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_says(&String::from_utf8_lossy(&output.stderr), &[router.instance()]);
    }
}

#[test]
fn a_killed_daemon_leaves_forwarding_running_and_the_next_one_takes_over() {
    let Some(_machine) = privileged("a_killed_daemon_leaves") else { return };
    let router = Router::new();
    let _leftovers = Leftovers(&router);
    let daemon = Daemon::start(&router);
    router.inject(&udp(RECEIVER.0).build());
    let (code, _said) = daemon.stop(Signal::SIGKILL);
    assert_eq!(code, None);
    assert!(pins(&router).exists());

    for _ in 0..4 {
        router.inject(&udp(RECEIVER.0).build());
    }
    assert_eq!(router.drain().len(), 5);
    let snapshot = Reader::open(router.instance()).unwrap().snapshot().unwrap();
    assert_eq!((snapshot.ports[0].counters["sent"], snapshot.unaccounted()), (5, 0));

    // A configuration that cannot work takes nothing down.
    let broken = router.config_text("", "").replace(WAN, "wan9");
    refused(&router, &broken, |_| {});
    router.inject(&udp(RECEIVER.0).build());
    assert_eq!(router.drain().len(), 1);
    assert_eq!(Reader::open(router.instance()).unwrap().snapshot().unwrap().ports[0].counters["sent"], 6);

    let daemon = Daemon::start(&router);
    assert_says(&daemon.said, &["removed what a daemon that died had left attached"]);
    router.inject(&udp(RECEIVER.0).build());
    assert_eq!(router.drain().len(), 1);
    let snapshot = Reader::open(router.instance()).unwrap().snapshot().unwrap();
    assert_eq!(snapshot.ports[0].counters["sent"], 1);
    let (code, said) = daemon.stop(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    assert_nothing_left(&router);
}
