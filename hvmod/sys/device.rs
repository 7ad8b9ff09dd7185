// SPDX-License-Identifier: GPL-2.0

//! What misc devices lack in Rust.

use kernel::{
    ffi::{c_char, c_void},
    miscdevice::{MiscDevice, MiscDeviceRegistration},
    prelude::*,
};

extern "C" {
    fn hvmod_misc_exists(registered: *mut c_void, name: *const c_char) -> bool;
}

/// Whether a misc device called `name` exists, asked by way of one that is registered.
pub(crate) fn misc_exists<T: MiscDevice>(
    registered: &MiscDeviceRegistration<T>,
    name: &CStr,
) -> bool {
    // SAFETY: A registered device and a string.
    unsafe { hvmod_misc_exists(registered.as_raw().cast(), name.as_char_ptr()) }
}
