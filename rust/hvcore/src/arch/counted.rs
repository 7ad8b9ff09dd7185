// SPDX-License-Identifier: GPL-2.0

//! A value in a frame of its own that several LPs may hold at once.

use crate::mem::frame::Frame;
use core::marker::PhantomData;
use core::ops::Deref;
use core::sync::atomic::{AtomicUsize, Ordering};

struct Inner<T> {
    count: AtomicUsize,
    frame: Frame,
    value: T,
}

/// A counted reference to a `T` in a frame. The frame comes back when the last holder asks for it.
pub struct Counted<T> {
    inner: *mut Inner<T>,
    owns: PhantomData<Inner<T>>,
}

// SAFETY: like `Arc`: the value is shared between LPs and may be dropped on any.
unsafe impl<T: Send + Sync> Send for Counted<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Counted<T> {}

impl<T> Counted<T> {
    /// Moves `value` into `frame`.
    pub fn new(mut frame: Frame, value: T) -> Self {
        const { assert!(core::mem::size_of::<Inner<T>>() <= hvabi::PAGE_SIZE) };
        const { assert!(core::mem::align_of::<Inner<T>>() <= hvabi::PAGE_SIZE) };
        let inner: *mut Inner<T> = frame.words_mut().as_mut_ptr().cast();
        let count = AtomicUsize::new(1);
        // SAFETY: the frame is a whole page that belongs to nobody else; from here on it belongs
        // to the value in it.
        unsafe { inner.write(Inner { count, frame, value }) };
        Self { inner, owns: PhantomData }
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: the count is at least 1 while `self` exists, so the value is there.
        unsafe { &*self.inner }
    }

    /// Another holder.
    pub fn hold(&self) -> Self {
        self.inner().count.fetch_add(1, Ordering::Relaxed);
        Self { inner: self.inner, owns: PhantomData }
    }

    /// True if nobody else holds the value. New holders come only from this one.
    pub fn is_only_holder(&self) -> bool {
        self.inner().count.load(Ordering::Acquire) == 1
    }

    /// Takes the value out, and the frame that it was in, if nobody else holds it.
    pub fn take(self) -> Result<(T, Frame), Self> {
        if !self.is_only_holder() {
            return Err(self);
        }
        // SAFETY: this is the only holder, and it is consumed.
        let inner = unsafe { self.inner.read() };
        core::mem::forget(self);
        Ok((inner.value, inner.frame))
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        // The owner never drops its own: it takes the value. So the count never gets to zero.
        self.inner().count.fetch_sub(1, Ordering::Release);
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().value
    }
}
