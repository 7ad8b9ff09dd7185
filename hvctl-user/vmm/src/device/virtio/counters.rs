// SPDX-License-Identifier: GPL-2.0
//! What happened on a device, in numbers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Of one queue, over all its activations.
#[derive(Debug, Default)]
pub struct QueueCounters {
    /// Doorbells that woke a thread of ours.
    pub doorbells: Counter,
    /// Of these, writes that a processor's thread had to pass on.
    pub intercepted: Counter,
    /// Chains of buffers taken.
    pub chains: Counter,
    pub interrupts: Counter,
    /// Times that buffers were returned and the driver wanted no interrupt.
    pub suppressed: Counter,
}

impl fmt::Display for QueueCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} doorbells ({} by intercept), {} chains, {} interrupts, {} suppressed",
            self.doorbells.get(),
            self.intercepted.get(),
            self.chains.get(),
            self.interrupts.get(),
            self.suppressed.get()
        )
    }
}
