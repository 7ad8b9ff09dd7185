// SPDX-License-Identifier: GPL-2.0

//! The ownership rule, on which the security of the whole system rests.
//!
//! Each page of RAM is owned by exactly one of: the root, hvcore, one child. A page of the root can
//! be shared with children (the root asks for it, each mapping is counted) and is then still the
//! root's, but can not change hands before the last mapping is gone. The transitions:
//!
//! ```text
//!          share, open                  claim                   assign
//! shared <=============> root  -------------------> hvcore ---------------> child
//!         unshare, close     <-------------------          <---------------
//!                             release (cleared), cancel        reclaim
//! ```
//!
//! There is no other way: a page never goes from a child to the root, or to another child, but
//! through hvcore, where its contents are cleared and every LP forgets its translations. What maps
//! a page for a child needs a [`Grant`], which only this module gives; what hides a page from the
//! root needs a [`Claimed`], what shows it again a [`Returned`].
//!
//! # Storage
//!
//! A tree: root, directories, top pages (one [`Region`] for each 2 MiB), and where the pages of a
//! region differ, a leaf with the state of each. An untouched machine costs 16 bytes for each
//! 2 MiB. Leaves are taken from, and return to, the pool that the caller passes. That must always
//! be the core's own: a partition's pool has to become empty when the partition is destroyed, but a
//! leaf may by then describe another one's pages too.

use core::sync::atomic::AtomicU64;

use super::addr::{Page, Size, Spa, PAGE_SIZE};
use super::frame::{root_words, zeroable, Frame, PageBox, RootPage, WORDS};
use super::mtrr::{MemType, MtrrState};
use super::pool::{Missing, Pool};

/// Number of a child partition. Having one proves that it is in `1..=MAX_PARTITIONS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Child(u8);

const _: () = assert!(hvabi::MAX_PARTITIONS < MANY as usize);

impl Child {
    pub const fn new(number: u64) -> Option<Child> {
        if number >= 1 && number <= hvabi::MAX_PARTITIONS as u64 {
            Some(Child(number as u8))
        } else {
            None
        }
    }

    pub const fn number(self) -> u64 {
        self.0 as u64
    }

    /// From 0.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }
}

/// Who owns a page, and who else may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The root alone.
    Root,
    /// The root; children map it `count` times. `with` is the child if it is only one.
    Shared {
        with: Option<Child>,
        count: u16,
    },
    Hypervisor,
    /// One child alone.
    Child(Child),
}

/// Why a transition did not happen. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not a page of RAM.
    NotRam,
    /// The page is in this state, which does not allow it.
    Owned(Owner),
    /// It is mapped as often as can be counted.
    TooOften,
    /// The core's pool lacks that many pages.
    NoMemory(Missing),
}

impl From<Missing> for Refused {
    fn from(missing: Missing) -> Refused {
        Refused::NoMemory(missing)
    }
}

/// State of a page: bits 0 to 1 kind, 8 to 15 child, 16 to 31 count. Zero: the root's alone.
type State = u32;

const PLAIN: State = 0;
const KIND: State = 3;
const KIND_ROOT: State = 0;
const KIND_HYPERVISOR: State = 1;
const KIND_CHILD: State = 2;
/// Child number of a page that more than one child maps.
const MANY: u8 = 0xff;

fn pack(owner: Owner) -> State {
    match owner {
        Owner::Root => PLAIN,
        Owner::Shared { with, count } => {
            KIND_ROOT | State::from(with.map_or(MANY, |c| c.0)) << 8 | State::from(count) << 16
        }
        Owner::Hypervisor => KIND_HYPERVISOR,
        Owner::Child(child) => KIND_CHILD | State::from(child.0) << 8,
    }
}

fn unpack(state: State) -> Owner {
    let child = (state >> 8) as u8;
    match (state & KIND, (state >> 16) as u16) {
        (KIND_ROOT, 0) => Owner::Root,
        (KIND_ROOT, count) => {
            Owner::Shared { with: (child != MANY).then_some(Child(child)), count }
        }
        (KIND_CHILD, _) => Owner::Child(Child(child)),
        _ => Owner::Hypervisor,
    }
}

/// One more mapping by `child`.
fn shared(state: State, child: Child) -> Result<State, Refused> {
    match unpack(state) {
        Owner::Root => Ok(pack(Owner::Shared { with: Some(child), count: 1 })),
        Owner::Shared { count: u16::MAX, .. } => Err(Refused::TooOften),
        Owner::Shared { with, count } => {
            let with = with.filter(|other| *other == child);
            Ok(pack(Owner::Shared { with, count: count + 1 }))
        }
        owner => Err(Refused::Owned(owner)),
    }
}

/// One mapping by `child` less.
fn unshared(state: State, child: Child) -> Result<State, Refused> {
    match unpack(state) {
        Owner::Shared { with, .. } if with.is_some_and(|other| other != child) => {
            Err(Refused::Owned(unpack(state)))
        }
        Owner::Shared { count: 1, .. } => Ok(PLAIN),
        Owner::Shared { with, count } => Ok(pack(Owner::Shared { with, count: count - 1 })),
        owner => Err(Refused::Owned(owner)),
    }
}

/// A page that just became hvcore's, but that LPs may still reach, and write, through old
/// translations. Once it is out of the EPT, [`Pool::admit`] takes it; a claim (not a reclaim) can
/// be taken back with [`Owners::cancel`].
#[derive(Debug)]
#[must_use = "the page is lost"]
pub struct Claimed(Page);

impl Claimed {
    pub fn page(&self) -> Page {
        self.0
    }
}

/// A page that is the root's again, which may see it.
#[derive(Debug)]
#[must_use = "the root does not see its page"]
pub struct Returned(Page);

impl Returned {
    pub fn page(&self) -> Page {
        self.0
    }
}

#[cfg(test)]
impl Returned {
    pub fn for_tests(page: Page) -> Returned {
        Returned(page)
    }
}

/// The right to map a page for a child: proves that the owner table counts this mapping.
#[derive(Debug)]
#[must_use = "the page stays shared"]
pub struct Grant {
    spa: Spa,
    size: Size,
}

impl Grant {
    pub fn spa(&self) -> Spa {
        self.spa
    }

    pub fn size(&self) -> Size {
        self.size
    }

    /// A page of hvcore that every child may use.
    pub fn lent(frame: &Frame) -> Grant {
        Grant { spa: frame.spa(), size: Size::K4 }
    }
}

zeroable! {
    /// State of each page of a region.
    struct Leaf {
        pages: [State; WORDS],
        /// Number of pages that are not the root's alone.
        special: u64,
    }
}

zeroable! {
    /// The pages of 2 MiB.
    struct Region {
        /// State of each of them, if there is no leaf.
        all: u64,
        leaf: Option<PageBox<Leaf>>,
    }
}

const _: () = assert!(size_of::<Region>() == 16);

/// Regions of a top page.
const REGIONS: usize = 4096 / size_of::<Region>();

type Top = [Region; REGIONS];
type Directory = [Option<PageBox<Top>>; WORDS];
type Root = [Option<PageBox<Directory>>; WORDS];

impl Region {
    fn get(&self, index: usize) -> State {
        match &self.leaf {
            Some(leaf) => leaf.pages[index % WORDS],
            None => self.all as State,
        }
    }

    /// Gives the region a leaf, unless it has one.
    fn split(&mut self, pool: &mut Pool) -> Result<&mut PageBox<Leaf>, Missing> {
        if self.leaf.is_none() {
            let mut leaf = PageBox::<Leaf>::zeroed(pool.pop().ok_or(Missing(1))?);
            leaf.pages.fill(self.all as State);
            leaf.special = if self.all == 0 { 0 } else { WORDS as u64 };
            self.leaf = Some(leaf);
        }
        self.leaf.as_mut().ok_or(Missing(1))
    }

    fn set(&mut self, index: usize, state: State, pool: &mut Pool) -> Result<(), Missing> {
        if self.get(index) == state {
            return Ok(());
        }
        let leaf = self.split(pool)?;
        let old = core::mem::replace(&mut leaf.pages[index % WORDS], state);
        leaf.special += u64::from(state != PLAIN);
        leaf.special -= u64::from(old != PLAIN);
        self.join(pool);
        Ok(())
    }

    /// Applies `step` to all pages, or to none if it refuses one. Needs no memory.
    fn change_all(
        &mut self,
        step: impl Fn(State) -> Result<State, Refused>,
        pool: &mut Pool,
    ) -> Result<(), Refused> {
        let Some(leaf) = &mut self.leaf else {
            self.all = u64::from(step(self.all as State)?);
            return Ok(());
        };
        for state in leaf.pages.iter() {
            step(*state)?;
        }
        for state in leaf.pages.iter_mut() {
            *state = step(*state)?;
        }
        leaf.special = leaf.pages.iter().filter(|state| **state != PLAIN).count() as u64;
        self.join(pool);
        Ok(())
    }

    /// Frees the leaf if all pages are the root's alone again, and only then: so a page that was
    /// shared or claimed by itself keeps its own entry, and to undo that never takes memory.
    fn join(&mut self, pool: &mut Pool) {
        if self.leaf.as_ref().is_some_and(|leaf| leaf.special == 0) {
            self.all = u64::from(PLAIN);
            if let Some(leaf) = self.leaf.take() {
                pool.push(leaf.into_frame());
            }
        }
    }
}

/// 2 MiB of RAM. Having one proves that all of it is what a [`Page`] is, and that it is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargePage(Page);

impl LargePage {
    pub fn page(self) -> Page {
        self.0
    }

    /// Its pages of 4 KiB.
    pub fn pages(self) -> impl Iterator<Item = Page> {
        let start = self.0.spa().raw();
        (0..Size::M2.pages()).filter_map(move |n| Page::proven(start + n * PAGE_SIZE))
    }
}

/// The owner of every page of RAM.
#[derive(Debug)]
pub struct Owners {
    root: PageBox<Root>,
    /// First address above RAM.
    end: u64,
    mtrrs: MtrrState,
}

/// Bytes that a top page, and a directory, stand for.
const TOP_SPAN: u64 = REGIONS as u64 * Size::M2.bytes();
const DIRECTORY_SPAN: u64 = WORDS as u64 * TOP_SPAN;

const _: () = assert!(hvabi::boot::DIRECT_SIZE <= WORDS as u64 * DIRECTORY_SPAN);

impl Owners {
    /// Pages that [`new`](Owners::new) takes.
    pub const fn pages_needed(ram_end: u64) -> usize {
        1 + ram_end.div_ceil(DIRECTORY_SPAN) as usize + ram_end.div_ceil(TOP_SPAN) as usize
    }

    /// A table in which all RAM below `ram_end` is the root's. What lies above the direct map is
    /// not taken for RAM.
    pub fn new(ram_end: u64, mtrrs: &MtrrState, pool: &mut Pool) -> Result<Owners, Missing> {
        let end = ram_end.min(hvabi::boot::DIRECT_SIZE);
        pool.reserve(Owners::pages_needed(end))?;
        let mut root = PageBox::<Root>::zeroed(pool.pop().ok_or(Missing(1))?);
        let mut tops = end.div_ceil(TOP_SPAN) as usize;
        for slot in root.iter_mut().take(end.div_ceil(DIRECTORY_SPAN) as usize) {
            let mut directory = PageBox::<Directory>::zeroed(pool.pop().ok_or(Missing(1))?);
            for slot in directory.iter_mut().take(tops) {
                *slot = Some(PageBox::zeroed(pool.pop().ok_or(Missing(1))?));
            }
            tops = tops.saturating_sub(WORDS);
            *slot = Some(directory);
        }
        Ok(Owners { root, end, mtrrs: *mtrrs })
    }

    /// The memory types of the machine.
    pub fn mtrrs(&self) -> &MtrrState {
        &self.mtrrs
    }

    /// The page of RAM at `spa`: the door for addresses from the root.
    pub fn page(&self, spa: u64) -> Option<Page> {
        let ram = spa < self.end && self.mtrrs.uniform(spa, Size::K4) == Some(MemType::WriteBack);
        Page::proven(spa).filter(|_| ram)
    }

    /// The 2 MiB of RAM at `spa`.
    pub fn large_page(&self, spa: u64) -> Option<LargePage> {
        let end = spa.checked_add(Size::M2.bytes())?;
        let ram = Size::M2.aligns(spa)
            && end <= self.end
            && self.mtrrs.uniform(spa, Size::M2) == Some(MemType::WriteBack);
        Page::proven(spa).filter(|_| ram).map(LargePage)
    }

    fn region(&self, page: Page) -> Result<&Region, Refused> {
        let spa = page.spa().raw();
        let directory = self.root.get((spa / DIRECTORY_SPAN) as usize).and_then(Option::as_ref);
        let top = directory.and_then(|d| d[(spa / TOP_SPAN) as usize % WORDS].as_ref());
        Ok(&top.ok_or(Refused::NotRam)?[(spa / Size::M2.bytes()) as usize % REGIONS])
    }

    fn region_mut(&mut self, page: Page) -> Result<&mut Region, Refused> {
        let spa = page.spa().raw();
        let directory = self.root.get_mut((spa / DIRECTORY_SPAN) as usize).and_then(Option::as_mut);
        let top = directory.and_then(|d| d[(spa / TOP_SPAN) as usize % WORDS].as_mut());
        Ok(&mut top.ok_or(Refused::NotRam)?[(spa / Size::M2.bytes()) as usize % REGIONS])
    }

    /// Replaces the state of a page by what `step` makes of it.
    fn change(
        &mut self,
        page: Page,
        step: impl FnOnce(State) -> Result<State, Refused>,
        pool: &mut Pool,
    ) -> Result<(), Refused> {
        let region = self.region_mut(page)?;
        let index = slot(page);
        let state = step(region.get(index))?;
        Ok(region.set(index, state, pool)?)
    }

    /// Who owns the page.
    pub fn owner(&self, page: Page) -> Owner {
        self.region(page).map_or(Owner::Hypervisor, |region| unpack(region.get(slot(page))))
    }

    /// Root to hvcore.
    pub fn claim(&mut self, page: Page, pool: &mut Pool) -> Result<Claimed, Refused> {
        self.change(page, exchange(Owner::Root, Owner::Hypervisor), pool)?;
        Ok(Claimed(page))
    }

    /// Takes a claim back: the page is the root's, unchanged.
    pub fn cancel(&mut self, claim: Claimed, pool: &mut Pool) -> Returned {
        let undone = self.change(claim.0, exchange(Owner::Hypervisor, Owner::Root), pool);
        debug_assert!(undone.is_ok());
        Returned(claim.0)
    }

    /// hvcore to root, cleared. The token proves that the page is hvcore's, and such a page has an
    /// entry of its own, so this can not fail.
    pub fn release(&mut self, mut frame: Frame, pool: &mut Pool) -> Returned {
        frame.zero();
        let page = frame.page();
        let done = self.change(page, exchange(Owner::Hypervisor, Owner::Root), pool);
        debug_assert!(done.is_ok());
        Returned(page)
    }

    /// hvcore to child, with its contents: private memory. Can not fail, as `release`.
    pub fn assign(&mut self, claim: Claimed, child: Child, pool: &mut Pool) -> Grant {
        let done = self.change(claim.0, exchange(Owner::Hypervisor, Owner::Child(child)), pool);
        debug_assert!(done.is_ok());
        Grant { spa: claim.0.spa(), size: Size::K4 }
    }

    /// One grant for the private pages of `child` that together are 2 MiB.
    pub fn join(&self, large: LargePage, child: Child) -> Result<Grant, Refused> {
        for page in large.pages() {
            match self.owner(page) {
                Owner::Child(owner) if owner == child => {}
                owner => return Err(Refused::Owned(owner)),
            }
        }
        Ok(Grant { spa: large.0.spa(), size: Size::M2 })
    }

    /// Child to hvcore; the page keeps its contents until it is [released](Owners::release).
    pub fn reclaim(
        &mut self,
        page: Page,
        child: Child,
        pool: &mut Pool,
    ) -> Result<Claimed, Refused> {
        self.change(page, exchange(Owner::Child(child), Owner::Hypervisor), pool)?;
        Ok(Claimed(page))
    }

    /// The root lets `child` use one of its pages, once more.
    pub fn share(&mut self, page: Page, child: Child, pool: &mut Pool) -> Result<Grant, Refused> {
        self.change(page, |state| shared(state, child), pool)?;
        Ok(Grant { spa: page.spa(), size: Size::K4 })
    }

    /// `child` uses the page once less. Does not need memory for a page that was shared by itself.
    pub fn unshare(&mut self, page: Page, child: Child, pool: &mut Pool) -> Result<(), Refused> {
        self.change(page, |state| unshared(state, child), pool)
    }

    /// [`share`](Owners::share) for 2 MiB, all or nothing. Never needs memory.
    pub fn share_large(
        &mut self,
        large: LargePage,
        child: Child,
        pool: &mut Pool,
    ) -> Result<Grant, Refused> {
        self.region_mut(large.0)?.change_all(|state| shared(state, child), pool)?;
        Ok(Grant { spa: large.0.spa(), size: Size::M2 })
    }

    /// [`unshare`](Owners::unshare) for 2 MiB that were shared at once. Never needs memory.
    pub fn unshare_large(
        &mut self,
        large: LargePage,
        child: Child,
        pool: &mut Pool,
    ) -> Result<(), Refused> {
        self.region_mut(large.0)?.change_all(|state| unshared(state, child), pool)
    }

    /// Gives each page around `page` an entry of its own, so that parts of what was shared at once
    /// can be unshared. Do this before a 2 MiB mapping is split.
    pub fn split(&mut self, page: Page, pool: &mut Pool) -> Result<(), Refused> {
        self.region_mut(page)?.split(pool)?;
        Ok(())
    }

    /// Shares a page of the root with hvcore itself on behalf of `child`.
    pub fn open(&mut self, page: Page, child: Child, pool: &mut Pool) -> Result<RootPage, Refused> {
        let _counted = self.share(page, child, pool)?;
        Ok(RootPage::opened(page))
    }

    /// Undoes [`open`](Owners::open).
    pub fn close(&mut self, open: RootPage, child: Child, pool: &mut Pool) {
        let done = self.unshare(open.page(), child, pool);
        debug_assert!(done.is_ok());
    }

    /// The words of a page of the root, which may change them at any time, for as long as ownership
    /// does not change.
    pub fn peek(&self, page: Page) -> Result<&[AtomicU64; WORDS], Refused> {
        match self.owner(page) {
            Owner::Root | Owner::Shared { .. } => Ok(root_words(page)),
            owner => Err(Refused::Owned(owner)),
        }
    }
}

/// Index of a page in its region.
fn slot(page: Page) -> usize {
    page.number() as usize % WORDS
}

/// The step from one owner to another one.
fn exchange(from: Owner, to: Owner) -> impl Fn(State) -> Result<State, Refused> {
    move |state| match unpack(state) {
        owner if owner == from => Ok(pack(to)),
        owner => Err(Refused::Owned(owner)),
    }
}
