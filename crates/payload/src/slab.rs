//! Recycled, page-aligned buffers in a few sizes, with a bound on what they hold together.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::sum::sum_of_any;

/// Alignment and smallest size of a buffer, in bytes: what O_DIRECT asks for at most.
pub const PAGE: usize = 4096;

/// Sizes in pages: one block, a few blocks, a receive buffer, one extent, a large burst. A request takes
/// the smallest that holds it; at most a factor of four is wasted, and only for a command's lifetime.
const CLASS_PAGES: [usize; 5] = [1, 4, 16, 64, 256];

/// Free buffers kept per class beyond which memory goes back to the allocator: 32 MiB of each, so that 32
/// commands of 1 MiB find theirs. Another class that needs room takes it back.
const FREE_BYTES_MAX: usize = 32 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Memory of whole pages, reached only through raw pointers: a buffer that is being filled and frozen slices
/// of the part before it share a chunk, each with bytes of its own.
struct Chunk {
    pages: NonNull<Page>,
    count: usize,
    class: u8,
    home: Weak<Shared>,
}

// SAFETY: a chunk owns its memory like a box. Of its bytes, each is reached either by the one `BufMut` that has
// not frozen it, or by any number of `Buf`s that only read it.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(count: usize, class: u8, home: Weak<Shared>) -> Self {
        let pages = Box::into_raw(vec![Page([0; PAGE]); count].into_boxed_slice());
        let pages = NonNull::new(pages.cast::<Page>()).expect("a box is never null");
        Self { pages, count, class, home }
    }

    /// The bytes `start .. start + len`, which nobody may change as long as they are borrowed.
    ///
    /// # Safety
    /// No `&mut` to any of them may be alive.
    unsafe fn bytes(&self, start: usize, len: usize) -> &[u8] {
        assert!(start + len <= self.count * PAGE, "bytes beyond the chunk");
        // SAFETY: within one allocation, initialized from the start; the caller sees to the rest. A page is
        // exactly its bytes, without padding.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().cast::<u8>().add(start), len) }
    }

    /// As [`Self::bytes`], to be written.
    ///
    /// # Safety
    /// No other reference to any of them may be alive.
    #[allow(clippy::mut_from_ref, reason = "each owner of a part of the chunk has bytes of its own")]
    unsafe fn bytes_mut(&self, start: usize, len: usize) -> &mut [u8] {
        assert!(start + len <= self.count * PAGE, "bytes beyond the chunk");
        // SAFETY: as in `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_ptr().cast::<u8>().add(start), len) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let pages = std::ptr::slice_from_raw_parts_mut(self.pages.as_ptr(), self.count);
        // SAFETY: made from a box of this length in `new`; the last owner is here, so nothing refers to it.
        drop(unsafe { Box::from_raw(pages) });
        if let Some(home) = self.home.upgrade() {
            home.bytes_total.fetch_sub(self.count * PAGE, Ordering::Relaxed);
        }
    }
}

struct Shared {
    free: Mutex<[Vec<Arc<Chunk>>; CLASS_PAGES.len()]>,
    bytes_total: AtomicUsize,
    bytes_max: usize,
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, [Vec<Arc<Chunk>>; CLASS_PAGES.len()]> {
        // The lists stay whole whatever panics elsewhere: a push or a pop is the only use.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slab holds as much memory as it may; wait for commands to finish.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("all {bytes_max} bytes of buffers are in use")]
pub struct Exhausted {
    /// The slab's bound.
    pub bytes_max: usize,
}

/// What a slab holds, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlabUse {
    /// Allocated, free or not.
    pub bytes_total: usize,
    /// Ready to be taken.
    pub bytes_free: usize,
}

/// A bounded source of buffers; clones share the memory.
#[derive(Clone)]
pub struct Slab(Arc<Shared>);

impl Slab {
    /// A slab that holds at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        let free = Mutex::new(std::array::from_fn(|_| Vec::new()));
        Self(Arc::new(Shared { free, bytes_total: AtomicUsize::new(0), bytes_max }))
    }

    /// The largest buffer that can be taken, in bytes (1 MiB).
    pub const LEN_MAX: usize = CLASS_PAGES[CLASS_PAGES.len() - 1] * PAGE;

    /// A buffer of `len` bytes with whatever bytes were left in it: fill it before freezing.
    ///
    /// # Errors
    /// [`Exhausted`] when the slab's bound would be passed, or `len` is more than [`Self::LEN_MAX`].
    pub fn take(&self, len: usize) -> Result<BufMut, Exhausted> {
        let exhausted = Exhausted { bytes_max: self.0.bytes_max };
        let pages = len.div_ceil(PAGE).max(1);
        let class = CLASS_PAGES.iter().position(|&size| size >= pages).ok_or(exhausted)?;
        let recycled = self.0.free()[class].pop();
        if let Some(chunk) = recycled {
            return Ok(BufMut { chunk: Some(chunk), start: 0, len });
        }
        let bytes = CLASS_PAGES[class] * PAGE;
        if !self.reserve(bytes) {
            self.drop_free();
            if !self.reserve(bytes) {
                return Err(exhausted);
            }
        }
        let chunk = Chunk::new(CLASS_PAGES[class], class as u8, Arc::downgrade(&self.0));
        Ok(BufMut { chunk: Some(Arc::new(chunk)), start: 0, len })
    }

    /// What `len` bytes take of the slab's bound: the size of the buffer that holds them, or of the several
    /// largest ones.
    pub fn bytes_for(len: usize) -> usize {
        let rest = (len % Self::LEN_MAX).div_ceil(PAGE);
        let rest = CLASS_PAGES.into_iter().find(|&size| size >= rest).filter(|_| rest > 0).unwrap_or(0);
        len / Self::LEN_MAX * Self::LEN_MAX + rest * PAGE
    }

    /// A frozen buffer with a copy of `bytes`.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn copy_of(&self, bytes: &[u8]) -> Result<Buf, Exhausted> {
        let mut buf = self.take(bytes.len())?;
        buf.copy_from_slice(bytes);
        Ok(buf.freeze())
    }

    /// What it holds now.
    pub fn usage(&self) -> SlabUse {
        let free = self.0.free();
        let bytes_free = free.iter().zip(CLASS_PAGES).map(|(list, pages)| list.len() * pages * PAGE).sum();
        SlabUse { bytes_total: self.0.bytes_total.load(Ordering::Relaxed), bytes_free }
    }

    fn reserve(&self, bytes: usize) -> bool {
        let before = self.0.bytes_total.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.0.bytes_max;
        if !fits {
            self.0.bytes_total.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Gives free buffers back, so that another class can grow within the bound.
    fn drop_free(&self) {
        let lists: Vec<_> = self.0.free().iter_mut().map(std::mem::take).collect();
        drop(lists);
    }
}

fn recycle(mut chunk: Arc<Chunk>) {
    // Two owners that go at the same moment on two threads may both see another one; then the memory is
    // given back to the allocator, which is only slower.
    if Arc::get_mut(&mut chunk).is_none() {
        return;
    }
    let Some(home) = chunk.home.upgrade() else { return };
    let class = usize::from(chunk.class);
    let mut free = home.free();
    if free[class].len() * CLASS_PAGES[class] * PAGE < FREE_BYTES_MAX {
        free[class].push(chunk);
    }
}

/// A buffer with one owner, which may fill it.
pub struct BufMut {
    chunk: Option<Arc<Chunk>>,
    /// What lies before was frozen and may be shared.
    start: usize,
    len: usize,
}

impl BufMut {
    /// Shares the buffer; from now on its bytes stay as they are.
    pub fn freeze(mut self) -> Buf {
        Buf { chunk: self.chunk.take(), start: self.start as u32, len: self.len as u32 }
    }

    /// Shares the first `len` bytes, which from now on stay as they are; the rest can still be filled.
    ///
    /// # Panics
    /// If there are not so many: a fault of the caller.
    pub fn freeze_front(&mut self, len: usize) -> Buf {
        assert!(len <= self.len, "more frozen than there is");
        let front = Buf { chunk: self.chunk.clone(), start: self.start as u32, len: len as u32 };
        self.start += len;
        self.len -= len;
        front
    }

    /// Keeps only the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn chunk(&self) -> &Chunk {
        self.chunk.as_ref().expect("owned until dropped")
    }
}

impl Deref for BufMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: these bytes are this value's alone, and `&mut self` is not borrowed now.
        unsafe { self.chunk().bytes(self.start, self.len) }
    }
}

impl DerefMut for BufMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: these bytes are this value's alone: what is shared lies before `start`, and the chunk had no
        // other owner when the buffer was taken.
        unsafe { self.chunk().bytes_mut(self.start, self.len) }
    }
}

impl Drop for BufMut {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            recycle(chunk);
        }
    }
}

impl fmt::Debug for Slab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what is in use now: that is no part of the state of whoever holds it.
        write!(f, "Slab(at most {} bytes)", self.0.bytes_max)
    }
}

impl fmt::Debug for BufMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufMut({} bytes)", self.len)
    }
}

/// Shared bytes that no longer change; a clone or a slice shares the memory.
#[derive(Clone)]
pub struct Buf {
    chunk: Option<Arc<Chunk>>,
    start: u32,
    len: u32,
}

impl Buf {
    /// The bytes `start .. start + len`, sharing the memory.
    ///
    /// # Panics
    /// If the range is not within the buffer: a fault of the caller.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Self {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len as usize), "slice beyond the buffer");
        Self { chunk: self.chunk.clone(), start: self.start + start as u32, len: len as u32 }
    }

    /// Joins `next` to the end if it is what lies right behind in the same memory; otherwise gives it back.
    ///
    /// # Errors
    /// `next`, unchanged.
    pub(crate) fn join(&mut self, next: Self) -> Result<(), Self> {
        let is_behind = match (&self.chunk, &next.chunk) {
            (Some(chunk), Some(other)) => Arc::ptr_eq(chunk, other) && self.start + self.len == next.start,
            _ => false,
        };
        if !is_behind {
            return Err(next);
        }
        self.len += next.len;
        Ok(())
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let chunk = self.chunk.as_ref().expect("owned until dropped");
        // SAFETY: what is frozen is never written again while a `Buf` has it: a `BufMut` only has what lies
        // behind, and the memory is taken anew only when its last owner is gone.
        unsafe { chunk.bytes(self.start as usize, self.len as usize) }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            recycle(chunk);
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bytes: they are a host's. Their sum tells two buffers apart.
        write!(f, "Buf({} bytes, {:016x})", self.len, sum_of_any(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_when_the_last_owner_goes() {
        let slab = Slab::new(1 << 20);
        let buf = slab.copy_of(b"hello").unwrap();
        let address = buf.as_ptr();
        let part = buf.slice(1, 3);
        drop(buf);
        assert_eq!(slab.usage(), SlabUse { bytes_total: PAGE, bytes_free: 0 });
        assert_eq!(&*part, b"ell");
        drop(part);
        assert_eq!(slab.usage(), SlabUse { bytes_total: PAGE, bytes_free: PAGE });
        assert_eq!(slab.take(10).unwrap().as_ptr(), address);
    }

    #[test]
    fn the_bound_holds_and_free_buffers_of_another_size_make_room() {
        let slab = Slab::new(4 * PAGE);
        drop([slab.take(1).unwrap(), slab.take(1).unwrap()]);
        let all = slab.take(4 * PAGE).expect("the two free pages make room");
        assert!(slab.take(1).is_err());
        drop(all);
        assert!(slab.take(Slab::LEN_MAX + 1).is_err());
    }

    #[test]
    fn a_buffer_is_filled_in_parts_while_its_front_is_shared() {
        let slab = Slab::new(1 << 20);
        let mut buf = slab.take(10).unwrap();
        buf[..3].copy_from_slice(b"abc");
        let front = buf.freeze_front(3);
        assert_eq!(buf.len(), 7);
        buf.copy_from_slice(b"defghij");
        let middle = buf.freeze_front(2);
        drop(front.clone());
        assert_eq!((&*front, &*middle, &*buf), (&b"abc"[..], &b"de"[..], &b"fghij"[..]));
        drop(buf);
        drop(middle);
        assert_eq!(slab.usage().bytes_free, 0, "the front still has it");
        drop(front);
        assert_eq!(slab.usage().bytes_free, PAGE);
    }

    #[test]
    fn what_bytes_take_of_the_bound_is_known_beforehand() {
        for (len, bytes) in [(0, 0), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 4 * PAGE), (1 << 20, 1 << 20)] {
            assert_eq!(Slab::bytes_for(len), bytes, "{len}");
        }
        assert_eq!(Slab::bytes_for((2 << 20) + 5000), (2 << 20) + 4 * PAGE);
    }

    #[test]
    fn buffers_are_aligned_for_direct_io() {
        let slab = Slab::new(1 << 20);
        for len in [1, PAGE, PAGE + 1, 16 * PAGE] {
            assert_eq!(slab.take(len).unwrap().as_ptr() as usize % PAGE, 0);
        }
    }
}
