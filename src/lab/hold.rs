//! `weir lab up`, `exec` and `down`: a topology that stays, for other tools.
//!
//! The slow link is a process, so `up` starts one that holds the topology and goes to the background; what it holds
//! is written under `/run/weir-lab`. `down` ends that process, and no other: the state names the process by its id
//! and by the time it was started.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::contender::{self, Prepared};
use super::error::{Error, Result, with_causes};
use super::netns;
use super::run::{link_of, topology_of};
use super::stop::Stop;
use super::topology::{Host, Topology};
use crate::experiment::Experiment;

const STATE_DIR: &str = "/run/weir-lab";

/// A topology that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLab {
    /// The process that holds it.
    pub pid: u32,
    /// When that process was started, in the kernel's ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
    /// The experiment's name.
    pub experiment: String,
    /// Who forwards.
    pub contender: String,
    /// The hosts.
    pub hosts: Vec<HeldHost>,
}

/// One host of a topology that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldHost {
    /// Which.
    pub host: Host,
    /// The name of its namespace, for `ip netns exec`.
    pub namespace: String,
    /// Its devices and addresses.
    pub addresses: Vec<String>,
}

/// What the holding process says when it is ready, or that it is not.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Ready(HeldLab),
    Failed(String),
}

/// Brings up the topology of the experiment file with `contender` forwarding, held by a process in the background:
/// this program, started again as `weir lab hold`.
///
/// # Errors
/// [`Error::AlreadyUp`], or [`Error::Hold`] with what the holding process said.
pub fn bring_up(file: &Path, contender: &str) -> Result<HeldLab> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    if let Ok(held) = read_state()
        && is_running(&held)
    {
        return Err(Error::AlreadyUp { pid: held.pid });
    }
    contender::by_name(contender)?;
    fs::create_dir_all(STATE_DIR).map_err(Error::os(format!("create {STATE_DIR}")))?;
    let log_path = Path::new(STATE_DIR).join("hold.log");
    let log = fs::File::create(&log_path).map_err(Error::os(format!("create {}", log_path.display())))?;
    let program = std::env::current_exe().map_err(Error::os("find this program"))?;
    let mut child = Command::new(program)
        .args(["lab", "hold", "--contender", contender])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(Error::os("start the holding process"))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(Error::os("listen to the holding process"))?;
    }
    let reason = match serde_json::from_str(&line) {
        Ok(Word::Ready(held)) => return Ok(held),
        Ok(Word::Failed(reason)) => reason,
        Err(_) => format!("it ended without a word; see {}", log_path.display()),
    };
    // It has said that it is ending, or has ended; waiting takes its exit status off the kernel's hands.
    let _ = child.wait();
    Err(Error::Hold { reason })
}

/// Holds a topology until a signal comes: what `weir lab up` starts in the background.
///
/// # Errors
/// What kept it from being built; the same is said on standard output, where `bring_up` listens.
pub fn hold(experiment: &Experiment, contender: &str) -> Result<()> {
    // Its own session: the terminal of `weir lab up` may go away.
    let _ = nix::unistd::setsid();
    let stop = Stop::on_signals()?;
    let result = hold_until(experiment, contender, &stop);
    if let Err(error) = &result {
        say(&Word::Failed(with_causes(error)));
    }
    result
}

fn hold_until(experiment: &Experiment, name: &str, stop: &Stop) -> Result<()> {
    experiment.check_for_lab().map_err(Error::Experiment)?;
    netns::remove_leftovers();
    let topology = topology_of(experiment)?;
    let _link = link_of(experiment, &topology)?;
    let _attached = match contender::by_name(name)?.prepare(&topology, experiment)? {
        Prepared::Ready(attached) => attached,
        Prepared::Skip(reason) => return Err(Error::Contender { name: name.to_owned(), reason }),
    };
    let held = HeldLab {
        pid: std::process::id(),
        started: started_at(std::process::id()).unwrap_or(0),
        experiment: experiment.name.clone(),
        contender: name.to_owned(),
        hosts: Host::ALL.into_iter().map(|host| held_host(&topology, host)).collect(),
    };
    let _state = StateFile::write(&held)?;
    say(&Word::Ready(held));
    stop.wait();
    Ok(())
}

fn held_host(topology: &Topology, host: Host) -> HeldHost {
    HeldHost { host, namespace: topology.host(host).name().to_owned(), addresses: topology.addresses(host) }
}

/// One line on standard output; nobody may be listening any more, which is fine.
fn say(word: &Word) {
    if let Ok(text) = serde_json::to_string(word) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{text}");
        let _ = stdout.flush();
    }
}

/// Runs `command` on `host` of the topology that is up, with this process's standard streams, and returns its status.
///
/// # Errors
/// [`Error::NotUp`] without a topology, or [`Error::Os`] when the command cannot be started.
pub fn exec(host: Host, command: &[String]) -> Result<ExitStatus> {
    let held = running()?;
    let namespace = held.hosts.iter().find(|h| h.host == host).map(|h| h.namespace.clone());
    let namespace = namespace.ok_or_else(|| not_up("the state file does not know this host"))?;
    let (program, arguments) = command.split_first().ok_or_else(|| Error::Os {
        action: "run a command".to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "there is none"),
    })?;
    // A child starts in the namespace of the thread that starts it.
    let status = thread::scope(|scope| {
        let child = scope.spawn(|| {
            netns::enter_named(&namespace)?;
            let status = Command::new(program).args(arguments).status();
            status.map_err(Error::os(format!("run {program}")))
        });
        child.join().unwrap_or_else(|_| Err(not_up("the thread that entered the host panicked")))
    })?;
    Ok(status)
}

/// Ends the process that holds the topology and removes what is left. Returns what was up.
///
/// # Errors
/// [`Error::NotUp`] without a topology; [`Error::Os`] when the process does not end within ten seconds.
pub fn take_down() -> Result<HeldLab> {
    let held = read_state()?;
    if is_running(&held) {
        let pid = i32::try_from(held.pid).map_err(|_| not_up("the state file holds no process id"))?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(Error::errno(format!("stop process {pid}")))?;
        let mut patience = 1_000;
        while is_running(&held) {
            patience -= 1;
            if patience == 0 {
                return Err(Error::Os {
                    action: format!("stop process {pid}"),
                    source: std::io::Error::new(std::io::ErrorKind::TimedOut, "it runs on after 10 s"),
                });
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    for host in &held.hosts {
        // Only names that the lab makes: the state file is a file, and names become paths.
        if netns::owner_of(&host.namespace) == Some(held.pid) && !host.namespace.contains('/') {
            netns::remove(&host.namespace);
        }
    }
    let _ = fs::remove_file(state_path());
    Ok(held)
}

/// The topology that is up.
fn running() -> Result<HeldLab> {
    let held = read_state()?;
    if is_running(&held) { Ok(held) } else { Err(not_up("the process that held it is gone")) }
}

fn state_path() -> PathBuf {
    Path::new(STATE_DIR).join("state.json")
}

fn not_up(reason: &str) -> Error {
    Error::NotUp { path: state_path(), reason: reason.to_owned() }
}

fn read_state() -> Result<HeldLab> {
    let text = fs::read_to_string(state_path()).map_err(|e| not_up(&e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| not_up(&e.to_string()))
}

/// Whether the very process that `held` names is there and not yet a zombie.
fn is_running(held: &HeldLab) -> bool {
    started_at(held.pid) == Some(held.started)
}

/// When a live process was started; `None` when there is none or it has ended.
fn started_at(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; fields are counted after it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The state file, there as long as this value is.
struct StateFile;

impl StateFile {
    fn write(held: &HeldLab) -> Result<Self> {
        let path = state_path();
        fs::create_dir_all(STATE_DIR).map_err(Error::os(format!("create {STATE_DIR}")))?;
        let text = serde_json::to_string_pretty(held).map_err(|e| not_up(&e.to_string()))?;
        // Renamed into place: a reader sees the whole state or none.
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, text).map_err(Error::os(format!("write {}", temporary.display())))?;
        fs::rename(&temporary, &path).map_err(Error::os(format!("write {}", path.display())))?;
        Ok(Self)
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(state_path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_id_and_the_time_it_started() {
        let own = std::process::id();
        let started = started_at(own).unwrap();
        let held = |started| HeldLab {
            pid: own,
            started,
            experiment: String::new(),
            contender: String::new(),
            hosts: Vec::new(),
        };
        assert!(is_running(&held(started)));
        assert!(!is_running(&held(started + 1)), "another process under the same id");
    }
}
