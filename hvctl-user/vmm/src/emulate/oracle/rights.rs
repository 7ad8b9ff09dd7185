// SPDX-License-Identifier: GPL-2.0
//! Nothing is read or written for which no right was asked, of pages and of segments.

use iced_x86::{Instruction, OpAccess};

use super::super::operand::{is_memory, offset, segment, segment_name};
use super::super::string::is_string;
use super::super::walk::Access;
use super::{Seen, reads, writes};
use crate::hypervisor::{CpuState, Gpr, Segment};

const PAGE: u64 = 0x1000;

/// What was translated for an instruction, or for a task switch, which is the system's: where each
/// led, and what was to be done there.
pub fn check(cpu: &CpuState, asked: &[(u64, Access)], seen: &Seen, system: bool) {
    let user = !system && cpu.cr0 & 1 != 0 && cpu.ss.attributes >> 5 & 3 == 3;
    // For its length the instruction that asked for a switch is read as it was by the processor.
    for (_, access) in asked.iter().filter(|(_, access)| !(system && access.fetch)) {
        assert_eq!(access.user, user, "{access:?}");
    }
    let may = |gpa: u64, write: bool| {
        let right = |access: &Access| !access.fetch && (access.write || !write);
        asked
            .iter()
            .any(|(to, access)| to / PAGE == gpa / PAGE && right(access))
    };
    for touch in seen.touches {
        assert!(may(touch.gpa, touch.write), "{touch:x?}, of {asked:x?}");
    }
    // Walks of page tables leave their marks, whatever they are for.
    let marks = [0, 0x60][usize::from(cpu.cr0 & CpuState::CR0_PG != 0)];
    let pages = seen.before.chunks(PAGE as usize);
    for (page, (old, new)) in (0..).zip(pages.zip(seen.after.chunks(PAGE as usize))) {
        if old == new || may(page * PAGE, true) {
            continue;
        }
        for (at, (old, new)) in old.iter().zip(new).enumerate() {
            let stray = (old ^ new) & !if at % 4 == 0 { marks } else { 0 };
            assert_eq!(stray, 0, "page {page:#x} at {at:#x}, of {asked:x?}");
        }
    }
}

/// Whether a segment lets an access happen in protected mode (SDM vol. 3, 6.3 and 6.5).
fn allows(segment: &Segment, offset: u64, size: u64, write: bool) -> bool {
    let bit = |n: u16| segment.attributes >> n & 1 != 0;
    let (code, second, third) = (bit(3), bit(2), bit(1));
    let right = if code {
        third && !write
    } else {
        third || !write
    };
    let (limit, last) = (u64::from(segment.limit), offset + (size - 1));
    let top = [0xffff, 0xffff_ffff][usize::from(bit(14))];
    let inside = match !code && second {
        true => offset > limit && last <= top,
        false => last <= limit,
    };
    bit(7) && bit(4) && right && inside
}

/// The segments of an instruction that was carried out let it reach its operands.
pub fn check_segments(cpu: &CpuState, after: &CpuState, instruction: &Instruction) {
    if !cpu.is_protected() || cpu.bitness() == 64 {
        return;
    }
    let mut factory = iced_x86::InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let access = |index: u32| match index {
        0 => info.op0_access(),
        1 => info.op1_access(),
        _ => info.op2_access(),
    };
    let size = instruction.memory_size().size() as u64;
    // Those of a string were registers before, and the stack's moved.
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let moved = cpu.get(Gpr::Rsp) != after.get(Gpr::Rsp);
    if size == 0 || repeats && is_string(instruction) || moved {
        return;
    }
    for index in (0..instruction.op_count()).filter(|i| is_memory(instruction.op_kind(*i))) {
        let name = segment_name(instruction, index);
        let segment = segment(cpu, name);
        let access: OpAccess = access(index);
        // A bit that a register names may lie elsewhere.
        let bits = instruction.op_count() == 2 && size > 1 && is_bit_test(instruction);
        let Some(offset) = offset(cpu, instruction, index).filter(|_| !bits) else {
            continue;
        };
        for (wanted, write) in [(reads(access), false), (writes(access), true)] {
            assert!(
                !wanted || allows(segment, offset, size, write),
                "{offset:#x} in {name:?} {segment:x?}: {instruction:?}"
            );
        }
    }
}

fn is_bit_test(instruction: &Instruction) -> bool {
    use iced_x86::Mnemonic::*;
    matches!(instruction.mnemonic(), Bt | Bts | Btr | Btc)
}
