//! Map layouts to algorithm state and back. Exhaustive both ways: a field that is added is not forgotten.

use weir_aqm::{CodelVars, DrainVars, Held, Level, Nanos, Pace, Pi2Vars, SignalVars, drain::Outlier};
use weir_shared_maps::{CodelState, DrainState, Pi2State, PortConfig, SignalState};

/// CoDel's variables out of a map value.
#[inline(always)]
pub const fn codel_from_map(state: &CodelState) -> CodelVars {
    let CodelState {
        first_above_ns,
        drop_next_ns,
        last_arrival_ns,
        last_sojourn_ns,
        count,
        last_count,
        dropping,
        reserved: _,
    } = *state;
    CodelVars {
        first_above: Nanos::from_nanos(first_above_ns),
        drop_next: Nanos::from_nanos(drop_next_ns),
        last_arrival: Nanos::from_nanos(last_arrival_ns),
        last_sojourn: Nanos::from_nanos(last_sojourn_ns),
        count,
        last_count,
        dropping: dropping != 0,
    }
}

/// CoDel's variables as a map value.
#[inline(always)]
pub const fn codel_to_map(vars: &CodelVars) -> CodelState {
    let CodelVars { first_above, drop_next, last_arrival, last_sojourn, count, last_count, dropping } = *vars;
    CodelState {
        first_above_ns: first_above.as_nanos(),
        drop_next_ns: drop_next.as_nanos(),
        last_arrival_ns: last_arrival.as_nanos(),
        last_sojourn_ns: last_sojourn.as_nanos(),
        count,
        last_count,
        dropping: dropping as u32,
        reserved: 0,
    }
}

/// A signal out of a map value.
#[inline(always)]
pub const fn signal_from_map(state: &SignalState) -> SignalVars {
    let SignalState {
        until_ns,
        since_ns,
        level,
        raised: _,
        pressure_q32,
        reserved: _,
        paused_until_ns: _,
        held_ns: [clear, congested, full],
    } = *state;
    SignalVars {
        level: Level::from_u32(level),
        since: Nanos::from_nanos(since_ns),
        until: Nanos::from_nanos(until_ns),
        pressure: pressure_q32,
        held: Held {
            clear: Nanos::from_nanos(clear),
            congested: Nanos::from_nanos(congested),
            full: Nanos::from_nanos(full),
        },
    }
}

/// A signal as a map value, beside what others write there: how often it was raised, and until when the port is paused.
#[inline(always)]
pub const fn signal_to_map(vars: &SignalVars, raised: u32, paused_until_ns: u64) -> SignalState {
    let SignalVars { level, since, until, pressure, held: Held { clear, congested, full } } = *vars;
    SignalState {
        until_ns: until.as_nanos(),
        since_ns: since.as_nanos(),
        level: level.as_u32(),
        raised,
        pressure_q32: pressure,
        reserved: 0,
        paused_until_ns,
        held_ns: [clear.as_nanos(), congested.as_nanos(), full.as_nanos()],
    }
}

/// PI2's variables out of a map value.
#[inline(always)]
pub(crate) const fn pi2_from_map(state: &Pi2State) -> Pi2Vars {
    let Pi2State { next_update_ns, last_delay_ns, p_q32, random: _ } = *state;
    Pi2Vars {
        p: p_q32,
        next_update: Nanos::from_nanos(next_update_ns),
        last_delay: Nanos::from_nanos(last_delay_ns),
    }
}

/// PI2's variables as a map value, with the generator's state beside them.
#[inline(always)]
pub(crate) const fn pi2_to_map(vars: &Pi2Vars, random: u32) -> Pi2State {
    let Pi2Vars { p, next_update, last_delay } = *vars;
    Pi2State {
        next_update_ns: next_update.as_nanos(),
        last_delay_ns: last_delay.as_nanos(),
        p_q32: p,
        random,
    }
}

/// The drain estimate out of a map value.
#[inline(always)]
pub fn drain_from_map(state: &DrainState) -> DrainVars {
    let DrainState {
        window_start_ns,
        window_head_bytes,
        pace,
        busy_until_bytes,
        samples,
        open,
        outlier,
        reserved: _,
    } = *state;
    DrainVars {
        window_start: Nanos::from_nanos(window_start_ns),
        window_head: window_head_bytes,
        busy_until: busy_until_bytes,
        mult: (pace >> 32) as u32,
        shift: pace as u32,
        samples,
        outlier: Outlier::from_u32(outlier),
        open: open != 0,
    }
}

/// The drain estimate as a map value.
#[inline(always)]
pub fn drain_to_map(vars: &DrainVars) -> DrainState {
    let DrainVars { window_start, window_head, busy_until, mult, shift, samples, outlier, open } = *vars;
    DrainState {
        window_start_ns: window_start.as_nanos(),
        window_head_bytes: window_head,
        pace: u64::from(mult) << 32 | u64::from(shift),
        busy_until_bytes: busy_until,
        samples,
        open: u32::from(open),
        outlier: outlier.as_u32(),
        reserved: 0,
    }
}

/// A pace as one word, so that no reader on another CPU sees half of it; 0 is "unknown".
#[inline(always)]
pub const fn pace_word(pace: Option<Pace>) -> u64 {
    match pace {
        Some(pace) => (pace.mult() as u64) << 32 | pace.shift() as u64,
        None => 0,
    }
}

/// The pace in a word; `None` for 0 and for what is not normalised.
#[inline(always)]
pub const fn pace_of_word(word: u64) -> Option<Pace> {
    Pace::from_parts((word >> 32) as u32, word as u32)
}

/// The configured rate of a port, if it has one.
#[inline(always)]
pub const fn pace_from_map(config: &PortConfig) -> Option<Pace> {
    Pace::from_parts(config.pace_mult, config.pace_shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_the_way_into_a_map_and_back() {
        let codel = CodelVars {
            first_above: Nanos::from_nanos(1),
            drop_next: Nanos::from_nanos(2),
            last_arrival: Nanos::from_nanos(3),
            last_sojourn: Nanos::from_nanos(4),
            count: 5,
            last_count: 6,
            dropping: true,
        };
        assert_eq!(codel_from_map(&codel_to_map(&codel)), codel);
        let pi2 = Pi2Vars { p: 1, next_update: Nanos::from_nanos(2), last_delay: Nanos::from_nanos(3) };
        assert_eq!(pi2_from_map(&pi2_to_map(&pi2, 9)), pi2);
        let drain = DrainVars {
            window_start: Nanos::from_nanos(1),
            window_head: 2,
            busy_until: 3,
            mult: 4,
            shift: 5,
            samples: 6,
            outlier: Outlier::Faster,
            open: true,
        };
        assert_eq!(drain_from_map(&drain_to_map(&drain)), drain);
        let pace = Pace::from_bits_per_second(10_000_000);
        assert_eq!(pace_of_word(pace_word(pace)), pace);
        assert_eq!(pace_of_word(pace_word(None)), None);
    }
}
