// SPDX-License-Identifier: GPL-2.0

//! Whether this machine can run hvcore, and in words that somebody can act on why not.
//!
//! | what | error |
//! |---|---|
//! | the processor or an outer hypervisor has no VMX, or lacks a part of it | ENODEV |
//! | the firmware switched VMX off | EPERM |
//! | somebody else uses VMX: KVM, or another hvmod | EBUSY |
//!
//! (EEXIST would say more of the last, but it is reserved: modules that are loaded already get it,
//! and Linux makes it EBUSY when a module's init returns it.)

use crate::{
    hvabi::{call::Missing, CPUID_ROOT_BASE, CPUID_SIGNATURE, MAX_LPS},
    sys::{
        cpu,
        processor::{cpuid, cr4, has_vmx, vmx_msr, VmxMsr},
    },
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

const CR4_VMXE: u64 = 1 << 13;
const CR4_FRED: u64 = 1 << 32;

/// Whether this processor runs as part of the root partition. Also an exit to hvcore, if so.
pub(crate) fn in_root() -> bool {
    // On processors that have no such leaf the answer is that of some other leaf.
    let leaf = cpuid(CPUID_ROOT_BASE, 0);
    [leaf.ebx, leaf.ecx, leaf.edx] == CPUID_SIGNATURE
}

/// Refuses, with the reason in the kernel log, where launching cannot work.
///
/// The caller holds the hotplug lock, or it does not matter that CPUs come and go.
pub(crate) fn check() -> Result {
    if in_root() {
        pr_err!("hvcore runs beneath this kernel already: unload that hvmod first (rmmod hvmod)\n");
        return Err(EBUSY);
    }
    if !has_vmx() {
        return Err(no_vmx());
    }
    let feature_control = vmx_msr(VmxMsr::FeatureControl);
    // Locked without VMX outside SMX. If it is not locked hvcore sets both.
    if feature_control & 0b101 == 0b001 {
        pr_err!(
            "the firmware switched VMX off (IA32_FEATURE_CONTROL is {feature_control:#x}): enable \
             Intel virtualization (VT-x, VMX) in the firmware's setup, then switch off and on\n"
        );
        return Err(EPERM);
    }
    if cr4() & CR4_FRED != 0 {
        pr_err!("the kernel uses FRED, which is not supported: boot with fred=off\n");
        return Err(ENODEV);
    }
    capabilities()?;
    in_use()?;
    if let Some(cpu) = (MAX_LPS as u32..cpu::limit()).find(|&cpu| cpu::is_online(cpu)) {
        pr_err!(
            "hvmod serves {MAX_LPS} processors, and CPU {cpu} is online: boot with \
             nr_cpus={MAX_LPS}\n"
        );
        return Err(ENODEV);
    }
    Ok(())
}

/// Says why there is no VMX.
fn no_vmx() -> Error {
    let vendor = cpuid(0, 0);
    let intel = [vendor.ebx, vendor.edx, vendor.ecx]
        == [
            u32::from_le_bytes(*b"Genu"),
            u32::from_le_bytes(*b"ineI"),
            u32::from_le_bytes(*b"ntel"),
        ];
    if cpuid(1, 0).ecx & 1 << 31 != 0 {
        pr_err!(
            "this virtual machine has no VMX: enable nested virtualization for it on its host\n"
        );
    } else if intel {
        pr_err!(
            "this processor has no VMX, or the firmware hides it: look for VT-x in the firmware's \
             setup\n"
        );
    } else {
        pr_err!("hvmod needs an Intel processor with VMX, and this is another one\n");
    }
    ENODEV
}

/// 1 if the processor virtualizes APIC registers (SDM vol. 3, 25.6.2), which children need, and
/// Linux uses XSAVE, without which hvcore does not switch extended state. Found before the launch,
/// after which Linux can not read these MSRs.
static CHILDREN: Atomic<u32> = Atomic::new(0);

/// Whether VPs can run on this machine.
pub(crate) fn children() -> bool {
    CHILDREN.load(Relaxed) != 0
}

/// Checks the parts of VMX without which hvcore does not do. hvcore checks again, and more.
fn capabilities() -> Result {
    let secondary = vmx_msr(VmxMsr::ProcbasedCtls2) >> 32;
    let ept_vpid = vmx_msr(VmxMsr::EptVpidCap);
    let os_xsave = cpuid(1, 0).ecx & 1 << 27;
    let children = secondary >> 8 & 1 != 0 && os_xsave != 0;
    CHILDREN.store(u32::from(children), Relaxed);
    // SDM vol. 3, 25.6.2 and appendix A.10.
    let pin = vmx_msr(VmxMsr::PinbasedCtls) >> 32;
    let needed = [
        (pin, 6, "the preemption timer"),
        (secondary, 1, "EPT"),
        (secondary, 5, "VPID"),
        (secondary, 7, "unrestricted guest"),
        (ept_vpid, 6, "EPT of 4 levels"),
        (ept_vpid, 14, "write-back EPT tables"),
        (ept_vpid, 16, "EPT pages of 2 MiB"),
        (ept_vpid, 20, "INVEPT"),
        (ept_vpid, 32, "INVVPID"),
    ];
    let Some((_, _, what)) = needed.iter().find(|(word, bit, _)| word >> bit & 1 == 0) else {
        return Ok(());
    };
    let hint = if cpuid(1, 0).ecx & 1 << 31 != 0 {
        "the outer hypervisor does not offer it to this virtual machine"
    } else {
        "the processor is too old for hvmod"
    };
    pr_err!("VMX here is without {what}: {hint}\n");
    Err(ENODEV)
}

/// Checks that nobody uses VMX on any processor.
fn in_use() -> Result {
    let user = Atomic::<u32>::new(u32::MAX);
    cpu::run_on_all(|| {
        if cr4() & CR4_VMXE != 0 {
            user.store(cpu::current(), Relaxed);
        }
    });
    match user.load(Relaxed) {
        u32::MAX => Ok(()),
        cpu => {
            pr_err!(
                "VMX is in use on CPU {cpu}, probably by KVM: end its virtual machines and unload \
                 it (modprobe -r kvm_intel)\n"
            );
            Err(EBUSY)
        }
    }
}

/// What hvcore found missing, in words, and as an error.
pub(crate) fn missing(detail: u64) -> (&'static str, Error) {
    let is = |missing: Missing| detail == missing as u64;
    if is(Missing::Vmx) {
        ("it has no VMX", ENODEV)
    } else if is(Missing::LockedOff) {
        ("the firmware switched VMX off", EPERM)
    } else if is(Missing::InUse) {
        ("VMX is in use (KVM? modprobe -r kvm_intel)", EBUSY)
    } else if is(Missing::Ept) {
        ("it has no EPT, or lacks a part of it", ENODEV)
    } else if is(Missing::Unrestricted) {
        ("it has no unrestricted guest", ENODEV)
    } else if is(Missing::Vpid) {
        ("it has no VPID or INVVPID", ENODEV)
    } else if is(Missing::Controls) {
        ("it lacks a VMX control that is needed", ENODEV)
    } else if is(Missing::Feature) {
        (
            "a feature is on that hvcore cannot carry across (FRED?)",
            ENODEV,
        )
    } else if is(Missing::Memory) {
        ("the memory for hvcore was counted too small", ENOMEM)
    } else {
        ("hvcore did not say what is missing", ENODEV)
    }
}
