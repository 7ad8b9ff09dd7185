// SPDX-License-Identifier: GPL-2.0

//! Which pages of a region a partition has read and written: GPA_PAGE_ACCESS_TRACKING.
//!
//! While this is on, pages are mapped one by one when they are first touched, and for writing only
//! when they are first written to. To forget that a page was touched is to unmap it. So hvcore has
//! no part in it, and a partition that is not tracked pays nothing.

use super::{partition::Partition, user};
use crate::{
    hvabi,
    hypercall::{self, PartitionId},
    sys::block,
    tlfs::{
        hvcall::{access_state, access_state_flags as flags},
        mshv::{self as uapi, GpapAccessBitmap},
        status::{HvResult, HvStatus},
    },
};
use kernel::prelude::*;

const PAGE_SIZE: u64 = hvabi::PAGE_SIZE as u64;

/// A bit for each page.
struct Bits(KVVec<u64>);

impl Bits {
    fn new(pages: usize) -> Result<Self> {
        let mut words = KVVec::new();
        words.resize(pages.div_ceil(64), 0, GFP_KERNEL_ACCOUNT)?;
        Ok(Self(words))
    }

    fn get(&self, page: usize) -> bool {
        self.0[page / 64] >> (page % 64) & 1 != 0
    }

    fn put(&mut self, page: usize, value: bool) {
        let word = &mut self.0[page / 64];
        *word = *word & !(1 << (page % 64)) | u64::from(value) << (page % 64);
    }
}

/// What is known of the pages of a region.
pub(super) struct Tracking {
    accessed: Bits,
    dirty: Bits,
}

impl Tracking {
    /// Of a region of which no page is mapped.
    pub(super) fn new(pages: usize) -> Result<Self> {
        Ok(Self {
            accessed: Bits::new(pages)?,
            dirty: Bits::new(pages)?,
        })
    }

    /// A page is touched; whether it is to be mapped for writing.
    pub(super) fn touch(&mut self, page: usize, write: bool) -> bool {
        self.accessed.put(page, true);
        if write {
            self.dirty.put(page, true);
        }
        self.dirty.get(page)
    }

    /// The [`access_state`] of a page, before it is changed as [`flags`] say. The second value is
    /// true if the page must not stay mapped as it is.
    fn exchange(&mut self, page: usize, change: u64) -> (u8, bool) {
        let (accessed, dirty) = (self.accessed.get(page), self.dirty.get(page));
        let mut state = 0;
        if accessed {
            state |= access_state::ACCESSED;
        }
        if dirty {
            state |= access_state::DIRTY;
        }
        if change & flags::CLEAR_ACCESSED != 0 {
            self.accessed.put(page, false);
        }
        if change & flags::CLEAR_DIRTY != 0 {
            self.dirty.put(page, false);
        }
        if change & (flags::SET_ACCESSED | flags::SET_DIRTY) != 0 {
            self.accessed.put(page, true);
        }
        if change & flags::SET_DIRTY != 0 {
            self.dirty.put(page, true);
        }
        let again = accessed && !self.accessed.get(page) || dirty && !self.dirty.get(page);
        (state, again)
    }
}

/// Pages that follow each other and are to be unmapped.
struct Run {
    partition: PartitionId,
    pfn: u64,
    pages: u64,
    any: bool,
}

impl Run {
    fn add(&mut self, pfn: u64) {
        if self.pages == 0 || pfn != self.pfn + self.pages {
            self.flush();
            self.pfn = pfn;
        }
        self.pages += 1;
    }

    fn flush(&mut self) {
        if self.pages != 0 {
            // What stays is one page of the program's all the same.
            let _ = hypercall::gpa_unmap(self.partition, self.pfn * PAGE_SIZE, self.pages);
            self.any = true;
        }
        self.pages = 0;
    }
}

impl Partition {
    /// Starts or stops tracking.
    pub(super) fn track(&self, on: bool) -> HvResult {
        self.regions
            .lock()
            .track(self.id(), on)
            .map_err(|_| HvStatus::INSUFFICIENT_MEMORY)
    }

    /// Gives the [`access_state`] of `count` pages from `pfn` on to `put`, and changes it.
    pub(super) fn access_states(
        &self,
        pfn: u64,
        count: u64,
        change: u64,
        mut put: impl FnMut(usize, u8),
    ) -> HvResult {
        if change & !flags::VALID != 0 {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let end = pfn.checked_add(count).ok_or(HvStatus::INVALID_PARAMETER)?;
        let mut regions = self.regions.lock();
        if !regions.is_tracked() {
            return Err(HvStatus::INVALID_PARTITION_STATE);
        }
        let mut run = Run {
            partition: self.id(),
            pfn: 0,
            pages: 0,
            any: false,
        };
        for (first, pages, tracking) in regions.tracked() {
            for at in first.max(pfn)..(first + pages).min(end) {
                let (state, again) = tracking.exchange((at - first) as usize, change);
                if again {
                    run.add(at);
                }
                put((at - pfn) as usize, state);
            }
        }
        run.flush();
        if run.any {
            hypercall::sync_all();
        }
        Ok(())
    }

    /// MSHV_GET_GPAP_ACCESS_BITMAP.
    pub(super) fn access_bitmap(&self, arg: usize) -> Result<isize> {
        let args = user::read::<GpapAccessBitmap>(arg)?;
        if args.access_type >= uapi::GPAP_ACCESS_TYPE_COUNT
            || args.access_op >= uapi::GPAP_ACCESS_OP_COUNT
            || args.rsvd != [0; 6]
            || args.page_count == 0
            || args.bitmap_ptr == 0
        {
            return Err(EINVAL);
        }
        let dirty = args.access_type == uapi::GPAP_ACCESS_TYPE_DIRTY;
        let wanted = if dirty {
            access_state::DIRTY
        } else {
            access_state::ACCESSED
        };
        let change = match (args.access_op, dirty) {
            (uapi::GPAP_ACCESS_OP_CLEAR, true) => flags::CLEAR_DIRTY,
            // What was not accessed is not dirty.
            (uapi::GPAP_ACCESS_OP_CLEAR, false) => flags::CLEAR_ACCESSED | flags::CLEAR_DIRTY,
            (uapi::GPAP_ACCESS_OP_SET, true) => flags::SET_DIRTY | flags::SET_ACCESSED,
            (uapi::GPAP_ACCESS_OP_SET, false) => flags::SET_ACCESSED,
            _ => 0,
        };
        // The kernel's driver has a byte for each page meanwhile; nobody else shall suffer.
        if args.page_count / PAGE_SIZE > block::pages_available() {
            return Err(ENOMEM);
        }
        args.gpap_base.checked_add(args.page_count).ok_or(EINVAL)?;
        // In pieces, of which none takes long.
        let mut bitmap = user::buffer(PAGE_SIZE as usize)?;
        let mut done = 0;
        while done < args.page_count {
            let count = u64::min(args.page_count - done, 8 * PAGE_SIZE);
            bitmap.fill(0);
            self.access_states(args.gpap_base + done, count, change, |page, state| {
                bitmap[page / 8] |= u8::from(state & wanted != 0) << (page % 8);
            })
            .map_err(|status| user::error(status.errno()))?;
            let to = (args.bitmap_ptr as usize).wrapping_add((done / 8) as usize);
            user::write_bytes(to, &bitmap[..count.div_ceil(8) as usize])?;
            done += count;
        }
        Ok(0)
    }
}
