//! What ingress does while a ring's signal stands, class by class.

use weir_shared_maps::BackOff;

use super::model::{PauseKind, Port};
use super::policy::Class;

/// The port's entries in the back-off map, one for each class.
///
/// A port without classes has one entry, and drops what its full ring would refuse. A ring that is full for one class has
/// room for another: a class leaves it to egress. So does a port whose senders are asked to wait: what they had on the way
/// is not to be lost for it.
pub fn entries(port: &Port) -> Vec<BackOff> {
    if port.classes.is_empty() {
        return vec![if port.pause == PauseKind::Off { BackOff::DROP_AT_FULL } else { BackOff::NONE }];
    }
    let of_class = |class: &Class| BackOff { pfc_priority: u32::from(class.pfc_priority()), ..BackOff::NONE };
    port.classes.iter().map(of_class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn of(classes: &str) -> Vec<BackOff> {
        let text = format!("[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\n{classes}");
        entries(&Config::from_toml_str("t.toml", &text).unwrap().ports[0])
    }

    #[test]
    fn a_port_whose_senders_are_asked_to_wait_drops_nothing_at_ingress() {
        assert_eq!(of("pause = \"802.3x\""), [BackOff::NONE]);
        assert_eq!(of("pause = \"off\""), [BackOff::DROP_AT_FULL]);
    }

    #[test]
    fn only_a_port_without_classes_drops_at_ingress() {
        assert_eq!(of(""), [BackOff::DROP_AT_FULL]);
        let class = "[[port.class]]\nname = \"a\"\n[[port.class]]\nname = \"b\"\n";
        // A class of priority 4 is stopped by the pause of 802.1Q's priority 3.
        assert_eq!(of(class), [BackOff { pfc_priority: 3, ..BackOff::NONE }; 2]);
    }
}
