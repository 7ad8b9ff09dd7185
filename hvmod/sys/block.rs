// SPDX-License-Identifier: GPL-2.0

//! Physically contiguous memory.

use crate::hvabi::{
    boot::{CoreInfo, ImageHeader},
    log::LogRecord,
    stats::LpStats,
    PAGE_SIZE,
};
use core::{
    mem::{align_of, size_of, ManuallyDrop},
    ptr::NonNull,
};
use kernel::{ffi::c_void, prelude::*};

extern "C" {
    fn hvmod_block_alloc(pages: usize, account: bool) -> *mut c_void;
    fn hvmod_block_free(block: *mut c_void, pages: usize);
    fn hvmod_pages_available() -> u64;
    fn hvmod_spa(address: *const c_void) -> u64;
}

/// Pages that can be had without anybody else suffering, about.
pub(crate) fn pages_available() -> u64 {
    // SAFETY: No precondition.
    unsafe { hvmod_pages_available() }
}

/// Types that are only bytes: every bit pattern is one, and there is no padding.
///
/// # Safety
///
/// The implementer says so.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: An integer.
unsafe impl Plain for u64 {}
// SAFETY: `repr(C)`, integers only, padding is explicit.
unsafe impl Plain for ImageHeader {}
// SAFETY: As above.
unsafe impl Plain for CoreInfo {}
// SAFETY: As above.
unsafe impl Plain for LpStats {}
// SAFETY: As above.
unsafe impl Plain for LogRecord {}

/// Pages that follow each other physically, cleared when allocated.
///
/// Others read and write them too: before launch nobody, then hvcore. So every access here is
/// volatile and takes or gives a copy.
///
/// # Invariants
///
/// `start` is the start of `pages` pages from `hvmod_block_alloc`, which this owns.
pub(crate) struct Block {
    start: NonNull<u8>,
    pages: usize,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for Block {}
// SAFETY: Nothing gives a reference into the pages, only copies.
unsafe impl Sync for Block {}

impl Block {
    /// Allocates `pages` pages.
    pub(crate) fn new(pages: usize) -> Result<Self> {
        Self::allocate(pages, false)
    }

    /// Allocates `pages` pages and charges them to the caller's cgroup. Large ones are not to be
    /// had that way.
    pub(crate) fn new_accounted(pages: usize) -> Result<Self> {
        Self::allocate(pages, true)
    }

    fn allocate(pages: usize, account: bool) -> Result<Self> {
        if pages == 0 {
            return Err(EINVAL);
        }
        // SAFETY: Process context; no other precondition.
        let start = unsafe { hvmod_block_alloc(pages, account) };
        // INVARIANT: As given by `hvmod_block_alloc`.
        Ok(Self {
            start: NonNull::new(start.cast()).ok_or(ENOMEM)?,
            pages,
        })
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    /// Address of the first byte in Linux.
    pub(crate) fn va(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// Physical address of the first byte.
    pub(crate) fn spa(&self) -> u64 {
        // SAFETY: An address of the kernel's linear mapping.
        unsafe { hvmod_spa(self.start.as_ptr().cast()) }
    }

    /// A copy of the value at `offset`.
    pub(crate) fn read<T: Plain>(&self, offset: usize) -> Result<T> {
        let place = self.place(offset, size_of::<T>(), align_of::<T>())?;
        // SAFETY: Inside the pages and aligned, by `place`; `Plain` takes any bytes.
        Ok(unsafe { place.cast::<T>().read_volatile() })
    }

    /// Writes `value` at `offset`.
    pub(crate) fn write<T: Plain>(&self, offset: usize, value: &T) -> Result {
        let place = self.place(offset, size_of::<T>(), align_of::<T>())?;
        // SAFETY: Inside the pages and aligned, by `place`.
        unsafe { place.cast::<T>().write_volatile(*value) };
        Ok(())
    }

    /// Copies `bytes` to `offset`.
    pub(crate) fn write_bytes(&self, offset: usize, bytes: &[u8]) -> Result {
        let place = self.place(offset, bytes.len(), 1)?;
        // SAFETY: Inside the pages, by `place`; `bytes` cannot be inside too, since nothing gives
        // a reference into them.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        Ok(())
    }

    /// Physical addresses of the pages.
    pub(crate) fn spas(&self) -> impl Iterator<Item = u64> {
        let start = self.spa();
        (0..self.pages).map(move |page| start + (page * PAGE_SIZE) as u64)
    }

    /// Gives the pages away: from now on each is for itself, and only its physical address says
    /// that there is one.
    pub(crate) fn give_away(self) {
        let _ = ManuallyDrop::new(self);
    }

    fn place(&self, offset: usize, size: usize, align: usize) -> Result<*mut u8> {
        let end = offset.checked_add(size).ok_or(EINVAL)?;
        if end > self.len() || offset % align != 0 || align > PAGE_SIZE {
            return Err(EINVAL);
        }
        // SAFETY: At most `len()` bytes on.
        Ok(unsafe { self.start.as_ptr().add(offset) })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { hvmod_block_free(self.start.as_ptr().cast(), self.pages) };
    }
}
