//! The lab's `fast-to-slow` at four rates, three contenders and three seeds: `cargo run --release -p weir-sim --example
//! fast-to-slow`. Delays are the probe's one-way delay above the base of 10 ms.

use weir_aqm::{Nanos, Rate};
use weir_shared_maps::{AQM_PI2, PortConfig};
use weir_sim::{Congestion, Contender, Delays, Flow, Path, Scenario, port_config};

const DELAY: Nanos = Nanos::from_millis(10);

fn scenario(contender: Contender, mbit: u64, seed: u64) -> Scenario {
    let path = Path::new(Rate::from_bits_per_second(mbit * 1_000_000), DELAY, 1000);
    let cubic = Flow::bulk(Congestion::Cubic, false).jittered(Nanos::from_millis(100)).times(2);
    let flows = vec![cubic, Flow::probe(Nanos::from_millis(10))];
    Scenario { seed, flows, ..Scenario::new(path, contender, Nanos::from_secs(30)) }
}

fn main() {
    let pi2 = PortConfig { aqm: AQM_PI2, ..port_config() };
    let contenders = [
        ("redirect", Contender::Redirect),
        ("codel at the head", Contender::Codel),
        ("weir, codel", Contender::weir()),
        ("weir, pi2", Contender::Weir(Box::new(pi2))),
    ];
    println!("| Mbit/s | contender | seed | utilisation | p50 ms | p99 ms | max ms | drops |");
    println!("|---|---|---|---|---|---|---|---|");
    for mbit in [2, 10, 50, 200] {
        for (name, contender) in &contenders {
            for seed in 1..=3 {
                let outcome = scenario(contender.clone(), mbit, seed).run();
                let Delays { p50, p99, max, .. } =
                    outcome.flows.last().map_or_else(Delays::default, |f| f.delay);
                let [p50, p99, max] =
                    [p50, p99, max].map(|d| d.saturating_sub(DELAY).as_nanos() as f64 / 1e6);
                let utilisation = 100.0 * outcome.utilisation;
                let drops: Vec<String> =
                    outcome.drops.iter().map(|(cause, n)| format!("{cause} {n}")).collect();
                let drops = drops.join(", ");
                println!(
                    "| {mbit} | {name} | {seed} | {utilisation:.1} % | {p50:.1} | {p99:.1} | {max:.1} | {drops} |"
                );
            }
        }
    }
}
