// SPDX-License-Identifier: GPL-2.0

//! Control registers and EFER (SDM vol. 3, 2.5, 24.8, 26.3).
//!
//! Of each register some bits are the *host's* (set in the guest/host mask): the guest reads them
//! from the shadow, and a write that would change what it reads exits. The functions here say what
//! such a write does. The rest is the guest's own, checked by the processor.

use super::{unless, Gp};

/// Bits of CR0.
pub mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
    /// All that are defined: PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
    pub const ALL: u64 = 0xe005_003f;
}

/// Bits of CR4.
pub mod cr4 {
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const LA57: u64 = 1 << 12;
    pub const VMXE: u64 = 1 << 13;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    pub const PKE: u64 = 1 << 22;
    pub const CET: u64 = 1 << 23;
    /// What a child may set where the processor has it: bits 0 to 10 (VME to OSXMMEXCPT), UMIP,
    /// FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE. Not LA57, VMXE, SMXE, CET, PKS, UINTR, LASS, LAM,
    /// FRED: each would need state switched or guest memory looked at in ways that hvcore does not.
    pub const CHILD: u64 = 0x7ff | 1 << 11 | 1 << 16 | PCIDE | OSXSAVE | SMEP | SMAP | PKE;
}

/// Bits of IA32_EFER.
pub mod efer {
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

/// IA32_VMX_CR0_FIXED0 (CR0_FIXED1 never forbids anything), CR4_FIXED0, CR4_FIXED1 (SDM vol. 3, A.7, A.8).
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    pub cr0_0: u64,
    pub cr4_0: u64,
    pub cr4_1: u64,
}

/// What the guest sees of its mode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    /// CS.L: with EFER.LMA, the processor is in 64-bit mode.
    pub cs_l: bool,
}

/// The registers that a [`Write`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Cr0,
    Cr4,
}

impl Mode {
    /// Paging with the four PDPTEs in registers (SDM vol. 3, 5.4.1).
    pub fn pae(&self) -> bool {
        pae_paging(self.cr0, self.cr4, self.efer)
    }
}

/// What a write that is allowed does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    pub register: Register,
    /// New contents of the register.
    pub hardware: u64,
    /// New read shadow.
    pub shadow: u64,
    /// New EFER (a write to CR0 changes LMA).
    pub efer: u64,
    /// The VP's translations must be flushed.
    pub flush: bool,
    /// The four PDPTEs must be loaded from the page that CR3 names (PAE paging, SDM vol. 3, 5.4.1).
    pub load_pdptes: bool,
}

/// The control registers of the root, or of a child.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Guest/host masks.
    pub cr0_mask: u64,
    pub cr4_mask: u64,
    /// Bits that are 1 in hardware whatever the guest wants.
    cr0_forced: u64,
    cr4_forced: u64,
    /// Host-owned bits of CR0 that stay 0 in hardware.
    cr0_hidden: u64,
    /// Bits that the guest may set.
    cr4_allowed: u64,
}

impl Policy {
    /// The root has all that the processor has. VMXE stays set behind its back, and NE, which
    /// VMX needs and Linux clears only in real mode. A write that sets VMXE (by a hypervisor in
    /// the root) succeeds, and then VMXON finds no VMX.
    pub const fn root(fixed: Fixed) -> Policy {
        Policy {
            cr0_mask: cr0::NE,
            cr4_mask: cr4::VMXE,
            cr0_forced: unpaged(fixed.cr0_0),
            cr4_forced: fixed.cr4_0,
            cr0_hidden: 0,
            cr4_allowed: fixed.cr4_1,
        }
    }

    /// A child. CD and NW are only what it reads: caching is not the child's to switch off. MCE
    /// stays set: a machine check in a child must not shut the machine down.
    pub const fn child(fixed: Fixed) -> Policy {
        let allowed = cr4::CHILD & fixed.cr4_1;
        Policy {
            cr0_mask: cr0::NE | cr0::CD | cr0::NW,
            cr4_mask: !allowed | cr4::MCE,
            cr0_forced: unpaged(fixed.cr0_0),
            cr4_forced: fixed.cr4_0 | cr4::MCE,
            cr0_hidden: cr0::CD | cr0::NW,
            cr4_allowed: allowed,
        }
    }

    /// What hardware must hold for the guest to see `value` in CR0.
    pub const fn cr0_hardware(&self, value: u64) -> u64 {
        value & !self.cr0_hidden | self.cr0_forced
    }

    /// What hardware must hold for the guest to see `value` in CR4.
    pub const fn cr4_hardware(&self, value: u64) -> u64 {
        value | self.cr4_forced
    }

    /// MOV to CR0 (and LMSW and CLTS, as the whole value that they make).
    pub fn write_cr0(&self, value: u64, mode: &Mode) -> Result<Write, Gp> {
        let new = value & cr0::ALL | cr0::ET;
        let (set, changed) = (new & !mode.cr0, new ^ mode.cr0);
        unless(value >> 32 != 0)?;
        unless(new & cr0::NW != 0 && new & cr0::CD == 0)?;
        unless(new & cr0::PG != 0 && new & cr0::PE == 0)?;
        unless(new & cr0::WP == 0 && mode.cr4 & cr4::CET != 0)?;
        let mut efer = mode.efer;
        if set & cr0::PG != 0 && efer & efer::LME != 0 {
            unless(mode.cr4 & cr4::PAE == 0 || mode.cs_l)?;
            efer |= efer::LMA;
        }
        if new & cr0::PG == 0 {
            unless(mode.cr4 & cr4::PCIDE != 0)?;
            unless(efer & efer::LMA != 0 && mode.cs_l)?;
            efer &= !efer::LMA;
        }
        Ok(Write {
            register: Register::Cr0,
            hardware: self.cr0_hardware(new),
            shadow: new,
            efer,
            flush: changed & (cr0::PG | cr0::PE | cr0::WP) != 0,
            load_pdptes: changed & (cr0::PG | cr0::CD | cr0::NW) != 0
                && pae_paging(new, mode.cr4, efer),
        })
    }

    /// MOV to CR4.
    pub fn write_cr4(&self, value: u64, mode: &Mode) -> Result<Write, Gp> {
        let changed = value ^ mode.cr4;
        let long = mode.efer & efer::LMA != 0;
        unless(value & !self.cr4_allowed != 0)?;
        unless(long && (value & cr4::PAE == 0 || changed & cr4::LA57 != 0))?;
        unless(value & cr4::CET != 0 && mode.cr0 & cr0::WP == 0)?;
        let set_pcide = value & changed & cr4::PCIDE != 0;
        unless(set_pcide && (!long || mode.cr3 & 0xfff != 0))?;
        const FLUSHES: u64 =
            cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::PKE;
        Ok(Write {
            register: Register::Cr4,
            hardware: self.cr4_hardware(value),
            shadow: value,
            efer: mode.efer,
            flush: changed & FLUSHES != 0,
            load_pdptes: changed & (cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP) != 0
                && pae_paging(mode.cr0, value, mode.efer),
        })
    }

    /// Whether a VP of this policy may be given these registers from outside, as by VpSet: what
    /// VM entry checks (SDM vol. 3, 28.3.1.1) and what MOV would have refused.
    pub fn consistent(&self, mode: &Mode) -> bool {
        let paging = mode.cr0 & cr0::PG != 0;
        let long = mode.efer & efer::LMA != 0;
        mode.cr0 & !cr0::ALL == 0
            && mode.cr4 & !self.cr4_allowed == 0
            && (!paging || mode.cr0 & cr0::PE != 0)
            && (mode.cr0 & cr0::NW == 0 || mode.cr0 & cr0::CD != 0)
            && long == (paging && mode.efer & efer::LME != 0)
            && (!long || mode.cr4 & cr4::PAE != 0)
            && (long || mode.cr4 & cr4::PCIDE == 0)
            && (mode.cr4 & cr4::CET == 0 || mode.cr0 & cr0::WP != 0)
    }
}

/// CR0_FIXED0 without PE and PG, which an unrestricted guest may clear.
const fn unpaged(fixed0: u64) -> u64 {
    fixed0 & !(cr0::PE | cr0::PG)
}

fn pae_paging(cr0: u64, cr4: u64, efer: u64) -> bool {
    cr0 & cr0::PG != 0 && cr4 & cr4::PAE != 0 && efer & efer::LMA == 0
}

/// MOV to CR8: the new task priority.
pub fn write_cr8(value: u64) -> Result<u8, Gp> {
    unless(value > 0xf)?;
    Ok(value as u8)
}

/// WRMSR of IA32_EFER by a child: the new contents. LMA follows CR0.PG, writing it has no effect.
pub fn write_efer(value: u64, mode: &Mode) -> Result<u64, Gp> {
    const WRITABLE: u64 = efer::SCE | efer::LME | efer::NXE;
    unless(value & !(WRITABLE | efer::LMA) != 0)?;
    let paging = mode.cr0 & cr0::PG != 0;
    unless(paging && (value ^ mode.efer) & efer::LME != 0)?;
    Ok(value & WRITABLE | mode.efer & efer::LMA)
}

#[cfg(test)]
mod tests {
    use super::super::super::mem::rng::Rng;
    use super::*;

    const FIXED: Fixed =
        Fixed { cr0_0: 0x8000_0021, cr4_0: cr4::VMXE, cr4_1: 0x0077_2fff | cr4::CET | cr4::LA57 };

    const LONG: Mode =
        Mode { cr0: 0x8005_0033, cr3: 0x1000, cr4: 0x20 | cr4::PGE, efer: 0xd01, cs_l: true };

    fn child() -> Policy {
        Policy::child(FIXED)
    }

    #[test]
    fn root_never_loses_vmxe() {
        let root = Policy::root(FIXED);
        assert_eq!((root.cr0_mask, root.cr4_mask), (cr0::NE, cr4::VMXE));
        let write = root.write_cr4(LONG.cr4 | cr4::VMXE, &LONG).unwrap();
        assert_eq!((write.hardware, write.shadow), (LONG.cr4 | cr4::VMXE, LONG.cr4 | cr4::VMXE));
        assert!(!write.flush);
        let back = root.write_cr4(LONG.cr4, &Mode { cr4: write.shadow, ..LONG }).unwrap();
        assert_eq!((back.hardware, back.shadow), (LONG.cr4 | cr4::VMXE, LONG.cr4));
        assert!(root.write_cr4(LONG.cr4 | 1 << 32, &LONG).is_err());
    }

    #[test]
    fn child_cr4() {
        let p = child();
        for hidden in [cr4::VMXE, 1 << 14, cr4::CET, cr4::LA57, 1 << 24, 1 << 25, 1 << 27, 1 << 32]
        {
            assert_eq!(p.write_cr4(LONG.cr4 | hidden, &LONG), Err(Gp), "{hidden:#x}");
            assert_ne!(p.cr4_mask & hidden, 0);
        }
        let write = p.write_cr4(LONG.cr4 | cr4::PCIDE, &LONG).unwrap();
        assert_eq!(write.hardware, LONG.cr4 | cr4::PCIDE | cr4::VMXE | cr4::MCE);
        assert!(write.flush && write.shadow & (cr4::MCE | cr4::VMXE) == 0);
        assert!(p.write_cr4(LONG.cr4 | cr4::PCIDE, &Mode { cr3: 1, ..LONG }).is_err());
        assert!(p.write_cr4(cr4::PCIDE | cr4::PAE, &Mode::default()).is_err());
        assert!(p.write_cr4(cr4::PGE, &LONG).is_err());
        let pae = Mode { cr0: cr0::PG | cr0::PE, ..Mode::default() };
        assert!(p.write_cr4(cr4::PAE, &pae).unwrap().load_pdptes);
        // A CPU without protection keys.
        let old = Policy::child(Fixed { cr4_1: FIXED.cr4_1 & !cr4::PKE, ..FIXED });
        assert!(old.write_cr4(LONG.cr4 | cr4::PKE, &LONG).is_err());
    }

    #[test]
    fn child_cr0() {
        let p = child();
        let real = Mode { cr0: cr0::ET | cr0::CD | cr0::NW, ..Mode::default() };
        let write = p.write_cr0(real.cr0 | cr0::PE, &real).unwrap();
        assert_eq!(write.hardware, cr0::ET | cr0::NE | cr0::PE);
        assert_eq!(write.shadow, real.cr0 | cr0::PE);
        for bad in [1 << 32, cr0::NW, cr0::PG] {
            assert_eq!(p.write_cr0(bad, &real), Err(Gp), "{bad:#x}");
        }
        let on = cr0::PG | cr0::PE;
        let entering = Mode { cr4: cr4::PAE, efer: efer::LME, ..real };
        assert_eq!(p.write_cr0(on, &entering).unwrap().efer, efer::LME | efer::LMA);
        assert!(p.write_cr0(on, &Mode { cr4: 0, ..entering }).is_err());
        assert!(p.write_cr0(on, &Mode { cs_l: true, ..entering }).is_err());
        // Paging can not go off in 64-bit mode, but in compatibility mode.
        assert!(p.write_cr0(cr0::PE, &LONG).is_err());
        let compat = Mode { cs_l: false, ..LONG };
        assert_eq!(p.write_cr0(cr0::PE, &compat).unwrap().efer & efer::LMA, 0);
        let pcid = Mode { cr4: LONG.cr4 | cr4::PCIDE, ..compat };
        assert!(p.write_cr0(cr0::PE, &pcid).is_err());
    }

    #[test]
    fn efer_and_cr8() {
        assert_eq!(write_efer(0xd01, &LONG), Ok(0xd01));
        assert_eq!(write_efer(0x901, &LONG), Ok(0xd01));
        assert_eq!(write_efer(0x801, &LONG), Err(Gp));
        assert_eq!(write_efer(1 << 12, &LONG), Err(Gp));
        assert_eq!(write_efer(0x500, &Mode::default()), Ok(0x100));
        assert_eq!((write_cr8(15), write_cr8(16), write_cr8(1 << 63)), (Ok(15), Err(Gp), Err(Gp)));
    }

    /// Whatever is written, hardware gets what VMX needs and never more than was offered, and a
    /// mode that was consistent stays so.
    #[test]
    fn writes_keep_the_mode_consistent() {
        let p = child();
        let mut rng = Rng::new(1);
        let mut mode = Mode { cr0: cr0::ET | cr0::CD | cr0::NW, ..Mode::default() };
        let mut paged = 0;
        for _ in 0..200_000 {
            let bit = 1u64 << rng.below(40);
            match rng.below(4) {
                0 => {
                    if let Ok(write) = p.write_cr0(mode.cr0 ^ bit, &mode) {
                        assert_eq!(write.hardware & (cr0::NE | cr0::CD | cr0::NW), cr0::NE);
                        (mode.cr0, mode.efer) = (write.shadow, write.efer);
                    }
                }
                1 => {
                    if let Ok(write) = p.write_cr4(mode.cr4 ^ bit, &mode) {
                        let forced = cr4::VMXE | cr4::MCE;
                        assert_eq!(write.hardware & forced, forced);
                        assert_eq!(write.hardware & !(cr4::CHILD & FIXED.cr4_1 | forced), 0);
                        mode.cr4 = write.shadow;
                    }
                }
                2 => mode.efer = write_efer(mode.efer ^ bit, &mode).unwrap_or(mode.efer),
                _ => mode.cs_l = mode.efer & efer::LMA != 0 && rng.below(2) == 0,
            }
            mode.cs_l &= mode.efer & efer::LMA != 0;
            assert!(p.consistent(&mode), "{mode:x?}");
            paged += u64::from(mode.efer & efer::LMA != 0);
        }
        assert!(paged > 1000);
    }
}
