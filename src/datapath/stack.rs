//! The TC egress programs of the ports: what the kernel's stack sends meets the decision there, before the device's qdisc.
//!
//! On kernel 6.6 and later they are TCX links, pinned like all others. Before, they are filters of the `clsact` qdisc, which
//! stay by themselves; an empty `clsact` is left in place, since removing it would take other people's filters with it.

use std::path::Path;

use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{NlOptions, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program},
    },
    util::KernelVersion,
};
use weir_shared_maps::{PortConfig, STACK_DECIDE, names};

use super::{
    Error, Result,
    netdev::Netdev,
    objects::{EGRESS, INGRESS, Sizes},
    pins::Pins,
};

/// How programs get onto a device's TC egress hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// As the kernel can: [`Hook::Tcx`] from 6.6 on, [`Hook::Clsact`] before.
    #[default]
    Best,
    /// Links of the multi-program hook (kernel 6.6).
    Tcx,
    /// Filters of the `clsact` qdisc (kernel 4.5).
    Clsact,
}

/// Priorities of the filters: the packet is described before it is decided on. Far behind those that people use.
const CLASSIFY_PRIORITY: u16 = 40_000;
const DECIDE_PRIORITY: u16 = 40_001;

/// Attaches the programs of one instance's ports.
pub(super) struct StackPrograms<'a> {
    shared: Option<(&'a Path, Sizes)>,
    constants: &'a [(&'static str, u32)],
    hook: Hook,
    /// The program that describes packets, one copy for all ports with classes.
    classify: Option<Ebpf>,
}

impl<'a> StackPrograms<'a> {
    /// Nothing is loaded yet. `constants` are those of ingress's part.
    pub fn new(shared: Option<(&'a Path, Sizes)>, constants: &'a [(&'static str, u32)], hook: Hook) -> Self {
        let hook = match (hook, KernelVersion::current()) {
            (Hook::Best, Ok(version)) if version < KernelVersion::new(6, 6, 0) => Hook::Clsact,
            (Hook::Best, Ok(_) | Err(_)) => Hook::Tcx,
            (chosen @ (Hook::Tcx | Hook::Clsact), _) => chosen,
        };
        Self { shared, constants, hook, classify: None }
    }

    /// Loads and attaches what the port needs: nothing, the deciding program, or the describing one before it. `globals` are
    /// those of the port's egress programs.
    pub fn attach(
        &mut self,
        device: &Netdev,
        config: &PortConfig,
        globals: &[(&'static str, u32)],
        pins: &Pins,
    ) -> Result<()> {
        if config.stack != STACK_DECIDE {
            return Ok(());
        }
        let place = Place { device, hook: self.hook, pins };
        if self.hook == Hook::Clsact {
            // Fails where there is one already; what else is wrong, the filters say.
            let _there = qdisc_add_clsact(&device.name);
        }
        if config.classes > 0 {
            let name = names::PROG_STACK_CLASSIFY;
            let ebpf = match &mut self.classify {
                Some(ebpf) => ebpf,
                None => {
                    let ebpf = self.classify.insert(INGRESS.open(self.shared, self.constants)?);
                    INGRESS.classifier(ebpf, name)?.load().map_err(Error::program("load", name, None))?;
                    ebpf
                }
            };
            place.put(INGRESS.classifier(ebpf, name)?, name, CLASSIFY_PRIORITY)?;
        }
        let name = if config.classes > 0 { names::PROG_STACK_POLICY } else { names::PROG_STACK };
        let mut ebpf = EGRESS.open(self.shared, globals)?;
        let program = EGRESS.classifier(&mut ebpf, name)?;
        program.load().map_err(Error::program("load", name, Some(&device.name)))?;
        place.put(program, name, DECIDE_PRIORITY)
    }
}

struct Place<'a> {
    device: &'a Netdev,
    hook: Hook,
    pins: &'a Pins,
}

impl Place<'_> {
    /// Attaches a loaded program, behind those that are there.
    fn put(&self, program: &mut SchedClassifier, name: &'static str, priority: u16) -> Result<()> {
        let device = &self.device.name;
        let failed = || Error::program("attach", name, Some(device));
        let options = match self.hook {
            Hook::Best | Hook::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
            Hook::Clsact => TcAttachOptions::Netlink(NlOptions { priority, ..NlOptions::default() }),
        };
        let id = program.attach_with_options(device, TcAttachType::Egress, options).map_err(failed())?;
        let link = program.take_link(id).map_err(failed())?;
        match self.hook {
            Hook::Best | Hook::Tcx => {
                let link: FdLink =
                    link.try_into().map_err(|_| Error::MissingPart { object: "TCX", part: name })?;
                self.pins.keep(link, &format!("{name}-{device}"))
            }
            Hook::Clsact => {
                // Dropped, it would detach: it stays until `detach_filters` finds it by its name.
                std::mem::forget(link);
                Ok(())
            }
        }
    }
}

/// Takes weir's filters off a device, in the calling thread's network namespace. One without any, or one that is gone, is no
/// failure.
pub(super) fn detach_filters(device: &str) {
    for name in [names::PROG_STACK_CLASSIFY, names::PROG_STACK_POLICY, names::PROG_STACK] {
        let _none = qdisc_detach_program(device, TcAttachType::Egress, name);
    }
}
