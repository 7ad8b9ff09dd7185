// SPDX-License-Identifier: GPL-2.0

//! The thread of a VP: sleeping until woken, or until a time, an alarm, and giving way to it.

use core::ptr::NonNull;
use kernel::{error::to_result, ffi::c_int, prelude::*};

/// `struct hvmod_waiter`.
#[repr(C)]
struct RawWaiter {
    _private: [u8; 0],
}

extern "C" {
    fn hvmod_waiters_init();
    fn hvmod_waiters_exit();
    fn hvmod_waiter_new() -> *mut RawWaiter;
    fn hvmod_waiter_free(waiter: *mut RawWaiter);
    fn hvmod_waiter_attach(waiter: *mut RawWaiter);
    fn hvmod_waiter_leave(waiter: *mut RawWaiter, interrupted: bool);
    fn hvmod_waiter_was_signalled(waiter: *mut RawWaiter) -> bool;
    fn hvmod_waiter_thread(waiter: *mut RawWaiter) -> c_int;
    fn hvmod_waiter_yield_to(waiter: *mut RawWaiter) -> bool;
    fn hvmod_waiter_alarm(waiter: *mut RawWaiter, ns: u64);
    fn hvmod_waiter_rang(waiter: *mut RawWaiter) -> bool;
    fn hvmod_waiter_arm(waiter: *mut RawWaiter);
    fn hvmod_waiter_wake(waiter: *mut RawWaiter);
    fn hvmod_waiter_wait(waiter: *mut RawWaiter, ns: u64) -> c_int;
}

/// Once, before the first [`Waiter`].
pub(crate) fn init() {
    // SAFETY: Called once, when the module is loaded.
    unsafe { hvmod_waiters_init() };
}

/// Once, after the last [`Waiter`].
pub(crate) fn exit() {
    // SAFETY: Called once, when the module is unloaded.
    unsafe { hvmod_waiters_exit() };
}

/// A place where one thread sleeps and others wake it.
///
/// # Invariants
///
/// The pointer is a waiter that this owns.
pub(crate) struct Waiter(NonNull<RawWaiter>);

// SAFETY: Its functions may be called on any thread.
unsafe impl Send for Waiter {}
// SAFETY: As above, at the same time.
unsafe impl Sync for Waiter {}

impl Waiter {
    /// Makes one.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Process context; no other precondition.
        let waiter = unsafe { hvmod_waiter_new() };
        // INVARIANT: Just made.
        Ok(Self(NonNull::new(waiter).ok_or(ENOMEM)?))
    }

    /// Says that it is the current thread that sleeps here. Process context, interrupts on.
    #[inline]
    pub(crate) fn attach(&self) {
        // SAFETY: By the invariant.
        unsafe { hvmod_waiter_attach(self.0.as_ptr()) };
    }

    /// Says that the thread goes to user space: `interrupted` if it is told that it has a signal to
    /// handle. By the thread that [`attach`](Self::attach)ed.
    #[inline]
    pub(crate) fn leave(&self, interrupted: bool) {
        // SAFETY: By the invariant.
        unsafe { hvmod_waiter_leave(self.0.as_ptr(), interrupted) };
    }

    /// Whether the thread handled a signal since [`leave`](Self::leave) that it was not told of. By
    /// the thread that [`attach`](Self::attach)ed.
    #[inline]
    pub(crate) fn was_signalled(&self) -> bool {
        // SAFETY: By the invariant.
        unsafe { hvmod_waiter_was_signalled(self.0.as_ptr()) }
    }

    /// Number of the thread that [`attach`](Self::attach)ed as the current one sees it, 0 if it does
    /// not. Process context, interrupts on.
    pub(crate) fn thread(&self) -> i32 {
        // SAFETY: By the invariant.
        unsafe { hvmod_waiter_thread(self.0.as_ptr()) }
    }

    /// Gives what is left of this thread's turn to the one that [`attach`](Self::attach)ed. False
    /// if that does not wait for a processor. Process context, interrupts on.
    pub(crate) fn yield_to(&self) -> bool {
        // SAFETY: By the invariant.
        unsafe { hvmod_waiter_yield_to(self.0.as_ptr()) }
    }

    /// Has the thread wake up, or return from the VP that it runs, in `ns` nanoseconds, in place of
    /// an earlier alarm. Process context.
    pub(crate) fn alarm(&self, ns: u64) {
        // SAFETY: By the invariant.
        unsafe { hvmod_waiter_alarm(self.0.as_ptr(), ns) };
    }

    /// Whether the alarm rang since this was asked.
    pub(crate) fn rang(&self) -> bool {
        // SAFETY: By the invariant.
        unsafe { hvmod_waiter_rang(self.0.as_ptr()) }
    }

    /// Forgets earlier wake-ups. One that comes from now on is not lost.
    #[inline]
    pub(crate) fn arm(&self) {
        // SAFETY: By the invariant.
        unsafe { hvmod_waiter_arm(self.0.as_ptr()) };
    }

    /// Wakes the sleeper, or keeps it from falling asleep. In any context.
    pub(crate) fn wake(&self) {
        // SAFETY: By the invariant.
        unsafe { hvmod_waiter_wake(self.0.as_ptr()) };
    }

    /// Sleeps until a wake-up that came after [`arm`](Self::arm), or for `ns` nanoseconds. EINTR if
    /// a signal comes.
    pub(crate) fn wait(&self, ns: Option<u64>) -> Result {
        // SAFETY: By the invariant.
        to_result(unsafe { hvmod_waiter_wait(self.0.as_ptr(), ns.unwrap_or(u64::MAX)) })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // SAFETY: By the invariant; nobody sleeps on what is being dropped.
        unsafe { hvmod_waiter_free(self.0.as_ptr()) };
    }
}
