// SPDX-License-Identifier: GPL-2.0

//! What hvcore can be asked for: one function for each call of `hvabi::call` that children need.
//!
//! Calls that may need memory give it: hvcore says how much is missing, hvmod takes pages from
//! Linux and deposits them with the partition, and calls again.

use crate::{
    core_log,
    hvabi::{
        call::{map_flags, Call, Status, DEPOSIT_PAGES, LIST_ITEMS, UNMAP_PAGES},
        state::StateKind,
        LARGE_PAGES, MAX_PARTITIONS, PAGE_SIZE,
    },
    lps, mshv,
    sys::{
        block::Block,
        cpu, deposit, loaded, machine,
        page::Page,
        processor, ticker,
        vmcall::{vmcall, Answer},
    },
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// A child partition that this kernel created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionId(u64);

impl PartitionId {
    /// Its number in hvcore, from 1.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// Pages that each partition holds, by number; 0 is hvcore itself. hvcore may keep a page that was
/// deposited with a partition, so that these are close, not exact.
static DEPOSITED: [Atomic<i64>; MAX_PARTITIONS + 1] =
    [const { Atomic::new(0) }; MAX_PARTITIONS + 1];

/// Whether hvcore said, or showed, that it is dead.
static DEAD: Atomic<bool> = Atomic::new(false);

/// Whether that was told.
static REPORTED: Atomic<bool> = Atomic::new(false);

/// Whether no VP is entered any more, since the machine goes down.
static OVER: Atomic<bool> = Atomic::new(false);

/// Pages given beyond those that are missing, so that the next call need not ask.
const SLACK: u64 = 16;

/// Pages that are given at a time, if Linux has so many together.
const PIECE: usize = DEPOSIT_PAGES;

/// How often a call is repeated before it counts as one that never ends. Each time hvcore asks for
/// something else: memory, or that other LPs pass by.
const ATTEMPTS: usize = 64;

/// Whether hvcore lives, as far as is known.
pub(crate) fn core_alive() -> bool {
    !DEAD.load(Relaxed)
}

/// Whether the machine goes down: LPs leave, and none joins.
#[inline]
pub(crate) fn is_over() -> bool {
    OVER.load(Relaxed)
}

/// Frequency of the TSC, in kHz.
pub(crate) fn tsc_khz() -> u64 {
    machine::tsc_khz()
}

/// Bytes that a partition holds.
pub(crate) fn deposited_bytes(partition: PartitionId) -> u64 {
    DEPOSITED
        .get(partition.0 as usize)
        .map_or(0, |pages| bytes_of(pages.load(Relaxed)))
}

/// Bytes that all partitions hold.
pub(crate) fn all_deposited_bytes() -> u64 {
    bytes_of(
        DEPOSITED
            .iter()
            .skip(1)
            .map(|pages| pages.load(Relaxed))
            .sum(),
    )
}

/// Bytes that hvcore holds for itself beyond its block.
pub(crate) fn core_deposited_bytes() -> u64 {
    bytes_of(DEPOSITED[0].load(Relaxed))
}

fn bytes_of(pages: i64) -> u64 {
    u64::try_from(pages).unwrap_or(0) * PAGE_SIZE as u64
}

/// A partition in hvcore, which is destroyed when this is dropped, in process context. None of its
/// VPs may run then.
pub(crate) struct CorePartition {
    id: PartitionId,
    /// Where hvcore says what it gives back: at the end there may be no memory for it, as when a
    /// program is killed because its cgroup has no more.
    taken: Page,
}

impl CorePartition {
    /// Its number.
    pub(crate) fn id(&self) -> PartitionId {
        self.id
    }
}

impl Drop for CorePartition {
    fn drop(&mut self) {
        partition_destroy(self.id, &self.taken);
        // No LP uses its memory from here on.
        sync_all();
    }
}

/// Makes a partition.
pub(crate) fn partition_create() -> Result<CorePartition> {
    let taken = Page::new()?;
    match call(Call::PartitionCreate, [0; 5]) {
        (Status::Ok, number) => Ok(CorePartition {
            id: PartitionId(number),
            taken,
        }),
        (status, _) => Err(error(status)),
    }
}

/// Destroys a partition and takes back what it holds, which hvcore tells in the page `taken`.
///
/// Process context.
fn partition_destroy(partition: PartitionId, taken: &Page) {
    while let (Status::Ok, 1) = repeat(
        || call(Call::PartitionDestroy, [partition.0, 0, 0, 0, 0]),
        |status| {
            // A VP that is still on its way out: the IPIs of `sync_all` hurry it.
            status == Status::Busy
        },
    ) {}
    let arguments = [partition.0, taken.spa(), LIST_ITEMS as u64, 0, 0];
    while let (Status::Ok, count @ 1..) = repeat(|| call(Call::Withdraw, arguments), |_| false) {
        for spa in (0..count as usize).map_while(|index| taken.item(index)) {
            deposit::take(spa);
        }
        count_pages(partition.0, -(count as i64));
    }
    deposit::free_taken(sync);
    report();
}

/// Destroys all partitions, whoever has them, and runs no VP from then on: with many VPs that are
/// always busy, a partition would be as well, whenever it is asked to go.
///
/// Process context.
pub(crate) fn destroy_all() {
    OVER.store(true, Relaxed);
    let Ok(taken) = Page::new() else {
        pr_err!("no memory to destroy the partitions with\n");
        return;
    };
    for number in 1..=MAX_PARTITIONS as u64 {
        partition_destroy(PartitionId(number), &taken);
    }
}

/// Maps pages of the root into a partition from `gpa` on, at most [`LIST_ITEMS`]; on an error, how
/// many were mapped. `flags` are [`map_flags`](crate::hvabi::call::map_flags).
///
/// The caller keeps the pages where they are (pinned) until they were unmapped and all LPs synced.
/// Process context.
pub(crate) fn gpa_map(
    partition: PartitionId,
    gpa: u64,
    spas: &[u64],
    flags: u64,
) -> Result<(), (Error, usize)> {
    if spas.len() > LIST_ITEMS {
        return Err((EINVAL, 0));
    }
    let large = flags & map_flags::LARGE != 0;
    let size = (PAGE_SIZE * if large { LARGE_PAGES } else { 1 }) as u64;
    let mut list = Page::new().map_err(|error| (error, 0))?;
    let mut done = 0;
    let mut last = Status::NeedSync;
    for _ in 0..ATTEMPTS {
        let left = spas.get(done..).unwrap_or(&[]);
        for (index, &spa) in left.iter().enumerate() {
            list.set_item(index, spa);
        }
        let next = gpa + done as u64 * size;
        let answer = vmcall(
            Call::GpaMap,
            [partition.0, next, list.spa(), left.len() as u64, flags],
        );
        // Also on an error: hvcore goes as far as it can.
        done += (answer.extra as usize).min(left.len());
        last = status_of(&answer);
        match last {
            Status::Ok => return Ok(()),
            Status::NoMemory => deposit(partition, answer.value.saturating_add(SLACK))
                .map_err(|error| (error, done))?,
            Status::NeedSync => sync_all(),
            Status::CoreLow => feed().map_err(|error| (error, done))?,
            _ => break,
        }
    }
    report();
    Err((error(last), done))
}

/// Makes `block` private memory of a partition at `gpa`; all of it can be one large page. `done`
/// grows by the pages that are mapped, also on an error. Process context.
pub(crate) fn give_private(
    partition: PartitionId,
    gpa: u64,
    block: Block,
    flags: u64,
    large: bool,
    done: &mut u64,
) -> Result {
    let pages = block.len() / PAGE_SIZE;
    let mut spas = KVec::with_capacity(pages, GFP_KERNEL)?;
    for spa in block.spas().take(if large { 1 } else { pages }) {
        spas.push_within_capacity(spa).map_err(|_| ENOMEM)?;
    }
    let flags = if large {
        flags | map_flags::LARGE
    } else {
        flags
    };
    let mut mapped = pages;
    let given = deposit::give(block, true, || {
        gpa_map(partition, gpa, &spas, flags).map_err(|(error, done)| {
            mapped = done;
            (error, done)
        })
    });
    count_pages(partition.0, mapped as i64);
    *done += mapped as u64;
    given.inspect_err(|_| deposit::free_taken(sync))
}

/// Unmaps GPAs. The pages may still be used through stale translations until [`sync_all`]. False if
/// some are still mapped in a partition that can run.
#[must_use = "the partition may still use the pages"]
pub(crate) fn gpa_unmap(partition: PartitionId, gpa: u64, pages: u64) -> bool {
    let mut done = 0;
    while done < pages {
        // A call ends where a large page can: to unmap a part of one takes memory.
        let first = gpa / PAGE_SIZE as u64 + done;
        let count = (pages - done).min(UNMAP_PAGES - first % LARGE_PAGES as u64);
        let arguments = [partition.0, first * PAGE_SIZE as u64, count, 0, 0];
        match repeat(|| call(Call::GpaUnmap, arguments), |_| false).0 {
            Status::Ok => done += count,
            status => {
                return matches!(
                    status,
                    Status::Dead | Status::NoPartition | Status::CoreDead
                )
            }
        }
    }
    true
}

/// Lets every LP pass through hvcore: after that none uses stale translations. Process context.
///
/// One that is on its way on- or offline gets no IPI, and hvcore waits for it all the same: so this
/// waits until it has arrived.
pub(crate) fn sync_all() {
    let _lock = cpu::HotplugLock::new();
    cpu::run_on_all(|| {
        call(Call::Sync, [0; 5]);
    });
}

extern "C" fn sync() {
    sync_all();
}

/// Makes a VP. `run_page_spa` is a page of the root, kept until the partition is destroyed.
///
/// Process context.
pub(crate) fn vp_create(partition: PartitionId, index: u32, run_page_spa: u64) -> Result {
    let arguments = [partition.0, u64::from(index), run_page_spa, 0, 0];
    match with_deposit(partition, || call(Call::VpCreate, arguments)) {
        (Status::Ok, _) => Ok(()),
        (status, _) => Err(error(status)),
    }
}

/// Runs a VP on this LP until it exits. Interrupts are off and `kernel_fpu_begin` was called.
#[inline]
pub(crate) fn vp_run(partition: PartitionId, index: u32) -> Status {
    if is_over() {
        return Status::NoPartition;
    }
    call(Call::VpRun, [partition.0, u64::from(index), 0, 0, 0]).0
}

/// State of a VP, as [`Call::VpGet`] and [`Call::VpSet`] move it.
#[derive(Clone, Copy)]
pub(crate) struct VpState {
    pub(crate) partition: PartitionId,
    pub(crate) index: u32,
    pub(crate) kind: StateKind,
    /// The page that it is moved through.
    pub(crate) page_spa: u64,
    /// Groups of registers, or what else the kind asks for.
    pub(crate) groups: u64,
}

impl VpState {
    fn arguments(&self) -> [u64; 5] {
        [
            self.partition.0,
            u64::from(self.index),
            self.kind as u64,
            self.page_spa,
            self.groups,
        ]
    }

    /// Reads it into the page.
    pub(crate) fn get(&self) -> Status {
        call(Call::VpGet, self.arguments()).0
    }

    /// Sets it from the page, all or nothing. The second value is the bit of the group at fault.
    pub(crate) fn set(&self) -> (Status, u64) {
        call(Call::VpSet, self.arguments())
    }
}

/// Asserts an interrupt: `word` as in [`interrupt`](crate::hvabi::call::interrupt); gives the set
/// of VPs that it went to. Any context.
pub(crate) fn assert_interrupt(
    partition: PartitionId,
    word: u64,
    destination: u64,
) -> (Status, u64) {
    call(
        Call::AssertInterrupt,
        [partition.0, word, destination, 0, 0],
    )
}

/// Calls hvcore.
#[inline]
fn call(call: Call, arguments: [u64; 5]) -> (Status, u64) {
    let answer = vmcall(call, arguments);
    (status_of(&answer), answer.value)
}

#[inline]
fn status_of(answer: &Answer) -> Status {
    let status = Status::from_raw(answer.status).unwrap_or(Status::CoreDead);
    if status == Status::CoreDead {
        note_death();
    }
    status
}

/// hvcore said that it is dead. What there is to do about it cannot be done here. (When the machine
/// goes down no LP is in hvcore any more.)
pub(crate) fn note_death() {
    if !is_over() && !DEAD.xchg(true, Relaxed) {
        ticker::hurry();
    }
}

/// Calls until hvcore wants neither other LPs to pass by nor memory of its own, and `again` does
/// not say so.
fn repeat(attempt: impl Fn() -> (Status, u64), again: impl Fn(Status) -> bool) -> (Status, u64) {
    let mut answer = attempt();
    for _ in 1..ATTEMPTS {
        match answer.0 {
            Status::NeedSync => sync_all(),
            Status::CoreLow => {
                if feed().is_err() {
                    break;
                }
            }
            status if again(status) => sync_all(),
            _ => break,
        }
        answer = attempt();
    }
    answer
}

/// Gives hvcore memory for its own pool: one piece, as large as Linux has one.
fn feed() -> Result {
    let mut piece = PIECE;
    let block = loop {
        match Block::new(piece) {
            Ok(block) => break block,
            Err(error) if piece == 1 => return Err(error),
            Err(_) => piece /= 2,
        }
    };
    hand_over(0, block, |attempt| {
        let answer = attempt();
        if answer.0 != Status::NeedSync {
            return answer;
        }
        sync_all();
        attempt()
    })
}

/// Calls, and gives the partition the memory that the call says is missing.
fn with_deposit(partition: PartitionId, attempt: impl Fn() -> (Status, u64)) -> (Status, u64) {
    for _ in 0..ATTEMPTS {
        let answer = repeat(&attempt, |_| false);
        let (Status::NoMemory, missing) = answer else {
            if answer.0 != Status::Ok {
                report();
            }
            return answer;
        };
        if deposit(partition, missing.saturating_add(SLACK)).is_err() {
            return answer;
        }
    }
    report();
    (Status::NoMemory, 0)
}

/// Gives a partition at least `pages` pages of Linux, in pieces as large as Linux has them: hvcore
/// splits the root's tables once for each 2 MiB that a page lies in.
fn deposit(partition: PartitionId, pages: u64) -> Result {
    let mut left = pages;
    let mut piece = PIECE;
    while left != 0 {
        match Block::new_accounted(piece) {
            Ok(block) => {
                hand_over(partition.0, block, |attempt| repeat(attempt, |_| false))?;
                left = left.saturating_sub(piece as u64);
            }
            Err(error) if piece == 1 => return Err(error),
            Err(_) => piece /= 2,
        }
    }
    Ok(())
}

/// Deposits `block` with the partition of that number, by `make`, which makes the call.
fn hand_over(
    number: u64,
    block: Block,
    make: impl FnOnce(&dyn Fn() -> (Status, u64)) -> (Status, u64),
) -> Result {
    let mut list = Page::new()?;
    let mut pages = 0;
    for (index, spa) in block.spas().enumerate() {
        list.set_item(index, spa);
        pages += 1;
    }
    let arguments = [number, list.spa(), pages, 0, 0];
    let given = deposit::give(block, false, || {
        match make(&|| call(Call::Deposit, arguments)) {
            (Status::Ok, _) => Ok(()),
            // None was taken.
            (status, _) => Err((error(status), 0)),
        }
    });
    if given.is_err() {
        deposit::free_taken(sync);
    }
    given?;
    count_pages(number, pages as i64);
    Ok(())
}

fn count_pages(number: u64, pages: i64) {
    if let Some(counter) = DEPOSITED.get(number as usize) {
        counter.add(pages, Relaxed);
    }
}

/// What a status is as an error of Linux.
pub(crate) fn error(status: Status) -> Error {
    match status {
        Status::NoMemory | Status::CoreLow => ENOMEM,
        Status::NoPartition | Status::NoVp => ENOENT,
        Status::NeedSync => EAGAIN,
        Status::Busy => EBUSY,
        Status::NotOwner => EPERM,
        Status::Exists => EEXIST,
        Status::TooMany => ENOSPC,
        Status::CoreDead => ENODEV,
        Status::BadCall | Status::BadArgument => EINVAL,
        // `Ok` is no error: somebody took the wrong branch.
        Status::Ok | Status::Dead | Status::Unsupported | Status::LaunchFailed => EIO,
    }
}

/// Copies what hvcore logged of errors to the kernel log. If hvcore died, this also takes every LP
/// that it still has back to Linux. Process context.
pub(crate) fn report() {
    let Some(core) = loaded::get() else {
        return;
    };
    if core_log::forward(&core) {
        DEAD.store(true, Relaxed);
    }
    if core_alive() || REPORTED.xchg(true, Relaxed) {
        return;
    }
    // hvcore leaves an LP at its next exit, and CPUID always is one.
    cpu::run_on_all(|| {
        processor::cpuid(0, 0);
    });
    let left = (0..lps::count())
        .filter(|&lp| core.lp_stats(lp).is_some_and(|stats| stats.active != 0))
        .count();
    pr_crit!(
        "hvcore died and its partitions with it; Linux goes on without (processors still in VMX \
         operation: {left}): see hvctl log, then rmmod hvmod\n"
    );
    // Whoever sleeps in RUN_VP learns it.
    mshv::wake_all();
}
