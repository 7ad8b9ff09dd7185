// SPDX-License-Identifier: GPL-2.0

//! The page through which hvmod and hvcore run a VP.

/// Indices into [`RunPage::gpr`], in the order of instruction encodings.
pub mod gpr {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
}

/// Why [`Call::VpRun`](crate::call::Call::VpRun) came back.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// A physical interrupt or NMI for the root: nothing to do for the child.
    Interrupted = 0,
    /// HLT with nothing to deliver. RIP is behind the HLT. Wait for an interrupt to be asserted,
    /// or until the TSC reaches [`RunPage::wake_tsc`], then run again.
    Halted = 1,
    /// IN, OUT, INS or OUTS. RIP is at the instruction.
    Port = 2,
    /// Access to a GPA that is not mapped, or not in that way. RIP is at the instruction.
    Memory = 3,
    /// EOI of a level-triggered interrupt, [`RunPage::vector`]. RIP is behind the write.
    Eoi = 4,
    /// Triple fault.
    TripleFault = 5,
    /// VM entry refused the VP's state: [`RunPage::qualification`] is the exit qualification.
    BadState = 6,
    /// An exit that hvcore has no answer to: [`RunPage::reason`]. The partition is dead.
    Unexpected = 7,
    /// The VP waits for SIPI (after INIT, or an application processor not yet started).
    WaitForSipi = 8,
    /// CPUID, where [`orders::CPUID`] or [`orders::HYPERVISOR`] says so. RIP is at the instruction.
    Cpuid = 9,
    /// RDMSR ([`RunPage::access`] 1) or WRMSR (2) of an MSR that hvcore does not have. RIP is at
    /// the instruction.
    Msr = 10,
    /// An exception that [`RunPage::orders`] names, [`RunPage::fault`], before it is delivered.
    /// The exit qualification is what belongs in CR2 or DR6.
    Exception = 11,
    /// A task switch, which the processor does not do here: [`RunPage::qualification`] tells the
    /// TSS and the cause (SDM vol. 3, table 28-2). RIP is at the instruction; an event that caused
    /// it is in [`RunPage::event`], and is delivered again unless the root takes it away.
    TaskSwitch = 12,
    /// VMCALL at CPL 0, where [`orders::HYPERCALL`] says so. RIP is at the instruction.
    Hypercall = 13,
}

/// Bits of [`RunPage::orders`].
pub mod orders {
    /// Bits 0 to 31: exceptions with these vectors are exits. Not 2 and 18, which are the
    /// machine's.
    pub const EXCEPTIONS: u64 = 0xffff_ffff;
    /// CPUID is an exit.
    pub const CPUID: u64 = 1 << 32;
    /// RIP was moved behind an instruction whose effects the root has seen to: no interrupt is
    /// held back any more by the one before it, and a single-step trap is due.
    pub const RETIRED: u64 = 1 << 33;
    /// VMCALL at CPL 0 is an exit; without this it has RAX say that there is no such hypercall.
    pub const HYPERCALL: u64 = 1 << 34;
    /// What the processor remembers of the VP's translations is forgotten first.
    pub const FLUSH: u64 = 1 << 35;
    /// The VP is not entered before an interrupt is pending for it, also one that it holds back:
    /// [`ExitKind::Halted`] until then.
    pub const IDLE: u64 = 1 << 36;
    /// CPUID says that there is a hypervisor, and its leaves (0x40000000 to 0x400000ff) are exits.
    pub const HYPERVISOR: u64 = 1 << 37;
}

/// [`RunPage::reason`] of a PAUSE in a loop.
pub const REASON_PAUSE: u32 = 40;

/// A segment register. `access` is the format of the VMCS (SDM vol. 3, 25.4.1): bits 0 to 3 type,
/// 4 S, 5 and 6 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub base: u64,
    pub limit: u32,
    pub access: u32,
    pub selector: u16,
    pub reserved: [u16; 3],
}

/// Shared by hvmod and hvcore, one page of the root for each VP.
///
/// While the VP does not run, `gpr`, `rip` and `rflags` here **are** the VP's: hvcore loads them at
/// each run and writes them back at each return. It also reads [`orders`](Self::orders) at each
/// run. The rest is written by hvcore at each return that
/// is not [`ExitKind::Interrupted`], and never read by it. Fields that do not belong to the exit
/// are unspecified.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct RunPage {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    /// Written at every return: the VPs that this one sent interrupts to during the run. Those
    /// that run must be interrupted, those that wait woken.
    pub wake: u64,
    /// What the root wants: see [`orders`].
    pub orders: u64,

    /// Written at every return: an [`ExitKind`].
    pub exit: u32,
    /// Written at every return: basic exit reason of the last VM exit (SDM vol. 3, appendix C), 0
    /// if the VP was not entered. With [`ExitKind::Interrupted`], [`REASON_PAUSE`] says that the
    /// VP spins for something that another one is to do.
    pub reason: u32,
    /// Exit qualification.
    pub qualification: u64,
    /// Bytes of the instruction that caused the exit, or 0 if the processor did not tell.
    pub instruction_len: u32,
    /// CPL of the VP.
    pub cpl: u32,

    /// [`ExitKind::Port`]: port number.
    pub port: u16,
    /// Bytes for each access: 1, 2 or 4.
    pub port_size: u8,
    /// 1 for IN and INS.
    pub port_in: u8,
    /// 1 for INS and OUTS.
    pub port_string: u8,
    /// 1 with a REP prefix.
    pub port_rep: u8,
    /// [`ExitKind::Eoi`].
    pub vector: u8,
    /// [`ExitKind::Memory`], [`ExitKind::Msr`]: what was tried: bit 0 read, bit 1 write, bit 2
    /// fetch.
    pub access: u8,
    /// Guest physical address of the access.
    pub gpa: u64,
    /// Guest linear address of the access (also for INS and OUTS).
    pub gla: u64,
    /// Bit 0: `gla` is valid, bit 1: `gpa` is what it was translated to, and not a table that was
    /// read on the way.
    pub gla_valid: u32,
    /// [`ExitKind::Halted`]: 1 if `wake_tsc` is set.
    pub wake_valid: u32,
    /// The root's TSC at which the VP's timer fires.
    pub wake_tsc: u64,

    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    /// TPR >> 4 of the local APIC.
    pub cr8: u64,
    pub efer: u64,
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    /// Interruptibility state (SDM vol. 3, 25.4.2).
    pub interruptibility: u64,
    pub fs: Segment,
    pub gs: Segment,
    pub dr7: u64,
    pub xcr0: u64,
    /// The event that the next entry delivers, as in
    /// [`Registers::event`](crate::state::Registers::event).
    pub event: u32,
    pub event_error: u32,
    /// [`ExitKind::Exception`], in the same format.
    pub fault: u32,
    pub fault_error: u32,
    /// [`ExitKind::Memory`] of a partition with private memory, which the root cannot read: the
    /// bytes at RIP, and how many there are. 0 if they cannot be had, and in other partitions.
    pub instruction: [u8; 15],
    pub instruction_bytes: u8,
}

const _: () = assert!(core::mem::size_of::<RunPage>() <= crate::PAGE_SIZE);
