//! The class's policer: two rates and three colours (RFC 2698), or one rate and two.

use weir_aqm::{Bytes, Colour, GcraParams, Nanos, TrtcmParams, TrtcmVars, gcra, trtcm};
use weir_shared_maps::{COLOUR_DROP, ClassConfig, DSCP_KEEP, POLICER_BYTES, POLICER_NONE, POLICER_PACKETS};

use super::Packet;
use crate::convert::pace_of_word;

/// What the policer says.
pub(super) struct Metered {
    pub colour: Option<Colour>,
    /// The code point to set, by colour or by the class.
    pub dscp: Option<u8>,
    pub dropped: bool,
    /// The buckets after the packet, to be stored if it passes.
    pub vars: TrtcmVars,
}

/// Colours one packet. Without a policer only the class's own code point is left to say. `rest` is charged with it, if it passes.
#[inline(always)]
pub(super) fn meter(config: &ClassConfig, vars: &TrtcmVars, packet: &Packet, rest: Bytes) -> Metered {
    let mut metered = Metered { colour: None, dscp: None, dropped: false, vars: *vars };
    let mut action = DSCP_KEEP;
    if config.policer != POLICER_NONE
        && let Some((colour, after)) = coloured(config, *vars, packet)
    {
        metered.colour = Some(colour);
        metered.vars = followed(config, after, colour, rest);
        action = match colour {
            Colour::Green => DSCP_KEEP,
            Colour::Yellow => config.yellow,
            Colour::Red => config.red,
        };
    }
    metered.dropped = action == COLOUR_DROP;
    let code_point = if action == DSCP_KEEP { config.dscp } else { action };
    if code_point < DSCP_KEEP && code_point != u32::from(packet.dscp) {
        metered.dscp = Some(code_point as u8);
    }
    metered
}

/// The buckets with the frames after the first taken out of those that its colour was taken out of.
#[inline(always)]
fn followed(config: &ClassConfig, vars: TrtcmVars, colour: Colour, rest: Bytes) -> TrtcmVars {
    if rest == Bytes::ZERO || config.policer != POLICER_BYTES {
        return vars;
    }
    let after = |word: u64, tat: Nanos| match pace_of_word(word) {
        Some(pace) => tat.saturating_add(pace.time_for_rounded_up(rest)),
        None => tat,
    };
    match colour {
        Colour::Green => TrtcmVars {
            peak_tat: after(config.pir_pace, vars.peak_tat),
            committed_tat: after(config.cir_pace, vars.committed_tat),
        },
        Colour::Yellow => TrtcmVars { peak_tat: after(config.pir_pace, vars.peak_tat), ..vars },
        Colour::Red => vars,
    }
}

/// `None` where the committed rate is missing, which the config forbids: the packet passes without a colour.
///
/// With one rate a packet that arrives yellow is red: there is no second bucket that it could be within.
#[inline(always)]
fn coloured(config: &ClassConfig, vars: TrtcmVars, packet: &Packet) -> Option<(Colour, TrtcmVars)> {
    let committed =
        GcraParams { pace: pace_of_word(config.cir_pace)?, tolerance: Nanos::from_nanos(config.cbs_ns) };
    let cost = match config.policer {
        POLICER_BYTES => packet.cost,
        POLICER_PACKETS => gcra::PACKET,
        _ => Bytes::ZERO,
    };
    let arrived = if config.colour_aware == 0 { Colour::Green } else { af_colour(packet.dscp) };
    let Some(pace) = pace_of_word(config.pir_pace) else {
        let params = TrtcmParams { peak: committed, committed };
        return Some(match trtcm::committed(&params, vars.committed_tat, packet.now, cost, arrived) {
            Some(committed_tat) => (Colour::Green, TrtcmVars { committed_tat, ..vars }),
            None => (Colour::Red, vars),
        });
    };
    let peak = GcraParams { pace, tolerance: Nanos::from_nanos(config.pbs_ns) };
    Some(trtcm::mark(&TrtcmParams { peak, committed }, vars, packet.now, cost, arrived))
}

/// The colour that a code point's drop precedence stands for (RFC 2597 section 6): AFx1 green, AFx2 yellow, AFx3 red. Other
/// code points are green.
#[inline(always)]
pub const fn af_colour(dscp: u8) -> Colour {
    let class = dscp >> 3;
    if class == 0 || class > 4 {
        return Colour::Green;
    }
    match dscp & 7 {
        4 => Colour::Yellow,
        6 => Colour::Red,
        _ => Colour::Green,
    }
}
