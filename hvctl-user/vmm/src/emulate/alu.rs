// SPDX-License-Identifier: GPL-2.0
//! Arithmetic and its flags.

use iced_x86::{ConditionCode, Mnemonic};

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

fn with(rflags: u64, flags: &[(u64, bool)]) -> u64 {
    flags.iter().fold(
        rflags,
        |rflags, &(flag, set)| {
            if set { rflags | flag } else { rflags & !flag }
        },
    )
}

/// Sign, zero and parity by a result.
fn by_result(rflags: u64, result: u64, size: usize) -> u64 {
    with(
        rflags,
        &[
            (PARITY, (result as u8).count_ones() % 2 == 0),
            (ZERO, result == 0),
            (SIGN, result >> (size * 8 - 1) & 1 != 0),
        ],
    )
}

/// Shifts and rotations by `count`, as the mnemonic says. Flags that are undefined are as after a
/// shift by 1.
pub fn shift(mnemonic: Mnemonic, value: u64, count: u64, size: usize, rflags: u64) -> (u64, u64) {
    use Mnemonic::*;
    let bits = size as u64 * 8;
    let count = count & if size == 8 { 63 } else { 31 };
    let top = |value: u64| value >> (bits - 1) & 1 != 0;
    let (mut result, mut carry) = (value, rflags & CARRY != 0);
    // At most 63 steps, each as the manual describes it.
    for _ in 0..count {
        let (high, low) = (top(result), result & 1 != 0);
        let enter = |bit: bool| u64::from(bit) << (bits - 1);
        (result, carry) = match mnemonic {
            Rol => (result << 1 | u64::from(high), high),
            Ror => (result >> 1 | enter(low), low),
            Rcl => (result << 1 | u64::from(carry), high),
            Rcr => (result >> 1 | enter(carry), low),
            Shr => (result >> 1, low),
            Sar => (result >> 1 | enter(high), low),
            _ => (result << 1, high),
        };
        result = truncate(result, size);
    }
    if count == 0 {
        return (value, rflags);
    }
    let overflow = match mnemonic {
        Rol | Rcl | Shl | Sal => top(result) != carry,
        Ror | Rcr => top(result) != top(result << 1),
        Shr => top(value),
        _ => false,
    };
    let rflags = with(rflags, &[(CARRY, carry), (OVERFLOW, overflow)]);
    match mnemonic {
        Rol | Ror | Rcl | Rcr => (result, rflags),
        _ => (result, by_result(rflags, result, size)),
    }
}

/// SHLD (`left`) and SHRD.
pub fn shift_double(
    left: bool,
    value: u64,
    fill: u64,
    count: u64,
    size: usize,
    rflags: u64,
) -> (u64, u64) {
    let bits = size as u32 * 8;
    let count = (count & if size == 8 { 63 } else { 31 }) as u32;
    // By more than there are bits the result is undefined: nothing happens.
    if count == 0 || count > bits {
        return (value, rflags);
    }
    let (value, fill) = (truncate(value, size), truncate(fill, size));
    let (result, carry) = if left {
        let both = u128::from(value) << bits | u128::from(fill);
        ((both << count >> bits) as u64, value >> (bits - count) & 1)
    } else {
        let both = u128::from(fill) << bits | u128::from(value);
        ((both >> count) as u64, value >> (count - 1) & 1)
    };
    let result = truncate(result, size);
    let overflow = (result ^ value) >> (bits - 1) & 1 != 0;
    let rflags = with(rflags, &[(CARRY, carry != 0), (OVERFLOW, overflow)]);
    (result, by_result(rflags, result, size))
}

/// Whether RFLAGS fulfil a condition.
pub fn holds(condition: ConditionCode, rflags: u64) -> bool {
    use ConditionCode as Code;
    let is = |flag: u64| rflags & flag != 0;
    let less = is(SIGN) != is(OVERFLOW);
    match condition {
        Code::o => is(OVERFLOW),
        Code::no => !is(OVERFLOW),
        Code::b => is(CARRY),
        Code::ae => !is(CARRY),
        Code::e => is(ZERO),
        Code::ne => !is(ZERO),
        Code::be => is(CARRY) || is(ZERO),
        Code::a => !is(CARRY) && !is(ZERO),
        Code::s => is(SIGN),
        Code::ns => !is(SIGN),
        Code::p => is(PARITY),
        Code::np => !is(PARITY),
        Code::l => less,
        Code::ge => !less,
        Code::le => less || is(ZERO),
        Code::g => !less && !is(ZERO),
        Code::None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    macro_rules! host {
        ($name:literal, $value:ident, $count:ident, $flags:ident) => {{
            let (mut value, mut flags) = ($value, $flags);
            // SAFETY: touches RCX, two registers, the flags, and the stack by a push at a time.
            unsafe {
                std::arch::asm!(
                    "push {1}", "popfq", concat!($name, " {0:e}, cl"), "pushfq", "pop {1}",
                    inout(reg) value, inout(reg) flags, in("rcx") $count,
                )
            }
            (u64::from(value), flags)
        }};
    }

    proptest! {
        #[test]
        fn the_processor_shifts_alike(value: u32, count in 0u64..64, carry: bool, which in 0usize..7) {
            let flags = 2 | u64::from(carry);
            let (mnemonic, host) = match which {
                0 => (Mnemonic::Rol, host!("rol", value, count, flags)),
                1 => (Mnemonic::Ror, host!("ror", value, count, flags)),
                2 => (Mnemonic::Rcl, host!("rcl", value, count, flags)),
                3 => (Mnemonic::Rcr, host!("rcr", value, count, flags)),
                4 => (Mnemonic::Shl, host!("shl", value, count, flags)),
                5 => (Mnemonic::Shr, host!("shr", value, count, flags)),
                _ => (Mnemonic::Sar, host!("sar", value, count, flags)),
            };
            let (result, rflags) = shift(mnemonic, value.into(), count, 4, flags);
            // Overflow is defined for 1 alone, and ADJUST never.
            let defined = ALL & !ADJUST & if count & 31 > 1 { !OVERFLOW } else { u64::MAX };
            let mine = (result, rflags & defined);
            prop_assert_eq!(mine, (host.0, host.1 & defined), "{:?} {:#x} {}", mnemonic, value, count);
        }

        #[test]
        fn the_processor_shifts_two_alike(value: u32, fill: u32, count in 0u64..32, left: bool) {
            let mut host = value;
            // SAFETY: touches RCX, two registers and the flags.
            unsafe {
                if left {
                    std::arch::asm!("shld {0:e}, {1:e}, cl", inout(reg) host, in(reg) fill, in("rcx") count)
                } else {
                    std::arch::asm!("shrd {0:e}, {1:e}, cl", inout(reg) host, in(reg) fill, in("rcx") count)
                }
            }
            let (result, _) = shift_double(left, value.into(), fill.into(), count, 4, 2);
            prop_assert_eq!(result, u64::from(host));
        }
    }

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
