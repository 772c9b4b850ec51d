//! Access to packet memory.

/// Read and write access to a packet whose bounds are checked at every access.
///
/// An implementation over `[data, data_end)` must compare `data + offset + N` with `data_end` in each call: the
/// verifier grants access to a packet pointer only after that comparison. Every offset this crate passes is at
/// most [`MAX_OFFSET`](crate::l4::MAX_OFFSET) plus a header's length, which stays below the verifier's limit of
/// 65,535 for offsets that are not constants (`MAX_PACKET_OFF`, kernel/bpf/verifier.c).
pub trait Packet {
    /// The `N` bytes at `offset` from the start of the frame, or `None` if they do not all lie inside the
    /// accessible part of the packet.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Overwrites the `N` bytes at `offset`, or returns `None` and leaves the packet as it was if they do not
    /// all lie inside the accessible part.
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()>;

    /// Bytes in the whole frame, from the destination MAC address on and without the frame check sequence.
    ///
    /// It may exceed what [`read`](Self::read) can reach, as it does for an XDP buffer with fragments; the
    /// length fields of IP headers are compared with this one.
    fn len(&self) -> usize;

    /// Whether the frame holds no byte at all.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Packet for [u8] {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        *self.get_mut(offset..)?.first_chunk_mut()? = bytes;
        Some(())
    }

    #[inline(always)]
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

impl<const LEN: usize> Packet for [u8; LEN] {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.as_slice().read(offset)
    }

    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        self.as_mut_slice().write(offset, bytes)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        LEN
    }
}
