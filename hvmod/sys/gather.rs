// SPDX-License-Identifier: GPL-2.0

//! LPs that leave a dead hvcore wait for each other: see `gather.c`.

use super::trampoline::{Enter, Outcome};
use kernel::{error::to_result, ffi::c_int, prelude::*};

extern "C" {
    fn hvmod_gather_start() -> c_int;
    fn hvmod_gather_stop();
    fn hvmod_gather_enter(cpu: u32);
    fn hvmod_gather_offline(cpu: u32);
    fn hvmod_gather_leave(cpu: u32, dead: bool);
    fn hvmod_gather_began() -> bool;
    fn hvmod_gather_go(enter: &Enter, outcome: &mut Outcome) -> bool;
}

/// While this exists LPs can call each other out of a dead hvcore. There can be one.
pub(crate) struct Gathering(());

impl Gathering {
    /// Begins; no LP may have entered, and there must be no other.
    pub(crate) fn start() -> Result<Self> {
        // SAFETY: The function that this registers lives as long as the module, and `drop` takes it
        // away before.
        to_result(unsafe { hvmod_gather_start() })?;
        Ok(Self(()))
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        // SAFETY: Registered in `start`.
        unsafe { hvmod_gather_stop() };
    }
}

/// This processor, which Linux calls `cpu`, is about to enter hvcore, or entered. Interrupts must
/// be off.
pub(crate) fn enter(cpu: u32) {
    // SAFETY: The number of a CPU.
    unsafe { hvmod_gather_enter(cpu) }
}

/// `cpu` is offline and waits for SIPI: it executes nothing, neither in Linux nor in hvcore.
pub(crate) fn offline(cpu: u32) {
    // SAFETY: The number of a CPU.
    unsafe { hvmod_gather_offline(cpu) }
}

/// This processor did not get into hvcore; if that is because hvcore is `dead`, waits for the others
/// to leave it. (For one that got in, the trampoline does this.) Interrupts must be off.
pub(crate) fn not_entered(cpu: u32, dead: bool) {
    // SAFETY: The number of a CPU.
    unsafe { hvmod_gather_leave(cpu, dead) }
}

/// Whether an LP left hvcore because that is dead.
pub(crate) fn began() -> bool {
    // SAFETY: Only reads.
    unsafe { hvmod_gather_began() }
}

impl Gathering {
    /// Has this processor go to hvcore, while NMIs are blocked; what hvcore says, or `None` if it
    /// was not asked, since this processor cannot send itself an NMI. Interrupts must be off, and no
    /// other processor may be here.
    ///
    /// `enter` must describe an hvcore image and address space as `rust/hvabi/src/boot.rs` has it,
    /// with the page of `trampoline.S` mapped. hvcore then runs with all rights, so that whoever
    /// wrote that image and those tables is as trusted as any code of the kernel: no check here
    /// could add to that.
    pub(crate) fn go(enter: &Enter) -> Option<Outcome> {
        let mut outcome = Outcome {
            status: 0,
            detail: 0,
        };
        // SAFETY: See above; both live until this returns, and so does the NMI.
        unsafe { hvmod_gather_go(enter, &mut outcome) }.then_some(outcome)
    }
}
