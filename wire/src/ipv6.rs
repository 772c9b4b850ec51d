//! IPv6 headers and extension headers (RFC 8200).

use crate::ethernet::{Link, MAX_L3_OFFSET};
use crate::{Dscp, Ecn, Fragment, Hop, Malformed, Mark, Packet, Upper};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Extension headers that are walked: each of RFC 8200's list once, destination options twice.
pub const MAX_EXTENSIONS: usize = 6;
/// Bytes of the longest extension header: `(255 + 1) * 8`.
pub const MAX_EXTENSION_LEN: usize = 2048;

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: fragment.
pub const FRAGMENT: u8 = 44;
/// Next header: authentication (RFC 4302).
pub const AUTHENTICATION: u8 = 51;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

const HOP_LIMIT_OFFSET: usize = 7;

/// An IPv6 header whose version and length have been checked, and the means to rewrite it in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6View {
    src: [u8; 16],
    dst: [u8; 16],
    /// Version, traffic class and flow label.
    first_word: u32,
    l3_offset: u16,
    payload_len: u16,
    next_header: u8,
    hop_limit: u8,
}

impl Ipv6View {
    /// Reads and checks the header that `link` leads to, in one read of 40 bytes. Bytes behind the payload
    /// (Ethernet padding) are allowed.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedIpv6`], [`Malformed::BadIpv6Version`], [`Malformed::BadIpv6PayloadLength`].
    #[inline(always)]
    pub fn parse<P: Packet + ?Sized>(p: &P, link: &Link) -> Result<Self, Malformed> {
        let h: [u8; HEADER_LEN] = p.read(usize::from(link.l3_offset)).ok_or(Malformed::TruncatedIpv6)?;
        let view = Self {
            src: [
                h[8], h[9], h[10], h[11], h[12], h[13], h[14], h[15], h[16], h[17], h[18], h[19], h[20],
                h[21], h[22], h[23],
            ],
            dst: [
                h[24], h[25], h[26], h[27], h[28], h[29], h[30], h[31], h[32], h[33], h[34], h[35], h[36],
                h[37], h[38], h[39],
            ],
            first_word: u32::from_be_bytes([h[0], h[1], h[2], h[3]]),
            l3_offset: link.l3_offset,
            payload_len: u16::from_be_bytes([h[4], h[5]]),
            next_header: h[6],
            hop_limit: h[7],
        };
        if view.first_word >> 28 != 6 {
            return Err(Malformed::BadIpv6Version);
        }
        if usize::from(view.l3_offset) + HEADER_LEN + usize::from(view.payload_len) > p.len() {
            return Err(Malformed::BadIpv6PayloadLength);
        }
        Ok(view)
    }

    /// Source address.
    #[inline(always)]
    pub const fn src(&self) -> [u8; 16] {
        self.src
    }

    /// Destination address.
    #[inline(always)]
    pub const fn dst(&self) -> [u8; 16] {
        self.dst
    }

    /// Where the header starts, in bytes from the start of the frame.
    #[inline(always)]
    pub const fn l3_offset(&self) -> u16 {
        self.l3_offset
    }

    /// Bytes behind the fixed header that belong to the datagram, all of them inside the frame. 0 also stands
    /// for a jumbogram (RFC 2675), which has a hop-by-hop header.
    #[inline(always)]
    pub const fn payload_len(&self) -> u16 {
        self.payload_len
    }

    /// Bytes of the datagram with its fixed header: 40 to 65,575.
    #[inline(always)]
    pub const fn total_len(&self) -> u32 {
        HEADER_LEN as u32 + self.payload_len as u32
    }

    /// The traffic class: DSCP and ECN.
    #[inline(always)]
    pub const fn traffic_class(&self) -> u8 {
        (self.first_word >> 20) as u8
    }

    /// The code point.
    #[inline(always)]
    pub const fn dscp(&self) -> Dscp {
        Dscp::of(self.traffic_class())
    }

    /// The ECN field.
    #[inline(always)]
    pub const fn ecn(&self) -> Ecn {
        Ecn::of(self.traffic_class())
    }

    /// The flow label, 20 bits.
    #[inline(always)]
    pub const fn flow_label(&self) -> u32 {
        self.first_word & 0x000f_ffff
    }

    /// What follows the fixed header: an extension header or a protocol.
    #[inline(always)]
    pub const fn next_header(&self) -> u8 {
        self.next_header
    }

    /// Hops left.
    #[inline(always)]
    pub const fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// Whether the packet has hop-by-hop options, such as router alert (RFC 2711), which are the stack's to
    /// process. They can only follow the fixed header directly (RFC 8200, section 4.1), so this walks nothing.
    #[inline(always)]
    pub const fn has_hop_by_hop(&self) -> bool {
        self.next_header == HOP_BY_HOP
    }

    /// Walks at most [`MAX_EXTENSIONS`] extension headers, with one read each, to the payload's protocol and
    /// place. A fragment that is not the first ends the walk behind its fragment header.
    ///
    /// # Errors
    ///
    /// [`Malformed::TooManyExtensions`], [`Malformed::TruncatedExtension`].
    #[inline(always)]
    pub fn upper<P: Packet + ?Sized>(&self, p: &P) -> Result<Upper, Malformed> {
        let mut protocol = self.next_header;
        let mut fragment = Fragment::Whole;
        let mut offset = self.base() + HEADER_LEN;
        let mut left = usize::from(self.payload_len);
        let mut extensions = 0;
        while is_extension(protocol) && !matches!(fragment, Fragment::Later) {
            if extensions == MAX_EXTENSIONS {
                return Err(Malformed::TooManyExtensions);
            }
            extensions += 1;
            // An extension header has at least 8 bytes. The first two say what follows and how long it is; the
            // next two are a fragment header's offset and flags.
            let [next, len, high, low] = p.read(offset).ok_or(Malformed::TruncatedExtension)?;
            let size = match protocol {
                FRAGMENT => 8,
                AUTHENTICATION => (usize::from(len) + 2) * 4,
                _ => (usize::from(len) + 1) * 8,
            };
            if protocol == FRAGMENT {
                let field = u16::from_be_bytes([high, low]);
                fragment = Fragment::of(field >> 3, field & 1);
            }
            left = left.checked_sub(size).ok_or(Malformed::TruncatedExtension)?;
            offset += size;
            protocol = next;
        }
        // Both fit: the offset by the bounds of the walk, the length because it only shrank from a u16.
        Ok(Upper { protocol, fragment, offset: offset as u16, len: left as u16 })
    }

    /// Takes one from the hop limit (RFC 8200, section 3); leaves the packet as it is if the limit is 0 or 1.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedIpv6`] if the packet got shorter since it was parsed.
    #[inline(always)]
    pub fn decrement_hop_limit<P: Packet + ?Sized>(&mut self, p: &mut P) -> Result<Hop, Malformed> {
        if self.hop_limit <= 1 {
            return Ok(Hop::Expired);
        }
        let hop_limit = self.hop_limit - 1;
        p.write(self.base() + HOP_LIMIT_OFFSET, [hop_limit]).ok_or(Malformed::TruncatedIpv6)?;
        self.hop_limit = hop_limit;
        Ok(Hop::Forward)
    }

    /// Marks the packet with congestion experienced if it is ECN-capable.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedIpv6`] if the packet got shorter since it was parsed.
    #[inline(always)]
    pub fn set_ecn_ce<P: Packet + ?Sized>(&mut self, p: &mut P) -> Result<Mark, Malformed> {
        let mark = Mark::of(self.ecn());
        if matches!(mark, Mark::Marked) {
            self.set_traffic_class(p, Ecn::Ce.put(self.traffic_class()))?;
        }
        Ok(mark)
    }

    /// Replaces the code point and keeps the ECN field.
    ///
    /// # Errors
    ///
    /// [`Malformed::TruncatedIpv6`] if the packet got shorter since it was parsed.
    #[inline(always)]
    pub fn set_dscp<P: Packet + ?Sized>(&mut self, p: &mut P, dscp: Dscp) -> Result<(), Malformed> {
        self.set_traffic_class(p, dscp.put(self.traffic_class()))
    }

    #[inline(always)]
    fn set_traffic_class<P: Packet + ?Sized>(&mut self, p: &mut P, class: u8) -> Result<(), Malformed> {
        let first_word = (self.first_word & 0xf00f_ffff) | (u32::from(class) << 20);
        p.write(self.base(), first_word.to_be_bytes()).ok_or(Malformed::TruncatedIpv6)?;
        self.first_word = first_word;
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

/// Whether this next header is an extension header that [`Ipv6View::upper`] walks.
#[inline(always)]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
}
