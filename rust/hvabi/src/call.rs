// SPDX-License-Identifier: GPL-2.0

//! Hypercalls of the root.
//!
//! VMCALL at CPL 0 of the root with RAX = [`Call`], arguments in RDI, RSI, RDX, R8, R9. On return
//! RAX is a [`Status`], RDX a value, R8 a second value (of the calls that say so, else 0); every
//! other register keeps its value. VMCALL at another
//! CPL gets #UD, as on a processor outside VMX operation.
//!
//! Every call takes a bounded time with interrupts off: what can be long works on at most one page
//! of items ([`LIST_ITEMS`]) a call.
//!
//! # Memory
//!
//! hvcore never allocates. Each partition has a *pool* of pages that the root deposited; a call
//! that would need more than the pool has returns [`Status::NoMemory`] with the number of missing
//! pages in RDX and has changed nothing; the root deposits and calls again.
//!
//! Pages that change hands may still be cached in the TLB of some LP. hvcore therefore does not
//! use a deposit, and does not give pages back, before each LP has passed through hvcore once:
//! such calls return [`Status::NeedSync`], the root issues [`Call::Sync`] on every online LP (an
//! IPI that does VMCALL) and calls again. An LP that is offline must have got an INIT: in
//! wait-for-SIPI it uses no translation, and nobody waits for it.

/// Items of a list page: 4 KiB of little-endian `u64`.
pub const LIST_ITEMS: usize = crate::PAGE_SIZE / 8;

/// Numbers of hypercalls. "list" is the SPA of a page of the root, holding SPAs of pages.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Does nothing but to pass through hvcore: after it, this LP uses no stale translation.
    Sync = 0,
    /// Leaves VMX operation on this LP. [`Status::Busy`] while any partition exists. Once one has left,
    /// an LP in wait-for-SIPI does so at its SIPI, and goes on where it was before the INIT.
    Unload = 1,
    /// (partition, list, count): count pages move from the root to the partition's pool, or for
    /// partition 0 to hvcore's own, from which the root's tables are split: better a few large
    /// pieces of memory than many pages apart. [`Status::CoreLow`] if that pool is low. At most
    /// [`DEPOSIT_PAGES`], those that still wait for [`Call::Sync`] included.
    /// All or none: on an error RDX is the index of the page at fault.
    Deposit = 2,
    /// (partition, list, count): up to count free pages of the pool return to the root; hvcore
    /// writes their SPAs to the list and their number to RDX. Partition 0 gives nothing back before
    /// it is unloaded. On a partition that is destroyed to its end, the call that finds nothing left
    /// (RDX = 0) frees the partition's number. LPs may still see the page of zeros in place of what
    /// was given back: the root must [`Call::Sync`] all of them before it uses the pages.
    Withdraw = 3,
    /// (): RDX is the number of the new partition, from 1. Needs no memory.
    PartitionCreate = 4,
    /// (partition): stops it for ever and frees its VPs and its address space to its pool.
    /// [`Status::Busy`] while a VP runs. RDX is 1 if there is more to free: call again. Then
    /// withdraw until nothing is left.
    PartitionDestroy = 5,
    /// (partition, GPA, list, count, [flags](map_flags)): maps root pages into the child, shared.
    /// GPAs follow each other from GPA on. R8 is the number of items mapped, also on an error,
    /// after which the call can go on from there. A GPA that is mapped already:
    /// [`Status::Exists`].
    GpaMap = 6,
    /// (partition, GPA, count): unmaps; count is at most [`UNMAP_PAGES`]. GPAs that are not mapped
    /// are passed over. [`Status::Busy`] if private memory is among them while a VP runs. The root
    /// must then [`Call::Sync`] all LPs before it reuses the pages.
    GpaUnmap = 7,
    /// (partition, index, SPA of the [`RunPage`](crate::vp::RunPage)): the VP starts as after
    /// RESET, its APIC ID is its index. VP 0 is runnable, others wait for SIPI.
    VpCreate = 8,
    /// (partition, index): runs the VP on this LP until an intercept or a physical interrupt.
    /// With interrupts off and inside `kernel_fpu_begin()`.
    VpRun = 9,
    /// (partition, index, [`StateKind`](crate::state::StateKind), SPA of a page, groups): hvcore
    /// writes state to the page. [`Status::Busy`] while the VP runs.
    VpGet = 10,
    /// The same, hvcore reads the page. All or nothing; RDX tells the bit of the group at fault.
    VpSet = 11,
    /// (partition, [`Interrupt`](interrupt) word, destination): asserts an interrupt. RDX is the
    /// set of VPs that it was delivered to: those that run must be interrupted, those that wait woken.
    AssertInterrupt = 12,
    /// (partition, or 0 for hvcore's own): RDX is the number of free pages in the pool, R8 of those
    /// that wait for [`Call::Sync`].
    PoolInfo = 14,
}

/// Most pages that one [`Call::Deposit`] takes.
pub const DEPOSIT_PAGES: usize = 64;

/// Most pages that one [`Call::GpaUnmap`] takes.
pub const UNMAP_PAGES: u64 = 4096;

/// Flags of [`Call::GpaMap`].
pub mod map_flags {
    /// The child may write.
    pub const WRITE: u64 = 1 << 0;
    /// The child may execute.
    pub const EXECUTE: u64 = 1 << 1;
    /// Items of the list are 2 MiB pages; GPA and SPAs are aligned to that.
    pub const LARGE: u64 = 1 << 2;
    /// The pages become the child's alone: they leave the root, with what is in them, and come
    /// back, cleared, only by [`Call::Withdraw`] after they were unmapped. At most
    /// [`LIST_ITEMS`] pages of 4 KiB a call, large ones counted as what they consist of; no VP may
    /// run ([`Status::Busy`]), and none runs before each LP has passed through hvcore once.
    pub const PRIVATE: u64 = 1 << 3;
}

/// The second argument of [`Call::AssertInterrupt`]; the third is the destination APIC ID (in
/// logical mode, the logical destination).
pub mod interrupt {
    /// Bits 0 to 7: vector.
    pub const VECTOR: u64 = 0xff;
    /// Bits 8 to 10: delivery mode as in the local APIC (SDM vol. 3, 12.11.2): 0 fixed,
    /// 1 lowest priority, 4 NMI, 5 INIT, 7 ExtINT (LINT0).
    pub const MODE_SHIFT: u32 = 8;
    /// Logical destination mode.
    pub const LOGICAL: u64 = 1 << 11;
    /// Level-triggered: an EOI becomes [`ExitKind::Eoi`](crate::vp::ExitKind::Eoi).
    pub const LEVEL: u64 = 1 << 12;
    /// Alone, with destination 0: no VP gets an ExtINT that it was sent and has not taken yet.
    pub const CLEAR_EXTINT: u64 = 1 << 13;
}

/// How a hypercall ended.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    /// No such call.
    BadCall = 1,
    /// An argument is not valid, whatever the state of the machine.
    BadArgument = 2,
    /// No such partition.
    NoPartition = 3,
    /// No such VP.
    NoVp = 4,
    /// The pool is too small; RDX pages are missing.
    NoMemory = 5,
    /// Call [`Call::Sync`] on all LPs, then again.
    NeedSync = 6,
    /// The object is in use.
    Busy = 7,
    /// The page is not the root's, or is shared, or is not RAM.
    NotOwner = 8,
    /// It is there already.
    Exists = 9,
    /// All numbers are in use.
    TooMany = 10,
    /// The partition was stopped by hvcore or destroyed.
    Dead = 11,
    /// Launch: the processor lacks something; RDX is a [`Missing`].
    Unsupported = 12,
    /// Launch: VMXON or VMLAUNCH failed; RDX is the VM-instruction error, or exit reason.
    LaunchFailed = 13,
    /// hvcore died; see the log.
    CoreDead = 14,
    /// hvcore's own pool is low: deposit to partition 0, then again.
    CoreLow = 15,
}

impl Status {
    /// The status that `value` stands for.
    pub const fn from_raw(value: u64) -> Option<Status> {
        use Status::*;
        const ALL: [Status; 16] = [
            Ok,
            BadCall,
            BadArgument,
            NoPartition,
            NoVp,
            NoMemory,
            NeedSync,
            Busy,
            NotOwner,
            Exists,
            TooMany,
            Dead,
            Unsupported,
            LaunchFailed,
            CoreDead,
            CoreLow,
        ];
        if value < ALL.len() as u64 {
            Some(ALL[value as usize])
        } else {
            None
        }
    }
}

/// What a launch found missing.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// CPUID has no VMX.
    Vmx = 1,
    /// IA32_FEATURE_CONTROL locks VMX off.
    LockedOff = 2,
    /// CR4.VMXE is set already.
    InUse = 3,
    /// No secondary controls, EPT, or EPT of another kind (4 levels, write-back, 2 MiB pages,
    /// INVEPT).
    Ept = 4,
    /// No unrestricted guest.
    Unrestricted = 5,
    /// No VPID or INVVPID.
    Vpid = 6,
    /// Another control that is needed.
    Controls = 7,
    /// A CPU feature is on that hvcore can not carry across (FRED).
    Feature = 8,
    /// The pool is too small.
    Memory = 9,
}
