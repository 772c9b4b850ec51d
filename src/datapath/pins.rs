//! The instance's directory in the BPF file system: maps that outlive the daemon, links that keep programs attached.
//!
//! `<bpffs>/weir/<instance>/v<ABI>/<map>`, `…/links/<program>-<device>` and `…/programs/<program>`. A lock file under /run says whether a
//! daemon owns it; what a dead one left is removed before a new one starts, so no map is ever reused unchecked.

use std::{
    ffi::CString,
    fs::{self, File, TryLockError},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

use aya::programs::links::FdLink;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use weir_shared_maps::ABI_VERSION;

use super::manifest::Manifest;
use super::{Error, Result};

const BPFFS: &str = "/sys/fs/bpf";
const RUN: &str = "/run/weir";

/// The lock file of an instance, removed when dropped.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it. A file that its last holder removed between our opening and our locking it
    /// is nobody's lock any more; the one that stands in its place is tried then.
    fn take(instance: &str) -> Result<Self> {
        let path = Path::new(RUN).join(format!("{instance}.lock"));
        loop {
            let file = File::create(&path).map_err(Error::os(format!("create {}", path.display())))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::InstanceBusy { instance: instance.to_owned(), lock: path });
                }
                Err(TryLockError::Error(source)) => {
                    return Err(Error::Os { action: format!("lock {}", path.display()), source });
                }
            }
            let locked = file.metadata().map_err(Error::os(format!("look at {}", path.display())))?;
            if fs::metadata(&path).is_ok_and(|there| there.ino() == locked.ino()) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the descriptor is closed: nobody else can hold this file now.
        let _gone = fs::remove_file(&self.path);
    }
}

/// The right to run an instance: its lock, and a BPF file system to pin in. What a dead daemon left stays as it is.
#[derive(Debug)]
pub struct Claim {
    instance: String,
    lock: Lock,
}

/// An instance's directory, locked by this process, removed when dropped.
#[derive(Debug)]
pub struct Pins {
    instance: String,
    root: PathBuf,
    manifest: PathBuf,
    keep: bool,
    _lock: Lock,
}

/// Directory of an instance's maps.
pub fn directory(instance: &str) -> PathBuf {
    Path::new(BPFFS).join("weir").join(instance).join(format!("v{ABI_VERSION}"))
}

/// Directory of an instance's programs that are read from: the observers.
pub fn programs(instance: &str) -> PathBuf {
    directory(instance).join("programs")
}

/// The manifest: device names and drivers, which maps do not hold.
pub fn manifest(instance: &str) -> PathBuf {
    Path::new(RUN).join(format!("{instance}.json"))
}

/// The roster: names of plans and subscribers.
pub fn roster(instance: &str) -> PathBuf {
    Path::new(RUN).join(format!("{instance}.roster.json"))
}

/// Keeps reloads of an instance from running into each other, until dropped.
#[derive(Debug)]
pub struct ReloadLock {
    _lock: Lock,
}

impl ReloadLock {
    /// Takes the lock.
    ///
    /// # Errors
    ///
    /// [`Error::InstanceBusy`] while another reload runs, [`Error::Os`].
    pub fn take(instance: &str) -> Result<Self> {
        Ok(Self { _lock: Lock::take(&format!("{instance}.reload"))? })
    }
}

impl Claim {
    /// Takes the lock, and mounts the file system where there is none. Says what it did.
    ///
    /// # Errors
    ///
    /// [`Error::NoBpffs`], [`Error::InstanceBusy`], [`Error::Os`].
    pub fn take(instance: &str, actions: &mut Vec<String>) -> Result<Self> {
        fs::create_dir_all(RUN).map_err(Error::os(format!("create {RUN}")))?;
        let lock = Lock::take(instance)?;
        mount_bpffs(actions)?;
        Ok(Self { instance: instance.to_owned(), lock })
    }
}

impl Pins {
    /// Removes what a dead daemon left attached, and makes the directory. Says what it did.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn create(claim: Claim, actions: &mut Vec<String>) -> Result<Self> {
        let Claim { instance, lock } = claim;
        let pins = Self {
            root: Path::new(BPFFS).join("weir").join(&instance),
            manifest: manifest(&instance),
            keep: false,
            _lock: lock,
            instance,
        };
        if pins.root.exists() {
            pins.remove_filters();
            pins.remove();
            actions.push(format!(
                "instance {}: removed what a daemon that died had left attached ({})",
                pins.instance,
                pins.root.display()
            ));
        }
        let links = pins.links();
        fs::create_dir_all(&links).map_err(Error::os(format!("create {}", links.display())))?;
        Ok(pins)
    }

    /// Where the maps are.
    pub fn maps(&self) -> PathBuf {
        directory(&self.instance)
    }

    fn links(&self) -> PathBuf {
        self.maps().join("links")
    }

    /// Makes a place in which a program can be found again, and gives it.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let directory = programs(&self.instance);
        fs::create_dir_all(&directory).map_err(Error::os(format!("create {}", directory.display())))?;
        Ok(directory.join(name))
    }

    /// Pins a link: what it attaches stays attached until the pin is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`].
    pub fn keep(&self, link: FdLink, name: &str) -> Result<()> {
        // The BPF file system takes no dots in names; devices may have them.
        let path = self.links().join(name.replace('.', "_"));
        link.pin(&path).map(drop).map_err(|source| Error::Pin { path, source: Box::new(source) })
    }

    /// Writes the manifest.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn describe(&self, text: &str) -> Result<()> {
        fs::write(&self.manifest, text).map_err(Error::os(format!("write {}", self.manifest.display())))
    }

    /// Where the roster is.
    pub fn roster(&self) -> PathBuf {
        roster(&self.instance)
    }

    /// Leaves everything in place when this is dropped.
    pub fn keep_all(&mut self) {
        self.keep = true;
    }

    /// Detaches the links whose name begins with `prefix`.
    pub fn detach(&self, prefix: &str) {
        for entry in fs::read_dir(self.links()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                // A device that went away has detached the program already.
                let _gone = detach_now(&entry.path());
                let _gone = fs::remove_file(entry.path());
            }
        }
    }

    /// Takes TC filters off the ports of the manifest: unlike links they are not among the pins.
    fn remove_filters(&self) {
        let manifest = fs::read_to_string(&self.manifest).ok();
        let manifest: Option<Manifest> = manifest.and_then(|text| serde_json::from_str(&text).ok());
        for port in manifest.into_iter().flat_map(|manifest| manifest.ports) {
            super::stack::detach_filters(&port.device);
        }
    }

    /// Detaches in order (ingress before what it feeds) and removes everything.
    fn remove(&self) {
        self.detach(weir_shared_maps::names::PROG_INGRESS);
        self.detach(weir_shared_maps::names::PROG_BASE_PASS);
        self.detach(weir_shared_maps::names::PROG_STACK);
        let _gone = fs::remove_dir_all(&self.root);
        let _gone = fs::remove_file(&self.manifest);
        let _gone = fs::remove_file(roster(&self.instance));
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if !self.keep {
            self.remove();
        }
    }
}

/// Detaches the pinned link from its device before this returns (`BPF_LINK_DETACH`, 5.9). Removing the pin alone leaves
/// that to a work queue (`bpf_link_put`, `kernel/bpf/syscall.c` at v6.18), and who starts again at once would find the
/// device taken.
fn detach_now(pin: &Path) -> io::Result<()> {
    const BPF_LINK_DETACH: libc::c_int = 34;
    let link = object(pin)?;
    // The part of `union bpf_attr` for `BPF_LINK_DETACH` is one descriptor.
    let attr = link.as_raw_fd();
    // SAFETY: the kernel reads `attr`, which outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, &raw const attr, size_of::<RawFd>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens what is pinned at a path, whatever it is (`BPF_OBJ_GET`, 4.4).
pub(super) fn object(pin: &Path) -> io::Result<OwnedFd> {
    const BPF_OBJ_GET: libc::c_int = 7;
    /// The part of `union bpf_attr` for `BPF_OBJ_GET`.
    #[repr(C)]
    struct Get {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = Get { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the kernel reads `get` and the string it points to; both outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw const get, size_of::<Get>()) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call above made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn mount_bpffs(actions: &mut Vec<String>) -> Result<()> {
    let no = |source| Error::NoBpffs { path: BPFFS.to_owned(), source };
    let mounted = statfs(BPFFS).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    if mounted {
        return Ok(());
    }
    fs::create_dir_all(BPFFS).map_err(no)?;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)
        .map_err(|e| no(io::Error::from(e)))?;
    actions.push(format!("mounted the BPF file system at {BPFFS}"));
    Ok(())
}
