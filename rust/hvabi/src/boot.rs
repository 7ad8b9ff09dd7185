// SPDX-License-Identifier: GPL-2.0

//! How hvmod loads hvcore and how an LP enters it.
//!
//! # The image
//!
//! `hvcore.bin` is a flat copy of memory, linked at [`IMAGE_BASE`], that begins with an
//! [`ImageHeader`]. hvmod copies it to the start of a physically contiguous, page-aligned *block*
//! and clears the rest of the block. The block holds, in this order:
//!
//! 1. the image with its `.bss` ([`ImageHeader::memory_end`] bytes),
//! 2. one stack of [`STACK_SIZE`] bytes for each LP,
//! 3. hvcore's own page tables,
//! 4. the *public* pages, which the root may read but not write after launch: one page of
//!    [`LpStats`](crate::stats::LpStats) for each LP, then the log ring
//!    ([`LOG_PAGES`](crate::log::LOG_PAGES) pages),
//! 5. the *pool*: free pages that hvcore takes its own tables from.
//!
//! # hvcore's address space
//!
//! | virtual address | what | access |
//! |---|---|---|
//! | [`DIRECT_BASE`] + SPA | all of RAM and the block | read, write |
//! | [`IMAGE_BASE`] | the image: `[0, text_start)` read, `[text_start, text_end)` read and execute, `[text_end, memory_end)` read and write | |
//! | [`stack_top`] downwards | stack of an LP, with unmapped pages around it | read, write |
//! | the trampoline's own address in Linux | one page, see below | read, execute |
//!
//! All supervisor, none global, NX but where "execute" is said (EFER.NXE is on).
//!
//! # Entering and leaving
//!
//! hvmod has a page-contained *trampoline*, mapped at the same virtual address in Linux and in
//! hvcore's tables. On each LP, interrupts off and in an NMI, so that no other comes, it saves what
//! the System V ABI calls callee-saved, replaces CR4 by `CR4 & ENTRY_CR4_KEEP` (which flushes
//! global TLB entries too), loads hvcore's CR3 and RSP = [`stack_top`], and calls the image's entry
//! with
//!
//! | register | value |
//! |---|---|
//! | RDI | SPA of [`CoreInfo`] |
//! | RSI | index of this LP, from 0 |
//! | RDX | CR3 to restore in the root |
//! | RCX | CR4 to restore in the root |
//! | R8 | RSP of the root |
//! | R9 | address in the trampoline at which the root continues |
//!
//! On success the root continues at R9 with RSP = R8, its own CR3, CR4 and descriptor tables,
//! interrupts off, NMIs blocked, RAX = 0, as the root partition; other registers but RSP are
//! unspecified.
//! On failure the call returns to the trampoline with a [`Status`](crate::call::Status) in RAX,
//! a detail in RDX, and the processor not in VMX operation; the trampoline restores CR4, then CR3
//! (CR4.PCIDE can only be set while the PCID in CR3 is 0, as in hvcore's), then RSP.
//!
//! To leave VMX operation hvcore does VMXOFF, fills the LP's [`LeaveFrame`] and jumps to
//! [`CoreInfo::leave_rip`] in the trampoline with hvcore's CR3 still loaded, RAX = CR3 and
//! RCX = CR4 of the root, RDI = virtual address of the frame in Linux. See [`LeaveFrame`].

/// Where hvcore is linked.
pub const IMAGE_BASE: u64 = 0xffff_f000_0000_0000;

/// hvcore sees the byte at SPA `x` at `DIRECT_BASE + x`.
pub const DIRECT_BASE: u64 = 0xffff_8000_0000_0000;

/// Bytes of physical address space that the direct map may cover.
pub const DIRECT_SIZE: u64 = 1 << 46;

/// Start of the area for the stacks of LPs.
pub const STACKS_BASE: u64 = 0xffff_f100_0000_0000;

/// Bytes of stack for each LP.
pub const STACK_SIZE: u64 = 32 * 1024;

/// Distance between two stacks: what is between them is not mapped.
pub const STACK_STRIDE: u64 = 64 * 1024;

/// First address above the stack of LP `lp`.
///
/// The mapped part is `[stack_top(lp) - STACK_SIZE, stack_top(lp))`.
pub const fn stack_top(lp: u32) -> u64 {
    STACKS_BASE + (lp as u64 + 1) * STACK_STRIDE - PAGE
}

const PAGE: u64 = crate::PAGE_SIZE as u64;

/// Bits of the root's CR4 that stay set while hvcore is entered: PAE, MCE, OSFXSR, OSXMMEXCPT,
/// LA57, OSXSAVE (SDM vol. 3, 2.5). PGE is off so that no global translation of Linux can be used
/// for an address of hvcore; CET, SMAP, PCIDE and the rest are not wanted there.
pub const ENTRY_CR4_KEEP: u64 = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 18;

/// [`ImageHeader::magic`].
pub const IMAGE_MAGIC: u64 = u64::from_le_bytes(*b"HVCORE\0\x01");

/// The first bytes of `hvcore.bin`. Offsets are from the start of the image, in bytes;
/// all but `entry` are multiples of [`PAGE_SIZE`](crate::PAGE_SIZE).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ImageHeader {
    /// [`IMAGE_MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`](crate::ABI_VERSION) that the image was built with.
    pub abi: u32,
    /// Zero.
    pub reserved: u32,
    /// Where code starts; before it lies read-only data.
    pub text_start: u64,
    /// Where code ends and writable data starts.
    pub text_end: u64,
    /// Size of the image in the file.
    pub file_end: u64,
    /// Size of the image in memory; `[file_end, memory_end)` is cleared.
    pub memory_end: u64,
    /// Virtual address at which each LP enters.
    pub entry: u64,
}

/// What hvmod tells hvcore of the machine and of the block. Written before the first LP enters;
/// hvcore reads it during launch only, when the root is still trusted. Lies in the first page of
/// the pool (which hvmod therefore counts as used).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CoreInfo {
    /// [`ABI_VERSION`](crate::ABI_VERSION) that hvmod was built with.
    pub abi: u32,
    /// Number of LPs that will enter.
    pub lp_count: u32,
    /// SPA of the block, and its size in bytes.
    pub block_spa: u64,
    pub block_size: u64,
    /// SPA of the public pages and their number.
    pub public_spa: u64,
    pub public_pages: u64,
    /// SPA of the first free page of the pool, and the number of free pages.
    pub pool_spa: u64,
    pub pool_pages: u64,
    /// hvcore's CR3.
    pub host_cr3: u64,
    /// First SPA above RAM (Linux's `max_pfn`). The direct map covers `[0, ram_end)`.
    pub ram_end: u64,
    /// Frequency of the TSC, in kHz (Linux's `tsc_khz`).
    pub tsc_khz: u64,
    /// Address, in the trampoline, of the code that takes an LP back to Linux.
    pub leave_rip: u64,
    /// Virtual address in Linux, and SPA, of a page for each LP, that begins with a [`LeaveFrame`].
    /// Root memory, physically contiguous.
    pub leave_va: u64,
    pub leave_spa: u64,
    /// What a switch between partitions does against speculation: [`measures`].
    pub measures: u64,
    /// For images that are built to test hvcore's death (`INJECT=1`); others ignore it.
    pub inject: u64,
}

/// What keeps a partition from learning by speculation what another did on the same LP.
pub mod measures {
    /// IA32_PRED_CMD.IBPB: predictions of indirect branches are forgotten.
    pub const IBPB: u64 = 1 << 0;
    /// The return stack buffer is filled.
    pub const RSB_FILL: u64 = 1 << 1;
    /// VERW clears buffers of loads, stores and fills, and register files.
    pub const VERW: u64 = 1 << 2;
    /// IA32_FLUSH_CMD.L1D_FLUSH: the data cache is emptied.
    pub const L1D_FLUSH: u64 = 1 << 3;
    /// All of them.
    pub const ALL: u64 = IBPB | RSB_FILL | VERW | L1D_FLUSH;
}

/// Operand of LGDT and LIDT.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TablePointer {
    pub limit: u16,
    pub base: u64,
}

/// What the trampoline loads, in this order, when an LP leaves VMX operation:
/// CR4 (RCX) while hvcore's CR3, whose PCID is 0, is still loaded, since CR4.PCIDE can only be set
/// then; CR3 (RAX); `gdtr`, `idtr`, `ldtr`, `ds`, `es`, `fs`, `gs` (with the selectors 0 the
/// bases are lost, so then:) `fs_base`, `gs_base` by WRMSR. If hvcore is `dead` it waits there for the
/// other LPs. Then the general registers, and IRETQ from `rip` to `ss`. TR is already the root's: hvcore loads it through a table of its own, since LTR
/// refuses a busy descriptor. All other state (EFER, PAT, SYSENTER, DEBUGCTL, DR7, CR0, CR2) is
/// already the root's too.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaveFrame {
    /// RAX, RCX, RDX, RBX, (unused), RBP, RSI, RDI, R8 to R15: the order of instruction encodings.
    pub gpr: [u64; 16],
    pub fs_base: u64,
    pub gs_base: u64,
    /// The IRETQ frame. At offset 144.
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
    /// At offset 184.
    pub ds: u16,
    pub es: u16,
    pub fs: u16,
    pub gs: u16,
    pub ldtr: u16,
    /// 1 if hvcore died, else 0.
    pub dead: u16,
    pub reserved: [u16; 2],
    /// At offset 200.
    pub gdtr: TablePointer,
    pub reserved2: [u8; 6],
    /// At offset 216.
    pub idtr: TablePointer,
    pub reserved3: [u8; 6],
}

/// Where hvmod has what it needs beside the frame: offset in its page.
pub const LEAVE_FRAME_SIZE: usize = core::mem::size_of::<LeaveFrame>();

/// Offset in that page of a `u64`: not 0 when hvmod gave the LP up, since it did not come back in
/// time from its launch. Should it get so far after that, hvcore does not launch it.
pub const GIVEN_UP: usize = LEAVE_FRAME_SIZE + 8;

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(LeaveFrame, rip) == 144);
    assert!(offset_of!(LeaveFrame, ds) == 184);
    assert!(offset_of!(LeaveFrame, ldtr) == 192);
    assert!(offset_of!(LeaveFrame, gdtr) == 200);
    assert!(offset_of!(LeaveFrame, idtr) == 216);
    assert!(offset_of!(LeaveFrame, dead) == 194);
    assert!(core::mem::size_of::<LeaveFrame>() == 232);
};
