//! The rules of a configuration file, with what each says when it is broken and what helps.

use miette::Diagnostic;
use thiserror::Error;

use super::back_off::BackOffRule;
use super::names::NameError;
use super::policy::PolicyRule;
use super::units::UnitError;

/// The rules of a configuration file. Bounds stand in the variants, so that the text cannot disagree with the check.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum Rule {
    /// Not TOML.
    #[error("not valid TOML: {message}")]
    #[diagnostic(
        code(weir::config::syntax),
        help("https://toml.io describes the format; strings stand in double quotes")
    )]
    Syntax {
        /// What the parser said.
        message: String,
    },
    /// A key that this table does not have.
    #[error("unknown key; this table has the keys {allowed}")]
    #[diagnostic(code(weir::config::unknown_key), help("{}", did_you_mean(nearest)))]
    UnknownKey {
        /// The keys of the table.
        allowed: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value of another TOML type.
    #[error("must be {expected}, is {found}")]
    #[diagnostic(code(weir::config::wrong_type), help("for example: {example}"))]
    WrongType {
        /// The type asked for, with an article.
        expected: &'static str,
        /// The type found, with an article.
        found: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// A key without which the table means nothing.
    #[error("the key is missing")]
    #[diagnostic(code(weir::config::missing_key), help("for example: {example}"))]
    MissingKey {
        /// A line that would do.
        example: &'static str,
    },
    /// No `[[ingress]]`.
    #[error("at least one [[ingress]] table is required")]
    #[diagnostic(code(weir::config::no_ingress), help("add:\n[[ingress]]\ndevice = \"lan0\""))]
    NoIngress,
    /// No `[[port]]`.
    #[error("at least one [[port]] table is required")]
    #[diagnostic(code(weir::config::no_port), help("add:\n[[port]]\ndevice = \"wan0\""))]
    NoPort,
    /// Too many tables of a kind.
    #[error("at most {most} {table} tables are allowed, this is the {nth}th")]
    #[diagnostic(code(weir::config::too_many), help("run a second instance for further devices"))]
    TooMany {
        /// `[[ingress]]` or `[[port]]`.
        table: &'static str,
        /// The bound.
        most: usize,
        /// Number of this table, from 1.
        nth: usize,
    },
    /// A device stands in two tables of a kind.
    #[error("the device already has {table} table")]
    #[diagnostic(
        code(weir::config::duplicate_device),
        help("a device may be an ingress and a port, but each of them once; merge the two tables")
    )]
    DuplicateDevice {
        /// `an [[ingress]]` or `a [[port]]`.
        table: &'static str,
    },
    /// Not a device name.
    #[error("a device name {0}")]
    #[diagnostic(
        code(weir::config::device_name),
        help(
            "the kernel's rule: 1 to 15 bytes without `/`, `:` or white space; `ip link` lists the devices"
        )
    )]
    DeviceName(NameError),
    /// Not an instance name.
    #[error("an instance name {0}")]
    #[diagnostic(
        code(weir::config::instance_name),
        help(
            "1 to 32 characters of a-z, 0-9, `_` and `-`: the name becomes a directory of the BPF file system"
        )
    )]
    InstanceName(NameError),
    /// Not a number with a unit.
    #[error("{0}")]
    #[diagnostic(code(weir::config::unit), help("write the number and its unit in quotes, for example {example}", example = .1))]
    Unit(UnitError, &'static str),
    /// Not one of the words that the key takes.
    #[error("must be one of {}", quoted(allowed))]
    #[diagnostic(code(weir::config::choice), help("{}", did_you_mean(nearest)))]
    Choice {
        /// The words.
        allowed: &'static [&'static str],
        /// The word that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A number outside of its range.
    #[error("must be from {low} to {high}{unit}")]
    #[diagnostic(code(weir::config::range), help("{why}"))]
    Range {
        /// Smallest value.
        low: i64,
        /// Largest value.
        high: i64,
        /// Unit with a leading space, or empty.
        unit: &'static str,
        /// What the number stands for.
        why: &'static str,
    },
    /// A rate of zero.
    #[error("a rate of 0 would stop the port")]
    #[diagnostic(code(weir::config::rate_zero), help("leave the key out where no rate is to be set"))]
    RateZero,
    /// Below the slowest rate.
    #[error("must be at least 64kbit")]
    #[diagnostic(code(weir::config::rate_too_low), help("at 64 kbit/s a full frame takes 190 ms already"))]
    RateTooLow,
    /// Above the fastest rate.
    #[error("must be at most 400gbit")]
    #[diagnostic(
        code(weir::config::rate_too_high),
        help("above it time per byte is no longer represented exactly enough")
    )]
    RateTooHigh,
    /// A policer that polices nothing.
    #[error("mode \"{mode}\" needs a rate")]
    #[diagnostic(code(weir::config::policer_without_rate), help("add, for example: rate = \"20mbit\""))]
    MeterWithoutRate {
        /// The mode.
        mode: &'static str,
    },
    /// A port that the stack alone sends to, and nobody decides.
    #[error("mode \"{mode}\" needs stack = \"decide\"")]
    #[diagnostic(
        code(weir::config::stack_of_tc),
        help(
            "where the kernel forwards, its stack sends everything that leaves by the port; remove the key"
        )
    )]
    StackOfTc {
        /// The mode.
        mode: &'static str,
    },
    /// A burst where no meter runs.
    #[error("only a policer has a burst; this port's mode is \"bottleneck\"")]
    #[diagnostic(
        code(weir::config::burst_on_bottleneck),
        help("remove the key, or set mode = \"policer\"; the queue of a bottleneck is bounded by aqm.limit")
    )]
    BurstOnBottleneck,
    /// Frames that ask a sender to stop, where no queue builds up that it could wait for.
    #[error("a policer drops what exceeds its rate; it has no queue to ask senders to wait for")]
    #[diagnostic(
        code(weir::config::pause_on_policer),
        help("remove the key, or set mode = \"bottleneck\" where the port's own ring is the queue")
    )]
    PauseOnPolicer,
    /// Flow control by class without classes.
    #[error("\"pfc\" pauses the priorities of classes, and this port has no [[port.class]]")]
    #[diagnostic(
        code(weir::config::pfc_without_classes),
        help("add classes, or set pause = \"802.3x\", which stops all of a link")
    )]
    PfcWithoutClasses,
    /// A burst that no full frame passes.
    #[error("must hold at least one full frame, {least} bytes")]
    #[diagnostic(
        code(weir::config::burst_too_small),
        help(
            "a smaller burst would drop every full frame, whatever the rate; leave the key out for a fitting default"
        )
    )]
    BurstTooSmall {
        /// 1,500 bytes of MTU, the Ethernet header and the overhead.
        least: u64,
    },
    /// A burst beyond what a meter can hold.
    #[error("must be at most 2gb")]
    #[diagnostic(code(weir::config::burst_too_large), help("a burst is a few milliseconds of the rate"))]
    BurstTooLarge,
    /// A rule of classes, classification, plans or subscribers.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Policy(PolicyRule),
    /// A rule of what ingress does while a signal stands.
    #[error(transparent)]
    #[diagnostic(transparent)]
    BackOff(BackOffRule),
    /// A time of zero.
    #[error("must be above 0")]
    #[diagnostic(code(weir::config::time_zero), help("for example: {example}"))]
    TimeZero {
        /// A line that would do.
        example: &'static str,
    },
    /// A target that CoDel could never act on.
    #[error("the target must be below the interval ({interval})")]
    #[diagnostic(
        code(weir::config::target_not_below_interval),
        help(
            "RFC 8289 section 4.3: a target of 5 to 10 % of the interval; the interval is a typical round-trip time"
        )
    )]
    TargetNotBelowInterval {
        /// The interval as given, or the default.
        interval: String,
    },
    /// An interval beyond the programs' 32 bits of nanoseconds.
    #[error("must be at most 4.294967295s")]
    #[diagnostic(
        code(weir::config::interval_too_long),
        help("the interval is a typical round-trip time (RFC 8289 section 4.2), 100ms fits the Internet")
    )]
    IntervalTooLong,
    /// A time above an hour.
    #[error("must be at most 1h (3600s)")]
    #[diagnostic(
        code(weir::config::limit_too_long),
        help("a packet that waits for seconds is of no use to anyone")
    )]
    LimitTooLong,
    /// A limit that cuts the queue before the AQM acts.
    #[error("the limit must not be below the target ({target})")]
    #[diagnostic(
        code(weir::config::limit_below_target),
        help("every packet beyond the limit is dropped, so a lower limit would leave the AQM nothing to do")
    )]
    LimitBelowTarget {
        /// The target as given, or the default.
        target: String,
    },
    /// A key of an AQM that is switched off.
    #[error("has no effect while algorithm is \"none\"")]
    #[diagnostic(
        code(weir::config::aqm_key_unused),
        help("remove the key, or choose algorithm = \"codel\" or \"pi2\"")
    )]
    AqmKeyUnused,
    /// A key of another AQM than the one chosen.
    #[error("has no effect while algorithm is \"{algorithm}\"")]
    #[diagnostic(
        code(weir::config::aqm_key_of_another),
        help("remove the key: interval is CoDel's and PI2's, t_update and max_burst are PIE's")
    )]
    AqmKeyOfAnother {
        /// The algorithm chosen.
        algorithm: &'static str,
    },
    /// A VLAN listed twice.
    #[error("the VLAN is listed twice")]
    #[diagnostic(code(weir::config::vlan_duplicate), help("remove one of the two"))]
    VlanDuplicate,
    /// Generic XDP.
    #[error("generic XDP is not supported")]
    #[diagnostic(
        code(weir::config::xdp_generic),
        help(
            "generic XDP runs after the kernel has built its packet buffer: the programs of the device map and the \
             metadata between ingress and egress do not work there on all kernels; use a device with native XDP"
        )
    )]
    XdpGeneric,
    /// Not an address and a port.
    #[error("must be an IP address and a port")]
    #[diagnostic(
        code(weir::config::listen),
        help(
            "for example \"127.0.0.1:9469\" or \"[::1]:9469\"; names are not resolved, the port must not be 0"
        )
    )]
    Listen,
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "docs/config.md lists every key".to_owned(),
    }
}
