// SPDX-License-Identifier: GPL-2.0
//! The CPUID leaves that answer in the root partition, on the LP that asks.

use std::arch::x86_64::{__cpuid, CpuidResult};

/// What the base leaf said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// This LP is in the root partition.
    Root,
    /// It is not, or there is no hvmod.
    Other,
}

fn cpuid(leaf: u32) -> CpuidResult {
    // Newer compilers know that this is safe where there is a 64-bit processor.
    #[allow(unused_unsafe)]
    // SAFETY: every x86-64 processor has CPUID, and it changes nothing but its results.
    unsafe {
        __cpuid(leaf)
    }
}

fn signature(result: CpuidResult) -> Signature {
    if [result.ebx, result.ecx, result.edx] == hvabi::CPUID_SIGNATURE {
        Signature::Root
    } else {
        Signature::Other
    }
}

/// Asks the LP that runs this thread.
pub fn signature_here() -> Signature {
    signature(cpuid(hvabi::CPUID_ROOT_BASE))
}

/// The LP's own index, as hvcore numbers it. Only of meaning in the root partition.
pub fn lp_here() -> u32 {
    cpuid(hvabi::CPUID_ROOT_LP).eax
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_counts() {
        let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
        let mut answer = CpuidResult {
            eax: 0,
            ebx: word(b"hvmo"),
            ecx: word(b"d ro"),
            edx: word(b"ot  "),
        };
        assert_eq!(signature(answer), Signature::Root);
        answer.edx = 0;
        assert_eq!(signature(answer), Signature::Other);
    }
}
