// SPDX-License-Identifier: GPL-2.0

//! Memory of a partition as a VP of it sees it.

use super::{partition::Partition, region::Regions};
use crate::{
    hvabi::vp::RunPage,
    tlfs::{
        message::{Instruction, INSTRUCTION_BYTES},
        walk::{self, Access, GuestMemory, Paging},
        PAGE_SIZE,
    },
};

impl GuestMemory for Regions {
    fn read_u64(&self, gpa: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(gpa, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }
}

/// How the VP translated addresses at its last exit.
fn paging(run: &RunPage) -> Paging {
    Paging {
        cr0: run.cr0,
        cr3: run.cr3,
        cr4: run.cr4,
        efer: run.efer,
        rflags: run.rflags,
    }
}

/// Bytes that the instruction at RIP has at most.
const LONGEST: usize = 15;

/// The bytes at RIP, as far as there is memory; of private memory hvcore tells them.
///
/// What is there may have changed since the VP read it: whoever uses this must not rely on it being
/// the instruction that exited.
pub(super) fn instruction(partition: &Partition, run: &RunPage) -> Instruction {
    if run.instruction_bytes != 0 {
        let mut instruction = Instruction::default();
        let count = usize::from(run.instruction_bytes).min(LONGEST);
        instruction.bytes[..count].copy_from_slice(&run.instruction[..count]);
        instruction.count = count as u8;
        return instruction;
    }
    let paging = paging(run);
    let access = Access {
        execute: true,
        user: run.cpl == 3,
        ..Access::default()
    };
    let long = run.efer & 1 << 10 != 0 && run.cs.access & 1 << 13 != 0;
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    let base = if long { 0 } else { run.cs.base };
    let wanted = match run.instruction_len as usize {
        0 => LONGEST,
        length => length.min(LONGEST),
    };

    let mut instruction = Instruction::default();
    let mut done = 0;
    let regions = partition.regions.lock();
    while done < wanted {
        let address = base.wrapping_add(run.rip).wrapping_add(done as u64) & mask;
        let Ok(found) = walk::translate(&*regions, &paging, address, &access) else {
            break;
        };
        // Of a large page too, no more than to the end of the 4 KiB page: memory may end there.
        let left = PAGE_SIZE - found.gpa as usize % PAGE_SIZE;
        let part = usize::min(wanted - done, left);
        let room: &mut [u8; INSTRUCTION_BYTES] = &mut instruction.bytes;
        if regions
            .read(found.gpa, &mut room[done..done + part])
            .is_none()
        {
            break;
        }
        done += part;
    }
    instruction.count = done as u8;
    instruction
}
