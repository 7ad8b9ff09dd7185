// SPDX-License-Identifier: GPL-2.0

//! What lies where in hvcore's block (`hvabi::boot`), and how large it must be.

use crate::{
    hvabi::{
        boot::{ImageHeader, STACK_SIZE, STACK_STRIDE},
        log::LOG_PAGES,
        LARGE_PAGES, PAGE_SIZE,
    },
    pagetables::tables_for,
};

const PAGE: u64 = PAGE_SIZE as u64;
const GIB: u64 = 1 << 30;
const LARGE: u64 = LARGE_PAGES as u64 * PAGE;

/// Pages of the pool beyond what launching takes: for splitting the root's EPT when pages leave it.
const SPARE: u64 = 256;

/// What the sizes depend on.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    /// Most LPs that may enter.
    pub(crate) lps: u32,
    /// First physical address above RAM.
    pub(crate) ram_end: u64,
    /// Whether page tables can map 1 GiB at once.
    pub(crate) huge_pages: bool,
    /// Whether EPT can.
    pub(crate) huge_ept: bool,
    /// Whether paging has 5 levels.
    pub(crate) five_levels: bool,
    /// Width of physical addresses.
    pub(crate) address_bits: u32,
}

/// Parts of the block: offsets in bytes, all multiples of the page size, and numbers of pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Stack of LP 0; the others follow without gaps.
    pub(crate) stacks: u64,
    pub(crate) tables: u64,
    pub(crate) table_pages: u64,
    /// `LpStats` of LP 0; the others follow.
    pub(crate) public: u64,
    pub(crate) public_pages: u64,
    /// The log ring, in the public pages.
    pub(crate) log: u64,
    pub(crate) pool: u64,
    pub(crate) pool_pages: u64,
    /// All.
    pub(crate) pages: u64,
}

impl Layout {
    /// Lays out a block with `pool_factor` times the pool that it should need.
    pub(crate) fn new(header: &ImageHeader, machine: &Machine, pool_factor: u64) -> Self {
        let lps = u64::from(machine.lps);
        let stacks = header.memory_end;
        let tables = stacks + lps * STACK_SIZE;
        let table_pages = table_pages(header, machine);
        let public = tables + table_pages * PAGE;
        let log = public + lps * PAGE;
        let public_pages = lps + LOG_PAGES as u64;
        let pool = public + public_pages * PAGE;
        // The first page of the pool is hvmod's, for `CoreInfo`.
        let pool_pages = 1 + pool_factor * pool_pages(machine, pool);
        Self {
            stacks,
            tables,
            table_pages,
            public,
            public_pages,
            log,
            pool,
            pool_pages,
            pages: pool / PAGE + pool_pages,
        }
    }
}

/// Most tables that hvcore's address space can need.
fn table_pages(header: &ImageHeader, machine: &Machine) -> u64 {
    let top = if machine.five_levels { 2 } else { 1 };
    let direct = tables_for(machine.ram_end, 3)
        + if machine.huge_pages {
            0
        } else {
            tables_for(machine.ram_end, 2)
        };
    // Each in a corner of its own: a table of level 3 and of level 2, then those of level 1.
    let image = 2 + tables_for(header.memory_end, 1);
    let stacks = 2 + tables_for(u64::from(machine.lps) * STACK_STRIDE, 1);
    let trampoline = 3;
    top + direct + image + stacks + trampoline
}

/// Pages that hvcore takes at launch.
///
/// `before` is the size of the block without the pool: hvcore's own pages are taken out of the
/// root's EPT one by one, for which large mappings are split.
fn pool_pages(machine: &Machine, before: u64) -> u64 {
    let per_lp = 24 * u64::from(machine.lps);
    // Owners of pages, 16 bytes for each 2 MiB.
    let owners = (machine.ram_end.div_ceil(LARGE) * 16).div_ceil(PAGE);
    // The root's EPT: identity, so tables of level 3 over all physical addresses and, where it
    // cannot map 1 GiB at once, tables of level 2 over RAM and devices below 4 GiB.
    let top = 1
        + (1u64 << machine.address_bits.min(52))
            .div_ceil(512 * GIB)
            .min(512);
    let second = if machine.huge_ept {
        // Split where memory types change.
        16
    } else {
        machine.ram_end.max(4 * GIB).div_ceil(GIB)
    };
    let split = before.div_ceil(LARGE) + 4;
    per_lp + owners + top + second + split + SPARE
}
