//! The two-rate three-colour marker: published colours, RFC 2698's rules, and CPUs that race for the two words.
#![allow(clippy::expect_used, clippy::panic)] // the helpers of tests are tests too

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use proptest::prelude::*;
use serde_json::Value;
use weir_aqm::trtcm::{self, Colour, SharedColour, TrtcmParams, TrtcmVars};
use weir_aqm::{Bytes, GcraParams, Nanos, Pace, SharedTat, gcra};

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

/// A word that real CPUs share.
#[derive(Default)]
struct Atomic(AtomicU64);

impl SharedTat for Atomic {
    fn load(&self) -> Nanos {
        Nanos::from_nanos(self.0.load(SeqCst))
    }

    fn swap(&self, old: Nanos, new: Nanos) -> bool {
        self.0.compare_exchange(old.as_nanos(), new.as_nanos(), SeqCst, SeqCst).is_ok()
    }
}

/// A word whose every access may be preceded by a whole packet of another CPU: `others` says at which accesses, and with what.
struct Raced<'a> {
    word: &'a Cell<Nanos>,
    before_access: &'a dyn Fn(),
}

impl SharedTat for Raced<'_> {
    fn load(&self) -> Nanos {
        (self.before_access)();
        self.word.load()
    }

    fn swap(&self, old: Nanos, new: Nanos) -> bool {
        (self.before_access)();
        SharedTat::swap(self.word, old, new)
    }
}

/// One packet on its CPU.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    now: Nanos,
    cost: Bytes,
}

/// CPUs that interrupt each other: a schedule says, at each access to a word, whether another packet comes first.
struct Race {
    params: TrtcmParams,
    words: [Cell<Nanos>; 2],
    schedule: RefCell<Vec<Arrival>>,
    interrupts: RefCell<Vec<bool>>,
    passed: [Cell<u64>; 2],
    lost: Cell<u32>,
}

impl Race {
    fn new(params: TrtcmParams, schedule: Vec<Arrival>, interrupts: Vec<bool>) -> Self {
        Self {
            params,
            words: Default::default(),
            schedule: RefCell::new(schedule),
            interrupts: RefCell::new(interrupts),
            passed: Default::default(),
            lost: Cell::new(0),
        }
    }

    /// The next packet of the schedule, from its first access to its last.
    fn packet(&self) -> Option<(Arrival, SharedColour)> {
        let arrival = self.schedule.borrow_mut().pop()?;
        let interrupt = || {
            if self.interrupts.borrow_mut().pop() == Some(true) {
                self.packet();
            }
        };
        let [peak, committed] = self.words.each_ref().map(|word| Raced { word, before_access: &interrupt });
        let said =
            trtcm::mark_shared(&self.params, &peak, &committed, arrival.now, arrival.cost, Colour::Green);
        let bytes = arrival.cost.get();
        if said.colour != Colour::Red {
            self.passed[0].set(self.passed[0].get() + bytes);
        }
        if said.colour == Colour::Green {
            self.passed[1].set(self.passed[1].get() + bytes);
        }
        self.lost.set(self.lost.get() + u32::from(said.lost));
        Some((arrival, said))
    }
}

#[test]
fn a_packet_that_loses_every_swap_is_a_shade_darker_and_says_so() {
    let params = TrtcmParams { peak: meter(2_500_000, 90_000), committed: meter(1_250_000, 60_000) };
    let arrival = |length| Arrival { now: Nanos::from_millis(1), cost: Bytes::new(length) };
    // Each swap of the peak word finds that another packet was there since the read, and that one is not interrupted.
    let lost_at_peak: Vec<bool> = (0..gcra::SWAP_ATTEMPTS)
        .flat_map(|_| [[false, true].as_slice(), &[false; 4]].concat())
        .rev()
        .collect();
    let race = Race::new(params, vec![arrival(1_000); 10], lost_at_peak);
    let (_, said) = race.packet().unwrap();
    assert_eq!(said, SharedColour { colour: Colour::Red, lost: true });
    // The others are green, every one of them.
    assert_eq!((race.passed[0].get(), race.passed[1].get(), race.lost.get()), (4_000, 4_000, 1));
    // The same at the committed word alone.
    let lost_at_committed = std::iter::once(vec![false; 2])
        .chain((0..gcra::SWAP_ATTEMPTS).map(|_| [[false, true].as_slice(), &[false; 4]].concat()))
        .flatten()
        .collect::<Vec<bool>>();
    let race = Race::new(params, vec![arrival(1_000); 10], lost_at_committed.into_iter().rev().collect());
    let (_, said) = race.packet().unwrap();
    assert_eq!(said, SharedColour { colour: Colour::Yellow, lost: true });
    assert_eq!((race.passed[0].get(), race.passed[1].get(), race.lost.get()), (5_000, 4_000, 1));
}

/// Two CPUs flood both buckets, on a clock that only they move.
#[test]
fn two_real_cpus_pass_no_more_than_either_rate_and_nearly_all_of_it() {
    const STEPS: u64 = 200_000;
    const GAP: u64 = 1_000;
    let params = TrtcmParams { peak: meter(2_500_000, 9_000), committed: meter(1_250_000, 6_000) };
    let (words, clock) = ([Atomic::default(), Atomic::default()], AtomicU64::new(1_000_000));
    let passed: [AtomicU64; 2] = Default::default();
    let lost = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for cpu in 0..2_u64 {
            let (params, words, clock, passed, lost) = (&params, &words, &clock, &passed, &lost);
            scope.spawn(move || {
                for step in 0..STEPS {
                    let now = Nanos::from_nanos(clock.fetch_add(GAP, SeqCst));
                    let cost = Bytes::new(64 + (step * 37 + cpu * 11) % 1_400);
                    let [peak, committed] = words;
                    let said = trtcm::mark_shared(params, peak, committed, now, cost, Colour::Green);
                    let colours = [said.colour != Colour::Red, said.colour == Colour::Green];
                    for (passed, yes) in passed.iter().zip(colours) {
                        passed.fetch_add(cost.get() * u64::from(yes), SeqCst);
                    }
                    lost.fetch_add(u64::from(said.lost), SeqCst);
                }
            });
        }
    });
    let elapsed = 2 * STEPS * GAP;
    for (passed, rate, burst) in [(&passed[0], 2_500_000, 9_000), (&passed[1], 1_250_000, 6_000)] {
        let (passed, due) = (passed.load(SeqCst), elapsed * rate / 1_000_000_000);
        assert!(passed <= due + burst + 1, "{passed} of {due}");
        // 700 bytes every microsecond are offered, 280 times the peak rate.
        assert!(passed >= due * 99 / 100, "{passed} of {due}, {lost:?} lost");
    }
}

proptest! {
    /// CPUs that come between each other's reads and swaps in any way, with clocks that differ by up to 1 us.
    #[test]
    fn racing_cpus_never_pass_more_than_either_rate(
        arrivals in prop::collection::vec((0u64..200_000, 0u64..1_000, 64u64..1515), 1..800),
        interrupts in prop::collection::vec(any::<bool>(), 0..4_000),
    ) {
        let params = TrtcmParams { peak: meter(2_500_000, 9000), committed: meter(1_250_000, 6000) };
        let start = 1_000_000u64;
        let (mut clock, mut offered) = (start, 0);
        let mut schedule = Vec::new();
        for (gap, late, length) in arrivals {
            clock += gap;
            offered += length;
            schedule.push(Arrival { now: Nanos::from_nanos(clock - late), cost: Bytes::new(length) });
        }
        schedule.reverse();
        let race = Race::new(params, schedule, interrupts);
        loop {
            // The packets that came in between are older than the next one of the schedule.
            let latest = race.schedule.borrow().last().map_or(clock, |next| next.now.as_nanos() + 1_000);
            for (passed, rate, burst) in [(&race.passed[0], 2_500_000, 9000), (&race.passed[1], 1_250_000, 6000)] {
                prop_assert!(passed.get() <= burst + (latest - start) * rate / 1_000_000_000 + 1);
            }
            if race.packet().is_none() {
                break;
            }
        }
        prop_assert!(race.passed[1].get() <= race.passed[0].get() && race.passed[0].get() <= offered);
    }

    /// Where nobody interferes, the words that CPUs share say what the marker says, of two rates and of one.
    #[test]
    fn without_a_race_the_shared_words_are_the_marker(
        arrivals in prop::collection::vec((0u64..20_000_000, 64u64..1515, 0u32..3), 1..200),
    ) {
        let params = TrtcmParams { peak: meter(250_000, 6000), committed: meter(125_000, 4000) };
        let words: [Atomic; 3] = Default::default();
        let [peak, committed, single] = &words;
        let (mut vars, mut alone, mut now) = (TrtcmVars::default(), TrtcmVars::default(), Nanos::ZERO);
        // One rate is two rates of which the peak never speaks.
        let one = TrtcmParams { peak: meter(1 << 30, 1 << 30), ..params };
        for (gap, length, arrived) in arrivals {
            now = now.saturating_add(Nanos::from_nanos(gap));
            let cost = Bytes::new(length);
            let arrived = [Colour::Green, Colour::Yellow, Colour::Red][arrived as usize];
            let (want, after) = trtcm::mark(&params, vars, now, cost, arrived);
            vars = after;
            let said = trtcm::mark_shared(&params, peak, committed, now, cost, arrived);
            prop_assert_eq!(said, SharedColour { colour: want, lost: false });
            prop_assert!(want >= arrived);
            prop_assert_eq!((peak.load(), committed.load()), (vars.peak_tat, vars.committed_tat));
            let (two, after) = trtcm::mark(&one, alone, now, cost, arrived);
            alone = after;
            let want = if two == Colour::Green { Colour::Green } else { Colour::Red };
            let said = trtcm::mark_single_shared(&one.committed, single, now, cost, arrived);
            prop_assert_eq!((said, single.load()), (SharedColour { colour: want, lost: false }, alone.committed_tat));
        }
    }
}
