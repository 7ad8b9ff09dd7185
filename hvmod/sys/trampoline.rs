// SPDX-License-Identifier: GPL-2.0

//! The page of code that Linux and hvcore share: see `trampoline.S`.

use crate::hvabi::PAGE_SIZE;
use kernel::ffi::c_void;

extern "C" {
    static hvmod_trampoline: [u8; PAGE_SIZE];
    static hvmod_leave: u8;
    fn hvmod_spa(address: *const c_void) -> u64;
}

/// What `hvmod_enter` takes. Offsets are known to `trampoline.S`.
#[repr(C)]
pub(crate) struct Enter {
    /// SPA of the `CoreInfo`.
    pub(crate) info_spa: u64,
    /// Index of the LP.
    pub(crate) lp: u64,
    /// hvcore's CR3.
    pub(crate) cr3: u64,
    /// Bits of CR4 that stay set.
    pub(crate) cr4_keep: u64,
    /// RSP to enter with.
    pub(crate) stack_top: u64,
    /// RIP to enter at.
    pub(crate) entry: u64,
}

/// What `hvmod_enter` gives.
#[repr(C)]
pub(crate) struct Outcome {
    /// A [`Status`](crate::hvabi::call::Status).
    pub(crate) status: u64,
    /// Of a status other than `Ok`.
    pub(crate) detail: u64,
}

/// Address of the page.
pub(crate) fn va() -> u64 {
    // Only its address is taken.
    (&raw const hvmod_trampoline) as u64
}

/// Physical address of the page.
pub(crate) fn spa() -> u64 {
    // SAFETY: An address of the module's text, which is mapped.
    unsafe { hvmod_spa((&raw const hvmod_trampoline).cast()) }
}

/// Where hvcore jumps when an LP leaves VMX operation.
pub(crate) fn leave_rip() -> u64 {
    // Only its address is taken.
    (&raw const hvmod_leave) as u64
}
