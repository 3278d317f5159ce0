//! Reads bytes in order, in the kernel and in userspace.
//!
//! The kernel's verifier accepts an access to a packet only after a comparison of that very pointer with the packet's
//! end; a slice with its length in a register does not pass. So the cursor is two pointers, and each read compares.

use core::marker::PhantomData;

/// A position in bytes that somebody else owns.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    at: *const u8,
    end: *const u8,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Cursor<'a> {
    /// Starts at the first of `bytes`.
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Self {
        let range = bytes.as_ptr_range();
        Self { at: range.start, end: range.end, bytes: PhantomData }
    }

    /// Starts at `start` and may read up to `end`.
    ///
    /// # Safety
    ///
    /// `start..end` must be readable for the lifetime `'a`.
    #[inline(always)]
    pub const unsafe fn from_raw(start: *const u8, end: *const u8) -> Self {
        Self { at: start, end, bytes: PhantomData }
    }

    /// The next `N` bytes; `None` leaves the cursor where it was.
    #[inline(always)]
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.at as usize + N > self.end as usize {
            return None;
        }
        // SAFETY: `at..at + N` lies before `end`, and the owner keeps `at..end` readable for `'a`.
        let bytes = unsafe { self.at.cast::<[u8; N]>().read_unaligned() };
        self.at = self.at.wrapping_add(N);
        Some(bytes)
    }

    /// The next `N` bytes where they lie, for layouts too large to copy onto the kernel's small stack.
    #[inline(always)]
    pub fn view<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        if self.at as usize + N > self.end as usize {
            return None;
        }
        // SAFETY: as in `take`; a byte array needs no alignment.
        let bytes = unsafe { &*self.at.cast::<[u8; N]>() };
        self.at = self.at.wrapping_add(N);
        Some(bytes)
    }

    /// Where the next `N` bytes lie, for an owner who means to write them; a pointer, as the cursor itself only reads.
    #[inline(always)]
    pub fn place<const N: usize>(&mut self) -> Option<*mut [u8; N]> {
        self.view::<N>().map(|bytes| (&raw const *bytes).cast_mut())
    }

    /// Passes over `count` bytes; whether they exist shows at the next read.
    #[inline(always)]
    pub fn skip(&mut self, count: usize) {
        self.at = self.at.wrapping_add(count);
    }

    /// The next byte.
    #[inline(always)]
    pub fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// The next two bytes, big endian.
    #[inline(always)]
    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// The next four bytes, big endian.
    #[inline(always)]
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// The next eight bytes, big endian.
    #[inline(always)]
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_past_the_end_is_none_and_moves_nothing() {
        let mut cursor = Cursor::new(&[1, 2, 3]);
        assert_eq!(cursor.u16(), Some(0x0102));
        assert_eq!(cursor.u16(), None);
        assert_eq!(cursor.u8(), Some(3));
        assert_eq!(cursor.u8(), None);
    }

    #[test]
    fn a_skip_past_the_end_shows_at_the_next_read() {
        let mut cursor = Cursor::new(&[1, 2, 3]);
        cursor.skip(4);
        assert_eq!(cursor.u8(), None);
    }
}
