// SPDX-License-Identifier: GPL-2.0
//! The guest's page tables.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vm_memory::{Bytes, GuestAddress, GuestMemory as _, VolatileMemory};

use crate::hypervisor::{CpuState, Exception};
use crate::memory::GuestMemory;

/// What an access wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    pub write: bool,
    pub fetch: bool,
    pub user: bool,
}

impl Access {
    pub fn read(cpu: &CpuState) -> Self {
        Self {
            write: false,
            fetch: false,
            user: cpu.is_user(),
        }
    }

    pub fn write(cpu: &CpuState) -> Self {
        Self {
            write: true,
            ..Self::read(cpu)
        }
    }

    pub fn fetch(cpu: &CpuState) -> Self {
        Self {
            fetch: true,
            ..Self::read(cpu)
        }
    }
}

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The shape of a kind of page table.
struct Format {
    levels: u32,
    bits_per_level: u32,
    entry_bytes: u64,
    large_pages: bool,
}

fn format(cpu: &CpuState) -> Format {
    if cpu.cr4 & CpuState::CR4_PAE == 0 {
        let large_pages = cpu.cr4 & CpuState::CR4_PSE != 0;
        return Format {
            levels: 2,
            bits_per_level: 10,
            entry_bytes: 4,
            large_pages,
        };
    }
    let levels = if cpu.efer & CpuState::EFER_LMA == 0 {
        3
    } else if cpu.cr4 & CpuState::CR4_LA57 == 0 {
        4
    } else {
        5
    };
    Format {
        levels,
        bits_per_level: 9,
        entry_bytes: 8,
        large_pages: true,
    }
}

/// The guest-physical address of a linear one, with accessed and dirty bits set as the
/// processor would; or the page fault.
pub fn translate(
    memory: &GuestMemory,
    cpu: &CpuState,
    linear: u64,
    access: Access,
) -> Result<u64, Exception> {
    let linear = if cpu.efer & CpuState::EFER_LMA == 0 {
        linear & 0xffff_ffff
    } else {
        linear
    };
    if cpu.cr0 & CpuState::CR0_PG == 0 {
        return Ok(linear);
    }
    let fault = |present: bool| page_fault(linear, access, present);
    let format = format(cpu);
    // A legacy PAE directory pointer has only the present bit; no right is taken there.
    let mut rights = WRITABLE | USER;
    let mut no_execute = false;
    let mut table = cpu.cr3
        & if format.levels == 3 {
            0xffff_ffe0
        } else {
            ADDRESS
        };
    for level in (0..format.levels).rev() {
        let shift = 12 + level * format.bits_per_level;
        let index = (linear >> shift) & ((1 << format.bits_per_level) - 1);
        let at = table + index * format.entry_bytes;
        let entry = read_entry(memory, at, format.entry_bytes).ok_or_else(|| fault(false))?;
        if entry & PRESENT == 0 {
            return Err(fault(false));
        }
        let pointers = format.levels == 3 && level == 2;
        if !pointers {
            rights &= entry;
            no_execute |= format.entry_bytes == 8 && entry & NO_EXECUTE != 0;
        }
        let large = !pointers && matches!(level, 1 | 2) && entry & LARGE != 0 && format.large_pages;
        if level > 0 && !large {
            if !pointers {
                mark(memory, at, format.entry_bytes, ACCESSED);
            }
            table = entry & ADDRESS;
            continue;
        }
        let writable = rights & WRITABLE != 0 || (!access.user && cpu.cr0 & CpuState::CR0_WP == 0);
        // The accesses here are all explicit ones.
        let smap = cpu.cr4 & CpuState::CR4_SMAP != 0 && cpu.rflags & CpuState::RFLAGS_AC == 0;
        if (access.write && !writable)
            || (!access.user && !access.fetch && smap && rights & USER != 0)
            || (access.user && rights & USER == 0)
            || (access.fetch && no_execute)
        {
            return Err(fault(true));
        }
        let bits = if access.write {
            ACCESSED | DIRTY
        } else {
            ACCESSED
        };
        if entry & bits != bits {
            mark(memory, at, format.entry_bytes, bits);
        }
        let offset = (1u64 << shift) - 1;
        let mut page = entry & ADDRESS & !offset;
        if large && format.entry_bytes == 4 {
            // PSE-36: bits 13 to 20 of the entry are bits 32 to 39 of the address.
            page = (entry & 0xffc0_0000) | (entry >> 13 & 0xff) << 32;
        }
        return Ok(page | linear & offset);
    }
    Err(fault(false))
}

fn page_fault(linear: u64, access: Access, present: bool) -> Exception {
    let code = u32::from(present)
        | u32::from(access.write) << 1
        | u32::from(access.user) << 2
        | u32::from(access.fetch) << 4;
    Exception {
        vector: 14,
        error_code: Some(code),
        parameter: linear,
    }
}

fn read_entry(memory: &GuestMemory, at: u64, bytes: u64) -> Option<u64> {
    let at = GuestAddress(at);
    if bytes == 4 {
        memory
            .load::<u32>(at, Ordering::Acquire)
            .ok()
            .map(u64::from)
    } else {
        memory.load::<u64>(at, Ordering::Acquire).ok()
    }
}

/// Sets bits in an entry, against other processors that may do the same.
fn mark(memory: &GuestMemory, at: u64, bytes: u64, mask: u64) {
    let Ok(slice) = memory.get_slice(GuestAddress(at), bytes as usize) else {
        return;
    };
    if bytes == 4 {
        if let Ok(entry) = slice.get_atomic_ref::<AtomicU32>(0) {
            entry.fetch_or(mask as u32, Ordering::AcqRel);
        }
    } else if let Ok(entry) = slice.get_atomic_ref::<AtomicU64>(0) {
        entry.fetch_or(mask, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    const PT: u64 = 0x4000;

    fn long_mode() -> CpuState {
        CpuState {
            cr0: CpuState::CR0_PE | CpuState::CR0_PG | CpuState::CR0_WP,
            cr3: 0x1000,
            cr4: CpuState::CR4_PAE,
            efer: CpuState::EFER_LMA | CpuState::EFER_LME,
            ..Default::default()
        }
    }

    /// 0x40_0000 to 0x5000 with `flags`, by four levels.
    fn four_levels(flags: u64) -> GuestMemory {
        let memory = memory::allocate(&[(0, 0x10000)]).unwrap();
        let put = |at: u64, entry: u64| memory.write_obj(entry, GuestAddress(at)).unwrap();
        put(0x1000, 0x2000 | 7);
        put(0x2000, 0x3000 | 7);
        put(0x3000 + 2 * 8, PT | 7);
        put(PT, 0x5000 | flags);
        memory
    }

    const READ: Access = Access {
        write: false,
        fetch: false,
        user: false,
    };
    const WRITE: Access = Access {
        write: true,
        fetch: false,
        user: false,
    };
    const USER_READ: Access = Access {
        write: false,
        fetch: false,
        user: true,
    };

    #[test]
    fn four_levels_lead_to_the_page_and_leave_their_marks() {
        let memory = four_levels(PRESENT | WRITABLE);
        let cpu = long_mode();
        assert_eq!(translate(&memory, &cpu, 0x40_0123, READ), Ok(0x5123));
        let entry: u64 = memory.read_obj(GuestAddress(PT)).unwrap();
        assert_eq!(entry & (ACCESSED | DIRTY), ACCESSED);
        assert_eq!(translate(&memory, &cpu, 0x40_0123, WRITE), Ok(0x5123));
        let entry: u64 = memory.read_obj(GuestAddress(PT)).unwrap();
        assert_eq!(entry & (ACCESSED | DIRTY), ACCESSED | DIRTY);
    }

    #[test]
    fn rights_are_kept() {
        let cpu = long_mode();
        let code = |result: Result<u64, Exception>| result.unwrap_err().error_code.unwrap();
        let read_only = four_levels(PRESENT);
        assert_eq!(code(translate(&read_only, &cpu, 0x40_0000, WRITE)), 0b011);
        assert_eq!(
            code(translate(&read_only, &cpu, 0x40_0000, USER_READ)),
            0b101
        );
        assert_eq!(code(translate(&read_only, &cpu, 0x40_1000, READ)), 0b000);
        let no_wp = CpuState {
            cr0: cpu.cr0 & !CpuState::CR0_WP,
            ..cpu
        };
        assert_eq!(translate(&read_only, &no_wp, 0x40_0000, WRITE), Ok(0x5000));
        let data = four_levels(PRESENT | NO_EXECUTE);
        assert_eq!(
            code(translate(&data, &cpu, 0x40_0000, Access::fetch(&cpu))),
            0b1_0001
        );
    }

    #[test]
    fn large_pages_of_each_kind() {
        let memory = memory::allocate(&[(0, 0x10000)]).unwrap();
        let put = |at: u64, entry: u64| memory.write_obj(entry, GuestAddress(at)).unwrap();
        put(0x1000, 0x2000 | 7);
        put(0x2000, 0x3000 | 7);
        put(0x2000 + 3 * 8, 0xc000_0000 | 7 | LARGE);
        put(0x3000 + 7 * 8, 0xe0_0000 | 7 | LARGE);
        let cpu = long_mode();
        assert_eq!(translate(&memory, &cpu, 0xe0_1234, READ), Ok(0xe0_1234));
        assert_eq!(translate(&memory, &cpu, 0xfec0_0010, READ), Ok(0xfec0_0010));

        let legacy = CpuState {
            cr4: CpuState::CR4_PSE,
            efer: 0,
            ..cpu
        };
        memory
            .write_obj(0x1040_0083u32, GuestAddress(0x1000 + 4))
            .unwrap();
        assert_eq!(
            translate(&memory, &legacy, 0x40_5678, READ),
            Ok(0x1040_5678)
        );
    }

    #[test]
    fn without_paging_an_address_is_itself() {
        let memory = memory::allocate(&[(0, 0x1000)]).unwrap();
        let cpu = CpuState::default();
        assert_eq!(
            translate(&memory, &cpu, 0xfec0_0000, WRITE),
            Ok(0xfec0_0000)
        );
    }

    #[test]
    fn a_table_outside_memory_is_a_fault_and_no_more() {
        let memory = memory::allocate(&[(0, 0x1000)]).unwrap();
        let cpu = CpuState {
            cr3: 0xffff_f000,
            ..long_mode()
        };
        assert!(translate(&memory, &cpu, 0, READ).is_err());
    }
}
