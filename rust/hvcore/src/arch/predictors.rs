// SPDX-License-Identifier: GPL-2.0

//! Instructions that make the processor forget, other than by an MSR.

use core::arch::asm;

/// VERW of a selector, for what microcode added to it: that is promised of an operand in memory
/// alone.
pub fn verw(selector: u16) {
    // SAFETY: it looks a descriptor up, and changes only ZF; what it clears cannot be observed.
    unsafe { asm!("verw word ptr [{}]", in(reg) &selector, options(nostack, readonly)) };
}

/// Makes 32 calls that do not return: so many returns of whoever runs next are not predicted by
/// what ran before. Speculation that follows one stops at an INT3.
pub fn fill_return_stack() {
    // SAFETY: what the calls put on the stack is taken off again; its end is further away.
    unsafe { asm!(".rept 32", "call 2f", "int3", "2:", ".endr", "add rsp, 256", "lfence") };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither needs ring 0, and neither may change anything that is seen.
    #[test]
    fn what_is_done_against_speculation_leaves_no_trace() {
        let kept: [u64; 64] = core::array::from_fn(|n| n as u64 * 0x0101_0101_0101);
        let before = std::hint::black_box(kept);
        for _ in 0..1000 {
            fill_return_stack();
            // No selector of a segment that can be written: VERW says so and goes on.
            verw(0);
            verw(crate::arch::tables::DATA);
        }
        assert_eq!(std::hint::black_box(before), kept);
    }
}
