// SPDX-License-Identifier: GPL-2.0

//! Interrupts of children: who gets one that is sent, and what a VP takes before it is entered.

use crate::apic::posted::arbitrate;
use crate::apic::regs::{Delivery, Ipi, Target};
use crate::arch::insn;
use crate::arch::vmcs::{self, control};
use crate::child::Run;
use crate::event::{self, blocking, Event};
use crate::partition::{self, Answer, Partition};
use crate::vp::{Activity, State, Vp};
use core::sync::atomic::{AtomicU32, Ordering};
use hvabi::call::{interrupt, Status};
use hvabi::vp::{orders, ExitKind};

/// Turns for lowest-priority delivery.
static TURN: AtomicU32 = AtomicU32::new(0);

/// The first VP has the next turn.
#[cfg(not(hvcore_image))]
pub fn forget() {
    TURN.store(0, Ordering::Relaxed);
}

const RFLAGS_IF: u64 = 1 << 9;

/// Before an entry: takes what was sent, fires the timer, and has one event delivered. `Some` if
/// there is no point in entering.
pub fn prepare(run: &mut Run<'_>) -> Option<ExitKind> {
    receive(run);
    let state = &mut *run.state;
    if state.activity == Activity::WaitForSipi {
        return Some(ExitKind::WaitForSipi);
    }
    let pending = state.apic.pending();
    // An 8259A's comes first, and knows no priority.
    let next = state.external.or(pending);
    let (delivered, controls) = deliver(state, next);
    if state.activity == Activity::Halted {
        if !delivered {
            return Some(ExitKind::Halted);
        }
        state.activity = Activity::Active;
    }
    if run.page.orders & orders::IDLE != 0 {
        if !delivered && next.is_none() {
            return Some(ExitKind::Halted);
        }
        run.page.orders &= !orders::IDLE;
    }
    vmcs::PROC_CONTROLS.write(controls);
    // With nothing deliverable, an interrupt may wait for the task priority to go down.
    let (highest, class) = (state.apic.status() as u8 >> 4, state.apic.tpr() >> 4);
    let waits = pending.is_none() && highest != 0 && highest <= class;
    vmcs::TPR_THRESHOLD.write(if waits { u32::from(highest) } else { 0 });
    None
}

/// Takes what was sent to a VP, and what its timer did.
fn receive(run: &mut Run<'_>) {
    let state = &mut *run.state;
    let events = run.vp.posted.drain(&mut state.apic);
    state.apic.expire(insn::rdtsc());
    state.timer = state.apic.deadline();
    state.nmi |= events.nmi;
    state.external = events.external.or(state.external.filter(|_| !events.clear));
    if events.init {
        state.apic.init();
        state.reset();
        // The bootstrap processor starts at the reset vector (SDM vol. 3, 11.4.2).
        state.activity = if run.vp.index == 0 { Activity::Active } else { Activity::WaitForSipi };
        run.vp.posted.publish(state.apic.address());
    }
    if let (Activity::WaitForSipi, Some(vector)) = (state.activity, events.startup) {
        state.start_up(vector);
        state.activity = Activity::Active;
    }
}

/// Has the next entry deliver one event, if the VP takes it: the one that was interrupted, an NMI
/// or the interrupt `next`. Whether it does, and the controls that say when another one can be.
fn deliver(state: &mut State, next: Option<u8>) -> (bool, u32) {
    let mut controls = state.controls;
    if state.steps {
        controls |= control::proc::MONITOR_TRAP;
    }
    vmcs::ENTRY_INFO.write(0);
    let mut delivered = false;
    if let Some(event) = state.event.take() {
        event.for_mode(vmcs::GUEST_CR0.read()).inject();
        delivered = true;
    }
    if !state.nmi && next.is_none() {
        return (delivered, controls);
    }
    let shadow = vmcs::GUEST_INTERRUPTIBILITY.read();
    let held = delivered || shadow & (blocking::STI | blocking::MOV_SS) != 0 || event::traps();
    if state.nmi {
        if !held && shadow & blocking::NMI == 0 {
            state.nmi = false;
            Event::NMI.inject();
            delivered = true;
        } else {
            controls |= control::proc::NMI_WINDOW;
        }
    }
    if let Some(vector) = next {
        let open = vmcs::GUEST_RFLAGS.read() & RFLAGS_IF != 0;
        if held || delivered || !open {
            return (delivered, controls | control::proc::INTERRUPT_WINDOW);
        }
        if state.external.take().is_none() {
            state.apic.accept(vector);
        }
        state.stats.injected += 1;
        Event::interrupt(vector).inject();
        delivered = true;
        if state.apic.pending().is_some() {
            controls |= control::proc::INTERRUPT_WINDOW;
        }
    }
    (delivered, controls)
}

/// Sends an interrupt, by VP `from` or by the root; gives the set of VPs that have to look.
pub fn send(partition: &Partition, from: Option<u32>, ipi: Ipi, level: bool) -> u64 {
    let mut set = 0u64;
    for (index, vp) in partition.vps.iter().enumerate() {
        let Some(vp) = vp else { continue };
        let wanted = vp.posted.address().wants(&ipi, from == Some(index as u32));
        set |= u64::from(wanted) << index;
    }
    if ipi.delivery == Delivery::LowestPriority {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        set = arbitrate(set, turn).map_or(0, |index| 1 << index);
    }
    for (index, vp) in partition.vps.iter().enumerate() {
        if let (Some(vp), true) = (vp, set >> index & 1 != 0) {
            post(vp, ipi, level);
        }
    }
    set
}

fn post(vp: &Vp, ipi: Ipi, level: bool) {
    match ipi.delivery {
        Delivery::Fixed | Delivery::LowestPriority => vp.posted.post(ipi.vector, level),
        Delivery::Nmi => vp.posted.post_nmi(),
        Delivery::Init => vp.posted.post_init(),
        Delivery::Startup => vp.posted.post_startup(ipi.vector),
        // The 8259A is the VMM's: it gives the vector.
        Delivery::ExtInt => vp.posted.post_external(ipi.vector),
        // A partition has no SMM.
        Delivery::Smi => false,
    };
}

/// [`Call::AssertInterrupt`](hvabi::call::Call::AssertInterrupt).
pub fn assert(number: u64, word: u64, destination: u64) -> Answer<u64> {
    const BAD: (Status, u64) = (Status::BadArgument, 0);
    if (word, destination) == (interrupt::CLEAR_EXTINT, 0) {
        let partition = partition::lock(number)?;
        partition.vps.iter().flatten().for_each(|vp| vp.posted.clear_external());
        return Ok(0);
    }
    let known =
        interrupt::VECTOR | 7 << interrupt::MODE_SHIFT | interrupt::LOGICAL | interrupt::LEVEL;
    let id = u32::try_from(destination).map_err(|_| BAD)?;
    let delivery = Delivery::from_raw((word >> interrupt::MODE_SHIFT) as u32).ok_or(BAD)?;
    let vector = (word & interrupt::VECTOR) as u8;
    let fixed = matches!(delivery, Delivery::Fixed | Delivery::LowestPriority);
    if word & !known != 0
        || (fixed && vector < 16)
        || matches!(delivery, Delivery::Startup | Delivery::Smi)
    {
        return Err(BAD);
    }
    let logical = word & interrupt::LOGICAL != 0;
    let level = word & interrupt::LEVEL != 0;
    let ipi = Ipi { vector, delivery, target: Target::Destination { id, logical } };
    Ok(send(&*partition::lock(number)?, None, ipi, level))
}
