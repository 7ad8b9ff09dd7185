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

/// Offset of a guest page in the window, to where it is mapped.
type Model = BTreeMap<u64, (u64, Access)>;

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
    steps: u64,
}

impl Both {
    pub fn new(below: &mut dyn FnMut(u64) -> u64) -> Both {
        const FULL: EptCaps = EptCaps { one_gib: true, two_mib: true };
        let base = [0, 0x3fc0_0000, 0x7f_ffc0_0000][below(3) as usize];
        let total = 3 + below(12) as usize;
        let ept = Ept::new(host_frame(1), FULL);
        let pool = host_pool(2, total as u64);
        Both { ept, pool, total, base, model: Model::new(), steps: 0 }
    }

    fn gpa(&self, at: u64) -> Gpa {
        Gpa::new(self.base + at).expect("a guest address")
    }

    /// The two map the same.
    pub fn compare(&self) {
        for at in (0..WINDOW).step_by(PAGE_SIZE as usize) {
            let gpa = self.gpa(at);
            let have = self.ept.lookup(gpa).map(|leaf| (leaf.translate(gpa), leaf.access));
            assert_eq!(have, self.model.get(&at).copied(), "step {}: {at:#x}", self.steps);
        }
    }

    /// Changes both.
    pub fn step(&mut self, below: &mut dyn FnMut(u64) -> u64) {
        self.steps += 1;
        let access = Access { read: true, write: below(2) == 0, execute: below(2) == 0 };
        let size = if below(2) == 0 { Size::K4 } else { Size::M2 };
        let at = size.floor(below(WINDOW));
        let to = Spa::new(size.floor(below(1 << 40))).expect("a system address");
        match below(4) {
            0 | 1 => self.map(at, to, size, access),
            2 => self.unmap(at, 1 + below((WINDOW - at) / PAGE_SIZE)),
            _ => self.replace(Size::K4.floor(at), to, access),
        }
        if below(3) == 0 {
            self.pool.settle(u64::MAX);
        }
    }

    fn map(&mut self, at: u64, to: Spa, size: Size, access: Access) {
        let (gpa, free) = (self.gpa(at), self.pool.len());
        let pages = || (at..at + size.bytes()).step_by(PAGE_SIZE as usize);
        let taken = self.model.range(at..at + size.bytes()).next().is_some();
        match self.ept.map(gpa, to, size, access, MemType::WriteBack, &mut self.pool) {
            Ok(()) => {
                assert!(!taken);
                self.model.extend(pages().map(|p| (p, (to.raw() + p - at, access))));
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
                let page = (leaf.gpa - base + offset, (leaf.spa + offset, leaf.access));
                assert!(seen.insert(page.0, page.1).is_none());
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

    fn replace(&mut self, at: u64, to: Spa, access: Access) {
        let to = to.raw();
        let gpa = self.gpa(at);
        let fits = self.ept.split_cost(gpa) <= self.pool.len();
        let leaf = Leaf { gpa: 0, spa: to, size: Size::K4, access, kind: MemType::WriteBack };
        let done = self.ept.replace(gpa.identity(), leaf, &mut self.pool);
        assert_eq!(done.is_ok(), fits);
        if fits {
            self.model.insert(at, (to, access));
        }
    }

    /// All that is mapped is found, and all pages come back.
    pub fn end(mut self) {
        self.compare();
        let mut left = 0;
        assert!(self.ept.drain(u64::MAX, &mut self.pool, 1, |leaf, _| left += leaf.size.pages()));
        self.ept.free(&mut self.pool, 1);
        assert_eq!(left, self.model.len() as u64);
        assert_eq!(self.pool.len() + self.pool.retired(), self.total + 1);
    }
}
