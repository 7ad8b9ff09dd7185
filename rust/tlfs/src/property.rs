// SPDX-License-Identifier: GPL-2.0

//! Partition properties: `enum hv_partition_property_code`.

use super::interface;
use super::status::{HvResult, HvStatus};
use super::xsave::Layout;

/// Property codes.
pub mod code {
    pub const PRIVILEGE_FLAGS: u32 = 0x0001_0000;
    pub const SYNTHETIC_PROC_FEATURES: u32 = 0x0001_0001;
    pub const SUSPEND: u32 = 0x0002_0000;
    pub const TIME_FREEZE: u32 = 0x0003_0003;
    pub const REFERENCE_TIME: u32 = 0x0003_0005;
    pub const PROCESSORS_PER_SOCKET: u32 = 0x0005_0003;
    pub const GPA_PAGE_ACCESS_TRACKING: u32 = 0x0005_0005;
    pub const ISOLATION_STATE: u32 = 0x0005_000c;
    pub const UNIMPLEMENTED_MSR_ACTION: u32 = 0x0005_0017;
    pub const PROCESSOR_VENDOR: u32 = 0x0006_0000;
    pub const PROCESSOR_XSAVE_FEATURES: u32 = 0x0006_0002;
    pub const PROCESSOR_CL_FLUSH_SIZE: u32 = 0x0006_0003;
    pub const PHYSICAL_ADDRESS_WIDTH: u32 = 0x0006_0006;
    pub const XSAVE_STATES: u32 = 0x0006_0007;
    pub const MAX_XSAVE_DATA_SIZE: u32 = 0x0006_0008;
    pub const PROCESSOR_CLOCK_FREQUENCY: u32 = 0x0006_0009;
    pub const PROCESSOR_FEATURES0: u32 = 0x0006_000a;
    pub const PROCESSOR_FEATURES1: u32 = 0x0006_000b;
    pub const GUEST_OS_ID: u32 = 0x0007_0000;
    pub const VMM_CAPABILITIES: u32 = 0x0009_0007;
    pub const ASSIGNABLE_SYNTHETIC_PROC_FEATURES: u32 = 0x0009_0009;
}

/// `hv_partition_property_vmm_capabilities`: a VMM may ask which synthetic features it can assign.
pub const VMM_CAP_ASSIGNABLE_SYNTHETIC: u64 = 1 << 4;

/// Values of UNIMPLEMENTED_MSR_ACTION.
pub mod unimplemented_msr {
    /// #GP.
    pub const FAULT: u64 = 0;
    /// Writes do nothing, reads give 0.
    pub const IGNORE: u64 = 1;
}

/// PROCESSOR_VENDOR of an Intel processor.
pub const VENDOR_INTEL: u64 = 1;

/// What all partitions on this machine share, the root included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// Banks of `union hv_partition_processor_features`.
    pub features: [u64; 2],
    pub xsave_features: u64,
    pub xsave_states: u64,
    pub xsave_size: u64,
    pub xsave: Layout,
    pub physical_address_width: u64,
    pub clflush_size: u64,
    pub tsc_hz: u64,
}

/// Properties that belong to one child partition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Properties {
    /// Synthetic features that the VMM asked for.
    pub synthetic_features: u64,
    pub unimplemented_msr_action: u64,
    pub time_freeze: u64,
    pub access_tracking: u64,
    pub processors_per_socket: u64,
    /// Banks that the VMM wants disabled.
    pub disabled_features: [u64; 2],
    pub disabled_xsave: u64,
}

impl Machine {
    /// A property of the root partition, or one that is the same in every partition.
    pub fn get(&self, code: u32) -> HvResult<u64> {
        Ok(match code {
            code::PROCESSOR_VENDOR => VENDOR_INTEL,
            code::PROCESSOR_FEATURES0 => self.features[0],
            code::PROCESSOR_FEATURES1 => self.features[1],
            code::PROCESSOR_XSAVE_FEATURES => self.xsave_features,
            code::XSAVE_STATES => self.xsave_states,
            code::MAX_XSAVE_DATA_SIZE => self.xsave_size,
            code::PHYSICAL_ADDRESS_WIDTH => self.physical_address_width,
            code::PROCESSOR_CL_FLUSH_SIZE => self.clflush_size,
            code::PROCESSOR_CLOCK_FREQUENCY => self.tsc_hz,
            code::SYNTHETIC_PROC_FEATURES
            | code::PRIVILEGE_FLAGS
            | code::ISOLATION_STATE
            | code::GUEST_OS_ID => 0,
            _ => return Err(HvStatus::UNKNOWN_PROPERTY),
        })
    }

    /// A property whose value is a structure: its one bank.
    pub fn get_ex(&self, code: u32) -> HvResult<u64> {
        Ok(match code {
            code::VMM_CAPABILITIES => VMM_CAP_ASSIGNABLE_SYNTHETIC,
            code::ASSIGNABLE_SYNTHETIC_PROC_FEATURES => interface::ASSIGNABLE,
            _ => return Err(HvStatus::UNKNOWN_PROPERTY),
        })
    }
}

impl Properties {
    /// A property of a child partition on `machine`.
    pub fn get(&self, machine: &Machine, code: u32) -> HvResult<u64> {
        Ok(match code {
            code::SYNTHETIC_PROC_FEATURES => self.synthetic_features & interface::ASSIGNABLE,
            code::UNIMPLEMENTED_MSR_ACTION => self.unimplemented_msr_action,
            code::TIME_FREEZE => self.time_freeze,
            code::PROCESSORS_PER_SOCKET => self.processors_per_socket,
            code::GPA_PAGE_ACCESS_TRACKING => self.access_tracking,
            code::SUSPEND => 0,
            code::PROCESSOR_FEATURES0 => machine.features[0] & !self.disabled_features[0],
            code::PROCESSOR_FEATURES1 => machine.features[1] & !self.disabled_features[1],
            code::PROCESSOR_XSAVE_FEATURES => machine.xsave_features & !self.disabled_xsave,
            _ => machine.get(code)?,
        })
    }

    /// Sets a property. `initialized` says that the partition can have VPs already: then
    /// what shapes it can not change any more.
    pub fn set(&mut self, code: u32, value: u64, initialized: bool) -> HvResult {
        let early = |ok: bool| match (initialized, ok) {
            (true, _) => Err(HvStatus::INVALID_PARTITION_STATE),
            (_, false) => Err(HvStatus::PROPERTY_VALUE_OUT_OF_RANGE),
            _ => Ok(()),
        };
        let range = |ok: bool| {
            if ok {
                Ok(())
            } else {
                Err(HvStatus::PROPERTY_VALUE_OUT_OF_RANGE)
            }
        };
        match code {
            code::SYNTHETIC_PROC_FEATURES => {
                early(true)?;
                self.synthetic_features = value;
            }
            // None can be had, and none is wanted.
            code::PRIVILEGE_FLAGS => early(value == 0)?,
            code::PROCESSORS_PER_SOCKET => {
                early(value <= 64)?;
                self.processors_per_socket = value;
            }
            code::UNIMPLEMENTED_MSR_ACTION => {
                range(value <= unimplemented_msr::IGNORE)?;
                self.unimplemented_msr_action = value;
            }
            code::TIME_FREEZE => {
                range(value <= 1)?;
                self.time_freeze = value;
            }
            code::GPA_PAGE_ACCESS_TRACKING => {
                range(value <= 1)?;
                self.access_tracking = value;
            }
            code::PROCESSOR_FEATURES0
            | code::PROCESSOR_FEATURES1
            | code::PROCESSOR_XSAVE_FEATURES
            | code::PROCESSOR_VENDOR
            | code::PHYSICAL_ADDRESS_WIDTH
            | code::XSAVE_STATES
            | code::MAX_XSAVE_DATA_SIZE
            | code::PROCESSOR_CLOCK_FREQUENCY => return Err(HvStatus::OPERATION_DENIED),
            _ => return Err(HvStatus::UNKNOWN_PROPERTY),
        }
        Ok(())
    }
}
