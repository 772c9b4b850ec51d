//! Senders that listen to nobody.

use weir_aqm::{Nanos, Rate};

use super::{
    super::{Outbox, Sender, sender},
    close,
};
use crate::{Ecn, Random, Traffic};

/// Frames, and bytes of them, that a sender sends in so many seconds if woken when it asks.
fn sent(sender: &mut dyn Sender, seconds: u64) -> (u64, u64) {
    let (mut now, mut out, mut frames, mut bytes) = (Nanos::ZERO, Outbox::default(), 0, 0);
    while now < Nanos::from_secs(seconds) {
        sender.wake(now, &mut out);
        let (packets, wake_at) = out.take();
        for packet in packets {
            frames += 1;
            bytes += u64::from(packet.bytes);
        }
        now = wake_at.unwrap();
    }
    (frames, bytes)
}

fn mean_rate(traffic: &Traffic, seconds: u64) -> f64 {
    let (_, bytes) = sent(sender(traffic, Random::new(1)).as_mut(), seconds);
    bytes as f64 * 8.0 / seconds as f64
}

#[test]
fn a_constant_rate_is_kept_to_the_frame() {
    let rate = Rate::from_bits_per_second(12_112_000);
    let traffic = Traffic::Constant { rate, bytes: 1514, ecn: Ecn::NotEct };
    assert_eq!(sent(sender(&traffic, Random::new(1)).as_mut(), 10), (10_000, 15_140_000));
}

#[test]
fn bursts_and_silences_share_the_time_as_asked_for() {
    let traffic = Traffic::OnOff {
        rate: Rate::from_bits_per_second(10_000_000),
        bytes: 1250,
        on: Nanos::from_millis(100),
        off: Nanos::from_millis(300),
    };
    // A burst begins with a frame, and half of an interval of a millisecond more in each of 100.
    let found = mean_rate(&traffic, 2_000);
    assert!(close(found, 2.5e6, 0.03), "{found}");
}

#[test]
fn itu_t_p_59_a_voice_talks_38_per_cent_of_the_time_at_50_frames_a_second() {
    let found = mean_rate(&Traffic::Voip, 20_000);
    assert!(close(found, 0.385 * 50.0 * 214.0 * 8.0, 0.03), "{found}");
}

#[test]
fn a_stopped_sender_falls_silent() {
    let rate = Rate::from_bits_per_second(1_000_000);
    let (on, off) = (Nanos::from_secs(1), Nanos::from_secs(1));
    for traffic in [
        Traffic::Constant { rate, bytes: 1000, ecn: Ecn::Ect1 },
        Traffic::OnOff { rate, bytes: 1000, on, off },
        Traffic::Voip,
        Traffic::Gaming,
    ] {
        let (mut sender, mut out) = (sender(&traffic, Random::new(1)), Outbox::default());
        sender.wake(Nanos::ZERO, &mut out);
        assert_eq!(out.take().0.count(), 1);
        sender.stop(Nanos::ZERO);
        sender.wake(Nanos::from_secs(1), &mut out);
        let (packets, wake_at) = out.take();
        assert_eq!((packets.count(), wake_at), (0, None), "{traffic:?}");
    }
}
