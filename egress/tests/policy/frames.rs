//! Packets of many frames, as the kernel's stack sends them.

use weir_shared_maps::{COLOUR_DROP, ClassConfig, FAIRNESS_FLOW, POLICER_BYTES};

use crate::model::{Frame, MBIT, Port, Source, class, guaranteed, pace, plan, run, source, within};
use weir_egress::pace_word;

/// Packets of 64 frames, larger than any burst here.
fn large(class: usize, bits_per_second: u64) -> Source {
    Source { frame: Frame { class, length: 1_000, rest: 63_000, ..Frame::default() }, bits_per_second }
}

#[test]
fn packets_of_many_frames_get_the_rate_of_port_class_flow_and_subscriber_and_no_more() {
    let fair = ClassConfig { fairness: FAIRNESS_FLOW, ..class(100 * MBIT) };
    let alone = run(&mut Port::policer(50 * MBIT, vec![class(50 * MBIT)]), &[large(0, 200 * MBIT)], 20);
    assert!(within(alone.total(), 50 * MBIT, 1), "{}", alone.total());
    let within_ceil = run(
        &mut Port::policer(50 * MBIT, vec![class(10 * MBIT), class(50 * MBIT)]),
        &[large(0, 200 * MBIT), source(1, 200 * MBIT)],
        20,
    );
    assert!(within(within_ceil.rates[0], 10 * MBIT, 2), "{:?}", within_ceil.rates);
    assert!(within(within_ceil.total(), 50 * MBIT, 1), "{:?}", within_ceil.rates);
    let fair = run(&mut Port::policer(50 * MBIT, vec![fair]), &[large(0, 200 * MBIT)], 20);
    assert!(within(fair.total(), 50 * MBIT, 1), "{}", fair.total());
    let sold = Frame { subscriber: 1, ..large(0, 0).frame };
    let sold = Source { frame: sold, bits_per_second: 200 * MBIT };
    let mut port =
        Port::policer(50 * MBIT, vec![class(50 * MBIT)]).with_subscribers(&[plan(5 * MBIT, 5 * MBIT)]);
    let sold = run(&mut port, &[sold], 20);
    assert!(within(sold.total(), 5 * MBIT, 2), "{}", sold.total());
}

#[test]
fn packets_of_many_frames_pay_their_guarantee_and_their_policer_in_full() {
    let kept = guaranteed(class(50 * MBIT), 20 * MBIT);
    let both = run(
        &mut Port::policer(50 * MBIT, vec![kept, class(50 * MBIT)]),
        &[large(0, 20 * MBIT), source(1, 200 * MBIT)],
        20,
    );
    assert!(within(both.rates[0], 20 * MBIT, 2), "{:?}", both.rates);
    assert!(within(both.total(), 50 * MBIT, 1), "{:?}", both.rates);
    let policed = ClassConfig {
        policer: POLICER_BYTES,
        cir_pace: pace_word(Some(pace(8 * MBIT))),
        cbs_ns: 20_000_000,
        red: COLOUR_DROP,
        ..class(50 * MBIT)
    };
    let policed = run(&mut Port::policer(50 * MBIT, vec![policed]), &[large(0, 200 * MBIT)], 20);
    assert!(within(policed.total(), 8 * MBIT, 2), "{}", policed.total());
}
