// SPDX-License-Identifier: GPL-2.0

//! Processor state that VM entry and exit leave alone, swapped when control moves between the root
//! and a child, and not on exits that hvcore handles itself.

use crate::arch::insn::{self, rdmsr, wrmsr};
use crate::arch::xsave::Area;
use crate::arch::{msr, predictors, tables};
use hvabi::boot::measures;
use hvabi::state::Syscall;

/// Which of the optional registers this processor has, and the root has switched on; and what a
/// switch does against speculation.
#[derive(Clone, Copy, Debug)]
pub struct Present {
    pub tsc_aux: bool,
    pub spec_ctrl: bool,
    pub xcr0: bool,
    pub xss: bool,
    pub pkru: bool,
    pub measures: u64,
}

impl Present {
    /// `wanted` [`measures`] are taken, where the processor has the registers for them.
    pub fn detect(root_cr4: u64, wanted: u64) -> Self {
        const OSXSAVE: u64 = 1 << 18;
        const CR4_PKE: u64 = 1 << 22;
        let leaf7 = insn::cpuid(7, 0);
        let has_ibpb = leaf7[3] >> 26 & 1 != 0;
        let has_flush = leaf7[3] >> 28 & 1 != 0;
        let without = |measure, has: bool| if has { 0 } else { measure };
        Self {
            tsc_aux: insn::cpuid(0x8000_0001, 0)[3] & 1 << 27 != 0,
            spec_ctrl: has_ibpb,
            xcr0: root_cr4 & OSXSAVE != 0,
            xss: insn::cpuid(0xd, 1)[0] & 1 << 3 != 0,
            pkru: root_cr4 & CR4_PKE != 0,
            measures: wanted
                & !without(measures::IBPB, has_ibpb)
                & !without(measures::L1D_FLUSH, has_flush),
        }
    }

    /// What the processor learned and kept of one partition is not for the next. On the way to
    /// either side, since the root is a partition too. What hvcore itself touches between this and
    /// the entry is its own, and that side's.
    fn forget(self) {
        const ONCE: u64 = 1;
        if self.measures & measures::IBPB != 0 {
            wrmsr(msr::PRED_CMD, ONCE);
        }
        if self.measures & measures::L1D_FLUSH != 0 {
            wrmsr(msr::FLUSH_CMD, ONCE);
        }
        if self.measures & measures::VERW != 0 {
            predictors::verw(tables::DATA);
        }
        if self.measures & measures::RSB_FILL != 0 {
            predictors::fill_return_stack();
        }
    }
}

/// The values of one side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switched {
    pub syscall: Syscall,
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
    pub fn reset() -> Self {
        Self { xcr0: 1, dr6: 0xffff_0ff0, ..Self::default() }
    }

    /// What is in the registers now.
    pub fn live(present: Present) -> Self {
        Self {
            syscall: Syscall {
                star: rdmsr(msr::STAR),
                lstar: rdmsr(msr::LSTAR),
                cstar: rdmsr(msr::CSTAR),
                sfmask: rdmsr(msr::SFMASK),
                kernel_gs_base: rdmsr(msr::KERNEL_GS_BASE),
                tsc_aux: if present.tsc_aux { rdmsr(msr::TSC_AUX) } else { 0 },
            },
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
        let (new, old) = (&self.syscall, &live.syscall);
        let msrs = [
            (msr::STAR, new.star, old.star),
            (msr::LSTAR, new.lstar, old.lstar),
            (msr::CSTAR, new.cstar, old.cstar),
            (msr::SFMASK, new.sfmask, old.sfmask),
            (msr::KERNEL_GS_BASE, new.kernel_gs_base, old.kernel_gs_base),
            (msr::TSC_AUX, new.tsc_aux, old.tsc_aux),
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
        // One by one: arrays are compared byte by byte.
        let write = [insn::write_dr0, insn::write_dr1, insn::write_dr2, insn::write_dr3];
        for ((write, new), old) in write.into_iter().zip(self.dr).zip(live.dr) {
            if new != old {
                write(new);
            }
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
    /// The root's values, which are loaded.
    pub fn new(present: Present) -> Self {
        Self { present, values: Switched::live(present) }
    }

    /// Loads a child's values, with its extended state.
    ///
    /// All components that any child may use are loaded and saved, not those that XCR0 of this one
    /// enables now: it can use SSE with none enabled, and must not find the root's registers.
    pub fn load(&self, child: &Switched, area: &Area, offered: u64) {
        let present = self.present;
        if present.xcr0 {
            insn::xsetbv(offered);
            area.restore();
        }
        let live = Switched {
            xcr0: if present.xcr0 { offered } else { 1 },
            // A part of the area, which alone the root sets.
            pkru: child.pkru,
            ..self.values
        };
        child.replace(&live);
        inject!(crate::arch::lp::Lp::on_this_stack().0, Switch);
        present.forget();
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
        inject!(crate::arch::lp::Lp::on_this_stack().0, Switch);
        self.values.replace(&live);
        self.present.forget();
        child
    }

    /// Loads the root's values when nothing of the child is wanted any more.
    pub fn abandon(self) {
        self.values.replace(&Switched::live(self.present));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::host;
    use crate::mem::frame::{host_frame, PageBox};

    /// Each switch, to either side, takes what was chosen, and nothing else. (VERW and the return
    /// stack leave nothing to be seen.)
    #[test]
    fn a_switch_takes_the_measures() {
        for measures in 0..=measures::ALL {
            host::reset();
            let present = Present {
                tsc_aux: false,
                spec_ctrl: true,
                xcr0: false,
                xss: false,
                pkru: false,
                measures,
            };
            let told = || [msr::PRED_CMD, msr::FLUSH_CMD].map(insn::rdmsr);
            let chosen =
                [measures::IBPB, measures::L1D_FLUSH].map(|m| u64::from(measures & m != 0));
            let forget = || [msr::PRED_CMD, msr::FLUSH_CMD].map(|msr| wrmsr(msr, 0));
            let mut area = PageBox::<Area>::zeroed(host_frame(1));
            let parked = Parked::new(present);
            parked.load(&Switched::reset(), &area, 1);
            assert_eq!(told(), chosen, "to the child, {measures:#x}");
            forget();
            parked.restore(&mut area, 1);
            assert_eq!(told(), chosen, "to the root, {measures:#x}");
        }
    }

    /// Of what was wanted an LP leaves out what it has no register for.
    #[test]
    fn what_is_not_there_is_not_written() {
        host::reset();
        let none = Present::detect(0, measures::ALL).measures;
        assert_eq!(none, measures::RSB_FILL | measures::VERW);
        host::with(|p| {
            p.cpuid = Some(|leaf, _| if leaf == 7 { [0, 0, 0, 1 << 26] } else { [0; 4] })
        });
        assert_eq!(Present::detect(0, measures::ALL).measures, none | measures::IBPB);
        assert_eq!(Present::detect(0, 0).measures, 0);
    }
}
