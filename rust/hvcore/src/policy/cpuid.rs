// SPDX-License-Identifier: GPL-2.0

//! CPUID (SDM vol. 2, CPUID; vol. 1, 20).

use super::cr::cr4;
use super::xsave::Layout;

/// EAX, EBX, ECX, EDX.
pub type Regs = [u32; 4];

const NONE: Regs = [0; 4];

const OSXSAVE: u32 = 1 << 27;
const OSPKE: u32 = 1 << 4;
/// Leaf 7 EBX: processor trace, which [`root_may_write`](super::msr::root_may_write) refuses.
pub const TRACE: u32 = 1 << 25;

/// Bit `bit` of `word` if `on`.
fn flag(on: bool, bit: u32) -> u32 {
    if on {
        bit
    } else {
        0
    }
}

/// What the root sees. `native` is what the processor says to hvcore, `cr4` the root's: some bits
/// tell of CR4, which is another one while hvcore runs.
pub fn root(leaf: u32, subleaf: u32, native: Regs, lp: u32, cr4: u64) -> Regs {
    let [eax, ebx, ecx, edx] = native;
    match leaf {
        1 => {
            // VMX and SMX are hvcore's.
            let kept = ecx & !(1 << 5 | 1 << 6 | OSXSAVE);
            [eax, ebx, kept | flag(cr4 & cr4::OSXSAVE != 0, OSXSAVE), edx]
        }
        7 if subleaf == 0 => {
            let ecx = ecx & !OSPKE | flag(cr4 & cr4::PKE != 0, OSPKE);
            [eax, ebx & !TRACE, ecx, edx]
        }
        hvabi::CPUID_ROOT_BASE => {
            let [ebx, ecx, edx] = hvabi::CPUID_SIGNATURE;
            [hvabi::CPUID_ROOT_LP, ebx, ecx, edx]
        }
        hvabi::CPUID_ROOT_LP => [lp, hvabi::ABI_VERSION, 0, 0],
        _ => native,
    }
}

/// The clocks of children: their TSC, and the crystal from which it and the local APIC's timer run.
///
/// The crystal has the TSC's own frequency, divided by 2 or more only where that would not fit
/// CPUID's 32 bits. So the ratio is exact, and no guest's 32-bit arithmetic overflows with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    tsc_khz: u32,
    /// TSC ticks for each tick of the crystal.
    ratio: u32,
}

impl Clock {
    pub const fn new(tsc_khz: u64) -> Clock {
        let tsc_khz = if tsc_khz > u32::MAX as u64 { u32::MAX } else { tsc_khz as u32 };
        let ratio = (tsc_khz as u64 * 1000).div_ceil(u32::MAX as u64) as u32;
        Clock { tsc_khz, ratio: if ratio == 0 { 1 } else { ratio } }
    }

    /// TSC ticks for each tick of the local APIC's timer, before its divider. Not 0.
    pub const fn ratio(self) -> u32 {
        self.ratio
    }

    pub const fn tsc_khz(self) -> u64 {
        self.tsc_khz as u64
    }

    const fn crystal_hz(self) -> u32 {
        (self.tsc_khz as u64 * 1000 / self.ratio as u64) as u32
    }
}

/// What a child's CPUID depends on beside the processor.
#[derive(Clone, Copy, Debug)]
pub struct ChildCpu<'a> {
    pub apic_id: u32,
    /// VPs of the partition; at least 1.
    pub vp_count: u32,
    /// CR4 as the child sees it.
    pub cr4: u64,
    pub xcr0: u64,
    pub clock: Clock,
    pub xsave: &'a Layout,
    /// The VM-execution control "enable XSAVES/XRSTORS" is set.
    pub xsaves: bool,
    /// IA32_APIC_BASE.EN.
    pub apic_enabled: bool,
}

/// Largest basic and extended leaf of a child.
const MAX_BASIC: u32 = 0x16;
const MAX_EXTENDED: u32 = 0x8000_0008;

/// The set of bits with these numbers.
const fn bits<const N: usize>(numbers: [u32; N]) -> u32 {
    let mut set = 0;
    let mut i = 0;
    while i < N {
        set |= 1 << numbers[i];
        i += 1;
    }
    set
}

/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE,
/// AVX, F16C, RDRAND. Not DTES64, MONITOR, VMX, SMX, EIST, TM2, SDBG, PDCM, DCA, hypervisor.
const LEAF1_ECX: u32 = bits([0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30]);
/// x2APIC and TSC deadline: emulated, whether the processor has them or not.
const LEAF1_ECX_OURS: u32 = bits([21, 24]);
/// Leaf 1 EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, MCE, CX8, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE36,
/// CLFSH, MMX, FXSR, SSE, SSE2, SS. Not PSN, DS, ACPI, TM, PBE. MCE and MCA are there because
/// systems insist on them; IA32_MCG_CAP then says that there are no banks.
const LEAF1_EDX: u32 =
    bits([0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26, 27]);
const APIC: u32 = 1 << 9;
const HTT: u32 = 1 << 28;

/// Leaf 7 EBX: FSGSBASE, TSC_ADJUST, BMI1, AVX2, FDP_EXCPTN, SMEP, BMI2, ERMS, INVPCID, no FCS/FDS,
/// AVX512F, DQ, RDSEED, ADX, SMAP, IFMA, CLFLUSHOPT, CLWB, PF, ER, CD, SHA, BW, VL. Not SGX, HLE,
/// RTM (both unsafe), PQM, MPX, PQE, PT.
const LEAF7_EBX: u32 =
    bits([0, 1, 3, 5, 6, 7, 8, 9, 10, 13, 16, 17, 18, 19, 20, 21, 23, 24, 26, 27, 28, 29, 30, 31]);
/// Leaf 7 ECX: PREFETCHWT1, VBMI, UMIP, PKU, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ,
/// RDPID, CLDEMOTE, MOVDIRI, MOVDIR64B. Not WAITPKG, CET, TME, LA57, key locker, ENQCMD, PKS.
const LEAF7_ECX: u32 = bits([0, 1, 2, 3, 6, 8, 9, 10, 11, 12, 14, 22, 25, 27, 28]);
/// Leaf 7 EDX: 4VNNIW, 4FMAPS, FSRM, VP2INTERSECT, MD_CLEAR, SERIALIZE, AVX512_FP16, IBRS and IBPB,
/// STIBP, L1D_FLUSH, ARCH_CAPABILITIES, SSBD. Not UINTR, SRBDS_CTRL, TSX things, hybrid, LBR, IBT,
/// AMX, core capabilities.
const LEAF7_EDX: u32 = bits([2, 3, 4, 8, 10, 14, 23, 26, 27, 28, 29, 31]);
/// Leaf 7.1 EAX: SHA512, SM3, SM4, AVX-VNNI, AVX512_BF16, CMPCCXADD, FZRM, FSRS, FSRC, AVX-IFMA.
/// Not FRED, LKGS, WRMSRNS, AMX, HRESET, LAM, MSRLIST.
const LEAF7_1_EAX: u32 = bits([0, 1, 2, 4, 5, 7, 10, 11, 12, 23]);
/// Leaf 7.1 EDX: AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16, PREFETCHI.
const LEAF7_1_EDX: u32 = bits([4, 5, 10, 14]);
/// Leaf 7.2 EDX: PSFD, IPRED_CTRL, RRSBA_CTRL, BHI_CTRL (bits of IA32_SPEC_CTRL, which children
/// have), MCDT_NO. Not DDPD_U.
const LEAF7_2_EDX: u32 = bits([0, 1, 2, 4, 5]);

/// Leaf 0xD.1 EAX: XSAVEOPT, XSAVEC, XGETBV with ECX = 1.
const LEAFD_1_EAX: u32 = bits([0, 1, 2]);
const XSAVEC: u32 = 1 << 1;
const XSAVES: u32 = 1 << 3;

/// Leaf 0x80000001 ECX: LAHF, LZCNT, PREFETCHW. EDX: SYSCALL, NX, 1 GiB pages, RDTSCP, LM.
const EXT1_ECX: u32 = bits([0, 5, 8]);
const EXT1_EDX: u32 = bits([11, 20, 26, 27, 29]);

/// What a child sees. `native` is what the processor says for that leaf and subleaf.
#[inline(always)]
pub fn child(leaf: u32, subleaf: u32, native: Regs, cpu: &ChildCpu) -> Regs {
    let [eax, ebx, ecx, edx] = native;
    // One thread for each core, APIC IDs are consecutive: IDs in the package, a power of two.
    let ids = || cpu.vp_count.clamp(1, 1 << 15).next_power_of_two();
    match leaf {
        0 => [MAX_BASIC, ebx, ecx, edx],
        1 => [
            eax,
            ebx & 0xffff | ids().min(255) << 16 | (cpu.apic_id & 0xff) << 24,
            ecx & LEAF1_ECX | LEAF1_ECX_OURS | flag(cpu.cr4 & cr4::OSXSAVE != 0, OSXSAVE),
            edx & LEAF1_EDX | flag(cpu.apic_enabled, APIC) | flag(cpu.vp_count > 1, HTT),
        ],
        2 => native,
        4 if eax & 0x1f == 0 => NONE,
        4 => {
            // The last level is shared by all cores, the others are the core's own.
            let sharing = if eax >> 5 & 7 >= 3 { ids().min(4096) - 1 } else { 0 };
            [eax & 0x3ff | sharing << 14 | (ids().min(64) - 1) << 26, ebx, ecx, edx & 7]
        }
        // ARAT: the timer runs in every state.
        6 => [1 << 2, 0, 0, 0],
        7 => leaf_7(subleaf, native, cpu),
        0xb => topology(subleaf, ids(), cpu),
        0xd => leaf_d(subleaf, native, cpu),
        0x15 => [1, cpu.clock.ratio, cpu.clock.crystal_hz(), 0],
        // Monitor, DCA, performance counters, RDT, SGX, PT.
        3 | 5 | 8..=0x14 => NONE,
        0x8000_0000 => [MAX_EXTENDED, 0, 0, 0],
        0x8000_0001 => [0, 0, ecx & EXT1_ECX, edx & EXT1_EDX],
        0x8000_0002..=0x8000_0004 => native,
        0x8000_0005 => NONE,
        0x8000_0006 => [0, 0, ecx, 0],
        // Invariant TSC.
        0x8000_0007 => [0, 0, 0, edx & 1 << 8],
        // Four levels of paging, four of EPT: 48 bits of either address.
        0x8000_0008 => [(eax & 0xff).min(48) | 48 << 8, 0, 0, 0],
        // Frequencies in MHz. Intel's processors answer the same to leaves that they do not have:
        // it is the last basic one.
        _ => {
            let mhz = cpu.clock.tsc_khz.saturating_add(500) / 1000;
            [mhz & 0xffff, mhz & 0xffff, 100, 0]
        }
    }
}

#[inline(always)]
fn leaf_7(subleaf: u32, [eax, ebx, ecx, edx]: Regs, cpu: &ChildCpu) -> Regs {
    match subleaf {
        0 => {
            let ospke = flag(cpu.cr4 & cr4::PKE != 0, OSPKE);
            [eax.min(2), ebx & LEAF7_EBX, ecx & LEAF7_ECX | ospke, edx & LEAF7_EDX]
        }
        1 => [eax & LEAF7_1_EAX, 0, 0, edx & LEAF7_1_EDX],
        2 => [0, 0, 0, edx & LEAF7_2_EDX],
        _ => NONE,
    }
}

/// Leaf 0xB: a level of threads with one in each core, a level of cores (SDM vol. 3, 10.9.1).
#[inline(always)]
fn topology(subleaf: u32, ids: u32, cpu: &ChildCpu) -> Regs {
    match subleaf {
        0 => [0, 1, 1 << 8, cpu.apic_id],
        1 => [ids.trailing_zeros(), cpu.vp_count & 0xffff, 2 << 8 | 1, cpu.apic_id],
        _ => [0, 0, subleaf & 0xff, cpu.apic_id],
    }
}

/// Leaf 0xD: XSAVE state. IA32_XSS is always 0.
#[inline(always)]
fn leaf_d(subleaf: u32, [eax, ..]: Regs, cpu: &ChildCpu) -> Regs {
    let offered = cpu.xsave.offered();
    match subleaf {
        0 => [offered as u32, cpu.xsave.size(cpu.xcr0), cpu.xsave.size(offered), 0],
        1 => {
            let features = eax & (LEAFD_1_EAX | flag(cpu.xsaves, XSAVES));
            let compact = features & (XSAVEC | XSAVES) != 0;
            [features, if compact { cpu.xsave.compact_size(cpu.xcr0) } else { 0 }, 0, 0]
        }
        _ => match cpu.xsave.component(subleaf) {
            Some(c) => [c.size, c.offset, flag(c.align, 2), 0],
            None => NONE,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::xsave::full;
    use super::*;

    const ALL: Regs = [u32::MAX; 4];

    fn with(change: impl FnOnce(&mut ChildCpu), leaf: u32, subleaf: u32, native: Regs) -> Regs {
        let xsave = Layout::new(full);
        let mut cpu = ChildCpu {
            apic_id: 2,
            vp_count: 3,
            cr4: 0,
            xcr0: 1,
            clock: Clock::new(3_000_123),
            xsave: &xsave,
            xsaves: true,
            apic_enabled: true,
        };
        change(&mut cpu);
        child(leaf, subleaf, native, &cpu)
    }

    fn plain(leaf: u32, subleaf: u32, native: Regs) -> Regs {
        with(|_| (), leaf, subleaf, native)
    }

    #[test]
    fn root_sees_all_but_vmx() {
        let one = root(1, 0, ALL, 0, 0);
        assert_eq!(one, [u32::MAX, u32::MAX, !(1 << 5 | 1 << 6 | OSXSAVE), u32::MAX]);
        assert_eq!(root(1, 0, NONE, 0, cr4::OSXSAVE), [0, 0, OSXSAVE, 0]);
        assert_eq!(root(7, 0, NONE, 0, cr4::PKE), [0, 0, OSPKE, 0]);
        assert_eq!(root(7, 0, ALL, 0, 0)[1..3], [!TRACE, !OSPKE]);
        assert_eq!(root(7, 1, ALL, 0, 0), ALL);
        assert_eq!(root(hvabi::CPUID_ROOT_LP, 9, NONE, 5, 0), [5, hvabi::ABI_VERSION, 0, 0]);
        assert_eq!(root(hvabi::CPUID_ROOT_BASE, 0, NONE, 5, 0)[1].to_le_bytes(), *b"hvmo");
        assert_eq!(root(0x4000_0000, 0, ALL, 5, 0), ALL);
    }

    #[test]
    fn child_has_no_dangerous_feature() {
        let [_, ebx, ecx, edx] = plain(1, 0, ALL);
        for absent in [2, 3, 4, 5, 6, 7, 8, 11, 14, 15, 18, 27, 31] {
            assert_eq!(ecx >> absent & 1, 0, "leaf 1 ECX {absent}");
        }
        for absent in [18, 21, 22, 29, 31] {
            assert_eq!(edx >> absent & 1, 0, "leaf 1 EDX {absent}");
        }
        assert_eq!(ebx >> 16, 2 << 8 | 4);
        let [eax, ebx, ecx, edx] = plain(7, 0, ALL);
        assert_eq!(eax, 2);
        for (word, absent) in [
            (ebx, &[2, 4, 11, 12, 14, 15, 22, 25][..]),
            (ecx, &[4, 5, 7, 13, 16, 17, 23, 24, 29, 30, 31]),
            (edx, &[0, 1, 5, 9, 11, 13, 15, 16, 18, 19, 20, 22, 24, 25, 30]),
        ] {
            assert!(absent.iter().all(|bit| word >> bit & 1 == 0), "{word:#x}");
        }
        for leaf in [3, 5, 8, 9, 0xa, 0xc, 0xe, 0xf, 0x10, 0x12, 0x14] {
            assert_eq!(plain(leaf, 0, ALL), NONE, "{leaf:#x}");
        }
        assert_eq!(plain(7, 3, ALL), NONE);
        assert_eq!(plain(6, 0, ALL), [4, 0, 0, 0]);
        // What the processor lacks a child lacks too, but for what is emulated.
        assert_eq!(plain(1, 0, NONE)[2..], [LEAF1_ECX_OURS, APIC | HTT]);
        assert_eq!(plain(7, 0, NONE), NONE);
    }

    #[test]
    fn child_bits_that_follow_state() {
        let osxsave = with(|c| c.cr4 = cr4::OSXSAVE, 1, 0, NONE);
        assert_eq!(osxsave[2], LEAF1_ECX_OURS | OSXSAVE);
        assert_eq!(with(|c| c.cr4 = cr4::PKE, 7, 0, NONE)[2], OSPKE);
        assert_eq!(with(|c| c.apic_enabled = false, 1, 0, ALL)[3] & APIC, 0);
        assert_eq!(with(|c| c.vp_count = 1, 1, 0, ALL)[3] & HTT, 0);
    }

    #[test]
    fn leaves_out_of_range_are_the_last_one() {
        let last = plain(0x16, 0, ALL);
        assert_eq!(last, [3000, 3000, 100, 0]);
        for leaf in [0x17, 0x1f, 0x4000_0000, 0x4000_0001, hvabi::CPUID_ROOT_BASE, 0x7fff_ffff] {
            assert_eq!(plain(leaf, 0, ALL), last);
        }
        for leaf in [0x8000_0009, 0x8000_001f, 0xc000_0000, u32::MAX] {
            assert_eq!(plain(leaf, 0, ALL), last);
        }
        assert_eq!(plain(0, 0, [0x20, 1, 2, 3]), [0x16, 1, 2, 3]);
        assert_eq!(plain(0x8000_0000, 0, ALL), [0x8000_0008, 0, 0, 0]);
        assert_eq!(plain(0x8000_0008, 0, [0x3934, 1, 1, 1]), [0x3030, 0, 0, 0]);
    }

    #[test]
    fn clocks_are_exact() {
        for khz in [50_000, 2_399_987, 3_000_123, 4_294_967, 4_294_968, 5_100_000] {
            let clock = Clock::new(khz);
            let [den, num, hz, _] = with(|c| c.clock = clock, 0x15, 0, NONE);
            assert_eq!(u64::from(hz) * u64::from(num) / u64::from(den), khz * 1000);
            assert_eq!(num, clock.ratio());
            // Linux computes in 32 bits and kHz.
            assert_eq!(u64::from((hz / 1000).checked_mul(num).unwrap() / den), khz);
        }
        assert_eq!(Clock::new(0).ratio(), 1);
        assert!(Clock::new(u64::MAX).ratio() > 0);
    }

    #[test]
    fn topology_is_consistent() {
        for (count, shift) in [(1, 0), (2, 1), (3, 2), (4, 2), (64, 6)] {
            let cores = with(|c| c.vp_count = count, 0xb, 1, ALL);
            assert_eq!(cores, [shift, count, 0x201, 2]);
            let l3 = with(|c| c.vp_count = count, 4, 3, [3 << 5 | 3, 5, 6, 7]);
            assert_eq!(l3[0] >> 14 & 0xfff, (1 << shift) - 1);
            assert_eq!(l3[0] >> 26, (1 << shift) - 1);
            assert_eq!(
                with(|c| c.vp_count = count, 4, 0, [1 << 5 | 1, 5, 6, 7])[0] >> 14 & 0xfff,
                0
            );
        }
        assert_eq!(plain(0xb, 0, ALL), [0, 1, 0x100, 2]);
        assert_eq!(plain(0xb, 7, ALL), [0, 0, 7, 2]);
        assert_eq!(plain(4, 9, [0, 1, 2, 3]), NONE);
        with(|c| c.vp_count = u32::MAX, 4, 0, ALL);
        with(|c| c.vp_count = 0, 0xb, 1, ALL);
    }

    #[test]
    fn xsave_leaves() {
        assert_eq!(plain(0xd, 0, full(0)), [0x2e7, 576, 2696, 0]);
        assert_eq!(with(|c| c.xcr0 = 7, 0xd, 0, full(0))[1], 832);
        assert_eq!(with(|c| c.xcr0 = 7, 0xd, 1, full(1)), [0xf, 832, 0, 0]);
        assert_eq!(with(|c| c.xsaves = false, 0xd, 1, full(1))[0], 7);
        assert_eq!(plain(0xd, 9, full(9)), full(9));
        assert_eq!(plain(0xd, 18, full(18)), NONE);
        assert_eq!(plain(0xd, 99, ALL), NONE);
    }
}
