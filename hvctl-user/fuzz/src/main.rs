// SPDX-License-Identifier: GPL-2.0

//! The instruction emulator, with libFuzzer's own arguments.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::emulate::fuzz::run(data));
