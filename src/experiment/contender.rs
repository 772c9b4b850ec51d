//! The names of the contenders: what an experiment file may ask for.

use super::units::BitRate;
use crate::config::back_off::{Action, BackOff, diverts};
use crate::config::{Algorithm, Config, Mode, Port, Stack};

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
    "weir+straight",
    "weir+htb",
    "weir+tbf",
    "weir+fq_codel",
    "weir+cake",
    "csfq",
];

/// weir in front of a queueing discipline of the kernel's.
pub const HYBRID: &[&str] = &["weir+htb", "weir+tbf", "weir+fq_codel", "weir+cake"];

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
        "weir+straight" => each_port(&mut config, straight),
        "weir+htb" | "weir+tbf" | "weir+fq_codel" | "weir+cake" => each_port(&mut config, hybrid),
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

/// Nothing is diverted: what the file diverts, egress decides on, and what the kernel sends as well.
fn straight(port: &mut Port) {
    let on_full = if port.classes.is_empty() { Action::Drop } else { Action::None };
    if diverts(port) {
        port.stack = Stack::Decide;
    }
    for back_off in back_offs(port) {
        if back_off.on_congested == Action::Divert {
            back_off.on_congested = Action::None;
        }
        if back_off.on_full == Action::Divert {
            back_off.on_full = on_full;
        }
    }
}

/// Diverts what the file says; everything, at both levels, where it diverts nothing.
fn hybrid(port: &mut Port) {
    if diverts(port) {
        return;
    }
    port.stack = Stack::Charge;
    for back_off in back_offs(port) {
        (back_off.on_congested, back_off.on_full) = (Action::Divert, Action::Divert);
    }
}

/// Those that hold for the port's packets: its classes', or its own where it has none.
fn back_offs(port: &mut Port) -> impl Iterator<Item = &mut BackOff> {
    let own = port.classes.is_empty().then_some(&mut port.back_off);
    port.classes.iter_mut().map(|class| &mut class.back_off).chain(own)
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
        assert!(HYBRID.iter().all(|name| LAB.contains(name)));
    }

    #[test]
    fn a_hybrid_diverts_what_the_file_says_or_everything_and_a_straight_one_nothing() {
        let of = |weir: &str| {
            let text = format!(
                "name = \"t\"\nduration = \"1s\"\ncontenders = [\"weir\"]\n[link]\nrate = \"10mbit\"\ndelay = \
                 \"1ms\"\nring = 100\n[[probe]]\ninterval = \"10ms\"\n{weir}"
            );
            let experiment = Experiment::parse("t.toml", &text).unwrap();
            move |name| weir_config(name, &experiment.weir, experiment.shaper_rate).unwrap().ports.remove(0)
        };
        let levels = |back_off: &BackOff| (back_off.on_congested, back_off.on_full);
        let plain = of("");
        for name in HYBRID {
            let hybrid = plain(name);
            assert_eq!(levels(&hybrid.back_off), (Action::Divert, Action::Divert), "{name}");
            assert_eq!(hybrid.stack, Stack::Charge);
        }
        assert_eq!(plain("weir+straight"), plain("weir"));
        let classes = of(
            "[[weir.class]]\nname = \"high\"\n[[weir.class]]\nname = \"bulk\"\non_congested = \"divert\"\n\
             on_full = \"drop\"\n",
        );
        let of_classes =
            |port: Port| port.classes.iter().map(|class| levels(&class.back_off)).collect::<Vec<_>>();
        let none = (Action::None, Action::None);
        assert_eq!(of_classes(classes("weir+htb")), [none, (Action::Divert, Action::Drop)]);
        assert_eq!(classes("weir+htb"), classes("weir"));
        assert_eq!(of_classes(classes("weir+straight")), [none, (Action::None, Action::Drop)]);
        let straight = classes("weir+straight");
        assert_eq!((classes("weir").stack, straight.stack), (Stack::Charge, Stack::Decide));
    }
}
