//! The rival that weir's fairness is compared with, on the real kernel.

use weir::experiment::Experiment;
use weir::lab::{Stop, run};

use crate::privileged;

/// Half of the link for a flow a little above its share whose packets can be marked, and two that ask for far more. The ring
/// never fills.
const FLOODS: &str = r#"
name = "floods"
duration = "4s"
warmup = "1s"
contenders = ["csfq"]
shaper.rate = "9mbit"
[link]
rate = "20mbit"
delay = "1ms"
ring = 500
[[udp]]
rate = "3500kbit"
ecn = "ect0"
[[udp]]
rate = "10mbit"
[[udp]]
rate = "20mbit"
"#;

#[test]
fn csfq_divides_its_rate_evenly_keeps_it_and_gives_every_drop_a_cause() {
    let Some(_machine) = privileged("csfq_divides_its_rate_evenly") else { return };
    // Ethernet, IP and UDP.
    for (family, headers) in [("ipv4", 14 + 20 + 8), ("ipv6", 14 + 40 + 8)] {
        let text = FLOODS.replace("[link]", &format!("family = \"{family}\"\n[link]"));
        let experiment = Experiment::parse("floods.toml", &text).unwrap();
        let report = run(&experiment, &Stop::default(), &mut ()).unwrap();
        assert!(report.failed.is_empty() && report.skipped.is_empty(), "{:?}", report.failed);
        let run = &report.runs[0];
        let lab = run.lab.unwrap();

        let known: u64 = run.drops.values().sum();
        assert_eq!(run.offered_pkts, run.delivered_pkts + known, "{family}: {:?}", run.drops);
        assert_eq!((run.silent_drops, lab.link_errors, run.ring_drops.unwrap_or(0)), (0, 0, 0));
        let counters = &run.classes[0].counters;
        assert_eq!(counters["seen"], run.offered_pkts, "{family}: {counters:?}");
        assert_eq!(counters["accepted"], run.delivered_pkts, "{family}: {counters:?}");
        assert!(run.drops["fairness"] > known / 2, "{family}: {:?}", run.drops);
        // A flow near its share is told by marks where it understands them.
        assert!(run.marks > 0, "{family}: {counters:?}");
        assert_eq!(run.marks, lab.ce_delivered_pkts, "{family}");

        let [_, ten, twenty] = [0, 1, 2].map(|flow| run.flows[flow].goodput_bps as f64);
        assert!((ten / twenty - 1.0).abs() < 0.2, "{family}: {ten} and {twenty} bit/s");
        // Over the whole time, and in the middle one of the windows of 100 ms: a busy machine takes some from the senders.
        let rate = lab.delivered_bps as f64 / 9e6;
        let mut windows: Vec<u64> = run.samples.goodput.iter().skip(10).map(|point| point.bps).collect();
        windows.sort_unstable();
        let median = windows[windows.len() / 2] as f64 * (1_200 + headers) as f64 / 1_200.0 / 9e6;
        eprintln!(
            "{family}: {ten} and {twenty} bit/s, {rate:.4} and {median:.4} of the rate, {} marks",
            run.marks
        );
        assert!(rate < 1.01 && (0.95..1.05).contains(&median), "{family}: {rate} and {median} of the rate");
    }
}

#[test]
fn what_the_ring_refuses_is_told_from_what_csfq_drops() {
    let Some(_machine) = privileged("what_the_ring_refuses_is_told_from_what_csfq_drops") else { return };
    // More than the link carries is let through.
    let text = FLOODS.replace("9mbit", "25mbit").replace("\"4s\"", "\"3s\"").replace("= 500", "= 100");
    let experiment = Experiment::parse("floods.toml", &text).unwrap();
    let report = run(&experiment, &Stop::default(), &mut ()).unwrap();
    let run = &report.runs[0];
    let refused = run.ring_drops.unwrap();
    assert!(refused > 0 && run.drops["fairness"] > 0, "{:?}", run.drops);
    assert_eq!(refused, run.silent_drops, "{:?}", run.drops);
    assert_eq!(run.classes[0].counters["accepted"], run.delivered_pkts + refused);
}
