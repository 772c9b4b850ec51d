//! `weir`: the datapath of this project, with the experiment's `[weir]` settings on its port.

use std::collections::BTreeMap;

use weir_shared_maps::{CounterId as _, PortCounter};

use crate::config::InstanceName;
use crate::datapath::{Instance, Snapshot, StartOptions};
use crate::experiment::{Experiment, contender};
use crate::lab::error::{Error, Result};
use crate::lab::topology::{Host, Topology};

use super::{Attached, ClassCounters, Contender, Counters, Prepared};

/// The datapath of this project, under one of its names.
#[derive(Debug)]
pub(super) struct Weir(pub(super) &'static str);

impl Contender for Weir {
    fn name(&self) -> &'static str {
        self.0
    }

    fn prepare(&self, topology: &Topology, experiment: &Experiment) -> Result<Prepared> {
        let mut config = contender::weir_config(self.0, &experiment.weir, experiment.shaper_rate)
            .unwrap_or_else(|| experiment.weir.clone());
        // Pins are named after the instance: no other lab and no daemon of this machine has this one.
        config.instance = InstanceName::new(topology.host(Host::Router).name())
            .map_err(|error| Error::contender(self.0, &error))?;
        let instance = topology.host(Host::Router).run(|| {
            Instance::start(&config, &StartOptions::default())
                .map_err(|error| Error::contender(self.0, &error))
        })?;
        Ok(Prepared::Ready(Box::new(Running { name: self.0, instance })))
    }
}

struct Running {
    name: &'static str,
    instance: Instance,
}

impl Attached for Running {
    fn snapshot(&self, _topology: &Topology) -> Result<Counters> {
        let snapshot =
            self.instance.reader().snapshot().map_err(|error| Error::contender(self.name, &error))?;
        Ok(counters(&snapshot))
    }
}

/// What the lab wants to know of a snapshot.
fn counters(snapshot: &Snapshot) -> Counters {
    let mut drops: BTreeMap<String, u64> = BTreeMap::new();
    for port in &snapshot.ports {
        let of_the_stack = PortCounter::StackDrops.name();
        let stack = port.counters.get(of_the_stack).map(|n| (of_the_stack, *n));
        for (cause, n) in port.drops.iter().map(|(cause, n)| (*cause, *n)).chain(stack) {
            *drops.entry(cause.to_owned()).or_insert(0) += n;
        }
    }
    let of_ports = |counter: PortCounter| {
        snapshot.ports.iter().filter_map(|port| port.counters.get(counter.name())).sum::<u64>()
    };
    Counters {
        drops,
        marks: of_ports(PortCounter::Marked),
        ring_drops: Some(of_ports(PortCounter::RingDrops)),
        unaccounted: Some(snapshot.unaccounted()),
        diverted: Some(of_ports(PortCounter::Diverted)),
        classes: snapshot
            .ports
            .iter()
            .flat_map(|port| &port.classes)
            .map(|class| ClassCounters {
                class: class.name.clone(),
                counters: class.counters.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            })
            .collect(),
    }
}
