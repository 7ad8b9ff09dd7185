// SPDX-License-Identifier: GPL-2.0
//! Decoding by iced-x86, and the meaning of what it finds.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use vm_memory::{Bytes, GuestAddress};

use super::alu::{Operation, compute};
use super::operand::{
    Place, immediate, is_memory, linear, register, set_register, sign_extend, truncate,
};
use super::walk::{Access, translate};
use super::{Space, Stop, string};
use crate::hypervisor::{CpuState, Exception};
use crate::memory::GuestMemory;

const LONGEST: usize = 15;

/// The bytes at RIP, as many as an instruction can have or as can be read.
pub fn fetch(cpu: &CpuState, memory: &GuestMemory) -> Result<Vec<u8>, Exception> {
    let base = if cpu.bitness() == 64 { 0 } else { cpu.cs.base };
    let start = base.wrapping_add(cpu.rip);
    let mut bytes = Vec::with_capacity(LONGEST);
    while bytes.len() < LONGEST {
        let at = start.wrapping_add(bytes.len() as u64);
        let gpa = match translate(memory, cpu, at, Access::fetch(cpu)) {
            Ok(gpa) => gpa,
            Err(fault) if bytes.is_empty() => return Err(fault),
            Err(_) => break,
        };
        let room = (LONGEST - bytes.len()).min(0x1000 - (at & 0xfff) as usize);
        let mut part = [0; LONGEST];
        if memory
            .read_slice(&mut part[..room], GuestAddress(gpa))
            .is_err()
        {
            break;
        }
        bytes.extend_from_slice(&part[..room]);
    }
    Ok(bytes)
}

/// Decodes the instruction at RIP from `hint`, or from guest memory where that is not
/// enough.
pub fn decode(cpu: &CpuState, memory: &GuestMemory, hint: &[u8]) -> Result<Instruction, Stop> {
    let attempt = |bytes: &[u8]| {
        let mut decoder = Decoder::with_ip(cpu.bitness(), bytes, cpu.rip, DecoderOptions::NONE);
        let instruction = decoder.decode();
        (!instruction.is_invalid()).then_some(instruction)
    };
    if let Some(instruction) = attempt(hint) {
        return Ok(instruction);
    }
    let bytes = fetch(cpu, memory).map_err(Stop::Fault)?;
    attempt(&bytes).ok_or_else(|| Stop::Unknown {
        rip: cpu.rip,
        bytes,
        text: "not an instruction".into(),
    })
}

/// An operand that has been found.
enum Operand {
    Register(iced_x86::Register),
    Immediate(u64),
    Memory(u64),
}

fn operand(cpu: &CpuState, instruction: &Instruction, index: u32) -> Option<Operand> {
    match instruction.op_kind(index) {
        OpKind::Register => Some(Operand::Register(instruction.op_register(index))),
        kind if is_memory(kind) => linear(cpu, instruction, index).map(Operand::Memory),
        _ => immediate(instruction, index).map(Operand::Immediate),
    }
}

/// Carries out a decoded instruction and moves RIP on.
pub fn execute(
    cpu: &mut CpuState,
    space: &mut impl Space,
    instruction: &Instruction,
) -> Result<(), Stop> {
    if string::is_string(instruction) {
        return string::execute(cpu, space, instruction);
    }
    if plain(cpu, space, instruction)?.is_none() {
        let mut bytes = fetch(cpu, space.memory()).unwrap_or_default();
        bytes.truncate(instruction.len());
        let text = format!("{:?}", instruction.code());
        return Err(Stop::Unknown {
            rip: cpu.rip,
            bytes,
            text,
        });
    }
    cpu.rip = instruction.next_ip();
    Ok(())
}

/// `None`: not one that is known here.
fn plain(
    cpu: &mut CpuState,
    space: &mut impl Space,
    instruction: &Instruction,
) -> Result<Option<()>, Stop> {
    let size = instruction.memory_size().size();
    if !matches!(size, 1 | 2 | 4 | 8) {
        return Ok(None);
    }
    let Some(first) = operand(cpu, instruction, 0) else {
        return Ok(None);
    };
    let second = operand(cpu, instruction, 1);
    match instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movnti => transfer(cpu, space, size, first, second, None),
        Mnemonic::Movzx => transfer(cpu, space, size, first, second, Some(false)),
        Mnemonic::Movsx | Mnemonic::Movsxd => transfer(cpu, space, size, first, second, Some(true)),
        Mnemonic::Xchg => exchange(cpu, space, size, first, second),
        mnemonic => {
            let (operation, keep) = match mnemonic {
                Mnemonic::Add => (Operation::Add, true),
                Mnemonic::Adc => (Operation::AddCarry, true),
                Mnemonic::Sub => (Operation::Sub, true),
                Mnemonic::Sbb => (Operation::SubBorrow, true),
                Mnemonic::And => (Operation::And, true),
                Mnemonic::Or => (Operation::Or, true),
                Mnemonic::Xor => (Operation::Xor, true),
                Mnemonic::Cmp => (Operation::Sub, false),
                Mnemonic::Test => (Operation::And, false),
                _ => return Ok(None),
            };
            arithmetic(cpu, space, size, (operation, keep), first, second)
        }
    }
}

fn read(
    cpu: &CpuState,
    space: &mut impl Space,
    size: usize,
    operand: &Operand,
) -> Result<Option<u64>, Stop> {
    Ok(match *operand {
        Operand::Register(name) => register(cpu, name),
        Operand::Immediate(value) => Some(truncate(value, size)),
        Operand::Memory(linear) => {
            let place = Place::find(cpu, space, linear, size, Access::read(cpu))?;
            Some(place.load(space))
        }
    })
}

/// MOV and its kin; `extend` says how a shorter source is widened.
fn transfer(
    cpu: &mut CpuState,
    space: &mut impl Space,
    size: usize,
    to: Operand,
    from: Option<Operand>,
    extend: Option<bool>,
) -> Result<Option<()>, Stop> {
    let Some(from) = from else { return Ok(None) };
    let Some(mut value) = read(cpu, space, size, &from)? else {
        return Ok(None);
    };
    if extend == Some(true) {
        value = sign_extend(value, size);
    }
    Ok(match to {
        Operand::Register(name) => set_register(cpu, name, value),
        Operand::Memory(linear) => {
            Place::find(cpu, space, linear, size, Access::write(cpu))?.store(space, value);
            Some(())
        }
        Operand::Immediate(_) => None,
    })
}

fn exchange(
    cpu: &mut CpuState,
    space: &mut impl Space,
    size: usize,
    first: Operand,
    second: Option<Operand>,
) -> Result<Option<()>, Stop> {
    let ((Operand::Memory(linear), Some(Operand::Register(name)))
    | (Operand::Register(name), Some(Operand::Memory(linear)))) = (first, second)
    else {
        return Ok(None);
    };
    let Some(value) = register(cpu, name) else {
        return Ok(None);
    };
    let place = Place::find(cpu, space, linear, size, Access::write(cpu))?;
    let old = place.load(space);
    place.store(space, value);
    Ok(set_register(cpu, name, old))
}

fn arithmetic(
    cpu: &mut CpuState,
    space: &mut impl Space,
    size: usize,
    (operation, keep): (Operation, bool),
    first: Operand,
    second: Option<Operand>,
) -> Result<Option<()>, Stop> {
    let Some(second) = second else {
        return Ok(None);
    };
    // A destination that cannot be written has to fault before anything is read.
    let place = match first {
        Operand::Memory(linear) => {
            let access = if keep {
                Access::write(cpu)
            } else {
                Access::read(cpu)
            };
            Some(Place::find(cpu, space, linear, size, access)?)
        }
        _ => None,
    };
    let left = match &place {
        Some(place) => Some(place.load(space)),
        None => read(cpu, space, size, &first)?,
    };
    let (Some(left), Some(right)) = (left, read(cpu, space, size, &second)?) else {
        return Ok(None);
    };
    let (result, rflags) = compute(operation, left, right, size, cpu.rflags);
    if keep {
        match (place, first) {
            (Some(place), _) => place.store(space, result),
            (None, Operand::Register(name)) => {
                if set_register(cpu, name, result).is_none() {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
    }
    cpu.rflags = rflags;
    Ok(Some(()))
}
