//! IPv4 headers (RFC 791).

use crate::ethernet::{Link, MAX_L3_OFFSET};
use crate::{Dscp, Ecn, Fragment, Hop, Malformed, Mark, Packet, Upper, checksum};

/// Bytes of the header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of the header with as many options as fit.
pub const MAX_HEADER_LEN: usize = 60;

const TOS_OFFSET: usize = 1;
const TTL_OFFSET: usize = 8;
const CHECKSUM_OFFSET: usize = 10;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;

/// An IPv4 header whose version and lengths have been checked, and the means to rewrite it in its packet.
///
/// The header checksum is not verified: updates are incremental and keep a wrong checksum wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4View {
    src: [u8; 4],
    dst: [u8; 4],
    l3_offset: u16,
    total_len: u16,
    fragmentation: u16,
    checksum: u16,
    version_ihl: u8,
    tos: u8,
    ttl: u8,
    protocol: u8,
}

impl Ipv4View {
    /// Reads and checks the header that `link` leads to, in one read of 20 bytes. Bytes behind the total length
    /// (Ethernet padding) are allowed.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedIpv4`], [`Malformed::BadIpv4Version`], [`Malformed::BadIpv4HeaderLength`],
    /// [`Malformed::BadIpv4TotalLength`].
    #[inline(always)]
    pub fn parse<P: Packet + ?Sized>(p: &P, link: &Link) -> Result<Self, Malformed> {
        let header: [u8; MIN_HEADER_LEN] =
            p.read(usize::from(link.l3_offset)).ok_or(Malformed::TruncatedIpv4)?;
        let view = Self {
            src: [header[12], header[13], header[14], header[15]],
            dst: [header[16], header[17], header[18], header[19]],
            l3_offset: link.l3_offset,
            total_len: u16::from_be_bytes([header[2], header[3]]),
            fragmentation: u16::from_be_bytes([header[6], header[7]]),
            checksum: u16::from_be_bytes([header[10], header[11]]),
            version_ihl: header[0],
            tos: header[1],
            ttl: header[8],
            protocol: header[9],
        };
        if view.version_ihl >> 4 != 4 {
            return Err(Malformed::BadIpv4Version);
        }
        if view.header_len() < MIN_HEADER_LEN as u16 {
            return Err(Malformed::BadIpv4HeaderLength);
        }
        let end = usize::from(view.l3_offset) + usize::from(view.total_len);
        if view.total_len < view.header_len() || end > p.len() {
            return Err(Malformed::BadIpv4TotalLength);
        }
        Ok(view)
    }

    /// Source address.
    #[inline(always)]
    pub const fn src(&self) -> [u8; 4] {
        self.src
    }

    /// Destination address.
    #[inline(always)]
    pub const fn dst(&self) -> [u8; 4] {
        self.dst
    }

    /// Where the header starts, in bytes from the start of the frame.
    #[inline(always)]
    pub const fn l3_offset(&self) -> u16 {
        self.l3_offset
    }

    /// Bytes of the datagram with its header, at least [`header_len`](Self::header_len) and inside the frame.
    #[inline(always)]
    pub const fn total_len(&self) -> u16 {
        self.total_len
    }

    /// Bytes of the header with its options: 20 to 60, a multiple of 4.
    #[inline(always)]
    pub const fn header_len(&self) -> u16 {
        (self.version_ihl & 0x0f) as u16 * 4
    }

    /// Whether the header carries options, such as router alert (RFC 2113), which are the stack's to process.
    #[inline(always)]
    pub const fn has_options(&self) -> bool {
        self.header_len() != MIN_HEADER_LEN as u16
    }

    /// The TOS octet: DSCP and ECN.
    #[inline(always)]
    pub const fn tos(&self) -> u8 {
        self.tos
    }

    /// The code point.
    #[inline(always)]
    pub const fn dscp(&self) -> Dscp {
        Dscp::of(self.tos)
    }

    /// The ECN field.
    #[inline(always)]
    pub const fn ecn(&self) -> Ecn {
        Ecn::of(self.tos)
    }

    /// Time to live, in hops.
    #[inline(always)]
    pub const fn ttl(&self) -> u8 {
        self.ttl
    }

    /// Protocol of the payload (IANA protocol numbers).
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The header checksum as the packet carries it.
    #[inline(always)]
    pub const fn checksum(&self) -> u16 {
        self.checksum
    }

    /// Whether routers must not fragment the datagram (DF).
    #[inline(always)]
    pub const fn dont_fragment(&self) -> bool {
        self.fragmentation & DONT_FRAGMENT != 0
    }

    /// Which part of a datagram this is.
    #[inline(always)]
    pub const fn fragment(&self) -> Fragment {
        Fragment::of(self.fragmentation & FRAGMENT_OFFSET_MASK, self.fragmentation & MORE_FRAGMENTS)
    }

    /// The payload's protocol and place.
    #[inline(always)]
    pub const fn upper(&self) -> Upper {
        Upper {
            protocol: self.protocol,
            fragment: self.fragment(),
            offset: self.base() as u16 + self.header_len(),
            // The parser checked that this does not go below zero.
            len: self.total_len.saturating_sub(self.header_len()),
        }
    }

    /// Takes one from the TTL and updates the checksum (RFC 1812, section 5.3.1); leaves the packet as it is if
    /// the TTL is 0 or 1.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedIpv4`] if the packet got shorter since it was parsed; it is unchanged.
    #[inline(always)]
    pub fn decrement_ttl<P: Packet + ?Sized>(&mut self, p: &mut P) -> Result<Hop, Malformed> {
        if self.ttl <= 1 {
            return Ok(Hop::Expired);
        }
        let ttl = self.ttl - 1;
        let checksum = checksum::update16(
            self.checksum,
            u16::from_be_bytes([self.ttl, self.protocol]),
            u16::from_be_bytes([ttl, self.protocol]),
        );
        let [high, low] = checksum.to_be_bytes();
        p.write(self.base() + TTL_OFFSET, [ttl, self.protocol, high, low]).ok_or(Malformed::TruncatedIpv4)?;
        self.ttl = ttl;
        self.checksum = checksum;
        Ok(Hop::Forward)
    }

    /// Marks the packet with congestion experienced if it is ECN-capable, and updates the checksum.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedIpv4`] if the packet got shorter since it was parsed.
    #[inline(always)]
    pub fn set_ecn_ce<P: Packet + ?Sized>(&mut self, p: &mut P) -> Result<Mark, Malformed> {
        let mark = Mark::of(self.ecn());
        if matches!(mark, Mark::Marked) {
            self.set_tos(p, Ecn::Ce.put(self.tos))?;
        }
        Ok(mark)
    }

    /// Replaces the code point, keeps the ECN field, and updates the checksum.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedIpv4`] if the packet got shorter since it was parsed.
    #[inline(always)]
    pub fn set_dscp<P: Packet + ?Sized>(&mut self, p: &mut P, dscp: Dscp) -> Result<(), Malformed> {
        self.set_tos(p, dscp.put(self.tos))
    }

    #[inline(always)]
    fn set_tos<P: Packet + ?Sized>(&mut self, p: &mut P, tos: u8) -> Result<(), Malformed> {
        let checksum = checksum::update16(
            self.checksum,
            u16::from_be_bytes([self.version_ihl, self.tos]),
            u16::from_be_bytes([self.version_ihl, tos]),
        );
        // The checksum first: its place is behind the other's, so if this write fits, so does the next.
        p.write(self.base() + CHECKSUM_OFFSET, checksum.to_be_bytes()).ok_or(Malformed::TruncatedIpv4)?;
        p.write(self.base() + TOS_OFFSET, [tos]).ok_or(Malformed::TruncatedIpv4)?;
        self.tos = tos;
        self.checksum = checksum;
        Ok(())
    }

    /// Where the header starts. The mask changes no value: it restates the bound for the verifier, which forgets
    /// it when the field goes through the stack or into a subprogram.
    #[inline(always)]
    const fn base(&self) -> usize {
        const MASK: usize = (MAX_L3_OFFSET + 1).next_power_of_two() - 1;
        self.l3_offset as usize & MASK
    }
}
