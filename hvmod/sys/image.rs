// SPDX-License-Identifier: GPL-2.0

//! hvcore's image as it lies in this module: see `image.S`.

use crate::hvabi::boot::ImageHeader;
use core::{mem::size_of, slice};

extern "C" {
    static hvmod_image: u8;
    static hvmod_image_end: u8;
}

/// The image.
pub(crate) fn bytes() -> &'static [u8] {
    let start = &raw const hvmod_image;
    let len = (&raw const hvmod_image_end) as usize - start as usize;
    // SAFETY: `image.S` puts both symbols around read-only data of the module.
    unsafe { slice::from_raw_parts(start, len) }
}

/// What the image begins with.
pub(crate) fn header() -> Option<ImageHeader> {
    let start = bytes().get(..size_of::<ImageHeader>())?.as_ptr();
    // SAFETY: There are that many bytes, and any bytes are an `ImageHeader`.
    Some(unsafe { start.cast::<ImageHeader>().read_unaligned() })
}
