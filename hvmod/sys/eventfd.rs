// SPDX-License-Identifier: GPL-2.0

//! Event descriptors: signalling one, and being called when somebody does.

use core::{mem::ManuallyDrop, ptr::NonNull};
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    ffi::{c_int, c_void},
    prelude::*,
    sync::{Arc, ArcBorrow},
};

/// `struct hvmod_watch`.
#[repr(C)]
struct RawWatch {
    _private: [u8; 0],
}

type Callback = extern "C" fn(*mut c_void);

extern "C" {
    fn hvmod_watch_init() -> c_int;
    fn hvmod_watch_exit();
    fn hvmod_watch_flush();
    fn hvmod_watch_new(
        fd: c_int,
        event: Callback,
        hangup: Callback,
        data: *mut c_void,
    ) -> *mut RawWatch;
    fn hvmod_watch_start(watch: *mut RawWatch) -> bool;
    fn hvmod_watch_id(watch: *const RawWatch) -> *const c_void;
    fn hvmod_watch_free(watch: *mut RawWatch, in_hangup: bool);
    fn hvmod_eventfd_get(fd: c_int) -> *mut bindings::eventfd_ctx;
    fn hvmod_eventfd_put(ctx: *mut bindings::eventfd_ctx);
    fn hvmod_eventfd_signal(ctx: *mut bindings::eventfd_ctx);
}

/// Once, before the first [`Watch`].
pub(crate) fn init() -> Result {
    // SAFETY: Called once, when the module is loaded.
    to_result(unsafe { hvmod_watch_init() })
}

/// Once, after the last [`Watch`].
pub(crate) fn exit() {
    // SAFETY: Called once, when the module is unloaded.
    unsafe { hvmod_watch_exit() };
}

/// Waits until no [`Watcher::hangup`] is pending or running. Not from inside one.
pub(crate) fn flush() {
    // SAFETY: Process context; the queue exists between `init` and `exit`.
    unsafe { hvmod_watch_flush() };
}

/// An eventfd to signal.
///
/// # Invariants
///
/// The pointer is a context that this has a reference to.
pub(crate) struct EventFd(NonNull<bindings::eventfd_ctx>);

// SAFETY: Contexts are reference-counted and locked by themselves.
unsafe impl Send for EventFd {}
// SAFETY: As above.
unsafe impl Sync for EventFd {}

impl EventFd {
    /// The one that `fd` stands for in this program: EBADF, EINVAL if there is none.
    pub(crate) fn get(fd: i32) -> Result<Self> {
        // SAFETY: Any number may be asked for.
        let ctx = from_err_ptr(unsafe { hvmod_eventfd_get(fd) })?;
        // INVARIANT: With a reference.
        Ok(Self(NonNull::new(ctx).ok_or(EBADF)?))
    }

    /// Adds 1 to its count. In any context.
    pub(crate) fn signal(&self) {
        // SAFETY: By the invariant.
        unsafe { hvmod_eventfd_signal(self.0.as_ptr()) };
    }

    /// Equal for one and the same eventfd.
    pub(crate) fn id(&self) -> EventId {
        EventId(self.0.as_ptr() as usize)
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { hvmod_eventfd_put(self.0.as_ptr()) };
    }
}

/// Identity of an eventfd, for as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId(usize);

/// Somebody who wants to be called.
pub(crate) trait Watcher: Send + Sync + 'static {
    /// The eventfd was signalled (and its count taken). Interrupts are off; must not sleep.
    fn event(&self);

    /// The last descriptor of the eventfd was closed. May sleep. May drop its own [`Watch`], by
    /// [`Watch::free_in_hangup`].
    fn hangup(&self);
}

/// While this lives, a [`Watcher`] is called.
///
/// # Invariants
///
/// `raw` is a watch that this owns, for `watcher`.
pub(crate) struct Watch<T: Watcher> {
    raw: NonNull<RawWatch>,
    watcher: Arc<T>,
}

// SAFETY: Its functions may be called on any thread.
unsafe impl<T: Watcher> Send for Watch<T> {}
// SAFETY: `start` and `stop` are for one thread at a time, which `&mut` says.
unsafe impl<T: Watcher> Sync for Watch<T> {}

extern "C" fn event<T: Watcher>(data: *mut c_void) {
    // SAFETY: The watch has a reference to the watcher, and is not freed while this runs.
    unsafe { &*data.cast::<T>() }.event();
}

extern "C" fn hangup<T: Watcher>(data: *mut c_void) {
    // SAFETY: The pointer is that of an `Arc<T>` of the watch, which is live when this begins.
    let watcher: Arc<T> = unsafe { ArcBorrow::from_raw(data.cast::<T>()) }.into();
    // If this frees the watch, `watcher` keeps what it is called on.
    watcher.hangup();
}

impl<T: Watcher> Watch<T> {
    /// Prepares to watch `fd` for `watcher`; nothing is called before [`start`](Self::start).
    pub(crate) fn new(fd: i32, watcher: Arc<T>) -> Result<Self> {
        // SAFETY: The functions fit the pointer, which is live while the watch is.
        let raw = from_err_ptr(unsafe {
            hvmod_watch_new(
                fd,
                event::<T>,
                hangup::<T>,
                Arc::as_ptr(&watcher).cast_mut().cast(),
            )
        })?;
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // INVARIANT: Just made.
        Ok(Self { raw, watcher })
    }

    /// Whom this calls.
    pub(crate) fn watcher(&self) -> &Arc<T> {
        &self.watcher
    }

    /// Begins. Once. True if the eventfd is signalled already, of which nobody is told otherwise.
    pub(crate) fn start(&mut self) -> bool {
        // SAFETY: By the invariant.
        unsafe { hvmod_watch_start(self.raw.as_ptr()) }
    }

    /// Which eventfd this watches.
    pub(crate) fn id(&self) -> EventId {
        // SAFETY: By the invariant.
        EventId(unsafe { hvmod_watch_id(self.raw.as_ptr()) } as usize)
    }

    /// Drops this, from inside its own [`Watcher::hangup`].
    pub(crate) fn free_in_hangup(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: By the invariant; given away.
        unsafe { hvmod_watch_free(this.raw.as_ptr(), true) };
        // SAFETY: `this` is not used or dropped any more.
        drop(unsafe { core::ptr::read(&this.watcher) });
    }
}

impl<T: Watcher> Drop for Watch<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariant. When this returns, the watcher is not called any more.
        unsafe { hvmod_watch_free(self.raw.as_ptr(), false) };
    }
}
