//! Whether prefixes overlap: sorted, each is compared with the one that reaches farthest before it.

use std::net::IpAddr;

use ipnet::IpNet;

/// A prefix and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub net: IpNet,
    /// Index of the owner, in the order of the files.
    pub owner: usize,
}

/// Pairs of overlapping prefixes, at most `most`; of each pair the one that was written later comes first.
pub(super) fn overlaps(prefixes: &[Owned], most: usize) -> Vec<(Owned, Owned)> {
    let mut found = Vec::new();
    let mut sorted: Vec<(bool, u128, u128, Owned)> = prefixes.iter().map(|owned| bounds(*owned)).collect();
    // Of two that begin together, the larger comes first; of two that are equal, the earlier.
    sorted.sort_unstable_by_key(|(v6, first, last, owned)| (*v6, *first, u128::MAX - *last, owned.owner));
    let mut reach: Option<(bool, u128, Owned)> = None;
    for (v6, first, last, owned) in sorted {
        match reach {
            // Prefixes nest or are apart: the one that reaches farthest contains this one, or nothing does.
            Some((family, end, container)) if family == v6 && first <= end => {
                found.push(if owned.owner < container.owner {
                    (container, owned)
                } else {
                    (owned, container)
                });
                if found.len() == most {
                    break;
                }
            }
            Some(_) | None => reach = Some((v6, last, owned)),
        }
    }
    found
}

fn bounds(owned: Owned) -> (bool, u128, u128, Owned) {
    match owned.net {
        IpNet::V4(net) => (false, u32::from(net.network()).into(), u32::from(net.broadcast()).into(), owned),
        IpNet::V6(net) => (true, net.network().into(), net.broadcast().into(), owned),
    }
}

/// Whether a prefix is of IPv6.
pub(super) fn is_v6(net: &IpNet) -> bool {
    matches!(net.addr(), IpAddr::V6(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owned(texts: &[&str]) -> Vec<Owned> {
        texts.iter().enumerate().map(|(owner, text)| Owned { net: text.parse().unwrap(), owner }).collect()
    }

    #[test]
    fn neighbours_do_not_overlap_and_nested_prefixes_do() {
        let apart = ["10.0.0.0/25", "10.0.0.128/25", "9.255.255.255/32", "::a00:0/128"];
        assert!(overlaps(&owned(&apart), 9).is_empty());
        let nested = owned(&["10.0.0.7/32", "2001:db8::/32", "10.0.0.0/24", "2001:db8:7::/56"]);
        let found = overlaps(&nested, 9);
        assert_eq!(found, [(nested[2], nested[0]), (nested[3], nested[1])]);
        let twice = owned(&["10.0.0.7/32", "10.0.0.7/32"]);
        assert_eq!(overlaps(&twice, 9), [(twice[1], twice[0])]);
    }

    proptest! {
        #[test]
        fn an_overlap_is_found_exactly_if_comparing_all_pairs_finds_one(
            nets in prop::collection::vec((0_u32..64, 26_u8..=32), 0..12),
        ) {
            let nets: Vec<Owned> = nets
                .into_iter()
                .enumerate()
                .map(|(owner, (low, length))| {
                    let net = ipnet::Ipv4Net::new((0x0a00_0000 | low).into(), length).unwrap();
                    Owned { net: net.trunc().into(), owner }
                })
                .collect();
            let share = |a: &Owned, b: &Owned| a.net.contains(&b.net) || b.net.contains(&a.net);
            let naive = nets.iter().enumerate().any(|(i, a)| nets.iter().skip(i + 1).any(|b| share(a, b)));
            let found = overlaps(&nets, 100);
            prop_assert_eq!(!found.is_empty(), naive);
            for (later, earlier) in found {
                prop_assert!(later.owner > earlier.owner && share(&later, &earlier));
            }
        }
    }
}
