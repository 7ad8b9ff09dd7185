// SPDX-License-Identifier: GPL-2.0
//! Decoding by iced-x86, and the meaning of what it finds.

use iced_x86::{ConditionCode, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use vm_memory::{Bytes, GuestAddress};

use super::alu::{self, CARRY, Operation, compute};
use super::operand::{
    Place, immediate, is_memory, linear, offset, register, segment_name, set_register, sign_extend,
    truncate,
};
use super::walk::Access;
use super::{Space, Stop, divide, operand, stack, string, vector};
use crate::hypervisor::{CpuState, Gpr};

const LONGEST: usize = 15;

/// The bytes at RIP, as many as an instruction can have or as can be read.
pub fn fetch(cpu: &CpuState, space: &impl Space) -> Result<Vec<u8>, Stop> {
    let base = if cpu.bitness() == 64 { 0 } else { cpu.cs.base };
    let start = base.wrapping_add(cpu.rip);
    let mut bytes = Vec::with_capacity(LONGEST);
    while bytes.len() < LONGEST {
        let at = start.wrapping_add(bytes.len() as u64);
        let gpa = match space.translate(cpu, at, Access::fetch(cpu)) {
            Ok(gpa) => gpa,
            Err(fault) if bytes.is_empty() => return Err(fault),
            Err(_) => break,
        };
        let room = (LONGEST - bytes.len()).min(0x1000 - (at & 0xfff) as usize);
        let mut part = [0; LONGEST];
        if space
            .memory()
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
pub fn decode(cpu: &CpuState, space: &impl Space, hint: &[u8]) -> Result<Instruction, Stop> {
    let attempt = |bytes: &[u8]| {
        let mut decoder = Decoder::with_ip(cpu.bitness(), bytes, cpu.rip, DecoderOptions::NONE);
        let instruction = decoder.decode();
        (!instruction.is_invalid()).then_some(instruction)
    };
    if let Some(instruction) = attempt(hint) {
        return Ok(instruction);
    }
    let bytes = fetch(cpu, space)?;
    attempt(&bytes).ok_or_else(|| Stop::Unknown {
        rip: cpu.rip,
        bytes,
        text: "not an instruction".into(),
    })
}

/// Where the processor goes after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Next,
    To(u64),
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
    let known = match vector::execute(cpu, space, instruction)? {
        Some(()) => Some(Flow::Next),
        None => match stack::execute(cpu, space, instruction)? {
            Some(flow) => Some(flow),
            None => plain(cpu, space, instruction)?.map(|()| Flow::Next),
        },
    };
    match known {
        Some(Flow::Next) => cpu.rip = instruction.next_ip(),
        Some(Flow::To(rip)) => cpu.rip = rip,
        None => {
            let mut bytes = fetch(cpu, space).unwrap_or_default();
            bytes.truncate(instruction.len());
            let text = format!("{:?}", instruction.code());
            return Err(Stop::Unknown {
                rip: cpu.rip,
                bytes,
                text,
            });
        }
    }
    Ok(())
}

/// An instruction at work on its operands of `size` bytes.
struct Work<'a, S: Space> {
    cpu: &'a mut CpuState,
    space: &'a mut S,
    instruction: &'a Instruction,
    size: usize,
}

impl<S: Space> Work<'_, S> {
    /// The place of operand `index`, if that is in memory.
    fn place(&self, index: u32, write: bool) -> Result<Option<Place>, Stop> {
        if !is_memory(self.instruction.op_kind(index)) {
            return Ok(None);
        }
        let access = Access {
            write,
            ..Access::read(self.cpu)
        };
        match linear(self.cpu, self.instruction, index, self.size, access)? {
            Some(linear) => Place::find(self.cpu, self.space, linear, self.size, access).map(Some),
            None => Ok(None),
        }
    }

    fn read(&mut self, index: u32) -> Result<Option<u64>, Stop> {
        let instruction = self.instruction;
        match instruction.op_kind(index) {
            OpKind::Register => Ok(register(self.cpu, instruction.op_register(index))),
            kind if is_memory(kind) => {
                let place = self.place(index, false)?;
                Ok(place.map(|place| place.load(self.space)))
            }
            _ => Ok(immediate(instruction, index).map(|value| truncate(value, self.size))),
        }
    }

    /// Writes operand 0, whose place has been found if it is in memory.
    fn write(&mut self, place: Option<Place>, value: u64) -> Option<()> {
        match place {
            Some(place) => {
                place.store(self.space, value);
                Some(())
            }
            None => set_register(self.cpu, self.instruction.op0_register(), value),
        }
    }

    /// Replaces operand 0 by what `change` makes of it and of RFLAGS.
    fn modify(&mut self, change: impl FnOnce(u64, u64) -> (u64, u64)) -> Result<Option<()>, Stop> {
        // A destination that cannot be written has to fault before anything is read.
        let place = self.place(0, true)?;
        let old = match &place {
            Some(place) => Some(place.load(self.space)),
            None => self.read(0)?,
        };
        let Some(old) = old else { return Ok(None) };
        let (new, rflags) = change(truncate(old, self.size), self.cpu.rflags);
        let written = self.write(place, new);
        if written.is_some() {
            self.cpu.rflags = rflags;
        }
        Ok(written)
    }

    /// MOV and its kin; `extend` widens a shorter source.
    fn transfer(&mut self, extend: impl FnOnce(u64) -> u64) -> Result<Option<()>, Stop> {
        let to = self.place(0, true)?;
        let Some(value) = self.read(1)? else {
            return Ok(None);
        };
        Ok(self.write(to, extend(value)))
    }

    fn exchange(&mut self) -> Result<Option<()>, Stop> {
        let memory = u32::from(is_memory(self.instruction.op1_kind()));
        let name = self.instruction.op_register(1 - memory);
        let (Some(value), Some(place)) = (register(self.cpu, name), self.place(memory, true)?)
        else {
            return Ok(None);
        };
        let old = place.load(self.space);
        place.store(self.space, value);
        Ok(set_register(self.cpu, name, old))
    }

    fn exchange_add(&mut self) -> Result<Option<()>, Stop> {
        let name = self.instruction.op1_register();
        let (Some(add), Some(place)) = (register(self.cpu, name), self.place(0, true)?) else {
            return Ok(None);
        };
        let old = place.load(self.space);
        let (sum, rflags) = compute(Operation::Add, old, add, self.size, self.cpu.rflags);
        place.store(self.space, sum);
        self.cpu.rflags = rflags;
        Ok(set_register(self.cpu, name, old))
    }

    fn compare_exchange(&mut self) -> Result<Option<()>, Stop> {
        let size = self.size;
        let (Some(new), Some(place)) = (self.read(1)?, self.place(0, true)?) else {
            return Ok(None);
        };
        let old = place.load(self.space);
        let wanted = self.cpu.get(Gpr::Rax);
        self.cpu.rflags = compute(Operation::Sub, wanted, old, size, self.cpu.rflags).1;
        let equal = truncate(wanted, size) == old;
        place.store(self.space, if equal { new } else { old });
        if equal {
            return Ok(Some(()));
        }
        let accumulator = operand::accumulator(size);
        Ok(accumulator.and_then(|name| set_register(self.cpu, name, old)))
    }

    /// CMPXCHG8B and CMPXCHG16B.
    fn compare_exchange_pair(&mut self) -> Result<Option<()>, Stop> {
        let half = self.size / 2;
        let access = Access::write(self.cpu);
        let Some(at) = linear(self.cpu, self.instruction, 0, self.size, access)? else {
            return Ok(None);
        };
        if self.size == 16 && at % 16 != 0 {
            return Err(operand::general_protection());
        }
        let low = Place::find(self.cpu, self.space, at, half, access)?;
        let high = Place::find(self.cpu, self.space, at + half as u64, half, access)?;
        let old = (low.load(self.space), high.load(self.space));
        let pair = |cpu: &CpuState, low, high| {
            (truncate(cpu.get(low), half), truncate(cpu.get(high), half))
        };
        let equal = pair(self.cpu, Gpr::Rax, Gpr::Rdx) == old;
        let new = if equal {
            pair(self.cpu, Gpr::Rbx, Gpr::Rcx)
        } else {
            old
        };
        low.store(self.space, new.0);
        high.store(self.space, new.1);
        if equal {
            self.cpu.rflags |= alu::ZERO;
        } else {
            self.cpu.rflags &= !alu::ZERO;
            self.cpu.set(Gpr::Rax, old.0);
            self.cpu.set(Gpr::Rdx, old.1);
        }
        Ok(Some(()))
    }

    /// BT and its kin: `change` makes the new word of the old one and the bit.
    fn bit(&mut self, write: bool, change: fn(u64, u64) -> u64) -> Result<Option<()>, Stop> {
        let bits = self.size as u64 * 8;
        let Some(index) = self.read(1)? else {
            return Ok(None);
        };
        let bit = 1 << (index % bits);
        if self.instruction.op0_kind() == OpKind::Register {
            let Some(old) = self.read(0)? else {
                return Ok(None);
            };
            self.carry(old & bit != 0);
            return Ok(match write {
                true => self.write(None, change(old, bit)),
                false => Some(()),
            });
        }
        let Some(at) = offset(self.cpu, self.instruction, 0) else {
            return Ok(None);
        };
        // A register reaches beyond the operand, in either direction.
        let words = if self.instruction.op1_kind() == OpKind::Register {
            (sign_extend(index, self.size) as i64).div_euclid(bits as i64)
        } else {
            0
        };
        let at = at.wrapping_add_signed(words * self.size as i64);
        let width = operand::address_mask(self.instruction, self.cpu);
        let access = Access {
            write,
            ..Access::read(self.cpu)
        };
        let segment = segment_name(self.instruction, 0);
        let linear = operand::in_segment(self.cpu, segment, at & width, self.size, access)?;
        let place = Place::find(self.cpu, self.space, linear, self.size, access)?;
        let old = place.load(self.space);
        if write {
            place.store(self.space, change(old, bit));
        }
        self.carry(old & bit != 0);
        Ok(Some(()))
    }

    fn carry(&mut self, set: bool) {
        self.cpu.rflags &= !CARRY;
        if set {
            self.cpu.rflags |= CARRY;
        }
    }

    /// BSF and BSR. Of 0 the destination is left as it is.
    fn scan(&mut self, find: fn(u64) -> u32) -> Result<Option<()>, Stop> {
        let Some(value) = self.read(1)? else {
            return Ok(None);
        };
        if value == 0 {
            self.cpu.rflags |= alu::ZERO;
            return Ok(Some(()));
        }
        self.cpu.rflags &= !alu::ZERO;
        Ok(self.write(None, find(value).into()))
    }

    fn set_condition(&mut self) -> Result<Option<()>, Stop> {
        let place = self.place(0, true)?;
        let holds = alu::holds(self.instruction.condition_code(), self.cpu.rflags);
        Ok(self.write(place, holds.into()))
    }

    fn conditional_move(&mut self) -> Result<Option<()>, Stop> {
        let condition = self.instruction.condition_code();
        let (Some(new), Some(old)) = (self.read(1)?, self.read(0)?) else {
            return Ok(None);
        };
        let taken = alu::holds(condition, self.cpu.rflags);
        Ok(self.write(None, if taken { new } else { old }))
    }
}

/// `None`: not one that is known here.
fn plain(
    cpu: &mut CpuState,
    space: &mut impl Space,
    instruction: &Instruction,
) -> Result<Option<()>, Stop> {
    use Mnemonic::*;
    let size = instruction.memory_size().size();
    let mnemonic = instruction.mnemonic();
    let mut work = Work {
        cpu,
        space,
        instruction,
        size,
    };
    if matches!(mnemonic, Cmpxchg8b | Cmpxchg16b) {
        return work.compare_exchange_pair();
    }
    if !matches!(size, 1 | 2 | 4 | 8) {
        return Ok(None);
    }
    let operation = match mnemonic {
        Add => Operation::Add,
        Adc => Operation::AddCarry,
        Sub | Cmp => Operation::Sub,
        Sbb => Operation::SubBorrow,
        And | Test => Operation::And,
        Or => Operation::Or,
        Xor => Operation::Xor,
        Mov | Movnti => return work.transfer(|value| value),
        Movbe => return work.transfer(|value| value.swap_bytes() >> (64 - 8 * size)),
        Movzx => return work.transfer(|value| value),
        Movsx | Movsxd => return work.transfer(|value| sign_extend(value, size)),
        Xlatb => {
            let value = work.read(0)?;
            return Ok(
                value.and_then(|value| set_register(work.cpu, iced_x86::Register::AL, value))
            );
        }
        Xchg => return work.exchange(),
        Xadd => return work.exchange_add(),
        Cmpxchg => return work.compare_exchange(),
        Bt => return work.bit(false, |word, _| word),
        Bts => return work.bit(true, |word, bit| word | bit),
        Btr => return work.bit(true, |word, bit| word & !bit),
        Btc => return work.bit(true, |word, bit| word ^ bit),
        Bsf => return work.scan(u64::trailing_zeros),
        Bsr => return work.scan(u64::ilog2),
        Inc | Dec => {
            let operation = if mnemonic == Inc {
                Operation::Add
            } else {
                Operation::Sub
            };
            return work.modify(|value, rflags| {
                let (result, new) = compute(operation, value, 1, size, rflags);
                (result, new & !CARRY | rflags & CARRY)
            });
        }
        Neg => {
            return work.modify(|value, rflags| compute(Operation::Sub, 0, value, size, rflags));
        }
        Not => return work.modify(|value, rflags| (!value, rflags)),
        Rol | Ror | Rcl | Rcr | Shl | Sal | Shr | Sar => {
            let Some(count) = work.read(1)? else {
                return Ok(None);
            };
            return work.modify(|value, rflags| alu::shift(mnemonic, value, count, size, rflags));
        }
        Shld | Shrd => {
            let (Some(fill), Some(count)) = (work.read(1)?, work.read(2)?) else {
                return Ok(None);
            };
            let left = mnemonic == Shld;
            return work
                .modify(|value, rflags| alu::shift_double(left, value, fill, count, size, rflags));
        }
        Mul | Imul | Div | Idiv => {
            let Some(value) = work.read(instruction.op_count().min(2) - 1)? else {
                return Ok(None);
            };
            return divide::execute(work.cpu, instruction, value, size);
        }
        _ if instruction.condition_code() != ConditionCode::None => {
            return match instruction.op_count() {
                1 => work.set_condition(),
                _ => work.conditional_move(),
            };
        }
        _ => return Ok(None),
    };
    let Some(right) = work.read(1)? else {
        return Ok(None);
    };
    if matches!(mnemonic, Cmp | Test) {
        let Some(left) = work.read(0)? else {
            return Ok(None);
        };
        work.cpu.rflags = compute(operation, left, right, size, work.cpu.rflags).1;
        return Ok(Some(()));
    }
    work.modify(|left, rflags| compute(operation, left, right, size, rflags))
}
