//! State as it lies in the maps.

use core::mem::offset_of;

use weir_aqm::borrow::{self, NodeVars, PortVars};
use weir_aqm::{ClaimsVars, FlowVars, ResponseVars, ShareVars, TagVars, TrtcmVars};
use weir_shared_maps::{
    AqmState, ClaimsState, ClassState, FlowState, PRIORITIES, PolicyState, ResponseState, ShareState,
    TagState,
};

/// What the classes of a port share: [`PolicyState`] as the algorithms see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Non-zero while a CPU decides.
    pub busy: u32,
    /// Zero.
    pub reserved: u32,
    /// The port.
    pub vars: PortVars,
    /// Wire bytes let through without the lock.
    pub unjudged_bytes: u64,
}

/// One class: [`ClassState`] as the algorithms see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its policer, in words that change by compare and swap.
    pub policer: TrtcmVars,
    /// What is behind the port's lock.
    pub vars: ClassVars,
}

/// What of a class is behind the port's lock.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassVars {
    /// Its meters and its place at the port.
    pub node: NodeVars,
    /// Its controller.
    pub aqm: AqmState,
    /// Who shares it.
    pub share: ShareVars,
    /// Who of them has a claim to it.
    pub claims: ClaimsVars,
}

// The maps' layouts are these.
const _: () = {
    assert!(PRIORITIES == borrow::PRIORITIES);
    assert!(size_of::<TagVars>() == size_of::<TagState>());
    assert!(offset_of!(TagVars, finish) == offset_of!(TagState, finish));
    assert!(offset_of!(TagVars, weight) == offset_of!(TagState, weight));
    assert!(offset_of!(TagVars, level) == offset_of!(TagState, level));
    assert!(size_of::<ShareVars>() == size_of::<ShareState>());
    assert!(offset_of!(ShareVars, service) == offset_of!(ShareState, service));
    assert!(offset_of!(ShareVars, backlog) == offset_of!(ShareState, backlog));
    assert!(offset_of!(ShareVars, credit) == offset_of!(ShareState, credit));
    assert!(offset_of!(ShareVars, drained_until) == offset_of!(ShareState, drained_until_ns));
    assert!(offset_of!(ShareVars, weight) == offset_of!(ShareState, weight));
    assert!(offset_of!(ShareVars, occupied) == offset_of!(ShareState, occupied));
    assert!(offset_of!(ShareVars, buckets) == offset_of!(ShareState, buckets));
    assert!(size_of::<Policy>() == size_of::<PolicyState>());
    assert!(offset_of!(Policy, busy) == offset_of!(PolicyState, busy));
    assert!(offset_of!(Policy, vars) + offset_of!(PortVars, owed) == offset_of!(PolicyState, owed));
    assert!(offset_of!(Policy, vars) + offset_of!(PortVars, shares) == offset_of!(PolicyState, shares));
    assert!(offset_of!(Policy, unjudged_bytes) == offset_of!(PolicyState, unjudged_bytes));
    assert!(size_of::<Class>() == size_of::<ClassState>());
    assert!(offset_of!(TrtcmVars, peak_tat) == offset_of!(ClassState, peak_tat_ns));
    assert!(offset_of!(TrtcmVars, committed_tat) == offset_of!(ClassState, committed_tat_ns));
    let vars = offset_of!(Class, vars);
    assert!(vars + offset_of!(NodeVars, guaranteed_tat) == offset_of!(ClassState, rate_tat_ns));
    assert!(vars + offset_of!(NodeVars, ceil_tat) == offset_of!(ClassState, ceil_tat_ns));
    assert!(vars + offset_of!(NodeVars, tag) == offset_of!(ClassState, tag));
    assert!(vars + offset_of!(ClassVars, aqm) == offset_of!(ClassState, aqm));
    assert!(vars + offset_of!(ClassVars, share) == offset_of!(ClassState, share));
    assert!(vars + offset_of!(ClassVars, claims) == offset_of!(ClassState, claims));
    assert!(size_of::<ClaimsVars>() == size_of::<ClaimsState>());
    assert!(offset_of!(ClaimsVars, since) == offset_of!(ClaimsState, since_ns));
    assert!(offset_of!(ClaimsVars, now) == offset_of!(ClaimsState, now));
    assert!(offset_of!(ClaimsVars, before) == offset_of!(ClaimsState, before));
    assert!(offset_of!(ClaimsVars, window) == offset_of!(ClaimsState, window));
    assert!(size_of::<FlowVars>() == size_of::<FlowState>());
    assert!(offset_of!(FlowVars, first_above) == offset_of!(FlowState, first_above_ns));
    assert!(offset_of!(FlowVars, drop_next) == offset_of!(FlowState, drop_next_ns));
    assert!(offset_of!(FlowVars, count) == offset_of!(FlowState, count));
    assert!(offset_of!(FlowVars, dropping) == offset_of!(FlowState, dropping));
    assert!(offset_of!(FlowVars, ahead) == offset_of!(FlowState, ahead));
    assert!(offset_of!(FlowVars, response) == offset_of!(FlowState, response));
    assert!(size_of::<ResponseVars>() == size_of::<ResponseState>());
    assert!(offset_of!(ResponseVars, tat) == offset_of!(ResponseState, tat_ns));
    assert!(offset_of!(ResponseVars, window) == offset_of!(ResponseState, window));
    assert!(offset_of!(ResponseVars, used) == offset_of!(ResponseState, used_ns));
    assert!(offset_of!(ResponseVars, excess) == offset_of!(ResponseState, excess_ns));
    assert!(offset_of!(ResponseVars, claimed) == offset_of!(ResponseState, claimed));
    assert!(offset_of!(ResponseVars, told) == offset_of!(ResponseState, told));
};
