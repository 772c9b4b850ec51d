//! A frame taken apart down to its network header.

use crate::{Dscp, Ecn, Ipv4View, Ipv6View, Link, Malformed, Mark, Packet, Upper, ethernet, parse_link};

/// The link and network layers of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parsed {
    /// EtherType and VLAN tags.
    pub link: Link,
    /// The network header.
    pub l3: L3,
}

/// A network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L3 {
    /// IPv4.
    V4(Ipv4View),
    /// IPv6.
    V6(Ipv6View),
    /// Neither, or more VLAN tags than are looked through; [`Link::ethertype`] says which.
    Other,
}

/// What came of taking one from the TTL or hop limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "an expired packet must not be forwarded"]
pub enum Hop {
    /// One was taken: the packet may travel on.
    Forward,
    /// There was none to take: the packet is unchanged, and the stack owes its sender an ICMP error.
    Expired,
}

/// Reads and checks the link and network headers of a frame.
///
/// # Errors
///
/// Those of [`parse_link`], [`Ipv4View::parse`] and [`Ipv6View::parse`].
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(p: &P) -> Result<Parsed, Malformed> {
    let link = parse_link(p)?;
    let l3 = match link.ethertype {
        ethernet::IPV4 => L3::V4(Ipv4View::parse(p, &link)?),
        ethernet::IPV6 => L3::V6(Ipv6View::parse(p, &link)?),
        _ => L3::Other,
    };
    Ok(Parsed { link, l3 })
}

impl L3 {
    /// Reads and checks the IP header of a known version (4 or 6) at a known offset, without the link layer; any
    /// other version is [`L3::Other`].
    ///
    /// # Errors
    ///
    /// Those of [`Ipv4View::parse`] and [`Ipv6View::parse`].
    #[inline(always)]
    pub fn parse_at<P: Packet + ?Sized>(p: &P, version: u8, l3_offset: u8) -> Result<Self, Malformed> {
        let ethertype = match version {
            4 => ethernet::IPV4,
            6 => ethernet::IPV6,
            _ => return Ok(Self::Other),
        };
        let l3_offset = u16::from(l3_offset);
        let link = Link { ethertype, l3_offset, outer_tpid: 0, outer_vid: 0, inner_vid: 0, vlans: 0 };
        if version == 4 {
            Ipv4View::parse(p, &link).map(Self::V4)
        } else {
            Ipv6View::parse(p, &link).map(Self::V6)
        }
    }

    /// The ECN field; [`Ecn::NotEct`] for what is not IP.
    #[inline(always)]
    pub const fn ecn(&self) -> Ecn {
        match self {
            Self::V4(v4) => v4.ecn(),
            Self::V6(v6) => v6.ecn(),
            Self::Other => Ecn::NotEct,
        }
    }

    /// The code point; [`Dscp::DF`] for what is not IP.
    #[inline(always)]
    pub const fn dscp(&self) -> Dscp {
        match self {
            Self::V4(v4) => v4.dscp(),
            Self::V6(v6) => v6.dscp(),
            Self::Other => Dscp::DF,
        }
    }

    /// The payload's protocol and place; `None` for what is not IP.
    ///
    /// # Errors
    ///
    /// Those of [`Ipv6View::upper`].
    #[inline(always)]
    pub fn upper<P: Packet + ?Sized>(&self, p: &P) -> Result<Option<Upper>, Malformed> {
        match self {
            Self::V4(v4) => Ok(Some(v4.upper())),
            Self::V6(v6) => v6.upper(p).map(Some),
            Self::Other => Ok(None),
        }
    }

    /// Takes one from the TTL or hop limit; what is not IP has none and may travel on.
    ///
    /// # Errors
    ///
    /// Those of [`Ipv4View::decrement_ttl`] and [`Ipv6View::decrement_hop_limit`].
    #[inline(always)]
    pub fn decrement_hops<P: Packet + ?Sized>(&mut self, p: &mut P) -> Result<Hop, Malformed> {
        match self {
            Self::V4(v4) => v4.decrement_ttl(p),
            Self::V6(v6) => v6.decrement_hop_limit(p),
            Self::Other => Ok(Hop::Forward),
        }
    }

    /// Marks the packet with congestion experienced; what is not IP is [`Mark::NotEct`].
    ///
    /// # Errors
    ///
    /// Those of [`Ipv4View::set_ecn_ce`] and [`Ipv6View::set_ecn_ce`].
    #[inline(always)]
    pub fn set_ecn_ce<P: Packet + ?Sized>(&mut self, p: &mut P) -> Result<Mark, Malformed> {
        match self {
            Self::V4(v4) => v4.set_ecn_ce(p),
            Self::V6(v6) => v6.set_ecn_ce(p),
            Self::Other => Ok(Mark::NotEct),
        }
    }

    /// Replaces the code point and keeps the ECN field; what is not IP is left alone.
    ///
    /// # Errors
    ///
    /// Those of [`Ipv4View::set_dscp`] and [`Ipv6View::set_dscp`].
    #[inline(always)]
    pub fn set_dscp<P: Packet + ?Sized>(&mut self, p: &mut P, dscp: Dscp) -> Result<(), Malformed> {
        match self {
            Self::V4(v4) => v4.set_dscp(p, dscp),
            Self::V6(v6) => v6.set_dscp(p, dscp),
            Self::Other => Ok(()),
        }
    }
}
