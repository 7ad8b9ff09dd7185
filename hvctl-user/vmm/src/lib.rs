// SPDX-License-Identifier: GPL-2.0
//! A small virtual machine around a partition: memory, devices, boot, and the loop
//! that runs its virtual processors.
//!
//! The hypervisor sits behind the traits of [`hypervisor`], so that everything above
//! them is tested with a scripted one on a machine that has none.

pub mod boot;
pub mod confine;
pub mod device;
pub mod emulate;
pub mod hypervisor;
pub mod layout;
pub mod machine;
pub mod memory;
pub mod outcome;
pub mod quota;
pub mod vm;
