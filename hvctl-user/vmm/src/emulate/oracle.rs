// SPDX-License-Identifier: GPL-2.0
//! What an instruction may do, as iced-x86's tables and the manual say: beside the emulator, for the
//! fuzzer.

pub mod rights;
mod string;
pub mod task;

use std::collections::BTreeMap;

use iced_x86::{
    Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register as Name, RflagsBits,
};

use super::alu::{ADJUST, CARRY, OVERFLOW, PARITY, SIGN, ZERO};
use super::operand::{
    immediate, in_segment, is_memory, offset, register, segment_name, sign_extend, truncate,
};
use super::string::is_string;
use super::walk::Access;
use crate::hypervisor::{CpuState, Gpr, Segment};

/// An access to a device.
#[derive(Debug, Clone)]
pub struct Touch {
    pub gpa: u64,
    pub data: Vec<u8>,
    pub write: bool,
}

/// Memory, as far as it is RAM, before and after an instruction.
pub struct Seen<'a> {
    pub before: &'a [u8],
    pub after: &'a [u8],
    pub touches: &'a [Touch],
}

fn writes(access: OpAccess) -> bool {
    use OpAccess::*;
    matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
}

fn reads(access: OpAccess) -> bool {
    use OpAccess::*;
    matches!(access, Read | CondRead | ReadWrite | ReadCondWrite)
}

/// RFLAGS, of what iced-x86 calls them.
fn flags(bits: u32) -> u64 {
    [
        (RflagsBits::OF, OVERFLOW),
        (RflagsBits::SF, SIGN),
        (RflagsBits::ZF, ZERO),
        (RflagsBits::AF, ADJUST),
        (RflagsBits::CF, CARRY),
        (RflagsBits::PF, PARITY),
    ]
    .iter()
    .filter(|(bit, _)| bits & bit != 0)
    .fold(0, |set, (_, flag)| set | flag)
}

/// RSP after an instruction that uses the stack, whose width is not that of the code.
fn pointer(before: &CpuState, instruction: &Instruction) -> Option<u64> {
    let old = before.get(Gpr::Rsp);
    let size = instruction.memory_size().size() as u64;
    let new = match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Call => old.wrapping_sub(size),
        Mnemonic::Pop => old.wrapping_add(size),
        _ => return None,
    };
    let mask = match (before.bitness(), before.ss.is_big()) {
        (64, _) => u64::MAX,
        (_, true) => 0xffff_ffff,
        (_, false) => 0xffff,
    };
    Some(old & !mask | new & mask)
}

/// An instruction that was carried out changed what it may change, and reached what it names.
pub fn check(before: &CpuState, after: &CpuState, instruction: &Instruction, seen: &Seen) {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    for gpr in Gpr::ALL {
        let (old, new) = (before.get(gpr), after.get(gpr));
        let mut changed = old ^ new;
        if let (Gpr::Rsp, Some(moved)) = (gpr, pointer(before, instruction)) {
            assert_eq!(new, moved, "RSP by {instruction:?}");
            continue;
        }
        for used in info.used_registers() {
            let name = used.register();
            if !writes(used.access())
                || !name.is_gpr()
                || name.full_register().number() != gpr as usize
            {
                continue;
            }
            let high = matches!(name, Name::AH | Name::CH | Name::DH | Name::BH);
            match name.size() {
                4 => {
                    let whole = new >> 32 == 0 || changed == 0;
                    assert!(whole, "{gpr:?} is {new:#x} by {instruction:?}");
                    changed = 0;
                }
                size => changed &= !(truncate(u64::MAX, size) << if high { 8 } else { 0 }),
            }
        }
        assert_eq!(changed, 0, "{gpr:?} by {instruction:?}");
    }
    let changed = before.rflags ^ after.rflags;
    // Undefined but for a rotation by 1; where the count says "not at all", iced-x86 says so too.
    let loose = match instruction.mnemonic() {
        Mnemonic::Rcl | Mnemonic::Rcr => OVERFLOW,
        _ => 0,
    };
    let stray = changed & !(flags(instruction.rflags_modified()) | loose);
    assert_eq!(stray, 0, "RFLAGS by {instruction:?}");
    let string = is_string(instruction);
    if !string {
        let (set, clear) = (instruction.rflags_set(), instruction.rflags_cleared());
        assert_eq!(after.rflags & flags(set), flags(set), "{instruction:?}");
        assert_eq!(after.rflags & flags(clear), 0, "{instruction:?}");
    }
    let jumps = matches!(instruction.mnemonic(), Mnemonic::Jmp | Mnemonic::Call);
    let goes_on = after.rip == instruction.next_ip() || string && after.rip == before.rip;
    assert!(jumps || goes_on, "RIP {:#x} by {instruction:?}", after.rip);
    let others = CpuState {
        gpr: before.gpr,
        rip: before.rip,
        rflags: before.rflags,
        ..*after
    };
    assert_eq!(others, *before, "no other register by {instruction:?}");

    let may = |write| {
        let access = if write { writes } else { reads };
        info.used_memory().iter().any(|m| access(m.access()))
    };
    for touch in seen.touches {
        assert!(may(touch.write), "{touch:x?} by {instruction:?}");
    }
    rights::check_segments(before, after, instruction);
    if string {
        string::check(before, after, instruction, seen);
    } else {
        check_values(before, after, instruction, seen);
    }
}

/// Device accesses of one direction, by the byte; none where two reached the same.
fn bytes(touches: &[Touch], write: bool) -> Option<BTreeMap<u64, u8>> {
    let mut bytes = BTreeMap::new();
    for touch in touches.iter().filter(|touch| touch.write == write) {
        for (byte, gpa) in touch.data.iter().zip(touch.gpa..) {
            if bytes.insert(gpa, *byte).is_some() {
                return None;
            }
        }
    }
    Some(bytes)
}

/// The value of an operand before the instruction, and after it. Only without paging, where each
/// address is its own.
fn values(
    (before, after): (&CpuState, &CpuState),
    instruction: &Instruction,
    index: u32,
    size: usize,
    seen: &Seen,
) -> Option<(u64, u64)> {
    match instruction.op_kind(index) {
        OpKind::Register => {
            let name = instruction.op_register(index);
            Some((register(before, name)?, register(after, name)?))
        }
        kind if is_memory(kind) && before.cr0 & CpuState::CR0_PG == 0 => {
            let name = segment_name(instruction, index);
            let offset = offset(before, instruction, index)?;
            let read = Access::read(before);
            let linear = in_segment(before, name, offset, size, read).ok()?;
            let (reads, writes) = (bytes(seen.touches, false)?, bytes(seen.touches, true)?);
            let (mut old, mut new) = ([0; 8], [0; 8]);
            for i in 0..size {
                let gpa = (linear + i as u64) & 0xffff_ffff;
                (old[i], new[i]) = match seen.before.get(gpa as usize) {
                    Some(byte) => (*byte, *seen.after.get(gpa as usize)?),
                    None => {
                        let old = reads.get(&gpa).copied().unwrap_or(0);
                        (old, writes.get(&gpa).copied().unwrap_or(old))
                    }
                };
            }
            Some((u64::from_le_bytes(old), u64::from_le_bytes(new)))
        }
        _ => immediate(instruction, index).map(|value| (value, value)),
    }
}

/// Results and flags of the plain instructions, computed in numbers that hold all of them.
fn check_values(before: &CpuState, after: &CpuState, instruction: &Instruction, seen: &Seen) {
    use Mnemonic::*;
    let (size, mnemonic) = (instruction.memory_size().size(), instruction.mnemonic());
    let known = matches!(
        mnemonic,
        Add | Adc
            | Sub
            | Sbb
            | Cmp
            | And
            | Or
            | Xor
            | Test
            | Inc
            | Dec
            | Neg
            | Not
            | Mov
            | Xadd
            | Xchg
            | Movzx
            | Movsx
            | Movsxd
    );
    if !known || !matches!(size, 1 | 2 | 4 | 8) {
        return;
    }
    let of = |index| values((before, after), instruction, index, size, seen);
    let (Some(first), Some(second)) = (
        of(0),
        if instruction.op_count() > 1 {
            of(1)
        } else {
            of(0)
        },
    ) else {
        return;
    };
    let cut = |value: u64| truncate(value, size);
    let signed = |value: u64| i128::from(sign_extend(value, size) as i64);
    let (left, right, result) = (cut(first.0), cut(second.0), cut(first.1));
    let carry = i128::from(before.rflags & CARRY);
    // The result without a sign and with one, if there is carry and overflow.
    let exact = match mnemonic {
        Add | Xadd => Some((
            i128::from(left) + i128::from(right),
            signed(left) + signed(right),
        )),
        Adc => Some((
            i128::from(left) + i128::from(right) + carry,
            signed(left) + signed(right) + carry,
        )),
        Sub | Cmp => Some((
            i128::from(left) - i128::from(right),
            signed(left) - signed(right),
        )),
        Sbb => Some((
            i128::from(left) - i128::from(right) - carry,
            signed(left) - signed(right) - carry,
        )),
        Inc => Some((i128::from(left) + 1, signed(left) + 1)),
        Dec => Some((i128::from(left) - 1, signed(left) - 1)),
        Neg => Some((-i128::from(left), -signed(left))),
        _ => None,
    };
    let wanted = match (exact, mnemonic) {
        (Some((exact, _)), _) => cut(exact as u64),
        (_, And | Test) => left & right,
        (_, Or) => left | right,
        (_, Xor) => left ^ right,
        (_, Not) => cut(!left),
        // Widened to what the register holds; a 32-bit one has its upper half cleared.
        (_, Movsx | Movsxd) => {
            let wide = instruction.op0_register().size();
            let new = truncate(sign_extend(second.0, size), wide);
            assert_eq!(first.1, new, "{instruction:?}");
            return;
        }
        (_, Movzx) => {
            assert_eq!(first.1, cut(second.0), "{instruction:?}");
            return;
        }
        _ => right,
    };
    let kept = matches!(mnemonic, Cmp | Test);
    assert_eq!(
        result,
        if kept { left } else { wanted },
        "{left:#x} {right:#x}: {instruction:?}"
    );
    if matches!(mnemonic, Xadd | Xchg) {
        assert_eq!(cut(second.1), left, "{instruction:?}");
    }
    if matches!(mnemonic, Mov | Not | Xchg) {
        return;
    }
    let mut flags = vec![
        (ZERO, wanted == 0),
        (SIGN, signed(wanted) < 0),
        (PARITY, (wanted as u8).count_ones() % 2 == 0),
    ];
    if let Some((exact, with_sign)) = exact {
        flags.push((OVERFLOW, with_sign != signed(wanted)));
        if !matches!(mnemonic, Inc | Dec) {
            flags.push((CARRY, exact != i128::from(wanted)));
        }
    }
    for (flag, is) in flags {
        let has = after.rflags & flag != 0;
        assert_eq!(
            has, is,
            "flag {flag:#x} of {left:#x} {right:#x}: {instruction:?}"
        );
    }
}

/// Where a page walk ends (SDM vol. 3, 5.3 to 5.7): all entries first, then what they allow together.
/// `word` reads from a page table.
pub fn walk(
    cpu: &CpuState,
    linear: u64,
    access: Access,
    word: impl Fn(u64, usize) -> Option<u64>,
) -> Option<u64> {
    let (long, pae) = (
        cpu.efer & CpuState::EFER_LMA != 0,
        cpu.cr4 & CpuState::CR4_PAE != 0,
    );
    let linear = if long { linear } else { linear & 0xffff_ffff };
    if cpu.cr0 & CpuState::CR0_PG == 0 {
        return Some(linear);
    }
    // Width of an entry, and the lowest bit of each level's index.
    let (width, shifts): (usize, &[u32]) = match (long, pae) {
        (true, _) => (8, &[39, 30, 21, 12]),
        (false, true) => (8, &[30, 21, 12]),
        (false, false) => (4, &[22, 12]),
    };
    let mut table = cpu.cr3
        & if pae && !long {
            0xffff_ffe0
        } else {
            0x000f_ffff_ffff_f000
        };
    let mut entries = Vec::new();
    let mut end = 12;
    for &shift in shifts {
        let index = linear >> shift & (4096 / width as u64 - 1);
        let entry = word(table + index * width as u64, width)?;
        if entry & 1 == 0 {
            return None;
        }
        table = entry & 0x000f_ffff_ffff_f000;
        if pae && !long && shift == 30 {
            continue;
        }
        entries.push(entry);
        end = shift;
        let can_be_large = pae && (shift == 30 || shift == 21) || cpu.cr4 & CpuState::CR4_PSE != 0;
        if shift > 12 && can_be_large && entry & 1 << 7 != 0 && (shift < 30) | long {
            break;
        }
    }
    let all = |bit: u32| entries.iter().all(|entry| entry >> bit & 1 != 0);
    let no_execute = width == 8 && entries.iter().any(|entry| entry >> 63 != 0);
    let (writable, user) = (all(1), all(2));
    let smap = cpu.cr4 & CpuState::CR4_SMAP != 0 && cpu.rflags & CpuState::RFLAGS_AC == 0;
    let denied = if access.user {
        !user || access.write && !writable
    } else {
        access.write && !writable && cpu.cr0 & CpuState::CR0_WP != 0
            || !access.fetch && user && smap
    };
    if denied || access.fetch && no_execute {
        return None;
    }
    let last = entries.last()?;
    let page = match (width, end) {
        (4, 22) => last & 0xffc0_0000 | (last >> 13 & 0xff) << 32,
        _ => last & 0x000f_ffff_ffff_f000 & !((1 << end) - 1),
    };
    Some(page | linear & ((1 << end) - 1))
}

/// What is so after each task switch that did not end in an exception (SDM vol. 3, 9.3).
pub fn check_task(cpu: &CpuState) {
    const CR0_TS: u64 = 1 << 3;
    const NULL: u16 = 3;
    const BUSY: u16 = 1 << 1;
    assert!(cpu.cr0 & CR0_TS != 0, "CR0.TS");
    assert!(cpu.tr.is_present() && cpu.tr.is_system() && cpu.tr.kind() & !8 == 1 | BUSY);
    assert!(cpu.ldtr.selector & !NULL == 0 || cpu.ldtr.is_present() && cpu.ldtr.kind() == 2);
    if cpu.rflags & CpuState::RFLAGS_VM != 0 {
        let real = |segment: &Segment| segment.base == u64::from(segment.selector) << 4;
        assert!(
            [cpu.cs, cpu.ds, cpu.es, cpu.fs, cpu.gs, cpu.ss]
                .iter()
                .all(real)
        );
        return;
    }
    let level = (cpu.cs.selector & NULL) as u8;
    assert!(cpu.cs.is_code() && cpu.cs.is_present(), "{:x?}", cpu.cs);
    let inner = cpu.cs.privilege() < level && cpu.cs.is_conforming();
    assert!(cpu.cs.privilege() == level || inner, "{:x?}", cpu.cs);
    assert!(cpu.ss.is_writable() && cpu.ss.is_present() && cpu.ss.privilege() == level);
    assert!((cpu.ss.selector & NULL) as u8 == level && cpu.rip <= cpu.cs.limit.into());
    for segment in [cpu.ds, cpu.es, cpu.fs, cpu.gs] {
        let level = level.max((segment.selector & NULL) as u8);
        let allowed = segment.privilege() >= level || segment.is_conforming();
        let usable = !segment.is_system() && segment.is_readable() && segment.is_present();
        assert!(
            segment.selector & !NULL == 0 || usable && allowed,
            "{segment:x?}"
        );
    }
}
