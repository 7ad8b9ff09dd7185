// SPDX-License-Identifier: GPL-2.0

//! What surrounds the run of a VP.

use kernel::{error::to_result, ffi::c_int, prelude::*, types::NotThreadSafe};

extern "C" {
    fn hvmod_work_pending() -> bool;
    fn hvmod_handle_work() -> c_int;
    fn hvmod_userspace_exit();
    fn hvmod_run_begin();
    fn hvmod_run_end();
    fn hvmod_kick_cpu(cpu: u32);
    fn hvmod_tsc() -> u64;
}

/// While this lives, interrupts are off and the FPU is the VP's.
pub(crate) struct RunGuard(NotThreadSafe);

impl RunGuard {
    /// Process context, interrupts on.
    #[inline]
    pub(crate) fn new() -> Self {
        // SAFETY: Undone in `drop`, on the same CPU.
        unsafe { hvmod_run_begin() };
        Self(NotThreadSafe)
    }

    /// True if Linux wants this thread for something; none may be pending when a VP is entered.
    #[inline]
    pub(crate) fn work_pending(&self) -> bool {
        // SAFETY: In any context.
        unsafe { hvmod_work_pending() }
    }
}

impl Drop for RunGuard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Pairs with `new`.
        unsafe { hvmod_run_end() };
    }
}

/// Does what Linux wants of this thread: gives way to others, for one. EINTR if it has to go to
/// user space for that.
#[inline]
pub(crate) fn handle_work() -> Result {
    // SAFETY: Process context.
    if unsafe { hvmod_work_pending() } {
        // SAFETY: Process context, interrupts on.
        to_result(unsafe { hvmod_handle_work() })?;
    }
    Ok(())
}

/// Before a thread that ran VPs goes to user space.
#[inline]
pub(crate) fn leave() {
    // SAFETY: Process context.
    unsafe { hvmod_userspace_exit() };
}

/// Makes `cpu` take an interrupt soon, if it is online. In any context.
pub(crate) fn kick(cpu: u32) {
    // SAFETY: Any number may be named.
    unsafe { hvmod_kick_cpu(cpu) };
}

/// The time-stamp counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: In any context.
    unsafe { hvmod_tsc() }
}
