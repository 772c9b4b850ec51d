//! `overhead`: a number of bytes, keywords of tc-cake(8), or both.

use toml::Spanned;
use weir_aqm::LinkLayer;
use weir_aqm::overhead::{Framing, PRESETS};

use super::file::PortTable;
use super::policy::PolicyRule;
use super::rule::Rule;
use super::typed::{Items, Scalar};
use super::validate::{At, Check};

/// Bytes of the Ethernet header, which XDP's frames have and CAKE's overheads do not count.
const ETHERNET: i32 = 14;

/// A port's link layer, counted from the frame that XDP sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub overhead: i32,
    pub mpu: u32,
    pub framing: Framing,
}

/// Keywords beside the presets: tags and framing.
const MODIFIERS: [&str; 4] = ["ether-vlan", "atm", "ptm", "noatm"];

impl Check<'_> {
    /// What `overhead` means; the default where it is absent or wrong.
    pub(super) fn link(&mut self, table: &PortTable) -> Link {
        let Items::Are { values, span } = &table.overhead else { return Link::default() };
        let at = At { place: &table.place, key: "overhead" };
        match values.as_slice() {
            [] => {
                self.broken(at, span.clone(), PolicyRule::EmptyList);
                Link::default()
            }
            [one] if matches!(one.get_ref(), Scalar::Number(_)) => self.bytes(at, one),
            words => self.keywords(at, words),
        }
    }

    fn bytes(&mut self, at: At<'_>, typed: &Spanned<Scalar>) -> Link {
        let Scalar::Number(number) = typed.get_ref() else { return Link::default() };
        match i32::try_from(*number) {
            Ok(overhead) if (-64..=256).contains(&overhead) => Link { overhead, ..Link::default() },
            Ok(_) | Err(_) => {
                let why = "bytes that the link adds to (or removes from) the frame XDP sees: 14 bytes of Ethernet \
                           header, no FCS";
                let rule = Rule::Range { low: -64, high: 256, unit: " bytes", why };
                self.problems.push(self.source.value_problem(at.place, at.key, typed.span(), rule));
                Link::default()
            }
        }
    }

    fn keywords(&mut self, at: At<'_>, words: &[Spanned<Scalar>]) -> Link {
        let mut link = LinkLayer::default();
        let (mut base, mut framing): (Option<String>, Option<String>) = (None, None);
        let mut tags = 0;
        for typed in words {
            let word = match typed.get_ref() {
                Scalar::Text(word) => word,
                Scalar::Number(number) => {
                    let bytes = self.bytes(at, typed);
                    if let Some(other) = base.replace(number.to_string()) {
                        self.broken(at, typed.span(), PolicyRule::OverheadConflict { other });
                    }
                    link = LinkLayer { overhead: bytes.overhead, ..LinkLayer::RAW };
                    continue;
                }
            };
            if let Some(preset) = LinkLayer::preset(word) {
                if let Some(other) = base.replace(word.clone()) {
                    self.broken(at, typed.span(), PolicyRule::OverheadConflict { other });
                }
                link = preset;
            } else if word == "ether-vlan" && tags < 2 {
                tags += 1;
            } else if MODIFIERS.contains(&word.as_str()) {
                if let Some(other) = framing.replace(word.clone()) {
                    self.broken(at, typed.span(), PolicyRule::OverheadConflict { other });
                }
            } else {
                self.broken(at, typed.span(), unknown());
            }
        }
        for _ in 0..tags {
            link = link.with_vlan();
        }
        let framing = match framing.as_deref() {
            Some("atm") => Framing::Atm,
            Some("ptm") => Framing::Ptm,
            Some("noatm") => Framing::None,
            Some(_) | None => link.framing,
        };
        let header = match link.basis {
            weir_aqm::overhead::Basis::Packet => ETHERNET,
            weir_aqm::overhead::Basis::Frame => 0,
        };
        Link { overhead: link.overhead - header, mpu: link.mpu, framing }
    }
}

fn unknown() -> PolicyRule {
    let known: Vec<&str> = PRESETS.iter().map(|preset| preset.name).chain(MODIFIERS).collect();
    PolicyRule::OverheadKeyword { known: known.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn link(overhead: &str) -> (i32, u32, Framing) {
        let text =
            format!("[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\noverhead = {overhead}\n");
        let port = Config::from_toml_str("t.toml", &text).unwrap().ports.remove(0);
        (port.overhead, port.mpu, port.framing)
    }

    #[test]
    fn keywords_count_from_the_packet_and_are_shown_from_the_frame() {
        // tc-cake(8): "ethernet" is overhead 38 mpu 84, of which the frame has 14.
        assert_eq!(link("\"ethernet\""), (24, 84, Framing::None));
        assert_eq!(link("[\"ethernet\", \"ether-vlan\"]"), (28, 84, Framing::None));
        assert_eq!(link("\"pppoe-ptm\""), (16, 0, Framing::Ptm));
        assert_eq!(link("[\"pppoe-llcsnap\", \"noatm\"]"), (26, 0, Framing::None));
        assert_eq!(link("\"raw\""), (0, 0, Framing::None));
        assert_eq!(link("[\"raw\", \"atm\"]"), (0, 0, Framing::Atm));
        assert_eq!(link("24"), (24, 0, Framing::None));
        assert_eq!(link("[26, \"atm\"]"), (26, 0, Framing::Atm));
    }
}
