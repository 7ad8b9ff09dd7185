// SPDX-License-Identifier: GPL-2.0

//! The control registers of the guest whose VMCS is current, by a policy.

use crate::arch::vmcs::{self, control};
use crate::policy::cr::{efer, Mode, Policy, Write};

/// A policy and its way into the VMCS.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub policy: Policy,
}

impl Rules {
    /// CR0 as the guest sees it.
    pub fn cr0(&self) -> u64 {
        let mask = self.policy.cr0_mask;
        vmcs::GUEST_CR0.read() & !mask | vmcs::CR0_SHADOW.read() & mask
    }

    /// CR4 as the guest sees it.
    pub fn cr4(&self) -> u64 {
        let mask = self.policy.cr4_mask;
        vmcs::GUEST_CR4.read() & !mask | vmcs::CR4_SHADOW.read() & mask
    }

    /// The mode that the guest is in.
    pub fn mode(&self) -> Mode {
        Mode {
            cr0: self.cr0(),
            cr3: vmcs::GUEST_CR3.read(),
            cr4: self.cr4(),
            efer: vmcs::GUEST_EFER.read(),
            cs_l: vmcs::GUEST_CS_ACCESS.read() & 1 << 13 != 0,
        }
    }

    /// Carries out a write to CR0 or CR4 that the policy allowed.
    pub fn apply(&self, number: u64, write: &Write) {
        if number == 0 {
            vmcs::CR0_SHADOW.write(write.shadow);
            vmcs::GUEST_CR0.write(write.hardware);
            set_efer(write.efer);
        } else {
            vmcs::CR4_SHADOW.write(write.shadow);
            vmcs::GUEST_CR4.write(write.hardware);
        }
    }

    /// Gives the guest a whole mode, which is [consistent](Policy::consistent).
    pub fn set_mode(&self, mode: &Mode) {
        vmcs::CR0_SHADOW.write(mode.cr0);
        vmcs::GUEST_CR0.write(self.policy.cr0_hardware(mode.cr0));
        vmcs::GUEST_CR3.write(mode.cr3);
        vmcs::CR4_SHADOW.write(mode.cr4);
        vmcs::GUEST_CR4.write(self.policy.cr4_hardware(mode.cr4));
        set_efer(mode.efer);
    }
}

/// Writes EFER and the control that has to agree with EFER.LMA (SDM vol. 3, 27.3.1.1).
pub fn set_efer(value: u64) {
    vmcs::GUEST_EFER.write(value);
    let controls = vmcs::ENTRY_CONTROLS.read() & !control::entry::IA32E;
    let long = if value & efer::LMA != 0 { control::entry::IA32E } else { 0 };
    vmcs::ENTRY_CONTROLS.write(controls | long);
}
