// SPDX-License-Identifier: GPL-2.0

//! What a switch between partitions has to do so that neither learns of the other by speculation:
//! selected from CPUID and IA32_ARCH_CAPABILITIES by the rules of Linux (`arch/x86/kernel/cpu`:
//! `common.c` says what a processor suffers from, `bugs.c` what helps).
//!
//! Linux has these rules for a switch between its own tasks and guests. Here the root's Linux is a
//! guest as well: both sides of a switch run in VMX non-root operation, where enhanced IBRS does
//! not tell them apart. So what Linux does between two guests is done between all partitions.
//!
//! This is pure: hvmod compiles it in and tells hvcore at launch, cargo tests it on the host.

#![cfg_attr(not(MODULE), no_std)]

#[cfg(MODULE)]
use crate::hvabi;
#[cfg(not(MODULE))]
extern crate hvabi;

use hvabi::boot::measures::{ALL, IBPB, L1D_FLUSH, RSB_FILL, VERW};

/// What is known of an Intel processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// EAX of CPUID leaf 1.
    pub signature: u32,
    /// EBX and EDX of CPUID leaf 7, subleaf 0.
    pub leaf7_ebx: u32,
    pub leaf7_edx: u32,
    /// IA32_ARCH_CAPABILITIES, 0 if there is none.
    pub capabilities: u64,
}

/// Bits of CPUID leaf 7: EBX, then EDX.
mod feature {
    pub const RTM: u32 = 1 << 11;

    pub const MD_CLEAR: u32 = 1 << 10;
    /// IBRS and IBPB.
    pub const SPEC_CTRL: u32 = 1 << 26;
    pub const L1D_FLUSH: u32 = 1 << 28;
    pub const ARCH_CAPABILITIES: u32 = 1 << 29;
}

/// Bits of IA32_ARCH_CAPABILITIES (SDM vol. 4, table 2-2).
mod capability {
    pub const RDCL_NO: u64 = 1 << 0;
    pub const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
    pub const MDS_NO: u64 = 1 << 5;
    pub const TSX_CTRL: u64 = 1 << 7;
    pub const TAA_NO: u64 = 1 << 8;
    /// SBDR_SSDP_NO, FBSDP_NO and PSDP_NO: no stale data of MMIO.
    pub const NO_STALE_DATA: u64 = 1 << 13 | 1 << 14 | 1 << 15;
    pub const FB_CLEAR: u64 = 1 << 17;
    pub const RFDS_NO: u64 = 1 << 27;
    pub const RFDS_CLEAR: u64 = 1 << 28;
}

/// Measures for a processor, as bits of [`measures`](hvabi::boot::measures).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Those that it can take.
    pub taken: u64,
    /// Those that it needs and cannot take: its microcode is too old, or a hypervisor below hides
    /// them.
    pub lacking: u64,
}

/// Models of family 6 that L1TF does not affect, though they do not say so: Silvermont, Airmont,
/// Goldmont, Goldmont Plus, and Xeon Phi.
const NO_L1TF: [u32; 11] = [
    0x37, 0x4a, 0x4c, 0x4d, 0x57, 0x5a, 0x5c, 0x5f, 0x75, 0x7a, 0x85,
];

/// Of these, the ones that MDS does not affect: Goldmont and Goldmont Plus.
const NO_MDS: [u32; 3] = [0x5c, 0x5f, 0x7a];

impl Cpu {
    /// Whether it has IA32_ARCH_CAPABILITIES, by EDX of leaf 7.
    pub const fn has_capabilities(leaf7_edx: u32) -> bool {
        leaf7_edx & feature::ARCH_CAPABILITIES != 0
    }

    /// The model, if the family is 6 (SDM vol. 2, CPUID).
    fn model(&self) -> Option<u32> {
        let bits = |from: u32, mask: u32| self.signature >> from & mask;
        (bits(8, 0xf) == 6).then(|| bits(16, 0xf) << 4 | bits(4, 0xf))
    }

    fn is_one_of(&self, models: &[u32]) -> bool {
        self.model().is_some_and(|model| models.contains(&model))
    }

    fn says(&self, capability: u64) -> bool {
        self.capabilities & capability == capability
    }

    fn suffers_l1tf(&self) -> bool {
        !self.says(capability::RDCL_NO) && !self.is_one_of(&NO_L1TF)
    }

    fn suffers_mds(&self) -> bool {
        !self.says(capability::MDS_NO) && !self.is_one_of(&NO_MDS)
    }

    /// TSX can be there, and switched off just now.
    fn suffers_taa(&self) -> bool {
        let tsx = self.leaf7_ebx & feature::RTM != 0 || self.says(capability::TSX_CTRL);
        tsx && !self.says(capability::TAA_NO)
    }

    /// Whether VERW clears something that leaks. That it clears fill buffers or register files is
    /// only said of processors that need it; the older ones, which need MD_CLEAR, do not say more.
    fn needs_verw(&self) -> bool {
        self.suffers_mds()
            || self.suffers_taa()
            || self.says(capability::FB_CLEAR) && !self.says(capability::NO_STALE_DATA)
            || self.says(capability::RFDS_CLEAR) && !self.says(capability::RFDS_NO)
    }

    /// Measures that the processor can take.
    pub fn can(&self) -> u64 {
        let verw = self.leaf7_edx & feature::MD_CLEAR != 0
            || self.says(capability::FB_CLEAR)
            || self.says(capability::RFDS_CLEAR);
        let mut can = RSB_FILL;
        for (there, measure) in [
            (self.leaf7_edx & feature::SPEC_CTRL != 0, IBPB),
            (verw, VERW),
            (self.leaf7_edx & feature::L1D_FLUSH != 0, L1D_FLUSH),
        ] {
            if there {
                can |= measure;
            }
        }
        can
    }

    /// Measures that the processor needs. No Intel processor with VMX is free of branch target
    /// injection, nor are its return predictions tagged by partition.
    pub fn needs(&self) -> u64 {
        let mut needs = IBPB | RSB_FILL;
        if self.needs_verw() {
            needs |= VERW;
        }
        // A processor in a virtual machine says "skip" if the hypervisor below flushes at its own
        // entries, which each of ours is.
        if self.suffers_l1tf() && !self.says(capability::SKIP_L1DFL_VMENTRY) {
            needs |= L1D_FLUSH;
        }
        needs
    }

    /// What to do if nobody says otherwise.
    pub fn choose(&self) -> Choice {
        let (needs, can) = (self.needs(), self.can());
        Choice {
            taken: needs & can,
            lacking: needs & !can,
        }
    }

    /// What to do if somebody wants `wanted` of it: `None` if there is no such measure, or the
    /// processor cannot take it.
    pub fn choose_as(&self, wanted: u64) -> Option<Choice> {
        let allowed = wanted & !(self.can() & ALL) == 0;
        allowed.then(|| Choice {
            taken: wanted,
            lacking: self.needs() & !wanted,
        })
    }
}

#[cfg(test)]
mod tests;
