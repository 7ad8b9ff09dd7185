// SPDX-License-Identifier: GPL-2.0

//! The one layer that goes around Rust's rules: what the kernel offers only to C, and what only an
//! instruction can do. Everything here is safe to call; the rest of the module has no `unsafe`.

pub(crate) mod anon_file;
pub(crate) mod block;
pub(crate) mod cpu;
pub(crate) mod debugfs;
pub(crate) mod deposit;
pub(crate) mod device;
pub(crate) mod eventfd;
pub(crate) mod gather;
pub(crate) mod image;
pub(crate) mod inject;
pub(crate) mod killable;
pub(crate) mod loaded;
pub(crate) mod machine;
pub(crate) mod notifier;
pub(crate) mod page;
pub(crate) mod partitions;
pub(crate) mod pin;
pub(crate) mod processor;
pub(crate) mod run;
pub(crate) mod shared;
pub(crate) mod ticker;
pub(crate) mod trampoline;
pub(crate) mod uapi;
pub(crate) mod user;
pub(crate) mod vmcall;
pub(crate) mod wait;
