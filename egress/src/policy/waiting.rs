//! How much of a port's queue is a class's, for whoever reads the maps.

use weir_aqm::{Bytes, ShareParams, ShareVars, TagVars};
use weir_shared_maps::{ClassPlace, ClassState, PolicyState, TagState};

/// Bytes of the class in the queue that the port's classes share: in front of a ring, its part of what the ring holds. As
/// of the port's last packet, since nothing drains a phantom queue in between.
pub fn waiting(policy: &PolicyState, place: &ClassPlace, class: &ClassState) -> Bytes {
    let Some(share) = policy.shares.get(place.rank as usize) else { return Bytes::ZERO };
    let share = ShareVars { service: share.service, ..ShareVars::default() };
    let TagState { finish, weight, level } = class.tag;
    share.queue(&ShareParams { grain_shift: place.port_grain }, &TagVars { finish, weight, level })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    #[test]
    fn a_class_waits_with_what_it_was_charged_until_the_drain_has_served_it() {
        let place = ClassPlace { rank: 1, ..ClassPlace::new_zeroed() };
        let params = ShareParams { grain_shift: place.port_grain };
        let (mut share, mut tag) = (ShareVars::default(), TagVars::default());
        share.charge(&params, &mut tag, 2, Bytes::new(6_000));
        let read = |share: &ShareVars, tag: &TagVars| {
            let (mut policy, mut class) = (PolicyState::new_zeroed(), ClassState::new_zeroed());
            policy.shares[1].service = share.service;
            class.tag = TagState { finish: tag.finish, weight: tag.weight, level: tag.level };
            waiting(&policy, &place, &class).get()
        };
        assert!((6_000..6_000 + 128).contains(&read(&share, &tag)), "{}", read(&share, &tag));
        share.serve(&params, 2_000 << 16);
        assert!((4_000..4_000 + 128).contains(&read(&share, &tag)), "{}", read(&share, &tag));
        share.serve(&params, 10_000 << 16);
        assert_eq!(read(&share, &tag), 0);
    }

    #[test]
    fn a_class_that_never_sent_waits_with_nothing() {
        let zero = waiting(&PolicyState::new_zeroed(), &ClassPlace::new_zeroed(), &ClassState::new_zeroed());
        assert_eq!(zero, Bytes::ZERO);
    }
}
