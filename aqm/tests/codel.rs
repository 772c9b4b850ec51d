//! CoDel: the cadence, the enqueue form's invariants, and Linux's arithmetic.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // the helpers of tests are tests too

use proptest::prelude::*;
use serde_json::Value;
use weir_aqm::codel::dequeue::{DequeueVars, Head, Queue};
use weir_aqm::codel::linux::{self, LinuxVars};
use weir_aqm::inv_sqrt::{INTERVAL_MAX, interval_over_sqrt};
use weir_aqm::{Bytes, CodelParams, CodelVars, Nanos};

const PARAMS: CodelParams = CodelParams::internet(Bytes::new(1514));
const BACKLOG: Bytes = Bytes::new(100_000);

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).expect("a vector file is JSON")
}

fn rows(value: &Value) -> impl Iterator<Item = Vec<u64>> + '_ {
    let rows = value.as_array().expect("rows");
    rows.iter().map(|row| row.as_array().expect("row").iter().filter_map(Value::as_u64).collect())
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("numbers").iter().filter_map(Value::as_f64).collect()
}

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

/// A queue that never drains and whose head has always waited 10 ms.
#[derive(Default)]
struct Overload {
    mark: bool,
    drops: u32,
    marks: u32,
}

impl Queue for Overload {
    type Packet = ();

    fn pop(&mut self, _now: Nanos) -> Option<Head<()>> {
        Some(Head { packet: (), sojourn: ms(10), backlog: BACKLOG })
    }

    fn mark(&mut self, _packet: &mut ()) -> bool {
        self.marks += u32::from(self.mark);
        self.mark
    }

    fn drop(&mut self, _packet: ()) {
        self.drops += 1;
    }
}

/// Signal times under constant overload, a packet every `spacing_ns` from time zero.
fn enqueue_signals(spacing_ns: u64, end: Nanos) -> Vec<u64> {
    let mut vars = CodelVars::default();
    (0..=end.as_nanos() / spacing_ns)
        .map(|i| i * spacing_ns)
        .filter(|&now| vars.on_enqueue(&PARAMS, Nanos::from_nanos(now), ms(10), BACKLOG).is_signal())
        .collect()
}

fn dequeue_signals(spacing_ns: u64, end: Nanos) -> Vec<u64> {
    let (mut vars, mut queue) = (DequeueVars::default(), Overload::default());
    let mut times = Vec::new();
    for now in (0..=end.as_nanos()).step_by(spacing_ns as usize) {
        let before = queue.drops;
        vars.on_dequeue(&PARAMS, Nanos::from_nanos(now), &mut queue);
        times.extend((before..queue.drops).map(|_| now));
    }
    times
}

fn follows_the_ideal_cadence(signals: &[u64], spacing_ns: u64) {
    let schedule = vectors(include_str!("vectors/codel_schedule.json"));
    let spacing_ms = spacing_ns as f64 / 1e6;
    // The first signal falls on the first packet after the interval; the schedule counts from there.
    let first_late = signals[0] as f64 / 1e6 - 100.0;
    assert!((0.0..spacing_ms).contains(&first_late));
    for (i, ideal) in numbers(&schedule["ideal_ms"]["times"]).into_iter().enumerate() {
        let late = signals[i] as f64 / 1e6 - ideal - first_late;
        assert!((-0.01..=spacing_ms + 0.01).contains(&late), "signal {i}: {late} ms late");
    }
    for (end_ms, count) in schedule["ideal_signals_by_T_ms"].as_object().expect("counts") {
        let end_ns = end_ms.parse::<u64>().expect("ms") * 1_000_000;
        if signals.last().is_some_and(|&last| last < end_ns) {
            continue;
        }
        let seen = signals.iter().filter(|&&at| at <= end_ns).count() as f64;
        let ideal = count.as_f64().expect("count");
        assert!((seen / ideal - 1.0).abs() <= 0.02, "{end_ms} ms: {seen} signals of {ideal}");
    }
}

#[test]
fn rfc8289_cadence_at_enqueue() {
    for spacing in [120_000, 1_000_000] {
        follows_the_ideal_cadence(&enqueue_signals(spacing, ms(6_000)), spacing);
    }
}

#[test]
fn rfc8289_cadence_at_dequeue() {
    for spacing in [120_000, 1_000_000] {
        follows_the_ideal_cadence(&dequeue_signals(spacing, ms(6_000)), spacing);
    }
}

#[test]
fn linux_schedule_is_met_bit_for_bit() {
    let schedule = vectors(include_str!("vectors/codel_schedule.json"));
    let mut checked = 0;
    for (name, times) in schedule["ticks"].as_object().expect("ticks") {
        let spacing = match name.rsplit('_').next().expect("spacing") {
            "1ms" => 976,
            "120us" => 117,
            "1.024us" => 1,
            other => panic!("unknown spacing {other}"),
        };
        let mut vars = LinuxVars::default();
        let mut queue = Overload { mark: name.contains("mark"), ..Overload::default() };
        let mut signals = Vec::new();
        let mut tick = 0;
        let expected = numbers(times);
        while signals.len() < expected.len() {
            let before = queue.drops + queue.marks;
            vars.on_dequeue(&PARAMS, Nanos::from_nanos(tick << 10), &mut queue);
            signals.extend((before..queue.drops + queue.marks).map(|_| tick as f64));
            tick += spacing;
        }
        assert_eq!(signals, expected, "{name}");
        checked += 1;
    }
    assert_eq!(checked, 5);
}

#[test]
fn linux_newton_step_is_met_bit_for_bit() {
    let newton = vectors(include_str!("vectors/codel_newton.json"));
    let mut checked = 0;
    for row in rows(&newton["ns3_grid"]).chain(rows(&newton["random"])) {
        assert_eq!(u64::from(linux::newton_step(row[0] as u16, row[1] as u32)), row[2], "{row:?}");
        checked += 1;
    }
    assert!(checked > 64);
    let (mut rec, mut count) = (u16::MAX, 1);
    for row in newton["sequence_from_0xFFFF"]["rows"].as_array().unwrap() {
        while count < row[0].as_u64().unwrap() as u32 {
            count += 1;
            rec = linux::newton_step(rec, count);
        }
        assert_eq!(u64::from(rec), row[1].as_u64().unwrap(), "{row}");
    }
    for jump in newton["count_jumps"].as_array().unwrap() {
        let field = |name: &str| jump[name].as_u64().unwrap();
        let after = linux::newton_step(field("rec_before") as u16, field("to_count") as u32);
        assert_eq!(u64::from(after), field("rec_after_one_step"), "{jump}");
    }
}

#[test]
fn linux_control_law_is_met_bit_for_bit() {
    let law = vectors(include_str!("vectors/codel_control_law.json"));
    let mut checked = 0;
    for row in rows(&law["rows"]) {
        let next = linux::control_law(row[0] as u32, row[1] as u32, row[2] as u16);
        assert_eq!(u64::from(next), row[3], "{row:?}");
        checked += 1;
    }
    assert!(checked > 200);
    assert_eq!(u64::from(linux::ticks(PARAMS.target)), law["constants"]["target_5ms"].as_u64().unwrap());
    assert_eq!(
        u64::from(linux::ticks(PARAMS.interval)),
        law["constants"]["interval_100ms"].as_u64().unwrap()
    );
}

/// The vectors' quality bound is 0.2 %; any path leads to the same value, the function having no memory.
#[test]
fn inverse_square_root_is_within_3e_5_for_every_count() {
    for count in 1..=70_000u32 {
        let ideal = 1e9 / f64::from(count).sqrt();
        let got = interval_over_sqrt(Nanos::from_secs(1), count).as_nanos() as f64;
        assert!((got - ideal).abs() <= ideal * 3e-5 + 1.0, "{count}: {got} for {ideal}");
    }
    assert_eq!(interval_over_sqrt(ms(100), 0), ms(100));
    assert_eq!(interval_over_sqrt(ms(100), 4), ms(50));
    assert_eq!(interval_over_sqrt(Nanos::MAX, 1), INTERVAL_MAX);
    assert!(interval_over_sqrt(Nanos::MAX, u32::MAX) > Nanos::ZERO);
}

#[test]
fn a_queue_below_target_or_of_one_packet_is_never_signalled() {
    let mut vars = CodelVars::default();
    for i in 0..10_000 {
        let now = ms(i);
        assert!(!vars.on_enqueue(&PARAMS, now, Nanos::from_micros(4_999), BACKLOG).is_signal());
        assert!(vars.is_idle());
        assert!(!vars.on_enqueue(&PARAMS, now, ms(900), PARAMS.max_packet).is_signal());
        assert!(vars.is_idle());
    }
}

/// A 64 kB burst every 10 ms: above target for less than an interval each time.
#[test]
fn bursts_that_drain_within_an_interval_pass_untouched() {
    let mut vars = CodelVars::default();
    for burst in 0..1_000u64 {
        for packet in 0..43 {
            let sojourn = Nanos::from_micros(packet * 200);
            let verdict = vars.on_enqueue(&PARAMS, ms(burst * 10), sojourn, Bytes::new(packet * 1514));
            assert!(!verdict.is_signal());
        }
    }
}

#[test]
fn first_packet_after_idle_is_not_signalled() {
    let mut vars = CodelVars::default();
    for i in 0..1_000 {
        let _ = vars.on_enqueue(&PARAMS, ms(i), ms(10), BACKLOG);
    }
    assert!(vars.dropping && !vars.is_idle());
    // The last packet waited 10 ms: 10 ms later the queue was empty.
    assert!(!vars.on_enqueue(&PARAMS, ms(1_009), ms(10), BACKLOG).is_signal());
    assert!(!vars.dropping && vars.first_above == ms(1_109));
}

#[test]
fn an_episode_soon_after_another_resumes_its_cadence() {
    let mut vars = CodelVars::default();
    for i in 0..1_000 {
        let _ = vars.on_enqueue(&PARAMS, ms(i), ms(10), BACKLOG);
    }
    let count = vars.count;
    assert!(count > 20);
    let resumes_after = |gap: u64| {
        let mut vars = vars;
        let _ = vars.on_enqueue(&PARAMS, ms(1_000), ms(1), BACKLOG);
        for i in 0.. {
            if vars.on_enqueue(&PARAMS, ms(1_000 + gap + i), ms(10), BACKLOG).is_signal() {
                return vars.count;
            }
        }
        unreachable!()
    };
    assert_eq!(resumes_after(50), count - 1);
    assert_eq!(resumes_after(2_000), 1);
}

#[test]
fn a_schedule_that_is_late_is_resynchronised_and_not_caught_up() {
    let mut vars = CodelVars::default();
    for i in 0..5_000 {
        let _ = vars.on_enqueue(&PARAMS, ms(i), ms(3_000), BACKLOG);
    }
    // Two seconds without an arrival, in front of a queue of three: hundreds of signals are overdue.
    let now = ms(7_000);
    assert!(vars.on_enqueue(&PARAMS, now, ms(3_000), BACKLOG).is_signal());
    assert!(!vars.on_enqueue(&PARAMS, now, ms(3_000), BACKLOG).is_signal());
}

#[test]
fn codel_recovers_from_a_clock_that_steps_back() {
    let mut vars = CodelVars::default();
    let hour = Nanos::from_secs(3_600).as_nanos();
    for i in 0..1_000 {
        let _ = vars.on_enqueue(&PARAMS, Nanos::from_nanos(hour + i * 1_000_000), ms(10), BACKLOG);
    }
    let after: Vec<u64> =
        (0..2_000).filter(|&i| vars.on_enqueue(&PARAMS, ms(i), ms(10), BACKLOG).is_signal()).collect();
    assert!(after[0] <= 101, "silent for {} ms", after[0]);
    assert!(after.len() < 400);
}

proptest! {
    #[test]
    fn signals_keep_their_distance_and_state_its_bounds(
        steps in prop::collection::vec((-2_000_000i64..20_000_000, 0u64..40_000_000, 0u64..200_000), 1..400),
    ) {
        let mut vars = CodelVars::default();
        let mut now = 1_000_000_000u64;
        for (gap, sojourn, backlog) in steps {
            now = now.saturating_add_signed(gap);
            let before = vars;
            let at = Nanos::from_nanos(now);
            let verdict = vars.on_enqueue(&PARAMS, at, Nanos::from_nanos(sojourn), Bytes::new(backlog));
            prop_assert!(vars.drop_next <= at.saturating_add(PARAMS.interval));
            prop_assert!(vars.count <= 65_535);
            if verdict.is_signal() {
                prop_assert!(sojourn >= PARAMS.target.as_nanos() && backlog > PARAMS.max_packet.get());
                prop_assert!(vars.count <= before.count + 1);
                prop_assert!(vars.drop_next > before.drop_next.min(at));
            }
            // An empty queue between two arrivals leaves no episode behind.
            if gap > 0 && gap.unsigned_abs() >= before.last_sojourn.as_nanos() && before.last_arrival != Nanos::ZERO {
                prop_assert!(!vars.dropping);
            }
        }
    }
}
