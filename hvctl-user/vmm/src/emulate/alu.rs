// SPDX-License-Identifier: GPL-2.0
//! Arithmetic and its flags.

use super::operand::truncate;

pub const CARRY: u64 = 1 << 0;
pub const PARITY: u64 = 1 << 2;
pub const ADJUST: u64 = 1 << 4;
pub const ZERO: u64 = 1 << 6;
pub const SIGN: u64 = 1 << 7;
pub const OVERFLOW: u64 = 1 << 11;
const ALL: u64 = CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW;

/// The two-operand operations that can have a device in memory as an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Add,
    AddCarry,
    Sub,
    SubBorrow,
    And,
    Or,
    Xor,
}

/// The result of `left` operation `right` on `size` bytes, and RFLAGS after it.
pub fn compute(
    operation: Operation,
    left: u64,
    right: u64,
    size: usize,
    rflags: u64,
) -> (u64, u64) {
    let (left, right) = (truncate(left, size), truncate(right, size));
    let carry_in = match operation {
        Operation::AddCarry | Operation::SubBorrow => rflags & CARRY,
        _ => 0,
    };
    let sign = 1u64 << (size * 8 - 1);
    let wide = |value: u64| u128::from(value);
    let (result, carry, overflow, adjust) = match operation {
        Operation::Add | Operation::AddCarry => {
            let sum = wide(left) + wide(right) + wide(carry_in);
            let result = truncate(sum as u64, size);
            let overflow = (left ^ result) & (right ^ result) & sign != 0;
            (
                result,
                sum >> (size * 8) != 0,
                overflow,
                (left ^ right ^ result) & 0x10 != 0,
            )
        }
        Operation::Sub | Operation::SubBorrow => {
            let result = truncate(left.wrapping_sub(right).wrapping_sub(carry_in), size);
            let overflow = (left ^ right) & (left ^ result) & sign != 0;
            let borrow = wide(left) < wide(right) + wide(carry_in);
            (
                result,
                borrow,
                overflow,
                (left ^ right ^ result) & 0x10 != 0,
            )
        }
        Operation::And => (left & right, false, false, false),
        Operation::Or => (left | right, false, false, false),
        Operation::Xor => (left ^ right, false, false, false),
    };
    let mut flags = rflags & !ALL;
    for (set, flag) in [
        (carry, CARRY),
        ((result as u8).count_ones() % 2 == 0, PARITY),
        (adjust, ADJUST),
        (result == 0, ZERO),
        (result & sign != 0, SIGN),
        (overflow, OVERFLOW),
    ] {
        if set {
            flags |= flag;
        }
    }
    (result, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The host's own opinion of the flags.
    fn on_the_host(operation: Operation, left: u32, right: u32) -> u64 {
        let flags: u64;
        macro_rules! run {
            ($name:literal) => {
                // SAFETY: touches two registers, the flags, and the stack by one push.
                unsafe {
                    std::arch::asm!(
                        concat!($name, " {0:e}, {1:e}"), "pushfq", "pop {2}",
                        inout(reg) left => _, in(reg) right, out(reg) flags,
                    )
                }
            };
        }
        match operation {
            Operation::Add => run!("add"),
            Operation::Sub => run!("sub"),
            Operation::And => run!("and"),
            Operation::Or => run!("or"),
            Operation::Xor => run!("xor"),
            Operation::AddCarry | Operation::SubBorrow => unreachable!(),
        }
        flags
    }

    proptest! {
        #[test]
        fn the_processor_agrees(left: u32, right: u32, which in 0usize..5) {
            let operation = [
                Operation::Add, Operation::Sub, Operation::And, Operation::Or, Operation::Xor,
            ][which];
            let (_, flags) = compute(operation, left.into(), right.into(), 4, 0);
            // The adjust flag is undefined after the logical operations.
            let defined = if which < 2 { ALL } else { ALL & !ADJUST };
            prop_assert_eq!(flags & defined, on_the_host(operation, left, right) & defined);
        }

        #[test]
        fn carry_goes_in_and_out(left: u16, right: u16, carry: bool) {
            let (sum, flags) =
                compute(Operation::AddCarry, left.into(), right.into(), 2, carry.into());
            let wide = u32::from(left) + u32::from(right) + u32::from(carry);
            prop_assert_eq!((sum, flags & CARRY), (u64::from(wide as u16), u64::from(wide >> 16)));
            let (back, _) = compute(Operation::SubBorrow, sum, right.into(), 2, carry.into());
            prop_assert_eq!(back, u64::from(left));
        }
    }
}
