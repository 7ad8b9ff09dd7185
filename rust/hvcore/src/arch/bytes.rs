// SPDX-License-Identifier: GPL-2.0

//! The functions on memory that compiled code may call at any time.
//!
//! String instructions: on every processor with VMX they are as fast as a loop, and they touch no
//! vector register.

#![cfg(hvcore_image)]

use core::arch::asm;

/// # Safety
///
/// As C's `memcpy`.
#[no_mangle]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both areas; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsq", "mov ecx, {:e}", "rep movsb", in(reg) count & 7,
            inout("rcx") count / 8 => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
///
/// As C's `memmove`.
#[no_mangle]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: copying upwards does not write what it still has to read.
        return unsafe { memcpy(to, from, count) };
    }
    // SAFETY: the caller vouches for both areas; the areas overlap, `count` is at least 1, and
    // copying downwards does not write what it still has to read. The flag is cleared again.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") count => _,
            inout("rdi") to.wrapping_add(count - 1) => _,
            inout("rsi") from.wrapping_add(count - 1) => _, options(nostack));
    }
    to
}

/// # Safety
///
/// As C's `memset`.
#[no_mangle]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    let word = u64::from(value as u8) * 0x0101_0101_0101_0101;
    // SAFETY: the caller vouches for the area; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosq", "mov ecx, {:e}", "rep stosb", in(reg) count & 7,
            inout("rcx") count / 8 => _, inout("rdi") to => _, in("rax") word,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
///
/// As C's `memcmp`.
#[no_mangle]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    for i in 0..count {
        // SAFETY: the caller vouches for `count` bytes of the first area.
        let x = unsafe { a.add(i).read() };
        // SAFETY: and of the second.
        let y = unsafe { b.add(i).read() };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// # Safety
///
/// As BSD's `bcmp`.
#[no_mangle]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, count: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, count) }
}
