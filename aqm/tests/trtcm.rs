//! The two-rate three-colour marker: published colours, RFC 2698's rules, and CPUs that race for the two words.
#![allow(clippy::expect_used, clippy::panic)] // the helpers of tests are tests too

use proptest::prelude::*;
use serde_json::Value;
use weir_aqm::trtcm::{self, Colour, TrtcmParams, TrtcmVars};
use weir_aqm::{Bytes, GcraParams, Nanos, Pace, gcra};

fn meter(bytes_per_second: u64, burst: u64) -> GcraParams {
    let pace = Pace::from_bits_per_second(bytes_per_second * 8).expect("a rate within range");
    GcraParams::with_burst(pace, Bytes::new(burst))
}

fn colour(letter: &Value) -> Colour {
    match letter.as_str().expect("a letter") {
        "g" => Colour::Green,
        "y" => Colour::Yellow,
        "r" => Colour::Red,
        other => panic!("colour {other}"),
    }
}

#[test]
fn rfc_2698_every_colour_of_the_vectors_is_met() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/meters.json")).unwrap();
    let (mut decisions, mut seen) = (0, [0; 3]);
    for case in vectors["trtcm"].as_array().unwrap() {
        let number = |name: &str| case[name].as_u64().unwrap();
        let params = TrtcmParams {
            peak: meter(number("pir_Bps"), number("pbs")),
            committed: meter(number("cir_Bps"), number("cbs")),
        };
        let mut vars = TrtcmVars::default();
        for row in case["rows"].as_array().unwrap() {
            let arrived = if case["mode"] == "aware" { colour(&row[2]) } else { Colour::Green };
            let now = Nanos::from_nanos(row[0].as_u64().unwrap());
            let cost = Bytes::new(row[1].as_u64().unwrap());
            let (got, after) = trtcm::mark(&params, vars, now, cost, arrived);
            assert_eq!(got, colour(&row[3]), "{row} of {}", case["mode"]);
            vars = after;
            seen[got as usize] += 1;
            decisions += 1;
        }
    }
    assert!(decisions >= 240 && seen.iter().all(|&n| n > 10), "{decisions}: {seen:?}");
}

#[test]
fn rfc_2698_a_packet_is_never_promoted_and_pays_by_its_colour() {
    let params = TrtcmParams { peak: meter(250_000, 3000), committed: meter(125_000, 3000) };
    let now = Nanos::from_millis(10);
    let full = TrtcmVars::default();
    let (red, after) = trtcm::mark(&params, full, now, Bytes::new(64), Colour::Red);
    assert_eq!((red, after), (Colour::Red, full));
    let (yellow, after) = trtcm::mark(&params, full, now, Bytes::new(64), Colour::Yellow);
    assert_eq!((yellow, after.committed_tat), (Colour::Yellow, full.committed_tat));
    assert!(after.peak_tat > now);
    let (green, after) = trtcm::mark(&params, full, now, Bytes::new(64), Colour::Green);
    assert!(green == Colour::Green && after.committed_tat > now && after.peak_tat > now);
}

#[test]
fn packets_per_second_do_not_ask_for_the_length() {
    let params = TrtcmParams {
        peak: GcraParams::with_packets(200, 4).unwrap(),
        committed: GcraParams::with_packets(100, 2).unwrap(),
    };
    let mut vars = TrtcmVars::default();
    let mut seen = [0u32; 3];
    // 1,000 packets per second for 10 s.
    for ms in 0..10_000 {
        let (got, after) = trtcm::mark(&params, vars, Nanos::from_millis(ms), gcra::PACKET, Colour::Green);
        vars = after;
        seen[got as usize] += 1;
    }
    assert!((1_000..=1_002).contains(&seen[0]), "{seen:?}");
    assert!((2_000..=2_004).contains(&(seen[0] + seen[1])), "{seen:?}");
    assert_eq!(GcraParams::with_packets(0, 2), None);
}

/// Where a CPU stands between its reads and its swaps.
#[derive(Clone, Copy)]
enum At {
    Idle,
    HavePeak { read: Nanos, tries: u32 },
    PeakPaid { tries: u32 },
    HaveCommitted { read: Nanos, tries: u32 },
}

const TRIES: u32 = 4;

/// CPUs that run the documented protocol on two shared words, one memory access at a time.
struct Race {
    params: TrtcmParams,
    shared: TrtcmVars,
    passed: [u64; 2],
    lost_to_races: u64,
}

impl Race {
    fn step(&mut self, at: At, now: Nanos, cost: Bytes) -> At {
        let lost = |race: &mut Self| {
            race.lost_to_races += cost.get();
            At::Idle
        };
        match at {
            At::Idle => At::HavePeak { read: self.shared.peak_tat, tries: 1 },
            At::HavePeak { read, tries } => {
                let Some(tat) = trtcm::peak(&self.params, read, now, cost, Colour::Green) else {
                    return At::Idle;
                };
                if self.shared.peak_tat == read {
                    self.shared.peak_tat = tat;
                    self.passed[0] += cost.get();
                    At::PeakPaid { tries: 1 }
                } else if tries < TRIES {
                    At::HavePeak { read: self.shared.peak_tat, tries: tries + 1 }
                } else {
                    lost(self)
                }
            }
            At::PeakPaid { tries } => At::HaveCommitted { read: self.shared.committed_tat, tries },
            At::HaveCommitted { read, tries } => {
                let Some(tat) = trtcm::committed(&self.params, read, now, cost, Colour::Green) else {
                    return At::Idle;
                };
                if self.shared.committed_tat == read {
                    self.shared.committed_tat = tat;
                    self.passed[1] += cost.get();
                    At::Idle
                } else if tries < TRIES {
                    At::PeakPaid { tries: tries + 1 }
                } else {
                    lost(self)
                }
            }
        }
    }
}

proptest! {
    /// Any interleaving of four CPUs whose clocks differ by up to 1 us.
    #[test]
    fn racing_cpus_never_pass_more_than_either_rate(
        schedule in prop::collection::vec((0usize..4, 0u64..200_000, 64u64..1515), 1..800),
    ) {
        let params = TrtcmParams { peak: meter(2_500_000, 9000), committed: meter(1_250_000, 6000) };
        let mut race = Race { params, shared: TrtcmVars::default(), passed: [0; 2], lost_to_races: 0 };
        let mut cpus = [(At::Idle, 0u64, 64u64); 4];
        let (start, mut clock, mut offered) = (1_000_000u64, 1_000_000u64, 0);
        for (cpu, gap, length) in schedule {
            clock += gap;
            let (at, now, cost) = &mut cpus[cpu];
            if matches!(at, At::Idle) {
                (*now, *cost) = (clock + 250 * cpu as u64, length);
                offered += length;
            }
            *at = race.step(*at, Nanos::from_nanos(*now), Bytes::new(*cost));
            let elapsed = clock + 750 - start;
            for (passed, rate, burst) in [(race.passed[0], 2_500_000, 9000), (race.passed[1], 1_250_000, 6000)] {
                prop_assert!(passed <= burst + elapsed * rate / 1_000_000_000 + 1);
            }
        }
        prop_assert!(race.passed[1] <= race.passed[0]);
        prop_assert!(race.passed[1] + race.lost_to_races <= offered && race.passed[0] <= offered);
    }

    /// Where nobody interferes the two steps are the whole.
    #[test]
    fn the_two_steps_in_turn_are_the_marker(
        arrivals in prop::collection::vec((0u64..20_000_000, 64u64..1515, 0u32..3), 1..200),
    ) {
        let params = TrtcmParams { peak: meter(250_000, 6000), committed: meter(125_000, 4000) };
        let (mut vars, mut words, mut now) = (TrtcmVars::default(), TrtcmVars::default(), Nanos::ZERO);
        for (gap, length, arrived) in arrivals {
            now = now.saturating_add(Nanos::from_nanos(gap));
            let cost = Bytes::new(length);
            let arrived = [Colour::Green, Colour::Yellow, Colour::Red][arrived as usize];
            let (want, after) = trtcm::mark(&params, vars, now, cost, arrived);
            vars = after;
            let mut got = Colour::Red;
            if let Some(tat) = trtcm::peak(&params, words.peak_tat, now, cost, arrived) {
                words.peak_tat = tat;
                got = Colour::Yellow;
                if let Some(tat) = trtcm::committed(&params, words.committed_tat, now, cost, arrived) {
                    words.committed_tat = tat;
                    got = Colour::Green;
                }
            }
            prop_assert_eq!((got, words), (want, vars));
            prop_assert!(got >= arrived);
        }
    }
}
