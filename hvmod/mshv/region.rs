// SPDX-License-Identifier: GPL-2.0

//! Memory of a partition: regions of user memory mapped at guest physical addresses.

use super::{partition::Partition, registry, tracking::Tracking, user};
use crate::{
    hvabi::{
        call::{map_flags, LIST_ITEMS},
        APIC_GPA, GPA_END, LARGE_PAGES as LARGE, PAGE_SIZE as PAGE,
    },
    hypercall::{self, PartitionId},
    sys::{
        pin::{self, Kind, PinnedPages},
        uapi::DiscardMemory,
    },
    tlfs::{
        errno,
        mshv::{mem_flags, UserMemRegion},
    },
};
use core::ops::Range;
use kernel::prelude::*;

const PAGE_SIZE: u64 = PAGE as u64;

/// The arguments of SET_GUEST_MEMORY, checked: sizes and addresses are whole pages. If they are to be
/// mapped, the last page of the guest has an address, and there is memory in the program.
#[derive(Clone, Copy)]
pub(super) struct Request {
    guest_pfn: u64,
    pages: u64,
    user_address: u64,
    flags: u8,
}

impl Request {
    /// Checks the arguments.
    pub(super) fn new(args: &UserMemRegion) -> Result<Self> {
        if args.size == 0
            || args.size % PAGE_SIZE != 0
            || args.userspace_addr % PAGE_SIZE != 0
            || args.flags & !mem_flags::MASK != 0
            || args.rsvd != [0; 7]
        {
            return Err(EINVAL);
        }
        let request = Self {
            guest_pfn: args.guest_pfn,
            pages: args.size / PAGE_SIZE,
            user_address: args.userspace_addr,
            flags: args.flags,
        };
        if !request.is_unmap() {
            request.check_source(args.size)?;
        }
        Ok(request)
    }

    /// That there is memory to map, and room for it.
    fn check_source(&self, size: u64) -> Result {
        let end = self.guest_pfn.checked_add(self.pages).ok_or(EINVAL)?;
        if end > GPA_END / PAGE_SIZE {
            return Err(EINVAL);
        }
        match pin::kind(self.user_address, size) {
            Kind::Nothing => Err(EINVAL),
            // hvcore gives a child memory only, no devices.
            Kind::Device => Err(user::error(errno::EOPNOTSUPP)),
            Kind::Memory => Ok(()),
        }
    }

    pub(super) fn is_unmap(&self) -> bool {
        self.flags & mem_flags::UNMAP != 0
    }
}

/// User memory that is mapped into the partition.
pub(super) struct Region {
    request: Request,
    memory: PinnedPages,
    /// While accesses are tracked.
    tracking: Option<Tracking>,
}

/// What an access to memory that caused an exit met.
pub(super) enum Access {
    /// Nothing is mapped there.
    Nothing,
    /// The region does not allow it.
    Denied,
    /// It is allowed, and will succeed if it is tried again.
    Allowed,
}

impl Region {
    fn contains(&self, pfn: u64) -> bool {
        pfn.wrapping_sub(self.request.guest_pfn) < self.request.pages
    }

    fn overlaps(&self, pfn: u64, pages: u64) -> bool {
        let mine = &self.request;
        mine.guest_pfn < pfn + pages && pfn < mine.guest_pfn + mine.pages
    }

    pub(super) fn writable(&self) -> bool {
        self.request.flags & mem_flags::WRITABLE != 0
    }

    fn executable(&self) -> bool {
        self.request.flags & mem_flags::EXECUTABLE != 0
    }

    /// Begins tracking, which is to unmap everything, or ends it.
    fn track(&mut self, partition: PartitionId, on: bool) -> Result {
        let tracking = match on {
            true => Some(Tracking::new(self.memory.len())?),
            false => None,
        };
        self.unmap_all(partition);
        let before = core::mem::replace(&mut self.tracking, tracking);
        if !on {
            if let Err(error) = self.map_all(partition) {
                // Pages go on to be mapped when they are touched.
                self.tracking = before;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Maps a page that is tracked or was discarded, since it is touched.
    fn touch(&mut self, partition: PartitionId, pfn: u64, write: bool) -> Result {
        let page = (pfn - self.request.guest_pfn) as usize;
        if self.memory.spa(page).is_none() {
            self.restore(partition, pfn)?;
        }
        let executable = self.executable();
        let Some(tracking) = &mut self.tracking else {
            return Ok(());
        };
        let mut flags = 0;
        if tracking.touch(page, write) {
            flags |= map_flags::WRITE;
        }
        if executable {
            flags |= map_flags::EXECUTE;
        }
        // It may be there already, and not writable. That another LP remembers this does no harm.
        let gpa = pfn * PAGE_SIZE;
        let spa = self.memory.spa(page).ok_or(EFAULT)?;
        if !hypercall::gpa_unmap(partition, gpa, 1) {
            return Err(EBUSY);
        }
        hypercall::gpa_map(partition, gpa, &[spa], flags).map_err(|(error, _)| error)
    }

    /// Gives the guest back the unit of discarded memory that `pfn` is in: what the program has
    /// there now.
    fn restore(&mut self, partition: PartitionId, pfn: u64) -> Result {
        let unit = self
            .indices(pfn - pfn % LARGE as u64, LARGE)
            .ok_or(EFAULT)?;
        self.memory.restore(unit.clone())?;
        if self.tracking.is_some() {
            return Ok(());
        }
        self.map(partition, unit.clone()).inspect_err(|_| {
            // Nothing of it is mapped.
            self.memory.release(unit)
        })
    }

    /// Where in the region these pages are, if all of them are.
    fn indices(&self, pfn: u64, pages: usize) -> Option<Range<usize>> {
        let start = pfn.checked_sub(self.request.guest_pfn)?;
        let end = start.checked_add(pages as u64)?;
        (end <= self.request.pages).then_some(start as usize..end as usize)
    }

    /// Maps the first pages in `range` that one hypercall takes. Gives their number.
    fn map_some(
        &self,
        partition: PartitionId,
        range: Range<usize>,
        list: &mut KVec<u64>,
    ) -> Result<usize, (Error, usize)> {
        list.clear();
        let index = range.start;
        let step = self.step(index);
        let large = step == LARGE;
        let mut next = index;
        while next < range.end && list.len() < LIST_ITEMS && step == self.step(next) {
            let Some(spa) = self.memory.spa(next) else {
                break;
            };
            list.push_within_capacity(spa).map_err(|_| (ENOMEM, 0))?;
            next += step;
        }
        if next == index {
            // It was discarded.
            return Ok(1);
        }
        let mut flags = 0;
        for (ours, theirs) in [
            (mem_flags::WRITABLE, map_flags::WRITE),
            (mem_flags::EXECUTABLE, map_flags::EXECUTE),
        ] {
            if self.request.flags & ours != 0 {
                flags |= theirs;
            }
        }
        if large {
            flags |= map_flags::LARGE;
        }
        let gpa = (self.request.guest_pfn + index as u64) * PAGE_SIZE;
        hypercall::gpa_map(partition, gpa, list, flags)
            .map(|()| next - index)
            .map_err(|(error, done)| (error, done * if large { LARGE } else { 1 }))
    }

    /// Pages that can be mapped as one at `index`: 512 if they follow each other and begin at
    /// multiples of 2 MiB in both address spaces, else 1.
    fn step(&self, index: usize) -> usize {
        let fits = (self.request.guest_pfn + index as u64) % LARGE as u64 == 0
            && self.memory.len().saturating_sub(index) >= LARGE;
        if !fits {
            return 1;
        }
        let follow = self.memory.spa(index).is_some_and(|base| {
            base % (LARGE as u64 * PAGE_SIZE) == 0
                && (1..LARGE)
                    .all(|n| self.memory.spa(index + n) == Some(base + n as u64 * PAGE_SIZE))
        });
        if follow {
            LARGE
        } else {
            1
        }
    }

    /// Maps all pages in `range` that are not discarded, or none.
    fn map(&mut self, partition: PartitionId, range: Range<usize>) -> Result {
        let mut list = KVec::with_capacity(LIST_ITEMS, GFP_KERNEL)?;
        let mut index = range.start;
        while index < range.end {
            match self.map_some(partition, index..range.end, &mut list) {
                Ok(count) => index += count,
                Err((error, done)) => {
                    if index + done > range.start {
                        self.unmap(partition, range.start..index + done);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn map_all(&mut self, partition: PartitionId) -> Result {
        self.map(partition, 0..self.memory.len())
    }

    /// Unmaps the pages in `range`. After this no VP and no LP uses them, or Linux does not get
    /// them back.
    fn unmap(&mut self, partition: PartitionId, range: Range<usize>) {
        let gpa = (self.request.guest_pfn + range.start as u64) * PAGE_SIZE;
        if !hypercall::gpa_unmap(partition, gpa, range.len() as u64) {
            self.memory.keep();
        }
        hypercall::sync_all();
    }

    fn unmap_all(&mut self, partition: PartitionId) {
        self.unmap(partition, 0..self.memory.len());
    }
}

/// All regions of a partition. No two overlap.
pub(super) struct Regions {
    /// As many as the program makes, which can be more than fit into pages that follow each other.
    list: KVVec<Region>,
    /// Accesses are tracked, in every region.
    tracked: bool,
}

impl Regions {
    pub(super) const fn new() -> Self {
        Self {
            list: KVVec::new(),
            tracked: false,
        }
    }

    pub(super) fn is_tracked(&self) -> bool {
        self.tracked
    }

    /// Starts tracking in every region, or stops it; an error leaves it on.
    pub(super) fn track(&mut self, partition: PartitionId, on: bool) -> Result {
        if self.tracked == on {
            return Ok(());
        }
        self.tracked = true;
        for region in self.list.iter_mut() {
            region.track(partition, on)?;
        }
        self.tracked = on;
        Ok(())
    }

    /// First page number, number of pages and tracking of each region.
    pub(super) fn tracked(&mut self) -> impl Iterator<Item = (u64, u64, &mut Tracking)> {
        self.list.iter_mut().filter_map(|region| {
            let Region {
                request, tracking, ..
            } = region;
            Some((request.guest_pfn, request.pages, tracking.as_mut()?))
        })
    }

    /// An access caused an exit: bits of `access` are read, write, execute.
    pub(super) fn access(&mut self, partition: PartitionId, gpa: u64, access: u8) -> Access {
        let pfn = gpa / PAGE_SIZE;
        let Some(region) = self.list.iter_mut().find(|r| r.contains(pfn)) else {
            return Access::Nothing;
        };
        let write = access & 2 != 0;
        let denied = write && !region.writable() || access & 4 != 0 && !region.executable();
        if denied {
            return Access::Denied;
        }
        let absent = region.memory.absent();
        if region.touch(partition, pfn, write).is_err() {
            return Access::Denied;
        }
        if region.memory.absent() != absent {
            registry::set_shared_bytes(partition, self.bytes());
        }
        Access::Allowed
    }

    /// HVMOD_DISCARD_MEMORY: EBUSY while accesses are tracked, ENOENT where not all of it is of one
    /// region.
    pub(super) fn discard(&mut self, partition: PartitionId, pfn: u64, pages: usize) -> Result {
        if self.tracked {
            return Err(EBUSY);
        }
        let region = self
            .list
            .iter_mut()
            .find(|r| r.contains(pfn))
            .ok_or(ENOENT)?;
        let range = region.indices(pfn, pages).ok_or(ENOENT)?;
        region.unmap(partition, range.clone());
        region.memory.release(range);
        registry::set_shared_bytes(partition, self.bytes());
        Ok(())
    }

    /// Bytes that are mapped.
    pub(super) fn bytes(&self) -> u64 {
        let present = |region: &Region| region.memory.len() - region.memory.absent();
        self.list
            .iter()
            .map(|r| present(r) as u64 * PAGE_SIZE)
            .sum()
    }

    /// The region that `gpa` lies in.
    pub(super) fn find(&self, gpa: u64) -> Option<&Region> {
        self.list.iter().find(|r| r.contains(gpa / PAGE_SIZE))
    }

    /// EEXIST if `request` overlaps with what is there.
    pub(super) fn check_free(&self, request: &Request) -> Result {
        self.check_free_pages(request.guest_pfn * PAGE_SIZE, request.pages)
    }

    /// EEXIST if one of the `pages` from `gpa` on is there, or is that of local APICs.
    pub(super) fn check_free_pages(&self, gpa: u64, pages: u64) -> Result {
        let pfn = gpa / PAGE_SIZE;
        let apic = (APIC_GPA / PAGE_SIZE).wrapping_sub(pfn) < pages;
        if apic || self.list.iter().any(|r| r.overlaps(pfn, pages)) {
            return Err(EEXIST);
        }
        Ok(())
    }

    /// Adds a region that [`map`] made.
    pub(super) fn add(&mut self, partition: PartitionId, mut region: Region) -> Result {
        if let Err(error) = self.list.reserve(1, GFP_KERNEL_ACCOUNT) {
            region.unmap_all(partition);
            return Err(error.into());
        }
        self.list.push_within_capacity(region).map_err(|_| ENOMEM)
    }

    /// Takes out the region that `request` names exactly: ENOENT, EINVAL.
    pub(super) fn take(&mut self, request: &Request) -> Result<Region> {
        let index = self
            .list
            .iter()
            .position(|r| r.contains(request.guest_pfn))
            .ok_or(ENOENT)?;
        let found = &self.list[index].request;
        if found.user_address != request.user_address
            || found.guest_pfn != request.guest_pfn
            || found.pages != request.pages
        {
            return Err(EINVAL);
        }
        self.list.remove(index).map_err(|_| ENOENT)
    }

    /// Copies guest memory; `None` where there is none.
    pub(super) fn read(&self, gpa: u64, out: &mut [u8]) -> Option<()> {
        let region = self.find(gpa)?;
        region
            .memory
            .read(gpa - region.request.guest_pfn * PAGE_SIZE, out)
    }

    /// The memory at `gpa`, which is about to be written to, and where in it that is; `None` where
    /// the guest could not write.
    fn writing(&mut self, gpa: u64) -> Option<(&PinnedPages, u64)> {
        let pfn = gpa / PAGE_SIZE;
        let region = self.list.iter_mut().find(|r| r.contains(pfn))?;
        let first = region.request.guest_pfn;
        if !region.writable() {
            return None;
        }
        if let Some(tracking) = &mut region.tracking {
            tracking.touch((pfn - first) as usize, true);
        }
        Some((&region.memory, gpa - first * PAGE_SIZE))
    }

    /// Writes words of guest memory, in one page; `None` where the guest could not write them.
    pub(super) fn write(&mut self, gpa: u64, words: &[u64]) -> Option<()> {
        let (memory, offset) = self.writing(gpa)?;
        memory.write(offset, words)
    }

    /// Sets bits of a word of guest memory at once; what it was before. `None` where the guest could
    /// not write it.
    pub(super) fn set_bits(&mut self, gpa: u64, bits: u64) -> Option<u64> {
        let (memory, offset) = self.writing(gpa)?;
        memory.set_bits(offset, bits)
    }
}

/// Pins and maps user memory.
///
/// If accesses are `tracked`, pages are mapped when they are touched.
pub(super) fn map(partition: PartitionId, request: Request, tracked: bool) -> Result<Region> {
    let writable = request.flags & mem_flags::WRITABLE != 0;
    let memory = PinnedPages::new(request.user_address, request.pages as usize, writable)?;
    let tracking = match tracked {
        true => Some(Tracking::new(memory.len())?),
        false => None,
    };
    let mut region = Region {
        request,
        memory,
        tracking,
    };
    if !tracked {
        region.map_all(partition)?;
    }
    Ok(region)
}

/// HVMOD_DISCARD_MEMORY: whole units of 2 MiB, of one region.
pub(super) fn discard(partition: &Partition, arg: usize) -> Result<isize> {
    const UNIT: u64 = LARGE as u64 * PAGE_SIZE;
    let args = user::read::<DiscardMemory>(arg)?;
    if args.guest_pfn % LARGE as u64 != 0
        || args.size == 0
        || args.size % UNIT != 0
        || args.reserved != [0; 2]
    {
        return Err(EINVAL);
    }
    let pages = usize::try_from(args.size / PAGE_SIZE).map_err(|_| EINVAL)?;
    let mut regions = partition.regions.lock();
    regions.discard(partition.id(), args.guest_pfn, pages)?;
    Ok(0)
}

/// Unmaps and unpins what [`map`] mapped.
pub(super) fn unmap(partition: PartitionId, mut region: Region) {
    region.unmap_all(partition);
}
