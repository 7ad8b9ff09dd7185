// SPDX-License-Identifier: GPL-2.0

//! Running a VP: MSHV_RUN_VP.

use super::{
    guest,
    partition::Partition,
    region::Access,
    user,
    vp::{idle, State, Vp},
};
use crate::{
    hvabi::{
        call::Status,
        vp::{orders, ExitKind, RunPage, REASON_PAUSE},
    },
    hypercall,
    sys::run::{self, RunGuard},
    tlfs::message::{self, Instruction},
};
use kernel::{prelude::*, sync::MutexGuard};

/// What to do after an exit.
enum Next {
    /// Run again.
    Again,
    /// Sleep until woken, or until the TSC is there.
    Sleep(Option<u64>),
    /// Tell the program; the message is in [`State`].
    Tell,
}

/// Runs the VP until its program must do something, and writes the message of that to `arg`.
pub(super) fn ioctl(partition: &Partition, vp: &Vp, arg: usize) -> Result<isize> {
    vp.waiter.attach();
    // Programs stop their threads by a signal. One that came after the last call ended would be lost
    // to those that look for what they are asked for only when they are told of a signal.
    if vp.waiter.was_signalled() {
        return Err(EINTR);
    }
    let ran = run(partition, vp);
    vp.set_idle(idle::STOPPED);
    run::leave();
    vp.waiter.leave(matches!(ran, Err(EINTR)));
    let state = ran?;
    vp.publish(&state.message);
    user::write_bytes(arg, state.message.bytes())?;
    Ok(0)
}

fn run<'a>(partition: &Partition, vp: &'a Vp) -> Result<MutexGuard<'a, State>> {
    let mut state = vp.lock_to_run();
    vp.take_page(&mut state)
        .map_err(|status| user::error(status.errno()))?;
    vp.register_page.invalidate();
    if state.told.take().is_some_and(|rip| rip != state.run.rip) {
        state.retired = true;
    }
    state.local.explicit_suspend = false;
    state.local.intercept_suspend = false;
    loop {
        run::handle_work()?;
        vp.waiter.arm();
        // After this every death of hvcore is a wake-up.
        if !hypercall::core_alive() {
            return Err(ENODEV);
        }
        if state.local.explicit_suspend || partition.is_frozen() || partition.is_stopped() {
            state = sleep(vp, state, None)?;
            continue;
        }
        if state.timers_want_a_look(vp) && partition.run_timers(vp, &mut state).is_err() {
            hypercall::report();
        }
        state.run.orders = partition.orders(&state);
        if state.retired {
            state.run.orders |= orders::RETIRED;
        }
        if state.idle {
            state.run.orders |= orders::IDLE;
        }
        let Some(status) = enter(partition, vp, &mut state) else {
            // Those who want the state get it: the mutex does not let this one overtake twice.
            drop(state);
            state = lock_again(vp);
            continue;
        };
        if status == Status::NeedSync {
            // Memory became private, and not every LP has forgotten it yet. Nor has the VP what it
            // was to forget: it was not entered.
            if state.run.orders & orders::FLUSH != 0 {
                vp.request_flush();
            }
            hypercall::sync_all();
            continue;
        }
        state.retired = false;
        if status != Status::Ok {
            hypercall::report();
            return Err(hypercall::error(status));
        }
        match after(partition, vp, &mut state) {
            Next::Again => {}
            Next::Sleep(until) => state = sleep(vp, state, until)?,
            Next::Tell => {
                state.local.intercept_suspend = true;
                vp.register_page.show(&state);
                return Ok(state);
            }
        }
    }
}

/// Enters the VP, unless there is something else to do first.
fn enter(partition: &Partition, vp: &Vp, state: &mut State) -> Option<Status> {
    let guard = RunGuard::new();
    vp.set_running();
    if guard.work_pending() || vp.is_wanted() {
        vp.set_idle(idle::READY);
        return None;
    }
    if vp.take_flush() {
        state.run.orders |= orders::FLUSH;
    }
    let status = hypercall::vp_run(vp.partition_id(), vp.index());
    vp.set_idle(idle::READY);
    // Interrupts are off still: whom the VP sent an interrupt does not have to wait until this
    // thread, if it is preempted now, has its next turn.
    if state.run.wake != 0 {
        partition.notify(state.run.wake);
    }
    Some(status)
}

/// Sleeps until the VP is notified, or until the TSC reaches `until`; others can have the state
/// meanwhile.
fn sleep<'a>(
    vp: &'a Vp,
    state: MutexGuard<'a, State>,
    until: Option<u64>,
) -> Result<MutexGuard<'a, State>> {
    vp.set_idle(match exit_kind(&state.run) {
        ExitKind::Halted => idle::HALTED,
        ExitKind::WaitForSipi => idle::WAITS_FOR_SIPI,
        _ => idle::STOPPED,
    });
    drop(state);
    vp.waiter
        .wait(until.map(|tsc| tsc_to_ns(tsc.wrapping_sub(run::tsc()))))?;
    Ok(lock_again(vp))
}

/// The state, to go on after others could have it: who set registers had the page show them.
fn lock_again(vp: &Vp) -> MutexGuard<'_, State> {
    let state = vp.lock_to_run();
    vp.register_page.invalidate();
    state
}

/// Nanoseconds that `ticks` of the TSC take; 0 if the time is over already.
fn tsc_to_ns(ticks: u64) -> u64 {
    let khz = hypercall::tsc_khz().max(1);
    if (ticks as i64) < 0 {
        return 0;
    }
    let ms = ticks / khz;
    let rest = ticks % khz;
    ms.saturating_mul(1_000_000)
        .saturating_add(rest * 1_000_000 / khz)
}

fn exit_kind(run: &RunPage) -> ExitKind {
    const KINDS: [ExitKind; 14] = [
        ExitKind::Interrupted,
        ExitKind::Halted,
        ExitKind::Port,
        ExitKind::Memory,
        ExitKind::Eoi,
        ExitKind::TripleFault,
        ExitKind::BadState,
        ExitKind::Unexpected,
        ExitKind::WaitForSipi,
        ExitKind::Cpuid,
        ExitKind::Msr,
        ExitKind::Exception,
        ExitKind::TaskSwitch,
        ExitKind::Hypercall,
    ];
    KINDS
        .get(run.exit as usize)
        .copied()
        .unwrap_or(ExitKind::Unexpected)
}

/// Looks at an exit, and handles it if no program is needed.
fn after(partition: &Partition, vp: &Vp, state: &mut State) -> Next {
    let kind = exit_kind(&state.run);
    let mut instruction = Instruction::default();
    let mut mapped = false;
    state.idle &= kind == ExitKind::Halted;
    match kind {
        ExitKind::Interrupted => {
            if state.run.reason == REASON_PAUSE {
                partition.give_turn_from(vp);
            }
            return Next::Again;
        }
        ExitKind::Halted => {
            let valid = state.run.wake_valid != 0;
            return Next::Sleep(valid.then_some(state.run.wake_tsc));
        }
        ExitKind::WaitForSipi => return Next::Sleep(None),
        ExitKind::Eoi => {
            if partition.acknowledge(state.run.vector) {
                return Next::Again;
            }
        }
        ExitKind::Port | ExitKind::Memory => {
            if kind == ExitKind::Memory {
                let (gpa, access) = (state.run.gpa, state.run.access);
                match partition.regions.lock().access(partition.id(), gpa, access) {
                    Access::Allowed => return Next::Again,
                    Access::Denied => mapped = true,
                    Access::Nothing => {}
                }
            }
            if message::wants_instruction(&state.run, kind) {
                instruction = guest::instruction(partition, &state.run);
            }
            if kind == ExitKind::Memory && !mapped && partition.ring_doorbell(state, &instruction) {
                return Next::Again;
            }
        }
        ExitKind::Cpuid => match partition.answer_cpuid(vp, state) {
            Ok(true) => return Next::Again,
            Ok(false) => {
                state.told = Some(state.run.rip);
                return Next::Tell;
            }
            Err(_) => hypercall::report(),
        },
        ExitKind::Msr => match partition.answer_msr(vp, state) {
            Ok(true) => return Next::Again,
            Ok(false) => {}
            Err(_) => hypercall::report(),
        },
        ExitKind::Hypercall => match partition.answer_hypercall(vp, state) {
            Ok(()) => return Next::Again,
            Err(_) => hypercall::report(),
        },
        ExitKind::Exception => instruction = guest::instruction(partition, &state.run),
        ExitKind::TripleFault | ExitKind::TaskSwitch => {}
        ExitKind::BadState | ExitKind::Unexpected => hypercall::report(),
    }
    if matches!(kind, ExitKind::Port | ExitKind::Memory | ExitKind::Msr) {
        state.told = Some(state.run.rip);
    }
    let State { run, message, .. } = state;
    message::translate(message, vp.index(), run, kind, &instruction, mapped);
    Next::Tell
}
