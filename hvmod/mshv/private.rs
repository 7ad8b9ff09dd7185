// SPDX-License-Identifier: GPL-2.0

//! HVMOD_SET_PRIVATE_MEMORY: memory that a partition has for itself.
//!
//! It consists of pages that this module allocates, not of the program's: so they are in no page
//! table but Linux's linear mapping, on no LRU list, and not movable, and nothing that works on
//! user memory (reclaim, migration, compaction, KSM, splitting of huge pages, a write to
//! /proc/PID/mem) ever comes near them. hvcore takes them out of the root's EPT. From then on
//! nothing here, or elsewhere in Linux, may touch them before hvcore gave them back, cleared.

use super::{
    partition::{Partition, Setup},
    user,
};
use crate::{
    hvabi::{call::map_flags, GPA_END, LARGE_PAGES, PAGE_SIZE},
    hypercall,
    sys::{
        block::{self, Block},
        uapi::PrivateMemory,
    },
};
use kernel::prelude::*;

/// Pages of a large page.
const LARGE: u64 = LARGE_PAGES as u64;

/// `HVMOD_PRIVATE_WRITABLE` and `HVMOD_PRIVATE_EXECUTABLE`.
const FLAGS: [(u32, u64); 2] = [(1 << 0, map_flags::WRITE), (1 << 1, map_flags::EXECUTE)];

/// The arguments, checked.
struct Request {
    gpa: u64,
    pages: u64,
    image: Option<u64>,
    flags: u64,
}

impl Request {
    fn new(args: &PrivateMemory) -> Result<Self> {
        const PAGE: u64 = PAGE_SIZE as u64;
        let known = FLAGS.iter().fold(0, |known, (flag, _)| known | flag);
        let end = args.guest_pfn.checked_add(args.size / PAGE).ok_or(EINVAL)?;
        let image_end = args.image.checked_add(args.size).ok_or(EINVAL)?;
        if args.size == 0
            || args.size % PAGE != 0
            || end > GPA_END / PAGE
            || args.flags & !known != 0
            || args.reserved != [0; 3]
            || usize::try_from(image_end).is_err()
        {
            return Err(EINVAL);
        }
        let chosen = FLAGS.iter().filter(|(flag, _)| args.flags & flag != 0);
        Ok(Self {
            gpa: args.guest_pfn * PAGE,
            pages: args.size / PAGE,
            image: (args.image != 0).then_some(args.image),
            flags: chosen.fold(map_flags::PRIVATE, |flags, (_, flag)| flags | flag),
        })
    }
}

/// Gives the partition private memory, or nothing.
pub(super) fn set(partition: &Partition, setup: &mut Setup, arg: usize) -> Result<isize> {
    let request = Request::new(&user::read::<PrivateMemory>(arg)?)?;
    if request.pages > block::pages_available() {
        return Err(ENOMEM);
    }
    {
        let regions = partition.regions.lock();
        // Tracking unmaps pages, from which private ones return cleared.
        if regions.is_tracked() {
            return Err(EBUSY);
        }
        regions.check_free_pages(request.gpa, request.pages)?;
    }
    let mut done = 0;
    let mut buffer = user::buffer(PAGE_SIZE)?;
    let result = fill(partition, &request, &mut buffer, &mut done);
    // Nothing of the image stays behind in memory that Linux uses again.
    buffer.fill(0);
    // No LP sees the pages as the root any more; before that, no VP would run.
    hypercall::sync_all();
    if result.is_err() && done != 0 {
        // The pages come back when the partition is destroyed. hvcore takes none away while a VP runs.
        let back =
            partition.while_stopped(|| hypercall::gpa_unmap(partition.id(), request.gpa, done));
        setup.private |= !back;
    }
    result?;
    setup.private = true;
    partition.add_private_bytes(request.pages * PAGE_SIZE as u64);
    Ok(0)
}

/// Maps page after page; `done` are mapped, also on an error.
fn fill(partition: &Partition, request: &Request, buffer: &mut [u8], done: &mut u64) -> Result {
    let mut piece = LARGE;
    while *done < request.pages {
        if kernel::current!().signal_pending() {
            return Err(EINTR);
        }
        let gpa = request.gpa + *done * PAGE_SIZE as u64;
        let left = request.pages - *done;
        // Up to where a large page could begin.
        let room = LARGE - gpa / PAGE_SIZE as u64 % LARGE;
        let mut pages = piece.min(left).min(room);
        let block = loop {
            match Block::new_accounted(pages as usize) {
                Ok(block) => break block,
                Err(error) if pages == 1 => return Err(error),
                Err(_) => {
                    pages = pages.div_ceil(2);
                    piece = pages;
                }
            }
        };
        if let Some(image) = request.image {
            for page in 0..pages {
                let offset = (*done + page) * PAGE_SIZE as u64;
                user::read_bytes((image + offset) as usize, buffer)?;
                block.write_bytes(page as usize * PAGE_SIZE, buffer)?;
            }
        }
        let large = pages == LARGE && block.spa() % (LARGE * PAGE_SIZE as u64) == 0;
        hypercall::give_private(partition.id(), gpa, block, request.flags, large, done)?;
    }
    Ok(())
}
