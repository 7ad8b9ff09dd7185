// SPDX-License-Identifier: GPL-2.0
//! Devices, and the two buses they are on.

pub mod bus;
pub mod exit_port;
pub mod ioapic;
pub mod power;
pub mod rtc;
pub mod serial;

pub use bus::{Bus, Device};
