// SPDX-License-Identifier: GPL-2.0

//! Child partitions: their memory, and their VPs.

use crate::arch::counted::Counted;
use crate::arch::lock::{Guard, SpinLock};
use crate::arch::root_memory::Hostile;
use crate::machine::{self, Memory};
use crate::mem::addr::{Gpa, GpaRange, Page, Size, Spa};
use crate::mem::ept::{Access, Ept, EptCaps, Leaf, MapError};
use crate::mem::frame::Frame;
use crate::mem::mtrr::MemType;
use crate::mem::owner::{Child, Claimed, Owners, Refused};
use crate::mem::pool::{Missing, Pool, UNSEALED};
use crate::vp::Vp;
use hvabi::call::{map_flags, Status, LIST_ITEMS, UNMAP_PAGES};
use hvabi::{MAX_PARTITIONS, MAX_VPS};

/// A hypercall that failed: the status for RAX and the value for RDX.
pub type Answer<T> = Result<T, (Status, u64)>;

/// Where every child sees the registers of its local APIC.
pub const APIC_GPA: u64 = 0xfee0_0000;

/// Pages that hvcore's own pool must keep: to split tables of the root for what comes back to it.
const CORE_RESERVE: usize = 16;

/// A child partition.
pub struct Partition {
    pub child: Child,
    pub pool: Pool,
    ept: Option<Ept>,
    pub vps: [Option<Counted<Vp>>; MAX_VPS],
    pub vp_count: u32,
    /// Destroyed: its pages are on their way back.
    dying: bool,
    /// The children's TSC less the LP's.
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
    if partition.dying {
        Err((Status::Dead, 0))
    } else {
        Ok(partition)
    }
}

/// True while any partition exists, destroyed ones with pages left included.
pub fn any() -> bool {
    PARTITIONS.iter().any(|slot| slot.lock().is_some())
}

/// Makes sure that `n` pages can be taken.
pub fn need(pool: &mut Pool, n: usize) -> Answer<()> {
    pool.settle(machine::everyone_saw());
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
            memory.pool.settle(machine::everyone_saw());
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

/// Item `index` of the list page at `spa`, read once.
fn list_item(owners: &Owners, spa: u64, index: usize) -> Answer<u64> {
    Ok(list(owners, spa)?.read(index * 8))
}

/// The page at `spa`, if the root may use it.
pub fn list(owners: &Owners, spa: u64) -> Answer<Hostile> {
    let page = owners.page(spa).ok_or((Status::BadArgument, 0))?;
    owners.peek(page).map_err(|_| (Status::BadArgument, 0))?;
    Ok(Hostile::owned_by_root(page.spa().raw()))
}

/// A number of list items.
fn list_count(count: u64) -> Answer<usize> {
    usize::try_from(count)
        .ok()
        .filter(|count| (1..=LIST_ITEMS).contains(count))
        .ok_or((Status::BadArgument, 0))
}

/// [`Call::PartitionCreate`](hvabi::call::Call::PartitionCreate).
pub fn create() -> Answer<u64> {
    for number in 1..=MAX_PARTITIONS as u64 {
        let (child, slot) = slot(number)?;
        let mut slot = slot.lock();
        if slot.is_none() {
            *slot = Some(Partition {
                child,
                pool: Pool::new(),
                ept: None,
                vps: [const { None }; MAX_VPS],
                vp_count: 0,
                dying: false,
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
    *waiting = partition.pool.retired() as u64;
    Ok(partition.pool.len() as u64)
}

/// [`Call::Deposit`](hvabi::call::Call::Deposit).
pub fn deposit(number: u64, list_spa: u64, count: u64) -> Answer<u64> {
    let count = list_count(count)?;
    if number == 0 {
        return with_memory(|memory| {
            let mut gained = Pool::new();
            let answer = claim(memory, &mut gained, list_spa, count);
            memory.pool.absorb(gained);
            answer
        });
    }
    let mut partition = lock_any(number)?;
    with_memory(|memory| {
        if memory.pool.len() < CORE_RESERVE {
            return Err((Status::CoreLow, 0));
        }
        claim(memory, &mut partition.pool, list_spa, count)
    })
}

/// Takes pages from the root and hides them from it. On an error, what was taken goes back.
fn claim(memory: &mut Memory, pool: &mut Pool, list_spa: u64, count: usize) -> Answer<u64> {
    let mut taken = [const { None }; LIST_ITEMS];
    let mut failed = None;
    for (index, slot) in taken.iter_mut().enumerate().take(count) {
        match claim_one(memory, list_spa, index) {
            Ok(claimed) => *slot = Some(claimed),
            Err(status) => {
                failed = Some((status, index as u64));
                break;
            }
        }
    }
    // After the last change, so that who has seen this epoch has seen them all.
    let epoch = machine::new_epoch();
    for claimed in taken.into_iter().flatten() {
        if failed.is_none() {
            pool.admit(claimed, epoch);
        } else {
            show_again(memory, claimed.page());
            memory.owners.cancel(claimed, &mut memory.pool);
        }
    }
    if failed.is_some() {
        memory.pool.seal(machine::new_epoch());
    }
    failed.map_or(Ok(count as u64), Err)
}

/// The root sees its page again. The caller seals the pool.
fn show_again(memory: &mut Memory, page: Page) {
    let mtrrs = &machine::config().mtrrs;
    let shown = Gpa::new(page.spa().raw())
        .map(|gpa| memory.ept.restore(gpa, mtrrs, &mut memory.pool, UNSEALED));
    // The page had an entry of its own, so no table has to be made.
    if shown != Some(Ok(())) {
        panic!("no entry of the root for {:#x}", page.spa().raw());
    }
}

fn claim_one(memory: &mut Memory, list_spa: u64, index: usize) -> Result<Claimed, Status> {
    let spa = list_item(&memory.owners, list_spa, index).map_err(|(status, _)| status)?;
    let page = memory.owners.page(spa).ok_or(Status::NotOwner)?;
    let gpa = Gpa::new(spa).ok_or(Status::BadArgument)?;
    let claimed = memory.owners.claim(page, &mut memory.pool).map_err(refused)?;
    let hidden =
        memory.ept.replace(gpa, memory.blank, Access::READ, MemType::WriteBack, &mut memory.pool);
    if hidden.is_err() {
        memory.owners.cancel(claimed, &mut memory.pool);
        return Err(Status::CoreLow);
    }
    Ok(claimed)
}

/// Returns a page to the root, cleared. The caller seals the pool.
fn give_back(memory: &mut Memory, frame: Frame) -> u64 {
    let page = memory.owners.release(frame, &mut memory.pool);
    show_again(memory, page);
    page.spa().raw()
}

/// [`Call::Withdraw`](hvabi::call::Call::Withdraw).
pub fn withdraw(number: u64, list_spa: u64, count: u64) -> Answer<u64> {
    let count = list_count(count)?;
    if number == 0 {
        // hvcore keeps its own pool until it is unloaded.
        return Err((Status::BadArgument, 0));
    }
    let (_, slot) = slot(number)?;
    let mut guard = slot.lock();
    let partition = guard.as_mut().ok_or((Status::NoPartition, 0))?;
    let settled = partition.pool.settle(machine::everyone_saw());
    let given = with_memory(|memory| {
        let list = list(&memory.owners, list_spa)?;
        let mut given = 0;
        while given < count {
            let Some(frame) = partition.pool.pop() else {
                break;
            };
            let spa = give_back(memory, frame);
            list.write(given * 8, spa);
            given += 1;
        }
        memory.pool.seal(machine::new_epoch());
        Ok(given as u64)
    })?;
    if given == 0 && !settled {
        return Err((Status::NeedSync, 0));
    }
    if given == 0 && partition.dying {
        *guard = None;
    }
    Ok(given)
}

/// [`Call::PartitionDestroy`](hvabi::call::Call::PartitionDestroy).
pub fn destroy(number: u64) -> Answer<u64> {
    let mut partition = lock_any(number)?;
    if partition.vps.iter().flatten().any(|vp| !vp.is_only_holder()) {
        return Err((Status::Busy, 0));
    }
    partition.dying = true;
    let Partition { child, pool, ept, vps, .. } = &mut *partition;
    for slot in vps {
        if let Some(vp) = slot.take() {
            match vp.take() {
                Ok((vp, place)) => {
                    let run = vp.dismantle(pool, UNSEALED);
                    pool.retire(place, UNSEALED);
                    with_memory(|memory| {
                        memory.owners.close(run, *child, &mut memory.pool);
                        Ok(())
                    })?;
                }
                Err(held) => *slot = Some(held),
            }
        }
    }
    if let Some(ept) = ept.take() {
        with_memory(|memory| {
            let Memory { owners, pool: core_pool, .. } = memory;
            ept.free_all(pool, UNSEALED, |leaf| unshare(owners, leaf, *child, core_pool));
            Ok(())
        })?;
    }
    pool.seal(machine::new_epoch());
    Ok(0)
}

/// The child no longer maps a page that the root shared with it.
fn unshare(owners: &mut Owners, leaf: Leaf, child: Child, core_pool: &mut Pool) {
    if leaf.gpa == APIC_GPA {
        return;
    }
    let done = match leaf.size {
        Size::M2 => match owners.large_page(leaf.spa) {
            Some(page) => owners.unshare_large(page, child, core_pool),
            None => Err(Refused::NotRam),
        },
        _ => match owners.page(leaf.spa) {
            Some(page) => owners.unshare(page, child, core_pool),
            None => Err(Refused::NotRam),
        },
    };
    if done.is_err() {
        panic!("page {:#x} of partition {} was not shared", leaf.spa, child.number());
    }
}

impl Partition {
    /// The partition's address space, made when it is first needed.
    fn ept(&mut self) -> Answer<&mut Ept> {
        if self.ept.is_none() {
            need(&mut self.pool, 4)?;
            let root = self.pool.pop().ok_or((Status::NoMemory, 1))?;
            let one_gib = machine::config().caps.ept_1gib();
            let mut ept = Ept::new(root, EptCaps { one_gib, two_mib: true, access_dirty: false });
            if let (Some(gpa), Some(spa)) =
                (Gpa::new(APIC_GPA), Spa::new(machine::config().apic_access))
            {
                let access = Access { write: true, execute: false };
                let mapped =
                    ept.map(gpa, spa, Size::K4, access, MemType::WriteBack, &mut self.pool);
                debug_assert!(mapped.is_ok());
            }
            self.ept = Some(ept);
        }
        self.ept.as_mut().ok_or((Status::NoMemory, 1))
    }

    /// Where the child's page at `gpa` lies.
    pub fn translate(&self, gpa: u64) -> Option<u64> {
        let gpa = Gpa::new(gpa)?;
        Some(self.ept.as_ref()?.lookup(gpa)?.translate(gpa))
    }

    /// The EPT pointer.
    pub fn eptp(&mut self) -> Answer<u64> {
        Ok(self.ept()?.eptp())
    }

    /// [`Call::GpaMap`](hvabi::call::Call::GpaMap). `done` is the number of items mapped, also
    /// when it failed.
    pub fn map(
        &mut self,
        gpa: u64,
        list_spa: u64,
        count: u64,
        flags: u64,
        done: &mut u64,
    ) -> Answer<u64> {
        let count = list_count(count)?;
        let known = map_flags::WRITE | map_flags::EXECUTE | map_flags::LARGE;
        if flags & !known != 0 {
            return Err((Status::BadArgument, 0));
        }
        let access = Access {
            write: flags & map_flags::WRITE != 0,
            execute: flags & map_flags::EXECUTE != 0,
        };
        let size = if flags & map_flags::LARGE != 0 { Size::M2 } else { Size::K4 };
        let pages = count as u64 * size.pages();
        GpaRange::new(gpa, pages).ok_or((Status::BadArgument, 0))?;
        if !size.aligns(gpa) {
            return Err((Status::BadArgument, 0));
        }
        self.ept()?;
        for index in 0..count {
            let at = gpa + index as u64 * size.bytes();
            with_memory(|memory| self.map_one(memory, at, list_spa, index, size, access))?;
            *done += 1;
        }
        Ok(count as u64)
    }

    fn map_one(
        &mut self,
        memory: &mut Memory,
        at: u64,
        list_spa: u64,
        index: usize,
        size: Size,
        access: Access,
    ) -> Answer<()> {
        let gpa = Gpa::new(at).ok_or((Status::BadArgument, 0))?;
        let spa = list_item(&memory.owners, list_spa, index)?;
        let Self { ept, pool, child, .. } = self;
        let ept = ept.as_mut().ok_or((Status::NoMemory, 4))?;
        let tables = ept.tables_needed(gpa, size).map_err(|_| (Status::Exists, 0))?;
        need(pool, tables)?;
        let core_pool = &mut memory.pool;
        let share = |owners: &mut Owners, core_pool: &mut Pool| match size {
            Size::M2 => {
                let page = owners.large_page(spa).ok_or(Refused::NotRam)?;
                owners.share_large(page, *child, core_pool)?;
                Ok(page.page())
            }
            _ => {
                let page = owners.page(spa).ok_or(Refused::NotRam)?;
                owners.share(page, *child, core_pool)?;
                Ok(page)
            }
        };
        let page = share(&mut memory.owners, core_pool).map_err(|r| (refused(r), 0))?;
        match ept.map(gpa, page.spa(), size, access, MemType::WriteBack, pool) {
            Ok(()) => Ok(()),
            Err(error) => {
                let leaf = Leaf { gpa: at, spa, size, access, kind: MemType::WriteBack };
                unshare(&mut memory.owners, leaf, *child, core_pool);
                Err(match error {
                    MapError::NoMemory(Missing(n)) => (Status::NoMemory, n as u64),
                    MapError::Exists => (Status::Exists, 0),
                    MapError::Invalid => (Status::BadArgument, 0),
                })
            }
        }
    }

    /// [`Call::GpaUnmap`](hvabi::call::Call::GpaUnmap).
    pub fn unmap(&mut self, gpa: u64, count: u64) -> Answer<u64> {
        if count > UNMAP_PAGES {
            return Err((Status::BadArgument, 0));
        }
        let range = GpaRange::new(gpa, count).ok_or((Status::BadArgument, 0))?;
        if range.start() <= APIC_GPA && APIC_GPA < range.end() {
            return Err((Status::BadArgument, 0));
        }
        let Self { ept, pool, child, .. } = self;
        let Some(ept) = ept.as_mut() else {
            return Ok(0);
        };
        pool.settle(machine::everyone_saw());
        with_memory(|memory| {
            let Memory { owners, pool: core_pool, .. } = memory;
            // A large page that reaches over an end is split: its parts are then unshared alone.
            for edge in [range.start(), range.end()] {
                if let Some(leaf) = Gpa::new(edge).and_then(|gpa| ept.lookup(gpa)) {
                    if leaf.size == Size::M2 && leaf.gpa != edge {
                        let page = owners.page(leaf.spa).ok_or((Status::NotOwner, 0))?;
                        owners.split(page, core_pool).map_err(|r| (refused(r), 0))?;
                    }
                }
            }
            ept.unmap(range, pool, UNSEALED, |leaf| unshare(owners, leaf, *child, core_pool))
                .map_err(|Missing(n)| (Status::NoMemory, n as u64))?;
            pool.seal(machine::new_epoch());
            Ok(0)
        })
    }
}
