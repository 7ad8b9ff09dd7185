// SPDX-License-Identifier: GPL-2.0
//! String instructions on RAM, without paging, element by element (SDM vol. 2, REP and the like).

use iced_x86::{Instruction, Mnemonic, OpKind, Register as Name};

use super::super::alu::{CARRY, ZERO};
use super::super::operand::{segment_name, truncate};
use super::Seen;
use super::task::word;
use crate::hypervisor::{CpuState, Gpr};

const DIRECTION: u64 = 1 << 10;
/// The emulator does no more at once.
const MOST: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Move,
    Store,
    Load,
    Compare,
    Scan,
}

fn kind(mnemonic: Mnemonic) -> Option<Kind> {
    use Mnemonic::*;
    Some(match mnemonic {
        Movsb | Movsw | Movsd | Movsq => Kind::Move,
        Stosb | Stosw | Stosd | Stosq => Kind::Store,
        Lodsb | Lodsw | Lodsd | Lodsq => Kind::Load,
        Cmpsb | Cmpsw | Cmpsd | Cmpsq => Kind::Compare,
        Scasb | Scasw | Scasd | Scasq => Kind::Scan,
        _ => return None,
    })
}

/// Bytes of the address registers.
fn width(instruction: &Instruction) -> usize {
    use OpKind::*;
    let kinds = [instruction.op0_kind(), instruction.op1_kind()];
    let has = |wanted: [OpKind; 2]| kinds.iter().any(|kind| wanted.contains(kind));
    match (
        has([MemorySegRSI, MemoryESRDI]),
        has([MemorySegESI, MemoryESEDI]),
    ) {
        (true, _) => 8,
        (_, true) => 4,
        _ => 2,
    }
}

/// Where the source's segment begins, and where ES does.
fn bases(cpu: &CpuState, instruction: &Instruction) -> (u64, u64) {
    let operand = u32::from(instruction.op1_kind() != OpKind::Register);
    let index = [0, operand][usize::from(kind(instruction.mnemonic()) != Some(Kind::Compare))];
    let base = match (segment_name(instruction, index), cpu.bitness()) {
        (Name::FS, _) => cpu.fs.base,
        (Name::GS, _) => cpu.gs.base,
        (_, 64) => 0,
        (Name::CS, _) => cpu.cs.base,
        (Name::ES, _) => cpu.es.base,
        (Name::SS, _) => cpu.ss.base,
        _ => cpu.ds.base,
    };
    (base, [cpu.es.base, 0][usize::from(cpu.bitness() == 64)])
}

/// One that was carried out, or as much of it as is done at once, did what its elements do.
pub fn check(before: &CpuState, after: &CpuState, instruction: &Instruction, seen: &Seen) {
    let Some(kind) = kind(instruction.mnemonic()) else {
        return;
    };
    if before.cr0 & CpuState::CR0_PG != 0 || !seen.touches.is_empty() {
        return;
    }
    let (size, wide) = (instruction.memory_size().size(), width(instruction));
    let (source_base, es) = bases(before, instruction);
    let linear = |base: u64, offset: u64| match before.bitness() {
        64 => base.wrapping_add(offset),
        _ => base.wrapping_add(offset) & 0xffff_ffff,
    };
    let of = |cpu: &CpuState, gpr| truncate(cpu.get(gpr), wide);
    let [mut source, mut to, mut count] = [Gpr::Rsi, Gpr::Rdi, Gpr::Rcx].map(|gpr| of(before, gpr));
    let step = match before.rflags & DIRECTION {
        0 => size as u64,
        _ => (size as u64).wrapping_neg(),
    };
    let (while_equal, while_other) = (
        instruction.has_repe_prefix(),
        instruction.has_repne_prefix(),
    );
    let repeats = instruction.has_rep_prefix() || while_other;
    let mut ram = seen.before.to_vec();
    let mut accumulator = truncate(before.get(Gpr::Rax), size);
    let mut flags = before.rflags & (ZERO | CARRY);
    let mut over = false;
    for _ in 0..MOST {
        if repeats && count == 0 {
            over = true;
            break;
        }
        let (from_at, to_at) = (linear(source_base, source), linear(es, to));
        let from_there = kind != Kind::Store && kind != Kind::Scan;
        let (from, old) = (word(&ram, from_at, size), word(&ram, to_at, size));
        // At the end of RAM.
        if from_there && from.is_none() || kind != Kind::Load && old.is_none() {
            return;
        }
        let (from, old) = (from.unwrap_or(0), old.unwrap_or(0));
        let mut compare = |left: u64, right: u64| {
            let (equal, less) = (u64::from(left == right), u64::from(left < right));
            flags = (equal * ZERO) | (less * CARRY);
            equal != 0
        };
        let equal = match kind {
            Kind::Compare => Some(compare(from, old)),
            Kind::Scan => Some(compare(accumulator, old)),
            Kind::Load => {
                accumulator = from;
                None
            }
            Kind::Move | Kind::Store => {
                let value = [accumulator, from][usize::from(from_there)].to_le_bytes();
                ram[to_at as usize..][..size].copy_from_slice(&value[..size]);
                None
            }
        };
        if from_there {
            source = truncate(source.wrapping_add(step), wide);
        }
        if kind != Kind::Load {
            to = truncate(to.wrapping_add(step), wide);
        }
        count = truncate(count.wrapping_sub(u64::from(repeats)), wide);
        let stops = equal.is_some_and(|equal| [while_equal, while_other][usize::from(equal)]);
        over = !repeats || count == 0 || stops;
        if over {
            break;
        }
    }
    assert!(ram == seen.after, "memory by {instruction:?}");
    let moved = [Gpr::Rsi, Gpr::Rdi, Gpr::Rcx].map(|gpr| of(after, gpr));
    assert_eq!(moved, [source, to, count], "{instruction:?}");
    assert_eq!(truncate(after.get(Gpr::Rax), size), accumulator);
    assert_eq!(after.rflags & (ZERO | CARRY), flags, "{instruction:?}");
    assert_eq!(after.rip == instruction.next_ip(), over, "{instruction:?}");
}
