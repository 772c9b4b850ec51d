//! Network namespaces with names, entered by `setns` on a thread.
//!
//! A namespace is made as iproute2 makes it, by a bind mount of the namespace's file under `/run/netns`, so that
//! `ip netns exec NAME` finds it. It is *entered* by `setns` and nothing else: `ip netns exec` also mounts a fresh
//! `/sys`, and the bpf filesystem is not visible in there.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::error::{Error, Result};

/// Where iproute2 keeps its named namespaces.
pub const NETNS_DIR: &str = "/run/netns";

/// The prefix of every namespace the lab makes; the process id follows it.
pub const PREFIX: &str = "weir-";

/// A named network namespace that goes away with this value.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: OwnedFd,
}

impl Netns {
    /// Makes the namespace `name`.
    ///
    /// # Errors
    /// [`Error::NotRoot`] without the privilege; [`Error::Os`] when the name is taken or the mount is refused.
    pub fn create(name: &str) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        prepare_directory()?;
        let path = path_of(name);
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::os(format!("create {}", path.display())))?;
        let file = match on_new_thread(&format!("netns-{name}"), || unshare_onto(&path)) {
            Ok(file) => file,
            Err(error) => {
                // The bind mount may or may not stand; both calls fail harmlessly where it does not.
                remove(name);
                return Err(error);
            }
        };
        Ok(Self { name: name.to_owned(), file })
    }

    /// The name under [`NETNS_DIR`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `f` on a thread of its own inside the namespace and waits for it.
    ///
    /// # Errors
    /// [`Error::Os`] when the namespace cannot be entered, or whatever `f` returns.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_new_thread(&self.name, || {
            self.enter()?;
            f()
        })
    }

    /// Moves the calling thread into the namespace, for good.
    ///
    /// # Errors
    /// [`Error::Os`] when the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        enter(self.file.as_fd(), &self.name)
    }

    /// The raw descriptor, for netlink's `IFLA_NET_NS_FD`.
    #[must_use]
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Moves the calling thread into the namespace that `name` names under [`NETNS_DIR`].
///
/// # Errors
/// [`Error::Os`] when there is no such namespace or the kernel refuses.
pub fn enter_named(name: &str) -> Result<()> {
    let path = path_of(name);
    let file = File::open(&path).map_err(Error::os(format!("open {}", path.display())))?;
    enter(file.as_fd(), name)
}

/// Removes the namespaces that an earlier run left behind: those named after a process that no longer exists.
/// Returns their names.
pub fn remove_leftovers() -> Vec<String> {
    let Ok(entries) = fs::read_dir(NETNS_DIR) else { return Vec::new() };
    let mut removed = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = owner_of(&name) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            remove(&name);
            removed.push(name);
        }
    }
    removed
}

/// Unmounts and unlinks the name; the namespace itself goes when nothing in it is open any more.
pub fn remove(name: &str) {
    let path = path_of(name);
    let _ = umount2(&path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(&path);
}

/// The process id in a namespace name the lab made (`weir-PID-N-HOST`).
#[must_use]
pub fn owner_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

fn enter(file: BorrowedFd<'_>, name: &str) -> Result<()> {
    setns(file, CloneFlags::CLONE_NEWNET).map_err(Error::errno(format!("enter the namespace {name}")))
}

/// Runs `f` on a thread of its own, so that the caller's namespace stays what it is.
fn on_new_thread<T: Send>(name: &str, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, f)
            .map_err(Error::os(format!("start the thread {name}")))?;
        handle.join().unwrap_or_else(|_| {
            Err(Error::Os {
                action: format!("finish the thread {name}"),
                source: io::Error::other("it panicked"),
            })
        })
    })
}

fn unshare_onto(path: &Path) -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(Error::errno("make a network namespace"))?;
    let own = Path::new("/proc/thread-self/ns/net");
    mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(Error::errno(format!("bind the namespace to {}", path.display())))?;
    File::open(path).map(OwnedFd::from).map_err(Error::os(format!("open {}", path.display())))
}

/// Makes [`NETNS_DIR`] a shared mount, as iproute2 does, so that names appear and vanish in every mount namespace.
fn prepare_directory() -> Result<()> {
    let dir = Path::new(NETNS_DIR);
    fs::create_dir_all(dir).map_err(Error::os(format!("create {NETNS_DIR}")))?;
    let share = || mount(None::<&str>, dir, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_ok() {
        return Ok(());
    }
    mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(Error::errno(format!("bind {NETNS_DIR} to itself")))?;
    share().map_err(Error::errno(format!("make {NETNS_DIR} a shared mount")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_name_tells_the_process_that_made_it() {
        assert_eq!(owner_of("weir-123-0-snd"), Some(123));
        assert_eq!(owner_of("weir-x-snd"), None);
        assert_eq!(owner_of("other-123-snd"), None);
    }
}
