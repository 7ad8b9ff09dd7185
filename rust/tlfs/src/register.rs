// SPDX-License-Identifier: GPL-2.0

//! Names and values of VP registers: `enum hv_register_name`, `union hv_register_value`.

use super::pod::pod_struct;
use super::segment::{SegmentRegister, TableRegister};

/// Names of registers. Only those that a VMM for x86 uses.
pub mod name {
    pub const EXPLICIT_SUSPEND: u32 = 0x0000_0000;
    pub const INTERCEPT_SUSPEND: u32 = 0x0000_0001;
    pub const DISPATCH_SUSPEND: u32 = 0x0000_0003;
    pub const INTERNAL_ACTIVITY_STATE: u32 = 0x0000_0004;

    pub const PENDING_INTERRUPTION: u32 = 0x0001_0002;
    pub const INTERRUPT_STATE: u32 = 0x0001_0003;
    pub const PENDING_EVENT0: u32 = 0x0001_0004;
    pub const PENDING_EVENT1: u32 = 0x0001_0005;
    pub const DELIVERABILITY_NOTIFICATIONS: u32 = 0x0001_0006;

    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15 follow each other.
    pub const RAX: u32 = 0x0002_0000;
    pub const R15: u32 = 0x0002_000f;
    pub const RIP: u32 = 0x0002_0010;
    pub const RFLAGS: u32 = 0x0002_0011;

    pub const XMM0: u32 = 0x0003_0000;
    pub const XMM15: u32 = 0x0003_000f;
    pub const FP_MMX0: u32 = 0x0003_0010;
    pub const FP_MMX7: u32 = 0x0003_0017;
    pub const FP_CONTROL_STATUS: u32 = 0x0003_0018;
    pub const XMM_CONTROL_STATUS: u32 = 0x0003_0019;

    pub const CR0: u32 = 0x0004_0000;
    pub const CR2: u32 = 0x0004_0001;
    pub const CR3: u32 = 0x0004_0002;
    pub const CR4: u32 = 0x0004_0003;
    pub const CR8: u32 = 0x0004_0004;
    pub const XFEM: u32 = 0x0004_0005;
    pub const INTERMEDIATE_CR0: u32 = 0x0004_1000;
    pub const INTERMEDIATE_CR3: u32 = 0x0004_1002;
    pub const INTERMEDIATE_CR4: u32 = 0x0004_1003;
    pub const INTERMEDIATE_CR8: u32 = 0x0004_1004;

    pub const DR0: u32 = 0x0005_0000;
    pub const DR3: u32 = 0x0005_0003;
    pub const DR6: u32 = 0x0005_0004;
    pub const DR7: u32 = 0x0005_0005;

    pub const ES: u32 = 0x0006_0000;
    pub const CS: u32 = 0x0006_0001;
    pub const SS: u32 = 0x0006_0002;
    pub const DS: u32 = 0x0006_0003;
    pub const FS: u32 = 0x0006_0004;
    pub const GS: u32 = 0x0006_0005;
    pub const LDTR: u32 = 0x0006_0006;
    pub const TR: u32 = 0x0006_0007;

    pub const IDTR: u32 = 0x0007_0000;
    pub const GDTR: u32 = 0x0007_0001;

    pub const TSC: u32 = 0x0008_0000;
    pub const EFER: u32 = 0x0008_0001;
    pub const KERNEL_GS_BASE: u32 = 0x0008_0002;
    pub const APIC_BASE: u32 = 0x0008_0003;
    pub const PAT: u32 = 0x0008_0004;
    pub const SYSENTER_CS: u32 = 0x0008_0005;
    pub const SYSENTER_EIP: u32 = 0x0008_0006;
    pub const SYSENTER_ESP: u32 = 0x0008_0007;
    pub const STAR: u32 = 0x0008_0008;
    pub const LSTAR: u32 = 0x0008_0009;
    pub const CSTAR: u32 = 0x0008_000a;
    pub const SFMASK: u32 = 0x0008_000b;
    pub const INITIAL_APIC_ID: u32 = 0x0008_000c;
    pub const MTRR_CAP: u32 = 0x0008_000d;
    pub const MTRR_DEF_TYPE: u32 = 0x0008_000e;
    /// Sixteen names each, of which a VP has [`MTRR_PAIRS`](super::MTRR_PAIRS).
    pub const MTRR_PHYS_BASE0: u32 = 0x0008_0010;
    pub const MTRR_PHYS_MASK0: u32 = 0x0008_0040;
    /// FIX64K00000, FIX16K80000, FIX16KA0000, FIX4KC0000 to FIX4KF8000 follow each other.
    pub const MTRR_FIX64K00000: u32 = 0x0008_0070;
    pub const MTRR_FIX4KF8000: u32 = 0x0008_007a;
    pub const TSC_AUX: u32 = 0x0008_007b;
    pub const DEBUG_CTL: u32 = 0x0008_007d;
    pub const U_XSS: u32 = 0x0008_008b;
    pub const TSC_ADJUST: u32 = 0x0008_0096;
    pub const MISC_ENABLE: u32 = 0x0008_00a0;
    pub const APIC_ID: u32 = 0x0008_4802;

    pub const HYPERCALL: u32 = 0x0009_0001;
    pub const GUEST_OS_ID: u32 = 0x0009_0002;
    pub const VP_INDEX: u32 = 0x0009_0003;
    pub const VP_ASSIST_PAGE: u32 = 0x0009_0013;
    pub const VP_ROOT_SIGNAL_COUNT: u32 = 0x0009_0014;
    pub const REFERENCE_TSC: u32 = 0x0009_0017;
    /// Sixteen follow each other, then SCONTROL, SVERSION, SIEFP, SIMP, EOM.
    pub const SINT0: u32 = 0x000a_0000;
    pub const SCONTROL: u32 = 0x000a_0010;
    /// CONFIG and COUNT of four timers follow each other.
    pub const STIMER0_CONFIG: u32 = 0x000b_0000;
}

/// Pairs of variable-range MTRRs that a VP has.
pub const MTRR_PAIRS: u32 = 8;

pod_struct! {
    /// `union hv_register_value`: 16 bytes, of which a narrower register uses the first.
    pub struct RegisterValue {
        pub low: u64,
        pub high: u64,
    }
    /// `struct hv_register_assoc`.
    pub struct RegisterAssoc {
        pub name: u32,
        pub reserved1: u32,
        pub reserved2: u64,
        pub value: RegisterValue,
    }
    /// `struct hv_input_get_vp_registers`, and, since they begin alike,
    /// `struct hv_input_set_vp_registers`: followed by names, or by [`RegisterAssoc`].
    pub struct InputVpRegisters {
        pub partition_id: u64,
        pub vp_index: u32,
        pub input_vtl: u8,
        pub rsvd_z8: u8,
        pub rsvd_z16: u16,
    }
}

/// `HV_ANY_VP`.
pub const VP_INDEX_ANY: u32 = 0xffff_ffff;

/// `HV_VP_INDEX_SELF`.
pub const VP_INDEX_SELF: u32 = 0xffff_fffe;

impl RegisterValue {
    pub const fn from_u64(low: u64) -> RegisterValue {
        RegisterValue { low, high: 0 }
    }
}

impl From<u64> for RegisterValue {
    fn from(low: u64) -> Self {
        RegisterValue::from_u64(low)
    }
}

impl From<SegmentRegister> for RegisterValue {
    fn from(segment: SegmentRegister) -> Self {
        RegisterValue {
            low: segment.base,
            high: u64::from(segment.limit)
                | u64::from(segment.selector) << 32
                | u64::from(segment.attributes) << 48,
        }
    }
}

impl From<RegisterValue> for SegmentRegister {
    fn from(value: RegisterValue) -> Self {
        SegmentRegister {
            base: value.low,
            limit: value.high as u32,
            selector: (value.high >> 32) as u16,
            attributes: (value.high >> 48) as u16,
        }
    }
}

impl From<TableRegister> for RegisterValue {
    fn from(table: TableRegister) -> Self {
        RegisterValue {
            low: u64::from(table.limit) << 48,
            high: table.base,
        }
    }
}

impl From<RegisterValue> for TableRegister {
    fn from(value: RegisterValue) -> Self {
        TableRegister {
            pad: [0; 3],
            limit: (value.low >> 48) as u16,
            base: value.high,
        }
    }
}
