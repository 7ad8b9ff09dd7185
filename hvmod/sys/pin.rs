// SPDX-License-Identifier: GPL-2.0

//! User memory that stays where it is, because a partition uses it.

use core::{ops::Range, ptr::NonNull};
use kernel::{
    error::{from_err_ptr, to_result},
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
    fn hvmod_is_charged(mm: *mut RawMm) -> bool;
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

    /// Whether this is a thread of the program.
    fn is_ours(&self) -> bool {
        // SAFETY: By the invariant; it is only compared.
        unsafe { hvmod_is_charged(self.mm.as_ptr()) }
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
/// All pages that are not null are pinned for writing, once, by this.
pub(crate) struct PinnedPages {
    address: usize,
    pages: VVec<*mut RawPage>,
    absent: usize,
    written: bool,
    /// They stay pinned for ever.
    kept: bool,
    charge: Charge,
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
        // INVARIANT: All are null.
        let mut pinned = Self {
            address: address as usize,
            pages,
            absent: count,
            written,
            kept: false,
            charge,
        };
        pinned.pin(0..count)?;
        Ok(pinned)
    }

    /// Pins pages that are absent, of this program; on an error some of them are.
    fn pin(&mut self, range: Range<usize>) -> Result {
        let mut at = range.start;
        while at < range.end {
            let batch = usize::min(range.end - at, BATCH);
            let from = (self.address + at * PAGE_SIZE) as c_ulong;
            let room = self.pages.get_mut(at..at + batch).ok_or(EINVAL)?;
            // SAFETY: `room` has `batch` items.
            let pinned = unsafe { hvmod_pin(from, batch as c_ulong, room.as_mut_ptr()) };
            let count = usize::try_from(pinned).unwrap_or(0);
            // INVARIANT: As many of the items are pages now, pinned for us. Behind them Linux leaves
            // those that it had pinned, and unpinned when it could not have all.
            room[count..].fill(core::ptr::null_mut());
            to_result(pinned.min(0) as c_int)?;
            self.absent -= count;
            at += count;
            if count != batch {
                return Err(ENOMEM);
            }
            if kernel::current!().signal_pending() && at < range.end {
                return Err(EINTR);
            }
        }
        Ok(())
    }

    /// Has the pages stay pinned for ever, since somebody else may go on to use them: a bug, of
    /// which a loss of memory is the lesser evil.
    pub(crate) fn keep(&mut self) {
        pr_err!(
            "a partition does not give back all of {} pages: they are lost until reboot\n",
            self.pages.len()
        );
        self.kept = true;
    }

    /// Unpins pages: they are absent then. Nobody uses them through this any more.
    pub(crate) fn release(&mut self, range: Range<usize>) {
        let Some(mut pages) = self.pages.get_mut(range).filter(|_| !self.kept) else {
            return;
        };
        while let Some(start) = pages.iter().position(|page| !page.is_null()) {
            pages = &mut pages[start..];
            let present = pages.iter().position(|page| page.is_null());
            let (now, rest) = pages.split_at_mut(present.unwrap_or(pages.len()));
            // SAFETY: By the invariant.
            unsafe { hvmod_unpin(now.as_mut_ptr(), now.len() as c_ulong, self.written) };
            // INVARIANT: They are not pinned any more.
            now.fill(core::ptr::null_mut());
            self.absent += now.len();
            pages = rest;
        }
    }

    /// Pins absent pages again: all of them, or none. EFAULT in a thread of another program.
    pub(crate) fn restore(&mut self, range: Range<usize>) -> Result {
        if !self.charge.is_ours() {
            return Err(EFAULT);
        }
        let pinned = self.pin(range.clone());
        if pinned.is_err() {
            self.release(range);
        }
        pinned
    }

    /// Number of pages.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// How many of them are absent.
    pub(crate) fn absent(&self) -> usize {
        self.absent
    }

    fn page(&self, index: usize) -> Option<*mut RawPage> {
        let page = *self.pages.get(index)?;
        (!page.is_null()).then_some(page)
    }

    /// Physical address of page `index`, if there is such a page.
    pub(crate) fn spa(&self, index: usize) -> Option<u64> {
        let page = self.page(index)?;
        // SAFETY: By the invariant a page.
        Some(unsafe { hvmod_page_spa(page) })
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
            let page = self.page(offset / PAGE_SIZE)?;
            // SAFETY: A pinned page, always mapped on 64 bits.
            let page = unsafe { hvmod_page_address(page) };
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
            let page = self.page(offset / PAGE_SIZE)?;
            // SAFETY: A pinned page, always mapped on 64 bits.
            let page = unsafe { hvmod_page_address(page) };
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
        let page = self.page(offset / PAGE_SIZE)?;
        // SAFETY: A pinned page, always mapped on 64 bits.
        let page = unsafe { hvmod_page_address(page) };
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
        self.release(0..self.pages.len());
    }
}
