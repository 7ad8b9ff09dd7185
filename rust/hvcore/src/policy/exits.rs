// SPDX-License-Identifier: GPL-2.0

//! What comes of each VM exit of a child (SDM vol. 3, appendix C).

use crate::arch::vmcs::reason;

/// What is done about an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The instruction is emulated, or the access to the local APIC.
    Cpuid,
    ReadMsr,
    WriteMsr,
    ControlRegister,
    Xsetbv,
    Hypercall,
    ApicAccess,
    ApicWrite,
    /// The VP has nothing to do but to wait.
    Halt,
    /// It spins, for another VP perhaps.
    Pause,
    /// The instruction has no effect.
    Nothing,
    /// It gets #UD: CPUID says that it is not there.
    Undefined,
    /// It gets #GP.
    Protection,
    /// The exception is the child's, the NMI the root's.
    Exception,
    /// The local APIC has something to deliver.
    Look,
    /// The root has to see to it.
    Interrupted,
    Init,
    Port,
    Memory,
    TaskSwitch,
    TripleFault,
    /// This cannot be: the partition ends.
    Unexpected,
}

/// What is done about an exit for `exit`.
#[inline(always)]
pub const fn child(exit: u32) -> Answer {
    match exit {
        reason::CPUID => Answer::Cpuid,
        reason::HLT => Answer::Halt,
        reason::PAUSE => Answer::Pause,
        reason::IO => Answer::Port,
        reason::EPT_VIOLATION => Answer::Memory,
        reason::APIC_WRITE => Answer::ApicWrite,
        reason::RDMSR => Answer::ReadMsr,
        reason::WRMSR => Answer::WriteMsr,
        reason::CR_ACCESS => Answer::ControlRegister,
        reason::XSETBV => Answer::Xsetbv,
        reason::EXCEPTION_NMI => Answer::Exception,
        reason::EXTERNAL_INTERRUPT => Answer::Interrupted,
        reason::INIT => Answer::Init,
        reason::PREEMPTION_TIMER
        | reason::INTERRUPT_WINDOW
        | reason::NMI_WINDOW
        | reason::TPR_BELOW_THRESHOLD
        | reason::MONITOR_TRAP => Answer::Look,
        reason::VMCALL => Answer::Hypercall,
        // Caches are the machine's, and coherent: nothing is left to do.
        reason::INVD | reason::WBINVD => Answer::Nothing,
        reason::RDPMC => Answer::Protection,
        reason::GETSEC
        | reason::VMCLEAR..=reason::VMXON
        | reason::INVEPT
        | reason::INVVPID
        | reason::VMFUNC
        | reason::MWAIT
        | reason::MONITOR
        | reason::ENCLS
        | reason::PCONFIG
        // SEAMCALL and TDCALL exit at any privilege level, where the processor has TDX; then
        // RDMSRLIST, WRMSRLIST, URDMSR, UWRMSR.
        | reason::SEAMCALL..=reason::UWRMSR
        | reason::RDMSR_IMMEDIATE
        | reason::WRMSR_IMMEDIATE => Answer::Undefined,
        reason::APIC_ACCESS => Answer::ApicAccess,
        reason::TASK_SWITCH => Answer::TaskSwitch,
        reason::TRIPLE_FAULT => Answer::TripleFault,
        _ => Answer::Unexpected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual's table, reason by reason, with what happens here. Those that cannot happen,
    /// since the control that makes them is off or they belong to SMM or VM entry, end the
    /// partition if they do.
    #[test]
    fn each_exit_reason_has_an_outcome() {
        use Answer::*;
        let table = [
            (0..=0, Exception),   // exception or NMI
            (1..=1, Interrupted), // external interrupt
            (2..=2, TripleFault), //
            (3..=3, Init),        //
            (4..=6, Unexpected),  // SIPI (no VP waits for it in hardware), SMI
            (7..=8, Look),        // interrupt window, NMI window
            (9..=9, TaskSwitch),
            (10..=10, Cpuid),           //
            (11..=11, Undefined),       // GETSEC
            (12..=12, Halt),            //
            (13..=13, Nothing),         // INVD
            (14..=14, Unexpected),      // INVLPG
            (15..=15, Protection),      // RDPMC
            (16..=17, Unexpected),      // RDTSC, RSM
            (18..=18, Hypercall),       //
            (19..=27, Undefined),       // VMX instructions
            (28..=28, ControlRegister), //
            (29..=29, Unexpected),      // MOV DR
            (30..=30, Port),            //
            (31..=31, ReadMsr),         //
            (32..=32, WriteMsr),        //
            (33..=35, Unexpected),      // VM entry failures, which have bit 31 set as well
            (36..=36, Undefined),       // MWAIT
            (37..=37, Look),            // monitor trap flag
            (38..=38, Unexpected),      //
            (39..=39, Undefined),       // MONITOR
            (40..=40, Pause),
            (41..=42, Unexpected),     // machine check at VM entry
            (43..=43, Look),           // TPR below threshold
            (44..=44, ApicAccess),     //
            (45..=47, Unexpected),     // virtualized EOI, descriptor tables
            (48..=48, Memory),         // EPT violation
            (49..=49, Unexpected),     // EPT misconfiguration
            (50..=50, Undefined),      // INVEPT
            (51..=51, Unexpected),     // RDTSCP
            (52..=52, Look),           // preemption timer
            (53..=53, Undefined),      // INVVPID
            (54..=54, Nothing),        // WBINVD
            (55..=55, Xsetbv),         //
            (56..=56, ApicWrite),      //
            (57..=58, Unexpected),     // RDRAND, INVPCID
            (59..=60, Undefined),      // VMFUNC, ENCLS
            (61..=64, Unexpected),     // RDSEED, page-modification log, XSAVES, XRSTORS
            (65..=65, Undefined),      // PCONFIG
            (66..=75, Unexpected), // SPP, UMWAIT, TPAUSE, LOADIWKEY, ENCLV, ENQCMD, bus lock, notify
            (76..=81, Undefined),  // SEAMCALL, TDCALL, lists of MSRs, MSRs of ring 3
            (82..=83, Unexpected), //
            (84..=85, Undefined),  // RDMSR and WRMSRNS with an immediate operand
            (86..=0xffff, Unexpected), // what comes
        ];
        let mut next = 0;
        for (reasons, outcome) in table {
            assert_eq!(*reasons.start(), next, "the table has no hole");
            next = reasons.end() + 1;
            for exit in reasons {
                assert_eq!(child(exit), outcome, "exit reason {exit}");
            }
        }
    }
}
