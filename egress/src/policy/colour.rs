//! The class's policer: two rates and three colours (RFC 2698), or one rate and two.

use weir_aqm::{Bytes, Colour, GcraParams, Nanos, SharedColour, SharedTat, TrtcmParams, gcra, trtcm};
use weir_shared_maps::{COLOUR_DROP, ClassConfig, DSCP_KEEP, POLICER_BYTES, POLICER_NONE, POLICER_PACKETS};

use super::Packet;
use crate::convert::pace_of_word;

/// What the policer says.
pub(super) struct Metered {
    pub colour: Option<Colour>,
    /// The code point to set, by colour or by the class.
    pub dscp: Option<u8>,
    pub dropped: bool,
    /// Whether the colour may be a shade too dark, because other CPUs were at the buckets.
    pub lost: bool,
}

/// The two words of a policer.
pub(super) struct Buckets<'a, T> {
    pub peak: &'a T,
    pub committed: &'a T,
}

/// Colours one packet and charges it. Without a policer only the class's own code point is left to say. `rest` is charged where
/// the packet is.
#[inline(always)]
pub(super) fn meter<T: SharedTat>(
    config: &ClassConfig,
    buckets: &Buckets<'_, T>,
    packet: &Packet,
    rest: Bytes,
) -> Metered {
    let mut metered = Metered { colour: None, dscp: None, dropped: false, lost: false };
    let mut action = DSCP_KEEP;
    if config.policer != POLICER_NONE
        && let Some(SharedColour { colour, lost }) = coloured(config, buckets, packet)
    {
        (metered.colour, metered.lost) = (Some(colour), lost);
        follow(config, buckets, colour, rest);
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

/// Takes the frames after the first out of the buckets that it was taken out of.
#[inline(always)]
fn follow<T: SharedTat>(config: &ClassConfig, buckets: &Buckets<'_, T>, colour: Colour, rest: Bytes) {
    if rest == Bytes::ZERO || config.policer != POLICER_BYTES {
        return;
    }
    let take = |word: u64, bucket: &T| {
        if let Some(pace) = pace_of_word(word) {
            // Where other CPUs win every swap these frames are free: the colour has been said.
            let _lost =
                gcra::charge_shared(bucket, |tat| Some(tat.saturating_add(pace.time_for_rounded_up(rest))));
        }
    };
    match colour {
        Colour::Green => {
            take(config.pir_pace, buckets.peak);
            take(config.cir_pace, buckets.committed);
        }
        Colour::Yellow => take(config.pir_pace, buckets.peak),
        Colour::Red => {}
    }
}

/// `None` where the committed rate is missing, which the config forbids: the packet passes without a colour.
#[inline(always)]
fn coloured<T: SharedTat>(
    config: &ClassConfig,
    buckets: &Buckets<'_, T>,
    packet: &Packet,
) -> Option<SharedColour> {
    let committed =
        GcraParams { pace: pace_of_word(config.cir_pace)?, tolerance: Nanos::from_nanos(config.cbs_ns) };
    let cost = match config.policer {
        POLICER_BYTES => packet.cost,
        POLICER_PACKETS => gcra::PACKET,
        _ => Bytes::ZERO,
    };
    let arrived = if config.colour_aware == 0 { Colour::Green } else { af_colour(packet.dscp) };
    let Some(pace) = pace_of_word(config.pir_pace) else {
        return Some(trtcm::mark_single_shared(&committed, buckets.committed, packet.now, cost, arrived));
    };
    let peak = GcraParams { pace, tolerance: Nanos::from_nanos(config.pbs_ns) };
    let params = TrtcmParams { peak, committed };
    Some(trtcm::mark_shared(&params, buckets.peak, buckets.committed, packet.now, cost, arrived))
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
