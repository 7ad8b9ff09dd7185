// SPDX-License-Identifier: GPL-2.0

//! The one layer that goes around Rust's rules: what the kernel offers only to C, and what only an
//! instruction can do. Everything here is safe to call; the rest of the module has no `unsafe`.

pub(crate) mod block;
pub(crate) mod cpu;
pub(crate) mod device;
pub(crate) mod image;
pub(crate) mod loaded;
pub(crate) mod machine;
pub(crate) mod notifier;
pub(crate) mod page;
pub(crate) mod processor;
pub(crate) mod trampoline;
pub(crate) mod uapi;
pub(crate) mod vmcall;

#[cfg(hvmod_mshv)]
pub(crate) mod anon_file;
#[cfg(hvmod_mshv)]
pub(crate) mod eventfd;
#[cfg(hvmod_mshv)]
pub(crate) mod partitions;
#[cfg(hvmod_mshv)]
pub(crate) mod pin;
#[cfg(hvmod_mshv)]
pub(crate) mod run;
#[cfg(hvmod_mshv)]
pub(crate) mod shared;
#[cfg(hvmod_mshv)]
pub(crate) mod wait;
