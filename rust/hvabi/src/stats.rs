// SPDX-License-Identifier: GPL-2.0

//! Counters that hvcore keeps.

/// Number of basic exit reasons that are counted one by one (SDM vol. 3, appendix C).
/// Reasons from here up are counted in the last one.
pub const EXIT_REASONS: usize = 80;

/// Public page of an LP: hvcore writes, the root reads, nobody else writes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LpStats {
    /// 1 while the LP is in VMX operation, else 0.
    pub active: u64,
    /// APIC ID of the LP.
    pub apic_id: u64,
    /// VM exits of the root partition on this LP, by basic exit reason.
    pub root_exits: [u64; EXIT_REASONS],
    /// VM exits of children on this LP, by basic exit reason.
    pub child_exits: [u64; EXIT_REASONS],
    /// Switches from the root to a child.
    pub child_runs: u64,
    /// NMIs that arrived in a child or in hvcore and were handed to the root.
    pub nmis: u64,
    /// Hypercalls of the root on this LP.
    pub hypercalls: u64,
    /// Accesses of the root that were refused: writes to, and execution of, pages that are not its.
    pub denied: u64,
    /// RIP of the last denied access of the root.
    pub denied_rip: u64,
    /// Times that translations were flushed on this LP.
    pub flushes: u64,
    /// Reads of hidden pages by the root, which gave zeros. A page counts once until the root exits
    /// for another reason.
    pub hidden_reads: u64,
}

/// What [`StateKind::Stats`](crate::state::StateKind) gives of a VP.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct VpStats {
    /// VM exits, by basic exit reason.
    pub exits: [u64; EXIT_REASONS],
    /// Exits that hvcore handled itself.
    pub handled: u64,
    /// Exits that went to the root.
    pub to_root: u64,
    /// Interrupts injected.
    pub injected: u64,
}

const _: () = assert!(core::mem::size_of::<LpStats>() <= crate::PAGE_SIZE);
const _: () = assert!(core::mem::size_of::<VpStats>() <= crate::PAGE_SIZE);
