// SPDX-License-Identifier: GPL-2.0

//! The fields of the VMCS (SDM vol. 3, appendix B), each with its width in its type.

use super::insn;
use core::marker::PhantomData;
use hvabi::state::Table;

/// A width of VMCS fields.
pub trait Width: Copy {
    fn from_word(word: u64) -> Self;
    fn into_word(self) -> u64;
}

macro_rules! width {
    ($($t:ty),*) => { $(
        impl Width for $t {
            fn from_word(word: u64) -> Self { word as $t }
            fn into_word(self) -> u64 { self as u64 }
        }
    )* };
}
width!(u16, u32, u64);

/// The encoding of a field that holds a `T`. Natural-width fields hold `u64`.
#[derive(Clone, Copy)]
pub struct Field<T: Width>(u32, PhantomData<T>);

impl<T: Width> Field<T> {
    const fn at(encoding: u32) -> Self {
        Self(encoding, PhantomData)
    }

    /// Reads the field of the current VMCS.
    #[inline(always)]
    pub fn read(self) -> T {
        T::from_word(insn::vmread(self.0))
    }

    /// Writes the field of the current VMCS.
    #[inline(always)]
    pub fn write(self, value: T) {
        insn::vmwrite(self.0, value.into_word());
    }
}

macro_rules! fields {
    ($($name:ident: $t:ty = $encoding:literal;)*) => {
        $( pub const $name: Field<$t> = Field::at($encoding); )*
    };
}

fields! {
    VPID: u16 = 0x0000;

    GUEST_ES: u16 = 0x0800;
    GUEST_CS: u16 = 0x0802;
    GUEST_SS: u16 = 0x0804;
    GUEST_DS: u16 = 0x0806;
    GUEST_FS: u16 = 0x0808;
    GUEST_GS: u16 = 0x080a;
    GUEST_LDTR: u16 = 0x080c;
    GUEST_TR: u16 = 0x080e;

    HOST_ES: u16 = 0x0c00;
    HOST_CS: u16 = 0x0c02;
    HOST_SS: u16 = 0x0c04;
    HOST_DS: u16 = 0x0c06;
    HOST_FS: u16 = 0x0c08;
    HOST_GS: u16 = 0x0c0a;
    HOST_TR: u16 = 0x0c0c;

    MSR_BITMAP: u64 = 0x2004;
    TSC_OFFSET: u64 = 0x2010;
    VIRTUAL_APIC: u64 = 0x2012;
    APIC_ACCESS: u64 = 0x2014;
    EPTP: u64 = 0x201a;
    XSS_EXITING: u64 = 0x202c;
    ENCLS_EXITING: u64 = 0x202e;
    PCONFIG_EXITING: u64 = 0x203e;
    GUEST_PHYSICAL_ADDRESS: u64 = 0x2400;

    LINK_POINTER: u64 = 0x2800;
    GUEST_DEBUGCTL: u64 = 0x2802;
    GUEST_PAT: u64 = 0x2804;
    GUEST_EFER: u64 = 0x2806;
    GUEST_PDPTE0: u64 = 0x280a;
    GUEST_PDPTE1: u64 = 0x280c;
    GUEST_PDPTE2: u64 = 0x280e;
    GUEST_PDPTE3: u64 = 0x2810;
    HOST_PAT: u64 = 0x2c00;
    HOST_EFER: u64 = 0x2c02;

    PIN_CONTROLS: u32 = 0x4000;
    PROC_CONTROLS: u32 = 0x4002;
    EXCEPTION_BITMAP: u32 = 0x4004;
    PF_ERROR_MASK: u32 = 0x4006;
    PF_ERROR_MATCH: u32 = 0x4008;
    CR3_TARGETS: u32 = 0x400a;
    EXIT_CONTROLS: u32 = 0x400c;
    EXIT_MSR_STORES: u32 = 0x400e;
    EXIT_MSR_LOADS: u32 = 0x4010;
    ENTRY_CONTROLS: u32 = 0x4012;
    ENTRY_MSR_LOADS: u32 = 0x4014;
    ENTRY_INFO: u32 = 0x4016;
    ENTRY_ERROR: u32 = 0x4018;
    ENTRY_LENGTH: u32 = 0x401a;
    TPR_THRESHOLD: u32 = 0x401c;
    PROC_CONTROLS2: u32 = 0x401e;
    PLE_GAP: u32 = 0x4020;
    PLE_WINDOW: u32 = 0x4022;

    INSTRUCTION_ERROR: u32 = 0x4400;
    EXIT_REASON: u32 = 0x4402;
    EXIT_INFO: u32 = 0x4404;
    EXIT_ERROR: u32 = 0x4406;
    VECTORING_INFO: u32 = 0x4408;
    VECTORING_ERROR: u32 = 0x440a;
    EXIT_LENGTH: u32 = 0x440c;
    INSTRUCTION_INFO: u32 = 0x440e;

    GUEST_ES_LIMIT: u32 = 0x4800;
    GUEST_CS_LIMIT: u32 = 0x4802;
    GUEST_SS_LIMIT: u32 = 0x4804;
    GUEST_DS_LIMIT: u32 = 0x4806;
    GUEST_FS_LIMIT: u32 = 0x4808;
    GUEST_GS_LIMIT: u32 = 0x480a;
    GUEST_LDTR_LIMIT: u32 = 0x480c;
    GUEST_TR_LIMIT: u32 = 0x480e;
    GUEST_GDTR_LIMIT: u32 = 0x4810;
    GUEST_IDTR_LIMIT: u32 = 0x4812;
    GUEST_ES_ACCESS: u32 = 0x4814;
    GUEST_CS_ACCESS: u32 = 0x4816;
    GUEST_SS_ACCESS: u32 = 0x4818;
    GUEST_DS_ACCESS: u32 = 0x481a;
    GUEST_FS_ACCESS: u32 = 0x481c;
    GUEST_GS_ACCESS: u32 = 0x481e;
    GUEST_LDTR_ACCESS: u32 = 0x4820;
    GUEST_TR_ACCESS: u32 = 0x4822;
    GUEST_INTERRUPTIBILITY: u32 = 0x4824;
    GUEST_ACTIVITY: u32 = 0x4826;
    GUEST_SYSENTER_CS: u32 = 0x482a;
    PREEMPTION_TIMER: u32 = 0x482e;
    HOST_SYSENTER_CS: u32 = 0x4c00;

    CR0_MASK: u64 = 0x6000;
    CR4_MASK: u64 = 0x6002;
    CR0_SHADOW: u64 = 0x6004;
    CR4_SHADOW: u64 = 0x6006;

    EXIT_QUALIFICATION: u64 = 0x6400;
    GUEST_LINEAR_ADDRESS: u64 = 0x640a;

    GUEST_CR0: u64 = 0x6800;
    GUEST_CR3: u64 = 0x6802;
    GUEST_CR4: u64 = 0x6804;
    GUEST_ES_BASE: u64 = 0x6806;
    GUEST_CS_BASE: u64 = 0x6808;
    GUEST_SS_BASE: u64 = 0x680a;
    GUEST_DS_BASE: u64 = 0x680c;
    GUEST_FS_BASE: u64 = 0x680e;
    GUEST_GS_BASE: u64 = 0x6810;
    GUEST_LDTR_BASE: u64 = 0x6812;
    GUEST_TR_BASE: u64 = 0x6814;
    GUEST_GDTR_BASE: u64 = 0x6816;
    GUEST_IDTR_BASE: u64 = 0x6818;
    GUEST_DR7: u64 = 0x681a;
    GUEST_RSP: u64 = 0x681c;
    GUEST_RIP: u64 = 0x681e;
    GUEST_RFLAGS: u64 = 0x6820;
    GUEST_PENDING_DEBUG: u64 = 0x6822;
    GUEST_SYSENTER_ESP: u64 = 0x6824;
    GUEST_SYSENTER_EIP: u64 = 0x6826;

    HOST_CR0: u64 = 0x6c00;
    HOST_CR3: u64 = 0x6c02;
    HOST_CR4: u64 = 0x6c04;
    HOST_FS_BASE: u64 = 0x6c06;
    HOST_GS_BASE: u64 = 0x6c08;
    HOST_TR_BASE: u64 = 0x6c0a;
    HOST_GDTR_BASE: u64 = 0x6c0c;
    HOST_IDTR_BASE: u64 = 0x6c0e;
    HOST_SYSENTER_ESP: u64 = 0x6c10;
    HOST_SYSENTER_EIP: u64 = 0x6c12;
    HOST_RSP: u64 = 0x6c14;
    HOST_RIP: u64 = 0x6c16;
}

/// The four fields of a segment register.
#[derive(Clone, Copy)]
pub struct SegmentFields {
    pub selector: Field<u16>,
    pub base: Field<u64>,
    pub limit: Field<u32>,
    pub access: Field<u32>,
}

macro_rules! segment_fields {
    ($($name:ident: $selector:ident $base:ident $limit:ident $access:ident;)*) => {
        $( pub const $name: SegmentFields = SegmentFields {
            selector: $selector, base: $base, limit: $limit, access: $access,
        }; )*
    };
}

segment_fields! {
    ES: GUEST_ES GUEST_ES_BASE GUEST_ES_LIMIT GUEST_ES_ACCESS;
    CS: GUEST_CS GUEST_CS_BASE GUEST_CS_LIMIT GUEST_CS_ACCESS;
    SS: GUEST_SS GUEST_SS_BASE GUEST_SS_LIMIT GUEST_SS_ACCESS;
    DS: GUEST_DS GUEST_DS_BASE GUEST_DS_LIMIT GUEST_DS_ACCESS;
    FS: GUEST_FS GUEST_FS_BASE GUEST_FS_LIMIT GUEST_FS_ACCESS;
    GS: GUEST_GS GUEST_GS_BASE GUEST_GS_LIMIT GUEST_GS_ACCESS;
    LDTR: GUEST_LDTR GUEST_LDTR_BASE GUEST_LDTR_LIMIT GUEST_LDTR_ACCESS;
    TR: GUEST_TR GUEST_TR_BASE GUEST_TR_LIMIT GUEST_TR_ACCESS;
}

impl SegmentFields {
    pub fn read(self) -> hvabi::vp::Segment {
        hvabi::vp::Segment {
            base: self.base.read(),
            limit: self.limit.read(),
            access: self.access.read(),
            selector: self.selector.read(),
            reserved: [0; 3],
        }
    }

    pub fn write(self, segment: &hvabi::vp::Segment) {
        self.base.write(segment.base);
        self.limit.write(segment.limit);
        self.access.write(segment.access);
        self.selector.write(segment.selector);
    }
}

/// The two fields of a descriptor-table register.
#[derive(Clone, Copy)]
pub struct TableFields {
    base: Field<u64>,
    limit: Field<u32>,
}

pub const GDTR: TableFields = TableFields { base: GUEST_GDTR_BASE, limit: GUEST_GDTR_LIMIT };
pub const IDTR: TableFields = TableFields { base: GUEST_IDTR_BASE, limit: GUEST_IDTR_LIMIT };

impl TableFields {
    pub fn read(self) -> Table {
        Table { base: self.base.read(), limit: self.limit.read(), reserved: 0 }
    }

    pub fn write(self, table: Table) {
        self.base.write(table.base);
        self.limit.write(table.limit);
    }
}

/// Writes the MSRs of SYSENTER: IA32_SYSENTER_CS, _ESP and _EIP.
pub fn write_sysenter([cs, esp, eip]: [u64; 3]) {
    GUEST_SYSENTER_CS.write(cs as u32);
    GUEST_SYSENTER_ESP.write(esp);
    GUEST_SYSENTER_EIP.write(eip);
}

/// Basic exit reasons (SDM vol. 3, appendix C) that hvcore tells apart.
pub mod reason {
    pub const EXCEPTION_NMI: u32 = 0;
    pub const EXTERNAL_INTERRUPT: u32 = 1;
    pub const TRIPLE_FAULT: u32 = 2;
    pub const INIT: u32 = 3;
    pub const SIPI: u32 = 4;
    pub const INTERRUPT_WINDOW: u32 = 7;
    pub const NMI_WINDOW: u32 = 8;
    pub const TASK_SWITCH: u32 = 9;
    pub const CPUID: u32 = 10;
    pub const GETSEC: u32 = 11;
    pub const HLT: u32 = 12;
    pub const INVD: u32 = 13;
    pub const RDPMC: u32 = 15;
    pub const VMCALL: u32 = 18;
    pub const VMCLEAR: u32 = 19;
    pub const VMXON: u32 = 27;
    pub const CR_ACCESS: u32 = 28;
    pub const IO: u32 = 30;
    pub const RDMSR: u32 = 31;
    pub const WRMSR: u32 = 32;
    pub const MWAIT: u32 = 36;
    pub const MONITOR_TRAP: u32 = 37;
    pub const MONITOR: u32 = 39;
    pub const PAUSE: u32 = hvabi::vp::REASON_PAUSE;
    pub const TPR_BELOW_THRESHOLD: u32 = 43;
    pub const APIC_ACCESS: u32 = 44;
    pub const EPT_VIOLATION: u32 = 48;
    pub const INVEPT: u32 = 50;
    pub const PREEMPTION_TIMER: u32 = 52;
    pub const INVVPID: u32 = 53;
    pub const WBINVD: u32 = 54;
    pub const XSETBV: u32 = 55;
    pub const APIC_WRITE: u32 = 56;
    pub const VMFUNC: u32 = 59;
    pub const ENCLS: u32 = 60;
    pub const PCONFIG: u32 = 65;
    pub const SEAMCALL: u32 = 76;
    pub const UWRMSR: u32 = 81;
    pub const RDMSR_IMMEDIATE: u32 = 84;
    pub const WRMSR_IMMEDIATE: u32 = 85;
    /// Bit 31 of the exit reason: VM entry failed.
    pub const ENTRY_FAILED: u32 = 1 << 31;
}

/// Bits of the controls (SDM vol. 3, 25.6 to 25.8).
pub mod control {
    pub mod pin {
        pub const EXTERNAL_INTERRUPT: u32 = 1 << 0;
        pub const NMI: u32 = 1 << 3;
        pub const VIRTUAL_NMIS: u32 = 1 << 5;
        pub const PREEMPTION_TIMER: u32 = 1 << 6;
    }
    pub mod proc {
        pub const INTERRUPT_WINDOW: u32 = 1 << 2;
        pub const TSC_OFFSETTING: u32 = 1 << 3;
        pub const HLT: u32 = 1 << 7;
        pub const MWAIT: u32 = 1 << 10;
        pub const RDPMC: u32 = 1 << 11;
        pub const CR3_LOAD: u32 = 1 << 15;
        pub const CR3_STORE: u32 = 1 << 16;
        pub const CR8_LOAD: u32 = 1 << 19;
        pub const CR8_STORE: u32 = 1 << 20;
        pub const TPR_SHADOW: u32 = 1 << 21;
        pub const NMI_WINDOW: u32 = 1 << 22;
        pub const UNCONDITIONAL_IO: u32 = 1 << 24;
        pub const MONITOR_TRAP: u32 = 1 << 27;
        pub const MSR_BITMAPS: u32 = 1 << 28;
        pub const MONITOR: u32 = 1 << 29;
        pub const SECONDARY: u32 = 1 << 31;
    }
    pub mod proc2 {
        pub const APIC_ACCESSES: u32 = 1 << 0;
        pub const EPT: u32 = 1 << 1;
        pub const RDTSCP: u32 = 1 << 3;
        pub const VPID: u32 = 1 << 5;
        pub const WBINVD: u32 = 1 << 6;
        pub const UNRESTRICTED: u32 = 1 << 7;
        pub const APIC_REGISTERS: u32 = 1 << 8;
        pub const PAUSE_LOOP: u32 = 1 << 10;
        pub const INVPCID: u32 = 1 << 12;
        pub const ENCLS: u32 = 1 << 15;
        pub const XSAVES: u32 = 1 << 20;
        pub const USER_WAIT: u32 = 1 << 26;
        pub const PCONFIG: u32 = 1 << 27;
    }
    pub mod exit {
        pub const SAVE_DEBUG: u32 = 1 << 2;
        pub const HOST_64: u32 = 1 << 9;
        pub const SAVE_PAT: u32 = 1 << 18;
        pub const LOAD_PAT: u32 = 1 << 19;
        pub const SAVE_EFER: u32 = 1 << 20;
        pub const LOAD_EFER: u32 = 1 << 21;
    }
    pub mod entry {
        pub const LOAD_DEBUG: u32 = 1 << 2;
        pub const IA32E: u32 = 1 << 9;
        pub const LOAD_PAT: u32 = 1 << 14;
        pub const LOAD_EFER: u32 = 1 << 15;
    }
}
