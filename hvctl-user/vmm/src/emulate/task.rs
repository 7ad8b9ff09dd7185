// SPDX-License-Identifier: GPL-2.0
//! Task switches, which processors do not do in a virtual machine (SDM vol. 3, 9.3, 28.4.2).

use super::operand::Place;
use super::walk::Access;
use super::{Space, Stop, instruction};
use crate::hypervisor::state::exception::{GENERAL_PROTECTION, NOT_PRESENT, STACK, TASK};
use crate::hypervisor::{CpuState, Event, Exception, Gpr, Segment};

/// What asked for the switch: the exit qualification's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Call,
    Return,
    Jump,
    /// An event, by a task gate in the IDT.
    Gate,
}

/// A task switch that the processor stopped at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskSwitch {
    pub selector: u16,
    pub source: Source,
}

impl TaskSwitch {
    /// From the exit qualification (SDM vol. 3, table 28-2).
    pub fn from_qualification(value: u64) -> Self {
        let source = match value >> 30 & 3 {
            0 => Source::Call,
            1 => Source::Return,
            2 => Source::Jump,
            _ => Source::Gate,
        };
        Self {
            selector: value as u16,
            source,
        }
    }
}

const CR0_TS: u64 = 1 << 3;
const RF: u64 = 1 << 16;
const VM: u64 = 1 << 17;
const NT: u64 = 1 << 14;
const EXTERNAL: u32 = 1;
const BUSY: u8 = 1 << 1;

/// Type of a descriptor: a TSS that is free or busy, without the bit that says 32-bit.
const TSS: u16 = 0x1;
const TSS_32: u16 = 0x8;
const LDT: u16 = 0x2;

/// Where a TSS has what; sizes of its slots.
struct Layout {
    link: u64,
    cr3: Option<u64>,
    ip: u64,
    flags: u64,
    general: u64,
    segments: u64,
    segment_count: u64,
    ldtr: u64,
    slot: u64,
    limit: u32,
}

const LAYOUT_32: Layout = Layout {
    link: 0,
    cr3: Some(0x1c),
    ip: 0x20,
    flags: 0x24,
    general: 0x28,
    segments: 0x48,
    segment_count: 6,
    ldtr: 0x60,
    slot: 4,
    limit: 0x67,
};

const LAYOUT_16: Layout = Layout {
    link: 0,
    cr3: None,
    ip: 0x0e,
    flags: 0x10,
    general: 0x12,
    segments: 0x22,
    segment_count: 4,
    ldtr: 0x2a,
    slot: 2,
    limit: 0x2b,
};

fn layout(tss: &Segment) -> &'static Layout {
    if tss.kind() & TSS_32 != 0 {
        &LAYOUT_32
    } else {
        &LAYOUT_16
    }
}

fn fault(vector: u8, selector: u16, external: u32) -> Exception {
    Exception {
        vector,
        error_code: Some(u32::from(selector & !3) | external),
        parameter: 0,
    }
}

/// The guest's tables and TSSs, as the processor itself reaches them.
struct Tables<'a, S: Space> {
    space: &'a mut S,
}

impl<S: Space> Tables<'_, S> {
    fn place(&self, cpu: &CpuState, at: u64, size: u64, write: bool) -> Result<Place, Exception> {
        let access = Access {
            write,
            fetch: false,
            user: false,
        };
        let linear = at & 0xffff_ffff;
        match Place::find(cpu, self.space, linear, size as usize, access) {
            Ok(place) => Ok(place),
            Err(Stop::Fault(exception)) => Err(exception),
            // A translation ends in nothing else.
            Err(Stop::Unknown { .. } | Stop::Private) => Err(fault(GENERAL_PROTECTION, 0, 0)),
        }
    }

    fn read(&mut self, cpu: &CpuState, at: u64, size: u64) -> Result<u64, Exception> {
        Ok(self.place(cpu, at, size, false)?.load(self.space))
    }

    fn write(&mut self, cpu: &CpuState, at: u64, size: u64, value: u64) -> Result<(), Exception> {
        self.place(cpu, at, size, true)?.store(self.space, value);
        Ok(())
    }

    /// The descriptor of `selector`, with the address that it was read from.
    fn descriptor(
        &mut self,
        cpu: &CpuState,
        selector: u16,
        vector: u8,
        external: u32,
    ) -> Result<(Segment, u64), Exception> {
        let (base, limit) = if selector & 4 == 0 {
            (cpu.gdtr.base, u32::from(cpu.gdtr.limit))
        } else if cpu.ldtr.is_present() {
            (cpu.ldtr.base, cpu.ldtr.limit)
        } else {
            return Err(fault(vector, selector, external));
        };
        let offset = selector & !7;
        if u32::from(offset | 7) > limit {
            return Err(fault(vector, selector, external));
        }
        let at = base.wrapping_add(u64::from(offset));
        let word = self.read(cpu, at, 8)?;
        Ok((Segment::from_descriptor(selector, word), at))
    }

    fn set_busy(&mut self, cpu: &CpuState, selector: u16, busy: bool) -> Result<(), Exception> {
        let at = cpu.gdtr.base.wrapping_add(u64::from(selector & !7) + 5);
        let old = self.read(cpu, at, 1)? as u8;
        let new = if busy { old | BUSY } else { old & !BUSY };
        self.write(cpu, at, 1, new.into())
    }
}

/// Bytes of the instruction at RIP, which the processor can read.
fn instruction_length(cpu: &CpuState, space: &impl Space) -> u64 {
    instruction::decode(cpu, space, &[]).map_or(0, |decoded| decoded.len() as u64)
}

/// Makes `cpu` run the other task. On an exception `cpu` is what is to take it: the old task, or
/// the new one with what was loaded of it.
pub fn switch(
    cpu: &mut CpuState,
    space: &mut impl Space,
    task: TaskSwitch,
    event: Option<Event>,
) -> Result<(), Exception> {
    let event = event.filter(|_| task.source == Source::Gate);
    let external = match event {
        Some(event) if !event.is_software() => EXTERNAL,
        _ => 0,
    };
    let by_instruction = event.is_none_or(|event| event.is_software());
    let length = if by_instruction {
        instruction_length(cpu, space)
    } else {
        0
    };
    let mut tables = Tables { space };
    let returns = task.source == Source::Return;
    let vector = if returns { TASK } else { GENERAL_PROTECTION };
    if task.selector & 4 != 0 {
        return Err(fault(vector, task.selector, external));
    }
    let (mut tss, _) = tables.descriptor(cpu, task.selector, vector, external)?;
    let wanted = TSS | if returns { u16::from(BUSY) } else { 0 };
    if !tss.is_system() || tss.kind() & !TSS_32 != wanted {
        return Err(fault(vector, task.selector, external));
    }
    if !tss.is_present() {
        return Err(fault(NOT_PRESENT, task.selector, external));
    }
    let new = layout(&tss);
    if tss.limit < new.limit {
        return Err(fault(TASK, task.selector, external));
    }
    // What can fault in the old task's name comes before anything is changed.
    let old = layout(&cpu.tr);
    tables.place(cpu, cpu.tr.base, u64::from(old.limit) + 1, true)?;
    tables.place(cpu, tss.base, u64::from(new.limit) + 1, true)?;

    if matches!(task.source, Source::Return | Source::Jump) {
        tables.set_busy(cpu, cpu.tr.selector, false)?;
    }
    save(cpu, &mut tables, old, length, returns, event)?;
    let nests = matches!(task.source, Source::Call | Source::Gate);
    if nests {
        tables.write(cpu, tss.base + new.link, 2, cpu.tr.selector.into())?;
    }
    if !returns {
        tables.set_busy(cpu, task.selector, true)?;
    }
    tss.attributes |= u16::from(BUSY);
    cpu.tr = tss;
    cpu.cr0 |= CR0_TS;
    load(cpu, &mut tables, new, nests)?;
    if let Some(code) = event.and_then(|event| event.error_code) {
        push(cpu, &mut tables, new.slot, code)?;
    }
    Ok(())
}

fn save(
    cpu: &CpuState,
    tables: &mut Tables<'_, impl Space>,
    layout: &Layout,
    length: u64,
    returns: bool,
    event: Option<Event>,
) -> Result<(), Exception> {
    // Long mode, if the guest came from there, may have left any base.
    let base = cpu.tr.base & 0xffff_ffff;
    let mut flags = cpu.rflags;
    if returns {
        flags &= !NT;
    }
    if event.is_some_and(|event| event.is_fault()) {
        flags |= RF;
    }
    let slot = layout.slot;
    tables.write(cpu, base + layout.ip, slot, cpu.rip.wrapping_add(length))?;
    tables.write(cpu, base + layout.flags, slot, flags)?;
    for (index, gpr) in Gpr::ALL.into_iter().take(8).enumerate() {
        let at = base + layout.general + slot * index as u64;
        tables.write(cpu, at, slot, cpu.get(gpr))?;
    }
    let segments = [&cpu.es, &cpu.cs, &cpu.ss, &cpu.ds, &cpu.fs, &cpu.gs];
    for (index, segment) in (0..layout.segment_count).zip(segments) {
        let at = base + layout.segments + slot * index;
        tables.write(cpu, at, 2, segment.selector.into())?;
    }
    Ok(())
}

fn load(
    cpu: &mut CpuState,
    tables: &mut Tables<'_, impl Space>,
    layout: &Layout,
    nests: bool,
) -> Result<(), Exception> {
    let (base, slot) = (cpu.tr.base, layout.slot);
    let read = |tables: &mut Tables<'_, _>, cpu: &CpuState, at| tables.read(cpu, base + at, slot);
    let ip = read(tables, cpu, layout.ip)?;
    let mut flags = read(tables, cpu, layout.flags)? | 2;
    if nests {
        flags |= NT;
    }
    let mut general = [0; 8];
    for (index, value) in (0..).zip(&mut general) {
        *value = read(tables, cpu, layout.general + slot * index)?;
    }
    let mut selectors = [0; 6];
    for (index, value) in (0..layout.segment_count).zip(&mut selectors) {
        *value = read(tables, cpu, layout.segments + slot * index)? as u16;
    }
    let ldtr = read(tables, cpu, layout.ldtr)? as u16;
    let cr3 = match layout.cr3 {
        Some(at) if cpu.cr0 & CpuState::CR0_PG != 0 => Some(tables.read(cpu, base + at, 4)?),
        _ => None,
    };

    // From here on it is the new task.
    cpu.cr3 = cr3.unwrap_or(cpu.cr3);
    cpu.rip = ip;
    cpu.rflags = flags & !VM;
    for (gpr, value) in Gpr::ALL.into_iter().zip(general) {
        // As processors do, which the manual leaves undefined.
        let upper = if slot == 2 { 0xffff_0000 } else { 0 };
        cpu.set(gpr, value | upper);
    }
    let [es, cs, ss, ds, fs, gs] = selectors;
    // A selector that was not loaded counts as one that cannot be used.
    for (segment, selector) in [
        (&mut cpu.es, es),
        (&mut cpu.ds, ds),
        (&mut cpu.fs, fs),
        (&mut cpu.gs, gs),
    ] {
        *segment = Segment {
            selector,
            ..Segment::default()
        };
    }
    cpu.ldtr = Segment {
        selector: ldtr,
        ..Segment::absent()
    };
    if ldtr & !3 != 0 {
        if ldtr & 4 != 0 {
            return Err(fault(TASK, ldtr, 0));
        }
        let (table, _) = tables.descriptor(cpu, ldtr, TASK, 0)?;
        if !table.is_system() || table.kind() != LDT || !table.is_present() {
            return Err(fault(TASK, ldtr, 0));
        }
        cpu.ldtr = table;
    }
    if flags & VM != 0 {
        cpu.rflags = flags;
        for (segment, selector) in [
            (&mut cpu.es, es),
            (&mut cpu.cs, cs),
            (&mut cpu.ss, ss),
            (&mut cpu.ds, ds),
            (&mut cpu.fs, fs),
            (&mut cpu.gs, gs),
        ] {
            *segment = Segment::virtual_8086(selector);
        }
        return Ok(());
    }
    let privilege = (cs & 3) as u8;
    cpu.cs = code(cpu, tables, cs)?;
    cpu.ss = stack(cpu, tables, ss, privilege)?;
    cpu.es = data(cpu, tables, es, privilege)?;
    cpu.ds = data(cpu, tables, ds, privilege)?;
    cpu.fs = data(cpu, tables, fs, privilege)?;
    cpu.gs = data(cpu, tables, gs, privilege)?;
    if cpu.rip > u64::from(cpu.cs.limit) {
        return Err(fault(GENERAL_PROTECTION, 0, 0));
    }
    Ok(())
}

fn code(
    cpu: &CpuState,
    tables: &mut Tables<'_, impl Space>,
    selector: u16,
) -> Result<Segment, Exception> {
    if selector & !3 == 0 {
        return Err(fault(TASK, selector, 0));
    }
    let (segment, _) = tables.descriptor(cpu, selector, TASK, 0)?;
    let requested = (selector & 3) as u8;
    let allowed = if segment.is_conforming() {
        segment.privilege() <= requested
    } else {
        segment.privilege() == requested
    };
    let allowed = allowed && !segment.is_system() && segment.is_code();
    loaded(segment, allowed, NOT_PRESENT)
}

fn stack(
    cpu: &CpuState,
    tables: &mut Tables<'_, impl Space>,
    selector: u16,
    privilege: u8,
) -> Result<Segment, Exception> {
    if selector & !3 == 0 {
        return Err(fault(TASK, selector, 0));
    }
    let (segment, _) = tables.descriptor(cpu, selector, TASK, 0)?;
    let allowed = segment.is_writable()
        && segment.privilege() == privilege
        && (selector & 3) as u8 == privilege;
    loaded(segment, allowed, STACK)
}

fn data(
    cpu: &CpuState,
    tables: &mut Tables<'_, impl Space>,
    selector: u16,
    privilege: u8,
) -> Result<Segment, Exception> {
    if selector & !3 == 0 {
        return Ok(Segment {
            selector,
            ..Segment::default()
        });
    }
    let (segment, _) = tables.descriptor(cpu, selector, TASK, 0)?;
    let inner = privilege.max((selector & 3) as u8) > segment.privilege();
    let allowed = segment.is_readable() && (!inner || segment.is_conforming());
    loaded(segment, allowed, NOT_PRESENT)
}

/// The segment as it is after its loading, if that is allowed; `absent` is the exception of one
/// that is not present.
fn loaded(segment: Segment, allowed: bool, absent: u8) -> Result<Segment, Exception> {
    if !allowed {
        return Err(fault(TASK, segment.selector, 0));
    }
    if !segment.is_present() {
        return Err(fault(absent, segment.selector, 0));
    }
    Ok(segment.accessed())
}

/// Pushes an event's error code on the new task's stack.
fn push(
    cpu: &mut CpuState,
    tables: &mut Tables<'_, impl Space>,
    size: u64,
    value: u32,
) -> Result<(), Exception> {
    let mask = if cpu.ss.is_big() { 0xffff_ffff } else { 0xffff };
    let old = cpu.get(Gpr::Rsp);
    let sp = old.wrapping_sub(size) & mask;
    if !cpu.ss.reaches(sp, size) {
        return Err(fault(STACK, 0, EXTERNAL));
    }
    tables.write(cpu, cpu.ss.base.wrapping_add(sp), size, value.into())?;
    cpu.set(Gpr::Rsp, old & !mask | sp);
    Ok(())
}

#[cfg(test)]
mod tests;
