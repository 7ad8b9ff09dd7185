// SPDX-License-Identifier: GPL-2.0

//! A mutex for which a thread can be killed while it waits.

use core::{
    cell::UnsafeCell,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};
use kernel::{error::to_result, ffi::c_int, prelude::*, types::NotThreadSafe};

/// `struct hvmod_mutex`.
#[repr(C)]
struct RawMutex {
    _private: [u8; 0],
}

extern "C" {
    fn hvmod_mutex_new() -> *mut RawMutex;
    fn hvmod_mutex_free(mutex: *mut RawMutex);
    fn hvmod_mutex_lock(mutex: *mut RawMutex) -> c_int;
    fn hvmod_mutex_unlock(mutex: *mut RawMutex);
}

/// A `T` that one thread at a time uses.
///
/// # Invariants
///
/// `raw` is a mutex that this owns.
pub(crate) struct Killable<T> {
    raw: NonNull<RawMutex>,
    data: UnsafeCell<T>,
}

// SAFETY: It goes with its data.
unsafe impl<T: Send> Send for Killable<T> {}
// SAFETY: The mutex lets one thread at a time to the data.
unsafe impl<T: Send> Sync for Killable<T> {}

impl<T> Killable<T> {
    /// Makes one, unlocked.
    pub(crate) fn new(data: T) -> Result<Self> {
        // SAFETY: Process context; no other precondition.
        let raw = unsafe { hvmod_mutex_new() };
        // INVARIANT: Just made.
        Ok(Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            data: UnsafeCell::new(data),
        })
    }

    /// Waits for the mutex. EINTR if the thread is killed meanwhile.
    #[inline]
    pub(crate) fn lock(&self) -> Result<KillableGuard<'_, T>> {
        // SAFETY: By the invariant.
        to_result(unsafe { hvmod_mutex_lock(self.raw.as_ptr()) })?;
        // INVARIANT: Just locked.
        Ok(KillableGuard {
            mutex: self,
            _not_send: NotThreadSafe,
        })
    }
}

impl<T> Drop for Killable<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant; no guard exists, since it would borrow this.
        unsafe { hvmod_mutex_free(self.raw.as_ptr()) };
    }
}

/// Access to the data of a [`Killable`].
///
/// # Invariants
///
/// This thread has the mutex.
pub(crate) struct KillableGuard<'a, T> {
    mutex: &'a Killable<T>,
    _not_send: NotThreadSafe,
}

impl<T> Deref for KillableGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the invariant nobody else uses the data.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T> DerefMut for KillableGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: As above, and this is borrowed exclusively.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T> Drop for KillableGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { hvmod_mutex_unlock(self.mutex.raw.as_ptr()) };
    }
}
