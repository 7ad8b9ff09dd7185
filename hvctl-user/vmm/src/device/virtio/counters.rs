// SPDX-License-Identifier: GPL-2.0
//! What happened on a device, in numbers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

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

impl QueueCounters {
    pub fn read(&self) -> Figures {
        Figures {
            doorbells: self.doorbells.get(),
            intercepted: self.intercepted.get(),
            chains: self.chains.get(),
            interrupts: self.interrupts.get(),
            suppressed: self.suppressed.get(),
        }
    }
}

/// What the counters of a queue said at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    pub doorbells: u64,
    pub intercepted: u64,
    pub chains: u64,
    pub interrupts: u64,
    pub suppressed: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} doorbells ({} by intercept), {} chains, {} interrupts, {} suppressed",
            self.doorbells, self.intercepted, self.chains, self.interrupts, self.suppressed
        )
    }
}

/// A device and its queues, for whoever wants to look while they work.
#[derive(Debug, Clone)]
pub struct Watched {
    pub name: String,
    pub queues: Vec<Arc<QueueCounters>>,
}
