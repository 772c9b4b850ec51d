//! The contenders: who forwards from the fast device to the slow one, and what they count.
//!
//! Each has a file. A contender is prepared on a topology of its own and detaches when its [`Attached`] is dropped.

mod csfq;
mod kernel;
mod qdisc;
mod redirect;
mod weir;

use std::collections::BTreeMap;

use super::error::{Error, Result};
use super::topology::Topology;
use crate::experiment::{Experiment, contender};

/// What a contender's own counters say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets dropped, by the cause that the contender gives.
    pub drops: BTreeMap<String, u64>,
    /// Packets marked with Congestion Experienced.
    pub marks: u64,
    /// Frames that a full TX ring refused, where the contender counts them.
    pub ring_drops: Option<u64>,
    /// Packets in, less packets out, less all causes, where the contender counts all three.
    pub unaccounted: Option<i64>,
    /// Its classes, where it has any.
    pub classes: Vec<ClassCounters>,
}

/// What one class of a contender has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassCounters {
    /// Its name.
    pub class: String,
    /// By name.
    pub counters: BTreeMap<String, u64>,
}

impl ClassCounters {
    fn since(&self, before: &[Self]) -> Self {
        let before = before.iter().find(|class| class.class == self.class);
        let counters = self.counters.iter().map(|(name, n)| {
            let then = before.and_then(|class| class.counters.get(name)).copied().unwrap_or(0);
            (name.clone(), n.saturating_sub(then))
        });
        Self { class: self.class.clone(), counters: counters.collect() }
    }
}

impl Counters {
    /// All drops, whatever their cause.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// What was counted after `before` was.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let drops = self.drops.iter().map(|(cause, n)| {
            (cause.clone(), n.saturating_sub(before.drops.get(cause).copied().unwrap_or(0)))
        });
        Self {
            drops: drops.collect(),
            marks: self.marks.saturating_sub(before.marks),
            ring_drops: self.ring_drops.map(|n| n.saturating_sub(before.ring_drops.unwrap_or(0))),
            unaccounted: self.unaccounted,
            classes: self.classes.iter().map(|class| class.since(&before.classes)).collect(),
        }
    }
}

/// A contender that forwards; it stops when this is dropped.
pub trait Attached: Send {
    /// What it has counted until now.
    ///
    /// # Errors
    /// [`Error`] when its counters cannot be read.
    fn snapshot(&self, topology: &Topology) -> Result<Counters>;
}

/// What became of preparing a contender.
pub enum Prepared {
    /// It forwards.
    Ready(Box<dyn Attached>),
    /// This kernel or this build cannot run it, with the reason as the kernel or its tool gave it.
    Skip(String),
}

/// Somebody who can forward.
pub trait Contender {
    /// Its name, one of [`contender::LAB`].
    fn name(&self) -> &'static str;

    /// Makes it forward on `topology`.
    ///
    /// # Errors
    /// [`Error`] for a failure that is not a lack of the kernel.
    fn prepare(&self, topology: &Topology, experiment: &Experiment) -> Result<Prepared>;
}

/// The contender called `name`.
///
/// # Errors
/// [`Error::UnknownContender`] with the names there are.
pub fn by_name(name: &str) -> Result<Box<dyn Contender>> {
    Ok(match name {
        "redirect" => Box::new(redirect::Redirect),
        "kernel" => Box::new(kernel::Kernel),
        "kernel+htb" => Box::new(qdisc::Shaped::Htb),
        "kernel+tbf" => Box::new(qdisc::Shaped::Tbf),
        "kernel+fq_codel" => Box::new(qdisc::Shaped::FqCodel),
        "kernel+cake" => Box::new(qdisc::Shaped::Cake),
        "weir" => Box::new(weir::Weir("weir")),
        "weir+codel" => Box::new(weir::Weir("weir+codel")),
        "weir+pi2" => Box::new(weir::Weir("weir+pi2")),
        "weir+pie" => Box::new(weir::Weir("weir+pie")),
        "weir+early-mark" => Box::new(weir::Weir("weir+early-mark")),
        "weir+early-drop" => Box::new(weir::Weir("weir+early-drop")),
        "weir+policer" => Box::new(weir::Weir("weir+policer")),
        "weir+plain" => Box::new(weir::Weir("weir+plain")),
        "csfq" => Box::new(csfq::Csfq),
        other => {
            return Err(Error::UnknownContender { name: other.to_owned(), known: contender::LAB.join(", ") });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_the_name_of_its_contender() {
        for name in contender::LAB {
            assert_eq!(by_name(name).unwrap().name(), *name);
        }
        assert!(by_name("kernel+pie").is_err());
    }

    #[test]
    fn counters_since_a_moment_leave_out_what_came_before() {
        let counters = |full, policer| Counters {
            drops: [("ring_full".to_owned(), full), ("policer".to_owned(), policer)].into(),
            marks: full,
            ring_drops: Some(full),
            unaccounted: Some(0),
            classes: vec![ClassCounters {
                class: "a".to_owned(),
                counters: [("seen".to_owned(), full)].into(),
            }],
        };
        let since = counters(7, 2).since(&counters(3, 2));
        assert_eq!(since.drops["ring_full"], 4);
        assert_eq!(since.drops["policer"], 0);
        assert_eq!((since.marks, since.ring_drops), (4, Some(4)));
        assert_eq!(since.classes[0].counters["seen"], 4);
    }
}
