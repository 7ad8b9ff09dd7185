// SPDX-License-Identifier: GPL-2.0
//! The guest's RAM, as memory of this process.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MmapAdvise, madvise};
use vm_memory::{FileOffset, GuestAddress, GuestMemory as _, GuestMemoryMmap, GuestMemoryRegion};

use crate::hypervisor::Failure;
use crate::hypervisor::mshv::Partition;

/// All of the guest's RAM. Cheap to clone: the clones share it.
pub type GuestMemory = GuestMemoryMmap<()>;

/// Anonymous memory for `(address, size)` stretches of guest-physical memory.
pub fn allocate(stretches: &[(u64, u64)]) -> io::Result<GuestMemory> {
    map(stretches, None)
}

/// The same as a file that has no name, which another process can map too if it gets it from us.
pub fn allocate_shared(stretches: &[(u64, u64)]) -> io::Result<GuestMemory> {
    let file = File::from(memfd_create(c"guest memory", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(stretches.iter().map(|(_, size)| size).sum())?;
    map(stretches, Some(Arc::new(file)))
}

fn map(stretches: &[(u64, u64)], file: Option<Arc<File>>) -> io::Result<GuestMemory> {
    let mut from = 0;
    let ranges: Vec<_> = stretches
        .iter()
        .map(|&(address, size)| {
            let part = file.clone().map(|file| FileOffset::from_arc(file, from));
            from += size;
            (GuestAddress(address), size as usize, part)
        })
        .collect();
    let memory = GuestMemory::from_ranges_with_files(&ranges).map_err(io::Error::other)?;
    for region in memory.iter() {
        prefer_large_pages(region.as_ptr(), region.len() as usize);
    }
    Ok(memory)
}

/// Large pages keep the partition's page tables small. Without them all still works.
fn prefer_large_pages(start: *mut u8, size: usize) {
    if let Some(start) = NonNull::new(start.cast()) {
        // SAFETY: advice about a mapping that is ours; it changes no contents.
        let result = unsafe { madvise(start, size, MmapAdvise::MADV_HUGEPAGE) };
        if let Err(cause) = result {
            tracing::debug!("no large pages for guest memory: {cause}");
        }
    }
}

/// Gives the system back what is at `gpa`: it reads as zeros from then on. The guest has nothing
/// there.
pub fn forget(memory: &GuestMemory, gpa: u64, size: usize) -> io::Result<()> {
    let slice = memory
        .get_slice(GuestAddress(gpa), size)
        .map_err(io::Error::other)?;
    let file = memory.find_region(GuestAddress(gpa));
    let advice = match file.and_then(|region| region.file_offset()) {
        // Of a file, the file's pages.
        Some(_) => MmapAdvise::MADV_REMOVE,
        None => MmapAdvise::MADV_DONTNEED,
    };
    if let Some(start) = NonNull::new(slice.ptr_guard_mut().as_ptr().cast()) {
        // SAFETY: the memory is ours, and all accesses to it are volatile ones that rest on nothing
        // in it.
        unsafe { madvise(start, size, advice) }?;
    }
    Ok(())
}

/// Gives all of `memory` to the guest. The caller keeps it for as long as the partition.
pub fn give(memory: &GuestMemory, partition: &Partition) -> Result<(), Failure> {
    for region in memory.iter() {
        // SAFETY: the mapping is ours; `Vm` holds it beside the partition and drops it
        // last; all our accesses go through vm-memory, which treats it as volatile.
        unsafe { partition.map(region.start_addr().0, region.as_ptr(), region.len())? };
    }
    Ok(())
}

/// Gives the guest a copy of all of `memory` that nobody else can reach.
pub fn give_private(memory: &GuestMemory, partition: &Partition) -> Result<(), Failure> {
    for region in memory.iter() {
        // SAFETY: the mapping is ours, and of that size.
        unsafe { partition.map_private(region.start_addr().0, region.as_ptr(), region.len())? };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn stretches_are_where_they_were_asked_for() {
        let stretches = [(0, 0x2000), (0x1_0000_0000, 0x1000)];
        for (memory, shared) in [
            (allocate(&stretches).unwrap(), false),
            (allocate_shared(&stretches).unwrap(), true),
        ] {
            memory.write_obj(7u64, GuestAddress(0x1_0000_0ff8)).unwrap();
            memory.write_obj(5u64, GuestAddress(0x1ff8)).unwrap();
            assert!(memory.write_obj(7u64, GuestAddress(0x2000)).is_err());
            let last: u64 = memory.read_obj(GuestAddress(0x1_0000_0ff8)).unwrap();
            assert_eq!((memory.num_regions(), last), (2, 7));
            for region in memory.iter() {
                assert_eq!(region.file_offset().is_some(), shared);
            }
            forget(&memory, 0x1000, 0x1000).unwrap();
            let left: u64 = memory.read_obj(GuestAddress(0x1ff8)).unwrap();
            assert_eq!(left, 0);
            assert!(forget(&memory, 0x1000, 0x2000).is_err());
        }
    }
}
