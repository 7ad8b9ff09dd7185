// SPDX-License-Identifier: GPL-2.0

//! Where each register of the TLFS lives, and how to read and write it there.
//!
//! A VP's state is in four places: general registers in the [`RunPage`] (no hypercall needed),
//! most others in hvcore ([`Registers`], in groups), the FPU's in the XSAVE area, and a few that
//! hvcore knows nothing of with hvmod ([`LocalRegisters`]).

use super::fpu::{self, XsaveArea};
use super::hvabi;
use super::interface;
use super::register::{name, RegisterValue, MTRR_PAIRS};
use super::segment::{SegmentRegister, TableRegister};
use super::status::{HvResult, HvStatus};
use super::synic::{self, Effect, Synic};
use hvabi::state::{activity, group, Registers};
use hvabi::vp::{RunPage, Segment};

/// Where a register lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the [`RunPage`].
    Run,
    /// In [`Registers`]; the value is its one [`group`].
    Group(u64),
    /// In the XSAVE area.
    Xsave,
    /// With hvmod.
    Local,
}

/// Registers of a VP that hvmod keeps itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalRegisters {
    pub vp_index: u32,
    /// The VP may not run until this is cleared.
    pub explicit_suspend: bool,
    /// The VP has reported an intercept and was not run since.
    pub intercept_suspend: bool,
    pub deliverability: u64,
    /// Synthetic features that the partition was made with.
    pub features: u64,
    /// What the partition's VPs share: here while registers are read or written.
    pub interface: interface::Registers,
    pub vp_assist_page: u64,
    pub synic: Synic,
    /// The VP's synthetic timers are to be looked at before it runs.
    pub look_at_timers: bool,
}

impl LocalRegisters {
    /// Whether the guest finds that synthetic feature.
    pub fn offers(&self, feature: u64) -> bool {
        interface::offered(self.features) & feature != 0
    }

    /// Takes over state of synthetic timers that was saved.
    pub fn set_timers_state(&mut self, state: &synic::TimersState) -> HvResult {
        self.synic.set_timers_state(self.features, state)
    }
}

/// The state of a VP, as far as it was loaded.
pub struct View<'a> {
    pub run: &'a mut RunPage,
    pub registers: &'a mut Registers,
    pub xsave: &'a mut XsaveArea,
    pub local: &'a mut LocalRegisters,
}

/// IA32_MTRRCAP of a VP: 8 pairs, fixed ranges, write combining.
pub const MTRR_CAP: u64 = 0x508;

/// IA32_MISC_ENABLE of a VP: fast strings.
pub const MISC_ENABLE: u64 = 1;

/// Bits of RFLAGS that exist.
const RFLAGS_VALID: u64 = 0x003f_7fd7;

const NMI_BLOCKED: u32 = 1 << 3;
const STI_BLOCKED: u32 = 1 << 0;
const MOV_SS_BLOCKED: u32 = 1 << 1;

/// Where the register called `name` lives, or `None` if there is no such register.
pub fn home(name: u32) -> Option<Home> {
    use super::register::name as n;
    Some(match name {
        n::RAX..=n::RFLAGS => Home::Run,
        n::XMM0..=n::XMM_CONTROL_STATUS => Home::Xsave,
        n::ES..=n::TR | n::IDTR | n::GDTR => Home::Group(group::SEGMENTS),
        n::CR0 | n::CR2 | n::CR3 | n::CR4 | n::EFER => Home::Group(group::CONTROL),
        n::INTERMEDIATE_CR0 | n::INTERMEDIATE_CR3 | n::INTERMEDIATE_CR4 => {
            Home::Group(group::CONTROL)
        }
        n::CR8 | n::INTERMEDIATE_CR8 => Home::Group(group::CR8),
        n::XFEM | n::U_XSS => Home::Group(group::XCR),
        n::DR0..=n::DR7 => Home::Group(group::DEBUG),
        n::KERNEL_GS_BASE | n::STAR | n::LSTAR | n::CSTAR | n::SFMASK | n::TSC_AUX => {
            Home::Group(group::SYSCALL)
        }
        n::SYSENTER_CS | n::SYSENTER_EIP | n::SYSENTER_ESP | n::PAT => Home::Group(group::SYSENTER),
        n::APIC_BASE => Home::Group(group::APIC_BASE),
        n::TSC => Home::Group(group::TIME),
        n::PENDING_INTERRUPTION
        | n::INTERRUPT_STATE
        | n::PENDING_EVENT0
        | n::INTERNAL_ACTIVITY_STATE => Home::Group(group::EVENT),
        n::MTRR_DEF_TYPE | n::MTRR_FIX64K00000..=n::MTRR_FIX4KF8000 => Home::Group(group::MTRR),
        _ if mtrr_variable(name).is_some() => Home::Group(group::MTRR),
        n::EXPLICIT_SUSPEND
        | n::INTERCEPT_SUSPEND
        | n::DISPATCH_SUSPEND
        | n::PENDING_EVENT1
        | n::DELIVERABILITY_NOTIFICATIONS
        | n::INITIAL_APIC_ID
        | n::APIC_ID
        | n::MTRR_CAP
        | n::MISC_ENABLE
        | n::DEBUG_CTL
        | n::TSC_ADJUST
        | n::VP_INDEX
        | n::VP_ROOT_SIGNAL_COUNT => Home::Local,
        n::HYPERCALL | n::GUEST_OS_ID | n::VP_ASSIST_PAGE | n::REFERENCE_TSC => Home::Local,
        _ if synic::Register::of_name(name).is_some() => Home::Local,
        _ => return None,
    })
}

/// A masked SINT, as it is after reset.
const SINT_MASKED: u64 = 1 << 16;

/// Index into [`Registers::mtrr_variable`].
fn mtrr_variable(name: u32) -> Option<usize> {
    let pair = |base: u32| name.checked_sub(base).filter(|&n| n < MTRR_PAIRS);
    if let Some(n) = pair(name::MTRR_PHYS_BASE0) {
        return Some(2 * n as usize);
    }
    pair(name::MTRR_PHYS_MASK0).map(|n| 2 * n as usize + 1)
}

impl View<'_> {
    fn segment(&mut self, name: u32) -> &mut Segment {
        let r = &mut *self.registers;
        match name {
            name::ES => &mut r.es,
            name::CS => &mut r.cs,
            name::SS => &mut r.ss,
            name::DS => &mut r.ds,
            name::FS => &mut r.fs,
            name::GS => &mut r.gs,
            name::LDTR => &mut r.ldtr,
            _ => &mut r.tr,
        }
    }

    /// The `u64` behind a register that is one, and nothing more.
    fn plain(&mut self, name: u32) -> Option<&mut u64> {
        use super::register::name as n;
        let r = &mut *self.registers;
        Some(match name {
            n::RAX..=n::R15 => &mut self.run.gpr[(name - n::RAX) as usize],
            n::RIP => &mut self.run.rip,
            n::CR0 | n::INTERMEDIATE_CR0 => &mut r.cr0,
            n::CR2 => &mut r.cr2,
            n::CR3 | n::INTERMEDIATE_CR3 => &mut r.cr3,
            n::CR4 | n::INTERMEDIATE_CR4 => &mut r.cr4,
            n::EFER => &mut r.efer,
            n::CR8 | n::INTERMEDIATE_CR8 => &mut r.cr8,
            n::XFEM => &mut r.xcr0,
            n::U_XSS => &mut r.xss,
            n::DR0..=n::DR3 => &mut r.dr[(name - n::DR0) as usize],
            n::DR6 => &mut r.dr6,
            n::DR7 => &mut r.dr7,
            n::KERNEL_GS_BASE => &mut r.syscall.kernel_gs_base,
            n::STAR => &mut r.syscall.star,
            n::LSTAR => &mut r.syscall.lstar,
            n::CSTAR => &mut r.syscall.cstar,
            n::SFMASK => &mut r.syscall.sfmask,
            n::TSC_AUX => &mut r.syscall.tsc_aux,
            n::SYSENTER_CS => &mut r.sysenter_cs,
            n::SYSENTER_EIP => &mut r.sysenter_eip,
            n::SYSENTER_ESP => &mut r.sysenter_esp,
            n::PAT => &mut r.pat,
            n::APIC_BASE => &mut r.apic_base,
            n::TSC => &mut r.tsc,
            n::MTRR_DEF_TYPE => &mut r.mtrr_def_type,
            n::MTRR_FIX64K00000..=n::MTRR_FIX4KF8000 => {
                &mut r.mtrr_fixed[(name - n::MTRR_FIX64K00000) as usize]
            }
            _ => &mut r.mtrr_variable[mtrr_variable(name)?],
        })
    }

    /// Reads a register. Its [`home`] must have been loaded.
    pub fn get(&mut self, name: u32) -> HvResult<RegisterValue> {
        use super::register::name as n;
        if let Some(value) = self.plain(name) {
            return Ok((*value).into());
        }
        let local = &*self.local;
        Ok(match name {
            n::RFLAGS => self.run.rflags.into(),
            n::ES..=n::TR => SegmentRegister::from(*self.segment(name)).into(),
            n::GDTR => TableRegister::from(self.registers.gdtr).into(),
            n::IDTR => TableRegister::from(self.registers.idtr).into(),
            n::XMM0..=n::XMM_CONTROL_STATUS => fpu::get(self.xsave, name),
            n::PENDING_INTERRUPTION => {
                pending_interruption(self.registers.event, self.registers.event_error).into()
            }
            n::INTERRUPT_STATE => interrupt_state(self.registers.interruptibility).into(),
            n::INTERNAL_ACTIVITY_STATE => activity_state(self.registers.activity).into(),
            n::PENDING_EVENT0 | n::PENDING_EVENT1 | n::DISPATCH_SUSPEND => 0.into(),
            n::EXPLICIT_SUSPEND => u64::from(local.explicit_suspend).into(),
            n::INTERCEPT_SUSPEND => u64::from(local.intercept_suspend).into(),
            n::DELIVERABILITY_NOTIFICATIONS => local.deliverability.into(),
            n::INITIAL_APIC_ID | n::APIC_ID | n::VP_INDEX => u64::from(local.vp_index).into(),
            n::MTRR_CAP => MTRR_CAP.into(),
            n::MISC_ENABLE => MISC_ENABLE.into(),
            n::DEBUG_CTL | n::TSC_ADJUST | n::VP_ROOT_SIGNAL_COUNT => 0.into(),
            n::HYPERCALL => local.interface.hypercall.into(),
            n::GUEST_OS_ID => local.interface.guest_os_id.into(),
            n::REFERENCE_TSC => local.interface.reference_tsc.into(),
            n::VP_ASSIST_PAGE => local.vp_assist_page.into(),
            _ => match synic::Register::of_name(name) {
                Some(register) if local.offers(register.feature()) => {
                    local.synic.read(register).into()
                }
                Some(synic::Register::Sint(_)) => SINT_MASKED.into(),
                Some(_) => 0.into(),
                None => return Err(HvStatus::INVALID_PARAMETER),
            },
        })
    }

    /// Writes a register. Its [`home`] must have been loaded, and must be stored afterwards.
    ///
    /// Only what hvcore does not check itself is checked here.
    pub fn set(&mut self, name: u32, value: RegisterValue) -> HvResult {
        use super::register::name as n;
        if let Some(place) = self.plain(name) {
            *place = value.low;
            return Ok(());
        }
        let bad = Err(HvStatus::INVALID_REGISTER_VALUE);
        match name {
            n::RFLAGS => {
                if value.low & !RFLAGS_VALID != 0 {
                    return bad;
                }
                self.run.rflags = legal_flags(value.low);
            }
            n::ES..=n::TR => *self.segment(name) = SegmentRegister::from(value).into(),
            n::GDTR => self.registers.gdtr = TableRegister::from(value).into(),
            n::IDTR => self.registers.idtr = TableRegister::from(value).into(),
            n::XMM0..=n::XMM_CONTROL_STATUS => return fpu::set(self.xsave, name, value),
            n::PENDING_INTERRUPTION => {
                let (event, error) = event_from_pending(value.low)?;
                self.registers.event = event;
                self.registers.event_error = error;
            }
            n::PENDING_EVENT0 => return self.set_pending_event(value),
            n::INTERRUPT_STATE => {
                let r = &mut *self.registers;
                if value.low & !3 != 0 {
                    return bad;
                }
                r.interruptibility = match (value.low & 1 != 0, r.interruptibility & 3) {
                    (false, _) => 0,
                    (true, 0) => STI_BLOCKED,
                    (true, blocked) => blocked,
                };
                if value.low & 2 != 0 {
                    r.interruptibility |= NMI_BLOCKED;
                }
            }
            n::INTERNAL_ACTIVITY_STATE => {
                self.registers.activity = match value.low {
                    0 => activity::ACTIVE,
                    1 => activity::WAIT_FOR_SIPI,
                    2 | 4 => activity::HALTED,
                    _ => return bad,
                };
            }
            n::EXPLICIT_SUSPEND | n::INTERCEPT_SUSPEND => {
                if value.low > 1 {
                    return bad;
                }
                if name == n::EXPLICIT_SUSPEND {
                    self.local.explicit_suspend = value.low != 0;
                } else {
                    self.local.intercept_suspend = value.low != 0;
                }
            }
            // Of these only the value that they have can be set.
            n::PENDING_EVENT1
            | n::DISPATCH_SUSPEND
            | n::MTRR_CAP
            | n::MISC_ENABLE
            | n::DEBUG_CTL
            | n::TSC_ADJUST
            | n::INITIAL_APIC_ID
            | n::APIC_ID
            | n::DELIVERABILITY_NOTIFICATIONS => {
                // What a program leaves behind a value of 64 bits means nothing.
                if self.get(name)?.low != value.low {
                    return match name {
                        n::DELIVERABILITY_NOTIFICATIONS => Err(HvStatus::INVALID_PARAMETER),
                        _ => bad,
                    };
                }
            }
            n::VP_INDEX | n::VP_ROOT_SIGNAL_COUNT => return Err(HvStatus::ACCESS_DENIED),
            n::HYPERCALL | n::GUEST_OS_ID | n::VP_ASSIST_PAGE | n::REFERENCE_TSC => {
                let feature = match name {
                    n::REFERENCE_TSC => interface::feature::REFERENCE_TSC,
                    _ => interface::feature::HYPERCALL,
                };
                let local = &mut *self.local;
                if value.low != 0 && !local.offers(feature) {
                    return bad;
                }
                *match name {
                    n::HYPERCALL => &mut local.interface.hypercall,
                    n::GUEST_OS_ID => &mut local.interface.guest_os_id,
                    n::VP_ASSIST_PAGE => &mut local.vp_assist_page,
                    _ => &mut local.interface.reference_tsc,
                } = value.low;
            }
            _ => {
                let register = synic::Register::of_name(name).ok_or(HvStatus::INVALID_PARAMETER)?;
                return self.set_synic(register, value.low);
            }
        }
        Ok(())
    }

    /// Writes a register of the SynIC, of which the pages are as the VMM left them.
    fn set_synic(&mut self, register: synic::Register, value: u64) -> HvResult {
        let local = &mut *self.local;
        if !local.offers(register.feature()) {
            // A VMM writes the state after reset to each VP; where there is no such interface,
            // only that makes sense.
            let allowed = match register {
                synic::Register::Sint(_) => SINT_MASKED,
                _ => 0,
            };
            return match value & !allowed {
                0 => Ok(()),
                _ => Err(HvStatus::INVALID_REGISTER_VALUE),
            };
        }
        if register == synic::Register::Version && value == local.synic.read(register) {
            return Ok(());
        }
        if !local.offers(register.feature_to_write(value)) {
            return Err(HvStatus::INVALID_REGISTER_VALUE);
        }
        match local.synic.write(register, value) {
            Ok(effect) => local.look_at_timers |= effect == Effect::Timers,
            Err(interface::Gp) => return Err(HvStatus::INVALID_REGISTER_VALUE),
        }
        Ok(())
    }

    /// HV_REGISTER_PENDING_EVENT0: an exception or external interrupt to be delivered.
    fn set_pending_event(&mut self, value: RegisterValue) -> HvResult {
        const EXCEPTION: u64 = 0;
        const EXTERNAL: u64 = 5;
        if value.low & 1 == 0 {
            // Nothing is pending here; what PENDING_INTERRUPTION says stays.
            return Ok(());
        }
        let r = &mut *self.registers;
        match value.low >> 1 & 7 {
            EXCEPTION => {
                let vector = (value.low >> 16 & 0xffff) as u32;
                let deliver = (value.low >> 8 & 1) as u32;
                if vector > 31 {
                    return Err(HvStatus::INVALID_REGISTER_VALUE);
                }
                r.event = EVENT_VALID | deliver << 11 | 3 << 8 | vector;
                r.event_error = (value.low >> 32) as u32;
            }
            EXTERNAL => {
                r.event = EVENT_VALID | (value.low >> 8 & 0xff) as u32;
                r.event_error = 0;
            }
            _ => return Err(HvStatus::INVALID_REGISTER_VALUE),
        }
        Ok(())
    }
}

/// The group of registers that PENDING_EVENT0 also writes, besides its own, and the CR2 that goes
/// there: an exception parameter of #PF is the fault's address.
pub fn pending_page_fault(name: u32, value: RegisterValue) -> Option<u64> {
    let page_fault = value.low & 0xf == 1 && value.low >> 16 & 0xffff == 14;
    (name == name::PENDING_EVENT0 && page_fault).then_some(value.high)
}

const EVENT_VALID: u32 = 1 << 31;

/// #GP as [`Registers::event`].
pub const EVENT_GP: u32 = EVENT_VALID | 1 << 11 | 3 << 8 | 13;

/// #UD as [`Registers::event`].
pub const EVENT_UD: u32 = EVENT_VALID | 3 << 8 | 6;

/// RFLAGS without bits that do not exist, and with the one that always is set.
pub(super) fn legal_flags(value: u64) -> u64 {
    value & RFLAGS_VALID | 2
}

/// VMCS format to `union hv_x64_pending_interruption_register`.
pub(super) fn pending_interruption(event: u32, error: u32) -> u64 {
    if event & EVENT_VALID == 0 {
        return 0;
    }
    let type_ = u64::from(event >> 8 & 7);
    let deliver = u64::from(event >> 11 & 1);
    let vector = u64::from(event & 0xff);
    1 | type_ << 1 | deliver << 4 | vector << 16 | u64::from(error) << 32
}

/// `union hv_x64_pending_interruption_register` to VMCS format.
fn event_from_pending(value: u64) -> HvResult<(u32, u32)> {
    if value & 1 == 0 {
        return Ok((0, 0));
    }
    let type_ = (value >> 1 & 7) as u32;
    let deliver = (value >> 4 & 1) as u32;
    let vector = (value >> 16 & 0xffff) as u32;
    // 0 external, 2 NMI, 3 exception, 4 software interrupt, 5 INT1, 6 INT3 and INTO.
    let valid = match type_ {
        0 | 4 => vector <= 255,
        2 => vector == 2,
        3 | 5 | 6 => vector <= 31,
        _ => false,
    };
    if !valid || (deliver == 1 && type_ != 3) {
        return Err(HvStatus::INVALID_REGISTER_VALUE);
    }
    let event = EVENT_VALID | deliver << 11 | type_ << 8 | vector;
    Ok((event, (value >> 32) as u32))
}

pub(super) fn interrupt_state(interruptibility: u32) -> u64 {
    let shadow = interruptibility & (STI_BLOCKED | MOV_SS_BLOCKED) != 0;
    u64::from(shadow) | u64::from(interruptibility & NMI_BLOCKED != 0) << 1
}

fn activity_state(activity: u32) -> u64 {
    match activity {
        activity::WAIT_FOR_SIPI => 1,
        activity::HALTED => 2,
        _ => 0,
    }
}
