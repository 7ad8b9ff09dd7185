// SPDX-License-Identifier: GPL-2.0

//! The program's memory, in short pieces.

use crate::tlfs::pod::{self, Pod};
use core::mem::MaybeUninit;
use kernel::{
    ffi::{c_ulong, c_void},
    prelude::*,
};

extern "C" {
    fn hvmod_user_ok(address: u64, size: u64) -> bool;
    fn hvmod_user_read(to: *mut c_void, from: c_ulong, size: c_ulong) -> bool;
    fn hvmod_user_write(to: c_ulong, from: *const c_void, size: c_ulong) -> bool;
}

/// Bytes of which the first are in use.
///
/// # Invariants
///
/// The first `count` bytes are initialized.
pub(crate) struct Small<const N: usize> {
    bytes: MaybeUninit<[u64; N]>,
    count: usize,
}

impl<const N: usize> Small<N> {
    /// Most bytes that there is room for.
    pub(crate) const SIZE: usize = 8 * N;

    /// Reads `count` bytes at `address`: EINVAL if there is no room, EFAULT.
    #[inline]
    pub(crate) fn read(address: usize, count: usize) -> Result<Self> {
        if count > Self::SIZE {
            return Err(EINVAL);
        }
        let mut bytes = MaybeUninit::<[u64; N]>::uninit();
        // SAFETY: There is room for `count` bytes.
        let read = unsafe {
            hvmod_user_read(
                bytes.as_mut_ptr().cast(),
                address as c_ulong,
                count as c_ulong,
            )
        };
        if !read {
            return Err(EFAULT);
        }
        // INVARIANT: All of them were read.
        Ok(Self { bytes, count })
    }

    /// The bytes in use.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: By the invariant.
        unsafe { core::slice::from_raw_parts(self.bytes.as_ptr().cast(), self.count) }
    }
}

/// EFAULT where no program can have memory.
pub(crate) fn check(address: u64, size: u64) -> Result {
    // SAFETY: No precondition.
    if unsafe { hvmod_user_ok(address, size) } {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// Reads a structure at `address`.
#[inline]
pub(crate) fn read<T: Pod>(address: usize) -> Result<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: There is room for a `T`.
    let read = unsafe {
        hvmod_user_read(
            value.as_mut_ptr().cast(),
            address as c_ulong,
            size_of::<T>() as c_ulong,
        )
    };
    if !read {
        return Err(EFAULT);
    }
    // SAFETY: All its bytes were read, and every content is a `T`.
    Ok(unsafe { value.assume_init() })
}

/// Writes a structure to `address`.
#[inline]
pub(crate) fn write<T: Pod>(address: usize, value: &T) -> Result {
    write_bytes(address, pod::bytes_of(value))
}

/// Writes bytes to `address`.
#[inline]
pub(crate) fn write_bytes(address: usize, bytes: &[u8]) -> Result {
    // SAFETY: All of `bytes` can be read.
    let written = unsafe {
        hvmod_user_write(
            address as c_ulong,
            bytes.as_ptr().cast(),
            bytes.len() as c_ulong,
        )
    };
    if written {
        Ok(())
    } else {
        Err(EFAULT)
    }
}
