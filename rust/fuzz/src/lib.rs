// SPDX-License-Identifier: GPL-2.0

//! What a fuzzer does with an input, for each of hvcore's pure parts, and for what is chosen for it
//! (`speculation`). `make fuzz` has libFuzzer make inputs, by the coverage that they reach;
//! `cargo test` runs those that are kept in `seeds/`.
//!
//! A target panics when hvcore does, and when hvcore does something else than a model of it, or
//! than the rules of the processor's manual, say.

mod apic;
mod apic_rules;
mod bytes;
mod cpuid;
mod cr;
mod ept;
mod event;
mod hypercall;
mod msr;
mod mtrr;
mod ownership;
mod speculation;
mod xsave;

/// A part of hvcore.
pub struct Target {
    pub name: &'static str,
    /// Takes an input. Panics on a finding.
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target {
        name: "apic",
        run: apic::run,
    },
    Target {
        name: "cpuid",
        run: cpuid::run,
    },
    Target {
        name: "cr",
        run: cr::run,
    },
    Target {
        name: "ept",
        run: ept::run,
    },
    Target {
        name: "event",
        run: event::run,
    },
    Target {
        name: "hypercall",
        run: hypercall::run,
    },
    Target {
        name: "msr",
        run: msr::run,
    },
    Target {
        name: "mtrr",
        run: mtrr::run,
    },
    Target {
        name: "ownership",
        run: ownership::run,
    },
    Target {
        name: "speculation",
        run: speculation::run,
    },
    Target {
        name: "xsave",
        run: xsave::run,
    },
];

impl Target {
    pub fn named(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|target| target.name == name)
    }
}
