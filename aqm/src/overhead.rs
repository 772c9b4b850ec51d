//! What a packet costs on the link that a rate is meant for: framing overhead, minimum size, ATM cells, PTM.
//!
//! A rate is held on bytes of the bottleneck's own link layer, which is seldom the router's: a DSL modem adds PPPoE
//! and cuts into cells, a cable head-end counts Ethernet frames with their check sequence. The parameters, their
//! order and the keywords are CAKE's (tc-cake(8), "Overhead compensation parameters"; net/sched/sch_cake.c,
//! `cake_calc_overhead`, v6.18), so that settings carry over.
//!
//! XDP sees frames from the destination address on, without the frame check sequence. CAKE's overheads count from the
//! IP packet. [`LinkLayer::on_wire`] therefore takes the frame's length and the offset of its network header.

use crate::units::Bytes;

/// Payload of an ATM cell, and its size on the wire.
const CELL_PAYLOAD: u64 = 48;
const CELL: u64 = 53;
/// PTM sends 65 octets for each 64 (64b/65b; IEEE 802.3 clause 61.3).
const PTM_BLOCK: u64 = 64;
/// The largest IP packet, and more than the largest frame: longer lengths clamp here.
const LENGTH_MAX: u64 = 1 << 20;

/// How the link cuts packets up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// As they are.
    #[default]
    None,
    /// Into ATM cells of 53 bytes that carry 48; the last one is padded (ADSL).
    Atm,
    /// 64b/65b encoding: an octet more for each started 64 (VDSL2).
    Ptm,
}

/// What `overhead` is added to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// The IP packet: the router's own link-layer header is not counted.
    #[default]
    Packet,
    /// The frame as the router sees it (CAKE's `raw`).
    Frame,
}

/// Link-layer accounting of one port or class. The default counts the IP packet alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkLayer {
    /// Bytes added to each packet, -64 to 256; negative for a link that strips a header.
    pub overhead: i32,
    /// What the packet with its overhead counts for at least (minimum packet unit), 0 to 256.
    pub mpu: u32,
    /// How the link cuts the result up.
    pub framing: Framing,
    /// What `overhead` is added to.
    pub basis: Basis,
}

impl LinkLayer {
    /// Counts frames as the router sees them.
    pub const RAW: Self = Self { overhead: 0, mpu: 0, framing: Framing::None, basis: Basis::Frame };

    /// The same link with one more VLAN tag of 4 bytes (CAKE's `ether-vlan`).
    pub const fn with_vlan(self) -> Self {
        Self { overhead: self.overhead.saturating_add(4), ..self }
    }

    /// The bytes that a frame of `frame` bytes, whose network header begins at `network_offset`, takes on the link.
    ///
    /// `network_offset` is 14 for plain Ethernet and 4 more for each VLAN tag that the frame carries.
    #[inline(always)]
    pub fn on_wire(&self, frame: Bytes, network_offset: u32) -> Bytes {
        let counted = match self.basis {
            Basis::Packet => frame.saturating_sub(Bytes::new(network_offset as u64)),
            Basis::Frame => frame,
        };
        self.adjusted(counted)
    }

    /// The same for a length that already is what `basis` says.
    #[inline(always)]
    pub fn adjusted(&self, length: Bytes) -> Bytes {
        let length = if length.get() < LENGTH_MAX { length.get() } else { LENGTH_MAX };
        let length = length.saturating_add_signed(self.overhead as i64);
        let mpu = self.mpu as u64;
        let length = if length < mpu { mpu } else { length };
        Bytes::new(match self.framing {
            Framing::None => length,
            Framing::Atm => length.saturating_add(CELL_PAYLOAD - 1) / CELL_PAYLOAD * CELL,
            Framing::Ptm => length.saturating_add(length.saturating_add(PTM_BLOCK - 1) / PTM_BLOCK),
        })
    }

    /// The link of one of CAKE's keywords ([`PRESETS`]); `None` for another word.
    pub fn preset(name: &str) -> Option<Self> {
        PRESETS.iter().find(|preset| preset.name == name).map(|preset| preset.link)
    }
}

/// A named link layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// CAKE's keyword.
    pub name: &'static str,
    /// What it stands for.
    pub link: LinkLayer,
}

const fn preset(name: &'static str, overhead: i32, mpu: u32, framing: Framing) -> Preset {
    Preset { name, link: LinkLayer { overhead, mpu, framing, basis: Basis::Packet } }
}

/// CAKE's keywords with the values that tc-cake(8) gives for each.
///
/// `ethernet` is a cable: header 14, check sequence 4, preamble and start delimiter 8, inter-frame gap 12. `docsis` is
/// what the head-end meters: the Ethernet frame with its check sequence. Both `-ptm` are Ethernet (18), PTM's own 4
/// and, for PPPoE, 8.
pub static PRESETS: [Preset; 14] = [
    Preset { name: "raw", link: LinkLayer::RAW },
    preset("conservative", 48, 0, Framing::Atm),
    preset("ethernet", 38, 84, Framing::None),
    preset("docsis", 18, 64, Framing::None),
    preset("pppoe-ptm", 30, 0, Framing::Ptm),
    preset("bridged-ptm", 22, 0, Framing::Ptm),
    preset("pppoa-vcmux", 10, 0, Framing::Atm),
    preset("pppoa-llc", 14, 0, Framing::Atm),
    preset("pppoe-vcmux", 32, 0, Framing::Atm),
    preset("pppoe-llcsnap", 40, 0, Framing::Atm),
    preset("bridged-vcmux", 24, 0, Framing::Atm),
    preset("bridged-llcsnap", 32, 0, Framing::Atm),
    preset("ipoa-vcmux", 8, 0, Framing::Atm),
    preset("ipoa-llcsnap", 16, 0, Framing::Atm),
];
