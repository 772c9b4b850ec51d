//! The one place that says how a packet leaves the ingress program.

use weir_shared_maps::IngressCounter;

/// What the program returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `XDP_REDIRECT` through the device map.
    Redirect,
    /// `XDP_PASS`: the kernel's stack forwards, answers or drops. All errors that are not the packet's end here:
    /// ingress fails open.
    Stack,
    /// `XDP_DROP`.
    Drop,
}

/// The exit that belongs to a counter. Exhaustive: a new counter must say how its packets leave.
#[inline(always)]
pub const fn exit_of(counter: IngressCounter) -> Exit {
    match counter {
        IngressCounter::Redirected => Exit::Redirect,
        IngressCounter::DropBackpressure | IngressCounter::PauseReceived => Exit::Drop,
        IngressCounter::Received
        | IngressCounter::PassNotIp
        | IngressCounter::PassMalformed
        | IngressCounter::PassVlan
        | IngressCounter::PassNotUnicast
        | IngressCounter::PassOptions
        | IngressCounter::PassTtl
        | IngressCounter::PassNotForwarded
        | IngressCounter::PassUnreachable
        | IngressCounter::PassForwardingDisabled
        | IngressCounter::PassNoNeighbour
        | IngressCounter::PassFragNeeded
        | IngressCounter::PassEncapsulation
        | IngressCounter::PassFibError
        | IngressCounter::PassNotManaged
        | IngressCounter::PassNoState
        | IngressCounter::PassRewrite
        | IngressCounter::PassDiverted => Exit::Stack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_shared_maps::CounterId;

    #[test]
    fn every_counter_named_pass_goes_to_the_stack_and_every_other_does_not() {
        for counter in IngressCounter::ALL {
            let passes = counter.name().starts_with("pass_") || *counter == IngressCounter::Received;
            assert_eq!(exit_of(*counter) == Exit::Stack, passes, "{}", counter.name());
        }
    }
}
