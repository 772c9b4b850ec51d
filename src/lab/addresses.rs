//! The addresses of the lab's hosts. IPv4's are the simulator's as well, so that rules mean the same in both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_sim::address;

use crate::experiment::Family;

pub(super) const SENDER_V4: Ipv4Addr = address::SENDER;
pub(super) const ROUTER_FAST_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 254);
pub(super) const ROUTER_SLOW_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 254);
pub(super) const RECEIVER_V4: Ipv4Addr = address::RECEIVER;
pub(super) const SENDER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 1, 0, 0, 0, 1);
pub(super) const ROUTER_FAST_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 1, 0, 0, 0, 0xfe);
pub(super) const ROUTER_SLOW_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 2, 0, 0, 0, 0xfe);
pub(super) const RECEIVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 2, 0, 0, 0, 1);
const HOSTS_V6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 0);
const HOSTS_V6_PREFIX: u8 = 64;

impl Family {
    /// The sender's address.
    #[must_use]
    pub const fn sender(self) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(SENDER_V4),
            Self::Ipv6 => IpAddr::V6(SENDER_V6),
        }
    }

    /// The receiver's address.
    #[must_use]
    pub const fn receiver(self) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(RECEIVER_V4),
            Self::Ipv6 => IpAddr::V6(RECEIVER_V6),
        }
    }

    /// The address that host `n` of an experiment sends from; host 0 is the sender itself.
    #[must_use]
    pub const fn host(self, host: u16) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(address::of_host(host)),
            Self::Ipv6 if host == 0 => self.sender(),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, host)),
        }
    }

    /// The addresses of all hosts but host 0, and the length of their prefix.
    #[must_use]
    pub const fn hosts(self) -> (IpAddr, u8) {
        match self {
            Self::Ipv4 => (IpAddr::V4(address::HOSTS), address::HOSTS_PREFIX),
            Self::Ipv6 => (IpAddr::V6(HOSTS_V6), HOSTS_V6_PREFIX),
        }
    }

    /// Whether the sender sends from this address, for itself or for one of the hosts.
    #[must_use]
    pub fn is_sender(self, source: IpAddr) -> bool {
        let (net, prefix) = self.hosts();
        source == self.sender() || ipnet::IpNet::new_assert(net, prefix).contains(&source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_a_sender_and_the_router_is_none() {
        for family in [Family::Ipv4, Family::Ipv6] {
            assert_eq!(family.host(0), family.sender());
            assert!([0, 1, 256, u16::MAX].iter().all(|host| family.is_sender(family.host(*host))));
            assert!(!family.is_sender(family.receiver()));
        }
        assert!(!Family::Ipv4.is_sender(IpAddr::V4(ROUTER_SLOW_V4)));
        assert!(!Family::Ipv6.is_sender(IpAddr::V6(ROUTER_SLOW_V6)));
    }
}
