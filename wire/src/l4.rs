//! What an IP datagram carries: its place, its ports, TCP and UDP headers.

use crate::ethernet::MAX_L3_OFFSET;
use crate::ipv6::{HEADER_LEN as IPV6_HEADER_LEN, MAX_EXTENSION_LEN, MAX_EXTENSIONS};
use crate::{Malformed, Packet};

/// The farthest a payload can start, in bytes from the start of the frame: behind two tags, an IPv6 header and
/// the longest extension headers.
pub const MAX_OFFSET: usize = MAX_L3_OFFSET + IPV6_HEADER_LEN + MAX_EXTENSIONS * MAX_EXTENSION_LEN;

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of DCCP (RFC 4340).
pub const DCCP: u8 = 33;
/// Protocol number of SCTP (RFC 9260).
pub const SCTP: u8 = 132;

const TCP_MIN_HEADER_LEN: u16 = 20;
const UDP_HEADER_LEN: u16 = 8;

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// Its start, with the header of the payload's protocol.
    First,
    /// A part that is not its start and has no ports.
    Later,
}

impl Fragment {
    /// From a fragment offset and a more-fragments bit, each zero or not.
    #[inline(always)]
    pub(crate) const fn of(offset: u16, more: u16) -> Self {
        match (offset, more) {
            (0, 0) => Self::Whole,
            (0, _) => Self::First,
            _ => Self::Later,
        }
    }
}

/// The protocol and the place of an IP payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upper {
    /// IANA protocol number. In an IPv6 [`Fragment::Later`] it is what the fragmented part begins with, which
    /// may be an extension header.
    pub protocol: u8,
    /// Which part of the payload this is.
    pub fragment: Fragment,
    /// Where it starts, in bytes from the start of the frame: at most [`MAX_OFFSET`].
    pub offset: u16,
    /// Bytes of it in this packet, without padding.
    pub len: u16,
}

/// What tells one flow between two hosts from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flow {
    /// IANA protocol number.
    pub protocol: u8,
    /// Source port; 0 where there is none: neither TCP nor UDP, or a fragment that is not the first.
    pub src_port: u16,
    /// Destination port; 0 where there is none.
    pub dst_port: u16,
}

/// The fields of a TCP header (RFC 9293) that matter to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpView {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes of the header with its options: 20 to 60, a multiple of 4.
    pub header_len: u16,
    /// Control bits, FIN in the lowest and CWR in the highest.
    pub flags: u8,
}

impl TcpView {
    /// Control bit: no more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Control bit: synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Control bit: reset the connection.
    pub const RST: u8 = 0x04;
    /// Control bit: push.
    pub const PSH: u8 = 0x08;
    /// Control bit: the acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
    /// Control bit: the urgent pointer is significant.
    pub const URG: u8 = 0x20;
    /// Control bit: ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Control bit: congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// A UDP header (RFC 768) without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpView {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes of header and data, at least 8.
    pub len: u16,
}

impl Upper {
    /// The flow, in one read of 4 bytes for TCP and UDP and none for the rest.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedTcp`], [`Malformed::TruncatedUdp`].
    #[inline(always)]
    pub fn flow<P: Packet + ?Sized>(&self, p: &P) -> Result<Flow, Malformed> {
        let (min_len, truncated) = match (self.fragment, self.protocol) {
            (Fragment::Whole | Fragment::First, TCP) => (TCP_MIN_HEADER_LEN, Malformed::TruncatedTcp),
            (Fragment::Whole | Fragment::First, UDP) => (UDP_HEADER_LEN, Malformed::TruncatedUdp),
            (Fragment::Whole | Fragment::First | Fragment::Later, protocol) => {
                return Ok(Flow { protocol, src_port: 0, dst_port: 0 });
            }
        };
        if self.len < min_len {
            return Err(truncated);
        }
        let [s0, s1, d0, d1] = p.read(self.start()).ok_or(truncated)?;
        Ok(Flow {
            protocol: self.protocol,
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
        })
    }

    /// Source and destination port, of every protocol that begins with them: TCP, UDP, DCCP and SCTP. `None` for other
    /// protocols, for a fragment that is not the first, and where the packet ends before them.
    #[inline(always)]
    pub fn ports<P: Packet + ?Sized>(&self, p: &P) -> Option<(u16, u16)> {
        if !matches!(self.protocol, TCP | UDP | DCCP | SCTP)
            || matches!(self.fragment, Fragment::Later)
            || self.len < 4
        {
            return None;
        }
        let [s0, s1, d0, d1] = p.read(self.start())?;
        Some((u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
    }

    /// The TCP header, or `None` if the payload is not TCP or does not start in this fragment.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedTcp`], [`Malformed::BadTcpHeaderLength`].
    #[inline(always)]
    pub fn tcp<P: Packet + ?Sized>(&self, p: &P) -> Result<Option<TcpView>, Malformed> {
        if self.protocol != TCP || matches!(self.fragment, Fragment::Later) {
            return Ok(None);
        }
        if self.len < TCP_MIN_HEADER_LEN {
            return Err(Malformed::TruncatedTcp);
        }
        let h: [u8; TCP_MIN_HEADER_LEN as usize] = p.read(self.start()).ok_or(Malformed::TruncatedTcp)?;
        let view = TcpView {
            src_port: u16::from_be_bytes([h[0], h[1]]),
            dst_port: u16::from_be_bytes([h[2], h[3]]),
            header_len: u16::from(h[12] >> 4) * 4,
            flags: h[13],
        };
        if view.header_len < TCP_MIN_HEADER_LEN {
            return Err(Malformed::BadTcpHeaderLength);
        }
        if view.header_len > self.len {
            return Err(Malformed::TruncatedTcp);
        }
        Ok(Some(view))
    }

    /// The UDP header, or `None` if the payload is not UDP or does not start in this fragment.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedUdp`], [`Malformed::BadUdpLength`].
    #[inline(always)]
    pub fn udp<P: Packet + ?Sized>(&self, p: &P) -> Result<Option<UdpView>, Malformed> {
        if self.protocol != UDP || matches!(self.fragment, Fragment::Later) {
            return Ok(None);
        }
        if self.len < UDP_HEADER_LEN {
            return Err(Malformed::TruncatedUdp);
        }
        let [s0, s1, d0, d1, l0, l1] = p.read(self.start()).ok_or(Malformed::TruncatedUdp)?;
        let len = u16::from_be_bytes([l0, l1]);
        // The length counts the whole datagram, of which a first fragment holds a part.
        if len < UDP_HEADER_LEN || (matches!(self.fragment, Fragment::Whole) && len > self.len) {
            return Err(Malformed::BadUdpLength);
        }
        Ok(Some(UdpView {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            len,
        }))
    }

    /// Where the payload starts. The mask changes no value: it restates the bound for the verifier, which
    /// forgets it when the field goes through the stack or into a subprogram.
    #[inline(always)]
    const fn start(&self) -> usize {
        const MASK: usize = (MAX_OFFSET + 1).next_power_of_two() - 1;
        self.offset as usize & MASK
    }
}
