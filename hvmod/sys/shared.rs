// SPDX-License-Identifier: GPL-2.0

//! Pages that hvcore reads and writes during a hypercall, seen as a structure.

use core::{
    marker::PhantomData,
    mem::{align_of, size_of},
    ops::{Deref, DerefMut},
    ptr::NonNull,
};
use kernel::prelude::*;

use crate::{
    hvabi::{state::Registers, stats::VpStats, vp::RunPage},
    sys::page::Page,
};

/// A structure for which every bit pattern is a value.
///
/// # Safety
///
/// `repr(C)`, of integers only, no larger than a page.
pub(crate) unsafe trait Plain {}

// SAFETY: As their definitions in `hvabi` have it.
unsafe impl Plain for RunPage {}
// SAFETY: As above.
unsafe impl Plain for Registers {}
// SAFETY: As above.
unsafe impl Plain for VpStats {}
// SAFETY: Of `Pod` fields, which are integers and arrays of such.
unsafe impl Plain for crate::tlfs::message::Message {}
// SAFETY: Bytes.
unsafe impl Plain for [u8; 4096] {}

/// A page of its own that holds a `T`.
///
/// hvcore touches it only inside a hypercall that names its address. Whoever makes that hypercall
/// has this exclusively, so no reference exists meanwhile.
pub(crate) struct Shared<T: Plain> {
    page: Page,
    _type: PhantomData<T>,
}

impl<T: Plain> Shared<T> {
    /// A cleared one.
    pub(crate) fn new() -> Result<Self> {
        const { assert!(size_of::<T>() <= 4096 && align_of::<T>() <= 4096) };
        Ok(Self {
            page: Page::new()?,
            _type: PhantomData,
        })
    }

    /// Physical address, for a hypercall.
    pub(crate) fn spa(&self) -> u64 {
        self.page.spa()
    }

    /// Address in the kernel, for a mapping.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.page.address()
    }
}

impl<T: Plain + Copy> Shared<T> {
    /// Writes `value`, where a program that has the page mapped may be reading and writing.
    pub(crate) fn publish(&self, value: &T) {
        // SAFETY: The page is large enough and aligned. What a program makes of it is its own
        // affair: nothing here reads it back.
        unsafe { self.page.address().cast::<T>().write_volatile(*value) };
    }
}

/// A page of its own that programs have mapped: anything can be there at any time, so it is read
/// and written word by word.
pub(crate) struct SharedWords(Page);

impl SharedWords {
    /// Words of a page.
    const COUNT: usize = 512;

    /// A cleared one.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Page::new()?))
    }

    /// Address in the kernel, for a mapping.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.0.address()
    }

    /// Reads a word.
    ///
    /// # Panics
    ///
    /// If there is no such word.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> u64 {
        assert!(index < Self::COUNT);
        // SAFETY: Inside the page; volatile, since programs write there.
        unsafe { self.0.address().cast::<u64>().add(index).read_volatile() }
    }

    /// Writes a word.
    ///
    /// # Panics
    ///
    /// If there is no such word.
    #[inline]
    pub(crate) fn set(&self, index: usize, value: u64) {
        assert!(index < Self::COUNT);
        // SAFETY: Inside the page; volatile, since programs read and write there.
        unsafe {
            self.0
                .address()
                .cast::<u64>()
                .add(index)
                .write_volatile(value)
        };
    }
}

impl<T: Plain> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: The page is large enough and aligned, every content is a `T`, and while this is
        // borrowed nobody writes to it.
        unsafe { self.page.address().cast().as_ref() }
    }
}

impl<T: Plain> DerefMut for Shared<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: As above, and this is borrowed exclusively.
        unsafe { self.page.address().cast().as_mut() }
    }
}
