// SPDX-License-Identifier: GPL-2.0

//! An EPT beside a map of pages that is too simple to be wrong. For property tests and fuzzers on
//! the host.

extern crate std;

use std::collections::BTreeMap;

use super::addr::{Gpa, GpaRange, Size, Spa, PAGE_SIZE};
use super::ept::{Access, Ept, EptCaps, Leaf, MapError};
use super::frame::host_frame;
use super::mtrr::MemType;
use super::pool::{host_pool, Missing, Pool};

/// Where a page is mapped, and how.
type To = (u64, Access, MemType);

/// Offset of a guest page in the window, to where it is mapped.
type Model = BTreeMap<u64, To>;

const WB: MemType = MemType::WriteBack;

/// Bytes of guest memory that are mapped and unmapped.
const WINDOW: u64 = 4 << 21;

/// The two of them. A `below` chooses a number below the one it is given.
pub struct Both {
    ept: Ept,
    pool: Pool,
    /// Pages that the EPT began with.
    total: usize,
    /// Where the window begins.
    base: u64,
    model: Model,
    /// Of what the EPT began with, behind the window: the rest of a large page that begins with it.
    rest: Option<To>,
    steps: u64,
}

/// Where `leaf` has the page at `gpa`.
fn to(leaf: Leaf, gpa: Gpa) -> To {
    (leaf.translate(gpa), leaf.access, leaf.kind)
}

impl Both {
    pub fn new(below: &mut dyn FnMut(u64) -> u64) -> Both {
        const FULL: EptCaps = EptCaps { one_gib: true, two_mib: true };
        let base = [0, 0x3fc0_0000, 0x7f_ffc0_0000, 1 << 30][below(4) as usize];
        // Often hardly enough for a table of each level.
        let total = 3 + below(12).saturating_sub(4) as usize;
        let ept = Ept::new(host_frame(1), FULL);
        let pool = host_pool(2, total as u64);
        let mut both = Both { ept, pool, total, base, model: Model::new(), rest: None, steps: 0 };
        if base == 1 << 30 {
            let (gpa, spa) = (both.gpa(0), Spa::new(base).expect("a system address"));
            both.ept.map(gpa, spa, Size::G1, Access::ALL, WB, &mut both.pool).expect("tables");
            let to = |at| (base + at, Access::ALL, WB);
            both.model.extend((0..WINDOW).step_by(PAGE_SIZE as usize).map(|at| (at, to(at))));
            both.rest = Some(to(WINDOW));
        }
        both
    }

    fn gpa(&self, at: u64) -> Gpa {
        Gpa::new(self.base + at).expect("a guest address")
    }

    /// The two map the same.
    pub fn compare(&self) {
        for at in (0..WINDOW).step_by(PAGE_SIZE as usize) {
            let gpa = self.gpa(at);
            let have = self.ept.lookup(gpa).map(|leaf| to(leaf, gpa));
            assert_eq!(have, self.model.get(&at).copied(), "step {}: {at:#x}", self.steps);
        }
        let gpa = self.gpa(WINDOW);
        assert_eq!(self.ept.lookup(gpa).map(|leaf| to(leaf, gpa)), self.rest, "behind the window");
    }

    /// Changes both.
    pub fn step(&mut self, below: &mut dyn FnMut(u64) -> u64) {
        self.steps += 1;
        let access = Access { read: true, write: below(2) == 0, execute: below(2) == 0 };
        let kind = [WB, WB, WB, MemType::Uncacheable][below(4) as usize];
        let size = if below(2) == 0 { Size::K4 } else { Size::M2 };
        let at = size.floor(below(WINDOW));
        let to = Spa::new(size.floor([below(1 << 40), (1 << 30) + at][below(2) as usize]))
            .expect("a system address");
        match below(5) {
            0 | 1 => self.map(at, to, size, access, kind),
            2 => self.unmap(at, 1 + below((WINDOW - at) / PAGE_SIZE)),
            3 if below(8) == 0 => {
                // A run of pages, which are one only if they begin where one can.
                let (at, to) = (Size::M2.floor(at), to.raw() & !0xfff | below(2) * PAGE_SIZE);
                for offset in (0..Size::M2.bytes()).step_by(PAGE_SIZE as usize) {
                    self.replace(at + offset, (to + offset, access, kind));
                }
            }
            3 => self.replace(at, (to.raw(), access, kind)),
            _ => {
                // One page otherwise than those around it, in one way or in none.
                let from = self.model.get(&(at ^ PAGE_SIZE)).copied();
                let (near, old, as_is) = from.unwrap_or((to.raw(), access, kind));
                let near = (near ^ PAGE_SIZE, old, as_is);
                let other = [near, near, (near.0, access, near.2), (near.0, old, kind)];
                self.replace(at, other[below(4) as usize]);
            }
        }
        if below(3) == 0 {
            self.pool.settle(u64::MAX);
        }
    }

    fn map(&mut self, at: u64, to: Spa, size: Size, access: Access, kind: MemType) {
        let (gpa, free) = (self.gpa(at), self.pool.len());
        let pages = || (at..at + size.bytes()).step_by(PAGE_SIZE as usize);
        let taken = self.model.range(at..at + size.bytes()).next().is_some();
        match self.ept.map(gpa, to, size, access, kind, &mut self.pool) {
            Ok(()) => {
                assert!(!taken);
                self.model.extend(pages().map(|p| (p, (to.raw() + p - at, access, kind))));
            }
            Err(MapError::Exists) => assert!(taken),
            Err(MapError::NoMemory(Missing(n))) => assert!(n >= 1 && self.pool.len() == free),
            Err(MapError::Invalid) => panic!("{at:#x} {size:?} is invalid"),
        }
    }

    fn unmap(&mut self, at: u64, count: u64) {
        let (base, end) = (self.base, at + count * PAGE_SIZE);
        let mut seen = Model::new();
        let range = GpaRange::new(base + at, count).expect("a range");
        let done = self.ept.unmap(range, &mut self.pool, self.steps, |leaf, _| {
            for offset in (0..leaf.size.bytes()).step_by(PAGE_SIZE as usize) {
                let to = (leaf.spa + offset, leaf.access, leaf.kind);
                assert!(seen.insert(leaf.gpa - base + offset, to).is_none());
            }
        });
        if done.is_ok() {
            let mut gone = self.model.split_off(&at);
            self.model.append(&mut gone.split_off(&end));
            assert_eq!(seen, gone, "what was unmapped");
        } else {
            assert!(seen.is_empty());
        }
    }

    /// A page gets another translation. Where that makes it one with those around it, a large page
    /// takes their place, which nobody can tell.
    fn replace(&mut self, at: u64, (to, access, kind): To) {
        let gpa = self.gpa(at);
        let fits = self.ept.split_cost(gpa) <= self.pool.len();
        let leaf = Leaf { gpa: 0, spa: to, size: Size::K4, access, kind };
        let done = self.ept.replace(gpa.identity(), leaf, &mut self.pool);
        assert_eq!(done.is_ok(), fits);
        if fits {
            self.model.insert(at, (to, access, kind));
            for level in 2..=3 {
                self.ept.merge(gpa.raw(), level, &mut self.pool, self.steps);
            }
        }
    }

    /// All that is mapped is found, and all pages come back.
    pub fn end(mut self) {
        self.compare();
        let mut left = 0;
        assert!(self.ept.drain(u64::MAX, &mut self.pool, 1, |leaf, _| left += leaf.size.pages()));
        self.ept.free(&mut self.pool, 1);
        let rest = self.rest.map_or(0, |_| Size::G1.pages() - WINDOW / PAGE_SIZE);
        assert_eq!(left, self.model.len() as u64 + rest);
        assert_eq!(self.pool.len() + self.pool.retired(), self.total + 1);
    }
}
