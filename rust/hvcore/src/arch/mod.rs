// SPDX-License-Identifier: GPL-2.0

//! What touches the processor. Together with the page-table layer ([`crate::mem::frame`]) the only
//! place for `unsafe` in hvcore.

pub mod bytes;
pub mod caps;
pub mod counted;
pub mod enter;
pub mod fault;
#[cfg(not(hvcore_image))]
pub mod host;
pub mod image;
#[cfg(hvcore_inject)]
pub mod inject;
#[cfg(hvcore_image)]
pub mod insn;
pub mod lock;
pub mod lp;
pub mod msr;
pub mod predictors;
pub mod public;
pub mod root_memory;
pub mod tables;
pub mod vmcs;
pub mod xsave;

#[cfg(not(hvcore_image))]
pub use host::insn;
