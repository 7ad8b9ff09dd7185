// SPDX-License-Identifier: GPL-2.0

//! User memory that stays where it is, because a partition uses it.

use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    ffi::{c_int, c_long, c_ulong, c_void},
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};

/// `struct page`.
#[repr(C)]
struct RawPage {
    _private: [u8; 0],
}

/// `struct mm_struct`.
#[repr(C)]
struct RawMm {
    _private: [u8; 0],
}

extern "C" {
    fn hvmod_charge(count: c_ulong) -> *mut RawMm;
    fn hvmod_uncharge(mm: *mut RawMm, count: c_ulong);
    fn hvmod_pin(address: c_ulong, count: c_ulong, pages: *mut *mut RawPage) -> c_long;
    fn hvmod_unpin(pages: *mut *mut RawPage, count: c_ulong, dirty: bool);
    fn hvmod_page_spa(page: *mut RawPage) -> u64;
    fn hvmod_page_address(page: *mut RawPage) -> *mut c_void;
    fn hvmod_user_memory_kind(address: c_ulong, size: c_ulong) -> c_int;
}

const PAGE_SIZE: usize = kernel::page::PAGE_SIZE;

/// What lies at a user address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or what no program may name.
    Nothing,
    Memory,
    /// Registers or memory of a device.
    Device,
}

/// What begins at `address` in this program.
pub(crate) fn kind(address: u64, size: u64) -> Kind {
    // SAFETY: Process context; any address may be asked for.
    match unsafe { hvmod_user_memory_kind(address as c_ulong, size as c_ulong) } {
        0 => Kind::Nothing,
        1 => Kind::Memory,
        _ => Kind::Device,
    }
}

/// Pages that count as locked memory of a program.
///
/// # Invariants
///
/// `mm` is referenced, and `count` pages were counted there, by this.
struct Charge {
    mm: NonNull<RawMm>,
    count: usize,
}

impl Charge {
    /// Counts pages of this program: ENOMEM if they are more than it may lock, or than there are.
    fn new(count: usize) -> Result<Self> {
        // SAFETY: Process context, of a program.
        let mm = from_err_ptr(unsafe { hvmod_charge(count as c_ulong) })?;
        // INVARIANT: Just done.
        Ok(Self {
            mm: NonNull::new(mm).ok_or(EINVAL)?,
            count,
        })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // SAFETY: By the invariant; process context.
        unsafe { hvmod_uncharge(self.mm.as_ptr(), self.count as c_ulong) };
    }
}

/// Pages of user memory, in the order of their addresses.
///
/// # Invariants
///
/// All pages are pinned for writing, once, by this.
pub(crate) struct PinnedPages {
    pages: VVec<*mut RawPage>,
    written: bool,
    _charge: Charge,
}

// SAFETY: Pins belong to no thread, and shared access only reads the list.
unsafe impl Send for PinnedPages {}
// SAFETY: As above.
unsafe impl Sync for PinnedPages {}

/// Pages that are pinned at once: what one call allocates and how long it takes is bounded.
const BATCH: usize = 0x1000_0000 / PAGE_SIZE;

impl PinnedPages {
    /// Pins `count` pages of this program from `address` on. `written` says that somebody may
    /// write to them.
    pub(crate) fn new(address: u64, count: usize, written: bool) -> Result<Self> {
        let charge = Charge::new(count)?;
        let mut pages = VVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
        for _ in 0..count {
            pages.push_within_capacity(core::ptr::null_mut())?;
        }
        let mut done = 0;
        while done < count {
            let batch = usize::min(count - done, BATCH);
            let from = address as usize + done * PAGE_SIZE;
            let room = &mut pages[done..done + batch];
            // SAFETY: `room` has `batch` items.
            let pinned = unsafe { hvmod_pin(from as c_ulong, batch as c_ulong, room.as_mut_ptr()) };
            if pinned > 0 {
                done += pinned as usize;
            }
            if pinned != batch as c_long {
                // SAFETY: These were pinned above.
                unsafe { hvmod_unpin(pages.as_mut_ptr(), done as c_ulong, false) };
                return Err(if pinned < 0 {
                    Error::from_errno(pinned as c_int)
                } else {
                    ENOMEM
                });
            }
            if kernel::current!().signal_pending() && done < count {
                // SAFETY: As above.
                unsafe { hvmod_unpin(pages.as_mut_ptr(), done as c_ulong, false) };
                return Err(EINTR);
            }
        }
        // INVARIANT: All are pinned.
        Ok(Self {
            pages,
            written,
            _charge: charge,
        })
    }

    /// Number of pages.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Physical address of page `index`.
    ///
    /// # Panics
    ///
    /// If there is no such page.
    pub(crate) fn spa(&self, index: usize) -> u64 {
        // SAFETY: By the invariant a page.
        unsafe { hvmod_page_spa(self.pages[index]) }
    }

    /// Reads from `offset` on, as many bytes as `out` has; `None` if they are not all there.
    ///
    /// Programs and VPs may write at the same time: the bytes are what was there at some time.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Option<()> {
        let mut offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(out.len())?;
        if end > self.pages.len() * PAGE_SIZE {
            return None;
        }
        let mut out = out;
        while !out.is_empty() {
            let inside = offset % PAGE_SIZE;
            let part = usize::min(out.len(), PAGE_SIZE - inside);
            let (now, rest) = out.split_at_mut(part);
            // SAFETY: A pinned page, always mapped on 64 bits.
            let page = unsafe { hvmod_page_address(self.pages[offset / PAGE_SIZE]) };
            // SAFETY: `part` bytes are left in the page. Others may write to it; the bytes have no
            // meaning until they were checked.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    page.cast::<u8>().add(inside),
                    now.as_mut_ptr(),
                    part,
                )
            };
            offset += part;
            out = rest;
        }
        Some(())
    }

    /// Writes whole words from `offset` on, a multiple of 8; `None` if they are not all there, or
    /// nobody may write to these pages.
    ///
    /// Programs and VPs may read at the same time: they see each word as it was or as it is.
    pub(crate) fn write(&self, offset: u64, words: &[u64]) -> Option<()> {
        let first = usize::try_from(offset).ok()?;
        let end = first.checked_add(size_of_val(words))?;
        if !self.written || offset % 8 != 0 || end > self.pages.len() * PAGE_SIZE {
            return None;
        }
        for (offset, word) in (first..end).step_by(8).zip(words) {
            // SAFETY: A pinned page, always mapped on 64 bits.
            let page = unsafe { hvmod_page_address(self.pages[offset / PAGE_SIZE]) };
            // SAFETY: The word is in the page and aligned; nothing in the kernel refers to it.
            unsafe {
                page.cast::<u64>()
                    .add(offset % PAGE_SIZE / 8)
                    .write_volatile(*word)
            };
        }
        Some(())
    }

    /// Sets bits of the word at `offset`, a multiple of 8, in one step for whoever else writes to
    /// it; what it was before. `None` if it is not there, or nobody may write to these pages.
    pub(crate) fn set_bits(&self, offset: u64, bits: u64) -> Option<u64> {
        let offset = usize::try_from(offset).ok()?;
        if !self.written || offset % 8 != 0 || offset >= self.pages.len() * PAGE_SIZE {
            return None;
        }
        // SAFETY: A pinned page, always mapped on 64 bits.
        let page = unsafe { hvmod_page_address(self.pages[offset / PAGE_SIZE]) };
        // SAFETY: The word is in the page and aligned; nothing in the kernel refers to it, and what
        // programs and VPs do to it is as good as atomic.
        let word = unsafe {
            Atomic::<u64>::from_ptr(page.cast::<u8>().add(offset % PAGE_SIZE).cast::<u64>())
        };
        let mut before = word.load(Relaxed);
        while let Err(now) = word.cmpxchg(before, before | bits, Full) {
            before = now;
        }
        Some(before)
    }
}

impl Drop for PinnedPages {
    fn drop(&mut self) {
        let count = self.pages.len() as c_ulong;
        // SAFETY: By the invariant.
        unsafe { hvmod_unpin(self.pages.as_mut_ptr(), count, self.written) };
    }
}
