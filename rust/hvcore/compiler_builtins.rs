// SPDX-License-Identifier: GPL-2.0

//! Stands where rustc expects the crate compiler_builtins. hvcore needs none of its arithmetic:
//! what is missing shows when the image is linked. `memcpy` and its kin are in `arch/bytes.rs`.

#![allow(internal_features)]
#![feature(compiler_builtins)]
#![compiler_builtins]
#![no_std]
