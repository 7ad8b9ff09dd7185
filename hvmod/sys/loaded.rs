// SPDX-License-Identifier: GPL-2.0

//! The hvcore that is beneath Linux now.

use crate::loader::Core;
use kernel::{prelude::*, sync::Arc};

kernel::sync::global_lock! {
    // SAFETY: `init` is called once, first of all when the module is loaded.
    unsafe(uninit) static CORE: Mutex<Option<Arc<Core>>> = None;
}

/// Makes the other functions work; called once when the module is loaded.
pub(crate) fn init() {
    // SAFETY: Called once.
    unsafe { CORE.init() }
}

/// It is `core` from now on.
pub(crate) fn put(core: Arc<Core>) {
    *CORE.lock() = Some(core);
}

/// Nothing is, from now on; what it was.
pub(crate) fn take() -> Option<Arc<Core>> {
    CORE.lock().take()
}

/// What it is.
pub(crate) fn get() -> Option<Arc<Core>> {
    CORE.lock().clone()
}
