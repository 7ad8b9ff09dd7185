// SPDX-License-Identifier: GPL-2.0

//! A child runs: from the root's call to the exit that the root has to see.

use crate::apic_step;
use crate::arch::enter::{enter, Entered};
#[cfg(hvcore_inject)]
use crate::arch::inject;
use crate::arch::insn;
use crate::arch::lp::Lp;
use crate::arch::vmcs::{self, reason};
use crate::child_exit;
use crate::death;
use crate::event::{self, Event};
use crate::interrupt;
use crate::machine::{self, config};
use crate::partition::Answer;
use crate::policy::cr::efer;
use crate::root;
use crate::switch::Parked;
use crate::vp::{self, State, Vp};
use core::mem::offset_of;
use hvabi::stats::EXIT_REASONS;
use hvabi::vp::gpr::RSP;
use hvabi::vp::{orders, ExitKind, RunPage};

/// What is left to do after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter again; nothing changed that could make an interrupt deliverable.
    Enter,
    /// Look at the local APIC first.
    Look,
    /// Back to the root.
    Root(ExitKind),
}

/// A run of a VP: what the handlers of exits work on.
pub struct Run<'a> {
    pub vp: &'a Vp,
    pub state: &'a mut State,
    pub number: u64,
    /// VPs of the partition, for the topology that CPUID shows.
    pub vp_count: u32,
    /// The partition has memory that the root cannot read.
    pub private: bool,
    /// What the root gets to see.
    pub page: RunPage,
}

/// [`Call::VpRun`](hvabi::call::Call::VpRun).
pub fn run(lp: &mut Lp, number: u64, index: u64) -> Answer<u64> {
    let (vp, vp_count, private) = vp::find_to_run(number, index)?;
    let mut state = vp.state()?;
    lp.stats.get().child_runs += 1;
    let page = RunPage::default();
    let mut run = Run { vp: &vp, state: &mut state, number, vp_count, private, page };
    let init = switch_and_run(lp, &mut run);
    if init {
        // INIT for this LP came while the child ran; it is the root's.
        root::init(lp);
    }
    Ok(0)
}

/// Runs the VP with its state in the processor. True if an INIT for the LP ended it.
fn switch_and_run(lp: &mut Lp, run: &mut Run<'_>) -> bool {
    let from = run.state.run_page();
    let spa = run.state.vmcs_spa();
    if insn::vmptrld(spa).is_err() {
        panic!("VMPTRLD of {spa:#x} failed");
    }
    if run.state.host != lp.index + 1 {
        lp.write_host_state(config().info.host_cr3);
        run.state.host = lp.index + 1;
        // What this LP remembers of the VP is from before the VP ran elsewhere, where alone its
        // INVLPG and MOV to CR3 took effect since (SDM vol. 3, 29.4.3.3).
        insn::invvpid_one(run.state.vpid);
    }
    run.state.gpr = from.read(offset_of!(RunPage, gpr));
    vmcs::GUEST_RSP.write(run.state.gpr[RSP]);
    vmcs::GUEST_RIP.write(from.read(offset_of!(RunPage, rip)));
    vmcs::GUEST_RFLAGS.write(legal_flags(from.read(offset_of!(RunPage, rflags))));
    run.page.orders = from.read(offset_of!(RunPage, orders));
    run.obey();
    let offered = config().xsave.offered();
    // Remembered before anything changes, and until nothing is left to change back.
    let parked = Parked::new(config().present);
    lp.parked = Some(parked);
    parked.load(&run.state.switched, &run.state.xsave, offered);

    inject!(lp.index, ChildEntry);
    let mut init = false;
    let kind = run_loop(lp, run, &mut init);
    apic_step::end(run.state);

    run.state.switched = parked.restore(&mut run.state.xsave, offered);
    lp.parked = None;
    run.publish(kind);
    if insn::vmclear(spa).and_then(|()| insn::vmptrld(lp.vmcs)).is_err() {
        panic!("VMPTRLD of the root failed");
    }
    init
}

/// RFLAGS without reserved bits, and without VM in long mode, where VM entry refuses it.
fn legal_flags(value: u64) -> u64 {
    const DEFINED: u64 = 0x3f_7fd5;
    const VM: u64 = 1 << 17;
    let long = vmcs::GUEST_EFER.read() & efer::LMA != 0;
    let value = value & DEFINED | 2;
    if long {
        value & !VM
    } else {
        value
    }
}

fn run_loop(lp: &mut Lp, run: &mut Run<'_>, init: &mut bool) -> ExitKind {
    let mut launched = false;
    let mut look = true;
    loop {
        if look || run.vp.posted.any() {
            if let Some(kind) = interrupt::prepare(run) {
                return kind;
            }
        }
        arm_timer(lp, run);
        if machine::catch_up(lp.index) {
            lp.stats.get().flushes += 1;
        }
        match enter(&mut run.state.gpr, launched) {
            Entered::Exited => {}
            // The root gets it on the way back.
            Entered::Nmi => {
                run.state.event = Event::withdrawn();
                return ExitKind::Interrupted;
            }
            Entered::Failed => {
                run.page.qualification = u64::from(vmcs::INSTRUCTION_ERROR.read());
                return ExitKind::BadState;
            }
        }
        launched = true;
        let full = vmcs::EXIT_REASON.read();
        let exit = full & 0xffff;
        #[cfg(hvcore_inject)]
        let exit = if inject::happens(lp.index, inject::Point::Unexpected) { 0xfff } else { exit };
        let counter = (exit as usize).min(EXIT_REASONS - 1);
        count(&mut lp.stats.get().child_exits[counter]);
        count(&mut run.state.stats.exits[counter]);
        run.page.reason = exit;
        if death::is_dead() {
            death::leave_dead(lp);
        }
        inject!(lp.index, ChildExit);
        if full & reason::ENTRY_FAILED != 0 {
            run.page.qualification = vmcs::EXIT_QUALIFICATION.read();
            return ExitKind::BadState;
        }
        apic_step::end(run.state);
        // There is none left from before: it was taken for the entry.
        if let Some(event) = Event::interrupted() {
            run.state.event = Some(event);
        }
        if exit == reason::INIT {
            *init = true;
            return ExitKind::Interrupted;
        }
        match child_exit::handle(lp, run, exit) {
            Next::Enter => {
                count(&mut run.state.stats.handled);
                look = run.state.event.is_some();
            }
            Next::Look => {
                count(&mut run.state.stats.handled);
                look = true;
            }
            Next::Root(kind) => return kind,
        }
    }
}

/// One more. 64 bits last longer than the machine.
#[inline(always)]
fn count(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}

/// Sets the VMX-preemption timer for the local APIC's timer. If that is due now, the guest exits
/// before its first instruction, but after what is being delivered.
fn arm_timer(lp: &Lp, run: &mut Run<'_>) {
    let ticks = match run.state.timer {
        // The field keeps its value, of which it only matters that it is large.
        None if run.state.unarmed => return,
        None => u32::MAX,
        Some(deadline) => {
            let left = deadline.saturating_sub(insn::rdtsc());
            u32::try_from(left >> lp.caps.preemption_shift).unwrap_or(u32::MAX)
        }
    };
    run.state.unarmed = run.state.timer.is_none();
    vmcs::PREEMPTION_TIMER.write(ticks);
}

impl Run<'_> {
    /// Does as the root's [`orders`] say, but for those that the handlers of exits look at.
    fn obey(&mut self) {
        let exceptions = vp::CHILD_EXCEPTIONS | (self.page.orders & orders::EXCEPTIONS) as u32;
        if self.state.exceptions != exceptions {
            self.state.exceptions = exceptions;
            vmcs::EXCEPTION_BITMAP.write(exceptions);
        }
        if self.page.orders & orders::RETIRED != 0 {
            event::retire();
        }
        if self.page.orders & orders::FLUSH != 0 {
            insn::invvpid_one(self.state.vpid);
        }
    }

    /// Writes the VP's registers, and what there is to tell, to the page that the root sees.
    fn publish(&mut self, kind: ExitKind) {
        let to = self.state.run_page();
        self.state.gpr[RSP] = vmcs::GUEST_RSP.read();
        let rip = vmcs::GUEST_RIP.read();
        let rflags = vmcs::GUEST_RFLAGS.read();
        if kind == ExitKind::Interrupted {
            to.write(offset_of!(RunPage, gpr), self.state.gpr);
            to.write(offset_of!(RunPage, rip), rip);
            to.write(offset_of!(RunPage, rflags), rflags);
            to.write(offset_of!(RunPage, wake), self.page.wake);
            to.write(offset_of!(RunPage, exit), kind as u32);
            to.write(offset_of!(RunPage, reason), self.page.reason);
            return;
        }
        self.state.stats.to_root += 1;
        let rules = &config().child_rules;
        let page = &mut self.page;
        page.gpr = self.state.gpr;
        page.rip = rip;
        page.rflags = rflags;
        page.exit = kind as u32;
        page.cpl = event::cpl();
        page.cr0 = rules.cr0();
        page.cr3 = vmcs::GUEST_CR3.read();
        page.cr4 = rules.cr4();
        page.cr8 = u64::from(self.state.apic.tpr() >> 4);
        page.efer = vmcs::GUEST_EFER.read();
        page.es = vmcs::ES.read();
        page.cs = vmcs::CS.read();
        page.ss = vmcs::SS.read();
        page.ds = vmcs::DS.read();
        page.fs = vmcs::FS.read();
        page.gs = vmcs::GS.read();
        page.dr7 = vmcs::GUEST_DR7.read();
        page.xcr0 = self.state.switched.xcr0;
        page.event = self.state.event.map_or(0, Event::info);
        page.event_error = self.state.event.map_or(0, Event::error);
        page.interruptibility = u64::from(vmcs::GUEST_INTERRUPTIBILITY.read());
        if kind == ExitKind::Halted {
            let wake = self.state.apic.deadline();
            page.wake_valid = u32::from(wake.is_some());
            page.wake_tsc = wake.unwrap_or(0);
        }
        to.write(0, self.page);
    }
}
