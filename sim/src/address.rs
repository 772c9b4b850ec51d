//! Where packets come from and go to, in the lab too: rules of classes that look at addresses mean the same in both.

use std::net::Ipv4Addr;

/// Host 0 sends from here.
pub const SENDER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// All packets go here.
pub const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 1);
/// Host `n` sends from this address plus `n`, except host 0.
pub const HOSTS: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 0);
/// Length of the prefix that holds all of [`HOSTS`].
pub const HOSTS_PREFIX: u8 = 16;

/// The address that a host sends from.
#[must_use]
pub const fn of_host(host: u16) -> Ipv4Addr {
    if host == 0 {
        return SENDER;
    }
    let [a, b, _, _] = HOSTS.octets();
    let [high, low] = host.to_be_bytes();
    Ipv4Addr::new(a, b, high, low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_an_address_of_its_own() {
        assert_eq!(of_host(0), SENDER);
        assert_eq!(of_host(1), Ipv4Addr::new(10, 78, 0, 1));
        assert_eq!(of_host(u16::MAX), Ipv4Addr::new(10, 78, 255, 255));
    }
}
