//! What only one of the two can do: the lab has the real kernel, the simulator has everything it invents.

use std::ops::Range;

use toml::Spanned;
use weir_sim::Congestion;

use super::file::{Key, RawExperiment};
use super::model::{Claim, Claims, Family};

/// The congestion controls of the simulator, by their names in a file. `bbr` is the kernel's, version 1.
pub const CONGESTIONS: [(&str, Congestion); 6] = [
    ("cubic", Congestion::Cubic),
    ("reno", Congestion::Reno),
    ("bbr", Congestion::Bbr1),
    ("bbr3", Congestion::Bbr3),
    ("dctcp", Congestion::Dctcp),
    ("prague", Congestion::Prague),
];

const ONLY_SIMULATOR: &str = "only the simulator can do this: run the file with `weir sim`";

pub(super) fn claims(raw: &RawExperiment) -> Claims {
    Claims {
        refused_by_lab: only_simulator(raw)
            .into_iter()
            .map(|span| (span, ONLY_SIMULATOR.to_owned()))
            .collect(),
        refused_by_simulator: only_lab(raw),
    }
}

/// The places of everything that the lab cannot do, in the order of the tables here.
fn only_simulator(raw: &RawExperiment) -> Vec<Range<usize>> {
    let mut spans = Spans::default();
    spans.key(&raw.seed).key(&raw.seeds);
    let link = raw.link.get_ref();
    spans.key(&link.trace).key(&link.jitter).key(&link.loss).key(&link.ring_per_cpu).key(&link.reclaim);
    spans.key(&link.reverse_loss).key(&link.fast_rate).key(&link.cpus).key(&link.poll).key(&link.spill);
    for tcp in &raw.tcp {
        spans.key(&tcp.bytes).key(tcp.common().jitter);
    }
    for udp in raw.udp.iter().map(Spanned::get_ref) {
        spans.key(&udp.pattern).key(&udp.on).key(&udp.off).key(udp.common().jitter);
    }
    spans.0.extend(raw.short.iter().map(|short| short.congestion.span()));
    spans.0.extend(raw.sweep.iter().map(|sweep| sweep.key.span()));
    spans.0
}

#[derive(Default)]
struct Spans(Vec<Range<usize>>);

impl Spans {
    fn key<T>(&mut self, key: &Key<T>) -> &mut Self {
        self.0.extend(key.as_ref().map(Spanned::span));
        self
    }
}

fn only_lab(raw: &RawExperiment) -> Vec<Claim> {
    let mut claims = Vec::new();
    if let Some(family) = raw.family.as_ref().filter(|family| *family.get_ref() == Family::Ipv6) {
        let rule = "the simulator's frames are as long as IPv4's; only `weir lab` runs over IPv6";
        claims.push((family.span(), rule.to_owned()));
    }
    let named =
        raw.tcp.iter().map(|tcp| &tcp.congestion).chain(raw.short.iter().map(|short| &short.congestion));
    let known = CONGESTIONS.map(|(name, _)| name);
    for congestion in named.filter(|name| !known.contains(&name.get_ref().as_str())) {
        let (name, known) = (congestion.get_ref(), known.join(", "));
        let rule = format!("the simulator has no congestion control `{name}`; it has {known}");
        claims.push((congestion.span(), rule));
    }
    claims
}
