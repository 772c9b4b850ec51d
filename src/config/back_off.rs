//! What ingress does while a ring's signal stands, class by class.

use weir_shared_maps::BackOff;

use super::model::Port;

/// The port's entries in the back-off map, one for each class.
///
/// A port without classes has one entry, and drops what its full ring would refuse. A ring that is full for one class has
/// room for another: a class leaves it to egress.
pub fn entries(port: &Port) -> Vec<BackOff> {
    if port.classes.is_empty() {
        return vec![BackOff::DROP_AT_FULL];
    }
    vec![BackOff::NONE; port.classes.len()]
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
    fn only_a_port_without_classes_drops_at_ingress() {
        assert_eq!(of(""), [BackOff::DROP_AT_FULL]);
        let class = "[[port.class]]\nname = \"a\"\n[[port.class]]\nname = \"b\"\n";
        assert_eq!(of(class), [BackOff::NONE; 2]);
    }
}
