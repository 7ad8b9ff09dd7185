// SPDX-License-Identifier: GPL-2.0

//! Registers of the processor that this runs on.

use core::arch::{asm, x86_64::CpuidResult};

/// CPUID.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    // SAFETY: All processors of this kernel have it.
    unsafe { core::arch::x86_64::__cpuid_count(leaf, subleaf) }
}

/// CR4.
pub(crate) fn cr4() -> u64 {
    let value: u64;
    // SAFETY: Only reads, in ring 0.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Whether CPUID offers VMX.
pub(crate) fn has_vmx() -> bool {
    cpuid(1, 0).ecx & 1 << 5 != 0
}

/// IA32_ARCH_CAPABILITIES. The caller has seen in CPUID that it exists.
pub(crate) fn arch_capabilities() -> u64 {
    // SAFETY: It exists; reading it has no effect.
    unsafe { rdmsr(0x10a) }
}

/// # Safety
///
/// The MSR exists, and to read it has no effect.
unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: The caller says so.
    unsafe {
        asm!(
            "rdmsr",
            in("ecx") msr,
            out("eax") low,
            out("edx") high,
            options(nomem, nostack, preserves_flags),
        )
    };
    u64::from(high) << 32 | u64::from(low)
}

/// MSRs that exist with VMX (SDM vol. 3, appendix A).
#[repr(u32)]
#[derive(Clone, Copy)]
pub(crate) enum VmxMsr {
    FeatureControl = 0x3a,
    PinbasedCtls = 0x481,
    ProcbasedCtls = 0x482,
    ProcbasedCtls2 = 0x48b,
    /// Exists if secondary controls offer EPT or VPID.
    EptVpidCap = 0x48c,
}

/// Reads an MSR of VMX, 0 if the processor does not have it.
pub(crate) fn vmx_msr(msr: VmxMsr) -> u64 {
    let exists = match msr {
        VmxMsr::FeatureControl | VmxMsr::PinbasedCtls | VmxMsr::ProcbasedCtls => has_vmx(),
        VmxMsr::ProcbasedCtls2 => vmx_msr(VmxMsr::ProcbasedCtls) >> 63 & 1 != 0,
        VmxMsr::EptVpidCap => vmx_msr(VmxMsr::ProcbasedCtls2) >> 32 & (1 << 1 | 1 << 5) != 0,
    };
    if !exists {
        return 0;
    }
    // SAFETY: It exists; reading these has no effect.
    unsafe { rdmsr(msr as u32) }
}
