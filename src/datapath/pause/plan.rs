//! Which frames bring a link partner to stop as long as is wanted, and when to look again. Pure: `now` comes in.

use weir_aqm::Nanos;
use weir_wire::Pause;

use super::wanted::Wanted;

/// A check for less than this is not worth a timer.
const CHECK_MIN: Nanos = Nanos::from_millis(1);

/// What the link partner of one ingress device has been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Picoseconds that 512 bits take on the link.
    quantum_ps: u32,
    /// Until when all of the link has been asked to stop; zero where it has not, or has been let go on.
    link: Nanos,
    /// The same of each priority.
    priorities: [Nanos; 8],
}

impl Plan {
    /// A link on which 512 bits take `quantum_ps`, above 0.
    pub fn new(quantum_ps: u32) -> Self {
        Self { quantum_ps: quantum_ps.max(1), link: Nanos::ZERO, priorities: [Nanos::ZERO; 8] }
    }

    /// The frames to send at `now`.
    ///
    /// A request is renewed once what is left of it is at most half of what is wanted: so one that is wanted for longer than a
    /// frame can say never runs out, and one whose end moves is not sent with each move. One that is no longer wanted is
    /// ended by a frame without quanta, also where it has just run out: the two ends may not agree on the link's speed.
    pub fn frames(&mut self, now: Nanos, wanted: &Wanted) -> impl Iterator<Item = Pause> + use<> {
        let quantum_ps = self.quantum_ps;
        let link = step(quantum_ps, now, &mut self.link, wanted.link).map(Pause::Link);
        let mut asked = [None; 8];
        for ((asked, running), wanted) in asked.iter_mut().zip(&mut self.priorities).zip(wanted.priorities) {
            *asked = step(quantum_ps, now, running, wanted);
        }
        let mut enabled = 0;
        for (priority, asked) in asked.iter().enumerate() {
            enabled |= u8::from(asked.is_some()) << priority;
        }
        let quanta = asked.map(Option::unwrap_or_default);
        let priority = (enabled != 0).then_some(Pause::Priority { enabled, quanta });
        [link, priority].into_iter().flatten()
    }

    /// What a number of quanta lasts on the link.
    pub fn time(&self, quanta: u16) -> Nanos {
        time(self.quantum_ps, quanta)
    }

    /// The frames that let everybody go on who has been asked to stop.
    pub fn release(&mut self) -> impl Iterator<Item = Pause> + use<> {
        self.frames(Nanos::ZERO, &Wanted::default())
    }

    /// When to look again; `None` while nobody has been asked to stop.
    pub fn due(&self, now: Nanos) -> Option<Nanos> {
        let running = self.priorities.into_iter().chain([self.link]).filter(|until| *until > Nanos::ZERO);
        running
            .map(|until| {
                let left = until.saturating_sub(now);
                let half = Nanos::from_nanos(left.as_nanos() / 2);
                if half > CHECK_MIN { now.saturating_add(half) } else { until.max(now) }
            })
            .min()
    }
}

/// When to look again at all ports and links: as the plans say, and soon while a level stands though nobody has been asked to
/// stop. Its classes were read while they changed, and none seemed to wait; a level that goes on standing is not told again.
pub fn next_look(now: Nanos, plans: impl Iterator<Item = Nanos>, raised: Nanos) -> Option<Nanos> {
    plans.min().or((raised > now).then(|| now.saturating_add(CHECK_MIN)))
}

/// The quanta to ask for, if anything is to be said.
fn step(quantum_ps: u32, now: Nanos, running: &mut Nanos, wanted: Nanos) -> Option<u16> {
    let want = wanted.saturating_sub(now);
    if want == Nanos::ZERO {
        let asked = *running > Nanos::ZERO;
        *running = Nanos::ZERO;
        return asked.then_some(0);
    }
    let left = running.saturating_sub(now);
    if left.as_nanos().saturating_mul(2) > want.as_nanos() {
        return None;
    }
    let quanta = want.as_nanos().saturating_mul(1_000).div_ceil(u64::from(quantum_ps));
    let quanta = u16::try_from(quanta).unwrap_or(u16::MAX);
    *running = now.saturating_add(time(quantum_ps, quanta));
    Some(quanta)
}

fn time(quantum_ps: u32, quanta: u16) -> Nanos {
    Nanos::from_nanos(u64::from(quanta) * u64::from(quantum_ps) / 1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 10 Gbit/s, where a frame can ask for 3.36 ms at the most.
    const TEN_GIGABIT: u32 = 51_200;
    /// 10 Mbit/s.
    const TEN_MEGABIT: u32 = 51_200_000;
    const NOW: Nanos = Nanos::from_secs(1);

    fn link(until: Nanos) -> Wanted {
        Wanted { link: until, ..Wanted::default() }
    }

    fn frames(plan: &mut Plan, now: Nanos, wanted: &Wanted) -> Vec<Pause> {
        plan.frames(now, wanted).collect()
    }

    #[test]
    fn the_quanta_are_the_time_wanted_in_units_of_512_bits_rounded_up() {
        let mut plan = Plan::new(TEN_MEGABIT);
        let wanted = link(NOW.saturating_add(Nanos::from_millis(10)));
        // 10 ms of 51.2 us each: 195.3.
        assert_eq!(frames(&mut plan, NOW, &wanted), [Pause::Link(196)]);
        assert_eq!(frames(&mut plan, NOW, &wanted), []);
    }

    #[test]
    fn a_stop_that_is_longer_than_a_frame_can_say_is_renewed_before_it_runs_out() {
        let mut plan = Plan::new(TEN_GIGABIT);
        let (end, mut now) = (NOW.saturating_add(Nanos::from_millis(50)), NOW);
        let mut covered = NOW;
        while now < end {
            for frame in frames(&mut plan, now, &link(end)) {
                assert!(now <= covered, "a gap before {now:?}");
                let Pause::Link(quanta) = frame else { panic!("{frame:?}") };
                covered = now.saturating_add(Nanos::from_nanos(u64::from(quanta) * 512 / 10));
            }
            now = plan.due(now).unwrap();
        }
        assert!(covered >= end);
        assert_eq!(frames(&mut plan, now, &link(end)), [Pause::Link(0)]);
        assert_eq!((frames(&mut plan, now, &link(end)), plan.due(now)), (vec![], None));
    }

    #[test]
    fn an_end_that_moves_a_little_sends_nothing_and_one_that_has_come_early_lets_go() {
        let mut plan = Plan::new(TEN_MEGABIT);
        let wanted = |ms| link(NOW.saturating_add(Nanos::from_millis(ms)));
        assert_eq!(frames(&mut plan, NOW, &wanted(10)).len(), 1);
        assert_eq!(frames(&mut plan, NOW, &wanted(15)), []);
        assert_eq!(frames(&mut plan, NOW, &wanted(40)).len(), 1);
        assert_eq!(frames(&mut plan, NOW, &Wanted::default()), [Pause::Link(0)]);
        assert_eq!(frames(&mut plan, NOW, &Wanted::default()), []);
    }

    #[test]
    fn one_frame_stops_one_priority_and_lets_another_go_on() {
        let mut plan = Plan::new(TEN_MEGABIT);
        let mut wanted = Wanted::default();
        wanted.priorities[2] = NOW.saturating_add(Nanos::from_millis(10));
        let quanta = |of: [(usize, u16); 2]| {
            let mut quanta = [0; 8];
            of.into_iter().for_each(|(priority, n)| quanta[priority] = n);
            quanta
        };
        let first = Pause::Priority { enabled: 1 << 2, quanta: quanta([(2, 196), (0, 0)]) };
        assert_eq!(frames(&mut plan, NOW, &wanted), [first]);
        wanted.priorities[5] = wanted.priorities[2];
        wanted.priorities[2] = Nanos::ZERO;
        let second = Pause::Priority { enabled: 1 << 2 | 1 << 5, quanta: quanta([(2, 0), (5, 196)]) };
        assert_eq!(frames(&mut plan, NOW, &wanted), [second]);
        let third = Pause::Priority { enabled: 1 << 5, quanta: [0; 8] };
        assert_eq!(plan.release().collect::<Vec<_>>(), [third]);
        assert_eq!(plan.release().count(), 0);
    }

    #[test]
    fn a_level_that_stands_is_looked_at_again_although_no_class_seemed_to_wait() {
        let (soon, later) = (NOW.saturating_add(CHECK_MIN), NOW.saturating_add(Nanos::from_millis(9)));
        assert_eq!(next_look(NOW, [].into_iter(), later), Some(soon));
        assert_eq!(next_look(NOW, [later].into_iter(), later), Some(later));
        assert_eq!(next_look(NOW, [].into_iter(), NOW), None);
    }

    proptest! {
        /// Whatever is wanted and whenever it is looked at: what was asked for never ends before half of what is wanted, and the
        /// next look is not after the end of what was asked for.
        #[test]
        fn a_running_request_covers_half_of_what_is_wanted(
            quantum_ps in 1_280_u32..512_000_000,
            steps in proptest::collection::vec((0_u64..20_000_000, 0_u64..200_000_000), 1..40),
        ) {
            let (mut plan, mut now) = (Plan::new(quantum_ps), NOW);
            for (elapsed, want) in steps {
                now = now.saturating_add(Nanos::from_nanos(elapsed));
                let until = now.saturating_add(Nanos::from_nanos(want));
                plan.frames(now, &link(until)).for_each(drop);
                let most = u64::from(u16::MAX) * u64::from(quantum_ps) / 1_000;
                let left = plan.link.saturating_sub(now).as_nanos();
                prop_assert!(left * 2 >= want.min(most));
                match plan.due(now) {
                    None => prop_assert_eq!(want, 0),
                    Some(due) => prop_assert!(now <= due && due <= plan.link),
                }
            }
        }
    }
}
