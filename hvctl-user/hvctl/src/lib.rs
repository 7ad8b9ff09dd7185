// SPDX-License-Identifier: GPL-2.0
//! The tool's parts, apart from its `main` so that tests reach them.

pub mod args;
pub mod balloon;
pub mod check;
pub mod control;
pub mod devices;
pub mod holders;
pub mod info;
pub mod log;
pub mod run;
pub mod status;
pub mod stop;
