// SPDX-License-Identifier: GPL-2.0

//! A spin lock, and a cell that is filled once.

use crate::death;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// A value that one LP at a time may use.
///
/// hvcore runs with interrupts off and its NMI handler takes no lock, so an LP never spins for
/// itself; each section is bounded, so no other LP waits for long. If hvcore dies, the one that
/// has the lock may never give it back: those that wait leave hvcore too.
pub struct SpinLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one LP at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The value, when nobody can use the lock any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// Waits until the value is free.
    pub fn lock(&self) -> Guard<'_, T> {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            while self.taken.load(Ordering::Relaxed) {
                if death::is_dead() {
                    death::follow();
                }
                core::hint::spin_loop();
            }
        }
    }

    /// Takes the value if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        if self.taken.swap(true, Ordering::Acquire) {
            None
        } else {
            Some(Guard { lock: self })
        }
    }
}

/// Having one means to be the only user of the value.
pub struct Guard<'a, T> {
    lock: &'a SpinLock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard exists, so this LP holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard exists and is borrowed for writing.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.taken.store(false, Ordering::Release);
    }
}

/// A value that is written once, by the first LP, before any other reads it.
pub struct Once<T> {
    ready: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: after `ready` the value is only read; before, only the one that sets it touches it.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self { ready: AtomicBool::new(false), value: UnsafeCell::new(None) }
    }

    /// Fills the cell. LPs enter one after the other, so nobody else is here.
    pub fn set(&self, value: T) {
        if !self.ready.load(Ordering::Acquire) {
            // SAFETY: not ready: no reference to the value exists, and the root lets one LP
            // enter at a time.
            unsafe { *self.value.get() = Some(value) };
            self.ready.store(true, Ordering::Release);
        }
    }

    #[inline(always)]
    pub fn get(&self) -> Option<&T> {
        if self.ready.load(Ordering::Acquire) {
            // SAFETY: ready: the value is never written again.
            unsafe { (*self.value.get()).as_ref() }
        } else {
            None
        }
    }
}
