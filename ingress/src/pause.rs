//! What a PAUSE or PFC frame of the link partner means for the port it arrives at.

use weir_aqm::Nanos;
use weir_shared_maps::PauseState;
use weir_wire::Pause;

/// What became of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heeded {
    /// The priorities it spoke of, as bits.
    pub priorities: u32,
    /// The longest pause it asked for.
    pub longest: Nanos,
}

/// Takes a frame in at `now`: each priority that it speaks of is paused from now on for the time it says, whatever was
/// said before (IEEE 802.3 annex 31B.3.3). `quantum_ps` are the picoseconds that 512 bits take on the link.
#[inline(always)]
pub fn heed(state: &mut PauseState, frame: &Pause, now: Nanos, quantum_ps: u32) -> Heeded {
    let mut heeded = Heeded::default();
    for (priority, until_ns) in state.until_ns.iter_mut().enumerate() {
        if let Some(quanta) = frame.quanta(priority) {
            // At most 65,535 quanta of 512 us: 34 s in picoseconds.
            let pause = Nanos::from_nanos(u64::from(quanta) * u64::from(quantum_ps) / 1_000);
            // Nothing rather than now: whoever reads it needs no clock to see that nobody is paused.
            *until_ns = if quanta == 0 { 0 } else { now.saturating_add(pause).as_nanos() };
            heeded.priorities |= 1 << priority;
            if pause > heeded.longest {
                heeded.longest = pause;
            }
        }
    }
    heeded
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    /// 512 bits at 10 Gbit/s.
    const TEN_GIGABIT: u32 = 51_200;

    #[test]
    fn a_pause_of_all_quanta_at_ten_gigabit_holds_each_priority_for_3_355_us() {
        let mut state = PauseState::new_zeroed();
        let now = Nanos::from_secs(1);
        let heeded = heed(&mut state, &Pause::Link(65_535), now, TEN_GIGABIT);
        assert_eq!(heeded.longest.as_nanos(), 3_355_392);
        assert_eq!(heeded.priorities, 0xff);
        assert_eq!(state.until_ns, [1_003_355_392; 8]);
    }

    #[test]
    fn a_frame_without_quanta_ends_the_pause_at_once() {
        let mut state = PauseState::new_zeroed();
        heed(&mut state, &Pause::Link(65_535), Nanos::from_secs(1), TEN_GIGABIT);
        let heeded = heed(&mut state, &Pause::Link(0), Nanos::from_millis(1_001), TEN_GIGABIT);
        assert_eq!((heeded.longest, state.until_ns), (Nanos::ZERO, [0; 8]));
    }

    #[test]
    fn a_priority_that_a_pfc_frame_does_not_enable_keeps_its_pause() {
        let mut state = PauseState::new_zeroed();
        heed(&mut state, &Pause::Link(1_000), Nanos::from_secs(1), TEN_GIGABIT);
        let mut quanta = [9; 8];
        quanta[3] = 0;
        let frame = Pause::Priority { enabled: 1 << 3, quanta };
        let heeded = heed(&mut state, &frame, Nanos::from_secs(1), TEN_GIGABIT);
        assert_eq!((heeded.priorities, heeded.longest), (1 << 3, Nanos::ZERO));
        for (priority, until) in state.until_ns.into_iter().enumerate() {
            assert_eq!(until, if priority == 3 { 0 } else { 1_000_051_200 });
        }
    }

    #[test]
    fn the_slowest_link_overflows_nothing() {
        let mut state = PauseState::new_zeroed();
        let heeded = heed(&mut state, &Pause::Link(u16::MAX), Nanos::from_secs(1), 512_000_000);
        assert_eq!(heeded.longest.as_nanos(), 33_553_920_000);
    }
}
