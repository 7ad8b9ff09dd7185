// SPDX-License-Identifier: GPL-2.0

//! Something to do each second.

extern "C" {
    fn hvmod_ticker_start(function: extern "C" fn());
    fn hvmod_ticker_stop();
    fn hvmod_ticker_hurry();
}

/// Somebody who has something to do each second.
pub(crate) trait Tick {
    /// Does it. Process context.
    fn tick();
}

/// While this exists [`Tick::tick`] is called. There can be one.
pub(crate) struct Ticker(());

impl Ticker {
    /// Starts with `T`; there must be no other.
    pub(crate) fn start<T: Tick>() -> Self {
        extern "C" fn tick<T: Tick>() {
            T::tick()
        }
        // SAFETY: The function lives as long as the module, and `drop` ends the calls before.
        unsafe { hvmod_ticker_start(tick::<T>) };
        Self(())
    }
}

/// Has [`Tick::tick`] called soon, not when the second is over. In any context.
pub(crate) fn hurry() {
    // SAFETY: No precondition.
    unsafe { hvmod_ticker_hurry() };
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // SAFETY: Started in `start`.
        unsafe { hvmod_ticker_stop() };
    }
}
