//! The committed eBPF objects, and how one copy is specialised and loaded.

use std::path::Path;

use aya::{
    Btf, Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapError},
    programs::{Program, SchedClassifier, Xdp, links::FdLink},
};
use weir_shared_maps::names;

use super::policy::PolicySizes;
use super::{Error, Result};

/// The XDP ingress program.
pub static INGRESS: Object =
    Object { name: "ingress", bytes: include_bytes_aligned!("objects/weir-ingress.bpf.o") };
/// The devmap program and the observers.
pub static EGRESS: Object =
    Object { name: "egress", bytes: include_bytes_aligned!("objects/weir-egress.bpf.o") };
/// The programs that decide nothing.
pub static BASELINE: Object =
    Object { name: "baseline", bytes: include_bytes_aligned!("objects/weir-baseline.bpf.o") };
/// The rival that the lab compares with.
pub static RIVAL: Object =
    Object { name: "rival", bytes: include_bytes_aligned!("objects/weir-rival.bpf.o") };

/// A program's name and the link that keeps it attached.
pub type NamedLink = (&'static str, FdLink);

/// Entries of the maps whose size depends on the devices and the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// TX rings of all ports, at least 1.
    pub rings: u32,
    /// Highest interface index of a port, plus 1.
    pub ifindexes: u32,
    /// What the policy needs.
    pub policy: PolicySizes,
}

impl Sizes {
    fn apply(self, loader: &mut EbpfLoader<'_>) {
        loader
            .map_max_entries(names::MAP_RINGS, self.rings)
            .map_max_entries(names::MAP_HISTORY, self.rings)
            .map_max_entries(names::MAP_ROUTES, self.ifindexes);
        self.policy.apply(loader);
    }
}

/// One eBPF object.
pub struct Object {
    /// For messages.
    pub name: &'static str,
    /// The ELF file.
    pub bytes: &'static [u8],
}

impl Object {
    /// Makes the maps and relocates the programs, with `globals` set; shared maps come from and go to `pins`.
    ///
    /// # Errors
    ///
    /// [`Error::Object`].
    pub fn open(&self, pins: Option<(&Path, Sizes)>, globals: &[(&'static str, u32)]) -> Result<Ebpf> {
        let mut loader = EbpfLoader::new();
        if let Some((directory, sizes)) = pins {
            for name in names::PINNED_MAPS {
                loader.map_pin_path(name, directory.join(name));
            }
            sizes.apply(&mut loader);
        }
        for (name, value) in globals {
            loader.override_global(name, value, true);
        }
        loader
            .load(self.bytes)
            .map_err(|source| Error::Object { object: self.name, source: Box::new(source) })
    }

    /// As [`Object::open`] with maps of this process alone.
    ///
    /// # Errors
    ///
    /// [`Error::Object`].
    pub fn open_sized(&self, sizes: Sizes) -> Result<Ebpf> {
        let mut loader = EbpfLoader::new();
        sizes.apply(&mut loader);
        loader
            .load(self.bytes)
            .map_err(|source| Error::Object { object: self.name, source: Box::new(source) })
    }

    /// The XDP program `name` of an opened object.
    ///
    /// # Errors
    ///
    /// [`Error::MissingPart`].
    pub fn xdp<'a>(&self, ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp> {
        self.program(ebpf, name)
    }

    /// The TC program `name`, alike.
    pub(super) fn classifier<'a>(
        &self,
        ebpf: &'a mut Ebpf,
        name: &'static str,
    ) -> Result<&'a mut SchedClassifier> {
        self.program(ebpf, name)
    }

    fn program<'a, P>(&self, ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P>
    where
        &'a mut P: TryFrom<&'a mut Program>,
    {
        let missing = || Error::MissingPart { object: self.name, part: name };
        ebpf.program_mut(name).ok_or_else(missing)?.try_into().map_err(|_| missing())
    }
}

/// Takes a typed map out of an object, which must keep it as long as programs are still to be loaded.
pub(super) fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(Error::MissingPart { object: "shared", part: name })?;
    T::try_from(map).map_err(Error::map(name))
}

/// Attaches the observers of an opened egress object; returns (name, link) of each.
///
/// The BTF tracepoint where the kernel has BTF, else the raw one. A kernel without one of the auxiliary tracepoints
/// loses that counter, which the second result says.
///
/// # Errors
///
/// [`Error::Program`] if the ring observer itself cannot run.
pub fn attach_observers(ebpf: &mut Ebpf) -> Result<(Vec<NamedLink>, Vec<String>)> {
    use aya::programs::{BtfTracePoint, RawTracePoint};
    let (mut links, mut notes) = (Vec::new(), Vec::new());
    let missing = |part| Error::MissingPart { object: EGRESS.name, part };
    let by_btf = Btf::from_sys_fs().ok().and_then(|btf| {
        let program: &mut BtfTracePoint = ebpf.program_mut(names::PROG_OBSERVER_BTF)?.try_into().ok()?;
        program.load("xdp_devmap_xmit", &btf).ok()?;
        let id = program.attach().ok()?;
        program.take_link(id).ok()
    });
    match by_btf {
        Some(link) => links.push((names::PROG_OBSERVER_BTF, link.into())),
        None => {
            let name = names::PROG_OBSERVER_RAW;
            links.push((name, raw(ebpf, name, "xdp_devmap_xmit").unwrap_or_else(|| Err(missing(name)))?));
            notes.push("the ring observer runs as a raw tracepoint: no BTF tracepoint here".to_owned());
        }
    }
    for (name, tracepoint, loss) in [
        (names::PROG_STACK_OBSERVER, "net_dev_xmit", "frames of the stack are not counted at the ports"),
        (names::PROG_REDIRECT_ERR, "xdp_redirect_err", "redirects refused by the kernel are not counted"),
    ] {
        match raw(ebpf, name, tracepoint) {
            Some(Ok(link)) => links.push((name, link)),
            Some(Err(error)) => notes.push(format!("{loss}: {error}")),
            None => return Err(missing(name)),
        }
    }
    return Ok((links, notes));

    fn raw(ebpf: &mut Ebpf, name: &'static str, tracepoint: &str) -> Option<Result<FdLink>> {
        let program: &mut RawTracePoint = ebpf.program_mut(name)?.try_into().ok()?;
        let attach = |program: &mut RawTracePoint| -> Result<_> {
            program.load().map_err(Error::program("load", name, None))?;
            let id = program.attach(tracepoint).map_err(Error::program("attach", name, None))?;
            Ok(program.take_link(id).map_err(Error::program("attach", name, None))?.into())
        };
        Some(attach(program))
    }
}
