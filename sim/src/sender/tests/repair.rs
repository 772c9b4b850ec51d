//! Losses found, repaired, and answered once.

use proptest::prelude::*;
use weir_aqm::Nanos;

use super::{
    super::{Ack, Outbox, Sender, congestion::*, sender, tcp::Tcp},
    path::{Chance, MiniPath, Outcome},
};
use crate::{Congestion, Ecn, Random, Traffic};

const RTT: Nanos = Nanos::from_millis(50);

fn reno(bytes: Option<u64>) -> Tcp<Reno> {
    Tcp::new(Reno::new(Ecn::Ect0), bytes)
}

fn finite(congestion: Congestion, bytes: u64) -> Box<dyn Sender> {
    sender(&Traffic::Tcp { congestion, ecn: true, bytes: Some(bytes) }, Random::new(3))
}

fn ack(from: u64, to: u64) -> Ack {
    Ack { received: [Some((from, to)), None, None, None], packets: to + 1, marked: 0, sent: Nanos::ZERO }
}

/// Runs from an idle start for `ms`.
fn run(path: &MiniPath, sender: &mut dyn Sender, ms: u64) -> Outcome {
    path.run(sender, Nanos::ZERO, Nanos::from_millis(ms))
}

#[test]
fn rfc_6928_the_first_window_is_ten_packets_and_slow_start_sends_two_for_one() {
    let outcome = run(&MiniPath::wide(RTT), &mut reno(None), 140);
    let in_round =
        |round| outcome.log.iter().filter(|(_, at)| at.as_nanos() / RTT.as_nanos() == round).count();
    assert_eq!((in_round(0), in_round(1), in_round(2)), (10, 20, 40));
}

#[test]
fn rfc_6298_a_silent_path_times_out_after_one_two_and_four_seconds() {
    let path = MiniPath { loss: Chance::Each(1), ..MiniPath::wide(RTT) };
    let outcome = run(&path, &mut reno(None), 7_500);
    let later: Vec<_> = outcome.log.iter().skip(10).map(|(_, at)| at.as_nanos() / 1_000_000).collect();
    assert_eq!(later, [1_000, 3_000, 7_000]);
}

#[test]
fn rfc_6582_several_losses_of_a_window_reduce_it_once() {
    let path = MiniPath { loss: Chance::Of(vec![0, 2, 4, 6]), ..MiniPath::wide(RTT) };
    let mut sender = reno(None);
    run(&path, &mut sender, 60);
    // The arrival of 1 found nothing lost and let the window grow to 11.
    assert_eq!(sender.control().window(), 5.5);
}

#[test]
fn rfc_8511_a_mark_leaves_0_8_of_renos_window_and_0_85_of_cubics() {
    let path = MiniPath { mark: Chance::Of(vec![5, 7]), ..MiniPath::wide(RTT) };
    let (mut reno, mut cubic) = (reno(None), Tcp::new(Cubic::new(Ecn::Ect0), None));
    run(&path, &mut reno, 60);
    run(&path, &mut cubic, 60);
    // Five arrivals had let it grow to 15.
    assert_eq!(reno.control().window(), 0.8 * 15.0);
    assert_eq!(cubic.control().window(), 0.85 * 15.0);
}

#[test]
fn rfc_8257_the_first_mark_halves_the_window_and_a_second_one_of_the_round_does_not() {
    let path = MiniPath { mark: Chance::Of(vec![5, 7]), ..MiniPath::wide(RTT) };
    let mut dctcp = Tcp::new(Dctcp::new(), None);
    run(&path, &mut dctcp, 60);
    // Half of 15, and what five more arrivals add.
    assert!((7.5..8.2).contains(&dctcp.control().window()), "{}", dctcp.control().window());
}

#[test]
fn rfc_6937_a_halved_window_sends_one_packet_for_two_that_arrive_and_never_a_burst() {
    // Ten packets lost of 300 in slow start, found lost when 163 arrives; packets arrive each 0.6 ms.
    let path = MiniPath { loss: Chance::Of((150..160).collect()), ..MiniPath::new(20, RTT, 1000) };
    let outcome = run(&path, &mut reno(None), 1_000);
    let gaps: Vec<_> = outcome.log.windows(2).map(|two| two[1].1.saturating_sub(two[0].1)).collect();
    // Before, two for each; the first to be sent in recovery is 310.
    assert!(gaps[270..309].contains(&Nanos::ZERO));
    let two_packets = Nanos::from_micros(1_211)..=Nanos::from_micros(1_212);
    assert!(gaps[310..370].iter().all(|gap| two_packets.contains(gap)), "{:?}", &gaps[310..370]);
    assert!(gaps[310..450].iter().all(|gap| *gap > Nanos::ZERO));
}

#[test]
fn rfc_9406_hystart_leaves_slow_start_before_ten_times_the_path_has_piled_up_where_reno_does_not() {
    // The path holds 206 packets. Five conservative rounds triple the window, so that smaller buffers overflow all the same.
    let lost = |sender: &mut dyn Sender, buffer| run(&MiniPath::new(50, RTT, buffer), sender, 2_000).dropped;
    let cubic = || Tcp::new(Cubic::new(Ecn::NotEct), None);
    assert_eq!(lost(&mut cubic(), 2_060), 0);
    assert!(lost(&mut reno(None), 2_060) > 1_000);
    assert!(lost(&mut cubic(), 618) < lost(&mut reno(None), 618) / 2);
}

#[test]
fn finite_flows_deliver_each_byte_once_whatever_is_lost_and_then_are_finished() {
    let losses = [Chance::Never, Chance::Random(0.05), Chance::Random(0.3), Chance::Each(7)];
    for congestion in Congestion::ALL {
        for (loss, bytes) in
            losses.iter().flat_map(|loss| [1, 1_448, 1_449, 200_000].map(|bytes| (loss, bytes)))
        {
            let path = MiniPath { loss: loss.clone(), ..MiniPath::new(20, RTT, 1000) };
            let outcome = run(&path, finite(congestion, bytes).as_mut(), 600_000);
            assert!(outcome.finished.is_some(), "{congestion:?}, {loss:?}, {bytes}");
            assert_eq!(outcome.payload, bytes, "{congestion:?}, {loss:?}");
        }
    }
}

#[test]
fn rfc_8985_the_loss_of_a_tail_is_repaired_by_a_probe_and_answered_by_a_reduction() {
    // Ten packets, the last three lost: probe after two round-trip times, repair one later.
    let path = MiniPath { loss: Chance::Of(vec![7, 8, 9]), ..MiniPath::wide(RTT) };
    let mut sender = reno(Some(14_480));
    let outcome = run(&path, &mut sender, 1_000);
    let finished = outcome.finished.unwrap();
    assert!((Nanos::from_millis(200)..Nanos::from_millis(280)).contains(&finished), "{finished:?}");
    assert_eq!(outcome.payload, 14_480);
    assert!(sender.control().window() < 10.0);
    // The last one alone lost: its probe leaves when the timer would fire, 200 ms after a round-trip time.
    let path = MiniPath { loss: Chance::Of(vec![9]), ..MiniPath::wide(RTT) };
    let finished = run(&path, &mut reno(Some(14_480)), 1_000).finished.unwrap();
    assert!((Nanos::from_millis(340)..Nanos::from_millis(380)).contains(&finished), "{finished:?}");
}

#[test]
fn lost_acknowledgements_cost_little_and_confuse_nobody() {
    for congestion in Congestion::ALL {
        let path = MiniPath { ack_loss: 0.3, ..MiniPath::new(20, RTT, 200) };
        let mut sender = sender(&Traffic::Tcp { congestion, ecn: false, bytes: None }, Random::new(3));
        let outcome = path.run(sender.as_mut(), Nanos::from_secs(3), Nanos::from_secs(8));
        assert!(outcome.utilisation(20) > 0.9, "{congestion:?}: {}", outcome.utilisation(20));
        let path = MiniPath { loss: Chance::Random(0.05), ..path };
        let outcome = run(&path, finite(congestion, 200_000).as_mut(), 600_000);
        assert!(outcome.finished.is_some() && outcome.payload >= 200_000, "{congestion:?}: {outcome:?}");
    }
}

#[test]
fn repeated_acknowledgements_change_nothing() {
    let (mut sender, mut out) = (reno(None), Outbox::default());
    sender.wake(Nanos::ZERO, &mut out);
    assert_eq!(out.take().0.count(), 10);
    sender.on_ack(RTT, &ack(0, 3), &mut out);
    assert_eq!(out.take().0.count(), 8);
    for _ in 0..5 {
        sender.on_ack(RTT, &ack(0, 3), &mut out);
    }
    assert_eq!((out.take().0.count(), sender.control().window()), (0, 14.0));
}

#[test]
fn a_stopped_sender_sends_nothing_new_and_is_finished_when_the_rest_has_arrived() {
    let (mut sender, mut out) = (reno(None), Outbox::default());
    sender.wake(Nanos::ZERO, &mut out);
    out.take();
    sender.stop(Nanos::ZERO);
    sender.on_ack(RTT, &ack(0, 5), &mut out);
    assert!(!sender.is_finished());
    assert_eq!(out.take().0.count(), 0);
    sender.on_ack(RTT, &ack(0, 9), &mut out);
    assert!(sender.is_finished());
}

#[test]
fn rfc_4015_a_link_that_pauses_for_a_second_does_not_cost_the_window() {
    let pause = (Nanos::from_millis(1_000), Nanos::from_millis(2_000));
    let path = MiniPath { pause: Some(pause), ..MiniPath::new(20, RTT, u64::MAX) };
    let (mut before, mut after) = (reno(None), reno(None));
    run(&path, &mut before, 1_000);
    let outcome = run(&path, &mut after, 2_200);
    let (before, after) = (before.control().window(), after.control().window());
    assert!(after >= before, "{after} against {before}");
    // What was under way is acknowledged in the first round; later, only a probe and the timer send.
    let silent = pause.0.saturating_add(RTT).saturating_add(Nanos::from_millis(1));
    let sent = outcome.log.iter().filter(|(_, at)| *at > silent && *at < pause.1).count();
    assert!((1..=3).contains(&sent), "{sent}");
}

#[test]
fn prague_and_bbr_space_their_packets_by_rate() {
    for congestion in [Congestion::Prague, Congestion::Bbr1, Congestion::Bbr3] {
        let mut sender = sender(&Traffic::Tcp { congestion, ecn: true, bytes: None }, Random::new(3));
        let path = MiniPath { mark: Chance::Queue(10), ack_every: 8, ..MiniPath::new(20, RTT, 1000) };
        let outcome = path.run(sender.as_mut(), Nanos::ZERO, Nanos::from_secs(3));
        // A quantum of 1 ms is 1.65 packets at 20 Mbit/s, two at least.
        let late: Vec<_> = outcome.log.iter().filter(|(_, at)| *at > Nanos::from_secs(2)).collect();
        assert!(late.len() > 1_000, "{congestion:?}: {}", late.len());
        let most = late.chunk_by(|a, b| a.1 == b.1).map(<[_]>::len).max();
        assert!(most <= Some(2), "{congestion:?}: {most:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_path_does_a_finite_flow_delivers_all_and_is_finished(
        control in 0_usize..6,
        bytes in 0_u64..150_000,
        (loss, ack_loss, ack_every) in (0.0_f64..0.3, 0.0_f64..0.3, 1_u64..5),
        (mbit, buffer, rtt) in (1_u64..100, 2_u64..200, 1_u64..200),
        (paused_at, pause) in (0_u64..1_000, 0_u64..3_000),
    ) {
        let path = MiniPath {
            loss: Chance::Random(loss),
            ack_loss,
            ack_every,
            pause: Some((Nanos::from_millis(paused_at), Nanos::from_millis(paused_at + pause))),
            mark: Chance::Queue(10),
            ..MiniPath::new(mbit, Nanos::from_millis(rtt), buffer)
        };
        let outcome = run(&path, finite(Congestion::ALL[control], bytes).as_mut(), 3_600_000);
        prop_assert!(outcome.finished.is_some(), "{:?}", outcome.log.len());
        prop_assert!(outcome.payload >= bytes);
        let again = run(&path, finite(Congestion::ALL[control], bytes).as_mut(), 3_600_000);
        prop_assert_eq!(outcome.log, again.log);
    }
}
