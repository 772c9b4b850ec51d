//! The rival of weir's fairness between flows: core-stateless fair queueing's dropping, as the devmap program of a plain
//! redirect. No configuration runs it; the lab and the benchmarks do (docs/fairness-comparison.md).

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
    programs::ProgramFd,
};
use weir_aqm::Pace;
use weir_shared_maps::{ClassCounter, ClassCounters, CounterId as _, names};

use super::{
    Error, Result,
    baseline::Redirect,
    objects::{RIVAL, take},
};

/// What it counts.
const COUNTED: [ClassCounter; 7] = [
    ClassCounter::Seen,
    ClassCounter::Accepted,
    ClassCounter::AcceptedBytes,
    ClassCounter::Marked,
    ClassCounter::DropAqm,
    ClassCounter::DropFairness,
    ClassCounter::DropBusy,
];

/// The loaded program: what a device map's entry names, and what it counts.
pub struct Program {
    fd: ProgramFd,
    counters: PerCpuArray<MapData, ClassCounters>,
    _ebpf: Ebpf,
}

impl Program {
    /// Loads it for a drain of this pace.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn load(pace: Pace) -> Result<Self> {
        let mut ebpf = RIVAL.open(
            None,
            &[
                (names::GLOBAL_RIVAL_PACE_MULT, pace.mult()),
                (names::GLOBAL_RIVAL_PACE_SHIFT, pace.shift()),
                // Keyed anew by the operating system's random numbers, as an instance's.
                (names::GLOBAL_HASH_SEED, RandomState::new().hash_one(()) as u32),
            ],
        )?;
        let name = names::PROG_RIVAL;
        let program = RIVAL.xdp(&mut ebpf, name)?;
        program.load().map_err(Error::program("load", name, None))?;
        let fd = program.fd().map_err(Error::program("load", name, None))?;
        let fd = fd.try_clone().map_err(Error::os("duplicate a program's descriptor"))?;
        let counters = take(&mut ebpf, names::MAP_RIVAL_COUNTERS)?;
        Ok(Self { fd, counters, _ebpf: ebpf })
    }

    /// For a device map.
    #[must_use]
    pub const fn fd(&self) -> &ProgramFd {
        &self.fd
    }

    /// What it has counted, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>> {
        let of_cpus = self.counters.get(&0, 0).map_err(Error::map(names::MAP_RIVAL_COUNTERS))?;
        let sum =
            |counter: ClassCounter| of_cpus.iter().filter_map(|cpu| cpu.slots.get(counter.slot())).sum();
        Ok(COUNTED.into_iter().map(|counter| (counter.name(), sum(counter))).collect())
    }
}

/// The program behind a plain redirect; detached when dropped.
pub struct Csfq {
    _redirect: Redirect,
    program: Program,
}

impl Csfq {
    /// Forwards from one device to another at no more than this pace, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing stays attached.
    pub fn attach(ingress_ifindex: u32, port_ifindex: u32, pace: Pace) -> Result<Self> {
        let program = Program::load(pace)?;
        let redirect = Redirect::attach_through(ingress_ifindex, port_ifindex, Some(program.fd()))?;
        Ok(Self { _redirect: redirect, program })
    }

    /// The program.
    #[must_use]
    pub const fn program(&self) -> &Program {
        &self.program
    }
}
