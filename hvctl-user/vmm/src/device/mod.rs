// SPDX-License-Identifier: GPL-2.0
//! Devices, and the two buses they are on.

pub mod bus;
pub mod bytes;
pub mod exit_port;
pub mod fw_cfg;
pub mod ioapic;
pub mod pci;
pub mod power;
pub mod rtc;
pub mod serial;
pub mod testing;
pub mod virtio;

pub use bus::{Bus, Device};
