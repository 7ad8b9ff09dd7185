// SPDX-License-Identifier: GPL-2.0

//! What misc devices lack in Rust.

use kernel::{
    ffi::{c_char, c_void},
    fs::File,
    miscdevice::{MiscDevice, MiscDeviceRegistration},
    prelude::*,
};

extern "C" {
    fn hvmod_misc_exists(registered: *mut c_void, name: *const c_char) -> bool;
    fn hvmod_file_keeps_module(file: *mut c_void) -> bool;
}

/// Whether a misc device called `name` exists, asked by way of one that is registered.
pub(crate) fn misc_exists<T: MiscDevice>(
    registered: &MiscDeviceRegistration<T>,
    name: &CStr,
) -> bool {
    // SAFETY: A registered device and a string.
    unsafe { hvmod_misc_exists(registered.as_raw().cast(), name.as_char_ptr()) }
}

/// Has the module stay loaded while `file` of a misc device, which is being opened, is open: ENODEV
/// if it is about to go.
pub(crate) fn keep_module(file: &File) -> Result {
    // SAFETY: A file that Linux is opening, of one of our misc devices.
    if unsafe { hvmod_file_keeps_module(file.as_ptr().cast()) } {
        Ok(())
    } else {
        Err(ENODEV)
    }
}
