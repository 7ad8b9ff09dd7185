// SPDX-License-Identifier: GPL-2.0
//! Names of the basic VM-exit reasons (SDM volume 3, appendix C).

const NAMES: [&str; 80] = [
    "exception or NMI",
    "external interrupt",
    "triple fault",
    "INIT signal",
    "start-up IPI",
    "I/O SMI",
    "other SMI",
    "interrupt window",
    "NMI window",
    "task switch",
    "CPUID",
    "GETSEC",
    "HLT",
    "INVD",
    "INVLPG",
    "RDPMC",
    "RDTSC",
    "RSM",
    "VMCALL",
    "VMCLEAR",
    "VMLAUNCH",
    "VMPTRLD",
    "VMPTRST",
    "VMREAD",
    "VMRESUME",
    "VMWRITE",
    "VMXOFF",
    "VMXON",
    "control-register access",
    "MOV DR",
    "I/O instruction",
    "RDMSR",
    "WRMSR",
    "VM-entry failure: guest state",
    "VM-entry failure: MSR loading",
    "",
    "MWAIT",
    "monitor trap flag",
    "",
    "MONITOR",
    "PAUSE",
    "VM-entry failure: machine check",
    "",
    "TPR below threshold",
    "APIC access",
    "virtualized EOI",
    "access to GDTR or IDTR",
    "access to LDTR or TR",
    "EPT violation",
    "EPT misconfiguration",
    "INVEPT",
    "RDTSCP",
    "VMX-preemption timer",
    "INVVPID",
    "WBINVD or WBNOINVD",
    "XSETBV",
    "APIC write",
    "RDRAND",
    "INVPCID",
    "VMFUNC",
    "ENCLS",
    "RDSEED",
    "page-modification log full",
    "XSAVES",
    "XRSTORS",
    "PCONFIG",
    "SPP-related event",
    "UMWAIT",
    "TPAUSE",
    "LOADIWKEY",
    "ENCLV",
    "",
    "ENQCMD PASID translation",
    "ENQCMDS PASID translation",
    "bus lock",
    "instruction timeout",
    "SEAMCALL",
    "TDCALL",
    "RDMSRLIST",
    "WRMSRLIST",
];

/// What basic exit reason `number` is called, if it has a name.
pub fn name(number: usize) -> Option<&'static str> {
    NAMES.get(number).copied().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_ones_are_in_their_places() {
        for (number, expected) in [
            (0, "exception or NMI"),
            (10, "CPUID"),
            (12, "HLT"),
            (18, "VMCALL"),
            (28, "control-register access"),
            (30, "I/O instruction"),
            (31, "RDMSR"),
            (32, "WRMSR"),
            (36, "MWAIT"),
            (48, "EPT violation"),
            (52, "VMX-preemption timer"),
            (55, "XSETBV"),
            (56, "APIC write"),
            (63, "XSAVES"),
            (67, "UMWAIT"),
            (74, "bus lock"),
            (79, "WRMSRLIST"),
        ] {
            assert_eq!(name(number), Some(expected));
        }
        assert_eq!((name(35), name(80)), (None, None));
    }
}
