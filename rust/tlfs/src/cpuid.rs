// SPDX-License-Identifier: GPL-2.0

//! What a VMM has CPUID say: HVCALL_REGISTER_INTERCEPT_RESULT.

use super::hvcall::InputInterceptResult;
use super::interface;
use super::processor::{Cpuid, EAX, EBX, ECX, EDX};
use super::status::{HvResult, HvStatus};

/// Results that a VP keeps at most: some 100 leaves and subleaves are in use.
pub const MAX_RESULTS: usize = 256;

/// A result for one leaf, or one subleaf of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuidResult {
    pub leaf: u32,
    /// `None`: all of them.
    pub subleaf: Option<u32>,
    pub value: Cpuid,
    /// Bits of `value` that take the place of the hypervisor's.
    pub mask: Cpuid,
}

impl CpuidResult {
    /// From the input of the hypercall, whose intercept type is CPUID.
    pub fn from_input(input: &InputInterceptResult) -> HvResult<CpuidResult> {
        if input.subleaf_specific > 1 || input.always_override > 1 || input.padding != 0 {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        Ok(CpuidResult {
            leaf: input.eax,
            subleaf: (input.subleaf_specific != 0).then_some(input.ecx),
            value: core::array::from_fn(|register| input.result[2 * register]),
            mask: core::array::from_fn(|register| input.result[2 * register + 1]),
        })
    }

    /// Whether the two are for the same question.
    pub fn replaces(&self, other: &CpuidResult) -> bool {
        self.leaf == other.leaf && self.subleaf == other.subleaf
    }

    fn is_for(&self, leaf: u32, subleaf: u32) -> bool {
        self.leaf == leaf && self.subleaf.is_none_or(|own| own == subleaf)
    }

    /// Leaves to the hypervisor what only the VP's state can tell.
    ///
    /// The VMM's answer would stay what it was when it was registered: OSXSAVE and OSPKE follow
    /// CR4, the sizes of leaf 0xD follow XCR0.
    pub fn yield_dynamic(&mut self) {
        match (self.leaf, self.subleaf) {
            (1, _) => self.mask[ECX] &= !OSXSAVE,
            (7, None | Some(0)) => self.mask[ECX] &= !OSPKE,
            (0xd, None | Some(0 | 1)) => self.mask[EBX] = 0,
            _ => {}
        }
    }

    /// Leaves to the partition's synthetic features whether there is a hypervisor: QEMU has its word
    /// on that from CPUID of the root partition, which shows none.
    pub fn yield_presence(&mut self, features: u64) {
        if self.leaf == 1 && interface::offered(features) != 0 {
            self.mask[ECX] &= !HYPERVISOR;
        }
    }

    /// Takes back what the hypervisor does not virtualize: a VMM can hide a feature, but a guest
    /// that believes in one that is not `offered` would get #UD or #GP for it.
    pub fn limit(&mut self, offered: &Cpuid) {
        let subleaf = self.subleaf.unwrap_or(0);
        let limits: &[(usize, u32)] = match (self.leaf, subleaf) {
            // Free are statements of the VMM that need nothing of the processor.
            (1, _) => &[(ECX, HYPERVISOR), (EDX, HTT)],
            (7, 0) => &[(EBX, 0), (ECX, 0), (EDX, 0)],
            (7, _) => &[(EAX, 0), (EBX, 0), (ECX, 0), (EDX, 0)],
            (0xd, 0) => &[(EAX, 0), (EDX, 0)],
            (0xd, 1) => &[(EAX, 0), (ECX, 0), (EDX, 0)],
            // A part of the state that is not offered, and one that lies elsewhere.
            (0xd, _) if offered[EAX] == 0 => &[(EAX, 0), (EBX, 0), (ECX, 0)],
            (0x8000_0001, _) => &[(ECX, 0), (EDX, LEGACY_EDX)],
            _ => &[],
        };
        for &(register, free) in limits {
            self.value[register] &= offered[register] | free;
        }
    }

    /// True if nothing of the hypervisor's answer is left.
    pub fn is_whole(&self) -> bool {
        self.mask == [u32::MAX; 4]
    }

    /// The answer, if the hypervisor's is `default`.
    pub fn apply(&self, default: &Cpuid) -> Cpuid {
        core::array::from_fn(|register| {
            default[register] & !self.mask[register] | self.value[register] & self.mask[register]
        })
    }
}

const OSXSAVE: u32 = 1 << 27;
const OSPKE: u32 = 1 << 4;
const HYPERVISOR: u32 = interface::CPUID_PRESENT;
const HTT: u32 = 1 << 28;
/// Bits of leaf 0x80000001 EDX that repeat leaf 1 EDX on some processors.
const LEGACY_EDX: u32 = 0x0183_f3ff;

/// The result for a leaf and subleaf: one for the subleaf comes before one for all.
pub fn find(results: &[CpuidResult], leaf: u32, subleaf: u32) -> Option<&CpuidResult> {
    let matching = |result: &&CpuidResult| result.is_for(leaf, subleaf);
    results
        .iter()
        .filter(matching)
        .max_by_key(|result| result.subleaf.is_some())
}
