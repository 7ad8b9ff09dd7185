// SPDX-License-Identifier: GPL-2.0
//! Registers, immediates and memory, as operands.

use iced_x86::{Instruction, OpKind, Register as Name};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _};

use super::walk::Access;
use super::{Space, Stop};
use crate::hypervisor::state::exception::{GENERAL_PROTECTION, STACK};
use crate::hypervisor::{CpuState, Exception, Gpr, Segment};

/// Keeps the low `size` bytes.
pub fn truncate(value: u64, size: usize) -> u64 {
    if size >= 8 {
        value
    } else {
        value & ((1 << (size * 8)) - 1)
    }
}

/// Widens a value of `size` bytes by its sign.
pub fn sign_extend(value: u64, size: usize) -> u64 {
    let shift = 64 - size.min(8) * 8;
    (((value << shift) as i64) >> shift) as u64
}

fn gpr(name: Name) -> Option<Gpr> {
    name.is_gpr()
        .then(|| Gpr::ALL[name.full_register().number()])
}

fn is_high_byte(name: Name) -> bool {
    matches!(name, Name::AH | Name::CH | Name::DH | Name::BH)
}

/// A general-purpose register's value, or a segment register's selector.
pub fn register(cpu: &CpuState, name: Name) -> Option<u64> {
    if let Some(gpr) = gpr(name) {
        let shift = if is_high_byte(name) { 8 } else { 0 };
        return Some(truncate(cpu.get(gpr) >> shift, name.size()));
    }
    if name.is_segment_register() {
        return Some(segment(cpu, name).selector.into());
    }
    matches!(name, Name::RIP | Name::EIP).then_some(cpu.rip)
}

/// The accumulator of that size.
pub fn accumulator(size: usize) -> Option<Name> {
    match size {
        1 => Some(Name::AL),
        2 => Some(Name::AX),
        4 => Some(Name::EAX),
        8 => Some(Name::RAX),
        _ => None,
    }
}

/// Writes a general-purpose register as the processor does: 32-bit writes clear the
/// upper half, shorter ones leave the rest.
pub fn set_register(cpu: &mut CpuState, name: Name, value: u64) -> Option<()> {
    let gpr = gpr(name)?;
    let old = cpu.get(gpr);
    cpu.set(
        gpr,
        match name.size() {
            8 => value,
            4 => truncate(value, 4),
            2 => old & !0xffff | truncate(value, 2),
            1 if is_high_byte(name) => old & !0xff00 | truncate(value, 1) << 8,
            _ => old & !0xff | truncate(value, 1),
        },
    );
    Some(())
}

/// The immediate in operand `index`, sign-extended as the instruction says.
pub fn immediate(instruction: &Instruction, index: u32) -> Option<u64> {
    instruction.try_immediate(index).ok()
}

fn exception(vector: u8) -> Stop {
    Stop::Fault(Exception {
        vector,
        error_code: Some(0),
        parameter: 0,
    })
}

/// #GP(0).
pub fn general_protection() -> Stop {
    exception(GENERAL_PROTECTION)
}

pub fn segment(cpu: &CpuState, name: Name) -> &Segment {
    match name {
        Name::CS => &cpu.cs,
        Name::ES => &cpu.es,
        Name::FS => &cpu.fs,
        Name::GS => &cpu.gs,
        Name::SS => &cpu.ss,
        _ => &cpu.ds,
    }
}

/// The linear address of `size` bytes at `offset` in a segment, if it lets the access happen.
pub fn in_segment(
    cpu: &CpuState,
    name: Name,
    offset: u64,
    size: usize,
    access: Access,
) -> Result<u64, Stop> {
    let refused = || {
        exception(if name == Name::SS {
            STACK
        } else {
            GENERAL_PROTECTION
        })
    };
    let segment = segment(cpu, name);
    if cpu.bitness() == 64 {
        // Only FS and GS have a base in 64-bit mode.
        let base = match name {
            Name::FS | Name::GS => segment.base,
            _ => 0,
        };
        let linear = base.wrapping_add(offset);
        let last = linear.wrapping_add(size as u64 - 1);
        return if cpu.is_canonical(linear) && cpu.is_canonical(last) {
            Ok(linear)
        } else {
            Err(refused())
        };
    }
    let kind = if !cpu.is_protected() {
        true
    } else if access.write {
        segment.is_writable()
    } else {
        segment.is_readable()
    };
    if !segment.is_present() || !kind || !segment.reaches(offset, size as u64) {
        return Err(refused());
    }
    Ok(segment.base.wrapping_add(offset) & 0xffff_ffff)
}

/// The offset in its segment of memory operand `index`. None where an address register is none
/// that is known here.
pub fn offset(cpu: &CpuState, instruction: &Instruction, index: u32) -> Option<u64> {
    instruction.virtual_address(index, 0, |name, _, _| match name {
        Name::CS | Name::DS | Name::ES | Name::SS | Name::FS | Name::GS => Some(0),
        _ => register(cpu, name),
    })
}

/// The bits of an offset that count, by the width of the instruction's addresses.
pub fn address_mask(instruction: &Instruction, cpu: &CpuState) -> u64 {
    let registers = [instruction.memory_base(), instruction.memory_index()];
    let width = registers.into_iter().map(Name::size).max().unwrap_or(0);
    match if width == 0 {
        instruction.memory_displ_size() as usize
    } else {
        width
    } {
        2 => 0xffff,
        8 => u64::MAX,
        _ if width == 0 && cpu.bitness() == 64 => u64::MAX,
        _ => 0xffff_ffff,
    }
}

/// The segment of memory operand `index`.
pub fn segment_name(instruction: &Instruction, index: u32) -> Name {
    use OpKind::*;
    match instruction.op_kind(index) {
        MemoryESDI | MemoryESEDI | MemoryESRDI => Name::ES,
        _ => instruction.memory_segment(),
    }
}

/// The linear address of memory operand `index`.
pub fn linear(
    cpu: &CpuState,
    instruction: &Instruction,
    index: u32,
    size: usize,
    access: Access,
) -> Result<Option<u64>, Stop> {
    match offset(cpu, instruction, index) {
        Some(offset) => {
            in_segment(cpu, segment_name(instruction, index), offset, size, access).map(Some)
        }
        None => Ok(None),
    }
}

pub fn is_memory(kind: OpKind) -> bool {
    use OpKind::*;
    matches!(
        kind,
        Memory | MemorySegSI | MemorySegESI | MemorySegRSI | MemoryESDI | MemoryESEDI | MemoryESRDI
    )
}

/// A stretch of memory that one access covers: at most two pages, translated.
pub struct Place {
    parts: [(u64, usize); 2],
}

impl Place {
    /// Translates all of the access before any of it is done.
    pub fn find(
        cpu: &CpuState,
        space: &impl Space,
        linear: u64,
        size: usize,
        access: Access,
    ) -> Result<Self, Stop> {
        let at = |linear| space.translate(cpu, linear, access);
        let first = size.min(0x1000 - (linear & 0xfff) as usize);
        let mut parts = [(at(linear)?, first), (0, size - first)];
        if first < size {
            parts[1].0 = at(linear.wrapping_add(first as u64))?;
        }
        Ok(Self { parts })
    }

    pub fn load(&self, space: &mut impl Space) -> u64 {
        let mut bytes = [0; 8];
        let mut done = 0;
        for (gpa, size) in self.parts {
            let part = &mut bytes[done..done + size];
            if size > 0 && space.memory().read_slice(part, GuestAddress(gpa)).is_err() {
                space.mmio_read(gpa, part);
            }
            done += size;
        }
        u64::from_le_bytes(bytes)
    }

    pub fn store(&self, space: &mut impl Space, value: u64) {
        let bytes = value.to_le_bytes();
        let mut done = 0;
        for (gpa, size) in self.parts {
            let part = &bytes[done..done + size];
            let address = GuestAddress(gpa);
            if size > 0 {
                if space.memory().address_in_range(address) {
                    // An access that runs off the end of RAM loses the rest.
                    let _ = space.memory().write(part, address);
                } else {
                    space.mmio_write(gpa, part);
                }
            }
            done += size;
        }
    }
}
