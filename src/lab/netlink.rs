//! Links, addresses, routes and neighbours through rtnetlink, in the namespace of the calling thread.

use std::future::Future;
use std::net::IpAddr;
use std::os::fd::RawFd;

use futures::TryStreamExt;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};

use super::error::{Error, Result};

/// A hardware address.
pub type Mac = [u8; 6];

/// Everything one device is given before it carries traffic.
#[derive(Debug, Clone)]
pub struct Wiring {
    /// The device.
    pub device: &'static str,
    /// Its hardware address.
    pub mac: Mac,
    /// The frames its transmit queue holds; `None` leaves the driver's default.
    pub queue_len: Option<u32>,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Neighbours that are known for good, so that nothing is ever asked on the wire.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// Destinations with their prefix lengths, reached through a gateway.
    pub routes: Vec<(IpAddr, u8, IpAddr)>,
}

/// Runs `f` with a netlink handle. The socket is opened here and therefore belongs to the namespace of the
/// calling thread.
///
/// # Errors
/// [`Error::Os`] when the runtime or the socket cannot be made, or what `f` returns.
pub fn with_handle<T, F>(f: impl FnOnce(Handle) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(Error::os("start a runtime for netlink"))?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection().map_err(Error::os("open a netlink socket"))?;
        let connection = tokio::spawn(connection);
        let result = f(handle).await;
        connection.abort();
        result
    })
}

/// Makes a veth pair, `near` here and `far` in the namespace behind `far_namespace`.
///
/// # Errors
/// [`Error::Netlink`] with the kernel's answer.
pub async fn add_veth(handle: &Handle, near: &str, far: &str, far_namespace: RawFd) -> Result<()> {
    // Both ends are made here under names of their own; the far one gets its final name where it lands.
    let staging = "far-end";
    handle
        .link()
        .add(LinkVeth::new(near, staging).build())
        .execute()
        .await
        .map_err(Error::netlink(format!("create the veth pair {near}, {far}")))?;
    handle
        .link()
        .set(LinkUnspec::new_with_name(staging).setns_by_fd(far_namespace).build())
        .execute()
        .await
        .map_err(Error::netlink(format!("move {far} into its namespace")))
}

/// Gives the far end of [`add_veth`] its name; called inside the namespace it was moved to.
///
/// # Errors
/// [`Error::Netlink`] with the kernel's answer.
pub async fn rename_far_end(handle: &Handle, name: &str) -> Result<()> {
    let index = index_of(handle, "far-end").await?;
    handle
        .link()
        .set(LinkUnspec::new_with_index(index).name(name).build())
        .execute()
        .await
        .map_err(Error::netlink(format!("name the far end {name}")))
}

/// Applies `wiring` and brings the device up.
///
/// # Errors
/// [`Error::Netlink`] naming the device and the object that the kernel refused.
pub async fn wire(handle: &Handle, wiring: &Wiring) -> Result<()> {
    let device = wiring.device;
    let index = index_of(handle, device).await?;
    // No ARP on the device: besides the permanent neighbours below there is nobody to ask for, and IPv6 joins no
    // solicited-node groups, whose reports would be frames that no experiment sent.
    let mut link = LinkUnspec::new_with_index(index).address(wiring.mac.to_vec()).arp(false).up();
    if let Some(frames) = wiring.queue_len {
        link = link.txqueuelen(frames);
    }
    handle.link().set(link.build()).execute().await.map_err(Error::netlink(format!("bring {device} up")))?;
    for (address, prefix) in &wiring.addresses {
        handle
            .address()
            .add(index, *address, *prefix)
            .execute()
            .await
            .map_err(Error::netlink(format!("give {device} the address {address}/{prefix}")))?;
    }
    for (address, mac) in &wiring.neighbours {
        handle
            .neighbours()
            .add(index, *address)
            .link_layer_address(mac)
            .state(NeighbourState::Permanent)
            .replace()
            .execute()
            .await
            .map_err(Error::netlink(format!("tell {device} about its neighbour {address}")))?;
    }
    for (destination, prefix, gateway) in &wiring.routes {
        let action = format!("route {destination}/{prefix} via {gateway} on {device}");
        let route = route(*destination, *prefix, *gateway).ok_or_else(|| Error::Os {
            action: action.clone(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "the families differ"),
        })?;
        handle.route().add(route).execute().await.map_err(Error::netlink(action))?;
    }
    Ok(())
}

/// Brings the loopback device up.
///
/// # Errors
/// [`Error::Netlink`] with the kernel's answer.
pub async fn loopback_up(handle: &Handle) -> Result<()> {
    handle
        .link()
        .set(LinkUnspec::new_with_name("lo").up().build())
        .execute()
        .await
        .map_err(Error::netlink("bring lo up"))
}

/// Takes all addresses of a prefix for this host's own, without giving them to a device (`ip route add local`).
///
/// # Errors
/// [`Error::Netlink`] with the kernel's answer.
pub async fn take_for_own(handle: &Handle, net: IpAddr, prefix: u8) -> Result<()> {
    let action = format!("take the addresses of {net}/{prefix}");
    let invalid = |_| Error::Os { action: action.clone(), source: std::io::ErrorKind::InvalidInput.into() };
    let route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(net, prefix)
        .map_err(invalid)?
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .table_id(libc::RT_TABLE_LOCAL.into())
        .output_interface(index_of(handle, "lo").await?)
        .build();
    handle.route().add(route).execute().await.map_err(Error::netlink(action))
}

fn route(destination: IpAddr, prefix: u8, gateway: IpAddr) -> Option<RouteMessage> {
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, prefix).ok()?;
    Some(route.gateway(gateway).ok()?.build())
}

async fn index_of(handle: &Handle, device: &str) -> Result<u32> {
    let action = format!("find the device {device}");
    let mut links = handle.link().get().match_name(device.to_owned()).execute();
    let link = links.try_next().await.map_err(Error::netlink(action.clone()))?;
    link.map(|l| l.header.index).ok_or_else(|| Error::Os {
        action,
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "no such device"),
    })
}
