//! What maps do not hold: names, drivers and why a port is in its mode.

use serde::{Deserialize, Serialize};

use super::netdev::Netdev;
use super::planned::Planned;
use crate::config::{Config, Ingress};

/// One instance's, a JSON file that [`super::pins`] places.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub instance: String,
    pub pid: u32,
    pub ingress: Vec<ManifestIngress>,
    pub ports: Vec<ManifestPort>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ManifestIngress {
    pub device: String,
    pub ifindex: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ManifestPort {
    pub device: String,
    pub ifindex: u32,
    pub driver: String,
    pub observed: bool,
    pub classes: Vec<String>,
    pub default_class: usize,
    /// Why the port is in its mode, where the file left that open.
    pub mode_reason: Option<String>,
}

impl Manifest {
    pub fn of(config: &Config, planned: &[Planned<'_>], ingress: &[(&Ingress, Netdev)]) -> Self {
        Self {
            instance: config.instance.to_string(),
            pid: std::process::id(),
            ingress: ingress
                .iter()
                .map(|(_, d)| ManifestIngress { device: d.name.clone(), ifindex: d.ifindex })
                .collect(),
            ports: planned
                .iter()
                .map(|p| ManifestPort {
                    device: p.device.name.clone(),
                    ifindex: p.facts.ifindex,
                    driver: p.device.driver.clone(),
                    observed: p.facts.ring_readable,
                    classes: p.port.classes.iter().map(|class| class.name.clone()).collect(),
                    default_class: p.port.default_class,
                    mode_reason: p.mode_reason(),
                })
                .collect(),
        }
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}
