//! To the bytes that the programs read, and back.

use serde::Serialize;
use weir_aqm::{Bytes, Nanos, Pace, Rate};
use weir_shared_maps::{
    ACTION_DIVERT, ACTION_DROP, ACTION_MARK, ACTION_NONE, ACTION_SPILL, PFC_ANY, PortConfig,
};

use super::{Action, BackOff, effective};
use crate::config::model::{Config, Port};
use crate::config::names::DeviceName;

impl Action {
    const fn code(self) -> u32 {
        match self {
            Self::None => ACTION_NONE,
            Self::Mark => ACTION_MARK,
            Self::Drop => ACTION_DROP,
            Self::Divert => ACTION_DIVERT,
            Self::Spill => ACTION_SPILL,
        }
    }
}

/// The name of an `ACTION_*` value.
fn action_name(code: u32) -> &'static str {
    match code {
        ACTION_NONE => "none",
        ACTION_MARK => "mark",
        ACTION_DROP => "drop",
        ACTION_DIVERT => "divert",
        ACTION_SPILL => "spill",
        _ => "unknown",
    }
}

const BURST_TIME: Nanos = Nanos::from_millis(10);
const BURST_FRAMES: u64 = 10;

/// A port's entries in the map, one for each class; one where it has none. `ifindex` finds the spill ports.
pub fn entries(
    port: &Port,
    encoded: &PortConfig,
    ifindex: impl Fn(&DeviceName) -> Option<u32>,
) -> Vec<weir_shared_maps::BackOff> {
    let pace = port.divert_rate.or(port.rate).and_then(Rate::pace);
    let frames = Bytes::new(u64::from(encoded.max_packet_bytes)).saturating_mul(BURST_FRAMES);
    let burst = pace.map_or(BURST_TIME, |pace| pace.time_for_rounded_up(frames).max(BURST_TIME));
    let entry = |(back_off, pfc_priority): (&BackOff, u32)| weir_shared_maps::BackOff {
        on_congested: back_off.on_congested.code(),
        on_full: back_off.on_full.code(),
        spill_ifindex: back_off.spill_to.as_ref().and_then(&ifindex).unwrap_or(0),
        divert_pace_mult: pace.map_or(0, Pace::mult),
        divert_pace_shift: pace.map_or(0, Pace::shift),
        pfc_priority,
        divert_burst_ns: burst.as_nanos(),
    };
    let priorities = port.classes.iter().map(|class| u32::from(class.pfc_priority()));
    effective(port).into_iter().zip(priorities.chain(std::iter::repeat(PFC_ANY))).map(entry).collect()
}

/// Bit `1 << ACTION_*` of each action that a class or port takes, but for none.
pub fn actions(config: &Config) -> u32 {
    let all = config.ports.iter().flat_map(effective);
    all.fold(0, |bits, back_off| bits | 1 << back_off.on_congested.code() | 1 << back_off.on_full.code())
        & !(1 << ACTION_NONE)
}

/// Whether a configuration moves flows between ways.
pub fn moves_flows(config: &Config) -> bool {
    actions(config) & (1 << ACTION_DIVERT | 1 << ACTION_SPILL) != 0
}

/// What runs, as it stands in the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningBackOff {
    /// `none`, `mark`, `drop`, `divert`, `spill`, or `unknown`.
    pub on_congested: &'static str,
    /// Alike.
    pub on_full: &'static str,
    /// The device that packets spill to.
    pub spill_to: Option<String>,
    /// Rate up to which diverted packets may enter the stack, in bits per second; `None` follows the ring's drain rate.
    pub divert_bps: Option<u64>,
}

/// Reads a map's entry. `name` knows the devices of the ports.
pub fn running(entry: &weir_shared_maps::BackOff, name: impl Fn(u32) -> Option<String>) -> RunningBackOff {
    RunningBackOff {
        on_congested: action_name(entry.on_congested),
        on_full: action_name(entry.on_full),
        spill_to: name(entry.spill_ifindex),
        divert_bps: Pace::from_parts(entry.divert_pace_mult, entry.divert_pace_shift)
            .map(Pace::bits_per_second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::encode::{PortFacts, port_config};

    const TWO: &str =
        "[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan1\"\n[[port]]\ndevice = \"wan0\"\n";

    fn config(keys: &str) -> Config {
        Config::from_toml_str("t.toml", &format!("{TWO}{keys}\n")).unwrap()
    }

    fn encode(keys: &str) -> Vec<weir_shared_maps::BackOff> {
        let facts = PortFacts { ring_slots: 500, ..PortFacts::TAP };
        let port = &config(keys).ports[1];
        let encoded = port_config(port, &facts).unwrap();
        entries(port, &encoded, |device| (device.as_str() == "wan1").then_some(9))
    }

    #[test]
    fn a_port_drops_early_where_it_is_full_and_one_with_classes_leaves_it_to_egress() {
        let actions = |keys| encode(keys).iter().map(|e| (e.on_congested, e.on_full)).collect::<Vec<_>>();
        assert_eq!(actions(""), [(ACTION_NONE, ACTION_DROP)]);
        let classes = "[[port.class]]\nname = \"a\"\n[[port.class]]\nname = \"b\"\non_congested = \"mark\"";
        assert_eq!(actions(classes), [(ACTION_NONE, ACTION_NONE), (ACTION_MARK, ACTION_NONE)]);
        let inherited = format!("on_full = \"drop\"\non_congested = \"drop\"\n{classes}");
        assert_eq!(actions(&inherited), [(ACTION_DROP, ACTION_DROP), (ACTION_MARK, ACTION_DROP)]);
    }

    #[test]
    fn a_port_whose_senders_are_asked_to_wait_drops_nothing_early_but_where_the_file_says_so() {
        let on_full = |keys| encode(keys)[0].on_full;
        assert_eq!(on_full("pause = \"off\""), ACTION_DROP);
        assert_eq!(on_full("pause = \"802.3x\""), ACTION_NONE);
        assert_eq!(on_full("pause = \"802.3x\"\non_full = \"drop\""), ACTION_DROP);
    }

    #[test]
    fn a_class_is_stopped_by_one_priority_and_a_port_without_classes_by_any() {
        let priorities = |keys| encode(keys).iter().map(|entry| entry.pfc_priority).collect::<Vec<_>>();
        assert_eq!(priorities(""), [PFC_ANY]);
        let classes =
            "[[port.class]]\nname = \"a\"\npriority = 1\n[[port.class]]\nname = \"b\"\npfc_priority = 5";
        assert_eq!(priorities(classes), [6, 5]);
    }

    #[test]
    fn what_was_encoded_reads_back() {
        let keys =
            "on_congested = \"divert\"\non_full = \"spill\"\nspill_to = \"wan1\"\ndivert_rate = \"20mbit\"";
        let entry = encode(keys)[0];
        let back = running(&entry, |ifindex| (ifindex == 9).then(|| "wan1".to_owned()));
        assert_eq!((back.on_congested, back.on_full), ("divert", "spill"));
        assert_eq!((back.spill_to.as_deref(), back.divert_bps), (Some("wan1"), Some(20_000_000)));
        // Ten frames of 1,514 bytes at 20 Mbit/s take 6 ms.
        assert_eq!(entry.divert_burst_ns, 10_000_000);
    }

    #[test]
    fn the_bound_of_the_stack_is_the_rate_of_the_port_or_follows_its_ring() {
        let bits = |keys| {
            let entry = encode(keys)[0];
            Pace::from_parts(entry.divert_pace_mult, entry.divert_pace_shift).map(Pace::bits_per_second)
        };
        assert_eq!(bits("on_full = \"divert\"\nrate = \"8mbit\""), Some(8_000_000));
        assert_eq!(bits("on_full = \"divert\""), None);
    }

    #[test]
    fn only_actions_in_use_are_kept_in_the_programs() {
        assert_eq!(actions(&config("")), 1 << ACTION_DROP);
        let classes = "on_full = \"spill\"\nspill_to = \"wan1\"\n[[port.class]]\nname = \"a\"";
        assert_eq!(actions(&config(classes)), 1 << ACTION_DROP | 1 << ACTION_SPILL);
        assert!(moves_flows(&config(classes)) && !moves_flows(&config("on_congested = \"mark\"")));
    }
}
