// SPDX-License-Identifier: GPL-2.0

//! Arguments in the program's memory.

pub(super) use crate::sys::user::{check, read, write, write_bytes, Small};
use kernel::{
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};

/// An error of [`tlfs::errno`](crate::tlfs::errno), of which some have no name in every kernel.
pub(super) fn error(errno: i32) -> Error {
    Error::from_errno(-errno)
}

/// Reads bytes at `address`.
pub(super) fn read_bytes(address: usize, bytes: &mut [u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .reader()
        .read_slice(bytes)
}

/// A cleared buffer of `size` bytes.
pub(super) fn buffer(size: usize) -> Result<KVVec<u8>> {
    // Linux has no larger ones, and complains to its log when asked.
    if size > i32::MAX as usize {
        return Err(ENOMEM);
    }
    let mut buffer = KVVec::new();
    buffer.resize(size, 0, GFP_KERNEL)?;
    Ok(buffer)
}
