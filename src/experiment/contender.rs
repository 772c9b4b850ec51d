//! The names of the contenders: what an experiment file may ask for.

use super::units::BitRate;
use crate::config::back_off::{Action, BackOff};
use crate::config::{Algorithm, Config, Mode, Port};

/// What the lab can run, in the order of its documentation. The simulator has all of them.
pub const LAB: &[&str] = &[
    "redirect",
    "kernel",
    "kernel+htb",
    "kernel+tbf",
    "kernel+fq_codel",
    "kernel+cake",
    "weir",
    "weir+codel",
    "weir+pi2",
    "weir+pie",
    "weir+policer",
    "weir+plain",
    "weir+early-mark",
    "weir+early-drop",
    "csfq",
];

/// What only the simulator can run.
pub const SIMULATOR: &[&str] = &["codel", "fq_codel", "pie", "dualpi2", "cake", "policer", "bc-pqp"];

/// All names.
pub fn all() -> impl Iterator<Item = &'static str> {
    LAB.iter().chain(SIMULATOR).copied()
}

/// Refuses a name that nobody has.
///
/// # Errors
/// The rule, with the names there are.
pub fn check(name: &str) -> Result<(), String> {
    if all().any(|known| known == name) {
        return Ok(());
    }
    let known: Vec<&str> = all().collect();
    Err(format!("`{name}` is no contender; the contenders are {}", known.join(", ")))
}

/// The configuration that one of weir's contenders runs: the file's, with the one thing changed that its name says. `None` for
/// who is not weir.
#[must_use]
pub fn weir_config(name: &str, weir: &Config, shaper_rate: BitRate) -> Option<Config> {
    let mut config = weir.clone();
    match name {
        "weir" => {}
        "weir+codel" => each_port(&mut config, |port| port.aqm.algorithm = Some(Algorithm::Codel)),
        "weir+pi2" => each_port(&mut config, |port| port.aqm.algorithm = Some(Algorithm::Pi2)),
        "weir+pie" => each_port(&mut config, |port| port.aqm.algorithm = Some(Algorithm::Pie)),
        "weir+early-mark" => early(&mut config, Action::Mark),
        "weir+early-drop" => early(&mut config, Action::Drop),
        "weir+policer" => each_port(&mut config, |port| {
            port.mode = Mode::Policer;
            port.rate = port.rate.or(Some(weir_aqm::Rate::from_bits_per_second(shaper_rate.bps())));
        }),
        "weir+plain" => plain(&mut config),
        _ => return None,
    }
    Some(config)
}

/// Without classes: ingress drops at `full`, as by default where there are none.
fn plain(config: &mut Config) {
    config.policy.rules.clear();
    each_port(config, |port| {
        port.classes.clear();
        port.default_class = 0;
        port.back_off = BackOff { on_congested: Action::None, on_full: Action::Drop, spill_to: None };
    });
}

/// Without classes, and with a signal of ingress's at `congested`.
fn early(config: &mut Config, action: Action) {
    plain(config);
    each_port(config, |port| port.back_off.on_congested = action);
}

fn each_port(config: &mut Config, change: impl Fn(&mut Port)) {
    config.ports.iter_mut().for_each(change);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Experiment;

    #[test]
    fn each_of_weirs_contenders_changes_the_one_thing_that_its_name_says() {
        let text = "name = \"t\"\nduration = \"1s\"\ncontenders = [\"weir\"]\n[link]\nrate = \"10mbit\"\ndelay = \
                    \"1ms\"\nring = 100\n[[probe]]\ninterval = \"10ms\"\n[[weir.class]]\nname = \"a\"\n[[weir.rule]]\n\
                    class = \"a\"\ndscp = 46\n";
        let experiment = Experiment::parse("t.toml", text).unwrap();
        let config = |name| weir_config(name, &experiment.weir, experiment.shaper_rate);
        let port = |name| config(name).unwrap().ports.remove(0);
        assert_eq!(config("weir").as_ref(), Some(&experiment.weir));
        assert_eq!(port("weir+codel").aqm.algorithm, Some(Algorithm::Codel));
        assert_eq!(port("weir+pi2").aqm.algorithm, Some(Algorithm::Pi2));
        let policer = port("weir+policer");
        assert_eq!(
            (policer.mode, policer.rate.map(|rate| rate.bits_per_second())),
            (Mode::Policer, Some(9_500_000))
        );
        let plain = config("weir+plain").unwrap();
        assert!(plain.ports[0].classes.is_empty() && plain.policy.rules.is_empty());
        for name in all() {
            assert_eq!(config(name).is_some(), name.starts_with("weir"), "{name}");
        }
    }
}
