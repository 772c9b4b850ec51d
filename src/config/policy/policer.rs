//! `[port.class.policer]`: from typed to meant.

use weir_aqm::Rate;

use super::PolicyRule;
use super::file::PolicerTable;
use super::model::{ColourAction, Metered, Policer};
use crate::config::port::rate;
use crate::config::rule::Rule;
use crate::config::typed::{Field, Items};
use crate::config::units::show_rate;
use crate::config::validate::{At, Check};

const MAX_PPS: u64 = 1_000_000_000;
const MAX_PACKETS: u64 = 1_000_000;

/// A rate as typed.
#[derive(Clone, Copy)]
enum Typed {
    Bits(Rate),
    Packets(u64),
}

impl Typed {
    fn show(self) -> String {
        match self {
            Self::Bits(rate) => show_rate(rate),
            Self::Packets(rate) => format!("{rate}pps"),
        }
    }
}

impl Check<'_> {
    pub(super) fn policer(&mut self, place: &str, table: &PolicerTable) -> Option<Policer> {
        let at = |key| At { place, key };
        self.required(at("policer.cir"), &table.cir, &table.span, "cir = \"5mbit\"");
        let cir = self.parsed(at("policer.cir"), &table.cir, policer_rate);
        let pir = self.parsed(at("policer.pir"), &table.pir, |text| {
            let pir = policer_rate(text)?;
            let below = |cir: Typed| Err(Rule::Policy(PolicyRule::PirBelowCir { cir: cir.show() }));
            match (cir, pir) {
                (Some(cir @ Typed::Bits(mean)), Typed::Bits(peak)) if peak < mean => below(cir),
                (Some(cir @ Typed::Packets(mean)), Typed::Packets(peak)) if peak < mean => below(cir),
                (Some(Typed::Bits(_)), Typed::Packets(_)) | (Some(Typed::Packets(_)), Typed::Bits(_)) => {
                    Err(Rule::Policy(PolicyRule::PolicerUnits))
                }
                (None | Some(_), pir) => Ok(pir),
            }
        });
        if table.pir.is_absent() {
            let yellow = match &table.yellow {
                Items::Are { span, .. } => Some(("policer.yellow", span.clone())),
                Items::Absent | Items::Wrong => None,
            };
            let pbs = table.pbs.get().map(|pbs| ("policer.pbs", pbs.span()));
            for (key, span) in yellow.into_iter().chain(pbs) {
                self.broken(at(key), span, PolicyRule::WithoutPir);
            }
        }
        let committed = cir.map(|cir| self.metered(at("policer.cbs"), cir, &table.cbs));
        let peak = pir.map(|pir| self.metered(at("policer.pbs"), pir, &table.pbs));
        let yellow = self.colour(at("policer.yellow"), &table.yellow, ColourAction::Pass);
        let red = self.colour(at("policer.red"), &table.red, ColourAction::Drop);
        let aware = table.aware.get().is_some_and(|aware| *aware.get_ref());
        Some(Policer { committed: committed?, peak, aware, yellow, red })
    }

    fn metered(&mut self, at: At<'_>, rate: Typed, burst: &Field<String>) -> Metered {
        match rate {
            Typed::Bits(rate) => Metered::Bytes { rate, burst: self.burst_of_frame(at, burst) },
            Typed::Packets(rate) => Metered::Packets { rate, burst: self.parsed(at, burst, packets) },
        }
    }
}

fn policer_rate(text: &str) -> Result<Typed, Rule> {
    let Some(number) = text.trim().to_lowercase().strip_suffix("pps").map(|number| number.trim().to_owned())
    else {
        return match rate(text) {
            Ok(rate) => Ok(Typed::Bits(rate)),
            Err(Rule::Unit(error, _)) => Err(Rule::Policy(PolicyRule::PolicerRate { error })),
            Err(rule) => Err(rule),
        };
    };
    // `kpps` and the like have a letter left in the number.
    let rate = number.parse().ok().filter(|rate| (1..=MAX_PPS).contains(rate));
    rate.map(Typed::Packets).ok_or(Rule::Policy(PolicyRule::PolicerPps))
}

fn packets(text: &str) -> Result<u64, Rule> {
    let number = text.trim().to_lowercase().strip_suffix('p').and_then(|number| number.trim().parse().ok());
    let number = number.filter(|packets| (1..=MAX_PACKETS).contains(packets));
    number.ok_or(Rule::Policy(PolicyRule::PolicerPackets))
}
