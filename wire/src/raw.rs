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

/// The first bytes of a packet whose length fields have been checked already, or were set by our own stack: its end may lie
/// beyond what can be reached, as it does where the payload is in pages of its own (`skb_shinfo(skb)->frags`).
#[derive(Debug)]
pub struct RawHeaders(RawPacket);

impl RawHeaders {
    /// The part of a packet that can be reached.
    #[inline(always)]
    #[must_use]
    pub const fn new(reachable: RawPacket) -> Self {
        Self(reachable)
    }
}

impl Packet for RawHeaders {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.read(offset)
    }

    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        self.0.write(offset, bytes)
    }

    /// No length field is too large.
    #[inline(always)]
    fn len(&self) -> usize {
        usize::MAX
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

    #[test]
    fn headers_are_read_though_the_payload_is_elsewhere() {
        let mut frame = *b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0\
            \x45\0\x05\xdc\0\0\0\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02\x1e\x61\0\x35";
        let start = frame.as_mut_ptr() as usize;
        let end = start + frame.len();
        // SAFETY: `frame` outlives the view and is not used while it lives.
        assert!(crate::parse(&unsafe { RawPacket::new(start, end) }).is_err());
        // SAFETY: as above.
        let headers = RawHeaders::new(unsafe { RawPacket::new(start, end) });
        let l3 = crate::parse(&headers).unwrap().l3;
        assert_eq!(l3.upper(&headers).unwrap().unwrap().ports(&headers), Some((7777, 53)));
    }
}
