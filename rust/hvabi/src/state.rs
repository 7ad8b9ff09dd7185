// SPDX-License-Identifier: GPL-2.0

//! State of a VP that [`Call::VpGet`](crate::call::Call::VpGet) and `VpSet` move, one page a call.

use crate::vp::Segment;

/// What a page of state holds.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// [`Registers`]; the fifth argument is a set of [`group`]s.
    Registers = 0,
    /// XSAVE area, standard (not compacted) format.
    Xsave = 1,
    /// The local APIC's register page (SDM vol. 3, table 12-1).
    Apic = 2,
    /// [`VpStats`](crate::stats::VpStats); get only.
    Stats = 3,
    /// What CPUID says, EAX, EBX, ECX, EDX; the fifth argument is the leaf, and in its upper half
    /// the subleaf. Get only.
    Cpuid = 4,
}

/// Groups of [`Registers`].
pub mod group {
    /// `es` to `idtr`.
    pub const SEGMENTS: u64 = 1 << 0;
    /// `cr0`, `cr2`, `cr3`, `cr4`, `efer`.
    pub const CONTROL: u64 = 1 << 1;
    /// `cr8`.
    pub const CR8: u64 = 1 << 2;
    /// `xcr0`, `xss`.
    pub const XCR: u64 = 1 << 3;
    /// `syscall`.
    pub const SYSCALL: u64 = 1 << 4;
    /// `sysenter_cs`, `sysenter_esp`, `sysenter_eip`, `pat`.
    pub const SYSENTER: u64 = 1 << 5;
    /// `dr`, `dr6`, `dr7`.
    pub const DEBUG: u64 = 1 << 6;
    /// `apic_base`.
    pub const APIC_BASE: u64 = 1 << 7;
    /// `tsc`, `tsc_deadline`.
    pub const TIME: u64 = 1 << 8;
    /// `event`, `event_error`, `interruptibility`, `activity`.
    pub const EVENT: u64 = 1 << 9;
    /// `mtrr_def_type`, `mtrr_fixed`, `mtrr_variable`.
    pub const MTRR: u64 = 1 << 10;
    /// All of them.
    pub const ALL: u64 = (1 << 11) - 1;
}

/// [`Registers::activity`].
pub mod activity {
    pub const ACTIVE: u32 = 0;
    pub const HALTED: u32 = 1;
    pub const WAIT_FOR_SIPI: u32 = 3;
}

/// A descriptor-table register.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub base: u64,
    pub limit: u32,
    pub reserved: u32,
}

/// The MSRs of SYSCALL and SWAPGS, and IA32_TSC_AUX.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syscall {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
}

/// Registers of a VP besides those in the [`RunPage`](crate::vp::RunPage).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ldtr: Segment,
    pub tr: Segment,
    pub gdtr: Table,
    pub idtr: Table,

    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub cr8: u64,
    pub xcr0: u64,
    pub xss: u64,

    pub syscall: Syscall,

    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,

    /// DR0 to DR3.
    pub dr: [u64; 4],
    pub dr6: u64,
    pub dr7: u64,

    /// IA32_APIC_BASE.
    pub apic_base: u64,
    /// The VP's TSC now. Set within a second of what the partition's VPs have, it becomes that.
    pub tsc: u64,
    /// IA32_TSC_DEADLINE, 0 if not armed.
    pub tsc_deadline: u64,

    /// An event to inject at the next entry, in the format of the VM-entry
    /// interruption-information field (SDM vol. 3, 25.8.3); bit 31 clear: none.
    pub event: u32,
    pub event_error: u32,
    /// Interruptibility state (SDM vol. 3, 25.4.2): STI, MOV SS and NMI blocking only.
    pub interruptibility: u32,
    /// One of [`activity`].
    pub activity: u32,

    pub mtrr_def_type: u64,
    /// Order of the MSRs: 0x250, 0x258, 0x259, 0x268 to 0x26f.
    pub mtrr_fixed: [u64; 11],
    /// Base and mask pairs from 0x200 on.
    pub mtrr_variable: [u64; 16],
}

const _: () = assert!(core::mem::size_of::<Registers>() <= crate::PAGE_SIZE);
