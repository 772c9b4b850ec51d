//! Memory does not grow with link time.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use peak_alloc::PeakAlloc;
use weir_aqm::{Nanos, Rate};
use weir_sim::{Congestion, Contender, Ecn, Flow, FlowSizes, Path, Scenario, Traffic};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Most bytes on the heap at once in a run of so many seconds of a link at 1 Mbit/s.
fn peak(seconds: u64) -> usize {
    let path =
        Path { cpus: 2, ..Path::new(Rate::from_bits_per_second(1_000_000), Nanos::from_millis(10), 500) };
    let short = Traffic::Short {
        congestion: Congestion::Reno,
        ecn: false,
        mean: Nanos::from_millis(500),
        sizes: FlowSizes::Fixed(10_000),
    };
    let flood = Rate::from_bits_per_second(300_000);
    let mut scenario = Scenario::new(path, Contender::weir(), Nanos::from_secs(seconds));
    scenario.flows = vec![
        Flow::bulk(Congestion::Cubic, true).times(3),
        Flow::new(short),
        Flow::new(Traffic::Constant { rate: flood, bytes: 500, ecn: Ecn::NotEct }),
    ];
    HEAP.reset_peak_usage();
    let outcome = scenario.run();
    assert!(outcome.utilisation > 0.9 && outcome.flows.iter().all(|flow| flow.delivered > 50 * seconds / 10));
    HEAP.peak_usage()
}

#[test]
fn an_hour_takes_no_more_memory_than_five_minutes() {
    let (short, long) = (peak(300), peak(3600));
    assert!(long < short + short / 10, "{short} bytes, then {long}");
}
