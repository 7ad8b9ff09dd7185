// SPDX-License-Identifier: GPL-2.0

//! All of memory against a model that keeps a plain record for each page: what each partition can
//! reach is read from the tables that hardware would walk, and what hvcore promises of it is
//! checked after every step. A page that the root may still write through old translations *is*
//! written, before each step. For property tests and fuzzers on the host.

extern crate std;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::vec;
use std::vec::Vec;

use super::addr::{Gpa, GpaRange, Page, Size, PAGE_SIZE};
use super::ept::{Access, EptCaps, MapError};
use super::frame::{host_words, Frame, WORDS};
use super::mtrr::{MtrrState, VARIABLE_MAX};
use super::owner::{Child, Owner, Refused};
use super::pool::host_pool;
use super::space::{MapFailed, Memory, Setup, Space, Wish};

const CAPS: EptCaps = EptCaps { one_gib: true, two_mib: true };
/// RAM of the tests: 8 MiB at 0.
pub const PAGES: u64 = 2048;
/// hvcore's block: of it the last pages are public, the others its pool.
pub const BLOCK: std::ops::Range<u64> = 16..80;
pub const PUBLIC: u64 = 78;
/// What the tests play with: two regions of 2 MiB from here on.
pub const FIRST: u64 = 512;
pub const PLAYED: u64 = 1024;
/// Pages of guest memory that the tests map.
pub const WINDOW: u64 = 1024;
const APIC: u64 = 0xfee0_0000;

fn mtrrs() -> MtrrState {
    let mut variable = [(0, 0); VARIABLE_MAX];
    // A device in the last 4 KiB of the first 2 MiB.
    variable[0] = (0x1f_f000, ((1 << 46) - 0x1000) | 1 << 11);
    MtrrState { def_type: MtrrState::NONE, fixed: [0; 11], variable }
}

/// Who has a page, as the model knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Root,
    Core,
    /// In the pool of a child, or a table of it.
    Pool(u64),
    Private(u64),
}

#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// Child, first page, count.
    Deposit(u64, u64, u64),
    /// Child, guest page, page, count, size, private.
    Map(u64, u64, u64, u64, Size, bool),
    /// Child, guest page, count.
    Unmap(u64, u64, u64),
    Destroy(u64),
    /// Child, count.
    Withdraw(u64, u64),
    /// hvcore's own pool has no more than so many pages, until the next `Sync`.
    Starve(u64),
    Sync,
}

/// Translations of a child: from guest page to page.
type Maps = BTreeMap<u64, u64>;

pub struct World {
    pub memory: Memory,
    core_pages: usize,
    spaces: Vec<Space>,
    epoch: u64,
    saw: u64,
    holders: Vec<Holder>,
    /// Pages that LPs may still reach as the root.
    stale: Vec<bool>,
    maps: Vec<Maps>,
    /// What hvcore's own pool lacks for a while.
    held: Vec<Frame>,
}

fn child(c: u64) -> Child {
    Child::new(c + 1).unwrap()
}

impl World {
    pub fn new(children: u64, core: u64) -> World {
        let setup = Setup {
            caps: CAPS,
            phys_bits: 46,
            ram_end: PAGES * PAGE_SIZE,
            block: BLOCK.start * PAGE_SIZE..BLOCK.end * PAGE_SIZE,
            public: PUBLIC * PAGE_SIZE..BLOCK.end * PAGE_SIZE,
        };
        let memory = Memory::new(&setup, &mtrrs(), host_pool(BLOCK.start, core)).unwrap();
        let holder = |n| if BLOCK.contains(&n) { Holder::Core } else { Holder::Root };
        World {
            core_pages: memory.pool.len(),
            memory,
            spaces: (0..children).map(|c| Space::new(child(c))).collect(),
            epoch: 1,
            saw: 1,
            holders: (0..PAGES).map(holder).collect(),
            stale: vec![false; PAGES as usize],
            maps: vec![Maps::new(); children as usize],
            held: Vec::new(),
        }
    }

    /// Leaves `left` pages in hvcore's own pool.
    pub fn starve(&mut self, left: usize) {
        while self.memory.pool.len() > left {
            // Nobody misses a test's frame.
            let _ = self.memory.pool.pop().map(core::mem::forget);
        }
        self.core_pages = self.memory.pool.len();
    }

    pub fn page(&self, n: u64) -> Page {
        self.memory.owners.page(n * PAGE_SIZE).unwrap()
    }

    fn hold(&mut self, n: u64, holder: Holder) {
        self.holders[n as usize] = holder;
    }

    /// Mappings of a page by any child.
    fn shares(&self, n: u64) -> usize {
        self.maps.iter().map(|maps| maps.values().filter(|p| **p == n).count()).sum()
    }

    /// Whether the root could give the page away.
    fn is_root_alone(&self, n: u64) -> bool {
        self.holders[n as usize] == Holder::Root && self.shares(n) == 0
    }

    fn seal(&mut self, c: u64) {
        self.epoch += 1;
        self.spaces[c as usize].seal(self.epoch);
        self.memory.pool.seal(self.epoch);
    }

    /// Core's own pool ran out: not to be foreseen by the model.
    fn starved(&self, refused: Refused) -> bool {
        matches!(refused, Refused::NoMemory(_)) && self.memory.pool.len() < 4
    }

    fn settle(&mut self) {
        self.memory.pool.settle(self.saw);
        for space in &mut self.spaces {
            space.pool.settle(self.saw);
        }
    }

    /// The root writes where it still can, on an LP that did not flush yet.
    fn scribble(&self) {
        for n in (0..PAGES).filter(|n| self.stale[*n as usize]) {
            for word in [0, 1, WORDS - 1] {
                host_words(self.page(n))[word].store(0x1000 * (FIRST + 7), Relaxed);
            }
        }
    }

    /// Does as partition.rs would, and as the model says.
    pub fn apply(&mut self, op: Op) {
        self.scribble();
        self.settle();
        match op {
            Op::Deposit(c, first, count) => self.deposit(c, first, count),
            Op::Map(c, gpa, page, count, size, private) => {
                self.map(c, gpa, page, count, size, private)
            }
            Op::Unmap(c, gpa, count) => self.unmap(c, gpa, count),
            Op::Destroy(c) => self.destroy(c),
            Op::Withdraw(c, count) => self.withdraw(c, count),
            Op::Starve(left) => {
                while self.memory.pool.len() > left as usize {
                    self.held.extend(self.memory.pool.pop());
                }
            }
            Op::Sync => {
                self.held.drain(..).for_each(|frame| self.memory.pool.push(frame));
                self.saw = self.epoch;
                self.stale.fill(false);
            }
        }
    }

    fn deposit(&mut self, c: u64, first: u64, count: u64) {
        let mut claims = Vec::new();
        for n in first..first + count {
            if self.spaces[c as usize].pool.room() <= claims.len() {
                break;
            }
            match self.memory.claim(n * PAGE_SIZE) {
                Ok(claim) => {
                    assert!(self.is_root_alone(n), "page {n} was claimed");
                    self.hold(n, Holder::Pool(c));
                    self.stale[n as usize] = true;
                    claims.push(claim);
                }
                Err(refused) => {
                    assert!(self.starved(refused) || !self.is_root_alone(n), "{n}: {refused:?}");
                    // All or none, now and then.
                    if n % 2 == 0 {
                        for claim in claims.drain(..) {
                            let n = claim.page().number();
                            self.memory.cancel(claim);
                            self.hold(n, Holder::Root);
                        }
                    }
                    break;
                }
            }
        }
        self.epoch += 1;
        self.spaces[c as usize].pool.admit(claims.into_iter(), self.epoch);
        self.memory.pool.seal(self.epoch);
    }

    fn map(&mut self, c: u64, gpa: u64, first: u64, count: u64, size: Size, private: bool) {
        let step = size.pages();
        let wish = Wish {
            gpa: Gpa::new(gpa * PAGE_SIZE).unwrap(),
            size,
            count: count as usize,
            access: Access::ALL,
            private,
        };
        if self.open(c).is_err() {
            return;
        }
        let mut done = 0;
        let space = &mut self.spaces[c as usize];
        // The same page again for the last item: a list may say so.
        let item = |i: usize| first + (i as u64).min(count.saturating_sub(2).max(1) - 1) * step;
        let result = space.map(&mut self.memory, &wish, &mut done, |i| item(i) * PAGE_SIZE);
        for i in 0..done {
            let (gpa, first) = (gpa + i as u64 * step, item(i));
            for n in 0..step {
                let (gpa, n) = (gpa + n, first + n);
                assert!(!self.maps[c as usize].contains_key(&gpa), "{gpa:#x} was mapped twice");
                if private {
                    assert!(self.is_root_alone(n), "page {n} became private");
                    self.hold(n, Holder::Private(c));
                    self.stale[n as usize] = true;
                }
                let owner = if private { Holder::Private(c) } else { Holder::Root };
                assert_eq!(self.holders[n as usize], owner, "page {n} is mapped");
                self.maps[c as usize].insert(gpa, n);
            }
        }
        let (at, page) = (gpa + done as u64 * step, item(done));
        match result {
            Ok(()) => assert_eq!(done as u64, count),
            Err(MapFailed::Map(MapError::Exists)) => {
                assert!(
                    self.maps[c as usize].range(at..at + step).next().is_some() || size == Size::M2
                )
            }
            Err(MapFailed::Map(MapError::NoMemory(_))) => {}
            Err(MapFailed::Map(MapError::Invalid)) => assert!(gpa % step != 0),
            Err(MapFailed::Refused(refused)) => {
                let usable = |n| {
                    if private {
                        self.is_root_alone(n)
                    } else {
                        self.holders[n as usize] == Holder::Root
                    }
                };
                let fits = page % step == 0 && (page..page + step).all(usable);
                assert!(self.starved(refused) || !fits, "page {page} {size:?}: {refused:?}");
            }
        }
        if private {
            self.seal(c);
        }
    }

    fn open(&mut self, c: u64) -> Result<(), MapError> {
        let space = &mut self.spaces[c as usize];
        if space.eptp() == 0 {
            space.open(CAPS)?;
        }
        match space.show_apic(Gpa::new(APIC).unwrap(), &self.memory) {
            Ok(()) | Err(MapError::Exists) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn forget(&mut self, c: u64, gpa: u64) {
        if let Some(n) = self.maps[c as usize].remove(&gpa) {
            if self.holders[n as usize] == Holder::Private(c) {
                self.hold(n, Holder::Pool(c));
            }
        }
    }

    fn unmap(&mut self, c: u64, gpa: u64, count: u64) {
        let space = &mut self.spaces[c as usize];
        let saw = self.saw;
        let range = GpaRange::new(gpa * PAGE_SIZE, count).unwrap();
        let private = self.maps[c as usize]
            .range(gpa..gpa + count)
            .any(|(_, n)| self.holders[*n as usize] == Holder::Private(c));
        assert_eq!(space.has_private(&self.memory, range), private);
        if private && !space.may_run(|| saw) {
            return;
        }
        match space.unmap(&mut self.memory, range) {
            Ok(()) => (gpa..gpa + count).for_each(|gpa| self.forget(c, gpa)),
            Err(MapFailed::Map(MapError::NoMemory(_))) => {}
            Err(MapFailed::Refused(refused)) => assert!(self.starved(refused), "{refused:?}"),
            Err(error) => panic!("{error:?}"),
        }
        self.seal(c);
    }

    fn destroy(&mut self, c: u64) {
        let space = &mut self.spaces[c as usize];
        let saw = self.saw;
        if !space.may_run(|| saw) {
            return;
        }
        let mut rounds = 0;
        while !space.close(&mut self.memory, 300) {
            rounds += 1;
            assert!(rounds < 100);
        }
        let gpas: Vec<u64> = self.maps[c as usize].keys().copied().collect();
        gpas.into_iter().for_each(|gpa| self.forget(c, gpa));
        self.seal(c);
    }

    fn withdraw(&mut self, c: u64, count: u64) {
        for _ in 0..count {
            let Some(frame) = self.spaces[c as usize].pool.pop() else {
                break;
            };
            let n = frame.page().number();
            assert_eq!(self.holders[n as usize], Holder::Pool(c), "page {n} comes back");
            assert!(!self.stale[n as usize], "page {n} was used before all LPs had flushed");
            let spa = self.memory.release(frame);
            assert_eq!(spa.raw(), n * PAGE_SIZE);
            let words = host_words(self.page(n));
            assert!(words.iter().all(|word| word.load(Relaxed) == 0), "page {n} was not cleared");
            // What the root keeps there, and what a child gets with it.
            words[3].store(n, Relaxed);
            self.hold(n, Holder::Root);
        }
        self.seal(c);
    }

    /// What hvcore promises, of the pages in `range`.
    pub fn check(&mut self, range: std::ops::Range<u64>, what: &dyn std::fmt::Debug) {
        let mut shares = BTreeMap::new();
        for n in self.maps.iter().flat_map(|maps| maps.values()) {
            *shares.entry(*n).or_insert(0) += 1u16;
        }
        for n in range {
            let (holder, page) = (self.holders[n as usize], self.page(n));
            let owner = self.memory.owners.owner(page);
            let shares = shares.get(&n).copied().unwrap_or(0);
            let agrees = match (holder, owner) {
                (Holder::Root, Owner::Root) => shares == 0,
                (Holder::Root, Owner::Shared { with, count }) => {
                    let by = |c: Child| {
                        let maps = &self.maps[c.index()];
                        maps.values().filter(|p| **p == n).count() as u16
                    };
                    count == shares && with.is_none_or(|c| by(c) == count)
                }
                (Holder::Private(c), Owner::Child(owner)) => owner == child(c) && shares == 1,
                (Holder::Core | Holder::Pool(_), Owner::Hypervisor) => shares == 0,
                _ => false,
            };
            assert!(agrees, "{what:?}: page {n}: {owner:?}, model {holder:?} {shares}");
            // The root reaches its own pages and reads zeros in place of all others.
            let (shown, access) = self.memory.root_sees(page);
            // Its PAT is Linux's.
            assert_eq!(self.memory.root_entry(page) >> 3 & 0xf, 6, "{what:?}: page {n}");
            if holder == Holder::Root {
                assert_eq!((shown, access), (n * PAGE_SIZE, Access::ALL), "{what:?}: page {n}");
            } else if (PUBLIC..BLOCK.end).contains(&n) {
                assert_eq!((shown, access), (n * PAGE_SIZE, Access::READ));
            } else {
                assert_ne!(shown, n * PAGE_SIZE, "{what:?}: the root sees page {n}");
                assert_eq!(access, Access::NONE);
            }
            if holder != Holder::Root && self.stale[n as usize] {
                // Not before all LPs have flushed.
                if let Holder::Private(c) = holder {
                    assert!(!self.spaces[c as usize].may_run(|| self.saw), "{what:?}: page {n}");
                }
            }
        }
        for (space, maps) in self.spaces.iter().zip(&self.maps) {
            for gpa in 0..WINDOW {
                let seen = space.translate(gpa * PAGE_SIZE).map(|spa| spa / PAGE_SIZE);
                assert_eq!(seen, maps.get(&gpa).copied(), "{what:?}: guest page {gpa}");
                // Write-back, whatever the guest's PAT says.
                let kind = space.entry(gpa * PAGE_SIZE) >> 3 & 0xf;
                assert_eq!(kind, seen.map_or(0, |_| 0xe), "{what:?}: guest page {gpa}");
            }
        }
    }

    /// All that what comes next can depend on, of a world of which only `played` pages are told
    /// apart: two worlds with the same go on alike.
    #[cfg(test)]
    pub fn state(&self, played: std::ops::Range<u64>) -> String {
        let name = |n: u64| if played.contains(&n) { n } else { 0 };
        let of = |space: &Space| {
            let pool: Vec<u64> = space.pool.numbers().map(name).collect();
            let runs = space.may_run(|| self.saw);
            (pool, space.pool.retired(), space.eptp() != 0, space.is_private(), runs)
        };
        let spaces: Vec<_> = self.spaces.iter().map(of).collect();
        let pages = played.start as usize..played.end as usize;
        let core = (self.memory.pool.len(), self.memory.pool.retired());
        let (holders, stale) = (&self.holders[pages.clone()], &self.stale[pages]);
        format!("{holders:?} {stale:?} {:?} {spaces:?} {core:?}", self.maps)
    }

    /// Gives everything back: nothing was lost, and hvcore has what it had.
    pub fn end(mut self) {
        for c in 0..self.spaces.len() as u64 {
            self.apply(Op::Sync);
            self.apply(Op::Destroy(c));
            self.apply(Op::Sync);
            self.apply(Op::Withdraw(c, PAGES));
        }
        self.apply(Op::Sync);
        self.settle();
        self.check(FIRST..FIRST + PLAYED, &"end");
        let lost: Vec<u64> = (0..PAGES)
            .filter(|n| !BLOCK.contains(n) && self.holders[*n as usize] != Holder::Root)
            .collect();
        assert!(lost.is_empty(), "lost {lost:?}");
        assert_eq!(self.memory.pool.len(), self.core_pages, "hvcore's own pages came back");
    }
}

/// An operation on a world of three children; `below` chooses a number below the one it is given.
pub fn choose_op(below: &mut dyn FnMut(u64) -> u64) -> Op {
    let c = below(3);
    let page = FIRST + [below(PLAYED), below(6), 512 + below(6)][below(3) as usize];
    let gpa = [below(WINDOW), below(6), 512 + below(6)][below(3) as usize];
    let count = 1 + [below(40), below(3)][below(2) as usize];
    let large = (gpa & !511, page & !511);
    // Most of what leaves the root is of the first region: so the other one is often whole.
    let low = if page >= FIRST + 512 && below(4) != 0 { page - 512 } else { page };
    match below(16) {
        0..=2 => Op::Deposit(c, low, 1 + below(20).min(FIRST + PLAYED - 1 - low)),
        3..=5 => {
            let private = below(3) == 0;
            let page = if private { low } else { page };
            let count = count.min(WINDOW - gpa).min(FIRST + PLAYED - page);
            Op::Map(c, gpa, page, count, Size::K4, private)
        }
        6 | 14 => Op::Map(c, large.0, large.1, 1, Size::M2, below(3) == 0),
        7..=9 => Op::Unmap(c, gpa, [count, 512][below(2) as usize].min(WINDOW - gpa)),
        10 => Op::Unmap(c, large.0, 512),
        11 => Op::Withdraw(c, count),
        12 if below(4) == 0 => Op::Destroy(c),
        13 => Op::Starve(below(2)),
        _ => Op::Sync,
    }
}
