//! Why a packet is not what its headers claim.

/// The check that a malformed packet failed first, going from its start to its end.
///
/// The discriminants are dense from 0, in the order of [`Malformed::ALL`], so that they can index counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Malformed {
    /// The frame ends before its EtherType does.
    TruncatedEthernet = 0,
    /// The frame ends inside a VLAN tag.
    TruncatedVlan = 1,
    /// The frame ends inside the 20 fixed bytes of the IPv4 header.
    TruncatedIpv4 = 2,
    /// The EtherType says IPv4, the version field does not.
    BadIpv4Version = 3,
    /// The IPv4 header length is below 5 words.
    BadIpv4HeaderLength = 4,
    /// The IPv4 total length is below the header length or reaches past the end of the frame.
    BadIpv4TotalLength = 5,
    /// The frame ends inside the 40 fixed bytes of the IPv6 header.
    TruncatedIpv6 = 6,
    /// The EtherType says IPv6, the version field does not.
    BadIpv6Version = 7,
    /// The IPv6 payload length reaches past the end of the frame.
    BadIpv6PayloadLength = 8,
    /// More IPv6 extension headers than [`MAX_EXTENSIONS`](crate::ipv6::MAX_EXTENSIONS).
    TooManyExtensions = 9,
    /// The datagram ends inside an IPv6 extension header.
    TruncatedExtension = 10,
    /// The datagram ends inside the TCP header.
    TruncatedTcp = 11,
    /// The TCP data offset is below 5 words.
    BadTcpHeaderLength = 12,
    /// The datagram ends inside the UDP header.
    TruncatedUdp = 13,
    /// The UDP length is below 8 or, in a datagram that is whole, reaches past its end.
    BadUdpLength = 14,
}

impl Malformed {
    /// How many causes there are.
    pub const COUNT: usize = 15;

    /// Every cause, each at the index of its discriminant.
    pub const ALL: [Self; Self::COUNT] = [
        Self::TruncatedEthernet,
        Self::TruncatedVlan,
        Self::TruncatedIpv4,
        Self::BadIpv4Version,
        Self::BadIpv4HeaderLength,
        Self::BadIpv4TotalLength,
        Self::TruncatedIpv6,
        Self::BadIpv6Version,
        Self::BadIpv6PayloadLength,
        Self::TooManyExtensions,
        Self::TruncatedExtension,
        Self::TruncatedTcp,
        Self::BadTcpHeaderLength,
        Self::TruncatedUdp,
        Self::BadUdpLength,
    ];

    /// The name used in counters and logs: lower case, words joined by `_`.
    #[inline(always)]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TruncatedEthernet => "truncated_ethernet",
            Self::TruncatedVlan => "truncated_vlan",
            Self::TruncatedIpv4 => "truncated_ipv4",
            Self::BadIpv4Version => "bad_ipv4_version",
            Self::BadIpv4HeaderLength => "bad_ipv4_header_length",
            Self::BadIpv4TotalLength => "bad_ipv4_total_length",
            Self::TruncatedIpv6 => "truncated_ipv6",
            Self::BadIpv6Version => "bad_ipv6_version",
            Self::BadIpv6PayloadLength => "bad_ipv6_payload_length",
            Self::TooManyExtensions => "too_many_extensions",
            Self::TruncatedExtension => "truncated_extension",
            Self::TruncatedTcp => "truncated_tcp",
            Self::BadTcpHeaderLength => "bad_tcp_header_length",
            Self::TruncatedUdp => "truncated_udp",
            Self::BadUdpLength => "bad_udp_length",
        }
    }
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_sits_at_the_index_of_its_discriminant() {
        for (index, cause) in Malformed::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }

    #[test]
    fn no_two_causes_share_a_name() {
        for a in Malformed::ALL {
            assert_eq!(Malformed::ALL.into_iter().filter(|b| a.as_str() == b.as_str()).count(), 1, "{a}");
        }
    }
}
