// SPDX-License-Identifier: GPL-2.0
//! The processor's state at the guest's first instruction.

use vm_memory::{Bytes, GuestAddress};

use super::Error;
use crate::hypervisor::{CpuState, Segment, Table};
use crate::layout;
use crate::memory::GuestMemory;

const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

const PRESENT_WRITABLE: u64 = 0x3;
const LARGE: u64 = 0x80;

const _: () = assert!(layout::boot::PAGE_TABLES + 6 * 0x1000 <= layout::boot::COMMAND_LINE);

pub fn place<T: vm_memory::ByteValued>(
    memory: &GuestMemory,
    address: u64,
    value: T,
) -> Result<(), Error> {
    memory
        .write_obj(value, GuestAddress(address))
        .map_err(|cause| Error::Place {
            address,
            cause: cause.to_string(),
        })
}

pub fn place_bytes(memory: &GuestMemory, address: u64, bytes: &[u8]) -> Result<(), Error> {
    memory
        .write_slice(bytes, GuestAddress(address))
        .map_err(|cause| Error::Place {
            address,
            cause: cause.to_string(),
        })
}

/// Flat segments, as a descriptor table in memory and as loaded registers.
fn flat(memory: &GuestMemory, long: bool) -> Result<CpuState, Error> {
    let (code, data) = (Segment::flat_code(CODE, long), Segment::flat_data(DATA));
    let task = Segment::task(TASK);
    let table = [
        0,
        0,
        code.descriptor(),
        data.descriptor(),
        task.descriptor(),
        0,
    ];
    for (index, descriptor) in table.into_iter().enumerate() {
        place(memory, layout::boot::GDT + 8 * index as u64, descriptor)?;
    }
    Ok(CpuState {
        rflags: 2,
        cr0: CpuState::CR0_PE | CpuState::CR0_ET | CpuState::CR0_NE,
        cs: code,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: task,
        ldtr: Segment::absent(),
        gdtr: Table {
            base: layout::boot::GDT,
            limit: (8 * table.len() - 1) as u16,
        },
        ..Default::default()
    })
}

/// 32-bit protected mode without paging.
pub fn protected(memory: &GuestMemory) -> Result<CpuState, Error> {
    flat(memory, false)
}

/// 64-bit mode with the first 4 GiB mapped to themselves.
pub fn long(memory: &GuestMemory) -> Result<CpuState, Error> {
    let root = layout::boot::PAGE_TABLES;
    let pointers = root + 0x1000;
    place(memory, root, pointers | PRESENT_WRITABLE)?;
    for gib in 0..4 {
        let directory = pointers + 0x1000 * (gib + 1);
        place(memory, pointers + 8 * gib, directory | PRESENT_WRITABLE)?;
        for index in 0..512 {
            let page = gib << 30 | index << 21;
            place(
                memory,
                directory + 8 * index,
                page | PRESENT_WRITABLE | LARGE,
            )?;
        }
    }
    let state = flat(memory, true)?;
    Ok(CpuState {
        cr0: state.cr0 | CpuState::CR0_PG,
        cr3: root,
        cr4: CpuState::CR4_PAE,
        efer: CpuState::EFER_LME | CpuState::EFER_LMA,
        ..state
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::{Access, translate};
    use crate::memory;

    #[test]
    fn the_boot_tables_map_four_gib_to_themselves() {
        let memory = memory::allocate(&[(0, 1 << 20)]).unwrap();
        let cpu = long(&memory).unwrap();
        assert_eq!(cpu.bitness(), 64);
        for address in [0, 0x10_0000, 0x1234_5678, 0xfee0_0000, 0xffff_ffff] {
            assert_eq!(
                translate(&memory, &cpu, address, Access::write(&cpu)),
                Ok(address)
            );
        }
        assert!(translate(&memory, &cpu, 1 << 32, Access::read(&cpu)).is_err());
    }

    #[test]
    fn protected_mode_has_no_paging_and_32_bit_code() {
        let memory = memory::allocate(&[(0, 1 << 20)]).unwrap();
        let cpu = protected(&memory).unwrap();
        assert_eq!(
            (cpu.bitness(), cpu.cr0 & CpuState::CR0_PG, cpu.efer),
            (32, 0, 0)
        );
    }
}
