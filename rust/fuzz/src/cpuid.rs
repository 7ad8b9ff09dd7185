// SPDX-License-Identifier: GPL-2.0

//! CPUID of children and of the root, whatever the processor says.

use hvcore::policy::cpuid::{child, root, ChildCpu, Clock, Regs};
use hvcore::policy::cr::{cr4, Fixed, Policy};
use hvcore::policy::xsave::Layout;

use crate::bytes::Bytes;

/// Features that a child must never find, by leaf, subleaf (where there are some) and register.
fn never(leaf: u32, subleaf: u32, register: usize) -> u32 {
    let (seven, d) = (subleaf << 8 | 7, subleaf << 8 | 0xd);
    let leaf = [leaf, seven, d][usize::from(leaf == 7) + 2 * usize::from(leaf == 0xd)];
    match (leaf, register) {
        // MONITOR, VMX, SMX, PDCM, hypervisor. PSN, ACPI, PBE.
        (1, 2) => 1 << 3 | 1 << 5 | 1 << 6 | 1 << 15 | 1 << 31,
        (1, 3) => 1 << 18 | 1 << 22 | 1 << 31,
        // SGX, HLE, RTM, PQM, PQE, PT.
        (7, 1) => 1 << 2 | 1 << 4 | 1 << 11 | 1 << 12 | 1 << 15 | 1 << 25,
        // WAITPKG, CET_SS, LA57, key locker, ENQCMD, SGX_LC, PKS.
        (7, 2) => 1 << 5 | 1 << 7 | 1 << 16 | 1 << 23 | 1 << 29 | 1 << 30 | 1 << 31,
        // UINTR, CET_IBT, AMX.
        (7, 3) => 1 << 5 | 1 << 20 | 1 << 22 | 1 << 24 | 1 << 25,
        // LASS, ARCH_PERFMON_EXT, FRED, LKGS, WRMSRNS, AMX_FP16, HRESET, LAM, MSRLIST.
        (0x107, 0) => 1 << 6 | 1 << 8 | 7 << 17 | 1 << 21 | 1 << 22 | 1 << 26 | 1 << 27,
        // AMX_COMPLEX, USER_MSR, UIRET_UIF, CET_SSS, AVX10, APX_F.
        (0x107, 3) => 1 << 8 | 1 << 15 | 7 << 17 | 1 << 21,
        // XFD, and all that is not known.
        (0x10d, 0) => !0xf,
        // SVM, and all that Intel's processors do not have.
        (0x8000_0001, 2) => !(1 << 0 | 1 << 5 | 1 << 8),
        (0x8000_0001, 3) => !(1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29),
        (0x8000_0007, 3) => !(1 << 8),
        _ => 0,
    }
}

fn bits(numbers: &[u32]) -> u32 {
    numbers.iter().map(|number| 1 << number).sum()
}

/// Features that a child has if the processor has them: instructions, and what comes with the state
/// that is switched. Each is an entry of the manual's tables that needs nothing of hvcore.
fn may(leaf: u32, subleaf: u32, register: usize) -> u32 {
    match (leaf, subleaf, register) {
        // SSE3, PCLMULQDQ, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX,
        // F16C, RDRAND.
        (1, _, 2) => bits(&[0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30]),
        // All but PSN, DS, ACPI, TM, PBE, those that are reserved, and what is the partition's.
        (1, _, 3) => !bits(&[9, 10, 18, 20, 21, 22, 28, 29, 30, 31]),
        // All but SGX, HLE, RTM, PQM, MPX, PQE, PT and the reserved bit.
        (7, 0, 1) => !bits(&[2, 4, 11, 12, 14, 15, 22, 25]),
        // PREFETCHWT1, VBMI, UMIP, PKU; VBMI2 to BITALG without CET and TME; VPOPCNTDQ, RDPID,
        // CLDEMOTE, MOVDIRI, MOVDIR64B.
        (7, 0, 2) => bits(&[0, 1, 2, 3, 6, 8, 9, 10, 11, 12, 14, 22, 25, 27, 28]),
        // 4VNNIW, 4FMAPS, FSRM, VP2INTERSECT, MD_CLEAR, SERIALIZE, FP16, IBRS, STIBP, L1D_FLUSH,
        // ARCH_CAPABILITIES, SSBD.
        (7, 0, 3) => bits(&[2, 3, 4, 8, 10, 14, 23, 26, 27, 28, 29, 31]),
        // SHA512, SM3, SM4, VNNI, BF16, CMPCCXADD, three of fast strings, IFMA.
        (7, 1, 0) => bits(&[0, 1, 2, 4, 5, 7, 10, 11, 12, 23]),
        // VNNI-INT8, NE-CONVERT, VNNI-INT16, PREFETCHI.
        (7, 1, 3) => bits(&[4, 5, 10, 14]),
        // PSFD, IPRED, RRSBA, BHI, MCDT_NO.
        (7, 2, 3) => bits(&[0, 1, 2, 4, 5]),
        // XSAVEOPT, XSAVEC, XGETBV of 1.
        (0xd, 1, 0) => 7,
        // LAHF, LZCNT, PREFETCHW. SYSCALL, NX, pages of 1 GiB, RDTSCP, LM. Invariant TSC.
        (0x8000_0001, _, 2) => bits(&[0, 5, 8]),
        (0x8000_0001, _, 3) => bits(&[11, 20, 26, 27, 29]),
        (0x8000_0007, _, 3) => 1 << 8,
        _ => 0,
    }
}

/// What is not a feature: sizes, IDs and clocks.
fn check_numbers(leaf: u32, subleaf: u32, native: Regs, seen: Regs, cpu: &ChildCpu) {
    let ids = cpu.vp_count.clamp(1, 1 << 15).next_power_of_two();
    match (leaf, subleaf) {
        (0, _) => assert_eq!(seen, [0x16, native[1], native[2], native[3]]),
        (1, _) => {
            // Signature; brand and line size of CLFLUSH; the package's IDs; the APIC's own.
            assert_eq!((seen[0], seen[1] & 0xffff), (native[0], native[1] & 0xffff));
            assert_eq!(seen[1] >> 16 & 0xff, ids.min(255));
            assert_eq!(seen[1] >> 24, cpu.apic_id & 0xff);
            let on = |register: usize, bit: u32| seen[register] >> bit & 1 != 0;
            assert_eq!(on(2, 27), cpu.cr4 & cr4::OSXSAVE != 0);
            assert_eq!((on(3, 9), on(3, 28)), (cpu.apic_enabled, cpu.vp_count > 1));
            assert!(on(2, 21) && on(2, 24), "x2APIC and TSC deadline");
        }
        (4, _) if native[0] & 0x1f == 0 => assert_eq!(seen, [0; 4]),
        (4, _) => {
            let shared = [0, ids.min(4096) - 1][usize::from(native[0] >> 5 & 7 > 2)];
            assert_eq!(
                (seen[0] >> 14 & 0xfff, seen[0] >> 26),
                (shared, ids.min(64) - 1)
            );
            assert_eq!((seen[0] ^ native[0]) & 0x3ff, 0, "type, level and kind");
            assert_eq!(
                (seen[1], seen[2], seen[3]),
                (native[1], native[2], native[3] & 7)
            );
        }
        (6, _) => assert_eq!(seen, [4, 0, 0, 0], "ARAT alone"),
        (7, 0) => {
            assert_eq!(seen[0], native[0].min(2), "subleaves");
            assert_eq!(seen[2] >> 4 & 1 != 0, cpu.cr4 & cr4::PKE != 0, "OSPKE");
        }
        (7, 1) => assert_eq!(seen[1..3], [0, 0]),
        (7, 2) => assert_eq!(seen[..3], [0; 3]),
        (7, _) => assert_eq!(seen, [0; 4]),
        (0xb, level) => {
            assert_eq!((seen[2] & 0xff, seen[3]), (level & 0xff, cpu.apic_id));
            let kinds = [1, 2, 0][level.min(2) as usize];
            assert_eq!(seen[2] >> 8, kinds, "thread, core, none");
        }
        (0x15, _) => {
            let khz = u64::from(seen[2]) * u64::from(seen[1]) / u64::from(seen[0]) / 1000;
            let off = khz.abs_diff(cpu.clock.tsc_khz());
            assert!(off <= 1, "{khz} kHz of {}", cpu.clock.tsc_khz());
        }
        (0x8000_0000, _) => assert_eq!(seen, [0x8000_0008, 0, 0, 0]),
        (0x8000_0002..=0x8000_0004, _) => assert_eq!(seen, native, "the brand"),
        (0x8000_0006, _) => assert_eq!(seen, [0, 0, native[2], 0], "the L2 cache"),
        (0x8000_0008, _) => {
            assert_eq!(seen, [(native[0] & 0xff).min(48) | 48 << 8, 0, 0, 0]);
        }
        _ => {}
    }
}

/// Features that are emulated, or follow from the partition, whatever the processor has: OSXSAVE,
/// x2APIC, TSC deadline; APIC, HTT; OSPKE.
fn ours(leaf: u32, register: usize) -> u32 {
    match (leaf, register) {
        (1, 2) => 1 << 21 | 1 << 24 | 1 << 27,
        (1, 3) => 1 << 9 | 1 << 28,
        (7, 2) => 1 << 4,
        _ => 0,
    }
}

fn check_root(leaf: u32, subleaf: u32, native: Regs, cr4: u64) {
    let seen = root(leaf, subleaf, native, 3, cr4);
    match leaf {
        hvabi::CPUID_ROOT_BASE | hvabi::CPUID_ROOT_LP => {}
        1 => {
            assert_eq!(seen[2] & (1 << 5 | 1 << 6), 0, "VMX and SMX");
            assert_eq!((seen[2] ^ native[2]) & !(1 << 5 | 1 << 6 | 1 << 27), 0);
            assert_eq!(
                (seen[0], seen[1], seen[3]),
                (native[0], native[1], native[3])
            );
        }
        7 if subleaf == 0 => assert_eq!((seen[2] ^ native[2]) & !(1 << 4), 0),
        _ => assert_eq!(seen, native),
    }
}

fn check_features(leaf: u32, subleaf: u32, native: Regs, cpu: &ChildCpu) {
    let seen = child(leaf, subleaf, native, cpu);
    let features: &[usize] = match (leaf, subleaf) {
        (1, _) => &[2, 3],
        (7, 0) => &[1, 2, 3],
        (7, 1) => &[0, 1, 2, 3],
        (7, _) => &[1, 2, 3],
        (0xd, 1) => &[0],
        (0x8000_0001 | 0x8000_0007, _) => &[2, 3],
        _ => &[],
    };
    for &register in features {
        let feature = seen[register];
        assert_eq!(
            feature & never(leaf, subleaf, register),
            0,
            "leaf {leaf:#x}, register {register}"
        );
        let ours = if subleaf == 0 || leaf == 1 {
            ours(leaf, register)
        } else {
            0
        };
        // XSAVES, where it is on, too.
        let xsaves = u32::from(leaf == 0xd && cpu.xsaves) << 3;
        let may = may(leaf, subleaf, register) | xsaves;
        assert_eq!(
            feature & !ours,
            native[register] & may & !ours,
            "leaf {leaf:#x}, register {register}"
        );
        let made_up = feature & !native[register] & !ours;
        assert_eq!(
            made_up, 0,
            "leaf {leaf}, register {register}: the processor has it not"
        );
    }
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    // Size and offset of each component of XSAVE, mostly such that they fit.
    let mut leaf_d = [[0; 4]; 10];
    for component in &mut leaf_d[2..] {
        let (size, offset) = (u32::from(bytes.u8()), u32::from(bytes.u8()));
        *component = [size * 8, 576 + offset * 12, u32::from(bytes.u8()) & 3, 0];
    }
    leaf_d[0] = [bytes.value() as u32, 0, 0, 0];
    let xsave = Layout::new(|i| leaf_d.get(i as usize).copied().unwrap_or([0; 4]));
    let leaf = match bytes.u8() {
        kind @ 0..=63 => u32::from(kind),
        kind @ 64..=127 => 0x8000_0000 | u32::from(kind & 15),
        128..=131 => hvabi::CPUID_ROOT_BASE + u32::from(bytes.u8() & 1),
        _ => bytes.u32(),
    };
    let subleaf = [u32::from(bytes.u8()), bytes.u32()][usize::from(bytes.u8() & 1)];
    let native: Regs = core::array::from_fn(|_| bytes.value() as u32);
    let cr4 = bytes.value();
    let flags = bytes.u8();
    let cpu = ChildCpu {
        apic_id: bytes.u32(),
        vp_count: bytes.value() as u32,
        cr4,
        xcr0: bytes.value(),
        clock: Clock::new(bytes.value()),
        xsave: &xsave,
        xsaves: flags & 1 != 0,
        apic_enabled: flags & 2 != 0,
    };
    check_root(leaf, subleaf, native, cr4);
    let seen = child(leaf, subleaf, native, &cpu);
    check_features(leaf, subleaf, native, &cpu);
    for (leaf, subleaf) in [
        (1, 0),
        (7, 0),
        (7, 1),
        (7, 2),
        (0xd, 1),
        (0x8000_0001, 0),
        (0x8000_0007, 0),
    ] {
        check_features(leaf, subleaf, native, &cpu);
    }
    check_numbers(leaf, subleaf, native, seen, &cpu);
    // What CPUID offers CR4 takes (SDM vol. 3, 2.5): PCID, PKU, SMEP, SMAP.
    let policy = Policy::child(Fixed {
        cr0_0: 0,
        cr4_0: 0,
        cr4_1: !0,
    });
    let taken = |bit: u64| policy.cr4_mask & bit == 0;
    if leaf == 1 && seen[2] >> 17 & 1 != 0 {
        assert!(taken(cr4::PCIDE));
    }
    if leaf == 7 && subleaf == 0 {
        assert!(seen[2] >> 3 & 1 == 0 || taken(cr4::PKE));
        assert!(seen[1] >> 7 & 1 == 0 || taken(cr4::SMEP));
        assert!(seen[1] >> 20 & 1 == 0 || taken(cr4::SMAP));
    }
    if leaf == 0xd && subleaf == 0 {
        assert!(seen[1] <= seen[2], "more than the largest area");
        assert!(seen[2] <= 4096, "the area is a page");
        assert_eq!(u64::from(seen[0]), xsave.offered());
    }
    match (leaf, subleaf) {
        // MONITOR, DCA, performance counters, RDT, SGX, PT.
        (3 | 5 | 8..=0xa | 0xc | 0xe..=0x14, _) => assert_eq!(seen, [0; 4], "leaf {leaf:#x}"),
        // All VPs are in the package.
        (0xb, 1) => assert!(
            1 << seen[0] >= cpu.vp_count.min(1 << 15),
            "{} VPs",
            cpu.vp_count
        ),
        (0xd, 1) => {
            assert!(seen[0] >> 3 & 1 == 0 || cpu.xsaves, "XSAVES is off");
            let size = xsave.compact_size(cpu.xcr0);
            let sizes = [0, size][usize::from(seen[0] & 0xa != 0)];
            assert_eq!(seen[1..], [sizes, 0, 0]);
        }
        (0x8000_0008, _) => assert!(seen[0] & 0xff <= (native[0] & 0xff).min(48)),
        _ => {}
    }
    // Leaves that a child has not look like the last one, and hvcore's own are none of them.
    if (0x17..0x8000_0000).contains(&leaf) || leaf > 0x8000_0008 {
        assert_eq!(seen, child(0x16, 0, native, &cpu));
    }
}
