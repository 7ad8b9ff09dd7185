// SPDX-License-Identifier: GPL-2.0
//! The verdict on each requirement, with the fix for what is missing.

use std::fmt;

use hvmod_ioctls::CAP_CHILDREN;
use serde::Serialize;

use super::facts::{Facts, Hvmod};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Fail,
    Unknown,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Requirement {
    pub what: &'static str,
    pub verdict: Verdict,
    /// hvmod cannot do without.
    pub required: bool,
    pub detail: String,
    /// What to do where it is not met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Requirement {
    fn new(what: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            what,
            verdict,
            required: true,
            detail: detail.into(),
            fix: None,
        }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self {
            fix: (self.verdict != Verdict::Ok).then(|| fix.into()),
            ..self
        }
    }

    fn optional(self) -> Self {
        Self {
            required: false,
            ..self
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.verdict, self.required) {
            (Verdict::Ok, _) => "ok",
            (Verdict::Fail, true) => "FAIL",
            (Verdict::Fail, false) => "no",
            (Verdict::Unknown, _) => "unknown",
        };
        writeln!(f, "{verdict:<8}{}: {}", self.what, self.detail)?;
        match &self.fix {
            Some(fix) => writeln!(f, "        fix: {fix}"),
            None => Ok(()),
        }
    }
}

fn known(fact: Option<bool>) -> Verdict {
    match fact {
        Some(true) => Verdict::Ok,
        Some(false) => Verdict::Fail,
        None => Verdict::Unknown,
    }
}

/// The report on a machine.
pub fn judge(facts: &Facts) -> Vec<Requirement> {
    match &facts.hvmod {
        Some(hvmod) => loaded(hvmod, facts.xsave),
        None => {
            let mut requirements = vec![vendor(facts), vmx(facts)];
            // Without VMX nobody can say what it could do.
            if facts.vmx {
                requirements.push(firmware(facts));
                requirements.extend(capabilities(facts));
                requirements.push(xsave(facts));
            }
            requirements.push(kvm(facts));
            requirements.push(rust(facts));
            requirements.push(module());
            requirements
        }
    }
}

/// With hvmod loaded the processor's VMX belongs to it, and CPUID hides it from us.
fn loaded(hvmod: &Hvmod, xsave: bool) -> Vec<Requirement> {
    let mut requirements = Vec::new();
    match &hvmod.device {
        Ok((caps, info)) => {
            let detail = format!(
                "hvmod is loaded: all requirements met ({} logical processors in the root \
                 partition, {} children)",
                info.lps, info.partitions
            );
            requirements.push(Requirement::new("hvmod", Verdict::Ok, detail));
            let children = caps.caps & CAP_CHILDREN != 0;
            let (detail, fix) = match (children, xsave) {
                (true, _) => ("partitions can run", ""),
                (false, false) => (NO_XSAVE, USE_XSAVE),
                (false, true) => (
                    "this processor does not virtualize APIC registers, so no partition can run",
                    "use a processor that has APICv",
                ),
            };
            requirements.push(Requirement::new("children", known(Some(children)), detail).fix(fix));
        }
        Err(cause) => requirements.push(
            Requirement::new(
                "hvmod",
                Verdict::Fail,
                format!(
                    "hvmod is loaded, but {} cannot be used: {cause}",
                    "/dev/hvmod"
                ),
            )
            .fix("be root, or load the module again and look at dmesg"),
        ),
    }
    let detail = if hvmod.root {
        "CPUID says that this processor is in the root partition"
    } else {
        "CPUID does not say that this processor is in the root partition"
    };
    requirements.push(
        Requirement::new("root partition", known(Some(hvmod.root)), detail)
            .fix("rmmod hvmod, insmod hvmod.ko, and look at dmesg"),
    );
    requirements
}

fn vendor(facts: &Facts) -> Requirement {
    let intel = facts.vendor == "GenuineIntel";
    Requirement::new(
        "Intel x86-64 processor",
        known(Some(intel)),
        facts.vendor.clone(),
    )
    .fix("use a machine with an Intel processor: hvmod knows VMX only")
}

fn vmx(facts: &Facts) -> Requirement {
    let fix = match &facts.hypervisor {
        Some(name) => format!(
            "this is a virtual machine (hypervisor: {name}): enable nested virtualization for it \
             (for QEMU with KVM: -cpu host, and kvm_intel with nested=1)"
        ),
        None => "enable VT-x in the firmware's setup, or use a processor that has it".into(),
    };
    let detail = if facts.vmx {
        "CPUID has it"
    } else {
        "CPUID does not have it"
    };
    Requirement::new("VMX", known(Some(facts.vmx)), detail).fix(fix)
}

fn firmware(facts: &Facts) -> Requirement {
    let (verdict, detail) = match (facts.feature_control, facts.kernel_shows_vmx) {
        (Some(control), _) if control.locked && !control.vmx => {
            (Verdict::Fail, "IA32_FEATURE_CONTROL is locked with VMX off")
        }
        (Some(control), _) if !control.locked => {
            (Verdict::Ok, "IA32_FEATURE_CONTROL is not locked")
        }
        (Some(_), _) => (Verdict::Ok, "IA32_FEATURE_CONTROL is locked with VMX on"),
        (None, Some(true)) => (Verdict::Ok, "the kernel found it enabled"),
        (None, Some(false)) => (Verdict::Fail, "the kernel found it disabled"),
        (None, None) => (Verdict::Unknown, "IA32_FEATURE_CONTROL cannot be read"),
    };
    let fix = match verdict {
        Verdict::Unknown => "modprobe msr, and be root",
        _ => "enable VT-x in the firmware's setup",
    };
    Requirement::new("VMX enabled by the firmware", verdict, detail).fix(fix)
}

fn capabilities(facts: &Facts) -> Vec<Requirement> {
    let vmx = &facts.capability;
    let source = if facts.from_msrs {
        "by the VMX MSRs"
    } else {
        "by /proc/cpuinfo"
    };
    let one = |what: &'static str, fact: Option<bool>, fix: &str| {
        let detail = match fact {
            Some(true) => format!("there, {source}"),
            Some(false) => format!("not there, {source}"),
            None => "cannot be looked up".into(),
        };
        let fix = if fact.is_none() {
            "modprobe msr, and be root"
        } else {
            fix
        };
        Requirement::new(what, known(fact), detail).fix(fix)
    };
    let all = |facts: &[Option<bool>]| {
        if facts.contains(&Some(false)) {
            Some(false)
        } else if facts.contains(&None) {
            None
        } else {
            Some(true)
        }
    };
    let old = match facts.hypervisor {
        Some(_) => "the hypervisor below does not offer it: update or configure that one",
        None => "use a newer processor (from 2013 on nearly all server ones have it)",
    };
    vec![
        one("EPT", vmx.ept, old),
        one(
            "EPT with 2 MiB pages, write-back, four levels",
            vmx.ept_details,
            old,
        ),
        one("unrestricted guest", vmx.unrestricted_guest, old),
        one("VPID", vmx.vpid, old),
        one("INVEPT and INVVPID", all(&[vmx.invept, vmx.invvpid]), old),
        one("MSR bitmaps", vmx.msr_bitmap, old),
        one(
            "virtual APIC registers (for children)",
            all(&[vmx.tpr_shadow, vmx.apic_access, vmx.apic_registers]),
            old,
        ),
        one("VMX-preemption timer", vmx.preemption_timer, old),
    ]
}

const NO_XSAVE: &str = "Linux does not use XSAVE, without which no partition can run";
const USE_XSAVE: &str = "boot Linux without 'noxsave'";

fn xsave(facts: &Facts) -> Requirement {
    let detail = if facts.xsave {
        "Linux uses it"
    } else {
        NO_XSAVE
    };
    Requirement::new("XSAVE (for children)", known(Some(facts.xsave)), detail).fix(USE_XSAVE)
}

fn kvm(facts: &Facts) -> Requirement {
    const WHAT: &str = "VMX not held by KVM";
    let Some(kvm) = facts.kvm else {
        return Requirement::new(WHAT, Verdict::Ok, "kvm_intel is not loaded");
    };
    if kvm.users > 0 {
        let detail = format!("kvm_intel is in use ({} references)", kvm.users);
        return Requirement::new(WHAT, Verdict::Fail, detail)
            .fix("stop KVM's virtual machines, then modprobe -r kvm_intel");
    }
    match kvm.takes_vmx_at_load {
        Some(false) => Requirement::new(
            WHAT,
            Verdict::Ok,
            "kvm_intel is loaded, but takes VMX only while a virtual machine runs",
        ),
        _ => Requirement::new(WHAT, Verdict::Fail, "kvm_intel is loaded and holds VMX")
            .fix("modprobe -r kvm_intel"),
    }
}

fn rust(facts: &Facts) -> Requirement {
    let detail = match facts.rust {
        Some(true) => format!("{} has CONFIG_RUST", facts.release),
        Some(false) => format!("{} is built without CONFIG_RUST", facts.release),
        None => format!("{}: its configuration cannot be found", facts.release),
    };
    // insmod will tell; not to know is no obstacle.
    Requirement {
        required: facts.rust.is_some(),
        ..Requirement::new("kernel with Rust", known(facts.rust), detail)
    }
    .fix(match facts.rust {
        Some(_) => "boot a kernel with CONFIG_RUST=y, such as Debian's 7.2 or later",
        None => "nothing, if insmod works; else install /boot/config for this kernel",
    })
}

fn module() -> Requirement {
    Requirement::new(
        "hvmod loaded",
        Verdict::Fail,
        "not loaded, and no /dev/hvmod",
    )
    .fix("insmod hvmod.ko, when all of the above is ok")
    .optional()
}
