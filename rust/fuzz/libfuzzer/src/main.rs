// SPDX-License-Identifier: GPL-2.0

//! The target that the environment's FUZZ_TARGET names, with libFuzzer's own arguments.

#![no_main]

use std::sync::OnceLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

fn target() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        Target::named(&name).unwrap_or_else(|| {
            let names: Vec<_> = fuzz::TARGETS.iter().map(|target| target.name).collect();
            panic!(
                "FUZZ_TARGET is '{name}', and not one of {}",
                names.join(", ")
            )
        })
    })
}

fuzz_target!(|data: &[u8]| (target().run)(data));
