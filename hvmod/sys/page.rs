// SPDX-License-Identifier: GPL-2.0

//! Single pages that hvcore and hvmod share.

use crate::hvabi::call::LIST_ITEMS;
use core::ptr::NonNull;
use kernel::{ffi::c_void, prelude::*};

extern "C" {
    fn hvmod_page_alloc() -> *mut c_void;
    fn hvmod_page_free(page: *mut c_void);
    fn hvmod_spa(address: *const c_void) -> u64;
}

/// A page of the kernel, cleared when allocated, charged to the caller's cgroup.
///
/// # Invariants
///
/// The pointer is a page from `hvmod_page_alloc`, which this owns.
pub(crate) struct Page(NonNull<[u64; LIST_ITEMS]>);

// SAFETY: A page belongs to no thread.
unsafe impl Send for Page {}
// SAFETY: Shared access only gives copies.
unsafe impl Sync for Page {}

impl Page {
    /// Allocates one.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Process context; no other precondition.
        let page = unsafe { hvmod_page_alloc() };
        // INVARIANT: As given by `hvmod_page_alloc`.
        Ok(Self(NonNull::new(page.cast()).ok_or(ENOMEM)?))
    }

    /// Its physical address.
    pub(crate) fn spa(&self) -> u64 {
        // SAFETY: An address of the kernel's linear mapping.
        unsafe { hvmod_spa(self.0.as_ptr().cast()) }
    }

    /// Its address in the kernel.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.0.cast()
    }

    /// Item `index` of the page as a list.
    pub(crate) fn item(&self, index: usize) -> Option<u64> {
        if index >= LIST_ITEMS {
            return None;
        }
        // SAFETY: Inside the page; volatile, since hvcore writes it during hypercalls.
        Some(unsafe { self.0.as_ptr().cast::<u64>().add(index).read_volatile() })
    }

    /// Sets item `index` of the page as a list.
    ///
    /// # Panics
    ///
    /// If there is no such item.
    pub(crate) fn set_item(&mut self, index: usize, value: u64) {
        assert!(index < LIST_ITEMS);
        // SAFETY: Inside the page; volatile, since hvcore reads it during hypercalls.
        unsafe {
            self.0
                .as_ptr()
                .cast::<u64>()
                .add(index)
                .write_volatile(value)
        };
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: By the invariant.
        unsafe { hvmod_page_free(self.0.as_ptr().cast()) };
    }
}
