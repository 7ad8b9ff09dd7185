// SPDX-License-Identifier: GPL-2.0

//! Word that the machine goes down or to sleep.

use kernel::{error::to_result, ffi::c_int, prelude::*};

extern "C" {
    fn hvmod_notifiers_register(
        going_down: extern "C" fn(),
        panicking: extern "C" fn(),
        may_sleep: extern "C" fn() -> bool,
    ) -> c_int;
    fn hvmod_notifiers_unregister();
}

/// Somebody who wants to know.
pub(crate) trait Events {
    /// Reboot, power-off or kexec: process context, all CPUs still run.
    fn going_down();
    /// Panic: interrupts off, the other CPUs are stopped.
    fn panicking();
    /// Whether the machine may suspend or hibernate.
    fn may_sleep() -> bool;
}

/// The registration of an [`Events`]. There can be one.
pub(crate) struct Notifiers(());

impl Notifiers {
    /// Registers `T`; there must be no other.
    pub(crate) fn register<T: Events>() -> Result<Self> {
        extern "C" fn going_down<T: Events>() {
            T::going_down()
        }
        extern "C" fn panicking<T: Events>() {
            T::panicking()
        }
        extern "C" fn may_sleep<T: Events>() -> bool {
            T::may_sleep()
        }
        // SAFETY: The functions live as long as the module, and `drop` takes them away before.
        to_result(unsafe {
            hvmod_notifiers_register(going_down::<T>, panicking::<T>, may_sleep::<T>)
        })?;
        Ok(Self(()))
    }
}

impl Drop for Notifiers {
    fn drop(&mut self) {
        // SAFETY: Registered in `register`.
        unsafe { hvmod_notifiers_unregister() };
    }
}
