// SPDX-License-Identifier: GPL-2.0

//! Child partitions: their memory, and their VPs.

use crate::arch::counted::Counted;
use crate::arch::lock::{Guard, SpinLock};
use crate::arch::root_memory::Hostile;
use crate::machine;
use crate::mem::addr::{Gpa, GpaRange, Size};
use crate::mem::ept::{Access, MapError};
use crate::mem::owner::{Child, Claimed, Owners, Refused};
use crate::mem::pool::{Missing, Pool, UNSEALED};
use crate::mem::space::{MapFailed, Memory, Space, Wish};
use crate::vp::Vp;
use core::sync::atomic::{AtomicU32, Ordering};
use hvabi::call::{map_flags, Status, DEPOSIT_PAGES, LIST_ITEMS, UNMAP_PAGES};
use hvabi::{APIC_GPA, MAX_PARTITIONS, MAX_VPS};

/// A hypercall that failed: the status for RAX and the value for RDX.
pub type Answer<T> = Result<T, (Status, u64)>;

/// Pages that hvcore's own pool must keep: to split tables of the root for what comes back to it.
const CORE_RESERVE: usize = 16;

/// Pages of memory that one call of PartitionDestroy unmaps.
const DESTROY_PAGES: u64 = 32 << 10;

/// A child partition.
pub struct Partition {
    pub space: Space,
    pub vps: [Option<Counted<Vp>>; MAX_VPS],
    /// All APIC IDs are below it.
    pub vp_count: u32,
    /// Destroyed: its pages are on their way back.
    dying: bool,
    /// Something happened in it that cannot be; it is only good for being destroyed.
    pub stopped: bool,
    /// The VPs' TSC less the LP's, as the root set it last.
    pub tsc_offset: u64,
}

/// Locked before [`machine::MEMORY`].
static PARTITIONS: [SpinLock<Option<Partition>>; MAX_PARTITIONS] =
    [const { SpinLock::new(None) }; MAX_PARTITIONS];

/// A locked partition that exists.
pub struct Locked(Guard<'static, Option<Partition>>);

impl core::ops::Deref for Locked {
    type Target = Partition;

    fn deref(&self) -> &Partition {
        match self.0.as_ref() {
            Some(partition) => partition,
            None => unreachable!("a locked partition exists"),
        }
    }
}

impl core::ops::DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Partition {
        match self.0.as_mut() {
            Some(partition) => partition,
            None => unreachable!("a locked partition exists"),
        }
    }
}

fn slot(number: u64) -> Answer<(Child, &'static SpinLock<Option<Partition>>)> {
    let child = Child::new(number).ok_or((Status::NoPartition, 0))?;
    let slot = PARTITIONS.get(child.index()).ok_or((Status::NoPartition, 0))?;
    Ok((child, slot))
}

/// Locks a partition, also one that was destroyed.
fn lock_any(number: u64) -> Answer<Locked> {
    let guard = slot(number)?.1.lock();
    if guard.is_some() {
        Ok(Locked(guard))
    } else {
        Err((Status::NoPartition, 0))
    }
}

/// Locks a partition that lives.
pub fn lock(number: u64) -> Answer<Locked> {
    let partition = lock_any(number)?;
    if partition.dying || partition.stopped {
        Err((Status::Dead, 0))
    } else {
        Ok(partition)
    }
}

/// True while any partition exists, destroyed ones with pages left included.
pub fn any() -> bool {
    PARTITIONS.iter().any(|slot| slot.lock().is_some())
}

/// LPs that left VMX operation, or are about to.
static LEFT: AtomicU32 = AtomicU32::new(0);

/// An LP leaves VMX operation, for which there must be no partition: and from now on there is none,
/// since nothing keeps that LP from what belongs to others.
pub fn no_more() -> Answer<()> {
    LEFT.fetch_add(1, Ordering::SeqCst);
    if any() {
        LEFT.fetch_sub(1, Ordering::SeqCst);
        return Err((Status::Busy, 0));
    }
    Ok(())
}

/// Whether an LP may follow others that left.
pub fn no_more_either() -> bool {
    LEFT.load(Ordering::SeqCst) != 0 && no_more().is_ok()
}

/// Makes pages free that no LP can reach any more.
fn settle(pool: &mut Pool) {
    if pool.retired() > 0 {
        pool.settle(machine::everyone_saw());
    }
}

/// Makes sure that `n` pages can be taken.
pub fn need(pool: &mut Pool, n: usize) -> Answer<()> {
    settle(pool);
    match pool.reserve(n) {
        Ok(()) => Ok(()),
        Err(_) if pool.retired() > 0 => Err((Status::NeedSync, 0)),
        Err(Missing(missing)) => Err((Status::NoMemory, missing as u64)),
    }
}

/// Runs `work` with the memory that all share.
pub fn with_memory<T>(work: impl FnOnce(&mut Memory) -> Answer<T>) -> Answer<T> {
    match machine::MEMORY.lock().as_mut() {
        Some(memory) => {
            inject!(crate::arch::lp::Lp::on_this_stack().0, Locked);
            settle(&mut memory.pool);
            work(memory)
        }
        None => Err((Status::CoreDead, 0)),
    }
}

/// A refusal of the ownership rule as a status.
pub fn refused(refused: Refused) -> Status {
    match refused {
        Refused::NoMemory(_) => Status::CoreLow,
        _ => Status::NotOwner,
    }
}

/// The page at `spa`, if the root may use it.
pub fn list(owners: &Owners, spa: u64) -> Answer<Hostile> {
    let page = owners.page(spa).ok_or((Status::BadArgument, 0))?;
    owners.peek(page).map_err(|_| (Status::BadArgument, 0))?;
    Ok(Hostile::owned_by_root(page.spa().raw()))
}

/// A number of list items.
fn list_count(count: u64, most: usize) -> Answer<usize> {
    usize::try_from(count)
        .ok()
        .filter(|count| (1..=most).contains(count))
        .ok_or((Status::BadArgument, 0))
}

/// [`Call::PartitionCreate`](hvabi::call::Call::PartitionCreate).
pub fn create() -> Answer<u64> {
    for number in 1..=MAX_PARTITIONS as u64 {
        let (child, slot) = slot(number)?;
        let mut slot = slot.lock();
        // Looked at under the lock, which `any` takes after it was counted.
        if LEFT.load(Ordering::SeqCst) != 0 {
            return Err((Status::Busy, 0));
        }
        if slot.is_none() {
            *slot = Some(Partition {
                space: Space::new(child),
                vps: [const { None }; MAX_VPS],
                vp_count: 0,
                dying: false,
                stopped: false,
                tsc_offset: crate::arch::insn::rdtsc().wrapping_neg(),
            });
            return Ok(number);
        }
    }
    Err((Status::TooMany, 0))
}

/// [`Call::PoolInfo`](hvabi::call::Call::PoolInfo).
pub fn pool_info(number: u64, waiting: &mut u64) -> Answer<u64> {
    if number == 0 {
        return with_memory(|memory| {
            *waiting = memory.pool.retired() as u64;
            Ok(memory.pool.len() as u64)
        });
    }
    let partition = lock_any(number)?;
    *waiting = partition.space.pool.retired() as u64;
    Ok(partition.space.pool.len() as u64)
}

/// [`Call::Deposit`](hvabi::call::Call::Deposit).
pub fn deposit(number: u64, list_spa: u64, count: u64) -> Answer<u64> {
    let count = list_count(count, DEPOSIT_PAGES)?;
    let mut partition = if number == 0 { None } else { Some(lock_any(number)?) };
    with_memory(|memory| {
        if partition.is_some() && memory.pool.len() < CORE_RESERVE {
            return Err((Status::CoreLow, 0));
        }
        let pool = partition.as_mut().map_or(&mut memory.pool, |p| &mut p.space.pool);
        settle(pool);
        if pool.room() < count {
            return Err((Status::NeedSync, 0));
        }
        let claims = claim(memory, list_spa, count)?;
        // After the last change, so that who has seen this epoch has seen them all.
        let epoch = machine::new_epoch();
        let pool = partition.as_mut().map_or(&mut memory.pool, |p| &mut p.space.pool);
        pool.admit(claims.into_iter().flatten(), epoch);
        Ok(count as u64)
    })
}

/// Takes pages from the root and hides them from it. On an error, what was taken goes back.
fn claim(
    memory: &mut Memory,
    list_spa: u64,
    count: usize,
) -> Answer<[Option<Claimed>; DEPOSIT_PAGES]> {
    let list = list(&memory.owners, list_spa)?;
    let mut claims = [const { None }; DEPOSIT_PAGES];
    for index in 0..count {
        match memory.claim(list.read(index * 8)) {
            Ok(claim) => claims[index] = Some(claim),
            Err(error) => {
                for claim in claims.into_iter().flatten() {
                    memory.cancel(claim);
                }
                memory.pool.seal(machine::new_epoch());
                return Err((refused(error), index as u64));
            }
        }
    }
    Ok(claims)
}

/// [`Call::Withdraw`](hvabi::call::Call::Withdraw).
pub fn withdraw(number: u64, list_spa: u64, count: u64) -> Answer<u64> {
    let count = list_count(count, LIST_ITEMS)?;
    if number == 0 {
        // hvcore keeps its own pool until it is unloaded.
        return Err((Status::BadArgument, 0));
    }
    let (_, slot) = slot(number)?;
    let mut guard = slot.lock();
    let partition = guard.as_mut().ok_or((Status::NoPartition, 0))?;
    let pool = &mut partition.space.pool;
    settle(pool);
    let given = with_memory(|memory| {
        let list = list(&memory.owners, list_spa)?;
        let mut given = 0;
        while given < count {
            let Some(frame) = pool.pop() else {
                break;
            };
            list.write(given * 8, memory.release(frame).raw());
            given += 1;
        }
        memory.pool.seal(machine::new_epoch());
        Ok(given as u64)
    })?;
    if given == 0 && pool.retired() > 0 {
        return Err((Status::NeedSync, 0));
    }
    // Where an address space is left, more comes back when that is destroyed.
    if given == 0 && partition.dying && partition.space.eptp() == 0 {
        *guard = None;
    }
    Ok(given)
}

/// [`Call::PartitionDestroy`](hvabi::call::Call::PartitionDestroy).
pub fn destroy(number: u64) -> Answer<u64> {
    let mut partition = lock_any(number)?;
    if partition.runs() {
        return Err((Status::Busy, 0));
    }
    if !partition.space.may_run(machine::everyone_saw) {
        return Err((Status::NeedSync, 0));
    }
    partition.dying = true;
    let Partition { space, vps, .. } = &mut *partition;
    with_memory(|memory| {
        for slot in vps {
            match slot.take().map(Counted::take) {
                Some(Ok((vp, place))) => {
                    let run = vp.dismantle(&mut space.pool, UNSEALED);
                    space.pool.retire(place, UNSEALED);
                    memory.owners.close(run, space.child(), &mut memory.pool);
                }
                Some(Err(held)) => *slot = Some(held),
                None => {}
            }
        }
        let done = space.close(memory, DESTROY_PAGES);
        space.seal(machine::new_epoch());
        Ok(u64::from(!done))
    })
}

impl Partition {
    /// Makes the address space when it is first needed.
    fn open(&mut self) -> Answer<()> {
        if self.space.eptp() != 0 {
            return Ok(());
        }
        need(&mut self.space.pool, 4)?;
        let failed = |Missing(n)| (Status::NoMemory, n as u64);
        self.space.open(machine::ept_caps(&machine::config().caps)).map_err(failed)?;
        self.show_apic(APIC_GPA)
    }

    /// Maps the page of local APICs at `gpa`. It is not seen where memory is mapped, nor if the
    /// pool has no pages for tables.
    pub fn show_apic(&mut self, gpa: u64) -> Answer<()> {
        let gpa = Gpa::new(gpa).ok_or((Status::BadArgument, 0))?;
        with_memory(|memory| {
            let _ = self.space.show_apic(gpa, memory);
            Ok(())
        })
    }

    /// The TSC offset for a VP that the root wants to have this one. Within a second of the one
    /// that was set last, it is that: who writes one value to all VPs cannot do so at one time.
    pub fn agree_on_tsc(&mut self, offset: u64) -> u64 {
        let second = machine::config().clock.tsc_khz() * 1000;
        if (offset.wrapping_sub(self.tsc_offset) as i64).unsigned_abs() >= second {
            self.tsc_offset = offset;
        }
        self.tsc_offset
    }

    /// The EPT pointer.
    pub fn eptp(&mut self) -> Answer<u64> {
        self.open()?;
        Ok(self.space.eptp())
    }

    /// Whether a VP runs, or is about to.
    fn runs(&self) -> bool {
        self.vps.iter().flatten().any(|vp| !vp.is_only_holder())
    }

    /// [`Call::GpaMap`](hvabi::call::Call::GpaMap). `second` is the number of items mapped, also
    /// when it failed.
    pub fn map(
        &mut self,
        gpa: u64,
        list_spa: u64,
        count: u64,
        flags: u64,
        second: &mut u64,
    ) -> Answer<u64> {
        const BAD: (Status, u64) = (Status::BadArgument, 0);
        let count = list_count(count, LIST_ITEMS)?;
        let known = map_flags::WRITE | map_flags::EXECUTE | map_flags::LARGE | map_flags::PRIVATE;
        let flag = |flag: u64| flags & flag != 0;
        let size = if flag(map_flags::LARGE) { Size::M2 } else { Size::K4 };
        let private = flag(map_flags::PRIVATE);
        let pages = count as u64 * size.pages();
        let range = GpaRange::new(gpa, pages).ok_or(BAD)?;
        if flags & !known != 0 || !size.aligns(gpa) || private && pages > LIST_ITEMS as u64 {
            return Err(BAD);
        }
        if private && self.runs() {
            return Err((Status::Busy, 0));
        }
        self.open()?;
        let (write, execute) = (flag(map_flags::WRITE), flag(map_flags::EXECUTE));
        let access = Access { read: true, write, execute };
        let gpa = Gpa::new(range.start()).ok_or(BAD)?;
        let wish = Wish { gpa, size, count, access, private };
        let mut done = 0;
        let mapped = with_memory(|memory| {
            settle(&mut self.space.pool);
            let list = list(&memory.owners, list_spa)?;
            let mapped = self.space.map(memory, &wish, &mut done, |index| list.read(index * 8));
            if private {
                let epoch = machine::new_epoch();
                self.space.seal(epoch);
                memory.pool.seal(epoch);
            }
            mapped.map_err(|failed| map_failed(failed, &self.space.pool))
        });
        *second = done as u64;
        mapped.map(|()| count as u64)
    }

    /// [`Call::GpaUnmap`](hvabi::call::Call::GpaUnmap).
    pub fn unmap(&mut self, gpa: u64, count: u64) -> Answer<u64> {
        let range = GpaRange::new(gpa, count).filter(|_| count <= UNMAP_PAGES);
        let range = range.filter(|range| range.start() > APIC_GPA || APIC_GPA >= range.end());
        let range = range.ok_or((Status::BadArgument, 0))?;
        settle(&mut self.space.pool);
        with_memory(|memory| {
            if self.space.has_private(memory, range) {
                if self.runs() {
                    return Err((Status::Busy, 0));
                }
                if !self.space.may_run(machine::everyone_saw) {
                    return Err((Status::NeedSync, 0));
                }
            }
            let unmapped = self.space.unmap(memory, range);
            self.space.seal(machine::new_epoch());
            unmapped.map_err(|failed| map_failed(failed, &self.space.pool))?;
            Ok(0)
        })
    }
}

/// Why a child's tables could not be changed, as a status.
fn map_failed(failed: MapFailed, pool: &Pool) -> (Status, u64) {
    match failed {
        MapFailed::Refused(error) => (refused(error), 0),
        MapFailed::Map(MapError::NoMemory(_)) if pool.retired() > 0 => (Status::NeedSync, 0),
        MapFailed::Map(MapError::NoMemory(Missing(n))) => (Status::NoMemory, n as u64),
        MapFailed::Map(MapError::Exists) => (Status::Exists, 0),
        MapFailed::Map(MapError::Invalid) => (Status::BadArgument, 0),
    }
}
