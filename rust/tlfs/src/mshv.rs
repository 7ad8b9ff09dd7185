// SPDX-License-Identifier: GPL-2.0

//! The calls of `/dev/mshv`: `include/uapi/linux/mshv.h`.

use super::pod::pod_struct;

/// Type (magic) of the ioctl numbers.
pub const IOCTL_TYPE: u32 = 0xb8;

const fn io(nr: u32) -> u32 {
    IOCTL_TYPE << 8 | nr
}
const fn iow(nr: u32, size: usize) -> u32 {
    1 << 30 | (size as u32) << 16 | io(nr)
}
const fn ior(nr: u32, size: usize) -> u32 {
    2 << 30 | (size as u32) << 16 | io(nr)
}
const fn iowr(nr: u32, size: usize) -> u32 {
    3 << 30 | (size as u32) << 16 | io(nr)
}

// Of the device.
pub const CREATE_PARTITION: u32 = iow(0x00, size_of::<CreatePartition>());
// Of a partition.
pub const INITIALIZE_PARTITION: u32 = io(0x00);
pub const CREATE_VP: u32 = iow(0x01, size_of::<CreateVp>());
pub const SET_GUEST_MEMORY: u32 = iow(0x02, size_of::<UserMemRegion>());
pub const IRQFD: u32 = iow(0x03, size_of::<UserIrqfd>());
pub const IOEVENTFD: u32 = iow(0x04, size_of::<UserIoeventfd>());
pub const SET_MSI_ROUTING: u32 = iow(0x05, size_of::<UserIrqTable>());
pub const GET_GPAP_ACCESS_BITMAP: u32 = iowr(0x06, size_of::<GpapAccessBitmap>());
// Of the device, a partition, a VP.
pub const ROOT_HVCALL: u32 = iowr(0x07, size_of::<RootHvcall>());
// Of a VP.
pub const RUN_VP: u32 = ior(0x00, RUN_VP_SIZE);
pub const GET_VP_STATE: u32 = iowr(0x01, size_of::<GetSetVpState>());
pub const SET_VP_STATE: u32 = iowr(0x02, size_of::<GetSetVpState>());

use core::mem::size_of;

/// Bytes of the buffer of [`RUN_VP`].
pub const RUN_VP_SIZE: usize = 256;

/// VP indices that [`CREATE_VP`] takes.
pub const MAX_VPS: u32 = 256;

/// Numbers of interrupts that [`SET_MSI_ROUTING`] takes.
pub const MAX_GUEST_IRQS: u32 = 4096;

/// Bits of [`CreatePartition::pt_flags`].
pub mod pt_flags {
    pub const LAPIC: u64 = 1 << 0;
    pub const X2APIC: u64 = 1 << 1;
    pub const GPA_SUPER_PAGES: u64 = 1 << 2;
    /// The program passes a [`CreatePartitionV2`](super::CreatePartitionV2).
    pub const CPU_AND_XSAVE_FEATURES: u64 = 1 << 3;
    pub const NESTED_VIRTUALIZATION: u64 = 1 << 4;
    pub const SMT_ENABLED_GUEST: u64 = 1 << 5;
    pub const MASK: u64 = (1 << 6) - 1;
}

/// Values of [`CreatePartition::pt_isolation`] from here up are not valid.
pub const ISOLATION_COUNT: u64 = 1;

/// Banks of processor features in [`CreatePartitionV2`].
pub const FEATURE_BANKS: usize = 2;

/// Bits of [`UserMemRegion::flags`].
pub mod mem_flags {
    pub const WRITABLE: u8 = 1 << 0;
    pub const EXECUTABLE: u8 = 1 << 1;
    pub const UNMAP: u8 = 1 << 2;
    pub const MASK: u8 = (1 << 3) - 1;
}

/// Bits of [`UserIrqfd::flags`].
pub mod irqfd_flags {
    pub const DEASSIGN: u32 = 1 << 0;
    pub const RESAMPLE: u32 = 1 << 1;
    pub const MASK: u32 = (1 << 2) - 1;
}

/// Bits of [`UserIoeventfd::flags`].
pub mod ioeventfd_flags {
    pub const DATAMATCH: u32 = 1 << 0;
    pub const PIO: u32 = 1 << 1;
    pub const DEASSIGN: u32 = 1 << 2;
    pub const MASK: u32 = (1 << 3) - 1;
}

/// [`GpapAccessBitmap::access_type`] and `access_op` from these up are not valid.
pub const GPAP_ACCESS_TYPE_COUNT: u8 = 2;
pub const GPAP_ACCESS_OP_COUNT: u8 = 3;
/// [`GpapAccessBitmap::access_type`], besides 0 for accessed pages.
pub const GPAP_ACCESS_TYPE_DIRTY: u8 = 1;
/// [`GpapAccessBitmap::access_op`], besides 0 for none.
pub const GPAP_ACCESS_OP_CLEAR: u8 = 1;
pub const GPAP_ACCESS_OP_SET: u8 = 2;

/// [`GetSetVpState::type_`].
pub mod vp_state {
    pub const LAPIC: u8 = 0;
    pub const XSAVE: u8 = 1;
    pub const SIMP: u8 = 2;
    pub const SIEFP: u8 = 3;
    pub const SYNTHETIC_TIMERS: u8 = 4;
    pub const COUNT: u8 = 5;
}

/// Page offsets for mmap of a VP.
pub mod mmap_offset {
    pub const REGISTERS: u64 = 0;
    pub const INTERCEPT_MESSAGE: u64 = 1;
    pub const GHCB: u64 = 2;
}

pod_struct! {
    pub struct CreatePartition {
        pub pt_flags: u64,
        pub pt_isolation: u64,
    }
    pub struct CreatePartitionV2 {
        pub pt_flags: u64,
        pub pt_isolation: u64,
        pub pt_num_cpu_fbanks: u16,
        pub pt_rsvd: [u8; 6],
        pub pt_cpu_fbanks: [u64; 2],
        pub pt_rsvd1: [u64; 2],
        pub pt_disabled_xsave: u64,
    }
    pub struct CreateVp {
        pub vp_index: u32,
    }
    pub struct UserMemRegion {
        pub size: u64,
        pub guest_pfn: u64,
        pub userspace_addr: u64,
        pub flags: u8,
        pub rsvd: [u8; 7],
    }
    pub struct UserIrqfd {
        pub fd: i32,
        pub resamplefd: i32,
        pub gsi: u32,
        pub flags: u32,
    }
    pub struct UserIoeventfd {
        pub datamatch: u64,
        pub addr: u64,
        pub len: u32,
        pub fd: i32,
        pub flags: u32,
        pub rsvd: [u8; 4],
    }
    pub struct UserIrqEntry {
        pub gsi: u32,
        pub address_lo: u32,
        pub address_hi: u32,
        pub data: u32,
    }
    /// Followed by `nr` times [`UserIrqEntry`].
    pub struct UserIrqTable {
        pub nr: u32,
        pub rsvd: u32,
    }
    pub struct GpapAccessBitmap {
        pub access_type: u8,
        pub access_op: u8,
        pub rsvd: [u8; 6],
        pub page_count: u64,
        pub gpap_base: u64,
        pub bitmap_ptr: u64,
    }
    pub struct RootHvcall {
        pub code: u16,
        pub reps: u16,
        pub in_sz: u16,
        pub out_sz: u16,
        pub status: u16,
        pub rsvd: [u8; 6],
        pub in_ptr: u64,
        pub out_ptr: u64,
    }
    pub struct GetSetVpState {
        pub type_: u8,
        pub rsvd: [u8; 3],
        pub buf_sz: u32,
        pub buf_ptr: u64,
    }
}
