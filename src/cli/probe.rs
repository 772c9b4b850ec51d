//! `weir probe`: what each device can do, before a configuration names it.

use std::io::Write;

use super::{Error, table::table};
use crate::datapath::probe::{Probe, probe};

/// Shows the devices, as a table or as JSON.
pub(super) fn run(devices: &[String], json: bool, out: &mut impl Write) -> Result<(), Error> {
    let probes = probe(devices)?;
    if json {
        serde_json::to_writer_pretty(&mut *out, &probes).map_err(std::io::Error::from)?;
        writeln!(out)?;
        return Ok(());
    }
    let heads = [
        "device",
        "driver",
        "native XDP",
        "redirect target now",
        "mode auto",
        "XDP program",
        "TX queues",
        "TX ring",
    ];
    write!(out, "{}", table(&heads, probes.iter().map(|probe| row(probe).to_vec())))?;
    Ok(())
}

fn row(probe: &Probe) -> [String; 8] {
    [
        probe.device.clone(),
        probe.driver.clone(),
        known(probe.native_xdp).to_owned(),
        known(probe.redirect_target).to_owned(),
        probe.tc_because.as_ref().map_or_else(|| "policer".to_owned(), |why| format!("tc: {why}")),
        probe.program.map_or_else(|| "-".to_owned(), |id| format!("id {id}")),
        probe.tx_queues.map_or_else(|| "?".to_owned(), |n| n.to_string()),
        match &probe.ring {
            Ok(()) => "readable".to_owned(),
            Err(why) => format!("needs `rate`: {why}"),
        },
    ]
}

/// Kernels before 6.3 do not say.
fn known(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_recipe_says_what_it_needs_and_why() {
        let probe = Probe {
            device: "wan0".to_owned(),
            driver: "ixgbe".to_owned(),
            native_xdp: Some(true),
            redirect_target: Some(false),
            tc_because: Some("driver ixgbe has no native XDP".to_owned()),
            program: None,
            tx_queues: None,
            ring: Err("no recipe is known for driver ixgbe".to_owned()),
        };
        let [device, _, native, target, auto, program, queues, ring] = row(&probe);
        assert_eq!([device, native, target, program, queues].join(" "), "wan0 yes no - ?");
        assert!(auto.starts_with("tc: driver ixgbe"), "{auto}");
        assert!(ring.contains("rate") && ring.contains("ixgbe"));
    }
}
