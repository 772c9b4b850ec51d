//! `weir check`: a configuration is read, checked and said back.

use std::io::Write;
use std::path::Path;

use super::Error;
use crate::config::units::{show_rate, show_size, show_time};
use crate::config::{Algorithm, Aqm, Config, Ingress, Mode, Port, Sojourn, Stack};
use crate::datapath::probe::mode_of;
use weir_aqm::overhead::Framing;

/// Checks `path` and writes what it means.
pub(super) fn run(path: &Path, out: &mut impl Write) -> Result<(), Error> {
    let config = Config::load(path)?;
    writeln!(out, "{}: valid", path.display())?;
    writeln!(out, "instance {}", config.instance)?;
    if let Some(metrics) = &config.metrics {
        writeln!(out, "metrics on http://{}/metrics", metrics.listen)?;
    }
    for ingress in &config.ingress {
        writeln!(out, "{}", ingress_line(ingress))?;
    }
    for port in &config.ports {
        writeln!(out, "{}", port_line(port))?;
        if port.mode == Mode::Auto {
            writeln!(out, "  {}", auto_line(port.device.as_str()))?;
        }
        for line in super::policy::class_lines(port) {
            writeln!(out, "  {line}")?;
        }
    }
    for line in super::policy::lines(&config) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn ingress_line(ingress: &Ingress) -> String {
    let vlans: Vec<String> = ingress.vlans.iter().map(|vlan| vlan.get().to_string()).collect();
    match vlans.as_slice() {
        [] => format!("ingress {}", ingress.device),
        vlans => format!("ingress {}, VLANs {}", ingress.device, vlans.join(" ")),
    }
}

fn port_line(port: &Port) -> String {
    let mut parts = vec![format!("port {}: {}", port.device, port.mode.name())];
    parts.extend(port.rate.map(|rate| format!("rate {}", show_rate(rate))));
    if port.overhead != 0 || port.mpu != 0 || port.framing != Framing::None {
        let framing = match port.framing {
            Framing::None => "",
            Framing::Atm => " in ATM cells",
            Framing::Ptm => " in PTM blocks",
        };
        parts.push(format!("overhead {} mpu {}{framing}", port.overhead, port.mpu));
    }
    parts.extend(port.burst.map(|burst| format!("burst {}", show_size(burst))));
    parts.extend(port.reserve.map(|reserve| format!("reserve {reserve} slots")));
    parts.push(aqm(&port.aqm, port.mode));
    parts.extend(port.subscribers.map(|side| format!("subscribers by {}", side.name())));
    if port.stack != Stack::Decide {
        parts.push(format!("stack {}", port.stack.name()));
    }
    if port.classes.is_empty() {
        parts.push(port.back_off.words());
    }
    parts.extend(port.divert_rate.map(|rate| format!("divert_rate {}", show_rate(rate))));
    parts.join(", ")
}

/// What `mode = "auto"` would choose here and now.
fn auto_line(device: &str) -> String {
    match mode_of(device) {
        Ok(None) => "here: policer, the device is or can be made a redirect target".to_owned(),
        Ok(Some(why)) => format!("here: tc, {why}"),
        Err(error) => format!("here: not known, {error}"),
    }
}

/// An AQM in words, on a port of this mode.
pub(super) fn aqm(aqm: &Aqm, mode: Mode) -> String {
    let algorithm = aqm.algorithm_in(mode);
    if algorithm == Algorithm::None {
        return "no AQM".to_owned();
    }
    let mut words = vec![algorithm.name().to_owned()];
    let own: &[_] = match algorithm {
        Algorithm::Pie => &[("t_update", aqm.t_update), ("max_burst", aqm.max_burst)],
        Algorithm::Codel | Algorithm::Pi2 | Algorithm::L4s | Algorithm::None => &[("interval", aqm.interval)],
    };
    for (name, time) in [&[("target", aqm.target)], own, &[("limit", aqm.limit)]].concat() {
        words.push(format!("{name} {}", time.map_or_else(|| "default".to_owned(), show_time)));
    }
    words.push(
        match aqm.sojourn {
            Sojourn::Predicted => "predicted sojourn",
            Sojourn::Head => "head sojourn",
        }
        .to_owned(),
    );
    words.push(if aqm.ecn { "ECN" } else { "no ECN" }.to_owned());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_file_is_said_back_in_full() {
        let text = "[[ingress]]\ndevice = \"lan0\"\nvlans = [10, 20]\n[[port]]\ndevice = \"wan0\"\nmode = \"policer\"\n\
                    rate = \"1.5gbit\"\nburst = \"32kb\"\n[port.aqm]\ntarget = \"2ms\"\necn = false\n";
        let config = Config::from_toml_str("t.toml", text).unwrap();
        assert_eq!(ingress_line(&config.ingress[0]), "ingress lan0, VLANs 10 20");
        assert_eq!(
            port_line(&config.ports[0]),
            "port wan0: policer, rate 1.5gbit, burst 32kb, codel target 2ms interval default limit default \
             predicted sojourn no ECN, congested none, full drop"
        );
    }
}
