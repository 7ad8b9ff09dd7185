// SPDX-License-Identifier: GPL-2.0

//! Reading and writing the state of a VP that does not run.

use crate::apic_step;
use crate::arch::insn;
use crate::arch::lp::Lp;
use crate::arch::vmcs::{self, SegmentFields};
use crate::child_exit;
use crate::event::{blocking, Event};
use crate::machine::config;
use crate::partition::{self, Answer};
use crate::policy::cr::{efer, Mode};
use crate::policy::msr::{canonical, pat_valid};
use crate::policy::{self, cr, xsave};
use crate::vp::{self, Activity, State};
use hvabi::call::Status;
use hvabi::state::{activity, group, Registers, StateKind};
use hvabi::vp::Segment;

const REGISTERS: u64 = StateKind::Registers as u64;
const XSAVE: u64 = StateKind::Xsave as u64;
const APIC: u64 = StateKind::Apic as u64;
const STATS: u64 = StateKind::Stats as u64;
const CPUID: u64 = StateKind::Cpuid as u64;

/// [`Call::VpGet`](hvabi::call::Call::VpGet), or [`Call::VpSet`](hvabi::call::Call::VpSet).
pub fn access(lp: &Lp, set: bool, [number, index, kind, spa, groups]: [u64; 5]) -> Answer<u64> {
    let page = partition::with_memory(|memory| partition::list(&memory.owners, spa))?;
    let (vp, vp_count) = vp::find(number, index)?;
    let mut state = vp.state()?;
    match (kind, set) {
        (CPUID, false) => {
            let (leaf, subleaf) = (groups as u32, (groups >> 32) as u32);
            let (xcr0, apic) = (state.switched.xcr0, state.apic.present());
            let result = state.with_vmcs(lp, |_| {
                child_exit::cpuid_result(leaf, subleaf, vp.index, vp_count, xcr0, apic)
            });
            page.write(0, result);
        }
        (REGISTERS, _) => {
            if groups & !group::ALL != 0 {
                return Err((Status::BadArgument, 0));
            }
            let mut registers: Registers = page.read(0);
            if set {
                let mut offset = state.tsc_offset;
                if groups & group::TIME != 0 {
                    let wanted = registers.tsc.wrapping_sub(insn::rdtsc());
                    offset = partition::lock(number)?.agree_on_tsc(wanted);
                }
                state
                    .with_vmcs(lp, |state| {
                        write_registers(number, state, registers, groups, offset)
                    })
                    .map_err(|group| (Status::BadArgument, u64::from(group.trailing_zeros())))?;
            } else {
                state.with_vmcs(lp, |state| read_registers(state, &mut registers, groups));
                page.write(0, registers);
            }
        }
        (XSAVE, false) => page.write(0, *state.xsave.words()),
        (XSAVE, true) => state.xsave.set(&page.read(0), config().xsave.offered()),
        (APIC, false) => page.write(0, state.apic.export(insn::rdtsc())),
        (APIC, true) => state.apic.import(&page.read(0), insn::rdtsc()),
        (STATS, false) => page.write(0, state.stats),
        _ => return Err((Status::BadArgument, 0)),
    }
    if set {
        vp.posted.publish(state.apic.address());
    }
    Ok(0)
}

fn segments(registers: &mut Registers) -> [(SegmentFields, &mut Segment); 8] {
    [
        (vmcs::ES, &mut registers.es),
        (vmcs::CS, &mut registers.cs),
        (vmcs::SS, &mut registers.ss),
        (vmcs::DS, &mut registers.ds),
        (vmcs::FS, &mut registers.fs),
        (vmcs::GS, &mut registers.gs),
        (vmcs::LDTR, &mut registers.ldtr),
        (vmcs::TR, &mut registers.tr),
    ]
}

fn read_registers(state: &State, registers: &mut Registers, groups: u64) {
    let wanted = |group: u64| groups & group != 0;
    if wanted(group::SEGMENTS) {
        for (fields, segment) in segments(registers) {
            *segment = fields.read();
        }
        registers.gdtr = vmcs::GDTR.read();
        registers.idtr = vmcs::IDTR.read();
    }
    if wanted(group::CONTROL) {
        let mode = config().child_rules.mode();
        registers.cr0 = mode.cr0;
        registers.cr2 = state.switched.cr2;
        registers.cr3 = mode.cr3;
        registers.cr4 = mode.cr4;
        registers.efer = mode.efer;
    }
    if wanted(group::CR8) {
        registers.cr8 = u64::from(state.apic.tpr() >> 4);
    }
    if wanted(group::XCR) {
        registers.xcr0 = state.switched.xcr0;
        registers.xss = 0;
    }
    if wanted(group::SYSCALL) {
        registers.syscall = state.switched.syscall;
    }
    if wanted(group::SYSENTER) {
        registers.sysenter_cs = u64::from(vmcs::GUEST_SYSENTER_CS.read());
        registers.sysenter_esp = vmcs::GUEST_SYSENTER_ESP.read();
        registers.sysenter_eip = vmcs::GUEST_SYSENTER_EIP.read();
        registers.pat = vmcs::GUEST_PAT.read();
    }
    if wanted(group::DEBUG) {
        registers.dr = state.switched.dr;
        registers.dr6 = state.switched.dr6;
        registers.dr7 = vmcs::GUEST_DR7.read();
    }
    if wanted(group::APIC_BASE) {
        registers.apic_base = state.apic.base();
    }
    if wanted(group::TIME) {
        registers.tsc = insn::rdtsc().wrapping_add(state.tsc_offset);
        registers.tsc_deadline = state.apic.tsc_deadline();
    }
    if wanted(group::EVENT) {
        registers.event = state.event.map_or(0, Event::info);
        registers.event_error = state.event.map_or(0, Event::error);
        registers.interruptibility = vmcs::GUEST_INTERRUPTIBILITY.read();
        registers.activity = match state.activity {
            Activity::Active => activity::ACTIVE,
            Activity::Halted => activity::HALTED,
            Activity::WaitForSipi => activity::WAIT_FOR_SIPI,
        };
    }
    if wanted(group::MTRR) {
        registers.mtrr_def_type = state.msrs.mtrr_def_type;
        registers.mtrr_fixed = state.msrs.mtrr_fixed;
        registers.mtrr_variable = state.msrs.mtrr_variable;
    }
}

/// `Ok` if what a group must fulfil holds.
fn check(holds: bool, group: u64) -> Result<(), u64> {
    if holds {
        Ok(())
    } else {
        Err(group)
    }
}

/// Whether groups of registers can be set; an error is the group at fault. What depends on several
/// groups (a segment's type on the mode, say) VM entry checks, and then the VP does not run.
///
/// Gives the event and the MSRs that are to be set. The APIC's base, whose check is to set it, is
/// set already: it comes last.
fn check_registers(
    state: &mut State,
    new: &Registers,
    groups: u64,
) -> Result<(Option<Event>, policy::msr::State), u64> {
    let wanted = |group: u64| groups & group != 0;
    let config = config();
    let mut event = None;
    if wanted(group::CONTROL) {
        let long = new.efer & efer::LMA != 0;
        let mode = Mode { cr0: new.cr0, cr3: new.cr3, cr4: new.cr4, efer: new.efer, cs_l: long };
        let known = efer::SCE | efer::LME | efer::LMA | efer::NXE;
        let width = config.caps.phys_bits.min(52);
        check(
            config.child_rules.policy.consistent(&mode)
                && new.efer & !known == 0
                && new.cr3 >> width == 0,
            group::CONTROL,
        )?;
    }
    check(!wanted(group::CR8) || cr::write_cr8(new.cr8).is_ok(), group::CR8)?;
    if wanted(group::XCR) {
        let valid = xsave::write_xcr0(new.xcr0, config.xsave.offered()).is_ok();
        check(valid && new.xss == 0, group::XCR)?;
    }
    if wanted(group::SYSCALL) {
        let new = &new.syscall;
        let addresses = [new.lstar, new.cstar, new.kernel_gs_base];
        // Where the processor has no TSC_AUX, to load one is a fault of hvcore's.
        let most = if config.present.tsc_aux { u32::MAX.into() } else { 0 };
        check(
            addresses.into_iter().all(canonical) && new.sfmask >> 32 == 0 && new.tsc_aux <= most,
            group::SYSCALL,
        )?;
    }
    if wanted(group::SYSENTER) {
        check(
            canonical(new.sysenter_esp)
                && canonical(new.sysenter_eip)
                && new.sysenter_cs >> 32 == 0
                && pat_valid(new.pat),
            group::SYSENTER,
        )?;
    }
    if wanted(group::DEBUG) {
        check(new.dr6 >> 32 == 0 && new.dr7 >> 32 == 0, group::DEBUG)?;
    }
    if wanted(group::EVENT) {
        let blocked = blocking::STI | blocking::MOV_SS | blocking::NMI;
        if new.event & 1 << 31 != 0 {
            event = Event::from_root(new.event, new.event_error);
            check(event.is_some(), group::EVENT)?;
        }
        check(
            new.interruptibility & !blocked == 0
                && new.interruptibility & 3 != 3
                && matches!(
                    new.activity,
                    activity::ACTIVE | activity::HALTED | activity::WAIT_FOR_SIPI
                ),
            group::EVENT,
        )?;
    }
    let mut msrs = state.msrs;
    if wanted(group::MTRR) {
        let (fixed, variable) = (new.mtrr_fixed, new.mtrr_variable);
        msrs = msrs
            .with_mtrrs(new.mtrr_def_type, &fixed, &variable, &config.msrs)
            .map_err(|_| group::MTRR)?;
    }
    if wanted(group::APIC_BASE) {
        let done = state.apic.write_base(new.apic_base, config.caps.phys_bits);
        check(done.is_ok(), group::APIC_BASE)?;
        apic_step::follow_mode(state);
    }
    Ok((event, msrs))
}

/// Sets groups of registers, all or none; an error is the group at fault. `tsc_offset` goes with the
/// group of the time.
fn write_registers(
    number: u64,
    state: &mut State,
    mut new: Registers,
    groups: u64,
    tsc_offset: u64,
) -> Result<(), u64> {
    let (event, msrs) = check_registers(state, &new, groups)?;
    // Nothing is refused any more.
    let wanted = |group: u64| groups & group != 0;
    let config = config();
    state.msrs = msrs;
    if wanted(group::SEGMENTS) {
        for (fields, segment) in segments(&mut new) {
            fields.write(segment);
        }
        vmcs::GDTR.write(new.gdtr);
        vmcs::IDTR.write(new.idtr);
    }
    if wanted(group::CONTROL) {
        let mode = Mode { cr0: new.cr0, cr3: new.cr3, cr4: new.cr4, efer: new.efer, cs_l: false };
        let old = config.child_rules.mode();
        config.child_rules.set_mode(&mode);
        if mode.pae() && !(old.pae() && old.cr3 == mode.cr3) {
            // Where no memory is yet, there is nothing to load.
            let _ = child_exit::load_pdptes(number, mode.cr3);
        }
        state.switched.cr2 = new.cr2;
        // The LP that runs it next, whichever it is, may know those of another address space.
        state.host = 0;
    }
    if wanted(group::CR8) {
        state.apic.set_tpr((new.cr8 as u8) << 4);
    }
    if wanted(group::XCR) {
        state.switched.xcr0 = new.xcr0;
    }
    if wanted(group::SYSCALL) {
        state.switched.syscall = new.syscall;
    }
    if wanted(group::SYSENTER) {
        vmcs::write_sysenter([new.sysenter_cs, new.sysenter_esp, new.sysenter_eip]);
        vmcs::GUEST_PAT.write(new.pat);
    }
    if wanted(group::DEBUG) {
        state.switched.dr = new.dr;
        state.switched.dr6 = new.dr6;
        vmcs::GUEST_DR7.write(new.dr7);
    }
    if wanted(group::TIME) {
        state.tsc_offset = tsc_offset;
        vmcs::TSC_OFFSET.write(tsc_offset);
        state.apic.write_tsc_deadline(new.tsc_deadline, tsc_offset, insn::rdtsc());
    }
    if wanted(group::EVENT) {
        state.event = event;
        vmcs::GUEST_INTERRUPTIBILITY.write(new.interruptibility);
        state.activity = match new.activity {
            activity::HALTED => Activity::Halted,
            activity::WAIT_FOR_SIPI => Activity::WaitForSipi,
            _ => Activity::Active,
        };
    }
    Ok(())
}
