// SPDX-License-Identifier: GPL-2.0
//! What lies near an input, and is tried with it: a task with one selector of any kind, an
//! instruction in segments that do not allow it, a string instruction that is repeated.

use vm_memory::{Bytes, GuestAddress};

use super::{Machine, TABLES};
use crate::emulate::oracle::{self, Seen, task::Switched};
use crate::emulate::{Source, instruction, step, string, switch};
use crate::hypervisor::{CpuState, Gpr};
use crate::memory::GuestMemory;

const NESTED: u64 = 1 << 14;

/// A GDT with all kinds of segments from its second entry on: a 32-bit TSS, code and data of ring 0,
/// conforming code, code and data of ring 3, an LDT; data to read, what is not present; read-only
/// data and conforming code of ring 3, data and code that is only executed, a 16-bit TSS.
const KINDS: [u64; 15] = [
    0x89, 0x9a, 0x92, 0x9e, 0xfa, 0xf2, 0x82, 0x90, 0x1a, 0x12, 0x8b, 0xf0, 0xfe, 0xf8, 0x81,
];
const WIDE: u16 = 1 << 3;
const NARROW: u16 = 15 << 3;
/// Where the task is (see [`super::task`]).
const NEW: u64 = 0x9000;

/// The task of `switched`, 16-bit or 32-bit, of ring 0 or ring 3, with all selectors as they should
/// be but for one, that is each in turn. Which, `choice` says.
pub(super) fn tasks(
    machine: &mut Machine,
    ram: &[u8],
    cpu: &CpuState,
    switched: Switched,
    choice: usize,
) {
    let memory = machine.memory.clone();
    let put = |at: u64, bytes: &[u8]| {
        memory
            .write_slice(bytes, GuestAddress(at))
            .expect("it is RAM");
    };
    put(0, ram);
    let busy = u64::from(switched.task.source == Source::Return) << 1;
    for (index, kind) in (1..).zip(KINDS) {
        let kind = kind | if matches!(index, 1 | 15) { busy } else { 0 };
        let base = [0, NEW][usize::from(kind & 0x10 == 0)];
        let word = 0x00cf_0000_0000_ffff | base << 16 | kind << 40;
        put(TABLES + 8 * index, &word.to_le_bytes());
    }
    let (tss, ring) = [(WIDE, 0), (WIDE, 3), (NARROW, 0), (NARROW, 3)][choice / 7 % 4];
    let slot = choice % 7;
    // Of ES, CS, SS, DS, FS, GS and LDTR.
    let (code, data) = [(2, 3), (5, 6)][usize::from(ring == 3)];
    let good = [data, code, data, data, data, data].map(|index| index << 3 | ring);
    let (flags, segments, ldtr, step) = match tss {
        WIDE => (36, 72, 96, 4),
        _ => (16, 34, 42, 2),
    };
    // No virtual-8086 mode, which loads other segments.
    put(NEW + flags, &2u16.to_le_bytes());
    put(NEW + flags + 2, &[0; 2][..(step - 2) as usize]);
    for any in (0..16u16).flat_map(|index| [index << 3, index << 3 | 3]) {
        for (i, selector) in good.into_iter().chain([0]).enumerate() {
            let at = if i < 6 {
                segments + step * i as u64
            } else {
                ldtr
            };
            if at + 2 <= 104 && (i < 4 || step == 4 || i == 6) {
                let selector = if i == slot { any } else { selector };
                put(NEW + at, &selector.to_le_bytes());
            }
        }
        let before_ram = machine.ram();
        let mut before = *cpu;
        before.rflags ^= [0, NESTED][usize::from(any & 8 != 0)];
        before.rflags &= !CpuState::RFLAGS_VM;
        let mut after = before;
        let mut task = switched.task;
        task.selector = tss;
        let done = switch(&mut after, machine, task, switched.event);
        let left = machine.ram();
        if done.is_ok() {
            oracle::check_task(&after);
        }
        let near = Switched {
            task,
            done,
            ram: &before_ram,
            left: &left,
            ..switched.clone()
        };
        near.check(&before, &after);
        put(0, &before_ram);
    }
}

/// An instruction that was carried out, in protected mode, and in segments that cannot be written,
/// not be read, grow down, or end early.
pub(super) fn segments(
    memory: &GuestMemory,
    (ram, answers): (&[u8], &[u8]),
    before: &CpuState,
    code: &[u8],
) {
    if before.bitness() == 64 || before.rflags & CpuState::RFLAGS_VM != 0 {
        return;
    }
    // Type, and whether the segment is there; the others as they were.
    for (kind, limit) in [
        (0x91, None),
        (0x99, None),
        (0x97, None),
        (0x13, None),
        (0x93, Some(0x7ff)),
    ] {
        let mut cpu = *before;
        cpu.cr0 |= CpuState::CR0_PE;
        for segment in [&mut cpu.ds, &mut cpu.es, &mut cpu.ss] {
            segment.attributes = segment.attributes & !0x9f | kind;
            segment.limit = limit.unwrap_or(segment.limit);
        }
        memory.write_slice(ram, GuestAddress(0)).expect("it is RAM");
        let mut machine = Machine::new(memory.clone(), answers, None);
        let Ok(decoded) = instruction::decode(&cpu, &machine, code) else {
            return;
        };
        if decoded.has_rep_prefix() || decoded.has_repne_prefix() {
            return;
        }
        let mut after = cpu;
        match step(&mut after, &mut machine, code) {
            Ok(()) => oracle::rights::check_segments(&cpu, &after, &decoded),
            Err(stop) => assert_eq!(after, cpu, "{stop}: as if it had not begun"),
        }
    }
}

/// A string instruction that was carried out once, repeated a few times in both ways.
pub(super) fn repeated(
    memory: &GuestMemory,
    (ram, answers): (&[u8], &[u8]),
    before: &CpuState,
    code: &[u8],
) {
    for prefix in [0xf2, 0xf3] {
        memory.write_slice(ram, GuestAddress(0)).expect("it is RAM");
        let mut machine = Machine::new(memory.clone(), answers, None);
        let code: Vec<u8> = [prefix].into_iter().chain(code.iter().copied()).collect();
        let mut cpu = *before;
        cpu.set(Gpr::Rcx, 3);
        let decoded = match instruction::decode(&cpu, &machine, &code) {
            Ok(decoded) if string::is_string(&decoded) => decoded,
            _ => return,
        };
        machine.asked.borrow_mut().clear();
        let mut after = cpu;
        if step(&mut after, &mut machine, &code).is_ok() {
            let left = machine.ram();
            let seen = Seen {
                before: ram,
                after: &left,
                touches: &machine.touches,
            };
            oracle::check(&cpu, &after, &decoded, &seen);
        }
    }
}
