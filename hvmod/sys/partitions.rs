// SPDX-License-Identifier: GPL-2.0

//! The list of all partitions.

use crate::mshv::Entry;
use kernel::{bindings, prelude::*};

kernel::sync::global_lock! {
    // SAFETY: `init` is called once, before any partition is made.
    pub(crate) unsafe(uninit) static PARTITIONS: Mutex<KVec<Entry>> = KVec::new();
}

/// Makes [`PARTITIONS`] work; called once when the module is loaded.
pub(crate) fn init() {
    // SAFETY: Called once.
    unsafe { PARTITIONS.init() }
}

/// Name of the current thread, NUL-terminated.
pub(crate) fn current_comm() -> [u8; 16] {
    let task = kernel::current!().as_ptr();
    // SAFETY: The current task exists. Another thread may be changing the name, which is no harm
    // to bytes; the last is always NUL.
    let comm = unsafe { (&raw const (*task).comm).cast::<[u8; 16]>().read_volatile() };
    let mut comm = comm;
    comm[15] = 0;
    comm
}

/// Number of the process `task` as the current thread sees it, 0 if it does not.
pub(crate) fn visible_pid(task: &kernel::task::Task) -> i32 {
    // SAFETY: `task` is a task, and a null namespace stands for that of the current thread.
    unsafe {
        bindings::__task_pid_nr_ns(
            task.as_ptr(),
            bindings::pid_type_PIDTYPE_TGID,
            core::ptr::null_mut(),
        )
    }
}
