//! Destination ports: each flow has one of its own, by which a rule, the lab's receiver and its link tell it from the others.

use std::cell::RefCell;
use std::collections::BTreeSet;

/// The transport protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// First ports of flows that name none.
pub(super) const TCP: u16 = 5_200;
pub(super) const SHORT: u16 = 4_200;
pub(super) const UDP: u16 = 6_200;
pub(super) const PROBE: u16 = 7_200;

/// The ports that are taken. Typed ones are taken before any is given away.
#[derive(Debug, Default)]
pub(super) struct Ports {
    taken: RefCell<BTreeSet<(Transport, u16)>>,
}

impl Ports {
    /// Takes `count` ports from the typed one on.
    ///
    /// # Errors
    /// The rule that they break.
    pub(super) fn take(&self, transport: Transport, first: u16, count: u32) -> Result<(), &'static str> {
        let last = u32::from(first) + count.max(1) - 1;
        let Ok(last) = u16::try_from(last) else { return Err("the ports of a table's flows end at 65535") };
        if first == 0 {
            return Err("a port is between 1 and 65535");
        }
        let mut taken = self.taken.borrow_mut();
        if (first..=last).all(|port| taken.insert((transport, port))) {
            Ok(())
        } else {
            Err("another flow has this port; the flows of a table take `count` ports from theirs on")
        }
    }

    /// The first of `count` free ports that follow each other, from `base` on; they are taken by this.
    pub(super) fn give(&self, transport: Transport, base: u16, count: u32) -> Option<u16> {
        let mut taken = self.taken.borrow_mut();
        let ports = |first: u16| (0..count).map(move |n| u16::try_from(u32::from(first) + n).ok());
        let first = (base..=u16::MAX)
            .find(|first| ports(*first).all(|port| port.is_some_and(|p| !taken.contains(&(transport, p)))))?;
        taken.extend(ports(first).flatten().map(|port| (transport, port)));
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_names_no_port_gets_one_that_nobody_named() {
        let ports = Ports::default();
        ports.take(Transport::Udp, UDP + 2, 2).unwrap();
        assert_eq!(ports.give(Transport::Udp, UDP, 1), Some(UDP));
        assert_eq!(ports.give(Transport::Udp, UDP, 2), Some(UDP + 4));
        assert_eq!(ports.give(Transport::Tcp, UDP, 3), Some(UDP));
        assert_eq!(ports.give(Transport::Udp, u16::MAX, 2), None);
    }

    #[test]
    fn a_port_that_another_flow_has_is_refused() {
        let ports = Ports::default();
        ports.take(Transport::Tcp, 80, 4).unwrap();
        assert!(ports.take(Transport::Tcp, 83, 1).is_err());
        assert!(ports.take(Transport::Udp, 83, 1).is_ok());
        assert!(ports.take(Transport::Tcp, 65_535, 2).is_err() && ports.take(Transport::Tcp, 0, 1).is_err());
    }
}
