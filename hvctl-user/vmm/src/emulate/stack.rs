// SPDX-License-Identifier: GPL-2.0
//! Instructions whose operand is a device and that use the stack, or that jump by it.

use iced_x86::{Instruction, Mnemonic, Register as Name};

use super::instruction::Flow;
use super::operand::{Place, general_protection, in_segment, is_memory, linear, truncate};
use super::walk::Access;
use super::{Space, Stop};
use crate::hypervisor::{CpuState, Gpr};

/// The bits of RSP that are the stack pointer.
fn mask(cpu: &CpuState) -> u64 {
    match (cpu.bitness(), cpu.ss.is_big()) {
        (64, _) => u64::MAX,
        (_, true) => 0xffff_ffff,
        (_, false) => 0xffff,
    }
}

fn set_pointer(cpu: &mut CpuState, value: u64) {
    let mask = mask(cpu);
    cpu.set(Gpr::Rsp, cpu.get(Gpr::Rsp) & !mask | value & mask);
}

fn slot(
    cpu: &CpuState,
    space: &impl Space,
    pointer: u64,
    size: usize,
    access: Access,
) -> Result<Place, Stop> {
    let linear = in_segment(cpu, Name::SS, pointer & mask(cpu), size, access)?;
    Place::find(cpu, space, linear, size, access)
}

fn push(cpu: &mut CpuState, space: &mut impl Space, size: usize, value: u64) -> Result<(), Stop> {
    let pointer = cpu.get(Gpr::Rsp).wrapping_sub(size as u64);
    slot(cpu, space, pointer, size, Access::write(cpu))?.store(space, value);
    set_pointer(cpu, pointer);
    Ok(())
}

/// A target that RIP can have.
fn target(cpu: &CpuState, size: usize, value: u64) -> Result<Flow, Stop> {
    let value = truncate(value, size);
    let valid = if cpu.bitness() == 64 {
        cpu.is_canonical(value)
    } else {
        value <= u64::from(cpu.cs.limit)
    };
    if valid {
        Ok(Flow::To(value))
    } else {
        Err(general_protection())
    }
}

/// `None`: not one that is known here.
pub fn execute(
    cpu: &mut CpuState,
    space: &mut impl Space,
    instruction: &Instruction,
) -> Result<Option<Flow>, Stop> {
    let size = instruction.memory_size().size();
    let mnemonic = instruction.mnemonic();
    if !matches!(
        mnemonic,
        Mnemonic::Push | Mnemonic::Pop | Mnemonic::Call | Mnemonic::Jmp
    ) || !is_memory(instruction.op0_kind())
        || !matches!(size, 2 | 4 | 8)
    {
        return Ok(None);
    }
    if mnemonic == Mnemonic::Pop {
        return pop(cpu, space, instruction, size);
    }
    let read = Access::read(cpu);
    let Some(at) = linear(cpu, instruction, 0, size, read)? else {
        return Ok(None);
    };
    let value = Place::find(cpu, space, at, size, read)?.load(space);
    Ok(Some(match mnemonic {
        Mnemonic::Push => {
            push(cpu, space, size, value)?;
            Flow::Next
        }
        // Far ones have operands of other sizes, but for one of 4 bytes.
        _ if instruction.is_call_far_indirect() || instruction.is_jmp_far_indirect() => {
            return Ok(None);
        }
        Mnemonic::Call => {
            let flow = target(cpu, size, value)?;
            push(cpu, space, size, instruction.next_ip())?;
            flow
        }
        _ => target(cpu, size, value)?,
    }))
}

/// POP: the address is computed with the stack pointer as it is afterwards.
fn pop(
    cpu: &mut CpuState,
    space: &mut impl Space,
    instruction: &Instruction,
    size: usize,
) -> Result<Option<Flow>, Stop> {
    let pointer = cpu.get(Gpr::Rsp);
    let value = slot(cpu, space, pointer, size, Access::read(cpu))?.load(space);
    let mut after = *cpu;
    set_pointer(&mut after, pointer.wrapping_add(size as u64));
    let write = Access::write(cpu);
    let Some(at) = linear(&after, instruction, 0, size, write)? else {
        return Ok(None);
    };
    Place::find(cpu, space, at, size, write)?.store(space, value);
    *cpu = after;
    Ok(Some(Flow::Next))
}
