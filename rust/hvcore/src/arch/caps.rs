// SPDX-License-Identifier: GPL-2.0

//! What VMX offers on this LP, read once at launch (SDM vol. 3, appendix A).

use super::insn::{cpuid, rdmsr};
use super::msr;
use super::vmcs::control::{entry, exit, pin, proc, proc2};
use hvabi::call::Missing;

/// Which bits of a control must be 1 and which may be.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    must: u32,
    may: u32,
}

impl Control {
    const fn new(capability: u64) -> Self {
        Self { must: capability as u32, may: (capability >> 32) as u32 }
    }

    /// True if all of `bits` may be 1.
    pub const fn offers(self, bits: u32) -> bool {
        self.may & bits == bits
    }

    /// The value to write: all of `required`, what there is of `wanted`, and what must be.
    pub const fn settle(self, required: u32, wanted: u32) -> u32 {
        required | (wanted & self.may) | self.must
    }

    /// The value that sets `bits` only.
    pub const fn only(self, bits: u32) -> u32 {
        self.settle(bits, 0)
    }
}

/// The capabilities of an LP.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    pub revision: u32,
    pub pin: Control,
    pub proc: Control,
    pub proc2: Control,
    pub exit: Control,
    pub entry: Control,
    pub ept_vpid: u64,
    pub cr0_fixed: (u64, u64),
    pub cr4_fixed: (u64, u64),
    /// The VMX-preemption timer counts down once for each `1 << this` ticks of the TSC.
    pub preemption_shift: u32,
    /// Physical-address width.
    pub phys_bits: u32,
}

/// EPT: 4 levels, write-back tables, 2 MiB pages, INVEPT of both kinds.
const EPT_NEEDED: u64 = 1 << 6 | 1 << 14 | 1 << 16 | 1 << 20 | 1 << 26;
const EPT_1GIB: u64 = 1 << 17;
/// INVVPID, single-context and all-context.
const VPID_NEEDED: u64 = 1 << 32 | 1 << 41 | 1 << 42;

impl Caps {
    /// Reads them; tells what is missing for the root partition.
    pub fn read() -> Result<Self, Missing> {
        if cpuid(1, 0)[2] & 1 << 5 == 0 {
            return Err(Missing::Vmx);
        }
        let basic = rdmsr(msr::VMX_BASIC);
        let offset = if basic & 1 << 55 != 0 { msr::VMX_TRUE_OFFSET } else { 0 };
        let proc = Control::new(rdmsr(msr::VMX_PROCBASED + offset));
        if !proc.offers(proc::SECONDARY) {
            return Err(Missing::Ept);
        }
        let proc2 = Control::new(rdmsr(msr::VMX_PROCBASED2));
        if !proc2.offers(proc2::EPT) {
            return Err(Missing::Ept);
        }
        let caps = Self {
            revision: basic as u32 & 0x7fff_ffff,
            pin: Control::new(rdmsr(msr::VMX_PINBASED + offset)),
            proc,
            proc2,
            exit: Control::new(rdmsr(msr::VMX_EXIT + offset)),
            entry: Control::new(rdmsr(msr::VMX_ENTRY + offset)),
            ept_vpid: rdmsr(msr::VMX_EPT_VPID_CAP),
            cr0_fixed: (rdmsr(msr::VMX_CR0_FIXED0), rdmsr(msr::VMX_CR0_FIXED1)),
            cr4_fixed: (rdmsr(msr::VMX_CR4_FIXED0), rdmsr(msr::VMX_CR4_FIXED1)),
            preemption_shift: rdmsr(msr::VMX_MISC) as u32 & 0x1f,
            phys_bits: cpuid(0x8000_0008, 0)[0] & 0xff,
        };
        caps.check_root()?;
        Ok(caps)
    }

    fn check_root(&self) -> Result<(), Missing> {
        if self.ept_vpid & EPT_NEEDED != EPT_NEEDED {
            return Err(Missing::Ept);
        }
        if !self.proc2.offers(proc2::UNRESTRICTED) {
            return Err(Missing::Unrestricted);
        }
        if !self.proc2.offers(proc2::VPID) || self.ept_vpid & VPID_NEEDED != VPID_NEEDED {
            return Err(Missing::Vpid);
        }
        let exit_bits = exit::HOST_64
            | exit::SAVE_DEBUG
            | exit::SAVE_PAT
            | exit::LOAD_PAT
            | exit::SAVE_EFER
            | exit::LOAD_EFER;
        let entry_bits = entry::IA32E | entry::LOAD_DEBUG | entry::LOAD_PAT | entry::LOAD_EFER;
        // The timer brings NMIs that cannot be injected at once, and blocks them on the way out.
        if !self.pin.offers(pin::PREEMPTION_TIMER)
            || !self.proc.offers(proc::MSR_BITMAPS)
            || !self.exit.offers(exit_bits)
            || !self.entry.offers(entry_bits)
            || self.proc.must & (proc::CR3_LOAD | proc::CR3_STORE) != 0
        {
            return Err(Missing::Controls);
        }
        Ok(())
    }

    /// True if children can run: what their local APIC and their timers need.
    pub fn children(&self) -> bool {
        self.pin.offers(pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMIS)
            && self.proc.offers(
                proc::TPR_SHADOW
                    | proc::HLT
                    | proc::UNCONDITIONAL_IO
                    | proc::INTERRUPT_WINDOW
                    | proc::NMI_WINDOW
                    | proc::MONITOR_TRAP,
            )
            && self.proc2.offers(proc2::APIC_ACCESSES | proc2::APIC_REGISTERS)
    }

    /// True if EPT has 1 GiB pages.
    pub fn ept_1gib(&self) -> bool {
        self.ept_vpid & EPT_1GIB != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_settles_within_what_is_offered() {
        let control = Control::new(0x0000_00ff_0000_0016);
        assert!(control.offers(0xff));
        assert!(!control.offers(0x100));
        assert_eq!(control.settle(0x80, 0x300), 0x96);
        assert_eq!(control.only(1), 0x17);
    }
}
