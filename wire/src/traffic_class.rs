//! The two fields of the IPv4 TOS octet and the IPv6 traffic class.

const ECN_MASK: u8 = 0b11;

/// The ECN field, the two low bits of the traffic class (RFC 3168, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not understand marks: congestion has to drop.
    NotEct = 0b00,
    /// ECN-capable, ECT(1); the L4S identifier (RFC 9331).
    Ect1 = 0b01,
    /// ECN-capable, ECT(0).
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// The ECN field of a TOS octet or traffic class.
    #[inline(always)]
    pub const fn of(traffic_class: u8) -> Self {
        match traffic_class & ECN_MASK {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// Whether a mark may stand for a drop: ECT(0), ECT(1) or CE.
    #[inline(always)]
    pub const fn is_capable(self) -> bool {
        !matches!(self, Self::NotEct)
    }

    /// `traffic_class` with this ECN field and its own DSCP.
    #[inline(always)]
    pub(crate) const fn put(self, traffic_class: u8) -> u8 {
        (traffic_class & !ECN_MASK) | self as u8
    }
}

/// What came of an attempt to mark a packet with CE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a packet that cannot be marked has to be dropped where a mark was due"]
pub enum Mark {
    /// The packet was ECT(0) or ECT(1) and now is CE.
    Marked,
    /// The packet was CE on arrival and is unchanged.
    AlreadyCe,
    /// The packet is not ECN-capable and is unchanged (RFC 3168 forbids CE on it).
    NotEct,
}

impl Mark {
    /// What marking a packet with this ECN field comes to.
    #[inline(always)]
    pub(crate) const fn of(ecn: Ecn) -> Self {
        match ecn {
            Ecn::NotEct => Self::NotEct,
            Ecn::Ect0 | Ecn::Ect1 => Self::Marked,
            Ecn::Ce => Self::AlreadyCe,
        }
    }
}

/// A differentiated services code point, 0 to 63 (RFC 2474, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Dscp(u8);

impl Dscp {
    /// Default forwarding (RFC 2474).
    pub const DF: Self = Self(0);
    /// Lower effort (RFC 8622).
    pub const LE: Self = Self(1);
    /// Expedited forwarding (RFC 3246).
    pub const EF: Self = Self(46);
    /// Network control, class selector 6 (RFC 4594).
    pub const CS6: Self = Self(48);
    /// The greatest code point.
    pub const MAX: Self = Self(63);

    /// The code point with this number, or `None` above 63.
    #[inline(always)]
    pub const fn new(code_point: u8) -> Option<Self> {
        if code_point <= Self::MAX.0 { Some(Self(code_point)) } else { None }
    }

    /// The code point of a TOS octet or traffic class.
    #[inline(always)]
    pub const fn of(traffic_class: u8) -> Self {
        Self(traffic_class >> 2)
    }

    /// Its number, 0 to 63.
    #[inline(always)]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// `traffic_class` with this code point and its own ECN field.
    #[inline(always)]
    pub(crate) const fn put(self, traffic_class: u8) -> u8 {
        (self.0 << 2) | (traffic_class & ECN_MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_traffic_class_is_its_dscp_and_its_ecn_field() {
        for class in 0..=u8::MAX {
            assert_eq!(Ecn::of(class).put(Dscp::of(class).put(0)), class);
            assert_eq!(Dscp::of(class).put(Ecn::of(class).put(!class)), class);
        }
    }

    #[test]
    fn a_code_point_above_63_does_not_exist() {
        assert_eq!(Dscp::new(63), Some(Dscp::MAX));
        assert_eq!(Dscp::new(64), None);
    }

    #[test]
    fn rfc3168_ce_is_only_set_on_ecn_capable_packets() {
        assert_eq!(Mark::of(Ecn::NotEct), Mark::NotEct);
        assert_eq!(Mark::of(Ecn::Ect0), Mark::Marked);
        assert_eq!(Mark::of(Ecn::Ect1), Mark::Marked);
        assert_eq!(Mark::of(Ecn::Ce), Mark::AlreadyCe);
    }
}
