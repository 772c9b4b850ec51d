//! Compiled rules agree with reading them from the top, on random rules and packets.

use super::*;
use crate::config::VlanId;
use proptest::option;
use proptest::prelude::*;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use weir_ingress::rules::first_match;
use weir_wire::parse;

/// A packet as the oracle sees it.
#[derive(Clone, Debug)]
struct Sample {
    source: IpAddr,
    destination: IpAddr,
    dscp: u8,
    vlan: u16,
    protocol: u8,
    ports: (u16, u16),
    payload: u16,
    /// Where it arrived; the router's own packets did nowhere.
    ingress: Option<usize>,
    /// The mark of what the stack sends; 0 is none. What XDP sees has no place for one.
    mark: Option<u32>,
}

impl Sample {
    fn has_ports(&self) -> bool {
        crate::config::policy::words::has_ports(self.protocol) && self.payload >= 4
    }

    fn size(&self) -> u32 {
        u32::from(self.payload) + if self.source.is_ipv4() { 20 } else { 40 }
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let size = (self.size() as u16).to_be_bytes();
                frame.extend([8, 0, 0x45, self.dscp << 2, size[0], size[1], 0, 0, 0, 0, 64]);
                frame.extend([self.protocol, 0, 0]);
                frame.extend([source.octets(), destination.octets()].concat());
            }
            (source, destination) => {
                let bytes = |address| match address {
                    IpAddr::V6(address) => address.octets(),
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                };
                let size = self.payload.to_be_bytes();
                frame.extend([0x86, 0xdd, 0x60 | self.dscp >> 2, (self.dscp & 3) << 6, 0, 0]);
                frame.extend([size[0], size[1], self.protocol, 64]);
                frame.extend([bytes(source), bytes(destination)].concat());
            }
        }
        let mut payload = vec![0; self.payload.into()];
        if self.payload >= 4 {
            payload[..2].copy_from_slice(&self.ports.0.to_be_bytes());
            payload[2..4].copy_from_slice(&self.ports.1.to_be_bytes());
        }
        frame.extend(payload);
        frame
    }
}

/// Whether a rule holds, condition by condition, as docs/policy.md says it.
fn holds(rule: &MatchRule, packet: &Sample) -> bool {
    fn any<T>(list: &Option<Vec<T>>, holds: impl Fn(&T) -> bool) -> bool {
        list.as_ref().is_none_or(|list| list.iter().any(holds))
    }
    let ports = packet.has_ports();
    any(&rule.dscp, |dscp| *dscp == packet.dscp)
        && any(&rule.vlan, |vlan| vlan.get() == packet.vlan)
        && any(&rule.source, |net| net.contains(&packet.source))
        && any(&rule.destination, |net| net.contains(&packet.destination))
        && any(&rule.protocol, |protocol| *protocol == packet.protocol)
        && any(&rule.source_port, |range| ports && range.contains(&packet.ports.0))
        && any(&rule.destination_port, |range| ports && range.contains(&packet.ports.1))
        && any(&rule.size, |range| range.contains(&packet.size()))
        && any(&rule.ingress, |ingress| packet.ingress == Some(*ingress))
        && any(&rule.mark, |mark| packet.mark == Some(*mark))
}

fn net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0_u32..16, 24_u8..=32).prop_map(|(low, length)| {
            let net = ipnet::Ipv4Net::new((0x0a00_0000 | low).into(), length).unwrap();
            IpNet::V4(net.trunc())
        }),
        (0_u128..16, 120_u8..=128).prop_map(|(low, length)| {
            let net = ipnet::Ipv6Net::new(Ipv6Addr::from((0x2001_0db8 << 96) | low), length).unwrap();
            IpNet::V6(net.trunc())
        }),
    ]
}

fn some<T: std::fmt::Debug>(one: impl Strategy<Value = T>) -> impl Strategy<Value = Option<Vec<T>>> {
    option::weighted(0.3, prop::collection::vec(one, 1..3))
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![1_u16..6, Just(u16::MAX)]
}

fn range<T: Ord + Copy + std::fmt::Debug>(
    ends: impl Strategy<Value = (T, T)>,
) -> impl Strategy<Value = RangeInclusive<T>> {
    ends.prop_map(|(a, b)| a.min(b)..=a.max(b))
}

fn protocol() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![1_u8, 6, 17, 33, 58, 59, 132])
}

fn rule() -> impl Strategy<Value = MatchRule> {
    let ports = || some(range((port(), port())));
    (
        (some(0_u8..4), some((1_i64..4).prop_map(|id| VlanId::new(id).unwrap())), some(net()), some(net())),
        (some(protocol()), ports(), ports(), some(0_usize..3), some(range((20_u32..60, 20_u32..60)))),
        some(1_u32..4),
    )
        .prop_map(
            |(
                (dscp, vlan, source, destination),
                (protocol, source_port, destination_port, ingress, size),
                mark,
            )| {
                MatchRule {
                    class: String::new(),
                    dscp,
                    vlan,
                    source,
                    destination,
                    protocol,
                    source_port,
                    destination_port,
                    ingress,
                    size,
                    mark,
                }
            },
        )
}

/// By XDP, through the stack, or from the router itself.
fn way() -> impl Strategy<Value = (Option<usize>, Option<u32>)> {
    prop_oneof![
        (0_usize..3).prop_map(|ingress| (Some(ingress), None)),
        (option::of(0_usize..3), (0_u32..5).prop_map(Some)),
    ]
}

fn packet() -> impl Strategy<Value = Sample> {
    let addresses = prop_oneof![
        (0_u32..20, 0_u32..20).prop_map(|(a, b)| {
            let address = |low: u32| IpAddr::from((0x0a00_0000 | low).to_be_bytes());
            (address(a), address(b))
        }),
        (0_u128..20, 0_u128..20).prop_map(|(a, b)| {
            let address = |low: u128| IpAddr::V6(Ipv6Addr::from((0x2001_0db8 << 96) | low));
            (address(a), address(b))
        }),
    ];
    (addresses, 0_u8..4, 0_u16..4, protocol(), (0_u16..6, 0_u16..6), 0_u16..40, way()).prop_map(
        |((source, destination), dscp, vlan, protocol, ports, payload, (ingress, mark))| Sample {
            source,
            destination,
            dscp,
            vlan,
            protocol,
            ports,
            payload,
            ingress,
            mark,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_first_match_is_that_of_reading_the_rules_from_the_top(
        rules in prop::collection::vec(rule(), 0..=64),
        packets in prop::collection::vec(packet(), 32),
    ) {
        let compiled = compile(&rules, 3);
        for packet in packets {
            let expected = rules.iter().position(|rule| holds(rule, &packet)).map(|index| index as u32);
            let frame = packet.frame();
            let l3 = parse(frame.as_slice()).unwrap().l3;
            let start = match (packet.ingress, packet.mark) {
                (Some(ingress), None) => compiled.ingress[ingress],
                (ingress, mark) => {
                    let by_mark = compiled.mark.get(&mark.unwrap()).or(compiled.mark.get(&0));
                    by_mark.unwrap() & ingress.map_or(compiled.own, |ingress| compiled.arrived[ingress])
                }
            };
            let found = first_match(
                &compiled, start, compiled.dimensions, packet.vlan, &l3, frame.as_slice(),
            );
            prop_assert_eq!(found, expected, "{:?}", packet);
        }
    }
}

#[test]
fn dimensions_that_no_rule_looks_at_have_no_table() {
    let rule = MatchRule { dscp: Some(vec![46]), ..MatchRule::default() };
    let compiled = compile(&[rule], 1);
    assert_eq!((compiled.dimensions, compiled.dscp.len(), compiled.vlan.len()), (DIM_DSCP, 64, 0));
    assert!(compiled.source.is_empty() && compiled.source_port.is_empty());
}
