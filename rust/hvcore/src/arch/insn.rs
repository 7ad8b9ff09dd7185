// SPDX-License-Identifier: GPL-2.0

//! One function for each privileged instruction that hvcore uses.
//!
//! These are safe functions where the instruction cannot break hvcore's memory; those that can
//! (CR3, CR4, descriptor tables) are used in this layer only and marked so.

use core::arch::asm;
use core::arch::x86_64::CpuidResult;

/// Executes CPUID.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    // SAFETY: every 64-bit processor has CPUID.
    #[allow(unused_unsafe)]
    let CpuidResult { eax, ebx, ecx, edx } =
        unsafe { core::arch::x86_64::__cpuid_count(leaf, subleaf) };
    [eax, ebx, ecx, edx]
}

/// Reads an MSR that is known to exist.
pub fn rdmsr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR changes no memory; one that does not exist faults, which is caught.
    unsafe {
        asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR. The caller knows that hvcore does not depend on its value.
pub fn wrmsr(index: u32, value: u64) {
    // SAFETY: what hvcore itself runs on (EFER, GS base) is set from constants of this layer; the
    // other MSRs it writes do not change how its own instructions work.
    unsafe {
        asm!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

/// Writes an MSR with a value that the processor may refuse: true if it took it. See [`wrmsr`].
pub fn wrmsr_checked(index: u32, value: u64) -> bool {
    extern "C" {
        fn hvcore_wrmsr_checked(index: u32, value: u64) -> u32;
    }
    // SAFETY: as in `wrmsr`; `fault` has it return 1 if the instruction is refused.
    unsafe { hvcore_wrmsr_checked(index, value) == 0 }
}

/// Reads the time-stamp counter.
pub fn rdtsc() -> u64 {
    // SAFETY: RDTSC has no effect but its result.
    unsafe { core::arch::x86_64::_rdtsc() }
}

macro_rules! read_register {
    ($read:ident, $name:literal) => {
        #[doc = concat!("Reads ", $name, ".")]
        #[inline(always)]
        pub fn $read() -> u64 {
            let value: u64;
            // SAFETY: reading a register has no side effect.
            unsafe {
                asm!(concat!("mov {}, ", $name), out(reg) value,
                    options(nomem, nostack, preserves_flags));
            }
            value
        }
    };
}

macro_rules! control_register {
    ($read:ident, $write:ident, $name:literal) => {
        read_register!($read, $name);

        #[doc = concat!("Writes ", $name, ".")]
        pub fn $write(value: u64) {
            // SAFETY: callers write values that keep hvcore's own address space and mode: CR0 and
            // CR4 from live values with bits added that VMX demands, CR2 and debug registers
            // freely (DR7 is 0x400 in hvcore, so no breakpoint fires).
            unsafe {
                asm!(concat!("mov ", $name, ", {}"), in(reg) value,
                    options(nostack, preserves_flags));
            }
        }
    };
}

control_register!(read_cr0, write_cr0, "cr0");
control_register!(read_cr2, write_cr2, "cr2");
control_register!(read_cr4, write_cr4, "cr4");
control_register!(read_dr0, write_dr0, "dr0");
control_register!(read_dr1, write_dr1, "dr1");
control_register!(read_dr2, write_dr2, "dr2");
control_register!(read_dr3, write_dr3, "dr3");
control_register!(read_dr6, write_dr6, "dr6");
control_register!(read_dr7, write_dr7, "dr7");

read_register!(read_rsp, "rsp");
read_register!(read_rbp, "rbp");

/// Reads XCR0. CR4.OSXSAVE is set.
pub fn xgetbv() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading XCR0 has no side effect.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes XCR0, with a value that was checked against CPUID leaf 0xD.
pub fn xsetbv(value: u64) {
    // SAFETY: hvcore uses no extended state, so no value of XCR0 changes how it runs.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nomem, nostack, preserves_flags));
    }
}

/// Reads PKRU. CR4.PKE is set.
pub fn rdpkru() -> u32 {
    let value: u32;
    // SAFETY: reading PKRU has no side effect.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") value, out("edx") _,
            options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes PKRU, which governs accesses to user pages; hvcore has none.
pub fn wrpkru(value: u32) {
    // SAFETY: no access of hvcore depends on it.
    unsafe {
        asm!("wrpkru", in("ecx") 0, in("eax") value, in("edx") 0,
            options(nomem, nostack, preserves_flags));
    }
}

/// Writes back and invalidates all caches of this LP.
pub fn wbinvd() {
    // SAFETY: no memory changes its contents.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) }
}

/// A byte to the port that emulators show on their console.
#[cfg(hvcore_debug_port)]
pub fn debug_byte(byte: u8) {
    // SAFETY: no device that Linux drives listens at this port.
    unsafe {
        asm!("out 0xe9, al", in("al") byte, options(nomem, nostack, preserves_flags));
    }
}

/// Stops this LP for good. Only INIT or NMI gets it on.
pub fn halt() {
    // SAFETY: interrupts are off; nothing of hvcore waits for this LP.
    unsafe { asm!("hlt", options(nomem, nostack, preserves_flags)) }
}

/// The VM-instruction error is in the VMCS, or there is no VMCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmxFailed;

macro_rules! vmx_instruction {
    ($(#[$doc:meta])* $name:ident, $template:literal) => {
        $(#[$doc])*
        pub fn $name(spa: u64) -> Result<(), VmxFailed> {
            let failed: u8;
            // SAFETY: the operand is in memory and names a page that hvcore owns for this use
            // (callers of this layer pass frames); the processor checks it and reports.
            unsafe {
                asm!(concat!($template, " qword ptr [{}]"), "setbe {}", in(reg) &spa,
                    out(reg_byte) failed, options(nostack));
            }
            if failed == 0 { Ok(()) } else { Err(VmxFailed) }
        }
    };
}

vmx_instruction!(
    /// Enters VMX operation with the given VMXON region. CR4.VMXE is set.
    vmxon, "vmxon"
);
vmx_instruction!(
    /// Writes a VMCS back to its page and makes it inactive and clear.
    vmclear, "vmclear"
);
vmx_instruction!(
    /// Makes a VMCS the current one.
    vmptrld, "vmptrld"
);

/// Jumps to an invalid instruction if the VMX instruction before failed: CF or ZF is set. Out of
/// line, since it never happens.
macro_rules! invalid_unless_done {
    () => {
        "jbe 77f\n.pushsection .text.unlikely, \"ax\"\n77: ud2\n.popsection"
    };
}

/// Reads a field of the current VMCS.
///
/// That there is no current VMCS, or no such field, is a bug of hvcore: the instruction after
/// is then an invalid one, which [`fault`](super::fault) reports with its address.
#[inline(always)]
pub fn vmread(field: u32) -> u64 {
    let value: u64;
    // SAFETY: VMREAD changes nothing but its destination.
    unsafe {
        asm!("vmread {}, {}", invalid_unless_done!(), out(reg) value, in(reg) u64::from(field),
            options(nomem, nostack));
    }
    value
}

/// Writes a field of the current VMCS. A failure is reported as by [`vmread`].
#[inline(always)]
pub fn vmwrite(field: u32, value: u64) {
    // SAFETY: the processor checks guest state and controls at VM entry; host state is written by
    // this layer only, with addresses that stay valid until unload.
    unsafe {
        asm!("vmwrite {}, {}", invalid_unless_done!(), in(reg) u64::from(field), in(reg) value,
            options(nomem, nostack));
    }
}

/// SPA of the current VMCS.
pub fn vmptrst() -> u64 {
    let mut spa = 0u64;
    // SAFETY: this LP is in VMX operation; writes the eight bytes of `spa`.
    unsafe { asm!("vmptrst qword ptr [{}]", in(reg) &mut spa, options(nostack)) }
    spa
}

/// Leaves VMX operation.
pub fn vmxoff() {
    // SAFETY: this LP is in VMX operation; callers only go on to restore the root's state.
    unsafe { asm!("vmxoff", options(nostack)) }
}

/// Flushes every translation that this LP derived from any EPT (SDM vol. 3, 29.4.3.1, type 2).
pub fn invept_all() {
    let descriptor = [0u64; 2];
    // SAFETY: only cached translations change.
    unsafe {
        asm!("invept {}, xmmword ptr [{}]", in(reg) 2u64, in(reg) &descriptor, options(nostack));
    }
}

/// Flushes every translation of every VPID but 0 on this LP (type 2).
pub fn invvpid_all() {
    let descriptor = [0u64; 2];
    // SAFETY: only cached translations change.
    unsafe {
        asm!("invvpid {}, xmmword ptr [{}]", in(reg) 2u64, in(reg) &descriptor, options(nostack));
    }
}

/// Flushes the translations of one VPID on this LP (type 1).
pub fn invvpid_one(vpid: u16) {
    let descriptor = [u64::from(vpid), 0];
    // SAFETY: only cached translations change.
    unsafe {
        asm!("invvpid {}, xmmword ptr [{}]", in(reg) 1u64, in(reg) &descriptor, options(nostack));
    }
}

/// Resets the machine as a processor does that can not even deliver a double fault.
pub fn reset() -> ! {
    super::tables::lidt(&hvabi::boot::TablePointer { limit: 0, base: 0 });
    // SAFETY: no handler is left, so the processor shuts down.
    unsafe { asm!("ud2", options(noreturn)) }
}
