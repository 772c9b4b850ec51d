//! What the kernel's routing helper answered, as a way out.

use weir_shared_maps::IngressCounter;

/// Return codes of `bpf_fib_lookup` (`enum bpf_fib_lookup` results, `include/uapi/linux/bpf.h` at v6.18).
/// A negative number is an error of the call itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibAnswer(pub i64);

impl FibAnswer {
    /// `BPF_FIB_LKUP_RET_SUCCESS`: next hop and MAC addresses are known.
    pub const SUCCESS: Self = Self(0);
    /// `BPF_FIB_LKUP_RET_BLACKHOLE`.
    pub const BLACKHOLE: Self = Self(1);
    /// `BPF_FIB_LKUP_RET_UNREACHABLE`.
    pub const UNREACHABLE: Self = Self(2);
    /// `BPF_FIB_LKUP_RET_PROHIBIT`.
    pub const PROHIBIT: Self = Self(3);
    /// `BPF_FIB_LKUP_RET_NOT_FWDED`.
    pub const NOT_FWDED: Self = Self(4);
    /// `BPF_FIB_LKUP_RET_FWD_DISABLED`.
    pub const FWD_DISABLED: Self = Self(5);
    /// `BPF_FIB_LKUP_RET_UNSUPP_LWT`.
    pub const UNSUPP_LWT: Self = Self(6);
    /// `BPF_FIB_LKUP_RET_NO_NEIGH`.
    pub const NO_NEIGH: Self = Self(7);
    /// `BPF_FIB_LKUP_RET_FRAG_NEEDED`.
    pub const FRAG_NEEDED: Self = Self(8);
}

/// `Ok` for a clean forward, else the counter of the reason. Codes of newer kernels count as errors of the lookup.
#[inline(always)]
pub const fn fib_exit(answer: FibAnswer) -> Result<(), IngressCounter> {
    match answer {
        FibAnswer::SUCCESS => Ok(()),
        FibAnswer::BLACKHOLE | FibAnswer::UNREACHABLE | FibAnswer::PROHIBIT => {
            Err(IngressCounter::PassUnreachable)
        }
        FibAnswer::NOT_FWDED => Err(IngressCounter::PassNotForwarded),
        FibAnswer::FWD_DISABLED => Err(IngressCounter::PassForwardingDisabled),
        FibAnswer::UNSUPP_LWT => Err(IngressCounter::PassEncapsulation),
        FibAnswer::NO_NEIGH => Err(IngressCounter::PassNoNeighbour),
        FibAnswer::FRAG_NEEDED => Err(IngressCounter::PassFragNeeded),
        FibAnswer(_) => Err(IngressCounter::PassFibError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_forwards_and_an_unknown_code_does_not() {
        assert_eq!(fib_exit(FibAnswer(0)), Ok(()));
        for code in -200..200 {
            assert_eq!(fib_exit(FibAnswer(code)).is_ok(), code == 0, "{code}");
        }
    }
}
