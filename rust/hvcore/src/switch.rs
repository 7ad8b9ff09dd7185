// SPDX-License-Identifier: GPL-2.0

//! Processor state that VM entry and exit leave alone, swapped when control moves between the root
//! and a child, and not on exits that hvcore handles itself.

use crate::arch::insn::{self, rdmsr, wrmsr};
use crate::arch::msr;
use crate::arch::xsave::Area;

/// Which of the optional registers this processor has, and the root has switched on.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    pub tsc_aux: bool,
    pub spec_ctrl: bool,
    pub xcr0: bool,
    pub xss: bool,
    pub pkru: bool,
}

impl Present {
    pub fn detect(root_cr4: u64) -> Self {
        const OSXSAVE: u64 = 1 << 18;
        const CR4_PKE: u64 = 1 << 22;
        let leaf7 = insn::cpuid(7, 0);
        Self {
            tsc_aux: insn::cpuid(0x8000_0001, 0)[3] & 1 << 27 != 0,
            spec_ctrl: leaf7[3] & 1 << 26 != 0,
            xcr0: root_cr4 & OSXSAVE != 0,
            xss: insn::cpuid(0xd, 1)[0] & 1 << 3 != 0,
            pkru: root_cr4 & CR4_PKE != 0,
        }
    }
}

/// The values of one side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switched {
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub tsc_aux: u64,
    pub spec_ctrl: u64,
    pub xcr0: u64,
    pub xss: u64,
    pub pkru: u32,
    pub cr2: u64,
    pub dr: [u64; 4],
    pub dr6: u64,
}

impl Switched {
    /// After RESET (SDM vol. 3, table 10-1).
    pub const RESET: Self = Self {
        star: 0,
        lstar: 0,
        cstar: 0,
        sfmask: 0,
        kernel_gs_base: 0,
        tsc_aux: 0,
        spec_ctrl: 0,
        xcr0: 1,
        xss: 0,
        pkru: 0,
        cr2: 0,
        dr: [0; 4],
        dr6: 0xffff_0ff0,
    };

    /// What is in the registers now.
    pub fn live(present: Present) -> Self {
        Self {
            star: rdmsr(msr::STAR),
            lstar: rdmsr(msr::LSTAR),
            cstar: rdmsr(msr::CSTAR),
            sfmask: rdmsr(msr::SFMASK),
            kernel_gs_base: rdmsr(msr::KERNEL_GS_BASE),
            tsc_aux: if present.tsc_aux { rdmsr(msr::TSC_AUX) } else { 0 },
            spec_ctrl: if present.spec_ctrl { rdmsr(msr::SPEC_CTRL) } else { 0 },
            xcr0: if present.xcr0 { insn::xgetbv() } else { 1 },
            xss: if present.xss { rdmsr(msr::XSS) } else { 0 },
            pkru: if present.pkru { insn::rdpkru() } else { 0 },
            cr2: insn::read_cr2(),
            dr: [insn::read_dr0(), insn::read_dr1(), insn::read_dr2(), insn::read_dr3()],
            dr6: insn::read_dr6(),
        }
    }

    /// Makes these values live, where they differ from what is.
    pub fn replace(&self, live: &Switched) {
        let msrs = [
            (msr::STAR, self.star, live.star),
            (msr::LSTAR, self.lstar, live.lstar),
            (msr::CSTAR, self.cstar, live.cstar),
            (msr::SFMASK, self.sfmask, live.sfmask),
            (msr::KERNEL_GS_BASE, self.kernel_gs_base, live.kernel_gs_base),
            (msr::TSC_AUX, self.tsc_aux, live.tsc_aux),
            (msr::SPEC_CTRL, self.spec_ctrl, live.spec_ctrl),
            (msr::XSS, self.xss, live.xss),
        ];
        for (index, new, old) in msrs {
            if new != old {
                wrmsr(index, new);
            }
        }
        if self.xcr0 != live.xcr0 {
            insn::xsetbv(self.xcr0);
        }
        if self.pkru != live.pkru {
            insn::wrpkru(self.pkru);
        }
        if self.cr2 != live.cr2 {
            insn::write_cr2(self.cr2);
        }
        if self.dr != live.dr {
            insn::write_dr0(self.dr[0]);
            insn::write_dr1(self.dr[1]);
            insn::write_dr2(self.dr[2]);
            insn::write_dr3(self.dr[3]);
        }
        if self.dr6 != live.dr6 {
            insn::write_dr6(self.dr6);
        }
    }
}

/// The root's values while a child's are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Parked {
    present: Present,
    values: Switched,
}

impl Parked {
    /// Remembers the root's values and loads a child's, with its extended state.
    ///
    /// All components that any child may use are loaded and saved, not those that XCR0 of this one
    /// enables now: it can use SSE with none enabled, and must not find the root's registers.
    pub fn park(present: Present, child: &Switched, area: &Area, offered: u64) -> Self {
        let values = Switched::live(present);
        if present.xcr0 {
            insn::xsetbv(offered);
            area.restore();
        }
        let live = Switched {
            xcr0: if present.xcr0 { offered } else { 1 },
            pkru: if present.pkru { insn::rdpkru() } else { 0 },
            ..values
        };
        child.replace(&live);
        Self { present, values }
    }

    /// Loads the root's values and gives the child's.
    pub fn restore(self, area: &mut Area, offered: u64) -> Switched {
        let child = Switched::live(self.present);
        let mut live = child;
        if self.present.xcr0 {
            insn::xsetbv(offered);
            area.save();
            live.xcr0 = offered;
        }
        self.values.replace(&live);
        child
    }

    /// Loads the root's values when nothing of the child is wanted any more.
    pub fn abandon(self) {
        self.values.replace(&Switched::live(self.present));
    }
}
