// SPDX-License-Identifier: GPL-2.0

//! Logical processors: hvcore counts them from 0 in the order of their launch, Linux its own way.

use crate::hvabi::MAX_LPS;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};

/// Linux's number of each LP.
static CPUS: [Atomic<u32>; MAX_LPS] = [const { Atomic::new(u32::MAX) }; MAX_LPS];

/// How many LPs have a number.
static COUNT: Atomic<u32> = Atomic::new(0);

/// Number of LPs that were launched at some time.
pub(crate) fn count() -> u32 {
    COUNT.load(Acquire)
}

/// Linux's number of an LP. In any context.
pub(crate) fn cpu_of(lp: u32) -> Option<u32> {
    if lp < count() {
        Some(CPUS.get(lp as usize)?.load(Relaxed))
    } else {
        None
    }
}

/// Number of the LP that Linux calls `cpu`, if it has one.
pub(crate) fn of_cpu(cpu: u32) -> Option<u32> {
    (0..count()).find(|&lp| cpu_of(lp) == Some(cpu))
}

/// Number of the LP that Linux calls `cpu`: the one it has, or a new one if there are less than
/// `limit`. Calls must not overlap: they come from module init and from CPU hotplug, which wait for
/// each other.
pub(crate) fn assign(cpu: u32, limit: u32) -> Option<u32> {
    if let Some(lp) = of_cpu(cpu) {
        return Some(lp);
    }
    let lp = COUNT.load(Relaxed);
    if lp >= limit {
        return None;
    }
    CPUS.get(lp as usize)?.store(cpu, Relaxed);
    COUNT.store(lp + 1, Release);
    Some(lp)
}
