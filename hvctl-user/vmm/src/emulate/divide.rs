// SPDX-License-Identifier: GPL-2.0
//! Multiplication and division.

use iced_x86::{Instruction, Mnemonic, Register as Name};

use super::Stop;
use super::alu::{CARRY, OVERFLOW};
use super::operand::{immediate, register, set_register, sign_extend, truncate};
use crate::hypervisor::state::exception::DIVIDE;
use crate::hypervisor::{CpuState, Exception};

/// The registers of a double word: of bytes it is AX, and AH is the upper half.
fn halves(size: usize) -> Option<(Name, Name)> {
    match size {
        1 => Some((Name::AL, Name::AH)),
        2 => Some((Name::AX, Name::DX)),
        4 => Some((Name::EAX, Name::EDX)),
        8 => Some((Name::RAX, Name::RDX)),
        _ => None,
    }
}

fn signed(value: u64, size: usize) -> i128 {
    i128::from(sign_extend(value, size) as i64)
}

/// MUL, IMUL, DIV and IDIV by `value` of `size` bytes.
pub fn execute(
    cpu: &mut CpuState,
    instruction: &Instruction,
    value: u64,
    size: usize,
) -> Result<Option<()>, Stop> {
    let value = truncate(value, size);
    match instruction.mnemonic() {
        Mnemonic::Div | Mnemonic::Idiv => divide(cpu, instruction, value, size),
        _ => Ok(multiply(cpu, instruction, value, size)),
    }
}

fn multiply(cpu: &mut CpuState, instruction: &Instruction, value: u64, size: usize) -> Option<()> {
    let bits = size * 8;
    let (low, high) = halves(size)?;
    let count = instruction.op_count();
    let other = match count {
        1 => register(cpu, low)?,
        2 => register(cpu, instruction.op0_register())?,
        _ => immediate(instruction, 2)?,
    };
    let (product, spills) = if instruction.mnemonic() == Mnemonic::Mul {
        let product = u128::from(value) * u128::from(truncate(other, size));
        (product, product >> bits != 0)
    } else {
        let product = signed(value, size) * signed(other, size);
        (product as u128, product != signed(product as u64, size))
    };
    if count == 1 {
        set_register(cpu, low, product as u64)?;
        set_register(cpu, high, (product >> bits) as u64)?;
    } else {
        set_register(cpu, instruction.op0_register(), product as u64)?;
    }
    cpu.rflags &= !(CARRY | OVERFLOW);
    if spills {
        cpu.rflags |= CARRY | OVERFLOW;
    }
    Some(())
}

fn divide(
    cpu: &mut CpuState,
    instruction: &Instruction,
    value: u64,
    size: usize,
) -> Result<Option<()>, Stop> {
    let bits = size * 8;
    let error = Stop::Fault(Exception {
        vector: DIVIDE,
        error_code: None,
        parameter: 0,
    });
    let Some((low, high)) = halves(size) else {
        return Ok(None);
    };
    let (Some(lower), Some(upper)) = (register(cpu, low), register(cpu, high)) else {
        return Ok(None);
    };
    if value == 0 {
        return Err(error);
    }
    let dividend = u128::from(upper) << bits | u128::from(lower);
    let (quotient, rest) = if instruction.mnemonic() == Mnemonic::Div {
        let by = u128::from(value);
        let quotient = dividend / by;
        if quotient >> bits != 0 {
            return Err(error);
        }
        (quotient as u64, (dividend % by) as u64)
    } else {
        let unused = 128 - 2 * bits;
        let (dividend, by) = ((dividend << unused) as i128 >> unused, signed(value, size));
        let (Some(quotient), Some(rest)) = (dividend.checked_div(by), dividend.checked_rem(by))
        else {
            return Err(error);
        };
        if signed(quotient as u64, size) != quotient {
            return Err(error);
        }
        (quotient as u64, rest as u64)
    };
    Ok(set_register(cpu, low, quotient).and_then(|()| set_register(cpu, high, rest)))
}
