// SPDX-License-Identifier: GPL-2.0
//! Registers as bytes: an access may begin anywhere in one, and end behind it.

use std::os::fd::{AsRawFd, BorrowedFd};

use vmm_sys_util::eventfd::EventFd;

/// Reads from `offset` on; what is behind the end is left as it is.
pub fn read(register: &[u8], offset: u64, data: &mut [u8]) {
    let from = usize::try_from(offset)
        .ok()
        .and_then(|at| register.get(at..));
    for (byte, from) in data.iter_mut().zip(from.unwrap_or_default()) {
        *byte = *from;
    }
}

/// Writes from `offset` on; what is behind the end is dropped.
pub fn write(register: &mut [u8], offset: u64, data: &[u8]) {
    let to = usize::try_from(offset)
        .ok()
        .and_then(|at| register.get_mut(at..));
    for (to, byte) in to.unwrap_or_default().iter_mut().zip(data) {
        *to = *byte;
    }
}

/// The number that up to four bytes are.
pub fn u32(data: &[u8]) -> u32 {
    u64(data) as u32
}

/// The number that up to eight bytes are.
pub fn u64(data: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let size = data.len().min(8);
    bytes[..size].copy_from_slice(&data[..size]);
    u64::from_le_bytes(bytes)
}

pub fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as the `EventFd` is borrowed.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}
