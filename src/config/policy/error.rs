//! The rules that classes, classification, plans and subscribers can break.

use miette::Diagnostic;
use thiserror::Error;

use crate::config::names::NameError;
use crate::config::units::UnitError;

/// A broken rule of policy. Bounds stand in the variants, so that the text cannot disagree with the check.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum PolicyRule {
    /// A list of nothing, which would never match.
    #[error("must not be an empty list")]
    #[diagnostic(code(weir::config::empty_list), help("leave the key out where there is nothing to say"))]
    EmptyList,
    /// Not a name.
    #[error("a {what} name {error}")]
    #[diagnostic(code(weir::config::name), help("{}", name_help(what)))]
    Name {
        /// `class`, `plan` or `subscriber`.
        what: &'static str,
        /// The rule it breaks.
        error: NameError,
    },
    /// A name that is taken.
    #[error("there already is a {what} of this name")]
    #[diagnostic(
        code(weir::config::duplicate_name),
        help("names are how others refer to it: choose another")
    )]
    Duplicate {
        /// `class`, `plan` or `subscriber`.
        what: &'static str,
    },
    /// A name that nothing has.
    #[error("there is no {what} of this name{known}")]
    #[diagnostic(code(weir::config::unknown_name), help("{}", unknown_help(what)))]
    Unknown {
        /// `class`, `plan` or `[[ingress]]`.
        what: &'static str,
        /// What there is, as `; known: a, b`, or nothing.
        known: String,
    },
    /// Too many of a kind.
    #[error("at most {most} {what} are allowed")]
    #[diagnostic(code(weir::config::too_many_of), help("run a second instance, or merge some of them"))]
    TooMany {
        /// The kind, in the plural.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// More is guaranteed than there is.
    #[error("the guaranteed rates of the port's classes add up to {sum}, above the port's rate of {rate}")]
    #[diagnostic(
        code(weir::config::guarantees_above_port),
        help(
            "a guarantee that cannot be kept is none; what is above its guarantee a class may borrow, up to its ceil"
        )
    )]
    GuaranteesAbovePort {
        /// Their sum.
        sum: String,
        /// The port's rate.
        rate: String,
    },
    /// A ceiling below the floor.
    #[error("must not be below the guaranteed rate ({rate})")]
    #[diagnostic(
        code(weir::config::ceil_below_rate),
        help("the ceil is the guarantee and what may be borrowed")
    )]
    CeilBelowRate {
        /// The guaranteed rate.
        rate: String,
    },
    /// A ceiling that the port cannot reach.
    #[error("must not be above the port's rate ({rate})")]
    #[diagnostic(
        code(weir::config::ceil_above_port),
        help("leave the key out: a class may borrow up to the port's rate by default")
    )]
    CeilAbovePort {
        /// The port's rate.
        rate: String,
    },
    /// Not a code point.
    #[error("must be {allowed}")]
    #[diagnostic(
        code(weir::config::dscp),
        help("names: cs0 to cs7, af11 to af43, ef, va, le, be, df; numbers: 0 to 63")
    )]
    Dscp {
        /// What may stand there.
        allowed: &'static str,
    },
    /// Several values where one belongs.
    #[error("must be one value, not a list")]
    #[diagnostic(code(weir::config::one_value))]
    OneValue,
    /// Not a protocol.
    #[error("must be a protocol's name or a number from 0 to 254")]
    #[diagnostic(
        code(weir::config::protocol),
        help(
            "names: tcp, udp, sctp, dccp, icmp, icmpv6, igmp, gre, esp, ah, ipip, ipv6, ospf; numbers are IANA's"
        )
    )]
    Protocol,
    /// Not a prefix.
    #[error("must be an IPv4 or IPv6 address or prefix")]
    #[diagnostic(
        code(weir::config::prefix),
        help("for example \"192.0.2.7\", \"10.0.0.0/8\" or \"2001:db8::/56\"")
    )]
    Prefix,
    /// A prefix with bits where its host part should be.
    #[error("has bits set behind its prefix length")]
    #[diagnostic(code(weir::config::host_bits), help("write {meant}, or the address alone"))]
    HostBits {
        /// The network that contains it.
        meant: String,
    },
    /// A prefix that takes everything.
    #[error("a subscriber's prefix must have a length of at least 1")]
    #[diagnostic(
        code(weir::config::prefix_of_everything),
        help("a plan of the whole Internet is a port's rate")
    )]
    PrefixOfEverything,
    /// Not a VLAN.
    #[error("must be a VLAN identifier from 1 to 4094")]
    #[diagnostic(code(weir::config::rule_vlan), help("0 and 4095 are reserved (IEEE 802.1Q table 9-2)"))]
    Vlan,
    /// Not a mark.
    #[error("must be a number from 1 to 4294967295")]
    #[diagnostic(
        code(weir::config::rule_mark),
        help(
            "the value of SO_MARK, or of nftables' `meta mark set`; 0 is what a packet has that nobody marked"
        )
    )]
    Mark,
    /// A VLAN that nothing can arrive with.
    #[error("no [[ingress]] lists this VLAN, so no packet arrives with it")]
    #[diagnostic(
        code(weir::config::vlan_not_listed),
        help("add it to `vlans` of the [[ingress]] where it arrives")
    )]
    VlanNotListed,
    /// Not a port or a range of them.
    #[error("must be a port from 1 to 65535 or a range of them")]
    #[diagnostic(code(weir::config::port_range), help("for example 53, \"5060-5061\" or [80, 443]"))]
    PortRange,
    /// Not a range of sizes.
    #[error("must be a range of bytes from 0 to {most}")]
    #[diagnostic(
        code(weir::config::size_range),
        help("for example \"..128\", \"1000..\" or \"64..1500\"; both ends belong to it")
    )]
    SizeRange {
        /// The largest size that is told apart.
        most: u32,
    },
    /// A range whose end comes before its start.
    #[error("the range ends before it starts")]
    #[diagnostic(code(weir::config::range_upside_down), help("write the smaller number first"))]
    UpsideDown,
    /// Ports of a protocol that has none.
    #[error("{protocol} has no ports")]
    #[diagnostic(
        code(weir::config::ports_without_protocol),
        help("with ports, `protocol` must be left out or name tcp, udp, sctp or dccp only")
    )]
    PortsOf {
        /// The protocol.
        protocol: String,
    },
    /// Not a link layer.
    #[error("is no link-layer keyword")]
    #[diagnostic(
        code(weir::config::overhead_keyword),
        help("keywords of tc-cake(8): {known}; or a number of bytes, -64 to 256, added to the frame")
    )]
    OverheadKeyword {
        /// The keywords.
        known: String,
    },
    /// Two keywords that contradict each other.
    #[error("contradicts `{other}`")]
    #[diagnostic(
        code(weir::config::overhead_conflict),
        help("at most one link, one of atm, ptm and noatm, and ether-vlan once for each tag")
    )]
    OverheadConflict {
        /// The keyword before it.
        other: String,
    },
    /// Not a rate of bytes or packets.
    #[error("{error}")]
    #[diagnostic(
        code(weir::config::policer_rate),
        help("a rate such as \"5mbit\", or packets such as \"1000pps\"")
    )]
    PolicerRate {
        /// What is wrong with it.
        error: UnitError,
    },
    /// Not a number of packets.
    #[error("must be a number of packets, such as \"32p\", because cir counts packets")]
    #[diagnostic(code(weir::config::policer_packets), help("1p to 1000000p"))]
    PolicerPackets,
    /// Packets per second out of bounds.
    #[error("must be from 1pps to 1000000000pps")]
    #[diagnostic(code(weir::config::policer_pps))]
    PolicerPps,
    /// Rates of two kinds.
    #[error("must have the unit of cir")]
    #[diagnostic(code(weir::config::policer_units), help("both rates count bits, or both count packets"))]
    PolicerUnits,
    /// A peak below the mean.
    #[error("must not be below cir ({cir})")]
    #[diagnostic(
        code(weir::config::pir_below_cir),
        help("RFC 2698 section 2: the peak information rate is equal to or greater than the committed one")
    )]
    PirBelowCir {
        /// The committed rate.
        cir: String,
    },
    /// A key of the second rate without the second rate.
    #[error("has no effect without pir")]
    #[diagnostic(
        code(weir::config::policer_without_pir),
        help("a single-rate policer knows green and red; add pir, or remove the key")
    )]
    WithoutPir,
    /// A plan that limits nothing.
    #[error("a plan needs `down`, `up` or both")]
    #[diagnostic(code(weir::config::plan_without_rate), help("for example: down = \"100mbit\""))]
    PlanWithoutRate,
    /// A ceiling of a direction that has no rate.
    #[error("has no effect without `{rate}`")]
    #[diagnostic(code(weir::config::ceil_without_rate), help("a ceil stands above a guaranteed rate"))]
    CeilWithoutRate {
        /// The key that is missing.
        rate: &'static str,
    },
    /// Two prefixes claim one address.
    #[error("{prefix} overlaps {other_prefix} of {other}")]
    #[diagnostic(
        code(weir::config::overlap),
        help("each address belongs to one subscriber, and once; the two prefixes share addresses")
    )]
    Overlap {
        /// The prefix.
        prefix: String,
        /// The other one.
        other_prefix: String,
        /// Its subscriber.
        other: String,
    },
    /// Too many lengths to look up.
    #[error(
        "the {family} prefixes of the subscribers have {has} different lengths, at most {most} are allowed"
    )]
    #[diagnostic(
        code(weir::config::prefix_lengths),
        help("each length costs a lookup for each packet; split rare lengths into prefixes of a common one")
    )]
    PrefixLengths {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// How many there are.
        has: usize,
        /// The bound.
        most: usize,
    },
    /// Subscribers that no port looks for.
    #[error("no [[port]] has the key `subscribers`, so they would have no effect")]
    #[diagnostic(
        code(weir::config::no_subscriber_port),
        help("set subscribers = \"destination\" at a port towards the subscribers, \"source\" at an uplink")
    )]
    NoSubscriberPort,
    /// The list of subscribers cannot be read.
    #[error("cannot be read: {error}")]
    #[diagnostic(
        code(weir::config::subscribers_file),
        help("the path is relative to the configuration file: {path}")
    )]
    SubscribersFile {
        /// Where it was looked for.
        path: String,
        /// What the system said.
        error: String,
    },
    /// The list's first line.
    #[error("the first line must name the columns name, prefixes and plan; {missing} is missing")]
    #[diagnostic(
        code(weir::config::csv_header),
        help("for example:\nname,prefixes,plan\nalice,192.0.2.7 2001:db8:7::/56,gold")
    )]
    CsvHeader {
        /// The first column that is missing.
        missing: &'static str,
    },
    /// A line of another shape.
    #[error("the line has {has} fields, the first line names {expected}")]
    #[diagnostic(
        code(weir::config::csv_fields),
        help(
            "prefixes of one subscriber are separated by spaces; a field that holds a comma stands in double quotes"
        )
    )]
    CsvFields {
        /// Fields of the line.
        has: usize,
        /// Fields of the first line.
        expected: usize,
    },
}

fn name_help(what: &str) -> &'static str {
    match what {
        "class" => "1 to 32 characters of a-z, 0-9, `_` and `-`",
        _ => "1 to 64 bytes without control characters",
    }
}

fn unknown_help(what: &str) -> &'static str {
    match what {
        "class" => "classes are [[port.class]] tables; a port that has none has the one class \"default\"",
        "plan" => "plans are [[plan]] tables of the configuration file",
        _ => "the device must have an [[ingress]] table of its own",
    }
}
