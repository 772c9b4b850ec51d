//! `[[port]]`: what the keys of a port mean, but for its AQM, its link layer and its classes.

use weir_aqm::{Bytes, Pace, Rate};

use super::aqm::Algorithms;
use super::back_off::Action;
use super::file::PortTable;
use super::model::{Mode, PauseKind, Port, Stack};
use super::policy::{Class, Side};
use super::rule::Rule;
use super::units::{UnitError, parse_rate, parse_size};
use super::validate::{At, Check, choice};

/// A full frame of Ethernet's usual MTU without its FCS, which is what XDP sees.
pub(super) const FULL_FRAME: i64 = 1_514;

impl Check<'_> {
    pub(super) fn port(&mut self, table: &PortTable) -> Option<Port> {
        let place = &table.place;
        let device = self.device(place, &table.device, &table.span, "device = \"wan0\"");
        let mode = self
            .parsed(At { place, key: "mode" }, &table.mode, |word| match word {
                "bottleneck" => Ok(Mode::Bottleneck),
                "policer" => Ok(Mode::Policer),
                "tc" => Ok(Mode::Tc),
                "auto" => Ok(Mode::Auto),
                _ => Err(choice(word, &["bottleneck", "policer", "tc", "auto"])),
            })
            .unwrap_or(Mode::Bottleneck);
        let divert_rate = self.parsed(At { place, key: "divert_rate" }, &table.divert_rate, rate);
        let rate = self.parsed(At { place, key: "rate" }, &table.rate, rate);
        if let (true, true, Some(typed)) = (mode.has_meter(), table.rate.is_absent(), table.mode.get()) {
            let rule = Rule::MeterWithoutRate { mode: mode.name() };
            self.problems.push(self.source.key_problem(place, "rate", typed.span(), rule));
        }
        let link = self.link(table);
        let mpu = self.range(
            At { place, key: "mpu" },
            &table.mpu,
            (0, 256, " bytes"),
            "the smallest size a frame takes on the wire, overhead included: 84 for Ethernet with preamble and gap",
        );
        let reserve = self.range(
            At { place, key: "reserve" },
            &table.reserve,
            (0, 1_024, " slots"),
            "slots of the TX ring that stay free, so that a batch never meets a full ring; 64 is one NAPI poll",
        );
        let burst = self.burst(table, mode, i64::from(link.overhead));
        let aqm = self.aqm(place, &table.aqm, Algorithms::OfPort);
        let back_off = self.back_off_keys(place, &table.back_off);
        let mut classes = self.port_classes(table, rate, &back_off);
        let subscribers =
            self.parsed(At { place, key: "subscribers" }, &table.subscribers, |word| match word {
                "source" => Ok(Side::Source),
                "destination" => Ok(Side::Destination),
                _ => Err(choice(word, &["source", "destination"])),
            });
        if subscribers.is_some() && classes.classes.is_empty() {
            classes.classes.push(Class::implicit(back_off.of_class()));
        }
        let pause = self.pause(table, mode, !classes.classes.is_empty());
        let egress_decides = !classes.classes.is_empty() || pause != PauseKind::Off;
        let back_off = if egress_decides { back_off.of_class() } else { back_off.of_port() };
        let diverts = back_off.does(Action::Divert)
            || classes.classes.iter().any(|class| class.back_off.does(Action::Divert));
        let stack = self.stack(table, mode, diverts);
        Some(Port {
            device: device?,
            mode,
            rate,
            overhead: link.overhead,
            mpu: mpu.and_then(|mpu| u32::try_from(mpu).ok()).unwrap_or(link.mpu),
            framing: link.framing,
            burst,
            reserve: reserve.and_then(|slots| u32::try_from(slots).ok()),
            aqm,
            classes: classes.classes,
            default_class: classes.default,
            subscribers,
            pause,
            stack,
            back_off,
            divert_rate,
        })
    }

    fn pause(&mut self, table: &PortTable, mode: Mode, classes: bool) -> PauseKind {
        let at = At { place: &table.place, key: "pause" };
        let kind = self.parsed(at, &table.pause, |word| match word {
            "off" => Ok(PauseKind::Off),
            _ if matches!(word, "802.3x" | "pfc") && mode.has_meter() => Err(Rule::PauseOnPolicer),
            "802.3x" => Ok(PauseKind::Link),
            "pfc" if !classes => Err(Rule::PfcWithoutClasses),
            "pfc" => Ok(PauseKind::Priority),
            _ => Err(choice(word, &["off", "802.3x", "pfc"])),
        });
        kind.unwrap_or_default()
    }

    /// Diverted packets are given to the stack so that they wait in the device's qdisc: decided on before it, they would meet
    /// the full queue again that they were diverted from.
    fn stack(&mut self, table: &PortTable, mode: Mode, diverts: bool) -> Stack {
        let at = At { place: &table.place, key: "stack" };
        let parsed = self.parsed(at, &table.stack, |word| {
            let stack = match word {
                "decide" => Stack::Decide,
                "charge" => Stack::Charge,
                "ignore" => Stack::Ignore,
                _ => return Err(choice(word, &["decide", "charge", "ignore"])),
            };
            match (mode, stack) {
                (Mode::Tc | Mode::Auto, Stack::Charge | Stack::Ignore) => {
                    Err(Rule::StackOfTc { mode: mode.name() })
                }
                (Mode::Bottleneck | Mode::Policer, _) | (_, Stack::Decide) => Ok(stack),
            }
        });
        parsed.unwrap_or(match mode {
            Mode::Bottleneck | Mode::Policer if diverts => Stack::Charge,
            Mode::Bottleneck | Mode::Policer | Mode::Tc | Mode::Auto => Stack::Decide,
        })
    }

    fn burst(&mut self, table: &PortTable, mode: Mode, overhead: i64) -> Option<Bytes> {
        let at = At { place: &table.place, key: "burst" };
        let least = FULL_FRAME.saturating_add(overhead).unsigned_abs();
        self.parsed(at, &table.burst, |text| match (mode, parse_size(text)) {
            (Mode::Bottleneck, _) => Err(Rule::BurstOnBottleneck),
            (Mode::Policer | Mode::Tc | Mode::Auto, Err(error)) => Err(Rule::Unit(error, "\"32kb\"")),
            (Mode::Policer | Mode::Tc | Mode::Auto, Ok(burst)) if burst.get() < least => {
                Err(Rule::BurstTooSmall { least })
            }
            (Mode::Policer | Mode::Tc | Mode::Auto, Ok(burst)) => Ok(burst),
        })
    }
}

pub(super) fn rate(text: &str) -> Result<Rate, Rule> {
    let rate = match parse_rate(text) {
        Ok(rate) => rate,
        Err(UnitError::Overflow) => return Err(Rule::RateTooHigh),
        Err(error) => return Err(Rule::Unit(error, "\"100mbit\"")),
    };
    match rate.bits_per_second() {
        0 => Err(Rule::RateZero),
        bits if bits < Pace::MIN_BITS_PER_SECOND => Err(Rule::RateTooLow),
        bits if bits > Pace::MAX_BITS_PER_SECOND => Err(Rule::RateTooHigh),
        _ => Ok(rate),
    }
}

const _: () = assert!(Pace::MIN_BITS_PER_SECOND == 64_000 && Pace::MAX_BITS_PER_SECOND == 400_000_000_000);
