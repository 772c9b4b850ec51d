//! Congestion controls, each in a file of its own, behind [`Control`].
//!
//! Windows are counted in full packets and rates in packets a second, as `f64`: only IEEE basic operations, square roots
//! and the `libm` crate, so that every machine computes the same.

mod bbr1;
mod bbr3;
mod cubic;
mod dctcp;
mod hystart;
mod marking;
mod prague;
mod reno;
mod round_max;

use weir_aqm::Nanos;

use crate::Ecn;

pub(super) use {bbr1::Bbr1, bbr3::Bbr3, cubic::Cubic, dctcp::Dctcp, prague::Prague, reno::Reno};

/// RFC 6928.
const INITIAL_WINDOW: f64 = 10.0;
/// RFC 5681 section 3.1, equation 4.
const LEAST_WINDOW: f64 = 2.0;
/// A full packet: 1,500 bytes of IP and Ethernet's header.
const FRAME_BYTES: f64 = 1514.0;

/// A congestion control: told what was acknowledged and lost, it says how much may be under way and how fast it leaves.
///
/// A clone taken before a timeout is put back if the timeout proves needless.
pub(super) trait Control: Clone {
    /// Packets that may be under way.
    fn window(&self) -> f64;

    /// `None`: packets leave as acknowledgements come.
    fn pacing(&self) -> Option<Pacing> {
        None
    }

    /// What its packets bear.
    fn ecn(&self) -> Ecn;

    /// What packets bear that are sent again: nothing (RFC 3168 section 6.1.5), but for controls that need ECN, as in Linux.
    fn ecn_again(&self) -> Ecn {
        Ecn::NotEct
    }

    /// An acknowledgement brought something new.
    fn on_ack(&mut self, ack: &AckSample);

    /// One packet was found lost; called for each, before [`Control::on_ack`].
    fn on_lost(&mut self, _lost: &LostSample) {}

    /// At most once a round, before [`Control::on_ack`].
    fn on_congestion(&mut self, ack: &AckSample, signal: Signal) -> Reaction;

    /// The retransmission timer fired. [`Reaction::Own`] counts as repairing until all is sent again; else the window
    /// grows at once.
    fn on_timeout(&mut self) -> Reaction;
}

/// What said that the path is congested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// A packet was lost.
    Loss,
    /// A packet was marked.
    Mark,
}

/// What a control did about a [`Signal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Nothing that counts as the round's reduction.
    Ignored,
    /// It sets its window itself, also while losses are repaired.
    Own,
    /// It lowered its window, which does not grow while losses are repaired; packets in flight glide down to it by
    /// proportional rate reduction.
    Gradual,
}

/// How packets are spaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pacing {
    /// Packets a second.
    pub rate: f64,
    /// Packets that leave back to back.
    pub quantum: f64,
}

/// What one acknowledgement told, with a delivery rate sample as in draft-ietf-ccwg-bbr.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckSample {
    /// When it arrived.
    pub now: Nanos,
    /// Round-trip time of the newest packet it covers.
    pub rtt: Nanos,
    /// Smoothed round-trip time.
    pub smoothed_rtt: Nanos,
    /// Packets newly acknowledged.
    pub delivered: f64,
    /// Packets that the receiver got since the acknowledgement before, repeated ones included.
    pub received: f64,
    /// Of these, how many bore Congestion Experienced.
    pub marked: f64,
    /// Packets newly found lost.
    pub lost: f64,
    /// Packets under way before it.
    pub prior_in_flight: f64,
    /// Packets under way now.
    pub in_flight: f64,
    /// A packet sent after the round before began was acknowledged: a new round begins.
    pub round_start: bool,
    /// Losses are being repaired.
    pub recovering: bool,
    /// The window kept the sender from sending more.
    pub window_limited: bool,
    /// Packets acknowledged in all.
    pub total_delivered: u64,
    /// The same when the newest packet covered was sent.
    pub prior_delivered: u64,
    /// Packets a second, measured over that packet's flight; zero if it could not be measured.
    pub rate: f64,
    /// Packets under way when that packet was sent, itself included.
    pub sent_in_flight: f64,
    /// Packets found lost since that packet was sent.
    pub lost_since: f64,
}

/// One lost packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct LostSample {
    /// Packets acknowledged in all.
    pub total_delivered: u64,
    /// Packets under way when it was sent, itself included.
    pub sent_in_flight: f64,
    /// Packets found lost since it was sent, itself included.
    pub lost_since: f64,
}

/// Seconds.
pub(super) fn seconds(time: Nanos) -> f64 {
    time.as_nanos() as f64 / 1e9
}

/// To the nearest nanosecond; negative times are zero.
pub(super) fn nanos(seconds: f64) -> Nanos {
    Nanos::from_nanos((seconds * 1e9).round() as u64)
}

#[cfg(test)]
impl AckSample {
    /// Of one packet, with nothing else to tell.
    fn of(rtt: Nanos) -> Self {
        Self {
            now: rtt,
            rtt,
            smoothed_rtt: rtt,
            delivered: 1.0,
            received: 1.0,
            marked: 0.0,
            lost: 0.0,
            prior_in_flight: 10.0,
            in_flight: 9.0,
            round_start: false,
            recovering: false,
            window_limited: true,
            total_delivered: 1,
            prior_delivered: 0,
            rate: 0.0,
            sent_in_flight: 10.0,
            lost_since: 0.0,
        }
    }
}
