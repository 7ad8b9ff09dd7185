// SPDX-License-Identifier: GPL-2.0

//! An EPT beside a map of pages that is too simple to be wrong. For property tests and fuzzers on
//! the host.

extern crate std;

use std::collections::BTreeMap;
use std::vec::Vec;

use super::addr::{Gpa, GpaRange, Size, Spa, PAGE_SIZE};
use super::ept::{Access, Ept, EptCaps, Leaf, MapError};
use super::frame::{host_frame, Frame};
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
    /// Pages that the EPT began with, and that there are by now.
    first: usize,
    total: usize,
    /// Those that the EPT has no use for.
    spare: Vec<Frame>,
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
        let (model, spare) = (Model::new(), Vec::new());
        let mut both =
            Both { ept, pool, first: total, total, spare, base, model, rest: None, steps: 0 };
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

    /// `work` wants that many pages more: with one less it says so again, and with all of them it is
    /// done. What it wanted it used, but for `over` pages at most.
    fn supply<E: From<Missing> + PartialEq + core::fmt::Debug>(
        &mut self,
        missing: usize,
        over: usize,
        mut work: impl FnMut(&mut Self) -> Result<(), E>,
    ) {
        assert!((1..=6).contains(&missing), "{missing} pages are missing");
        for left in (0..missing).rev() {
            let frame = self.spare.pop().unwrap_or_else(|| {
                self.total += 1;
                host_frame(1 + self.total as u64)
            });
            self.pool.push(frame);
            let free = self.pool.len();
            if left > 0 {
                assert_eq!(work(self), Err(Missing(left).into()));
                assert_eq!(self.pool.len(), free, "pages after a refusal");
            }
        }
        assert_eq!(work(self), Ok(()), "with all that was missing");
        assert!(self.pool.len() <= over, "{} pages were not needed", self.pool.len());
    }

    /// Changes both.
    pub fn step(&mut self, below: &mut dyn FnMut(u64) -> u64) {
        self.steps += 1;
        while self.pool.len() > self.first {
            self.spare.extend(self.pool.pop());
        }
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
        let map = |both: &mut Self| both.ept.map(gpa, to, size, access, kind, &mut both.pool);
        let done = map(self);
        assert!(self.pool.len() <= free);
        match done {
            Ok(()) => {}
            Err(MapError::Exists) => return assert!(taken),
            Err(MapError::NoMemory(Missing(n))) => {
                assert_eq!(self.pool.len(), free, "pages after a refusal");
                self.supply(n, 0, map);
            }
            Err(MapError::Invalid) => panic!("{at:#x} {size:?} is invalid"),
        }
        assert!(!taken);
        self.model.extend(pages().map(|p| (p, (to.raw() + p - at, access, kind))));
    }

    fn unmap(&mut self, at: u64, count: u64) {
        let (base, end) = (self.base, at + count * PAGE_SIZE);
        let mut seen = Model::new();
        let range = GpaRange::new(base + at, count).expect("a range");
        let large = |at| Gpa::new(at).and_then(|gpa| self.ept.lookup(gpa));
        // The one case in which more may be wanted than is needed.
        let one = large(range.start()).is_some_and(|leaf| Some(leaf) == large(range.end()));
        let free = self.pool.len();
        let mut unmap = |both: &mut Self| {
            both.ept.unmap(range, &mut both.pool, both.steps, |leaf, _| {
                for offset in (0..leaf.size.bytes()).step_by(PAGE_SIZE as usize) {
                    let to = (leaf.spa + offset, leaf.access, leaf.kind);
                    assert!(seen.insert(leaf.gpa - base + offset, to).is_none());
                }
            })
        };
        match unmap(self) {
            Ok(()) => assert!(self.pool.len() <= free, "a table is used again at once"),
            Err(Missing(n)) => {
                assert_eq!(self.pool.len(), free, "pages after a refusal");
                self.supply(n, if one { 2 } else { 0 }, unmap);
            }
        }
        let mut gone = self.model.split_off(&at);
        self.model.append(&mut gone.split_off(&end));
        assert_eq!(seen, gone, "what was unmapped");
    }

    /// A page gets another translation. Where that makes it one with those around it, a large page
    /// takes their place, which nobody can tell but by the tables that it saves.
    fn replace(&mut self, at: u64, (to, access, kind): To) {
        let (gpa, free) = (self.gpa(at), self.pool.len());
        let leaf = Leaf { gpa: 0, spa: to, size: Size::K4, access, kind };
        let replace = |both: &mut Self| both.ept.replace(gpa.identity(), leaf, &mut both.pool);
        if let Err(Missing(n)) = replace(self) {
            assert_eq!(self.pool.len(), free, "pages after a refusal");
            self.supply(n, 0, replace);
        }
        self.model.insert(at, (to, access, kind));
        let free = self.pool.len();
        for level in 2..=3 {
            self.ept.merge(gpa.raw(), level, &mut self.pool, self.steps);
        }
        assert_eq!(self.pool.len(), free, "a table is used again at once");
        let (large, offset) = (Size::M2.floor(at), at % Size::M2.bytes());
        let first = (to.wrapping_sub(offset), access, kind);
        let same = |at: u64| {
            let wanted = (first.0.wrapping_add(at), access, kind);
            self.model.get(&(large + at)) == Some(&wanted)
        };
        let all = || (0..Size::M2.bytes()).step_by(PAGE_SIZE as usize).all(same);
        let merges = to >= offset && Size::M2.aligns(first.0) && all();
        let size = self.ept.lookup(gpa).map(|leaf| leaf.size);
        assert!((size != Some(Size::K4)) == merges, "{at:#x} is in a page of {size:?}");
    }

    /// All that is mapped is found, and all pages come back.
    pub fn end(mut self) {
        self.compare();
        let mut left = 0;
        let mut before = u64::MAX;
        while left != before && self.steps % 2 == 0 {
            before = left;
            let drained =
                self.ept.drain(300, &mut self.pool, 1, |leaf, _| left += leaf.size.pages());
            let gone = left - before.min(left);
            assert!(drained || gone >= 300, "no more than {gone} pages at once");
        }
        assert!(self.ept.drain(u64::MAX, &mut self.pool, 1, |leaf, _| left += leaf.size.pages()));
        self.ept.free(&mut self.pool, 1);
        let rest = self.rest.map_or(0, |_| Size::G1.pages() - WINDOW / PAGE_SIZE);
        assert_eq!(left, self.model.len() as u64 + rest);
        let pages = self.pool.len() + self.pool.retired() + self.spare.len();
        assert_eq!(pages, self.total + 1);
    }
}
