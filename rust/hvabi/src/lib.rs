// SPDX-License-Identifier: GPL-2.0

//! What hvcore, hvmod and the root's programs say to each other.
//!
//! Layouts and numbers only: no code that runs. Everything here is `repr(C)` with explicit
//! padding, because the two sides are compiled by different builds (hvcore freestanding, hvmod by
//! Kbuild, the tests by cargo), and because hvcore must treat every byte that the root can write
//! as hostile: a type from this crate says what a field *means*, never that its value is valid.

#![no_std]

pub mod boot;
pub mod call;
pub mod log;
pub mod state;
pub mod stats;
pub mod vp;

/// Version of everything in this crate. hvmod refuses an hvcore image built from another one.
pub const ABI_VERSION: u32 = 1;

/// Size of the pages that both sides count in, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// Pages in what one entry of a page table of level 2 maps, which is 2 MiB.
pub const LARGE_PAGES: usize = 512;

/// First guest physical address that four levels of EPT can not reach (SDM vol. 3, 30.3.2).
pub const GPA_END: u64 = 1 << 48;

/// Where a child sees the registers of its local APIC, unless it moves them. The page there is
/// hvcore's: nothing else can be mapped in its place, and it is not unmapped.
pub const APIC_GPA: u64 = 0xfee0_0000;

/// Most logical processors that one hvcore serves.
pub const MAX_LPS: usize = 256;

/// Most child partitions at one time.
pub const MAX_PARTITIONS: usize = 64;

/// Most virtual processors of one partition; a set of VPs is one `u64`.
pub const MAX_VPS: usize = 64;

/// First CPUID leaf that hvcore answers in the root partition: EAX is the last such leaf,
/// EBX, ECX and EDX spell [`CPUID_SIGNATURE`].
///
/// Outside every range that CPUs or other hypervisors use, so that a root which itself is a guest
/// of another hypervisor keeps seeing that one's leaves at 0x4000_0000.
pub const CPUID_ROOT_BASE: u32 = 0x4856_4d00;

/// CPUID leaf of the root partition: EAX is the index of this LP, EBX [`ABI_VERSION`].
pub const CPUID_ROOT_LP: u32 = CPUID_ROOT_BASE + 1;

/// EBX, ECX, EDX of [`CPUID_ROOT_BASE`]: the bytes `hvmod root  `, little-endian.
pub const CPUID_SIGNATURE: [u32; 3] = [
    u32::from_le_bytes(*b"hvmo"),
    u32::from_le_bytes(*b"d ro"),
    u32::from_le_bytes(*b"ot  "),
];
