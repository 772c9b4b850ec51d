//! The `netdev` generic netlink family: what a driver's XDP can do (kernel 6.3), and its real queues (kernel 6.8).
//!
//! Source: `Documentation/netlink/specs/netdev.yaml` at v6.18.

use futures::StreamExt;
use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla, NlaBuffer, NlasIterator,
    ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

use super::{Error, Result, netdev::on_runtime};

const CMD_DEV_GET: u8 = 1;
const CMD_QUEUE_GET: u8 = 10;
const A_DEV_IFINDEX: u16 = 1;
const A_DEV_XDP_FEATURES: u16 = 3;
const A_QUEUE_ID: u16 = 1;
const A_QUEUE_IFINDEX: u16 = 2;
const A_QUEUE_TYPE: u16 = 3;

/// `enum netdev_xdp_act`.
const ACT_BASIC: u64 = 1;
const ACT_REDIRECT: u64 = 2;
const ACT_NDO_XMIT: u64 = 4;

/// What a driver says it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// `XDP_PASS`, `DROP`, `TX`, `ABORTED` natively.
    pub fn native(self) -> bool {
        self.0 & ACT_BASIC != 0
    }

    /// `XDP_REDIRECT` out of its programs.
    pub fn redirects(self) -> bool {
        self.0 & ACT_REDIRECT != 0
    }

    /// Takes redirected frames now. Most drivers only with a program attached, veth with a peer that has GRO or one.
    pub fn is_target(self) -> bool {
        self.0 & ACT_NDO_XMIT != 0
    }
}

/// TX and RX queues in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Receive queues.
    pub rx: u32,
    /// Transmit queues.
    pub tx: u32,
}

/// XDP features of a device; `None` on kernels before 6.3, which do not say.
///
/// # Errors
///
/// [`Error::Os`] if netlink itself fails.
pub fn xdp_features(ifindex: u32) -> Result<Option<XdpFeatures>> {
    let answer = on_runtime(move || async move {
        Ok(Asker::open()?.ask(CMD_DEV_GET, &[(A_DEV_IFINDEX, ifindex)]).await.unwrap_or_default())
    })?;
    let features = answer.iter().find(|a| a.kind == A_DEV_XDP_FEATURES);
    Ok(features.and_then(|a| Some(XdpFeatures(u64::from_ne_bytes(a.value.as_slice().try_into().ok()?)))))
}

/// Queues of a device that is up; `None` on kernels before 6.8 and for devices that are down.
///
/// Asked one by one: the kernel's dump does not mark its parts as parts of one answer (`netdev_nl_queue_fill_one`,
/// `net/core/netdev-genl.c` at v6.18), and netlink clients take the first for the whole.
///
/// # Errors
///
/// [`Error::Os`] if netlink itself fails.
pub fn queues(ifindex: u32) -> Result<Option<Queues>> {
    on_runtime(move || async move {
        let mut asker = Asker::open()?;
        let queues = Queues { rx: asker.count(ifindex, 0).await, tx: asker.count(ifindex, 1).await };
        Ok(Some(queues).filter(|q| q.tx > 0 || q.rx > 0))
    })
}

/// Most queues of one kind that are counted.
const QUEUES_MAX: u32 = 4096;

struct Asker {
    handle: genetlink::GenetlinkHandle,
    connection: tokio::task::JoinHandle<()>,
}

impl Asker {
    fn open() -> Result<Self> {
        let (connection, handle, _) =
            genetlink::new_connection().map_err(Error::os("open a generic netlink socket"))?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// Queues of `kind` (0 receive, 1 transmit): identifiers are consecutive, the first unknown one ends the count.
    async fn count(&mut self, ifindex: u32, kind: u32) -> u32 {
        for id in 0..QUEUES_MAX {
            let attributes = [(A_QUEUE_IFINDEX, ifindex), (A_QUEUE_TYPE, kind), (A_QUEUE_ID, id)];
            if self.ask(CMD_QUEUE_GET, &attributes).await.is_none() {
                return id;
            }
        }
        QUEUES_MAX
    }

    /// One question, one answer; an unknown family or command, or a refusal, is none.
    async fn ask(&mut self, command: u8, attributes: &[(u16, u32)]) -> Option<Vec<Attribute>> {
        let attributes = attributes
            .iter()
            .map(|(kind, value)| Attribute { kind: *kind, value: value.to_ne_bytes().to_vec() })
            .collect();
        let mut message = NetlinkMessage::from(GenlMessage::from_payload(Netdev { command, attributes }));
        message.header.flags = NLM_F_REQUEST;
        let mut stream = self.handle.request(message).await.ok()?;
        let NetlinkPayload::InnerMessage(inner) = stream.next().await?.ok()?.payload else { return None };
        Some(inner.payload.attributes)
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

#[derive(Clone, Debug)]
struct Netdev {
    command: u8,
    attributes: Vec<Attribute>,
}

#[derive(Clone, Debug)]
struct Attribute {
    kind: u16,
    value: Vec<u8>,
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        self.value.len()
    }
    fn kind(&self) -> u16 {
        self.kind
    }
    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.value);
    }
}

impl GenlFamily for Netdev {
    fn family_name() -> &'static str {
        "netdev"
    }
    fn command(&self) -> u8 {
        self.command
    }
    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Netdev {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }
    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Netdev {
    fn parse_with_param(buffer: &[u8], header: GenlHeader) -> std::result::Result<Self, DecodeError> {
        let attributes = NlasIterator::new(buffer)
            .map(|nla| {
                nla.map(|nla: NlaBuffer<&[u8]>| Attribute { kind: nla.kind(), value: nla.value().to_vec() })
            })
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { command: header.cmd, attributes })
    }
}
