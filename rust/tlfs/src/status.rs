// SPDX-License-Identifier: GPL-2.0

//! How a hypercall of Hyper-V ends, and the errno that Linux makes of it.

use super::errno;

/// `HV_STATUS_*`: the low 16 bits of a hypercall result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct HvStatus(pub u16);

impl HvStatus {
    pub const SUCCESS: HvStatus = HvStatus(0x0);
    pub const INVALID_HYPERCALL_CODE: HvStatus = HvStatus(0x2);
    pub const INVALID_HYPERCALL_INPUT: HvStatus = HvStatus(0x3);
    pub const INVALID_ALIGNMENT: HvStatus = HvStatus(0x4);
    pub const INVALID_PARAMETER: HvStatus = HvStatus(0x5);
    pub const ACCESS_DENIED: HvStatus = HvStatus(0x6);
    pub const INVALID_PARTITION_STATE: HvStatus = HvStatus(0x7);
    pub const OPERATION_DENIED: HvStatus = HvStatus(0x8);
    pub const UNKNOWN_PROPERTY: HvStatus = HvStatus(0x9);
    pub const PROPERTY_VALUE_OUT_OF_RANGE: HvStatus = HvStatus(0xa);
    pub const INSUFFICIENT_MEMORY: HvStatus = HvStatus(0xb);
    pub const INVALID_PARTITION_ID: HvStatus = HvStatus(0xd);
    pub const INVALID_VP_INDEX: HvStatus = HvStatus(0xe);
    pub const NOT_FOUND: HvStatus = HvStatus(0x10);
    pub const INVALID_VP_STATE: HvStatus = HvStatus(0x15);
    pub const INVALID_SYNIC_STATE: HvStatus = HvStatus(0x18);
    pub const OBJECT_IN_USE: HvStatus = HvStatus(0x19);
    pub const NO_RESOURCES: HvStatus = HvStatus(0x1d);
    pub const PROCESSOR_FEATURE_NOT_SUPPORTED: HvStatus = HvStatus(0x20);
    pub const INVALID_REGISTER_VALUE: HvStatus = HvStatus(0x50);
    pub const OPERATION_FAILED: HvStatus = HvStatus(0x71);

    /// The (positive) errno that the kernel's driver returns for this status.
    pub const fn errno(self) -> i32 {
        match self.0 {
            0x0 => 0,
            // INVALID_HYPERCALL_CODE, _INPUT, INVALID_PARAMETER, UNKNOWN_PROPERTY,
            // PROPERTY_VALUE_OUT_OF_RANGE, INVALID_PARTITION_ID, _VP_INDEX, _PORT_ID,
            // _CONNECTION_ID, _LP_INDEX, _REGISTER_VALUE
            0x2 | 0x3 | 0x5 | 0x9 | 0xa | 0xd | 0xe | 0x11 | 0x12 | 0x41 | 0x50 => errno::EINVAL,
            // ACCESS_DENIED, OPERATION_DENIED
            0x6 | 0x8 => errno::EACCES,
            // INSUFFICIENT_MEMORY and its three relatives
            0xb | 0x73 | 0x75 | 0x83 => errno::ENOMEM,
            // PROCESSOR_FEATURE_NOT_SUPPORTED
            0x20 => errno::EOPNOTSUPP,
            _ => errno::EIO,
        }
    }
}

/// Result of an emulated hypercall.
pub type HvResult<T = ()> = core::result::Result<T, HvStatus>;
