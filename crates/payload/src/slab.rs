//! Recycled, page-aligned buffers in a few sizes, with a bound on what they hold together.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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

struct Chunk {
    pages: Box<[Page]>,
    class: u8,
    home: Weak<Shared>,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        // A page is exactly its bytes, without padding, so pages lie as one run of bytes.
        // SAFETY: `Page` is `repr(C)` with size and alignment 4096 and any byte pattern valid.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().cast(), self.pages.len() * PAGE) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.pages.len() * PAGE) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.bytes_total.fetch_sub(self.pages.len() * PAGE, Ordering::Relaxed);
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
            return Ok(BufMut { chunk: Some(chunk), len });
        }
        let bytes = CLASS_PAGES[class] * PAGE;
        if !self.reserve(bytes) {
            self.drop_free();
            if !self.reserve(bytes) {
                return Err(exhausted);
            }
        }
        let pages = vec![Page([0; PAGE]); CLASS_PAGES[class]].into_boxed_slice();
        let chunk = Chunk { pages, class: class as u8, home: Arc::downgrade(&self.0) };
        Ok(BufMut { chunk: Some(Arc::new(chunk)), len })
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
    len: usize,
}

impl BufMut {
    /// Shares the buffer; from now on its bytes stay as they are.
    pub fn freeze(mut self) -> Buf {
        Buf { chunk: self.chunk.take(), start: 0, len: self.len as u32 }
    }

    /// Keeps only the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for BufMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.chunk.as_ref().expect("owned until dropped").bytes()[..self.len]
    }
}

impl DerefMut for BufMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        let chunk = self.chunk.as_mut().expect("owned until dropped");
        &mut Arc::get_mut(chunk).expect("not shared before it is frozen").bytes_mut()[..self.len]
    }
}

impl Drop for BufMut {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            recycle(chunk);
        }
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
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = self.chunk.as_ref().expect("owned until dropped").bytes();
        &bytes[self.start as usize..][..self.len as usize]
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
        write!(f, "Buf({} bytes)", self.len)
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
    fn buffers_are_aligned_for_direct_io() {
        let slab = Slab::new(1 << 20);
        for len in [1, PAGE, PAGE + 1, 16 * PAGE] {
            assert_eq!(slab.take(len).unwrap().as_ptr() as usize % PAGE, 0);
        }
    }
}
