//! Packet memory given by a pair of addresses, as XDP and TC programs get it.

use crate::Packet;

/// The bytes of `[start, end)`, each access compared with `end`.
///
/// The comparison has the form the kernel's verifier recognises (`start + offset + N > end`), so that the same
/// header views run in programs and on host slices.
#[derive(Debug)]
pub struct RawPacket {
    start: usize,
    end: usize,
}

impl RawPacket {
    /// A packet between two addresses.
    ///
    /// # Safety
    ///
    /// All memory in `[start, end)` must be readable and writable through this value, and through no other
    /// reference, for as long as it lives; `start <= end`. In a program: `data` and `data_end` of the context, not
    /// kept across a helper that moves them.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

impl Packet for RawPacket {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if self.start + offset + N > self.end {
            return None;
        }
        // SAFETY: the comparison proved that the N bytes lie inside the memory `new` was promised; arrays of
        // bytes have no alignment.
        Some(unsafe { ((self.start + offset) as *const [u8; N]).read_unaligned() })
    }

    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        if self.start + offset + N > self.end {
            return None;
        }
        // SAFETY: as in `read`; `new` promised exclusive, writable memory.
        unsafe { ((self.start + offset) as *mut [u8; N]).write_unaligned(bytes) };
        Some(())
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_memory_reads_and_writes_like_the_slice_it_is() {
        let mut bytes: [u8; 32] = core::array::from_fn(|i| i as u8);
        let start = bytes.as_mut_ptr() as usize;
        // SAFETY: `bytes` outlives the view and is not used while it lives.
        let mut raw = unsafe { RawPacket::new(start, start + 32) };
        assert_eq!(raw.read::<4>(28), Some([28, 29, 30, 31]));
        assert_eq!(raw.read::<4>(29), None);
        assert_eq!(raw.write(30, [7, 8]), Some(()));
        assert_eq!(raw.write(31, [7, 8]), None);
        assert_eq!(raw.len(), 32);
        assert_eq!(bytes[30..], [7, 8]);
    }
}
