// SPDX-License-Identifier: GPL-2.0

//! What CPUID says, in the words of the TLFS.

use super::property::Machine;
use super::xsave::Layout;

/// Registers that CPUID returns: EAX, EBX, ECX, EDX.
pub type Cpuid = [u32; 4];

pub const EAX: usize = 0;
pub const EBX: usize = 1;
pub const ECX: usize = 2;
pub const EDX: usize = 3;

/// Bits of `union hv_partition_processor_features`, bank 0, and where CPUID says so:
/// (bit, leaf, register, bit of the register).
const FEATURES0: &[(u32, u32, usize, u32)] = &[
    (0, 1, ECX, 0),             // SSE3
    (1, 0x8000_0001, ECX, 0),   // LAHF, SAHF
    (2, 1, ECX, 9),             // SSSE3
    (3, 1, ECX, 19),            // SSE4.1
    (4, 1, ECX, 20),            // SSE4.2
    (7, 1, ECX, 23),            // POPCNT
    (8, 1, ECX, 13),            // CMPXCHG16B
    (10, 0x8000_0001, ECX, 5),  // LZCNT
    (15, 0x8000_0001, EDX, 26), // 1 GiB pages
    (16, 1, ECX, 25),           // AES
    (17, 1, ECX, 1),            // PCLMULQDQ
    (18, 1, ECX, 17),           // PCID
    (20, 1, ECX, 29),           // F16C
    (21, 1, ECX, 30),           // RDRAND
    (22, 7, EBX, 0),            // FSGSBASE
    (23, 7, EBX, 7),            // SMEP
    (24, 7, EBX, 9),            // enhanced REP MOVSB
    (25, 7, EBX, 3),            // BMI1
    (26, 7, EBX, 8),            // BMI2
    (29, 1, ECX, 22),           // MOVBE
    (32, 7, EBX, 18),           // RDSEED
    (33, 7, EBX, 19),           // ADX
    (34, 0x8000_0001, ECX, 8),  // PREFETCHW
    (35, 7, EBX, 20),           // SMAP
    (38, 0x8000_0001, EDX, 27), // RDTSCP
    (39, 7, EBX, 23),           // CLFLUSHOPT
    (40, 7, EBX, 24),           // CLWB
    (41, 7, EBX, 29),           // SHA
    (43, 7, EBX, 10),           // INVPCID
    (57, 7, ECX, 22),           // RDPID
    (58, 7, ECX, 2),            // UMIP
];

/// The same for bank 1.
const FEATURES1: &[(u32, u32, usize, u32)] = &[
    (1, 0x8000_0007, EDX, 8), // invariant TSC
    (4, 7, ECX, 16),          // LA57
    (17, 1, ECX, 24),         // TSC deadline timer
];

/// Bits of `union hv_partition_processor_xsave_features`, where CPUID says so.
const XSAVE_FEATURES: &[(u32, u32, usize, u32)] = &[
    (0, 1, ECX, 26), // XSAVE
    (2, 1, ECX, 28), // AVX
    (3, 7, EBX, 5),  // AVX2
];

/// Describes the processor whose CPUID is `cpuid(leaf, subleaf)`.
pub fn describe(cpuid: impl Fn(u32, u32) -> Cpuid, tsc_khz: u64) -> Machine {
    let bank = |table: &[(u32, u32, usize, u32)]| {
        table
            .iter()
            .fold(0, |bank, &(bit, leaf, register, source)| {
                bank | u64::from(cpuid(leaf, 0)[register] >> source & 1) << bit
            })
    };
    let mut xsave_features = bank(XSAVE_FEATURES);
    let (mut states, mut size) = (0, 0);
    if xsave_features & 1 != 0 {
        xsave_features |= u64::from(cpuid(0xd, 1)[EAX] & 1) << 1;
        let leaf = cpuid(0xd, 0);
        states = (u64::from(leaf[EDX]) << 32 | u64::from(leaf[EAX])) & XSAVE_STATES;
        size = 576;
        for state in (2..63).filter(|s| states >> s & 1 != 0) {
            let part = cpuid(0xd, state);
            size = size.max(u64::from(part[EAX]) + u64::from(part[EBX]));
        }
    }
    let width = u64::from(cpuid(0x8000_0008, 0)[EAX] & 0xff);
    Machine {
        features: [bank(FEATURES0), bank(FEATURES1)],
        xsave_features,
        xsave_states: states,
        xsave_size: size,
        xsave: Layout::new(states, |subleaf| cpuid(0xd, subleaf)),
        physical_address_width: if width == 0 { 36 } else { width },
        clflush_size: u64::from(cpuid(1, 0)[EBX] >> 8 & 0xff),
        tsc_hz: tsc_khz * 1000,
    }
}

/// Parts of the XSAVE area that a VP can use: x87, SSE, AVX, AVX-512, PKRU. An area of these in
/// standard format fits in a page.
pub const XSAVE_STATES: u64 = 0x2e7;
