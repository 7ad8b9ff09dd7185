// SPDX-License-Identifier: GPL-2.0

//! Ownership against a model that keeps one plain record for each page.

use std::collections::HashMap;

use super::addr::{Page, Size, PAGE_SIZE};
use super::frame::Frame;
use super::mtrr::{MtrrState, VARIABLE_MAX};
use super::owner::{Child, Claimed, LargePage, Owner, Owners, Refused};
use super::pool::{host_pool, Missing, Pool};
use super::rng::Rng;

/// RAM of the tests: 8 MiB at 0, of which the first pages are the core's pool.
const RAM: u64 = 8 << 20;

fn mtrrs() -> MtrrState {
    let mut variable = [(0, 0); VARIABLE_MAX];
    // A device in the last 4 KiB of the first 2 MiB.
    variable[0] = (0x1f_f000, ((1 << 46) - 0x1000) | 1 << 11);
    MtrrState { def_type: MtrrState::NONE, fixed: [0; 11], variable }
}

fn child(n: u64) -> Child {
    Child::new(n).unwrap()
}

fn fresh(pages: u64) -> (Owners, Pool) {
    let mut pool = host_pool(1, pages);
    let owners = Owners::new(RAM, &mtrrs(), &mut pool).unwrap();
    (owners, pool)
}

fn page(owners: &Owners, number: u64) -> Page {
    owners.page(number * PAGE_SIZE).unwrap()
}

/// The frame of a claimed page, as if all LPs had passed.
fn frame(claim: Claimed) -> Frame {
    let mut pool = Pool::new();
    pool.admit(claim, 1);
    assert!(pool.pop().is_none());
    pool.settle(1);
    pool.pop().unwrap()
}

#[test]
fn what_is_ram() {
    let (owners, _) = fresh(8);
    for not in [0, 1, 0x1800, 0x1f_f000, RAM, RAM + 0x1000, 1 << 52, u64::MAX, !0xfff] {
        assert!(owners.page(not).is_none(), "{not:#x}");
    }
    assert!(owners.page(0x1f_e000).is_some() && owners.page(RAM - 0x1000).is_some());
    for not in [0, 0x20_1000, RAM, RAM - 0x1000, u64::MAX, 1 << 63] {
        assert!(owners.large_page(not).is_none(), "{not:#x}");
    }
    assert!(owners.large_page(RAM - (2 << 20)).is_some());
    assert!(Child::new(0).is_none() && Child::new(65).is_none() && Child::new(64).is_some());
}

#[test]
fn storage_is_small() {
    assert_eq!(Owners::pages_needed(512 << 20), 3);
    assert_eq!(Owners::pages_needed((512 << 20) + 1), 4);
    // 16 bytes for each 2 MiB: 8 MiB for a TiB, and directories.
    assert_eq!(Owners::pages_needed(1 << 40), 1 + 4 + 2048);
    let mut pool = host_pool(1, 100);
    let owners = Owners::new(16 << 30, &mtrrs(), &mut pool).unwrap();
    assert_eq!(pool.len(), 100 - 34);
    let last = owners.page((16 << 30) - 0x1000).unwrap();
    assert_eq!(owners.owner(last), Owner::Root);
    assert_eq!(Owners::new(16 << 30, &mtrrs(), &mut host_pool(200, 33)).err(), Some(Missing(1)));
}

#[test]
fn a_page_goes_round() {
    let (mut owners, mut pool) = fresh(8);
    let free = pool.len();
    let p = page(&owners, 1000);
    let claim = owners.claim(p, &mut pool).unwrap();
    assert_eq!(owners.owner(p), Owner::Hypervisor);
    assert!(matches!(owners.claim(p, &mut pool), Err(Refused::Owned(Owner::Hypervisor))));
    assert_eq!(owners.share(p, child(1), &mut pool), Err(Refused::Owned(Owner::Hypervisor)));
    assert!(owners.peek(p).is_err());
    let mut f = frame(claim);
    f.words_mut()[7] = 42;
    owners.donate(f, child(1), &mut pool);
    assert_eq!(owners.owner(p), Owner::Child(child(1)));
    assert!(owners.reclaim(p, child(2), &mut pool).is_err());
    let claim = owners.reclaim(p, child(1), &mut pool).unwrap();
    let mut f = frame(claim);
    assert_eq!(f.words()[7], 0);
    f.words_mut()[8] = 42;
    owners.release(f, &mut pool);
    assert_eq!(owners.owner(p), Owner::Root);
    assert_eq!(owners.peek(p).unwrap()[8].load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(pool.len(), free);
    let claim = owners.claim(p, &mut pool).unwrap();
    owners.cancel(claim, &mut pool);
    assert_eq!((owners.owner(p), pool.len()), (Owner::Root, free));
}

#[test]
fn shared_pages_stay() {
    let (mut owners, mut pool) = fresh(8);
    let p = page(&owners, 600);
    let (one, two) = (child(1), child(2));
    owners.share(p, one, &mut pool).unwrap();
    assert_eq!(
        owners.unshare(p, two, &mut pool),
        Err(Refused::Owned(Owner::Shared { with: Some(one), count: 1 }))
    );
    owners.share(p, two, &mut pool).unwrap();
    assert!(matches!(
        owners.claim(p, &mut pool),
        Err(Refused::Owned(Owner::Shared { with: None, count: 2 }))
    ));
    owners.unshare(p, one, &mut pool).unwrap();
    owners.unshare(p, two, &mut pool).unwrap();
    assert_eq!(owners.unshare(p, two, &mut pool), Err(Refused::Owned(Owner::Root)));
    let open = owners.open(p, one, &mut pool).unwrap();
    assert!(owners.claim(p, &mut pool).is_err());
    owners.close(open, one, &mut pool);
    assert!(owners.claim(p, &mut pool).is_ok());
}

#[test]
fn large_shares_need_no_memory() {
    let (mut owners, mut pool) = fresh(3);
    assert!(pool.is_empty());
    let large = owners.large_page(4 << 20).unwrap();
    owners.share_large(large, child(3), &mut pool).unwrap();
    let p = page(&owners, 1024 + 17);
    assert_eq!(owners.owner(p), Owner::Shared { with: Some(child(3)), count: 1 });
    assert_eq!(owners.unshare(p, child(3), &mut pool), Err(Refused::NoMemory(Missing(1))));
    assert!(owners.claim(p, &mut pool).is_err());
    let mut one = host_pool(10, 1);
    owners.split(p, &mut one).unwrap();
    owners.unshare(p, child(3), &mut one).unwrap();
    // Not all of it is shared: all or nothing.
    assert!(owners.unshare_large(large, child(3), &mut one).is_err());
    owners.share(p, child(3), &mut one).unwrap();
    owners.unshare_large(large, child(3), &mut one).unwrap();
    assert_eq!(one.len(), 1);
}

#[test]
fn the_block_is_taken_at_launch() {
    let (mut owners, mut pool) = fresh(16);
    owners.seize(0x1000, 510, &mut pool).unwrap();
    assert_eq!(owners.owner(page(&owners, 510)), Owner::Hypervisor);
    assert_eq!(owners.seize(0x1f_f000, 1, &mut pool), Err(Refused::NotRam));
    assert_eq!(owners.seize(u64::MAX - 0xfff, 2, &mut pool), Err(Refused::NotRam));
}

/// What the model knows of a page.
#[derive(Clone, Default, PartialEq, Debug)]
struct Record {
    hypervisor: bool,
    private: Option<u64>,
    /// Mappings by child.
    shares: HashMap<u64, u16>,
}

impl Record {
    fn shared(&self) -> u16 {
        self.shares.values().sum()
    }

    fn root_alone(&self) -> bool {
        !self.hypervisor && self.private.is_none() && self.shared() == 0
    }

    fn agrees(&self, owner: Owner) -> bool {
        match owner {
            Owner::Root => self.root_alone(),
            Owner::Hypervisor => self.hypervisor && self.private.is_none() && self.shared() == 0,
            Owner::Child(c) => {
                !self.hypervisor && self.private == Some(c.number()) && self.shared() == 0
            }
            Owner::Shared { with, count } => {
                let single = with.is_none_or(|c| self.shares.get(&c.number()) == Some(&count));
                !self.hypervisor && self.private.is_none() && count == self.shared() && single
            }
        }
    }
}

/// Pages that the random test plays with: two 2 MiB regions from this number on.
const FIRST: u64 = 1024;
const PLAYED: u64 = 1024;

struct Game {
    owners: Owners,
    pool: Pool,
    total: usize,
    pages: Vec<Record>,
    frames: HashMap<u64, Frame>,
    /// Mappings as an EPT would hold them: child, page, of 2 MiB.
    mappings: Vec<(u64, u64, bool)>,
}

impl Game {
    fn large(&self, n: u64) -> LargePage {
        self.owners.large_page(Size::M2.floor(n * PAGE_SIZE)).unwrap()
    }

    fn add(&mut self, c: u64, n: u64, large: bool) {
        let (first, count) = if large { (n & !511, 512) } else { (n, 1) };
        for record in &mut self.pages[(first - FIRST) as usize..][..count] {
            *record.shares.entry(c).or_default() += 1;
        }
        self.mappings.push((c, n, large));
    }

    fn unmap(&mut self, i: usize) {
        let (c, n, large) = self.mappings.swap_remove(i);
        let (first, count) = if large { (n & !511, 512) } else { (n, 1) };
        let done = if large {
            self.owners.unshare_large(self.large(n), child(c), &mut self.pool)
        } else {
            self.owners.unshare(page(&self.owners, n), child(c), &mut self.pool)
        };
        // This must work whatever the state of the pool: destroying a partition depends on it.
        assert_eq!(done, Ok(()));
        for record in &mut self.pages[(first - FIRST) as usize..][..count] {
            *record.shares.get_mut(&c).unwrap() -= 1;
            record.shares.retain(|_, count| *count > 0);
        }
    }

    fn destroy(&mut self, c: u64) {
        while let Some(i) = self.mappings.iter().position(|m| m.0 == c) {
            self.unmap(i);
        }
        for n in FIRST..FIRST + PLAYED {
            if self.pages[(n - FIRST) as usize].private == Some(c) {
                let p = page(&self.owners, n);
                let claim = self.owners.reclaim(p, child(c), &mut self.pool).unwrap();
                self.owners.release(frame(claim), &mut self.pool);
                self.pages[(n - FIRST) as usize] = Record::default();
            }
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        let n =
            FIRST + [rng.below(PLAYED), rng.below(4), 512 + rng.below(3)][rng.below(3) as usize];
        let p = page(&self.owners, n);
        let c = 1 + rng.below(3);
        let record = self.pages[(n - FIRST) as usize].clone();
        let starved = |refused| matches!(refused, Refused::NoMemory(_));
        match rng.below(12) {
            0 | 1 => match self.owners.claim(p, &mut self.pool) {
                Ok(claim) => {
                    assert!(record.root_alone());
                    self.frames.insert(n, frame(claim));
                    self.pages[(n - FIRST) as usize].hypervisor = true;
                }
                Err(refused) => assert!(starved(refused) || !record.root_alone()),
            },
            2 | 3 => {
                if let Some(f) = self.frames.remove(&n) {
                    self.owners.release(f, &mut self.pool);
                    self.pages[(n - FIRST) as usize].hypervisor = false;
                }
            }
            4 => {
                if let Some(f) = self.frames.remove(&n) {
                    self.owners.donate(f, child(c), &mut self.pool);
                    let private = Record { private: Some(c), ..Record::default() };
                    self.pages[(n - FIRST) as usize] = private;
                }
            }
            5 => match self.owners.reclaim(p, child(c), &mut self.pool) {
                Ok(claim) => {
                    assert_eq!(record.private, Some(c));
                    self.frames.insert(n, frame(claim));
                    let taken = Record { hypervisor: true, ..Record::default() };
                    self.pages[(n - FIRST) as usize] = taken;
                }
                Err(_) => assert_ne!(record.private, Some(c)),
            },
            6 | 7 => match self.owners.share(p, child(c), &mut self.pool) {
                Ok(()) => {
                    assert!(!record.hypervisor && record.private.is_none());
                    self.add(c, n, false);
                }
                Err(r) => assert!(starved(r) || record.hypervisor || record.private.is_some()),
            },
            8 => {
                let at = (n & !511) - FIRST;
                let all = &self.pages[at as usize..][..512];
                let free = all.iter().all(|r| !r.hypervisor && r.private.is_none());
                let large = self.large(n);
                let done = self.owners.share_large(large, child(c), &mut self.pool);
                assert_eq!(done.is_ok(), free);
                if free {
                    self.add(c, n, true);
                }
            }
            9 | 10 if !self.mappings.is_empty() => {
                let i = rng.below(self.mappings.len() as u64) as usize;
                self.unmap(i);
            }
            _ if rng.below(10) == 0 => self.destroy(c),
            _ => {}
        }
    }

    fn check(&self, what: &str) {
        for n in FIRST..FIRST + PLAYED {
            let (record, owner) =
                (&self.pages[(n - FIRST) as usize], self.owners.owner(page(&self.owners, n)));
            assert!(record.agrees(owner), "{what}: page {n}: {owner:?}, model {record:?}");
        }
        assert!(self.pool.len() + 2 >= self.total);
    }
}

#[test]
fn random_sequences() {
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        // Sometimes there are pages for all leaves, sometimes for one or none.
        let (owners, pool) = fresh(3 + rng.below(3));
        let total = pool.len();
        let pages = vec![Record::default(); PLAYED as usize];
        let mut game =
            Game { owners, pool, total, pages, frames: HashMap::new(), mappings: Vec::new() };
        for step in 0..150 {
            game.step(&mut rng);
            if step % 10 == 9 {
                game.check(&format!("seed {seed} step {step}"));
            }
        }
        (1..4).for_each(|c| game.destroy(c));
        for (_, f) in std::mem::take(&mut game.frames) {
            game.owners.release(f, &mut game.pool);
        }
        assert!((FIRST..FIRST + PLAYED)
            .all(|n| game.owners.owner(page(&game.owners, n)) == Owner::Root));
        assert_eq!(game.pool.len(), total, "seed {seed}: leaves came back");
    }
}
