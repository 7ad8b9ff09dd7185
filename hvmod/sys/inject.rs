// SPDX-License-Identifier: GPL-2.0

//! Failures on purpose, for the tests of what happens then. Only modules that are built with
//! `HVMOD_DEBUG=1` can be told to fail; in others every function here is a constant.

/// A step of loading that can be told to fail, by the parameter `inject_step`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Memory for hvcore.
    Block = 1,
    /// Memory for what LPs leave with.
    Frames = 2,
    /// Hearing of reboot and sleep.
    Notifiers = 3,
    /// Sending an LP to hvcore: the second that is asked for.
    SecondLp = 4,
    /// Hearing of CPUs that come online.
    Hotplug = 5,
    /// The calls of `linux/mshv.h`, after the launch.
    Service = 6,
}

#[cfg(hvmod_debug)]
extern "C" {
    static hvmod_inject_core: u64;
    static hvmod_inject_step: u32;
}

/// What hvcore is told.
pub(crate) fn core() -> u64 {
    #[cfg(hvmod_debug)]
    // SAFETY: Written before the module's code runs.
    return unsafe { hvmod_inject_core };
    #[cfg(not(hvmod_debug))]
    0
}

/// ENOMEM if `step` shall fail.
pub(crate) fn step(step: Step) -> kernel::error::Result {
    #[cfg(hvmod_debug)]
    // SAFETY: Written before the module's code runs.
    if unsafe { hvmod_inject_step } == step as u32 {
        return Err(kernel::error::code::ENOMEM);
    }
    let _ = step;
    Ok(())
}
