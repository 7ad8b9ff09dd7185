// SPDX-License-Identifier: GPL-2.0

//! Registers of the local APIC that the processor does not virtualize (the timer's current count,
//! the processor priority, and what is no register): the access exits, and tells where but not
//! which instruction it was. hvcore has no decoder, so it lets the instruction do its access for
//! once, on the page that is really mapped there, with the register's value put there before; the
//! monitor trap flag brings the VP back after that one instruction.
//!
//! All partitions have the one page. An LP has it for a step; others let their VP try again. It is
//! cleared after each step, so that nobody finds there what another partition wrote.

use crate::arch::insn;
use crate::arch::root_memory::Hostile;
use crate::arch::vmcs::{self, control};
use crate::child::{Next, Run};
use crate::machine::config;
use crate::partition;
use crate::vp::State;
use core::sync::atomic::{AtomicBool, Ordering};
use hvabi::APIC_GPA;

/// The page is in use.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// An APIC-access VM exit.
pub fn begin(run: &mut Run<'_>) -> Next {
    const READ: u64 = 0;
    const WRITE: u64 = 1;
    const FETCH: u64 = 2;
    let qualification = vmcs::EXIT_QUALIFICATION.read();
    let (offset, kind) = (qualification as u16 & 0xfff, qualification >> 12 & 0xf);
    if !matches!(kind, READ | WRITE) || !run.state.apic.in_memory() {
        // Code, stack or descriptor tables in the page, or no APIC: to the root, nothing is there.
        // A base that leads to memory was no address of the page's.
        let base = run.state.apic.page_gpa();
        let page = partition::lock(run.number).ok().and_then(|it| it.space.translate(base));
        let seen = page == Some(config().apic_access);
        let base = if seen { base } else { APIC_GPA };
        run.page.gpa = base | u64::from(offset);
        run.page.gla_valid = 0;
        run.page.access = match kind {
            WRITE => 2,
            FETCH => 4,
            _ => 1,
        };
        return crate::child_exit::to_root(run, hvabi::vp::ExitKind::Memory);
    }
    if TAKEN.swap(true, Ordering::Acquire) {
        return Next::Enter;
    }
    let state = &mut *run.state;
    if kind == READ {
        let value = state.apic.read(offset & 0xff0, insn::rdtsc());
        scratch().write(usize::from(offset & 0xff0), value);
    }
    state.steps = true;
    set_controls(state);
    Next::Enter
}

/// After any exit: if a step was under way, it is over, whether it was made or not.
#[inline(always)]
pub fn end(state: &mut State) {
    if state.steps {
        state.steps = false;
        set_controls(state);
        scratch().write(0, [0u64; 512]);
        TAKEN.store(false, Ordering::Release);
    }
}

/// The page behind the APIC's; its contents are a child's.
fn scratch() -> Hostile {
    Hostile::owned_by_root(config().apic_access)
}

/// After the APIC's mode changed. In xAPIC mode the processor keeps registers, and with them the
/// task priority. In the others every access to the page exits, and so do those to CR8.
pub fn follow_mode(state: &mut State) {
    use control::proc;
    const CR8: u32 = proc::CR8_LOAD | proc::CR8_STORE;
    state.controls = if state.apic.in_memory() {
        state.controls & !CR8 | proc::TPR_SHADOW
    } else {
        state.controls & !proc::TPR_SHADOW | CR8
    };
    set_controls(state);
}

fn set_controls(state: &State) {
    use control::{proc, proc2};
    let mut kind = if state.steps { 0 } else { proc2::APIC_ACCESSES };
    if state.apic.in_memory() {
        kind |= proc2::APIC_REGISTERS;
    }
    let others = vmcs::PROC_CONTROLS2.read() & !(proc2::APIC_ACCESSES | proc2::APIC_REGISTERS);
    vmcs::PROC_CONTROLS2.write(others | kind);
    let trap = if state.steps { proc::MONITOR_TRAP } else { 0 };
    vmcs::PROC_CONTROLS.write(state.controls | trap);
    // Translations say whether they lead to the APIC's page, those of guest-physical addresses too
    // (SDM vol. 3, 31.4.5).
    insn::invept_all();
}
