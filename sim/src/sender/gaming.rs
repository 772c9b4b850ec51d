//! A game server.

use weir_aqm::Nanos;

use super::{Outbox, Outgoing, Sender, UDP_HEADERS};
use crate::{Ecn, Random};

/// Updates of a Counter-Strike server to one player: intervals and payloads after Färber, "Network game traffic modelling"
/// (NetGames 2002), both of the extreme value distribution: 55 ms and 6 ms, 120 bytes and 36 bytes.
#[derive(Clone, Debug)]
pub struct Gaming {
    random: Random,
    next_number: u64,
    stopped: bool,
}

/// Location and scale.
const INTERVAL_NS: (f64, f64) = (55e6, 6e6);
const PAYLOAD_BYTES: (f64, f64) = (120.0, 36.0);
/// What a frame of 1,514 bytes can carry.
const MOST_BYTES: f64 = 1472.0;

impl Gaming {
    /// One player's.
    pub const fn new(random: Random) -> Self {
        Self { random, next_number: 0, stopped: false }
    }

    /// Gumbel's distribution for maxima, by its inverse.
    fn extreme(&mut self, (location, scale): (f64, f64)) -> f64 {
        let exponential = self.random.exponential(1.0).max(f64::MIN_POSITIVE);
        location - scale * libm::log(exponential)
    }
}

impl Sender for Gaming {
    fn wake(&mut self, now: Nanos, out: &mut Outbox) {
        if self.stopped {
            return;
        }
        let payload = self.extreme(PAYLOAD_BYTES).round().clamp(1.0, MOST_BYTES) as u32;
        let bytes = payload.saturating_add(UDP_HEADERS);
        out.send(Outgoing::datagram(self.next_number, bytes, Ecn::NotEct));
        self.next_number = self.next_number.wrapping_add(1);
        let interval = self.extreme(INTERVAL_NS).round().max(1.0) as u64;
        out.wake_at(now.saturating_add(Nanos::from_nanos(interval)));
    }

    fn stop(&mut self, _now: Nanos) {
        self.stopped = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_and_sizes_have_the_means_of_the_extreme_value_distribution() {
        let (mut gaming, mut out) = (Gaming::new(Random::new(1)), Outbox::default());
        let (mut now, mut payload) = (Nanos::ZERO, 0);
        let n = 100_000;
        for _ in 0..n {
            gaming.wake(now, &mut out);
            let (packets, wake_at) = out.take();
            payload += packets.map(|packet| u64::from(packet.payload)).sum::<u64>();
            now = wake_at.unwrap();
        }
        // Location and Euler's constant times scale.
        let euler = 0.577_215_7;
        let (interval, size) = (now.as_nanos() as f64 / n as f64, payload as f64 / n as f64);
        assert!((interval / (55e6 + euler * 6e6) - 1.0).abs() < 0.005, "{interval}");
        assert!((size / (120.0 + euler * 36.0) - 1.0).abs() < 0.005, "{size}");
    }
}
