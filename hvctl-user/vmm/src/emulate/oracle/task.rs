// SPDX-License-Identifier: GPL-2.0
//! A task switch without paging, by what lies in memory (SDM vol. 3, 9.2 and 9.3).

use super::super::task::{Source, TaskSwitch};
use crate::hypervisor::{CpuState, Event, Exception, Gpr, Segment};

const VM: u64 = 1 << 17;
const NT: u64 = 1 << 14;
const RF: u64 = 1 << 16;

/// Places in a TSS: IP, flags, general registers, segments and their number, LDTR; size of a slot.
struct Slots {
    ip: u64,
    flags: u64,
    general: u64,
    segments: u64,
    count: usize,
    ldtr: u64,
    size: usize,
}

const SLOTS_16: Slots = Slots {
    ip: 14,
    flags: 16,
    general: 18,
    segments: 34,
    count: 4,
    ldtr: 42,
    size: 2,
};
const SLOTS_32: Slots = Slots {
    ip: 32,
    flags: 36,
    general: 40,
    segments: 72,
    count: 6,
    ldtr: 96,
    size: 4,
};

pub fn word(ram: &[u8], at: u64, size: usize) -> Option<u64> {
    let bytes = ram.get(at as usize..)?.get(..size)?;
    Some(
        (0..)
            .zip(bytes)
            .fold(0, |word, (i, byte)| word | u64::from(*byte) << (8 * i)),
    )
}

/// A descriptor: base, limit, type with S, DPL and P, and what is left of it.
#[derive(Clone, Copy)]
struct Descriptor(u64);

impl Descriptor {
    fn base(self) -> u64 {
        self.0 >> 16 & 0xff_ffff | self.0 >> 56 << 24
    }

    fn limit(self) -> u64 {
        let limit = self.0 & 0xffff | self.0 >> 32 & 0xf_0000;
        if self.bit(55) {
            limit * 4096 + 4095
        } else {
            limit
        }
    }

    fn bit(self, n: u32) -> bool {
        self.0 >> n & 1 != 0
    }

    /// Bit 4 says that it is code or data.
    fn kind(self) -> u64 {
        self.0 >> 40 & 0x1f
    }

    fn dpl(self) -> u64 {
        self.0 >> 45 & 3
    }

    fn is_code(self) -> bool {
        self.kind() >> 3 == 3
    }

    fn conforms(self) -> bool {
        self.is_code() && self.bit(42)
    }

    /// The register that is loaded from it.
    fn matches(self, segment: &Segment) -> bool {
        const ACCESSED: u16 = 1;
        let attributes = (self.0 >> 40) as u16 & 0xf0ff | ACCESSED;
        (segment.base, u64::from(segment.limit), segment.attributes)
            == (self.base(), self.limit(), attributes)
    }
}

/// A switch, with memory before and after it.
#[derive(Clone)]
pub struct Switched<'a> {
    pub task: TaskSwitch,
    pub event: Option<Event>,
    pub ram: &'a [u8],
    pub left: &'a [u8],
    pub done: Result<(), Exception>,
}

impl Switched<'_> {
    fn descriptor(&self, cpu: &CpuState, selector: u64) -> Option<Descriptor> {
        let offset = selector & !7;
        let inside = selector & 4 == 0 && offset + 7 <= u64::from(cpu.gdtr.limit);
        word(self.ram, cpu.gdtr.base + offset, 8)
            .filter(|_| inside)
            .map(Descriptor)
    }

    /// A descriptor as the new task finds it. What the old task's selector leads to need not be its
    /// TSS any more, but loses the bit that says busy.
    fn descriptor_then(&self, cpu: &CpuState, selector: u64) -> Option<Descriptor> {
        const BUSY: u64 = 1 << 41;
        let Descriptor(mut word) = self.descriptor(cpu, selector)?;
        let is = |other: u16| selector & !7 == u64::from(other & !7);
        if is(cpu.tr.selector) && matches!(self.task.source, Source::Return | Source::Jump) {
            word &= !BUSY;
        }
        if is(self.task.selector) && self.task.source != Source::Return {
            word |= BUSY;
        }
        Some(Descriptor(word))
    }

    /// Compares a switch between tasks that lie in RAM, apart from each other and from the GDT.
    pub fn check(&self, before: &CpuState, after: &CpuState) {
        if before.cr0 & CpuState::CR0_PG != 0 || before.tr.kind() & 8 == 0 {
            return;
        }
        let returns = self.task.source == Source::Return;
        let Some(tss) = self.descriptor(before, self.task.selector.into()) else {
            return;
        };
        let wanted = 1 | [0, 2][usize::from(returns)];
        let slots = if tss.bit(43) { &SLOTS_32 } else { &SLOTS_16 };
        let needed = [0x2b, 0x67][usize::from(tss.bit(43))];
        let valid = tss.kind() & !8 == wanted && tss.bit(47) && tss.limit() >= needed;
        if !valid {
            assert!(self.done.is_err() && after == before && self.ram == self.left);
            return;
        }
        assert_eq!(after.tr.selector, self.task.selector, "{:?}", self.done);
        self.check_memory(before, tss);
        let at = |offset: u64, size| word(self.ram, tss.base() + offset, size).expect("in RAM");
        let flags = at(slots.flags, slots.size);
        let mut selectors = [0; 6];
        for (i, selector) in selectors.iter_mut().enumerate().take(slots.count) {
            *selector = at(slots.segments + (i * slots.size) as u64, 2);
        }
        let refused = self.refusal(
            before,
            (flags, at(slots.ip, slots.size)),
            selectors,
            at(slots.ldtr, 2),
        );
        let event = self.event.filter(|_| self.task.source == Source::Gate);
        let pushes = event.is_some_and(|event| event.error_code.is_some());
        match (refused, &self.done) {
            (Some((vector, code)), Err(fault)) => {
                let seen = (
                    fault.vector,
                    fault.error_code.map(|code| u64::from(code) & !1),
                );
                assert_eq!(seen, (vector, Some(code)));
            }
            (Some(refused), Ok(())) => panic!("the new task has to take {refused:x?}"),
            (None, Err(fault)) => assert!(pushes && fault.vector == 12, "{fault:?}"),
            (None, Ok(())) => {}
        }
        assert_eq!(after.rip, at(slots.ip, slots.size));
        // As processors do, which the manual leaves undefined.
        let upper = [0xffff_0000, 0][usize::from(slots.size == 4)];
        for (i, gpr) in Gpr::ALL.into_iter().enumerate().take(8) {
            let value = at(slots.general + (i * slots.size) as u64, slots.size);
            let value = value | upper;
            if gpr != Gpr::Rsp || !pushes {
                assert_eq!(after.get(gpr), value, "{gpr:?}");
            }
        }
        if self.done.is_err() {
            return;
        }
        let nests = matches!(self.task.source, Source::Call | Source::Gate);
        assert_eq!(after.rflags, flags | 2 | [0, NT][usize::from(nests)]);
        let loaded = [
            &after.es, &after.cs, &after.ss, &after.ds, &after.fs, &after.gs,
        ];
        for (segment, selector) in loaded.into_iter().zip(selectors) {
            assert_eq!(u64::from(segment.selector), selector);
            if flags & VM == 0 && selector & !3 != 0 {
                let descriptor = self.descriptor_then(before, selector);
                let matches = descriptor.is_some_and(|descriptor| descriptor.matches(segment));
                assert!(matches, "{segment:x?} by {selector:#x}");
            }
        }
        if pushes && flags & VM == 0 {
            let old = at(slots.general + 4 * slots.size as u64, slots.size) | upper;
            let mask = [0xffff, 0xffff_ffff][usize::from(after.ss.is_big())];
            let pointer = old.wrapping_sub(slots.size as u64) & mask;
            assert_eq!(
                after.get(Gpr::Rsp) & mask,
                pointer,
                "the error code's place"
            );
            let code = event
                .and_then(|event| event.error_code)
                .map_or(0, u64::from);
            let code = code & [0xffff, 0xffff_ffff][usize::from(slots.size == 4)];
            let place = (after.ss.base + pointer) & 0xffff_ffff;
            assert!(word(self.left, place, slots.size).is_none_or(|seen| seen == code));
        }
    }

    /// The old task is saved, and the descriptors say which one is busy.
    fn check_memory(&self, before: &CpuState, tss: Descriptor) {
        let left = |at: u64, size| word(self.left, at, size).expect("in RAM");
        let old = before.tr.base;
        let segments = [
            before.es, before.cs, before.ss, before.ds, before.fs, before.gs,
        ];
        for (at, segment) in (old + SLOTS_32.segments..).step_by(4).zip(segments) {
            assert_eq!(left(at, 2), u64::from(segment.selector), "{at:#x} is saved");
        }
        for (at, gpr) in (old + SLOTS_32.general..)
            .step_by(4)
            .zip(Gpr::ALL.into_iter().take(8))
        {
            assert_eq!(
                left(at, 4),
                before.get(gpr) & 0xffff_ffff,
                "{gpr:?} is saved"
            );
        }
        let returns = self.task.source == Source::Return;
        let flags = before.rflags & 0xffff_ffff;
        let flags = [flags, flags & !NT][usize::from(returns)];
        assert_eq!(
            left(old + SLOTS_32.flags, 4) & !RF,
            flags & !RF,
            "flags are saved"
        );
        let busy = |selector: u16, memory| {
            let at = before.gdtr.base + u64::from(selector & !7);
            word(memory, at, 8).is_some_and(|word| Descriptor(word).bit(41))
        };
        let leaves = matches!(self.task.source, Source::Return | Source::Jump);
        let was = busy(before.tr.selector, self.ram);
        assert_eq!(
            busy(before.tr.selector, self.left),
            was && !leaves,
            "the old TSS"
        );
        assert!(busy(self.task.selector, self.left), "the new TSS");
        if matches!(self.task.source, Source::Call | Source::Gate) {
            assert_eq!(
                left(tss.base(), 2),
                u64::from(before.tr.selector),
                "the link"
            );
        }
    }

    /// The first exception that the new task has to take, before an error code is pushed.
    fn refusal(
        &self,
        cpu: &CpuState,
        (flags, ip): (u64, u64),
        [es, cs, ss, ds, fs, gs]: [u64; 6],
        ldtr: u64,
    ) -> Option<(u8, u64)> {
        const INVALID_TSS: u8 = 10;
        let invalid = |selector: u64| Some((INVALID_TSS, selector & !3));
        let null = |selector: u64| selector & !3 == 0;
        if !null(ldtr) {
            let table = self
                .descriptor_then(cpu, ldtr)
                .filter(|d| d.kind() == 2 && d.bit(47));
            if table.is_none() {
                return invalid(ldtr);
            }
        }
        if flags & VM != 0 {
            return None;
        }
        // Not from a local table: there the test's selectors do not lead.
        let (level, stack) = (cs & 3, ss & 3);
        let found = self.descriptor_then(cpu, cs).filter(|_| !null(cs));
        let Some(code) = found.filter(|d| {
            let level_fits = if d.conforms() {
                d.dpl() <= level
            } else {
                d.dpl() == level
            };
            d.is_code() && level_fits
        }) else {
            return invalid(cs);
        };
        if !code.bit(47) {
            return Some((11, cs & !3));
        }
        let found = self.descriptor_then(cpu, ss).filter(|_| !null(ss));
        // Data that can be written.
        let Some(data) =
            found.filter(|d| d.kind() >> 3 == 2 && d.bit(41) && d.dpl() == level && stack == level)
        else {
            return invalid(ss);
        };
        if !data.bit(47) {
            return Some((12, ss & !3));
        }
        for selector in [es, ds, fs, gs]
            .into_iter()
            .filter(|selector| !null(*selector))
        {
            let Some(data) = self.descriptor_then(cpu, selector).filter(|d| {
                let readable = d.bit(44) && (!d.is_code() || d.bit(41));
                readable && (d.conforms() || d.dpl() >= level.max(selector & 3))
            }) else {
                return invalid(selector);
            };
            if !data.bit(47) {
                return Some((11, selector & !3));
            }
        }
        (ip > code.limit()).then_some((13, 0))
    }
}
