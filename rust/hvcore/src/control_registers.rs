// SPDX-License-Identifier: GPL-2.0

//! The control registers of the guest whose VMCS is current, by a policy, and the state in which
//! it starts.

use crate::arch::insn;
use crate::arch::vmcs::{self, control};
use crate::policy::cr::{efer, Mode, Policy, Register, Write};
use crate::policy::{unless, Gp};
use hvabi::state::Table;
use hvabi::vp::gpr::{RDX, RSP};
use hvabi::vp::Segment;

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

    /// The write to CR0 or CR4 that the guest exited for, judged by the policy. `None` if it is
    /// another access: none of those should exit.
    pub fn attempted(&self, gpr: &[u64; 16]) -> Option<Result<Write, Gp>> {
        const MOV_TO: u64 = 0;
        let qualification = vmcs::EXIT_QUALIFICATION.read();
        let register = (qualification >> 8 & 0xf) as usize;
        let value = if register == RSP { vmcs::GUEST_RSP.read() } else { gpr[register] };
        let mode = self.mode();
        let wide = mode.cs_l && mode.efer & efer::LMA != 0;
        let value = if wide { value } else { value & 0xffff_ffff };
        let write = match (qualification >> 4 & 3, qualification & 0xf) {
            (MOV_TO, 0) => self.policy.write_cr0(value, &mode),
            (MOV_TO, 4) => self.policy.write_cr4(value, &mode),
            _ => return None,
        };
        // Long mode has no 16-bit TSS.
        let narrow = vmcs::TR.access.read() & 8 == 0;
        Some(write.and_then(|it| unless(narrow && it.efer & efer::LMA != 0).map(|()| it)))
    }

    /// Carries out a write that the policy allowed.
    pub fn apply(&self, write: &Write) {
        if write.register == Register::Cr0 {
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

    /// Gives the guest the state after RESET or INIT; the result is its general registers.
    pub fn reset(&self) -> [u64; 16] {
        self.start(0xffff_0000, 0xf000, 0xfff0)
    }

    /// Gives the guest the state after the SIPI with that vector.
    pub fn start_up(&self, vector: u8) -> [u64; 16] {
        self.start(u64::from(vector) << 12, u16::from(vector) << 8, 0)
    }

    /// SDM vol. 3, table 10-1.
    fn start(&self, base: u64, selector: u16, rip: u64) -> [u64; 16] {
        let code = Segment { base, limit: 0xffff, access: 0x9b, selector, ..Segment::default() };
        let data = Segment { limit: 0xffff, access: 0x93, ..Segment::default() };
        vmcs::CS.write(&code);
        for segment in [vmcs::DS, vmcs::ES, vmcs::FS, vmcs::GS, vmcs::SS] {
            segment.write(&data);
        }
        vmcs::LDTR.write(&Segment { access: 0x82, ..data });
        vmcs::TR.write(&Segment { access: 0x8b, ..data });
        let table = Table { limit: 0xffff, ..Table::default() };
        vmcs::GDTR.write(table);
        vmcs::IDTR.write(table);
        self.set_mode(&Mode { cr0: 0x6000_0010, ..Mode::default() });
        vmcs::GUEST_DR7.write(0x400);
        vmcs::GUEST_DEBUGCTL.write(0);
        vmcs::GUEST_RIP.write(rip);
        vmcs::GUEST_RSP.write(0);
        vmcs::GUEST_RFLAGS.write(2);
        vmcs::write_sysenter([0; 3]);
        activate();
        let mut gpr = [0; 16];
        // Family, model and stepping.
        gpr[RDX] = u64::from(insn::cpuid(1, 0)[0]);
        gpr
    }
}

/// Makes the guest active, with nothing to be delivered and nothing held back.
pub fn activate() {
    vmcs::GUEST_ACTIVITY.write(0);
    vmcs::GUEST_INTERRUPTIBILITY.write(0);
    vmcs::GUEST_PENDING_DEBUG.write(0);
    vmcs::ENTRY_INFO.write(0);
}

/// Writes EFER and the control that has to agree with EFER.LMA (SDM vol. 3, 27.3.1.1).
pub fn set_efer(value: u64) {
    vmcs::GUEST_EFER.write(value);
    let controls = vmcs::ENTRY_CONTROLS.read() & !control::entry::IA32E;
    let long = if value & efer::LMA != 0 { control::entry::IA32E } else { 0 };
    vmcs::ENTRY_CONTROLS.write(controls | long);
}
