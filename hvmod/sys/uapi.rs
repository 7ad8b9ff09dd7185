// SPDX-License-Identifier: GPL-2.0

//! The structures of `include/uapi/linux/hvmod.h`.

use crate::hvabi::{log::LogRecord, stats::EXIT_REASONS, MAX_VPS};
use crate::tlfs::pod::Pod;
use core::mem::size_of;
use kernel::transmute::{AsBytes, FromBytes};

/// `struct hvmod_caps`.
#[repr(C)]
pub(crate) struct Caps {
    pub(crate) caps: u64,
    pub(crate) reserved: [u64; 3],
}

/// `struct hvmod_info`.
#[repr(C)]
pub(crate) struct Info {
    pub(crate) abi: u32,
    pub(crate) lps: u32,
    pub(crate) partitions: u32,
    pub(crate) dead: u32,
    pub(crate) core_bytes: u64,
    pub(crate) core_text: u64,
    pub(crate) deposited_bytes: u64,
    pub(crate) shared_bytes: u64,
    pub(crate) tsc_khz: u64,
    pub(crate) core_spa: u64,
    pub(crate) core_size: u64,
    pub(crate) private_bytes: u64,
    pub(crate) measures: u32,
    pub(crate) measures_lacking: u32,
    pub(crate) reserved: [u64; 3],
}

/// `struct hvmod_lp_info`.
#[repr(C)]
pub(crate) struct LpInfo {
    pub(crate) index: u32,
    pub(crate) cpu: u32,
    pub(crate) apic_id: u32,
    pub(crate) active: u32,
    pub(crate) root_exits: [u64; EXIT_REASONS],
    pub(crate) child_exits: [u64; EXIT_REASONS],
    pub(crate) child_runs: u64,
    pub(crate) nmis: u64,
    pub(crate) hypercalls: u64,
    pub(crate) denied: u64,
    pub(crate) denied_rip: u64,
    pub(crate) hidden_reads: u64,
    pub(crate) reserved: [u64; 2],
}

/// `struct hvmod_partition_info`.
#[repr(C)]
pub(crate) struct PartitionInfo {
    pub(crate) id: u64,
    pub(crate) vps: u32,
    pub(crate) owner: i32,
    pub(crate) comm: [u8; 16],
    pub(crate) shared_bytes: u64,
    pub(crate) deposited_bytes: u64,
    pub(crate) exits: [u64; EXIT_REASONS],
    pub(crate) private_bytes: u64,
    pub(crate) reserved: [u64; 3],
}

/// `struct hvmod_private_memory`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PrivateMemory {
    pub(crate) guest_pfn: u64,
    pub(crate) size: u64,
    pub(crate) image: u64,
    pub(crate) flags: u32,
    pub(crate) reserved: [u32; 3],
}

/// `struct hvmod_discard_memory`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DiscardMemory {
    pub(crate) guest_pfn: u64,
    pub(crate) size: u64,
    pub(crate) reserved: [u64; 2],
}

/// `struct hvmod_vp_info`.
#[repr(C)]
pub(crate) struct VpInfo {
    pub(crate) partition: u64,
    pub(crate) index: u32,
    pub(crate) state: u32,
    pub(crate) cpu: u32,
    pub(crate) thread: i32,
    pub(crate) exits: [u64; EXIT_REASONS],
    pub(crate) handled: u64,
    pub(crate) injected: u64,
    pub(crate) reserved: [u64; 4],
}

/// `struct hvmod_read_log`.
#[repr(C)]
pub(crate) struct ReadLog {
    pub(crate) seq: u64,
    pub(crate) records: u64,
    pub(crate) count: u32,
    pub(crate) reserved: u32,
    pub(crate) lost: u64,
}

/// `struct hvmod_log_record` is the same as hvcore's.
#[repr(transparent)]
pub(crate) struct Record(pub(crate) LogRecord);

// A C program that includes the header is tested to see the same sizes.
const _: () = {
    assert!(MAX_VPS == 64);
    assert!(size_of::<Caps>() == 32);
    assert!(size_of::<Info>() == 112);
    assert!(size_of::<LpInfo>() == 1360);
    assert!(size_of::<PartitionInfo>() == 720);
    assert!(size_of::<VpInfo>() == 712);
    assert!(size_of::<ReadLog>() == 32);
    assert!(size_of::<PrivateMemory>() == 40);
    assert!(size_of::<DiscardMemory>() == 32);
    assert!(size_of::<Record>() == 256);
};

// SAFETY (for all below): integers and arrays of them, laid out without padding: each sum of sizes
// above is that of the fields.

// SAFETY: See above.
unsafe impl Pod for PrivateMemory {}
// SAFETY: See above.
unsafe impl Pod for DiscardMemory {}
// SAFETY: See above.
unsafe impl AsBytes for Caps {}
// SAFETY: See above.
unsafe impl AsBytes for Info {}
// SAFETY: See above.
unsafe impl AsBytes for LpInfo {}
// SAFETY: See above.
unsafe impl FromBytes for LpInfo {}
// SAFETY: See above.
unsafe impl AsBytes for PartitionInfo {}
// SAFETY: See above.
unsafe impl FromBytes for PartitionInfo {}
// SAFETY: See above.
unsafe impl AsBytes for VpInfo {}
// SAFETY: See above.
unsafe impl FromBytes for VpInfo {}
// SAFETY: See above.
unsafe impl AsBytes for ReadLog {}
// SAFETY: See above.
unsafe impl FromBytes for ReadLog {}
// SAFETY: See above.
unsafe impl AsBytes for Record {}
