//! What rtnetlink knows of a device, in the calling thread's network namespace.

use std::os::unix::fs::MetadataExt;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp};

use super::{Error, Result, ethtool::Ethtool};

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netdev {
    /// Its name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// MAC address; zero where the device has none of six bytes.
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: u32,
    /// Length of the transmit queue in frames (tun: slots of its ring).
    pub tx_queue_len: u32,
    /// TX queues the device was made with.
    pub tx_queues: u32,
    /// RX queues the device was made with.
    pub rx_queues: u32,
    /// Whether it is up and has a carrier.
    pub running: bool,
    /// The driver's name (`tun`, `veth`, `virtio_net`, ...), or the link's kind.
    pub driver: String,
    /// Id of the XDP program on it.
    pub xdp: Option<u32>,
    /// Interface index of the peer (veth), and whether that is in another namespace.
    pub peer: Option<Peer>,
}

/// The other end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Interface index in the peer's namespace.
    pub ifindex: u32,
    /// True if that is not this namespace.
    pub elsewhere: bool,
}

/// All devices of this namespace.
///
/// # Errors
///
/// [`Error::Netlink`], [`Error::Os`].
pub fn all() -> Result<Vec<Netdev>> {
    let links = on_runtime(|| async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(Error::os("open a netlink socket"))?;
        let connection = tokio::spawn(connection);
        let links: std::result::Result<Vec<LinkMessage>, _> =
            handle.link().get().execute().try_collect().await;
        connection.abort();
        links.map_err(|source| Error::Netlink { action: "list the network devices".to_owned(), source })
    })?;
    let ethtool = Ethtool::open().map_err(Error::os("open a control socket"))?;
    Ok(links.iter().map(|link| describe(link, &ethtool)).collect())
}

/// The device called `name`.
///
/// # Errors
///
/// [`Error::NoSuchDevice`] with the names there are, and those of [`all`].
pub fn by_name(name: &str) -> Result<Netdev> {
    let devices = all()?;
    let known = devices.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(", ");
    devices
        .into_iter()
        .find(|d| d.name == name)
        .ok_or_else(|| Error::NoSuchDevice { device: name.to_owned(), known })
}

/// Inode number of the calling thread's network namespace, the kernel's `struct net.ns.inum`.
///
/// # Errors
///
/// [`Error::Os`] without `/proc`.
pub fn namespace() -> Result<u32> {
    let inode = std::fs::metadata("/proc/thread-self/ns/net")
        .map_err(Error::os("read /proc/thread-self/ns/net"))?
        .ino();
    u32::try_from(inode).map_err(|_| Error::Os {
        action: format!("use the namespace's inode number {inode}"),
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

/// Runs netlink's futures on a runtime of their own, on a thread of their own: the caller may be inside another
/// runtime, and a new thread is in its creator's namespace.
pub(super) fn on_runtime<T: Send, F>(f: impl FnOnce() -> F + Send) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let failed = |source| Error::Os { action: "start a runtime for netlink".to_owned(), source };
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
            runtime.block_on(f())
        });
        runner.join().unwrap_or_else(|_| Err(failed(std::io::Error::other("the netlink thread died"))))
    })
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is another crate's and grows; the rest does not matter here"
)]
fn describe(link: &LinkMessage, ethtool: &Ethtool) -> Netdev {
    let mut device = Netdev {
        name: String::new(),
        ifindex: link.header.index,
        mac: [0; 6],
        mtu: 0,
        tx_queue_len: 0,
        tx_queues: 1,
        rx_queues: 1,
        running: link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        driver: String::new(),
        xdp: None,
        peer: None,
    };
    let (mut kind, mut elsewhere, mut peer) = (String::new(), false, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => name.clone_into(&mut device.name),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Address(address) => {
                device.mac = address.as_slice().try_into().unwrap_or_default();
            }
            LinkAttribute::TxQueueLen(len) => device.tx_queue_len = *len,
            LinkAttribute::NumTxQueues(n) => device.tx_queues = *n,
            LinkAttribute::NumRxQueues(n) => device.rx_queues = *n,
            LinkAttribute::Link(index) => peer = Some(*index),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(infos) => kind = kind_of(infos).unwrap_or(kind),
            LinkAttribute::Xdp(xdp) => device.xdp = program_of(xdp),
            _ => {}
        }
    }
    device.peer = peer.filter(|_| kind == "veth").map(|ifindex| Peer { ifindex, elsewhere });
    device.driver = ethtool.driver(&device.name).ok().filter(|d| !d.is_empty()).unwrap_or(kind);
    device
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is another crate's and grows; the rest does not matter here"
)]
fn kind_of(infos: &[LinkInfo]) -> Option<String> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(InfoKind::Veth) => Some("veth".to_owned()),
        LinkInfo::Kind(InfoKind::Tun) => Some("tun".to_owned()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is another crate's and grows; the rest does not matter here"
)]
fn program_of(xdp: &[LinkXdp]) -> Option<u32> {
    xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
            Some(*id).filter(|id| *id != 0)
        }
        _ => None,
    })
}
