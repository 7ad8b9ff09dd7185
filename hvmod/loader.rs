// SPDX-License-Identifier: GPL-2.0

//! Puts hvcore's image into memory and builds what it needs to run: see `hvabi::boot`.

use crate::{
    core_log,
    hvabi::{
        boot::{
            stack_top, CoreInfo, ImageHeader, DIRECT_BASE, DIRECT_SIZE, ENTRY_CR4_KEEP, GIVEN_UP,
            IMAGE_BASE, IMAGE_MAGIC, LEAVE_FRAME_SIZE, STACK_SIZE,
        },
        log::{LogRecord, LOG_RECORDS},
        stats::LpStats,
        ABI_VERSION, MAX_LPS, PAGE_SIZE,
    },
    layout::{Layout, Machine},
    measures,
    pagetables::{Access, AddressSpace, PageSize, TableMemory},
    speculation::Choice,
    sys::{
        block::Block,
        cpu, image,
        inject::{self, Step},
        machine, processor,
        trampoline::{self, Enter},
    },
};
use kernel::prelude::*;

/// An hvcore image in memory, ready to be entered, or entered.
pub(crate) struct Core {
    block: Block,
    layout: Layout,
    header: ImageHeader,
    /// Root memory that [`CoreInfo::leave_spa`] names: in the page of an LP lie its frame, its number
    /// as CPU, and, from the end, the stack on which it waits for others.
    frames: Block,
    info: CoreInfo,
    measures: Choice,
}

impl Core {
    /// Loads the image that is part of this module, with `pool_factor` times the usual pool.
    pub(crate) fn load(pool_factor: u64) -> Result<Self> {
        let image = image::bytes();
        let header = check(image)?;
        let machine = this_machine()?;
        let measures = measures::choose()?;
        let layout = Layout::new(&header, &machine, pool_factor);

        let allocated = inject::step(Step::Block).and_then(|()| Block::new(layout.pages as usize));
        let block = allocated.inspect_err(|_| {
            pr_err!(
                "no {} KiB of contiguous memory for hvcore: free memory, or load earlier\n",
                layout.pages * PAGE_SIZE as u64 / 1024
            )
        })?;
        inject::step(Step::Frames)?;
        let frames = Block::new(machine.lps as usize)?;

        block.write_bytes(0, image.get(..header.file_end as usize).ok_or(ENOEXEC)?)?;
        let host_cr3 = map_all(&block, &layout, &header, &machine)?;
        let info = CoreInfo {
            abi: ABI_VERSION,
            lp_count: machine.lps,
            block_spa: block.spa(),
            block_size: block.len() as u64,
            public_spa: block.spa() + layout.public,
            public_pages: layout.public_pages,
            pool_spa: block.spa() + layout.pool + PAGE_SIZE as u64,
            pool_pages: layout.pool_pages - 1,
            host_cr3,
            ram_end: machine.ram_end,
            tsc_khz: machine::tsc_khz(),
            leave_rip: trampoline::leave_rip(),
            leave_va: frames.va(),
            leave_spa: frames.spa(),
            measures: measures.taken,
            inject: inject::core(),
        };
        block.write(layout.pool as usize, &info)?;
        core_log::begin();
        Ok(Self {
            block,
            layout,
            header,
            frames,
            info,
            measures,
        })
    }

    /// Most LPs that there is room for.
    pub(crate) fn lp_limit(&self) -> u32 {
        self.info.lp_count
    }

    /// What LP `lp` enters with, which Linux calls `cpu`.
    pub(crate) fn enter(&self, lp: u32, cpu: u32) -> Result<Enter> {
        self.frames
            .write(lp as usize * PAGE_SIZE + LEAVE_FRAME_SIZE, &u64::from(cpu))?;
        Ok(Enter {
            info_spa: self.block.spa() + self.layout.pool,
            lp: u64::from(lp),
            cr3: self.info.host_cr3,
            cr4_keep: ENTRY_CR4_KEEP,
            stack_top: stack_top(lp),
            entry: self.header.entry,
        })
    }

    /// Says whether LP `lp` was given up, so that hvcore does not launch it: see [`GIVEN_UP`].
    pub(crate) fn give_up(&self, lp: u32, up: bool) {
        // There is a page for each LP.
        let _ = self
            .frames
            .write(lp as usize * PAGE_SIZE + GIVEN_UP, &u64::from(up));
    }

    /// Whether LP `lp` was given up.
    pub(crate) fn given_up(&self, lp: u32) -> bool {
        self.frames
            .read(lp as usize * PAGE_SIZE + GIVEN_UP)
            .is_ok_and(|up: u64| up != 0)
    }

    /// Bytes that the block takes from Linux.
    pub(crate) fn bytes(&self) -> u64 {
        (self.block.len() + self.frames.len()) as u64
    }

    /// What it does against speculation, and what it would have to.
    pub(crate) fn measures(&self) -> Choice {
        self.measures
    }

    /// Physical address and size of hvcore's own memory, which the root does not see.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.block.spa(), self.block.len() as u64)
    }

    /// Bytes of hvcore's code.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.header.text_end - self.header.text_start
    }

    /// Counters of an LP.
    pub(crate) fn lp_stats(&self, lp: u32) -> Option<LpStats> {
        if lp >= self.info.lp_count {
            return None;
        }
        self.block
            .read(self.layout.public as usize + lp as usize * PAGE_SIZE)
            .ok()
    }

    /// The slot of the log ring that record number `seq` goes to, as it is now.
    pub(crate) fn log_slot(&self, seq: u64) -> Option<LogRecord> {
        let slot = (seq.checked_sub(1)? % LOG_RECORDS as u64) as usize;
        self.block
            .read(self.layout.log as usize + slot * size_of::<LogRecord>())
            .ok()
    }
}

/// The header of an image, if that is one.
fn check(image: &[u8]) -> Result<ImageHeader> {
    let refuse = |what: &str| {
        pr_err!("the hvcore image in this module {what}\n");
        ENOEXEC
    };
    let header = image::header().ok_or_else(|| refuse("is too short"))?;
    if header.magic != IMAGE_MAGIC {
        return Err(refuse("is none"));
    }
    if header.abi != ABI_VERSION {
        return Err(refuse("was built for another hvmod"));
    }
    let size = image.len() as u64;
    let page = PAGE_SIZE as u64;
    let ends = [
        header.text_start,
        header.text_end,
        header.file_end,
        header.memory_end,
    ];
    let code = header.text_start..header.text_end;
    if ends.iter().any(|end| end % page != 0)
        || !ends.is_sorted()
        || header.file_end > size
        // Room for any hvcore, and little enough for every sum here.
        || header.memory_end > 64 << 20
        || !header.entry.checked_sub(IMAGE_BASE).is_some_and(|entry| code.contains(&entry))
    {
        return Err(refuse("has a header that cannot be right"));
    }
    Ok(header)
}

/// What the layout depends on.
fn this_machine() -> Result<Machine> {
    let ram_end = machine::ram_end();
    if ram_end > DIRECT_SIZE {
        pr_err!("memory above {} TiB is not supported\n", DIRECT_SIZE >> 40);
        return Err(ENODEV);
    }
    let extended = processor::cpuid(0x8000_0001, 0);
    let ept = processor::vmx_msr(processor::VmxMsr::EptVpidCap);
    Ok(Machine {
        lps: cpu::possible_count().min(MAX_LPS as u32),
        ram_end,
        huge_pages: extended.edx & 1 << 26 != 0,
        huge_ept: ept & 1 << 17 != 0,
        five_levels: processor::cr4() & 1 << 12 != 0,
        address_bits: processor::cpuid(0x8000_0008, 0).eax & 0xff,
    })
}

/// Builds hvcore's address space; its CR3.
fn map_all(block: &Block, layout: &Layout, header: &ImageHeader, machine: &Machine) -> Result<u64> {
    let tables = Tables {
        block,
        next: layout.tables,
        end: layout.tables + layout.table_pages * PAGE_SIZE as u64,
    };
    let levels = if machine.five_levels { 5 } else { 4 };
    let mut space = AddressSpace::new(tables, levels)?;

    let page = if machine.huge_pages {
        PageSize::Huge
    } else {
        PageSize::Large
    };
    space.map(DIRECT_BASE, 0, machine.ram_end, page, Access::Write)?;

    let parts = [
        (0, header.text_start, Access::Read),
        (header.text_start, header.text_end, Access::Execute),
        (header.text_end, header.memory_end, Access::Write),
    ];
    for (start, end, access) in parts {
        space.map(
            IMAGE_BASE + start,
            block.spa() + start,
            end - start,
            PageSize::Small,
            access,
        )?;
    }

    for lp in 0..machine.lps {
        space.map(
            stack_top(lp) - STACK_SIZE,
            block.spa() + layout.stacks + u64::from(lp) * STACK_SIZE,
            STACK_SIZE,
            PageSize::Small,
            Access::Write,
        )?;
    }

    let (va, spa) = (trampoline::va(), trampoline::spa());
    if va % PAGE_SIZE as u64 != 0 {
        pr_err!("the kernel did not align the module's trampoline to a page\n");
        return Err(ENOEXEC);
    }
    space.map(va, spa, PAGE_SIZE as u64, PageSize::Small, Access::Execute)?;
    Ok(space.root())
}

/// The part of the block that is for page tables.
struct Tables<'a> {
    block: &'a Block,
    next: u64,
    end: u64,
}

impl Tables<'_> {
    fn place(&self, table: u64, index: usize) -> usize {
        (table - self.block.spa()) as usize + index * size_of::<u64>()
    }
}

impl TableMemory for Tables<'_> {
    type Error = Error;

    fn new_table(&mut self) -> Result<u64> {
        if self.next == self.end {
            return Err(ENOMEM);
        }
        let table = self.block.spa() + self.next;
        self.next += PAGE_SIZE as u64;
        Ok(table)
    }

    fn entry(&self, table: u64, index: usize) -> Result<u64> {
        self.block.read(self.place(table, index))
    }

    fn set_entry(&mut self, table: u64, index: usize, entry: u64) -> Result {
        self.block.write(self.place(table, index), &entry)
    }
}
