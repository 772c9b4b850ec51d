//! Mean windows against formulas that nobody here wrote: `tests/vectors/tcp_models.json`.

use serde_json::Value;
use weir_aqm::Nanos;

use super::{
    super::{Sender, congestion::*, tcp::Tcp},
    close,
    path::{Chance, MiniPath},
};
use crate::Ecn;

const RTT: Nanos = Nanos::from_millis(100);

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/vectors/tcp_models.json")).unwrap()
}

/// Mean window over the time of `packets`, after a quarter of it to settle in.
fn mean_window(sender: &mut dyn Sender, path: &MiniPath, expected: f64, packets: f64) -> f64 {
    let time = Nanos::from_nanos((packets / expected * path.rtt.as_nanos() as f64) as u64);
    let warm = Nanos::from_nanos(time.as_nanos() / 4).max(Nanos::from_secs(3));
    path.run(sender, warm, warm.saturating_add(time)).mean_window(path.rtt)
}

fn reno() -> Tcp<Reno> {
    Tcp::new(Reno::new(Ecn::NotEct), None)
}

fn lossy(p: f64, rtt: Nanos) -> MiniPath {
    MiniPath { loss: Chance::Each((1.0 / p).round() as u64), ..MiniPath::wide(rtt) }
}

/// Loss probabilities and mean windows of Reno.
fn mathis() -> Vec<(f64, f64)> {
    let vectors = vectors();
    let rows = vectors["reno"]["rows"].as_array().unwrap().iter();
    rows.map(|row| (row[0].as_f64().unwrap(), row[1].as_f64().unwrap())).filter(|row| row.0 >= 1e-4).collect()
}

#[test]
fn reno_under_periodic_loss_follows_mathis() {
    for (p, expected) in mathis() {
        let found = mean_window(&mut reno(), &lossy(p, RTT), expected, 10.0 / p);
        // A round without growth follows each reduction; it counts where a cycle has few rounds.
        let tolerance = if p > 5e-3 { 0.10 } else { 0.05 };
        assert!(close(found, expected, tolerance), "{p}: {found} against {expected}");
    }
}

#[test]
fn reno_under_random_loss_follows_mathis() {
    for (p, expected) in mathis() {
        if p < 1e-3 {
            continue;
        }
        let path = MiniPath { loss: Chance::Random(p), ..MiniPath::wide(RTT) };
        let found = mean_window(&mut reno(), &path, expected, 150.0 / p);
        assert!(close(found, expected, 0.10), "{p}: {found} against {expected}");
    }
}

#[test]
fn rfc_5681_byte_counting_grows_as_fast_under_delayed_acknowledgements() {
    // Were acknowledgements counted instead of bytes, the mean would be 0.866 / sqrt(p).
    let (p, expected) = (1e-3, 38.73);
    let path = MiniPath { ack_every: 2, ..lossy(p, RTT) };
    let found = mean_window(&mut reno(), &path, expected, 30.0 / p);
    assert!(close(found, expected, 0.07), "{found} against {expected}");
}

#[test]
fn rfc_9438_tables_1_and_2_average_windows_of_cubic() {
    // The next row takes too long without optimisation.
    let rows = if cfg!(debug_assertions) { 3 } else { 4 };
    let vectors = vectors();
    for (rtt, table) in [(100, "table_rtt_0p1"), (10, "table_rtt_0p01")] {
        let windows = &vectors["cubic_rfc9438"][table]["cubic_C0p4"];
        for (i, p) in [1e-2, 1e-3, 1e-4, 1e-5].into_iter().enumerate().take(rows) {
            let expected = windows[i].as_f64().unwrap();
            let path = lossy(p, Nanos::from_millis(rtt));
            let packets = if p < 5e-5 { 20.0 / p } else { (8.0 / p).max(4e4) };
            let mut cubic = Tcp::new(Cubic::new(Ecn::NotEct), None);
            let found = mean_window(&mut cubic, &path, expected, packets);
            assert!(close(found, expected, 0.12), "{rtt} ms, {p}: {found} against {expected}");
        }
    }
}

/// Mean window under independent marks, times the probability of one. The window forgets in about `2 / p` rounds, so that a mean
/// over so many packets is good to some per cent.
fn scalable(sender: &mut dyn Sender, p: f64, rtt: Nanos) -> f64 {
    let path = MiniPath { mark: Chance::Random(p), ..MiniPath::wide(rtt) };
    p * mean_window(sender, &path, 2.0 / p, (4e3 / p).max(8e4))
}

const MARKS: [f64; 5] = [0.02, 0.05, 0.1, 0.2, 0.3];

/// Mean of `p W` where growth and reductions balance: `growth` packets a round, and half of `p W` in each round with a mark,
/// of which there are `1 - (1 - p)^W`. It were 2 for one packet a round, as the fluid model says, if each round had a mark.
/// The mean of the sawtooth is half a tooth below its peak.
fn balance(p: f64, growth: f64) -> f64 {
    let peak = (0..100).fold(2.0, |x: f64, _| 2.0 * growth / (1.0 - (1.0 - p).powf(x / p)));
    peak * (1.0 - p / 4.0)
}

#[test]
fn dctcp_under_random_marks_keeps_two_marks_a_round() {
    for p in MARKS {
        let found = scalable(&mut Tcp::new(Dctcp::new(), None), p, RTT);
        assert!(close(found, 2.0, 0.13), "{p}: {found} against the fluid model");
        assert!(close(found, balance(p, 1.0), 0.07), "{p}: {found} against {}", balance(p, 1.0));
    }
}

#[test]
fn prague_under_random_marks_balances_the_growth_of_unmarked_packets() {
    for p in MARKS {
        let found = scalable(&mut Tcp::new(Prague::new(), None), p, RTT);
        let expected = balance(p, 1.0 - p);
        assert!(close(found, expected, 0.07), "{p}: {found} against {expected}");
    }
}

#[test]
fn prague_at_a_short_round_trip_time_grows_as_slowly_as_at_25_ms() {
    let path = |ms| MiniPath { mark: Chance::Of(vec![50]), ..MiniPath::wide(Nanos::from_millis(ms)) };
    // Packets a second gained in two seconds of congestion avoidance, after the mark ended slow start.
    let gained = |ms| {
        let rate = |seconds| {
            let mut prague = Tcp::new(Prague::new(), None);
            path(ms).run(&mut prague, Nanos::ZERO, Nanos::from_secs(seconds));
            prague.control().window() / (ms as f64 / 1e3)
        };
        rate(3) - rate(1)
    };
    let (short, reference) = (gained(5), gained(25));
    assert!(close(short, reference, 0.10), "{short} against {reference}");
}
