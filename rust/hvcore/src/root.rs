// SPDX-License-Identifier: GPL-2.0

//! The root partition: Linux runs, and exits only for what hvcore must see.

use crate::arch::enter::{enter, Entered};
use crate::arch::image::Failed;
use crate::arch::lp::{Lp, Phase};
use crate::arch::vmcs::{self, control, reason};
use crate::arch::{insn, public};
use crate::death;
use crate::event::{self, blocking, Event};
use crate::hypercall;
use crate::launch::ROOT_VPID;
use crate::machine;
use crate::mem::addr::Gpa;
use crate::mem::ept::Access;
use crate::mem::space::Retry;
use crate::partition;
use crate::policy;
use crate::policy::cr::efer::LMA;
use core::sync::atomic::Ordering;
use hvabi::call::Status;
use hvabi::log::Level;
use hvabi::stats::EXIT_REASONS;
use hvabi::vp::gpr::{RAX, RBX, RCX, RDX};

/// Whether Linux is just starting this LP, in real mode: no way leads there from outside.
pub fn starts() -> bool {
    vmcs::GUEST_EFER.read() & LMA == 0
}

/// Runs the root on this LP for ever. Returns only if the first VM entry failed.
pub fn run(lp: &mut Lp) -> Failed {
    let mut launched = lp.phase == Phase::Root;
    loop {
        // In wait-for-SIPI the LP uses no translation.
        if !lp.waits_for_sipi && machine::catch_up(lp.index) {
            lp.stats.get().flushes += 1;
        }
        if lp.machine_check && !lp.waits_for_sipi {
            lp.machine_check = false;
            inject(Event::exception(18));
        }
        match enter(&mut lp.gpr, launched) {
            Entered::Exited => {}
            Entered::Nmi => {
                hand_over_nmi(lp);
                continue;
            }
            Entered::Failed => {
                let error = u64::from(vmcs::INSTRUCTION_ERROR.read());
                if launched {
                    panic!("VMRESUME of the root failed: error {error}");
                }
                return Failed { status: Status::LaunchFailed as u64, detail: error };
            }
        }
        let reason = vmcs::EXIT_REASON.read();
        if reason & reason::ENTRY_FAILED != 0 {
            let detail = u64::from(reason) | vmcs::EXIT_QUALIFICATION.read() << 32;
            if launched {
                panic!("VM entry of the root failed: {detail:#x}");
            }
            return Failed { status: Status::LaunchFailed as u64, detail };
        }
        if !launched {
            launched = true;
            lp.phase = Phase::Root;
            lp.stats.get().active = 1;
        }
        if death::is_dead() && !starts() {
            death::leave_dead(lp);
        }
        handle(lp, reason & 0xffff);
    }
}

/// A root that called hvcore gets an answer also if hvcore died.
pub fn answer_dead_call(lp: &mut Lp) {
    // A child's VMCS must not be in the processor when VMX ends. The root's is entered once more.
    let current = insn::vmptrst();
    if current != lp.vmcs {
        let _ = insn::vmclear(current);
    }
    if insn::vmptrld(lp.vmcs).is_err() || vmcs::EXIT_REASON.read() != reason::VMCALL {
        return;
    }
    // One that is being carried out was skipped before it began.
    if !lp.in_call {
        event::skip_instruction();
    }
    lp.in_call = false;
    lp.gpr[RAX] = Status::CoreDead as u64;
    lp.gpr[RDX] = 0;
}

/// An exit of the root, whose VMCS is current.
#[inline(always)]
pub fn handle(lp: &mut Lp, exit: u32) {
    let counter = (exit as usize).min(EXIT_REASONS - 1);
    lp.stats.get().root_exits[counter] += 1;
    if exit != reason::EPT_VIOLATION {
        machine::look_away();
    }
    match exit {
        reason::CPUID => cpuid(lp),
        reason::VMCALL => vmcall(lp),
        // Only what the root may not have exits.
        reason::RDMSR => inject(Event::GP),
        reason::WRMSR => wrmsr(lp),
        reason::XSETBV => xsetbv(lp),
        reason::CR_ACCESS => control_register(lp),
        reason::EPT_VIOLATION => ept_violation(lp),
        reason::INIT => init(lp),
        reason::SIPI => sipi(lp),
        reason::PREEMPTION_TIMER => preempted(lp),
        reason::INVD => {
            // Throwing away what other partitions wrote is not for the root to do.
            insn::wbinvd();
            event::skip_instruction();
        }
        // To the root, the processor has no VMX and no SMX.
        reason::GETSEC
        | reason::VMCLEAR..=reason::VMXON
        | reason::INVEPT
        | reason::INVVPID
        | reason::VMFUNC => inject(Event::UD),
        reason::TRIPLE_FAULT => triple_fault(lp),
        // A task switch, which Linux never makes, or an instruction that is newer than hvcore
        // (SEAMCALL exits from ring 3). Nothing that the root executes may be hvcore's end.
        _ => {
            public::log(
                lp.index,
                Level::Warning,
                format_args!("denied: exit {exit} of the root at {:#x}", vmcs::GUEST_RIP.read()),
            );
            inject(Event::UD);
        }
    }
}

/// Has the next entry deliver an event.
fn inject(event: Event) {
    event.for_mode(vmcs::GUEST_CR0.read()).inject();
}

/// An NMI arrived in hvcore or in a child: it is the root's.
pub fn hand_over_nmi(lp: &mut Lp) {
    if lp.waits_for_sipi {
        return forget_nmi(lp);
    }
    let blocked = vmcs::GUEST_INTERRUPTIBILITY.read() & blocking::NMI != 0;
    if Event::is_pending() || blocked || event::traps() {
        // One event an entry. The timer, at zero, brings the LP back before the next instruction.
        lp.take_nmi();
        lp.nmi_later = true;
        vmcs::PIN_CONTROLS.write(lp.caps.pin.only(control::pin::PREEMPTION_TIMER));
        vmcs::PREEMPTION_TIMER.write(0);
        return;
    }
    if lp.take_nmi() {
        inject_nmi(lp);
    }
}

fn forget_nmi(lp: &mut Lp) {
    lp.take_nmi();
    lp.nmi_later = false;
}

fn inject_nmi(lp: &mut Lp) {
    lp.stats.get().nmis += 1;
    // VM entry delivers none behind MOV SS (SDM vol. 3, 27.3.1.5). In long mode, where the
    // handler's stack is another, it may come there.
    event::leave_shadow();
    Event::NMI.inject();
}

/// The preemption timer runs only to bring an NMI that could not be injected before.
fn preempted(lp: &mut Lp) {
    if vmcs::GUEST_INTERRUPTIBILITY.read() & blocking::NMI != 0 {
        // Look again soon, but let the handler get on.
        vmcs::PREEMPTION_TIMER.write(1000);
        return;
    }
    vmcs::PIN_CONTROLS.write(lp.caps.pin.only(0));
    if lp.nmi_later {
        lp.nmi_later = false;
        inject_nmi(lp);
    }
}

fn cpuid(lp: &mut Lp) {
    inject!(lp.index, RootExit);
    let (leaf, subleaf) = (lp.gpr[RAX] as u32, lp.gpr[RCX] as u32);
    let native = insn::cpuid(leaf, subleaf);
    let cr4 = vmcs::GUEST_CR4.read();
    let [eax, ebx, ecx, edx] = policy::cpuid::root(leaf, subleaf, native, lp.index, cr4);
    lp.gpr[RAX] = u64::from(eax);
    lp.gpr[RBX] = u64::from(ebx);
    lp.gpr[RCX] = u64::from(ecx);
    lp.gpr[RDX] = u64::from(edx);
    event::skip_instruction();
}

fn vmcall(lp: &mut Lp) {
    if event::cpl() != 0 {
        return inject(Event::UD);
    }
    lp.stats.get().hypercalls += 1;
    event::skip_instruction();
    lp.in_call = true;
    hypercall::dispatch(lp);
    lp.in_call = false;
}

/// An MSR that is not the root's, or one that is, with a value that the root may not have there.
fn wrmsr(lp: &mut Lp) {
    let (msr, value) = (lp.gpr[RCX] as u32, lp.gpr[RAX] & 0xffff_ffff | lp.gpr[RDX] << 32);
    let may = policy::msr::root_may_write(msr, value, || insn::rdmsr(msr));
    // The processor may refuse it still.
    if may && insn::wrmsr_checked(msr, value) {
        event::skip_instruction();
    } else {
        inject(Event::GP);
    }
}

fn xsetbv(lp: &mut Lp) {
    // Some processors exit before they check the privilege level.
    let value = lp.gpr[RAX] & 0xffff_ffff | lp.gpr[RDX] << 32;
    let offered = u64::from(insn::cpuid(0xd, 0)[0]) | u64::from(insn::cpuid(0xd, 0)[3]) << 32;
    if event::cpl() != 0 || lp.gpr[RCX] as u32 != 0 {
        return inject(Event::GP);
    }
    match policy::xsave::write_xcr0(value, offered) {
        Ok(value) => {
            insn::xsetbv(value);
            event::skip_instruction();
        }
        Err(_) => inject(Event::GP),
    }
}

/// MOV to CR4 that would change VMXE, or to CR0 that would change NE: nothing else exits.
fn control_register(lp: &mut Lp) {
    let rules = &machine::config().root_rules;
    match rules.attempted(&lp.gpr) {
        // PAE without long mode, whose PDPTEs would have to be loaded, is nothing that Linux uses.
        Some(Ok(write)) if !write.load_pdptes => {
            rules.apply(&write);
            if write.flush {
                insn::invvpid_one(ROOT_VPID);
            }
            event::skip_instruction();
        }
        Some(_) => inject(Event::GP),
        None => panic!(
            "control-register exit of the root with qualification {:#x}",
            vmcs::EXIT_QUALIFICATION.read()
        ),
    }
}

fn ept_violation(lp: &mut Lp) {
    const WRITE: u64 = 1 << 1;
    const NMI_UNBLOCKING: u64 = 1 << 12;
    const LINEAR_VALID: u64 = 1 << 7;
    inject!(lp.index, RootMemory);
    let qualification = vmcs::EXIT_QUALIFICATION.read();
    let spa = vmcs::GUEST_PHYSICAL_ADDRESS.read();
    if qualification & NMI_UNBLOCKING != 0 && Event::interrupted().is_none() {
        let state = vmcs::GUEST_INTERRUPTIBILITY.read();
        vmcs::GUEST_INTERRUPTIBILITY.write(state | blocking::NMI);
    }
    if try_again(lp, spa, qualification) {
        if let Some(event) = Event::interrupted() {
            inject(event);
        }
        return;
    }
    // A page that the root may not write, or not execute.
    let rip = vmcs::GUEST_RIP.read();
    let stats = lp.stats.get();
    stats.denied += 1;
    stats.denied_rip = rip;
    let what = if qualification & WRITE != 0 { "write" } else { "access" };
    public::log(
        lp.index,
        Level::Warning,
        format_args!("denied: {what} of the root to {spa:#x} at {rip:#x}"),
    );
    let linear = vmcs::GUEST_LINEAR_ADDRESS.read();
    if event::cpl() == 0 && qualification & LINEAR_VALID != 0 && linear >> 63 != 0 {
        // Linux's own address: a page that is not there, which its careful accesses expect. With
        // the error code of a page that is, Linux would look, find it writable and try for ever.
        insn::write_cr2(linear);
        let error = (qualification & WRITE) as u32;
        return inject(Event::exception(14).with_error(error));
    }
    inject(Event::GP);
}

/// True if the access can be tried again.
fn try_again(lp: &mut Lp, spa: u64, qualification: u64) -> bool {
    const WRITE: u64 = 1 << 1;
    const FETCH: u64 = 1 << 2;
    let (write, execute) = (qualification & WRITE != 0, qualification & FETCH != 0);
    let needs = Access { read: !write && !execute, write, execute };
    let answer = match (machine::MEMORY.lock().as_mut(), Gpa::new(spa)) {
        (Some(memory), Some(gpa)) => memory.retry(gpa, needs),
        _ => Retry::Denied,
    };
    if answer == Retry::Hidden {
        lp.stats.get().hidden_reads += 1;
        machine::ANY_SEEN.store(true, Ordering::Relaxed);
    }
    answer != Retry::Denied
}

/// INIT: Linux takes the LP offline or starts it anew. Only the activity state changes here: a
/// SIPI may come at once, and would be lost while the LP is in hvcore.
pub fn init(lp: &mut Lp) {
    const WAIT_FOR_SIPI: u32 = 3;
    vmcs::GUEST_ACTIVITY.write(WAIT_FOR_SIPI);
    // VM entry refuses both of these in that state (SDM vol. 3, 27.3.1.5). An NMI that waits ends
    // with INIT.
    event::leave_shadow();
    forget_nmi(lp);
    // No instruction runs in this state, so no translation is used.
    machine::stand_back(lp.index);
    lp.waits_for_sipi = true;
}

/// SIPI: the root starts at the page that it names.
fn sipi(lp: &mut Lp) {
    inject!(lp.index, Sipi);
    if partition::no_more_either() {
        // Linux goes on where it had this LP wait; it sends another INIT before it starts it.
        lp.leave(&machine::way_out(lp.index))
    }
    let vector = vmcs::EXIT_QUALIFICATION.read() as u8;
    lp.gpr = machine::config().root_rules.start_up(vector);
    lp.waits_for_sipi = false;
    insn::invvpid_one(ROOT_VPID);
}

/// The root is dead: what the hardware does then is to stop until a reset.
fn triple_fault(lp: &mut Lp) {
    public::log(
        lp.index,
        Level::Critical,
        format_args!("triple fault of the root at {:#x}", vmcs::GUEST_RIP.read()),
    );
    insn::vmxoff();
    insn::reset();
}
