// SPDX-License-Identifier: GPL-2.0

//! Who sees what: the address spaces of the root and of children, in step with the owners.
//!
//! All that changes a translation is here. Each operation asks the owners first, and leaves the
//! tables and the owners' records as they were if it fails.

use core::ops::Range;

use super::addr::{Gpa, GpaRange, Size, Spa, PAGE_SIZE};
use super::ept::{Access, Ept, EptCaps, Leaf, MapError};
use super::frame::{Frame, PageBox};
use super::mtrr::{MemType, MtrrState};
use super::owner::{Child, Claimed, Grant, Owner, Owners, Refused, Returned};
use super::pool::{Missing, Pool, UNSEALED};

/// What the root's address space is made from at launch.
pub struct Setup {
    pub caps: EptCaps,
    /// Width of physical addresses, without those bits of it that name a key: with another key the
    /// root would reach the same memory under another address.
    pub phys_bits: u32,
    pub ram_end: u64,
    /// hvcore's pages, and those of them that the root may read.
    pub block: Range<u64>,
    pub public: Range<u64>,
}

/// Why it could not be made: the pool is too small, or the block is not where RAM is.
#[derive(Clone, Copy, Debug)]
pub struct NoRoom;

macro_rules! no_room {
    ($($error:ty),*) => { $(
        impl From<$error> for NoRoom {
            fn from(_: $error) -> Self {
                Self
            }
        }
    )* };
}
no_room!(Missing, MapError, Refused);

/// Memory that does not belong to a partition alone.
pub struct Memory {
    /// Pages for the root's EPT and the owners, and for what hvcore needs itself.
    pub pool: Pool,
    pub owners: Owners,
    /// The root's address space, and where it ends.
    ept: Ept,
    end: u64,
    /// What the root sees in place of a page that it may not: zeros, read-only, and with an exit
    /// at the first look, to count it.
    blank: Spa,
    /// Hidden pages that were looked at, and are read without an exit until
    /// [`look_away`](Memory::look_away).
    seen: [Option<Gpa>; SEEN_MAX],
    /// The page behind the virtualized local APICs, which all children map.
    apic: Frame,
}

/// No instruction reads more pages.
const SEEN_MAX: usize = 32;

/// What comes of an EPT violation of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It can try again.
    Again,
    /// It can try again, and will read zeros in place of a page that is not its.
    Hidden,
    /// It may not.
    Denied,
}

impl Memory {
    /// All of RAM and the devices below 4 GiB for the root, without the block.
    pub fn new(setup: &Setup, mtrrs: &MtrrState, mut pool: Pool) -> Result<Memory, NoRoom> {
        const BELOW_4GIB: u64 = 1 << 32;
        let mut page = || pool.pop().ok_or(NoRoom);
        let (root, blank, mut apic) = (page()?, page()?, page()?);
        apic.zero();
        let blank = PageBox::<u64>::zeroed(blank).spa();
        let mut ept = Ept::new(root, setup.caps);
        // What lies above is mapped when it is first used.
        let ram_end = setup.ram_end.max(BELOW_4GIB).next_multiple_of(1 << 30);
        let zero = Gpa::new(0).ok_or(NoRoom)?;
        let end = 1 << setup.phys_bits.min(48);
        ept.map_identity(zero, ram_end.min(end), mtrrs, &mut pool)?;
        let mut owners = Owners::new(setup.ram_end, mtrrs, &mut pool)?;
        for spa in setup.block.clone().step_by(PAGE_SIZE as usize) {
            let page = owners.page(spa).ok_or(NoRoom)?;
            let claim = owners.claim(page, &mut pool)?;
            // Its tokens were adopted before there were owners.
            if setup.public.contains(&spa) {
                ept.hide(&claim, page.spa(), &mut pool)?;
                ept.blink(Gpa::new(spa).ok_or(NoRoom)?, page.spa(), Access::READ, &mut pool);
            } else {
                ept.hide(&claim, blank, &mut pool)?;
            }
        }
        Ok(Memory { pool, owners, ept, end, blank, seen: [None; SEEN_MAX], apic })
    }

    /// The root's EPT pointer.
    pub fn eptp(&self) -> u64 {
        self.ept.eptp()
    }

    /// The page that local APICs are virtualized at.
    pub fn apic_spa(&self) -> Spa {
        self.apic.spa()
    }

    /// The root accessed `spa` and got an EPT violation. What lies above RAM is mapped when it is
    /// first used, as far as there is memory for tables: the root can look at more addresses than
    /// there are devices. A page that hvcore just gave back may still be cached as one that the
    /// root may not touch.
    pub fn retry(&mut self, spa: Gpa, needs: Access) -> Retry {
        match self.ept.lookup(spa).map(|leaf| leaf.access) {
            Some(Access::NONE) if !needs.write && !needs.execute => {
                self.look(spa);
                Retry::Hidden
            }
            Some(has) if needs.write && !has.write || needs.execute && !has.execute => {
                Retry::Denied
            }
            Some(_) => Retry::Again,
            None if spa.raw() >= self.end => Retry::Denied,
            None => match self.ept.map_identity_at(spa, self.owners.mtrrs(), &mut self.pool) {
                Ok(Some(_)) => Retry::Again,
                _ => Retry::Denied,
            },
        }
    }

    fn look(&mut self, spa: Gpa) {
        if self.seen.iter().all(Option::is_some) {
            self.look_away();
        }
        if let Some(slot) = self.seen.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(spa);
            self.ept.blink(spa, self.blank, Access::READ, &mut self.pool);
        }
    }

    /// The next looks at hidden pages exit again. True if there were any.
    pub fn look_away(&mut self) -> bool {
        let seen = core::mem::take(&mut self.seen);
        for spa in seen.into_iter().flatten() {
            self.ept.blink(spa, self.blank, Access::NONE, &mut self.pool);
        }
        seen[0].is_some()
    }

    /// Takes a page from the root, which sees the blank one from now on.
    pub fn claim(&mut self, spa: u64) -> Result<Claimed, Refused> {
        let page = self.owners.page(spa).ok_or(Refused::NotRam)?;
        let claim = self.owners.claim(page, &mut self.pool)?;
        match self.ept.hide(&claim, self.blank, &mut self.pool) {
            Ok(()) => Ok(claim),
            Err(missing) => {
                let _never_hidden = self.owners.cancel(claim, &mut self.pool);
                Err(missing.into())
            }
        }
    }

    /// Gives a page back as it is. The caller seals the pool.
    pub fn cancel(&mut self, claim: Claimed) {
        let back = self.owners.cancel(claim, &mut self.pool);
        self.show(back);
    }

    /// Gives a page to the root, cleared. The caller seals the pool.
    pub fn release(&mut self, frame: Frame) -> Spa {
        let back = self.owners.release(frame, &mut self.pool);
        self.show(back)
    }

    fn show(&mut self, back: Returned) -> Spa {
        let spa = back.page().spa();
        let kind = self.owners.mtrrs().uniform(spa.raw(), Size::K4);
        let kind = kind.unwrap_or(MemType::Uncacheable);
        // It was hidden, so that it has an entry of its own.
        if self.ept.show(back, kind, &mut self.pool, UNSEALED).is_err() {
            panic!("no entry of the root for {:#x}", spa.raw());
        }
        spa
    }

    /// Has `child` use what the root named.
    fn grant(
        &mut self,
        spa: u64,
        size: Size,
        private: bool,
        child: Child,
    ) -> Result<Grant, Refused> {
        let owners = &mut self.owners;
        let page = owners.page(spa).ok_or(Refused::NotRam)?;
        match size {
            Size::K4 if private => {
                let claim = self.claim(spa)?;
                Ok(self.owners.assign(claim, child, &mut self.pool))
            }
            Size::K4 => owners.share(page, child, &mut self.pool),
            _ => {
                let large = owners.large_page(spa).ok_or(Refused::NotRam)?;
                if !private {
                    return owners.share_large(large, child, &mut self.pool);
                }
                for (done, page) in large.pages().enumerate() {
                    match self.claim(page.spa().raw()) {
                        Ok(claim) => {
                            let _joined_below = self.owners.assign(claim, child, &mut self.pool);
                        }
                        Err(refused) => {
                            for page in large.pages().take(done) {
                                let claim = self.owners.reclaim(page, child, &mut self.pool)?;
                                self.cancel(claim);
                            }
                            return Err(refused);
                        }
                    }
                }
                self.owners.join(large, child)
            }
        }
    }

    /// `child` no longer maps the page. A private one goes to `pool`.
    fn revoke(&mut self, leaf: Leaf, child: Child, pool: &mut Pool) {
        if leaf.spa != self.apic.spa().raw() && self.try_revoke(leaf, child, pool).is_err() {
            panic!("page {:#x} of partition {} was not granted", leaf.spa, child.number());
        }
    }

    fn try_revoke(&mut self, leaf: Leaf, child: Child, pool: &mut Pool) -> Result<(), Refused> {
        let owners = &mut self.owners;
        let page = owners.page(leaf.spa).ok_or(Refused::NotRam)?;
        let large = || owners.large_page(leaf.spa).ok_or(Refused::NotRam);
        match (owners.owner(page), leaf.size) {
            (Owner::Child(_), Size::K4) => {
                pool.accept(owners.reclaim(page, child, &mut self.pool)?);
                Ok(())
            }
            (Owner::Child(_), _) => {
                for page in large()?.pages() {
                    pool.accept(self.owners.reclaim(page, child, &mut self.pool)?);
                }
                Ok(())
            }
            (_, Size::K4) => owners.unshare(page, child, &mut self.pool),
            _ => {
                let large = large()?;
                owners.unshare_large(large, child, &mut self.pool)
            }
        }
    }
}

#[cfg(not(hvcore_image))]
impl Memory {
    /// What the root reaches at the address of `page`.
    pub fn root_sees(&self, page: super::addr::Page) -> (u64, Access) {
        let leaf = Gpa::new(page.spa().raw()).and_then(|gpa| Some((gpa, self.ept.lookup(gpa)?)));
        leaf.map_or((0, Access::READ), |(gpa, leaf)| (leaf.translate(gpa), leaf.access))
    }

    /// The entry of its tables for `page`.
    pub fn root_entry(&self, page: super::addr::Page) -> u64 {
        Gpa::new(page.spa().raw()).map_or(0, |gpa| self.ept.entry(gpa))
    }
}

#[cfg(not(hvcore_image))]
impl Space {
    /// The entry of its tables for the child's page at `gpa`.
    pub fn entry(&self, gpa: u64) -> u64 {
        let ept = self.ept.as_ref();
        Gpa::new(gpa).and_then(|gpa| Some(ept?.entry(gpa))).unwrap_or(0)
    }
}

/// Why a child does not map what the root asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapFailed {
    /// The page, or hvcore's own pool, is not fit for it.
    Refused(Refused),
    /// The child's tables are not.
    Map(MapError),
}

impl From<Refused> for MapFailed {
    fn from(refused: Refused) -> MapFailed {
        MapFailed::Refused(refused)
    }
}

impl From<Missing> for MapFailed {
    fn from(missing: Missing) -> MapFailed {
        MapFailed::Map(missing.into())
    }
}

impl From<MapError> for MapFailed {
    fn from(error: MapError) -> MapFailed {
        MapFailed::Map(error)
    }
}

/// What a child is to map.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub gpa: Gpa,
    pub size: Size,
    pub count: usize,
    pub access: Access,
    /// The pages leave the root.
    pub private: bool,
}

/// The address space of a child, and the pages that it is made of.
pub struct Space {
    child: Child,
    pub pool: Pool,
    ept: Option<Ept>,
    /// LPs that have not passed this epoch may still see private memory of the child through
    /// translations of the root.
    since: u64,
}

impl Space {
    pub const fn new(child: Child) -> Space {
        Space { child, pool: Pool::empty(), ept: None, since: 0 }
    }

    pub fn child(&self) -> Child {
        self.child
    }

    /// Makes the address space, unless it is there. Takes one page.
    pub fn open(&mut self, caps: EptCaps) -> Result<&mut Ept, Missing> {
        if self.ept.is_none() {
            self.ept = Some(Ept::new(self.pool.pop().ok_or(Missing(1))?, caps));
        }
        self.ept.as_mut().ok_or(Missing(1))
    }

    /// The EPT pointer; 0 before it is [open](Space::open).
    pub fn eptp(&self) -> u64 {
        self.ept.as_ref().map_or(0, Ept::eptp)
    }

    /// Maps the page of local APICs at `gpa`.
    pub fn show_apic(&mut self, gpa: Gpa, memory: &Memory) -> Result<(), MapError> {
        let ept = self.ept.as_mut().ok_or(MapError::Invalid)?;
        let access = Access { read: true, write: true, execute: false };
        let lent = || Ok::<_, MapError>(Grant::lent(&memory.apic));
        ept.fill(gpa, Size::K4, access, &mut self.pool, &mut 1, lent)
    }

    /// Where the child's page at `gpa` lies.
    pub fn translate(&self, gpa: u64) -> Option<u64> {
        let gpa = Gpa::new(gpa)?;
        Some(self.ept.as_ref()?.lookup(gpa)?.translate(gpa))
    }

    /// Whether the child ever had private memory.
    pub fn is_private(&self) -> bool {
        self.since != 0
    }

    /// Whether private memory of the child lies in `range`.
    pub fn has_private(&self, memory: &Memory, range: GpaRange) -> bool {
        let Some(ept) = self.ept.as_ref().filter(|_| self.is_private()) else {
            return false;
        };
        let mut at = range.start();
        while let Some(gpa) = Gpa::new(at).filter(|gpa| gpa.raw() < range.end()) {
            let leaf = ept.lookup(gpa);
            let page = leaf.and_then(|leaf| memory.owners.page(leaf.spa));
            if page.is_some_and(|page| memory.owners.owner(page) == Owner::Child(self.child)) {
                return true;
            }
            at = leaf.map_or(at + PAGE_SIZE, |leaf| leaf.gpa + leaf.size.bytes());
        }
        false
    }

    /// Whether the child may run when every LP has passed `epoch`.
    pub fn may_run(&self, everyone_saw: impl FnOnce() -> u64) -> bool {
        self.since == 0 || everyone_saw() >= self.since
    }

    /// What was changed is complete: LPs have to pass `epoch`, which began afterwards.
    pub fn seal(&mut self, epoch: u64) {
        self.pool.seal(epoch);
        if self.since == UNSEALED {
            self.since = epoch;
        }
    }

    /// Maps pages of the root, whose addresses `spa` gives. `done` is the number of those that were
    /// mapped, also on an error. The caller seals, for private ones the memory's pool too; until
    /// then, and until all LPs have passed that epoch, the child must not run.
    pub fn map(
        &mut self,
        memory: &mut Memory,
        wish: &Wish,
        done: &mut usize,
        spa: impl Fn(usize) -> u64,
    ) -> Result<(), MapFailed> {
        let Wish { size, access, private, count, .. } = *wish;
        let ept = self.ept.as_mut().ok_or(MapError::NoMemory(Missing(1)))?;
        if private {
            self.since = UNSEALED;
        }
        while *done < count {
            let at = wish.gpa.add(*done as u64 * size.bytes()).ok_or(MapError::Invalid)?;
            let mut item = *done;
            let mut left = count - item;
            let filled = ept.fill(at, size, access, &mut self.pool, &mut left, || {
                let spa = spa(item);
                item += 1;
                Ok::<_, MapFailed>(memory.grant(spa, size, private, self.child)?)
            });
            *done = count - left;
            filled?;
        }
        Ok(())
    }

    /// Unmaps `range`. No VP of the child runs, if it has private memory there. The caller seals.
    pub fn unmap(&mut self, memory: &mut Memory, range: GpaRange) -> Result<(), MapFailed> {
        let Self { child, pool, ept, .. } = self;
        let Some(ept) = ept.as_mut() else {
            return Ok(());
        };
        // A large page that reaches over an end is split: its parts are then unshared alone.
        for edge in [range.start(), range.end()] {
            if let Some(leaf) = Gpa::new(edge).and_then(|gpa| ept.lookup(gpa)) {
                if leaf.size == Size::M2 && leaf.gpa != edge {
                    let page = memory.owners.page(leaf.spa).ok_or(Refused::NotRam)?;
                    memory.owners.split(page, &mut memory.pool)?;
                }
            }
        }
        let revoke = |leaf, pool: &mut Pool| memory.revoke(leaf, *child, pool);
        Ok(ept.unmap(range, pool, UNSEALED, revoke).map_err(MapError::from)?)
    }

    /// Unmaps everything, some `budget` pages at a time. True when nothing is left; then its pages are
    /// in the pool. No VP of the child runs. The caller seals.
    pub fn close(&mut self, memory: &mut Memory, budget: u64) -> bool {
        let Self { child, pool, ept, .. } = self;
        if let Some(ept) = ept.as_mut() {
            let revoke = |leaf, pool: &mut Pool| memory.revoke(leaf, *child, pool);
            if !ept.drain(budget, pool, UNSEALED, revoke) {
                return false;
            }
        }
        if let Some(ept) = ept.take() {
            ept.free(pool, UNSEALED);
        }
        true
    }
}
