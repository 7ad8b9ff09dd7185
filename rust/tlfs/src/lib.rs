// SPDX-License-Identifier: GPL-2.0

//! Hyper-V's words, and what they mean to hvcore.
//!
//! The ABI of `/dev/mshv` is made of structures of Microsoft's hypervisor: register names and
//! values, intercept messages, hypercall inputs, as the kernel publishes them in
//! `include/hyperv/*.h` and `include/uapi/linux/mshv.h`. This crate writes them down and
//! translates between them and the state that hvcore keeps (`hvabi`). It is pure: no allocation,
//! no hardware, no kernel; hvmod compiles it in, cargo tests it on the host.
//!
//! What comes from a program is bytes until one of the `parse` functions here has looked at it.

#![cfg_attr(not(MODULE), no_std)]

#[cfg(MODULE)]
use crate::hvabi;
#[cfg(not(MODULE))]
extern crate hvabi;

pub mod cpuid;
pub mod errno;
pub mod fpu;
pub mod hvcall;
pub mod intercept;
pub mod interface;
pub mod lapic;
pub mod message;
pub mod mshv;
pub mod pod;
pub mod processor;
pub mod property;
pub mod register;
pub mod register_page;
pub mod segment;
pub mod state;
pub mod status;
pub mod store;
pub mod synic;
pub mod walk;
pub mod xsave;

/// Size of a page of the hypervisor, in bytes.
pub const PAGE_SIZE: usize = hvabi::PAGE_SIZE;
