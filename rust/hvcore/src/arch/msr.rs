// SPDX-License-Identifier: GPL-2.0

//! Numbers of the MSRs that hvcore itself reads or writes (SDM vol. 4).

pub const PLATFORM_ID: u32 = 0x17;
pub const FEATURE_CONTROL: u32 = 0x3a;
pub const PRED_CMD: u32 = 0x49;
pub const BIOS_SIGN_ID: u32 = 0x8b;
pub const FLUSH_CMD: u32 = 0x10b;
pub const ARCH_CAPABILITIES: u32 = 0x10a;
pub const SYSENTER_CS: u32 = 0x174;
pub const SYSENTER_ESP: u32 = 0x175;
pub const SYSENTER_EIP: u32 = 0x176;
pub const DEBUGCTL: u32 = 0x1d9;
pub const PAT: u32 = 0x277;
pub const MTRR_CAP: u32 = 0xfe;
pub const MTRR_PHYS_BASE0: u32 = 0x200;
pub const MTRR_DEF_TYPE: u32 = 0x2ff;
/// The fixed-range MTRRs, in the order of the addresses that they cover.
pub const MTRR_FIXED: [u32; 11] =
    [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
pub const VMX_BASIC: u32 = 0x480;
pub const VMX_PINBASED: u32 = 0x481;
pub const VMX_PROCBASED: u32 = 0x482;
pub const VMX_EXIT: u32 = 0x483;
pub const VMX_ENTRY: u32 = 0x484;
pub const VMX_MISC: u32 = 0x485;
pub const VMX_CR0_FIXED0: u32 = 0x486;
pub const VMX_CR0_FIXED1: u32 = 0x487;
pub const VMX_CR4_FIXED0: u32 = 0x488;
pub const VMX_CR4_FIXED1: u32 = 0x489;
pub const VMX_PROCBASED2: u32 = 0x48b;
pub const VMX_EPT_VPID_CAP: u32 = 0x48c;
/// The TRUE variants of 0x481 to 0x484 are this much higher.
pub const VMX_TRUE_OFFSET: u32 = 0x48d - 0x481;
pub const RTIT_CTL: u32 = 0x570;
pub const TME_ACTIVATE: u32 = 0x982;
pub const EFER: u32 = 0xc000_0080;
pub const STAR: u32 = 0xc000_0081;
pub const LSTAR: u32 = 0xc000_0082;
pub const CSTAR: u32 = 0xc000_0083;
pub const SFMASK: u32 = 0xc000_0084;
pub const FS_BASE: u32 = 0xc000_0100;
pub const GS_BASE: u32 = 0xc000_0101;
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
pub const TSC_AUX: u32 = 0xc000_0103;
pub const SPEC_CTRL: u32 = 0x48;
pub const XSS: u32 = 0xda0;
