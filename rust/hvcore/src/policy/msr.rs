// SPDX-License-Identifier: GPL-2.0

//! Model-specific registers (SDM vol. 4; for VMX, vol. 3, 25.6.9 and 27.1.3).

use super::cpuid::Clock;
use super::{unless, Gp};
use crate::arch::msr::RTIT_CTL;

/// Words of an MSR bitmap: a bit set makes the access exit. Four parts of 1 KiB: reads of low MSRs
/// (0 to 0x1fff), reads of high ones (0xc0000000 to 0xc0001fff), writes of low, writes of high.
/// MSRs outside of these ranges always exit.
pub type Bitmap = [u64; 512];

const WRITES: usize = 256;

fn position(msr: u32) -> Option<(usize, u32)> {
    let high = match msr {
        0..=0x1fff => 0,
        0xc000_0000..=0xc000_1fff => 128,
        _ => return None,
    };
    Some((high + (msr as usize & 0x1fff) / 64, msr % 64))
}

fn put(bitmap: &mut Bitmap, offset: usize, msr: u32, exits: bool) {
    let Some((word, bit)) = position(msr) else {
        return;
    };
    if let Some(word) = bitmap.get_mut(word + offset) {
        *word = *word & !(1 << bit) | u64::from(exits) << bit;
    }
}

const FEATURE_CONTROL: u32 = 0x3a;
/// IA32_VMX_BASIC to IA32_VMX_EXIT_CTLS2.
const VMX: core::ops::RangeInclusive<u32> = 0x480..=0x493;

const APIC_BASE: u32 = 0x1b;
const MISC_ENABLE: u32 = 0x1a0;
/// IA32_PEBS_ENABLE: which counters write records.
const PEBS_ENABLE: u32 = 0x3f1;
/// IA32_HW_FEEDBACK_PTR: where the processor writes what it thinks of its cores.
const HW_FEEDBACK_PTR: u32 = 0x17d0;

/// The root's bitmap: it has every MSR of the machine but those of VMX. IA32_FEATURE_CONTROL can be
/// read as it is (a root that looks there without CPUID gets what it deserves) but not written.
/// Writes to those that hvcore itself depends on exit: see [`root_may_write`].
///
/// Any other MSR access of the root that exits, because of this bitmap or because it is outside the
/// ranges, gets #GP: what a processor without VMX does.
pub fn fill_root(bitmap: &mut Bitmap) {
    bitmap.fill(0);
    for msr in VMX {
        put(bitmap, 0, msr, true);
        put(bitmap, WRITES, msr, true);
    }
    for msr in [FEATURE_CONTROL, APIC_BASE, MISC_ENABLE, PEBS_ENABLE, RTIT_CTL, HW_FEEDBACK_PTR] {
        put(bitmap, WRITES, msr, true);
    }
}

/// Whether the root may write `value` to an MSR whose writes exit; `now` is what it holds.
pub fn root_may_write(msr: u32, value: u64, now: impl FnOnce() -> u64) -> bool {
    /// The limit of CPUID's leaves, and XD disable: hvcore reads CPUID, and its tables have XD.
    const LIMITS: u64 = 1 << 22 | 1 << 34;
    const TRACE_ENABLE: u64 = 1;
    match msr {
        // Where the APIC's registers are, no LP sees the memory: moved over a page of hvcore, they
        // would be there in its place.
        APIC_BASE => (value ^ now()) >> 12 == 0,
        MISC_ENABLE => value & !now() & LIMITS == 0,
        // A record goes to a linear address of the root's, by the tables of whom the counter meets.
        PEBS_ENABLE => value == 0,
        // The trace goes to physical addresses, past the root's EPT.
        RTIT_CTL => value & TRACE_ENABLE == 0,
        _ => false,
    }
}

/// MSRs that a child reads and writes with no exit, because they are switched with the VP (in the
/// VMCS or by hvcore) and the processor checks the values: SYSENTER_CS, _ESP, _EIP, PAT, STAR,
/// LSTAR, CSTAR, SFMASK, FS_BASE, GS_BASE, KERNEL_GS_BASE, TSC_AUX.
pub const PASSED: [u32; 12] = [
    0x174,
    0x175,
    0x176,
    0x277,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
    0xc000_0103,
];

const EFER: u32 = 0xc000_0080;

/// A child's bitmap. Reads of EFER pass too (it is in the VMCS); writes exit, because which bits
/// exist and when LME may change is policy, and VM entry fails on a value that breaks the rules.
pub fn fill_child(bitmap: &mut Bitmap) {
    bitmap.fill(u64::MAX);
    for msr in PASSED {
        put(bitmap, 0, msr, false);
        put(bitmap, WRITES, msr, false);
    }
    put(bitmap, 0, EFER, false);
}

/// An MSR of a child that is emulated. Having one says where its value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Msr {
    /// IA32_APIC_BASE: the local APIC.
    ApicBase,
    /// A register of the local APIC in x2APIC mode: its offset in the register page.
    X2Apic(u16),
    /// The VP's clock.
    Tsc,
    TscAdjust,
    /// The local APIC.
    TscDeadline,
    /// See [`write_efer`](super::cr::write_efer).
    Efer,
    /// IA32_DEBUGCTL, in the VMCS. See [`write_debugctl`].
    DebugCtl,
    /// Commands to the processor: written through if [`Caps`] allows. Reading is #GP.
    PredCmd,
    FlushCmd,
    /// In [`State`].
    State(Stored),
}

/// An MSR whose value is in [`State`], or is always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    SpecCtrl,
    MiscEnable,
    MtrrDefType,
    /// Index into the fixed-range registers.
    MtrrFixed(u8),
    /// Index into the base and mask registers, which alternate.
    MtrrVariable(u8),
    /// IA32_XSS: 0, since there is no supervisor state.
    Xss,
    /// Reads as this; writes are #GP.
    Constant(u64),
    /// Reads as this; writes are ignored.
    Inert(u64),
}

/// Pairs of variable-range MTRRs that a child has.
pub const VARIABLE: usize = 8;

/// IA32_MTRRCAP: 8 variable ranges, fixed ranges, write combining.
const MTRRCAP: u64 = VARIABLE as u64 | 1 << 8 | 1 << 10;

/// IA32_MISC_ENABLE: fast strings; no branch trace, no PEBS.
const MISC_ENABLE_RESET: u64 = 1 | 1 << 11 | 1 << 12;

/// What of it can be switched: fast strings, TM1, EIST, MONITOR, the limit of CPUID, xTPR messages,
/// XD. The bit is kept and nothing else: what they switch is not there, or stays.
const MISC_ENABLE_SWITCHES: u64 = 1 | 1 << 3 | 1 << 16 | 1 << 18 | 3 << 22 | 1 << 34;

/// IA32_ARCH_CAPABILITIES: statements about the processor's flaws, none that promises another MSR:
/// RDCL_NO, IBRS_ALL, RSBA, SKIP_L1DFL, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO,
/// FBSDP_NO, PSDP_NO, FB_CLEAR, RRSBA, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, RFDS_CLEAR, ITS_NO.
const ARCH_CAPABILITIES: u64 =
    0x7f | 1 << 8 | 7 << 13 | 1 << 17 | 3 << 19 | 1 << 24 | 7 << 26 | 1 << 62;

/// What children's MSRs depend on in the processor, found at launch.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Width of physical addresses, as in [`cpuid`](super::cpuid).
    pub phys_bits: u32,
    /// IA32_ARCH_CAPABILITIES, if there is one.
    pub arch_capabilities: Option<u64>,
    pub platform_id: u64,
    /// IA32_BIOS_SIGN_ID after CPUID: the microcode's revision.
    pub microcode: u64,
    /// Bits of IA32_SPEC_CTRL that the processor has; see [`Caps::spec_ctrl_bits`].
    pub spec_ctrl: u64,
    /// IA32_PRED_CMD and IA32_FLUSH_CMD exist (CPUID.7.EDX bits 26 and 28).
    pub pred_cmd: bool,
    pub flush_cmd: bool,
    pub clock: Clock,
}

impl Caps {
    /// Bits of IA32_SPEC_CTRL by EDX of CPUID leaves 7.0 and 7.2.
    pub fn spec_ctrl_bits(leaf7_0: u32, leaf7_2: u32) -> u64 {
        // IBRS, STIBP, SSBD; PSFD, IPRED_DIS_U/S, RRSBA_DIS_U/S, BHI_DIS_S.
        let of = |word: u32, bit: u32, mask: u64| if word >> bit & 1 != 0 { mask } else { 0 };
        of(leaf7_0, 26, 1)
            | of(leaf7_0, 27, 2)
            | of(leaf7_0, 31, 4)
            | of(leaf7_2, 0, 1 << 7)
            | of(leaf7_2, 1, 3 << 3)
            | of(leaf7_2, 2, 3 << 5)
            | of(leaf7_2, 4, 1 << 10)
    }

    /// A write of IA32_PRED_CMD (IBPB is all there is).
    pub fn write_pred_cmd(&self, value: u64) -> Result<u64, Gp> {
        unless(!self.pred_cmd || value > 1)?;
        Ok(value)
    }

    /// A write of IA32_FLUSH_CMD.
    pub fn write_flush_cmd(&self, value: u64) -> Result<u64, Gp> {
        unless(!self.flush_cmd || value > 1)?;
        Ok(value)
    }
}

impl Msr {
    /// The emulated MSR with that number; None: there is none, the access is #GP. Whatever the
    /// bitmap lets pass is not here.
    pub fn decode(msr: u32, caps: &Caps) -> Option<Msr> {
        use Stored::*;
        let state = match msr {
            0x10 => return Some(Msr::Tsc),
            APIC_BASE => return Some(Msr::ApicBase),
            0x3b => return Some(Msr::TscAdjust),
            0x49 => return Some(Msr::PredCmd),
            0x10b => return Some(Msr::FlushCmd),
            0x1d9 => return Some(Msr::DebugCtl),
            0x6e0 => return Some(Msr::TscDeadline),
            0x800..=0x8ff => return Some(Msr::X2Apic(((msr & 0xff) << 4) as u16)),
            EFER => return Some(Msr::Efer),

            0x17 => Constant(caps.platform_id),
            // SMI_COUNT.
            0x34 => Constant(0),
            // Locked, VMX and SGX off.
            FEATURE_CONTROL => Constant(1),
            0x48 if caps.spec_ctrl != 0 => SpecCtrl,
            // BIOS_SIGN_ID is written before CPUID, to learn the revision; BIOS_UPDT_TRIG loads
            // an update, which silently does not happen.
            0x8b => Inert(caps.microcode),
            0x79 => Inert(0),
            // PLATFORM_INFO: the TSC's frequency in units of 100 MHz; no turbo, no CPUID faulting.
            0xce => Constant(((caps.clock.tsc_khz() / 100_000) & 0xff) << 8),
            0xfe => Constant(MTRRCAP),
            0x10a => Constant(caps.arch_capabilities? & ARCH_CAPABILITIES),
            // MISC_FEATURES_ENABLES.
            0x140 => Inert(0),
            // MCG_CAP: no banks. MCG_STATUS.
            0x179 => Constant(0),
            0x17a => Inert(0),
            MISC_ENABLE => MiscEnable,
            0x200..=0x20f => MtrrVariable((msr - 0x200) as u8),
            0x250 => MtrrFixed(0),
            0x258..=0x259 => MtrrFixed((msr - 0x258 + 1) as u8),
            0x268..=0x26f => MtrrFixed((msr - 0x268 + 3) as u8),
            0x2ff => MtrrDefType,
            // Uncore counters, which Linux drives by CPU model without looking for them.
            0x391..=0x396 | 0xe01 => Inert(0),
            0xda0 => Xss,
            _ => return None,
        };
        Some(Msr::State(state))
    }
}

/// A write of IA32_DEBUGCTL: only BTF (single-step on branches) can be set. Old systems try LBR
/// (bit 0) and take it back if it does not stick: it does not.
pub fn write_debugctl(value: u64) -> Result<u64, Gp> {
    unless(value & !3 != 0)?;
    Ok(value & 2)
}

/// Whether an address is canonical with 48 bits (children have no LA57).
pub fn canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

/// Whether `value` can be in IA32_PAT (SDM vol. 3, 13.12.2): types UC, WC, WT, WP, WB, UC-.
pub fn pat_valid(value: u64) -> bool {
    value.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
}

/// Whether `kind` is a memory type of an MTRR.
fn mtrr_type(kind: u64) -> bool {
    matches!(kind, 0 | 1 | 4..=6)
}

/// The values of a VP's MSRs that only it reads. The MTRRs have no effect on a child's memory,
/// which is write-back by EPT.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub spec_ctrl: u64,
    pub misc_enable: u64,
    pub mtrr_def_type: u64,
    pub mtrr_fixed: [u64; 11],
    pub mtrr_variable: [u64; 2 * VARIABLE],
}

impl State {
    /// After RESET.
    pub const RESET: State = State {
        spec_ctrl: 0,
        misc_enable: MISC_ENABLE_RESET,
        mtrr_def_type: 0,
        mtrr_fixed: [0; 11],
        mtrr_variable: [0; 2 * VARIABLE],
    };

    pub fn read(&self, msr: Stored) -> Result<u64, Gp> {
        match msr {
            Stored::SpecCtrl => Ok(self.spec_ctrl),
            Stored::Xss => Ok(0),
            Stored::MiscEnable => Ok(self.misc_enable),
            Stored::MtrrDefType => Ok(self.mtrr_def_type),
            Stored::MtrrFixed(i) => self.mtrr_fixed.get(usize::from(i)).copied().ok_or(Gp),
            Stored::MtrrVariable(i) => self.mtrr_variable.get(usize::from(i)).copied().ok_or(Gp),
            Stored::Constant(value) | Stored::Inert(value) => Ok(value),
        }
    }

    pub fn write(&mut self, msr: Stored, value: u64, caps: &Caps) -> Result<(), Gp> {
        match msr {
            Stored::SpecCtrl => {
                unless(value & !caps.spec_ctrl != 0)?;
                self.spec_ctrl = value;
            }
            Stored::MiscEnable => {
                self.misc_enable =
                    MISC_ENABLE_RESET & !MISC_ENABLE_SWITCHES | value & MISC_ENABLE_SWITCHES;
            }
            Stored::MtrrDefType => {
                unless(value & !0xcff != 0 || !mtrr_type(value & 0xff))?;
                self.mtrr_def_type = value;
            }
            Stored::MtrrFixed(i) => {
                unless(!value.to_le_bytes().into_iter().all(|kind| mtrr_type(kind.into())))?;
                *self.mtrr_fixed.get_mut(usize::from(i)).ok_or(Gp)? = value;
            }
            Stored::MtrrVariable(i) => {
                let base = i % 2 == 0;
                let reserved = if base { 0xf00 } else { 0x7ff };
                unless(value & reserved != 0 || value >> caps.phys_bits.min(52) != 0)?;
                unless(base && !mtrr_type(value & 0xff))?;
                *self.mtrr_variable.get_mut(usize::from(i)).ok_or(Gp)? = value;
            }
            Stored::Xss => unless(value != 0)?,
            Stored::Constant(_) => return Err(Gp),
            Stored::Inert(_) => {}
        }
        Ok(())
    }

    /// The same with the MTRRs that somebody outside chose.
    pub fn with_mtrrs(
        mut self,
        def_type: u64,
        fixed: &[u64; 11],
        variable: &[u64; 2 * VARIABLE],
        caps: &Caps,
    ) -> Result<State, Gp> {
        self.write(Stored::MtrrDefType, def_type, caps)?;
        for (i, value) in fixed.iter().enumerate() {
            self.write(Stored::MtrrFixed(i as u8), *value, caps)?;
        }
        for (i, value) in variable.iter().enumerate() {
            self.write(Stored::MtrrVariable(i as u8), *value, caps)?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        phys_bits: 39,
        arch_capabilities: Some(u64::MAX),
        platform_id: 4 << 50,
        microcode: 0x42 << 32,
        spec_ctrl: 7,
        pred_cmd: true,
        flush_cmd: false,
        clock: Clock::new(2_400_000),
    };

    fn exits(bitmap: &Bitmap, msr: u32, write: bool) -> bool {
        // The processor's own arithmetic, in bytes.
        let byte = msr as usize % 0x2000 / 8
            + if msr >= 0xc000_0000 { 1024 } else { 0 }
            + if write { 2048 } else { 0 };
        bitmap[byte / 8].to_le_bytes()[byte % 8] >> (msr % 8) & 1 != 0
    }

    fn all() -> impl Iterator<Item = u32> {
        (0..0x2000).chain(0xc000_0000..0xc000_2000)
    }

    #[test]
    fn root_bitmap() {
        let mut bitmap = [u64::MAX; 512];
        fill_root(&mut bitmap);
        for msr in all() {
            let vmx = (0x480..=0x493).contains(&msr);
            assert_eq!(exits(&bitmap, msr, false), vmx, "{msr:#x}");
            let looked_at = [0x1b, 0x3a, 0x1a0, 0x3f1, 0x570, 0x17d0].contains(&msr);
            assert_eq!(exits(&bitmap, msr, true), vmx || looked_at, "{msr:#x}");
        }
    }

    #[test]
    fn the_root_does_not_write_what_hvcore_depends_on() {
        let may = |msr, value, now| root_may_write(msr, value, || now);
        // The local APIC: its modes, but not its place.
        let base = 0xfee0_0900;
        for mode in [0, 0x800, 0xc00] {
            assert!(may(0x1b, base & !0xc00 | mode, base));
            for bit in 12..64 {
                assert!(!may(0x1b, (base & !0xc00 | mode) ^ 1 << bit, base), "bit {bit}");
            }
        }
        // No limit of CPUID, no tables without XD; what is set can be taken away.
        assert!(may(0x1a0, 0x85_0089, 0x85_0088));
        for limit in [1 << 22, 1 << 34] {
            assert!(!may(0x1a0, 1 | limit, 1));
            assert!(may(0x1a0, 1, 1 | limit) && may(0x1a0, limit, 1 | limit));
        }
        // Nothing that the processor itself writes past EPT, or by hvcore's tables.
        assert!(may(0x3f1, 0, 1) && !may(0x3f1, 1, 0) && !may(0x3f1, 1 << 32, 1 << 32));
        assert!(may(0x570, 0, 0) && may(0x570, 0x2508, 0) && !may(0x570, 0x2509, 0));
        assert!(!may(0x17d0, 0, 0) && !may(0x17d0, 0x1001, 0));
        for msr in VMX.chain([FEATURE_CONTROL, 0x4000_0000, u32::MAX]) {
            assert!(!root_may_write(msr, 0, || panic!("{msr:#x} is read")));
        }
    }

    #[test]
    fn child_bitmap_and_decoding_do_not_overlap() {
        let mut bitmap = [0; 512];
        fill_child(&mut bitmap);
        for msr in all() {
            let passed = PASSED.contains(&msr);
            assert_eq!(exits(&bitmap, msr, true), !passed);
            assert_eq!(exits(&bitmap, msr, false), !passed && msr != EFER);
            assert!(!passed || Msr::decode(msr, &CAPS).is_none(), "{msr:#x}");
        }
        for msr in VMX.chain([0x9e, 0x122, 0x17b, 0x186, 0x38f, 0x400, 0x4000_0000, u32::MAX]) {
            assert_eq!(Msr::decode(msr, &CAPS), None, "{msr:#x}");
        }
        assert_eq!(Msr::decode(0x830, &CAPS), Some(Msr::X2Apic(0x300)));
        assert_eq!(Msr::decode(0x8ff, &CAPS), Some(Msr::X2Apic(0xff0)));
    }

    fn read(msr: u32) -> Result<u64, Gp> {
        match Msr::decode(msr, &CAPS) {
            Some(Msr::State(stored)) => State::RESET.read(stored),
            Some(_) => panic!("{msr:#x} is elsewhere"),
            None => Err(Gp),
        }
    }

    fn write(state: &mut State, msr: u32, value: u64) -> Result<(), Gp> {
        match Msr::decode(msr, &CAPS) {
            Some(Msr::State(stored)) => state.write(stored, value, &CAPS),
            Some(_) => panic!("{msr:#x} is elsewhere"),
            None => Err(Gp),
        }
    }

    /// What Linux reads or writes at boot without being ready for #GP.
    #[test]
    fn linux_finds_what_it_needs() {
        for msr in [0x17, 0x8b, 0xfe, 0x179, 0x17a, 0x1a0, 0x200, 0x20f, 0x250, 0x26f, 0x2ff, 0xda0]
        {
            assert!(read(msr).is_ok(), "{msr:#x}");
        }
        let mut state = State::RESET;
        for msr in [0x8b, 0x17a, 0x48, 0x140, 0xda0, 0x200, 0x201, 0x250, 0x2ff, 0x391] {
            assert_eq!(write(&mut state, msr, 0), Ok(()), "{msr:#x}");
        }
        assert_eq!(read(0xce), Ok(24 << 8));
        assert_eq!(read(0x3a), Ok(1));
        // No promise of an MSR that is not there: TSX_CTRL, MCU_OPT_CTRL, XAPIC_DISABLE, ...
        let caps = read(0x10a).unwrap();
        for absent in [7, 9, 10, 11, 12, 16, 18, 21, 22, 23, 25, 63] {
            assert_eq!(caps >> absent & 1, 0, "{absent}");
        }
        let old = Caps { arch_capabilities: None, spec_ctrl: 0, ..CAPS };
        assert_eq!((Msr::decode(0x10a, &old), Msr::decode(0x48, &old)), (None, None));
    }

    #[test]
    fn values_are_checked() {
        let mut state = State::RESET;
        let mut w = |msr, value| write(&mut state, msr, value);
        assert_eq!((w(0x48, 7), w(0x48, 8)), (Ok(()), Err(Gp)));
        assert_eq!(
            (w(0x2ff, 0xc06), w(0x2ff, 0xc02), w(0x2ff, 0x1006)),
            (Ok(()), Err(Gp), Err(Gp))
        );
        assert_eq!((w(0x250, 0x0606_0504_0100_0606), w(0x250, 0x0700)), (Ok(()), Err(Gp)));
        assert_eq!(
            (w(0x200, 0x8000_0006), w(0x200, 0x106), w(0x200, 7)),
            (Ok(()), Err(Gp), Err(Gp))
        );
        assert_eq!((w(0x201, 0x7f_8000_0800), w(0x201, 0x80_0000_0800)), (Ok(()), Err(Gp)));
        assert_eq!(
            (w(0x201, 0x400), w(0x3a, 5), w(0xfe, 0), w(0xda0, 1)),
            (Err(Gp), Err(Gp), Err(Gp), Err(Gp))
        );
        assert_eq!(w(0x1a0, 0), Ok(()));
        assert_eq!(state.read(Stored::MiscEnable), Ok(MISC_ENABLE_RESET & !1));
        assert_eq!(write(&mut state, 0x1a0, u64::MAX), Ok(()));
        assert_eq!(state.read(Stored::MiscEnable), Ok(0x4_00c5_1809));
        assert_eq!(state.read(Stored::MtrrVariable(0)), Ok(0x8000_0006));
        let mut variable = [0; 16];
        variable[14] = 6;
        let set = |variable| state.with_mtrrs(6, &[6; 11], &variable, &CAPS);
        assert_eq!(set(variable).map(|s| s.mtrr_variable[14]), Ok(6));
        variable[15] = 1;
        assert!(set(variable).is_err());
        assert_eq!((write_debugctl(3), write_debugctl(4)), (Ok(2), Err(Gp)));
        assert_eq!((CAPS.write_pred_cmd(1), CAPS.write_pred_cmd(2)), (Ok(1), Err(Gp)));
        assert_eq!(CAPS.write_flush_cmd(1), Err(Gp));
        assert_eq!(Caps::spec_ctrl_bits(u32::MAX, u32::MAX), 0x4ff);
        assert_eq!(Caps::spec_ctrl_bits(0, 0), 0);
    }

    #[test]
    fn canonical_and_pat() {
        for good in [0, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
            assert!(canonical(good));
        }
        for bad in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63] {
            assert!(!canonical(bad));
        }
        assert!(pat_valid(0x0007_0406_0007_0406) && pat_valid(0x0407_0500_0107_0406));
        assert!(!pat_valid(2) && !pat_valid(3 << 56) && !pat_valid(8));
    }
}
