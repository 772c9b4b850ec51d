//! What ingress does about the signal of the ring it is about to send to.
//!
//! Marking and dropping look at the packet alone. Diverting and spilling move whole flows, and may do so only where no packet
//! overtakes an earlier one (`weir_aqm::sticky`); where they may not, the packet goes the way of the one before it.

use weir_aqm::{GcraParams, Level, Nanos, Pace, SignalVars, StickyVars, Way};
use weir_shared_maps::{
    ACTION_DIVERT, ACTION_DROP, ACTION_MARK, ACTION_NONE, ACTION_SPILL, BackOff, SignalState,
};
use weir_wire::Ecn;

/// What to do with a packet for a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Backing {
    /// Send it there.
    Go,
    /// Send it there with CE.
    Mark,
    /// Drop it here, before the cost of rewriting and redirecting.
    Drop,
    /// To the kernel's stack and the device's queueing discipline.
    Divert,
    /// Out of the spill port.
    Spill,
}

/// What is to be known of the ways a flow can go. Each is looked up only where the decision hangs on it.
pub trait Ways {
    /// The port has one ring, and the stack's frames enter it as well.
    fn ring_is_shared(&self) -> bool;
    /// What entered the port's ring before this has left it.
    fn ring_passed(&mut self) -> Nanos;
    /// What entered the spill port's ring before this has left it.
    fn spill_passed(&mut self) -> Nanos;
    /// Nothing waits in the queueing discipline of the port's device; false where that cannot be seen.
    fn qdisc_is_empty(&mut self) -> bool;
    /// The kernel routes the packet out of the spill port, too.
    fn spill_has_route(&mut self) -> bool;
    /// The spill port's own ring is clear.
    fn spill_is_clear(&mut self) -> bool;
    /// The packet is within what may enter the stack, and is charged.
    fn stack_takes(&mut self) -> bool;
}

/// What a signal asks of ingress at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// The level that holds.
    pub level: Level,
    /// Probability of a mark or drop at [`Level::Congested`], Q0.32.
    pub probability: u32,
    /// When the level was entered; a pause of the link partner has only just begun.
    pub since: Nanos,
}

/// A queue that is full for this long is no burst's: the interval of RFC 8289 section 4.2.
const STANDING: Nanos = Nanos::from_millis(100);

impl Pressure {
    /// Reads the signal at `now`. While the link partner has paused the port, its ring counts as full. A signal that has
    /// expired, or whose level is unknown, stops nothing: it fails open.
    #[inline(always)]
    pub fn at(signal: &SignalState, now: Nanos) -> Self {
        let vars = SignalVars {
            level: Level::from_u32(signal.level),
            since: Nanos::from_nanos(signal.since_ns),
            until: Nanos::from_nanos(signal.until_ns),
            ..SignalVars::default()
        };
        let paused = now < Nanos::from_nanos(signal.paused_until_ns);
        let (level, since) = if paused { (Level::Full, now) } else { (vars.level_at(now), vars.since) };
        Self { level, probability: signal.pressure_q32, since }
    }

    /// Whether the ring has been full for longer than a burst makes it.
    #[inline(always)]
    fn stands_full(&self, now: Nanos) -> bool {
        self.level == Level::Full && self.since.saturating_add(STANDING) <= now
    }

    /// `ACTION_*` of a class at this level.
    #[inline(always)]
    pub const fn action(&self, actions: &BackOff) -> u32 {
        match self.level {
            Level::Clear => ACTION_NONE,
            Level::Congested => actions.on_congested,
            Level::Full => actions.on_full,
        }
    }

    /// What the packet alone decides: a mark, a drop, or neither. `random` has 32 bits.
    #[inline(always)]
    pub const fn on_packet(&self, action: u32, ecn: Ecn, random: u32) -> Backing {
        let struck = match self.level {
            Level::Clear => false,
            Level::Congested => random < self.probability,
            Level::Full => true,
        };
        match (action, ecn) {
            // RFC 9331 section 5.2: ECT(1) asks for marks that are frequent and immediate.
            (ACTION_MARK, Ecn::Ect1) => Backing::Mark,
            (ACTION_MARK, Ecn::Ect0) if struck => Backing::Mark,
            (ACTION_DROP, _) if struck => Backing::Drop,
            _ => Backing::Go,
        }
    }
}

/// Whether a class moves flows.
#[inline(always)]
pub const fn is_sticky(actions: &BackOff) -> bool {
    moves(actions.on_congested) || moves(actions.on_full)
}

const fn moves(action: u32) -> bool {
    action == ACTION_DIVERT || action == ACTION_SPILL
}

/// The decision where a class moves flows. `flow` is the last packet of the flow.
#[inline(always)]
pub fn back_off<W: Ways>(
    pressure: &Pressure,
    now: Nanos,
    actions: &BackOff,
    (ecn, random): (Ecn, u32),
    flow: &StickyVars,
    ways: &mut W,
) -> Backing {
    let action = pressure.action(actions);
    match flow.way {
        Way::Diverted => {
            if action == ACTION_DIVERT || !may_return(now, flow, ways) {
                // Beyond the bound going straight would overtake what waits in the stack.
                return if ways.stack_takes() { Backing::Divert } else { Backing::Drop };
            }
            // Back first; a flow that is to spill does so when it has left the port's ring.
            return if moves(action) { Backing::Go } else { pressure.on_packet(action, ecn, random) };
        }
        Way::Spilled => {
            if action == ACTION_SPILL || !flow.has_left(ways.spill_passed()) {
                // Without a route there any more nothing but the straight way is left.
                return if ways.spill_has_route() { Backing::Spill } else { Backing::Go };
            }
        }
        Way::Straight => {}
    }
    // The flow's last packet is in the port's ring, or it has left the spill port's.
    let here = flow.way == Way::Straight;
    match action {
        ACTION_DIVERT => {
            // Where the stack's frames enter the same ring, a packet that is in it already stays ahead.
            let free = if !here {
                flow.is_in_queue_at(now)
            } else if ways.ring_is_shared() {
                flow.is_in_queue_at(now) && (pressure.stands_full(now) || !is_sparse(flow, ways))
            } else {
                flow.has_left(ways.ring_passed())
            };
            if free && ways.stack_takes() { Backing::Divert } else { Backing::Go }
        }
        ACTION_SPILL => {
            let free = here && flow.has_left(ways.ring_passed());
            if free && ways.spill_is_clear() && ways.spill_has_route() { Backing::Spill } else { Backing::Go }
        }
        _ => pressure.on_packet(action, ecn, random),
    }
}

/// Whether a flow of the ring has nothing in it: it makes no queue, and behind those that do it would wait in the stack for as long
/// as they do. The way of RFC 8290 section 4.2 with new flows. Where a ring stays full, such flows are what fills it.
#[inline(always)]
fn is_sparse<W: Ways>(flow: &StickyVars, ways: &mut W) -> bool {
    flow.unseen || flow.has_left(ways.ring_passed())
}

/// Whether a packet that is sent to the ring now stays behind those that were given to the stack.
#[inline(always)]
fn may_return<W: Ways>(now: Nanos, flow: &StickyVars, ways: &mut W) -> bool {
    flow.is_idle_at(now) || (ways.ring_is_shared() && flow.is_in_queue_at(now) && ways.qdisc_is_empty())
}

/// The meter of what enters the stack ([`Ways::stack_takes`]): the configured rate, or twice what the ring was measured to drain,
/// whose word `drain` reads. `None` while there is neither.
#[inline(always)]
pub fn stack_meter(actions: &BackOff, drain: impl FnOnce() -> Option<u64>) -> Option<GcraParams> {
    // Both words have a value on every way here: BPF's compiler keeps what an absent pace would leave undefined, and the verifier
    // refuses it.
    let (mult, shift) = if actions.divert_pace_mult != 0 {
        (actions.divert_pace_mult, actions.divert_pace_shift)
    } else if let Some(word) = drain() {
        // Half the time for a byte.
        ((word >> 32) as u32, (word as u32).saturating_add(1))
    } else {
        (0, 0)
    };
    let pace = Pace::from_parts(mult, shift)?;
    Some(GcraParams { pace, tolerance: Nanos::from_nanos(actions.divert_burst_ns) })
}

/// The way that a packet takes; `None` for one that goes nowhere.
#[inline(always)]
pub const fn way_of(backing: Backing) -> Option<Way> {
    match backing {
        Backing::Go | Backing::Mark => Some(Way::Straight),
        Backing::Divert => Some(Way::Diverted),
        Backing::Spill => Some(Way::Spilled),
        Backing::Drop => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;
    use weir_shared_maps::{SIGNAL_CLEAR, SIGNAL_CONGESTED, SIGNAL_FULL};
    use zerocopy::FromZeros as _;

    const NOW: Nanos = Nanos::from_secs(100);
    const ACTIONS: [u32; 5] = [ACTION_NONE, ACTION_MARK, ACTION_DROP, ACTION_DIVERT, ACTION_SPILL];
    const ECNS: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];
    const LEVELS: [Level; 3] = [Level::Clear, Level::Congested, Level::Full];

    fn signal(level: u32) -> SignalState {
        SignalState { until_ns: 2_000, since_ns: 1_000, level, pressure_q32: 7, ..SignalState::new_zeroed() }
    }

    fn actions(on_congested: u32, on_full: u32) -> BackOff {
        BackOff { on_congested, on_full, ..BackOff::new_zeroed() }
    }

    #[test]
    fn a_level_holds_until_it_expires_and_an_unknown_one_never() {
        let level = |level, at| Pressure::at(&signal(level), Nanos::from_nanos(at)).level;
        assert_eq!(level(SIGNAL_FULL, 1_999), Level::Full);
        assert_eq!(level(SIGNAL_CONGESTED, 1_999), Level::Congested);
        assert_eq!(level(SIGNAL_FULL, 2_000), Level::Clear);
        assert_eq!((level(SIGNAL_CLEAR, 1_500), level(77, 1_500)), (Level::Clear, Level::Clear));
        assert_eq!(Pressure::at(&signal(SIGNAL_CONGESTED), NOW).probability, 7);
    }

    #[test]
    fn a_paused_port_is_full_whatever_its_ring_says_and_for_no_longer() {
        let paused = SignalState { paused_until_ns: 5_000, ..signal(SIGNAL_CLEAR) };
        assert_eq!(Pressure::at(&paused, Nanos::from_nanos(4_999)).level, Level::Full);
        assert_eq!(Pressure::at(&paused, Nanos::from_nanos(5_000)).level, Level::Clear);
    }

    #[test]
    fn the_stack_takes_the_configured_rate_or_twice_what_the_ring_drains() {
        let bits =
            |actions: &BackOff, word| stack_meter(actions, || word).map(|meter| meter.pace.bits_per_second());
        let [ten, twenty] = [10_000_000, 20_000_000].map(|rate| Pace::from_bits_per_second(rate).unwrap());
        let word = |pace: Pace| u64::from(pace.mult()) << 32 | u64::from(pace.shift());
        let follows = actions(ACTION_DIVERT, ACTION_DIVERT);
        assert_eq!(bits(&follows, Some(word(ten))), Some(20_000_000));
        assert_eq!((bits(&follows, Some(0)), bits(&follows, None)), (None, None));
        let (divert_pace_mult, divert_pace_shift) = (twenty.mult(), twenty.shift());
        let fixed = BackOff { divert_pace_mult, divert_pace_shift, divert_burst_ns: 7, ..follows };
        assert_eq!(bits(&fixed, None), Some(20_000_000));
        assert_eq!(stack_meter(&fixed, || None).unwrap().tolerance, Nanos::from_nanos(7));
    }

    #[test]
    fn marks_go_to_all_of_ect1_to_a_part_of_ect0_and_to_nobody_else() {
        let congested = Pressure { level: Level::Congested, probability: 1 << 31, since: Nanos::ZERO };
        for ecn in ECNS {
            for (random, struck) in [(0, true), ((1 << 31) - 1, true), (1 << 31, false), (u32::MAX, false)] {
                let marked = ecn == Ecn::Ect1 || (ecn == Ecn::Ect0 && struck);
                let expected = if marked { Backing::Mark } else { Backing::Go };
                assert_eq!(congested.on_packet(ACTION_MARK, ecn, random), expected, "{ecn:?} {random}");
                let expected = if struck { Backing::Drop } else { Backing::Go };
                assert_eq!(congested.on_packet(ACTION_DROP, ecn, random), expected, "{ecn:?} {random}");
            }
        }
    }

    #[test]
    fn a_full_ring_drops_everything_and_a_clear_one_nothing() {
        for (ecn, random) in ECNS.into_iter().zip([0, u32::MAX, 1, 2]) {
            let at = |level| {
                Pressure { level, probability: 0, since: Nanos::ZERO }.on_packet(ACTION_DROP, ecn, random)
            };
            assert_eq!((at(Level::Full), at(Level::Clear)), (Backing::Drop, Backing::Go));
            let none = Pressure { level: Level::Full, probability: u32::MAX, since: Nanos::ZERO }.on_packet(
                ACTION_NONE,
                ecn,
                0,
            );
            assert_eq!(none, Backing::Go);
        }
    }

    #[derive(Clone, Copy, Debug)]
    struct Facts {
        shared: bool,
        ring_passed: bool,
        spill_passed: bool,
        qdisc_empty: bool,
        route: bool,
        spill_clear: bool,
        room: bool,
    }

    impl Ways for Facts {
        fn ring_is_shared(&self) -> bool {
            self.shared
        }
        fn ring_passed(&mut self) -> Nanos {
            if self.ring_passed { NOW } else { Nanos::ZERO }
        }
        fn spill_passed(&mut self) -> Nanos {
            if self.spill_passed { NOW } else { Nanos::ZERO }
        }
        fn qdisc_is_empty(&mut self) -> bool {
            self.qdisc_empty
        }
        fn spill_has_route(&mut self) -> bool {
            self.route
        }
        fn spill_is_clear(&mut self) -> bool {
            self.spill_clear
        }
        fn stack_takes(&mut self) -> bool {
            self.room
        }
    }

    fn all_facts() -> impl Iterator<Item = Facts> {
        (0..128_u32).map(|bits| {
            let bit = |n: u32| bits >> n & 1 == 1;
            Facts {
                shared: bit(0),
                ring_passed: bit(1),
                spill_passed: bit(2),
                qdisc_empty: bit(3),
                route: bit(4),
                spill_clear: bit(5),
                room: bit(6),
            }
        })
    }

    /// Ages of the flow's last packet: not yet in its queue, in it, long gone.
    const AGES: [Nanos; 3] = [Nanos::from_nanos(4), Nanos::from_millis(5), Nanos::from_secs(2)];

    /// Every combination of level, action, ECN, way, age and facts, with its decision.
    fn every_case(mut check: impl FnMut(Level, u32, StickyVars, Facts, Backing)) {
        for level in LEVELS {
            for action in ACTIONS {
                let (other, class) = (ACTION_DIVERT, level);
                let actions = match class {
                    Level::Congested | Level::Clear => actions(action, other),
                    Level::Full => actions(other, action),
                };
                for (way, age) in [Way::Straight, Way::Diverted, Way::Spilled]
                    .into_iter()
                    .flat_map(|way| AGES.map(|age| (way, age)))
                {
                    let flow = StickyVars::sent_by(way, NOW.saturating_sub(age));
                    for ecn in ECNS {
                        for facts in all_facts() {
                            let pressure = Pressure { level, probability: 100, since: Nanos::ZERO };
                            let decided =
                                back_off(&pressure, NOW, &actions, (ecn, 99), &flow, &mut { facts });
                            let wanted = if level == Level::Clear { ACTION_NONE } else { action };
                            check(level, wanted, flow, facts, decided);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn no_flow_moves_before_its_last_packet_has_left_where_it_is() {
        every_case(|_, _, flow, facts, decided| {
            let Some(way) = way_of(decided) else { return };
            let age = NOW.saturating_sub(flow.sent);
            let there = age >= Nanos::from_millis(5);
            let proof = match (flow.way, way) {
                (Way::Straight, Way::Straight)
                | (Way::Diverted, Way::Diverted)
                | (Way::Spilled, Way::Spilled) => true,
                (Way::Straight, Way::Diverted) => there && (facts.shared || facts.ring_passed),
                (Way::Straight, Way::Spilled) => there && facts.ring_passed,
                (Way::Diverted, Way::Straight) => {
                    there && (age >= Nanos::from_secs(1) || (facts.shared && facts.qdisc_empty))
                }
                (Way::Spilled, Way::Straight | Way::Diverted) => {
                    (there && facts.spill_passed) || !facts.route
                }
                (Way::Diverted, Way::Spilled) => false,
            };
            assert!(proof, "{flow:?} goes {decided:?} with {facts:?}");
        });
    }

    #[test]
    fn nothing_enters_the_stack_beyond_its_bound_nor_a_spill_port_without_a_route() {
        every_case(|_, _, flow, facts, decided| match decided {
            Backing::Divert => assert!(facts.room),
            Backing::Spill => assert!(facts.route && (facts.spill_clear || flow.way == Way::Spilled)),
            Backing::Go | Backing::Mark | Backing::Drop => {}
        });
    }

    #[test]
    fn only_a_flow_in_the_stack_is_dropped_at_its_bound_and_a_new_one_goes_straight() {
        every_case(|_, wanted, flow, facts, decided| {
            if decided == Backing::Drop && wanted != ACTION_DROP {
                assert!(flow.way == Way::Diverted && !facts.room, "{flow:?} {facts:?}");
            }
            if wanted == ACTION_DIVERT && flow.way == Way::Straight && !facts.room {
                assert_eq!(decided, Backing::Go);
            }
        });
    }

    #[test]
    fn every_flow_that_can_does_what_its_class_asks() {
        every_case(|level, wanted, flow, _, _| {
            let facts = Facts {
                shared: true,
                ring_passed: true,
                spill_passed: true,
                qdisc_empty: true,
                route: true,
                spill_clear: true,
                room: true,
            };
            if !flow.is_in_queue_at(NOW) {
                return;
            }
            let pressure = Pressure { level, probability: 100, since: Nanos::ZERO };
            let actions = actions(wanted, wanted);
            let decided = back_off(&pressure, NOW, &actions, (Ecn::Ect0, 99), &flow, &mut { facts });
            let full = level == Level::Full;
            let expected = match (wanted, flow.way) {
                // Nothing of it is in the ring.
                (ACTION_DIVERT, Way::Straight) if !full => Backing::Go,
                (ACTION_DIVERT, _) => Backing::Divert,
                // It returns from the stack first.
                (ACTION_SPILL, Way::Diverted) => Backing::Go,
                (ACTION_SPILL, _) => Backing::Spill,
                (ACTION_MARK, _) => Backing::Mark,
                (ACTION_DROP, _) => Backing::Drop,
                _ => Backing::Go,
            };
            assert_eq!(decided, expected, "{wanted} {flow:?} full {full}");
        });
    }

    #[test]
    fn a_ring_diverts_the_flows_that_fill_it_and_one_that_stays_full_all() {
        every_case(|level, wanted, flow, facts, decided| {
            let shared = facts.shared && flow.way == Way::Straight && flow.is_in_queue_at(NOW);
            if !shared || wanted != ACTION_DIVERT || !facts.room {
                return;
            }
            let fills = !facts.ring_passed;
            let expected = if fills || level == Level::Full { Backing::Divert } else { Backing::Go };
            assert_eq!(decided, expected, "{level:?} {flow:?} {facts:?}");
        });
        let facts = Facts {
            shared: true,
            ring_passed: false,
            spill_passed: true,
            qdisc_empty: true,
            route: true,
            spill_clear: true,
            room: true,
        };
        let woken = StickyVars::default().awake_since(NOW.saturating_sub(Nanos::from_millis(5)));
        let decided = |level, since| {
            let pressure = Pressure { level, probability: 100, since };
            let actions = actions(ACTION_DIVERT, ACTION_DIVERT);
            back_off(&pressure, NOW, &actions, (Ecn::Ect0, 99), &woken, &mut { facts })
        };
        assert_eq!(decided(Level::Congested, Nanos::ZERO), Backing::Go, "nobody saw it fill the ring");
        assert_eq!(decided(Level::Full, NOW.saturating_sub(Nanos::from_millis(99))), Backing::Go);
        assert_eq!(decided(Level::Full, NOW.saturating_sub(STANDING)), Backing::Divert);
    }

    #[test]
    fn a_class_is_sticky_if_it_moves_flows_at_either_level() {
        let sticky: Vec<(u32, u32)> = ACTIONS
            .into_iter()
            .flat_map(|a| ACTIONS.map(|b| (a, b)))
            .filter(|(a, b)| is_sticky(&actions(*a, *b)))
            .collect();
        assert_eq!(sticky.len(), 25 - 9);
        assert!(sticky.iter().all(|(a, b)| *a >= ACTION_DIVERT || *b >= ACTION_DIVERT));
    }
}
