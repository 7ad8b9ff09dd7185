// SPDX-License-Identifier: GPL-2.0

//! Arguments in the program's memory.

use crate::tlfs::pod::{self, Pod};
use kernel::{
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};

/// Reads a structure at `address`.
pub(super) fn read<T: Pod>(address: usize) -> Result<T> {
    let mut value = pod::zeroed::<T>();
    read_bytes(address, pod::bytes_of_mut(&mut value))?;
    Ok(value)
}

/// Writes a structure to `address`.
pub(super) fn write<T: Pod>(address: usize, value: &T) -> Result {
    write_bytes(address, pod::bytes_of(value))
}

/// Reads bytes at `address`.
pub(super) fn read_bytes(address: usize, bytes: &mut [u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .reader()
        .read_slice(bytes)
}

/// Writes bytes to `address`.
pub(super) fn write_bytes(address: usize, bytes: &[u8]) -> Result {
    UserSlice::new(UserPtr::from_addr(address), bytes.len())
        .writer()
        .write_slice(bytes)
}

/// A cleared buffer of `size` bytes.
pub(super) fn buffer(size: usize) -> Result<KVVec<u8>> {
    let mut buffer = KVVec::new();
    buffer.resize(size, 0, GFP_KERNEL)?;
    Ok(buffer)
}
