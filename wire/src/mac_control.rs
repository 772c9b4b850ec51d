//! MAC control frames that ask a station to stop sending: PAUSE (IEEE 802.3 annex 31B) and priority-based flow control
//! (IEEE 802.3 annex 31D, IEEE 802.1Q clause 36).

use crate::Packet;

/// EtherType of MAC control (IEEE 802.3 clause 31.4.1.3).
pub const ETHERTYPE: u16 = 0x8808;
/// Where both kinds of frame are sent to; bridges do not forward it (IEEE 802.1Q table 8-1).
pub const DESTINATION: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x01];
/// Bits of a pause quantum: the unit of the times in the frames.
pub const QUANTUM_BITS: u32 = 512;
/// Priorities of priority-based flow control.
pub const PRIORITIES: usize = 8;
/// Bytes of a frame on its way to the driver: the smallest that Ethernet sends, without the frame check sequence.
pub const FRAME_LEN: usize = 60;

const OPCODE_PAUSE: u16 = 0x0001;
const OPCODE_PRIORITY: u16 = 0x0101;
const ETHERTYPE_OFFSET: usize = 12;
const OPCODE_OFFSET: usize = 14;
const PARAMETERS_OFFSET: usize = 16;
const TIMES_OFFSET: usize = 18;

/// A request to stop sending for some time. It replaces what the last one of its kind asked for; no time at all ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// All of the link, for this many quanta.
    Link(u16),
    /// Single priorities.
    Priority {
        /// The class-enable vector: bit `i` says that `quanta[i]` holds.
        enabled: u8,
        /// Quanta for each priority.
        quanta: [u16; PRIORITIES],
    },
}

impl Pause {
    /// Reads a frame that is addressed to the multicast address of MAC control or to `own`; `None` for any other frame,
    /// for other opcodes, and for one that ends too early.
    #[inline(always)]
    pub fn parse<P: Packet + ?Sized>(p: &P, own: [u8; 6]) -> Option<Self> {
        if u16::from_be_bytes(p.read(ETHERTYPE_OFFSET)?) != ETHERTYPE {
            return None;
        }
        let to: [u8; 6] = p.read(0)?;
        if to != DESTINATION && to != own {
            return None;
        }
        let parameters = u16::from_be_bytes(p.read(PARAMETERS_OFFSET)?);
        match u16::from_be_bytes(p.read(OPCODE_OFFSET)?) {
            OPCODE_PAUSE => Some(Self::Link(parameters)),
            OPCODE_PRIORITY => {
                let mut quanta = [0; PRIORITIES];
                for (i, quanta) in quanta.iter_mut().enumerate() {
                    *quanta = u16::from_be_bytes(p.read(TIMES_OFFSET + 2 * i)?);
                }
                // The upper octet of the vector is reserved and ignored on receipt (IEEE 802.3 annex 31D.2).
                Some(Self::Priority { enabled: parameters as u8, quanta })
            }
            _ => None,
        }
    }

    /// The quanta that hold for a priority, 0 to 7; `None` where the frame says nothing of it.
    #[inline(always)]
    pub fn quanta(&self, priority: usize) -> Option<u16> {
        match self {
            Self::Link(quanta) => Some(*quanta),
            Self::Priority { enabled, quanta } if priority < PRIORITIES && enabled >> priority & 1 == 1 => {
                quanta.get(priority).copied()
            }
            Self::Priority { .. } => None,
        }
    }

    /// The frame that says so, from the station `source`.
    pub fn frame(&self, source: [u8; 6]) -> [u8; FRAME_LEN] {
        let mut frame = [0; FRAME_LEN];
        let p = frame.as_mut_slice();
        let (opcode, parameters) = match self {
            Self::Link(quanta) => (OPCODE_PAUSE, *quanta),
            Self::Priority { enabled, .. } => (OPCODE_PRIORITY, u16::from(*enabled)),
        };
        // All of it lies within the frame.
        let _fits = p.write(0, DESTINATION);
        let _fits = p.write(DESTINATION.len(), source);
        let _fits = p.write(ETHERTYPE_OFFSET, ETHERTYPE.to_be_bytes());
        let _fits = p.write(OPCODE_OFFSET, opcode.to_be_bytes());
        let _fits = p.write(PARAMETERS_OFFSET, parameters.to_be_bytes());
        for priority in 0..PRIORITIES {
            if let (Self::Priority { .. }, Some(quanta)) = (self, self.quanta(priority)) {
                let _fits = p.write(TIMES_OFFSET + 2 * priority, quanta.to_be_bytes());
            }
        }
        frame
    }
}
