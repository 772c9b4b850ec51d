//! Many entries of a map in one system call (`BPF_MAP_UPDATE_BATCH`, kernel 5.6), which aya does not have.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use aya::maps::{MapData, MapFd, MapInfo};
use zerocopy::{Immutable, IntoBytes};

use super::{Error, Result};

const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;

/// A pinned map whose entries are written in bulk.
pub(super) struct BatchMap {
    data: MapData,
    name: &'static str,
    entries: u32,
}

/// The part of `union bpf_attr` for batches (`include/uapi/linux/bpf.h` at v6.18).
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

impl BatchMap {
    /// Opens a pinned map with keys `K` and values `V`.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`], [`Error::Abi`].
    pub fn open<K, V>(directory: &Path, name: &'static str) -> Result<Self> {
        let path = directory.join(name);
        let pin = |source: aya::maps::MapError| Error::Pin { path: path.clone(), source: Box::new(source) };
        let info = MapInfo::from_pin(&path).map_err(pin)?;
        let (sizes, expected) =
            ((info.key_size() as usize, info.value_size() as usize), (size_of::<K>(), size_of::<V>()));
        if sizes != expected {
            let text = |(key, value)| format!("keys of {key} and values of {value} bytes");
            return Err(Error::Abi { path, found: text(sizes), expected: text(expected) });
        }
        Ok(Self { data: MapData::from_pin(&path).map_err(pin)?, name, entries: info.max_entries() })
    }

    /// Its descriptor.
    pub fn fd(&self) -> &MapFd {
        self.data.fd()
    }

    /// Most entries.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Writes entries, new or not.
    ///
    /// # Errors
    ///
    /// [`Error::Entries`], which says how many were written before.
    pub fn update<K, V>(&self, entries: &[(K, V)]) -> Result<()>
    where
        K: IntoBytes + Immutable + Copy,
        V: IntoBytes + Immutable + Copy,
    {
        let keys: Vec<K> = entries.iter().map(|(key, _)| *key).collect();
        let values: Vec<V> = entries.iter().map(|(_, value)| *value).collect();
        let written = self.call(
            BPF_MAP_UPDATE_BATCH,
            keys.as_slice().as_bytes(),
            Some(values.as_slice().as_bytes()),
            keys.len(),
        );
        written.map(drop).map_err(|(done, source)| self.failed("write", keys.len(), done, source))
    }

    /// Writes the entries of an array from 0 on.
    ///
    /// # Errors
    ///
    /// As [`BatchMap::update`].
    pub fn fill<V: IntoBytes + Immutable + Copy>(&self, values: &[V]) -> Result<()> {
        let entries: Vec<(u32, V)> = (0..).zip(values.iter().copied()).collect();
        self.update(&entries)
    }

    fn failed(&self, action: &'static str, of: usize, done: usize, source: io::Error) -> Error {
        Error::Entries { action, of, done, map: self.name, source }
    }

    /// One batch; a failure comes with the number of entries done before it.
    fn call(
        &self,
        command: libc::c_int,
        keys: &[u8],
        values: Option<&[u8]>,
        count: usize,
    ) -> Result<(), (usize, io::Error)> {
        let Ok(count) = u32::try_from(count) else { return Err((0, io::ErrorKind::InvalidInput.into())) };
        if count == 0 {
            return Ok(());
        }
        let mut batch = Batch {
            keys: keys.as_ptr() as u64,
            values: values.map_or(0, |values| values.as_ptr() as u64),
            count,
            map_fd: self.data.fd().as_fd().as_raw_fd().cast_unsigned(),
            ..Batch::default()
        };
        // SAFETY: the kernel reads `count` keys and values of the sizes that `open` compared with the map's, from slices
        // that outlive the call, and writes `count` of the attribute alone.
        let rc = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut batch, size_of::<Batch>()) };
        if rc < 0 { Err((batch.count as usize, io::Error::last_os_error())) } else { Ok(()) }
    }
}
