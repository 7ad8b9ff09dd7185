// SPDX-License-Identifier: GPL-2.0

//! hvcore's page tables, as `hvabi::boot` describes them.
//!
//! Nothing here knows Linux: tables live in whatever implements [`TableMemory`].

/// Where tables live.
pub(crate) trait TableMemory {
    /// What can go wrong.
    type Error;
    /// Takes a cleared page for a table; its physical address.
    fn new_table(&mut self) -> Result<u64, Self::Error>;
    /// An entry of a table.
    fn entry(&self, table: u64, index: usize) -> Result<u64, Self::Error>;
    /// Writes an entry of a table.
    fn set_entry(&mut self, table: u64, index: usize, entry: u64) -> Result<(), Self::Error>;
}

/// What may be done with a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
    /// Reading and executing.
    Execute,
}

/// Size of what one entry maps. The number is the level of the table that has the entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageSize {
    /// 4 KiB.
    Small = 1,
    /// 2 MiB.
    Large = 2,
    /// 1 GiB.
    Huge = 3,
}

impl PageSize {
    /// The size in bytes.
    pub(crate) const fn bytes(self) -> u64 {
        1 << (3 + 9 * self as u32)
    }
}

// SDM vol. 3, 5.5.4.
const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LEAF: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Page tables under construction.
pub(crate) struct AddressSpace<M> {
    memory: M,
    root: u64,
    levels: u32,
}

impl<M: TableMemory> AddressSpace<M> {
    /// Empty tables of 4 or 5 levels.
    pub(crate) fn new(mut memory: M, levels: u32) -> Result<Self, M::Error> {
        let root = memory.new_table()?;
        Ok(Self {
            memory,
            root,
            levels,
        })
    }

    /// Physical address of the topmost table: CR3.
    pub(crate) fn root(&self) -> u64 {
        self.root
    }

    /// Maps `size` bytes, rounded up to pages of `page`, at `va` to `spa`.
    pub(crate) fn map(
        &mut self,
        va: u64,
        spa: u64,
        size: u64,
        page: PageSize,
        access: Access,
    ) -> Result<(), M::Error> {
        let rights = match access {
            Access::Read => NO_EXECUTE,
            Access::Write => NO_EXECUTE | WRITABLE,
            Access::Execute => 0,
        };
        // Accessed and dirty from the start: the processor then never writes to the tables.
        let leaf = if page == PageSize::Small { 0 } else { LEAF };
        let bits = PRESENT | ACCESSED | DIRTY | leaf | rights;
        let mut offset = 0;
        while offset < size {
            let table = self.table_for(va + offset, page as u32)?;
            self.memory.set_entry(
                table,
                index(va + offset, page as u32),
                (spa + offset) | bits,
            )?;
            offset += page.bytes();
        }
        Ok(())
    }

    /// The table of `level` that maps `va`, made if there was none.
    fn table_for(&mut self, va: u64, level: u32) -> Result<u64, M::Error> {
        let mut table = self.root;
        for above in (level + 1..=self.levels).rev() {
            let entry = self.memory.entry(table, index(va, above))?;
            table = if entry & PRESENT != 0 {
                entry & ADDRESS
            } else {
                let new = self.memory.new_table()?;
                // Rights are narrowed by the leaf alone.
                self.memory.set_entry(
                    table,
                    index(va, above),
                    new | PRESENT | WRITABLE | ACCESSED,
                )?;
                new
            };
        }
        Ok(table)
    }
}

/// Index of the entry for `va` in a table of `level`.
const fn index(va: u64, level: u32) -> usize {
    (va >> (3 + 9 * level)) as usize & 511
}

/// Tables of `level` that cover `size` bytes from a multiple of what such a table covers.
pub(crate) const fn tables_for(size: u64, level: u32) -> u64 {
    size.div_ceil(1 << (12 + 9 * level))
}
