// SPDX-License-Identifier: GPL-2.0
//! hvmod's own calls on /dev/hvmod, beside the mshv calls: who is there, what they did,
//! and hvcore's log. The structures are those of `include/uapi/linux/hvmod.h`.

mod abi;
mod client;
mod exit_reason;
mod measure;
mod root;

pub use abi::{
    CALL_TYPE, CAP_CHILDREN, CAP_DISCARD, CAP_INFO, CAP_LOG, CAP_PRIVATE, CAP_VP_INFO, Caps,
    DISCARD_CALL, DISCARD_UNIT, DiscardMemory, EXIT_REASONS, Info, LogRecord, LpInfo, MAX_VPS,
    PRIVATE_EXECUTABLE, PRIVATE_WRITABLE, PartitionInfo, PrivateMemory, VpInfo, vp_state,
};
pub use client::{Client, Records, discard_memory, set_private_memory};
pub use exit_reason::name as exit_reason;
pub use hvabi::boot::measures;
pub use measure::names as measure_names;
pub use root::{Signature, lp_here, signature_here};
