// SPDX-License-Identifier: GPL-2.0

//! The address space of a partition: extended page tables (SDM vol. 3, 30.3).
//!
//! Other LPs walk these tables while they change. Therefore each change of a translation is one
//! store, a table is complete before it is linked, and a table that was unlinked is *retired*: its
//! page is not used again before every LP has passed `epoch` and so dropped what it had cached.
//! The epoch must begin after the change: pass [`UNSEALED`](super::pool::UNSEALED) and seal the pool.
//!
//! What may be mapped where is decided by the [owners](super::owner): but for the root's identity
//! map, each change here takes a token of theirs.

use super::addr::{Gpa, GpaRange, Size, Spa, GPA_END};
use super::frame::{Frame, Node, PageBox, WORDS};
use super::mtrr::{MemType, MtrrState};
use super::owner::{Claimed, Grant, Returned};
use super::pool::{Missing, Pool};

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
const TYPE_SHIFT: u32 = 3;
/// The type is this one, whatever a child's PAT says: memory that others have in their caches must
/// not be there without caches for it (SDM vol. 3, 13.12.4).
const IGNORE_PAT: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
/// Flags of an entry that links a table: all is allowed there, the leaf decides.
const TABLE: u64 = READ | WRITE | EXECUTE;

/// Levels of the tables.
const LEVELS: u32 = 4;

/// What the processor's EPT can do (IA32_VMX_EPT_VPID_CAP, SDM vol. 3, A.10).
#[derive(Clone, Copy, Debug)]
pub struct EptCaps {
    pub one_gib: bool,
    pub two_mib: bool,
}

impl EptCaps {
    fn allows(self, size: Size) -> bool {
        match size {
            Size::K4 => true,
            Size::M2 => self.two_mib,
            Size::G1 => self.one_gib,
        }
    }
}

/// What a partition may do with a page. A page with which it may do nothing is mapped all the same:
/// where nothing is mapped, the root finds the device that it expects there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

impl Access {
    pub const ALL: Access = Access { read: true, write: true, execute: true };
    pub const READ: Access = Access { read: true, ..Access::NONE };
    pub const NONE: Access = Access { read: false, write: false, execute: false };
}

/// A translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First byte of the guest page.
    pub gpa: u64,
    /// First byte of the system page.
    pub spa: u64,
    pub size: Size,
    pub access: Access,
    pub kind: MemType,
}

impl Leaf {
    fn word(&self) -> u64 {
        let mut word = self.spa & Node::ADDRESS | (self.kind as u64) << TYPE_SHIFT;
        if self.access.read {
            word |= READ;
        }
        if self.access.write {
            word |= WRITE;
        }
        if self.access.execute {
            word |= EXECUTE;
        }
        if self.size != Size::K4 {
            word |= LARGE;
        }
        word
    }

    fn from_word(gpa: u64, size: Size, word: u64) -> Leaf {
        Leaf {
            gpa,
            spa: word & Node::ADDRESS,
            size,
            access: Access {
                read: word & READ != 0,
                write: word & WRITE != 0,
                execute: word & EXECUTE != 0,
            },
            kind: MemType::from_raw(word >> TYPE_SHIFT & 7).unwrap_or(MemType::Uncacheable),
        }
    }

    /// Where the byte at `gpa`, which is inside the page, lies.
    pub fn translate(&self, gpa: Gpa) -> u64 {
        self.spa | gpa.raw() & (self.size.bytes() - 1)
    }
}

/// A page of RAM that the root may use.
const SMALL: Leaf =
    Leaf { gpa: 0, spa: 0, size: Size::K4, access: Access::ALL, kind: MemType::WriteBack };

/// Why a page was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// That many pages are missing in the pool. Nothing was changed.
    NoMemory(Missing),
    /// Something is mapped there. Nothing was changed.
    Exists,
    /// Not aligned, or a size that the processor lacks.
    Invalid,
}

impl From<Missing> for MapError {
    fn from(missing: Missing) -> MapError {
        MapError::NoMemory(missing)
    }
}

/// Bytes that an entry of a table at `level` stands for.
const fn span(level: u32) -> u64 {
    1 << (12 + 9 * (level - 1))
}

fn index(gpa: u64, level: u32) -> usize {
    (gpa / span(level)) as usize % WORDS
}

/// Extended page tables. All of its pages came from pools and return there.
#[derive(Debug)]
#[must_use = "its pages are lost"]
pub struct Ept {
    root: PageBox<Node>,
    caps: EptCaps,
}

impl Ept {
    /// An address space with nothing in it.
    pub fn new(root: Frame, caps: EptCaps) -> Ept {
        Ept { root: PageBox::zeroed(root), caps }
    }

    /// The EPT pointer for the VMCS (SDM vol. 3, 25.6.11): write-back, 4 levels. Accessed and dirty
    /// flags stay off: with them a guest's page walks count as writes, which would turn reads of
    /// page tables that lie in read-only pages into exits.
    pub fn eptp(&self) -> u64 {
        self.root.spa().raw() | MemType::WriteBack as u64 | u64::from(LEVELS - 1) << 3
    }

    /// What is mapped at `gpa`.
    pub fn lookup(&self, gpa: Gpa) -> Option<Leaf> {
        let mut node: &Node = &self.root;
        for level in (1..=LEVELS).rev() {
            let i = index(gpa.raw(), level);
            match node.child(i) {
                Some(child) => node = child,
                None => {
                    let size = Size::at_level(level)?;
                    let word = node.get(i);
                    return (word != 0).then(|| Leaf::from_word(size.floor(gpa.raw()), size, word));
                }
            }
        }
        None
    }

    /// The entry that maps `gpa`, as the processor finds it.
    #[cfg(not(hvcore_image))]
    pub fn entry(&self, gpa: Gpa) -> u64 {
        let mut node: &Node = &self.root;
        let mut level = LEVELS;
        while let Some(child) = node.child(index(gpa.raw(), level)) {
            (node, level) = (child, level - 1);
        }
        node.get(index(gpa.raw(), level))
    }

    /// Tables that mapping a page of that size at `gpa` would take.
    pub fn tables_needed(&self, gpa: Gpa, size: Size) -> Result<usize, MapError> {
        let mut node: &Node = &self.root;
        for level in (size.level()..=LEVELS).rev() {
            let i = index(gpa.raw(), level);
            match node.child(i) {
                Some(child) if level > size.level() => node = child,
                None if node.get(i) == 0 => return Ok((level - size.level()) as usize),
                _ => return Err(MapError::Exists),
            }
        }
        Err(MapError::Exists)
    }

    /// Tables that are needed to give `gpa` an entry of its own for 4 KiB.
    pub(super) fn split_cost(&self, gpa: Gpa) -> usize {
        let mut node: &Node = &self.root;
        for level in (2..=LEVELS).rev() {
            match node.child(index(gpa.raw(), level)) {
                Some(child) => node = child,
                None => return (level - 1) as usize,
            }
        }
        0
    }

    /// Maps what `next` gives, which are pages of that size, from `gpa` on: `left` of them, or as
    /// many as there are entries left in one table. `left` is counted down for each, and tells how
    /// far it came also on an error; what `next` gave is always mapped.
    pub fn fill<E: From<MapError>>(
        &mut self,
        gpa: Gpa,
        size: Size,
        access: Access,
        pool: &mut Pool,
        left: &mut usize,
        mut next: impl FnMut() -> Result<Grant, E>,
    ) -> Result<(), E> {
        if !size.aligns(gpa.raw()) || !self.caps.allows(size) {
            return Err(MapError::Invalid.into());
        }
        pool.reserve(self.tables_needed(gpa, size)?).map_err(MapError::from)?;
        let node = self.descend(gpa.raw(), size.level(), pool).map_err(MapError::from)?;
        let first = index(gpa.raw(), size.level());
        for i in (first..WORDS).take(*left) {
            if node.get(i) != 0 {
                return Err(MapError::Exists.into());
            }
            let grant = next()?;
            debug_assert!(grant.size() == size);
            let (spa, kind) = (grant.spa().raw(), MemType::WriteBack);
            node.set(i, Leaf { gpa: 0, spa, size, access, kind }.word() | IGNORE_PAT);
            *left -= 1;
        }
        Ok(())
    }

    /// Maps a page where nothing is mapped. All or nothing.
    pub(super) fn map(
        &mut self,
        gpa: Gpa,
        spa: Spa,
        size: Size,
        access: Access,
        kind: MemType,
        pool: &mut Pool,
    ) -> Result<(), MapError> {
        if !size.aligns(gpa.raw()) || !size.aligns(spa.raw()) || !self.caps.allows(size) {
            return Err(MapError::Invalid);
        }
        pool.reserve(self.tables_needed(gpa, size)?)?;
        let leaf = Leaf { gpa: gpa.raw(), spa: spa.raw(), size, access, kind };
        let node = self.descend(gpa.raw(), size.level(), pool)?;
        node.set(index(gpa.raw(), size.level()), leaf.word());
        Ok(())
    }

    /// The table at `level` for `gpa`. On the way missing tables are made and larger pages split;
    /// the caller has reserved what that takes.
    fn descend(&mut self, gpa: u64, level: u32, pool: &mut Pool) -> Result<&mut Node, Missing> {
        let mut node: &mut Node = &mut self.root;
        for above in (level + 1..=LEVELS).rev() {
            let i = index(gpa, above);
            if !node.is_link(i) {
                let frame = pool.pop().ok_or(Missing(1))?;
                let word = node.get(i);
                // The translations of the new table are those of the entry that it replaces, so
                // that it does not matter which of the two another LP uses.
                let child = match Size::at_level(above - 1) {
                    Some(size) if word != 0 => {
                        let first = if size == Size::K4 { word & !LARGE } else { word };
                        Node::filled(frame, |n| first + n * size.bytes())
                    }
                    _ => PageBox::zeroed(frame),
                };
                node.link(i, child, TABLE);
            }
            // There is a link: it was there, or was just made.
            node = node.child_mut(i).ok_or(Missing(0))?;
        }
        Ok(node)
    }

    /// Has the root see `blank` in place of a page that it may not use; not even that before
    /// [`blink`](Ept::blink).
    pub fn hide(&mut self, claim: &Claimed, blank: Spa, pool: &mut Pool) -> Result<(), Missing> {
        let leaf = Leaf { spa: blank.raw(), access: Access::NONE, ..SMALL };
        self.replace(claim.page().spa(), leaf, pool)
    }

    /// Lets the root read `blank` at `spa`, or has it exit there, if that is what it sees there.
    pub fn blink(&mut self, spa: Gpa, blank: Spa, access: Access, pool: &mut Pool) {
        if self.lookup(spa).is_some_and(|leaf| leaf.spa == blank.raw()) {
            // The entry is there, so it takes no memory.
            let leaf = Leaf { spa: blank.raw(), access, ..SMALL };
            let _ = self.replace(spa.identity(), leaf, pool);
        }
    }

    /// Has the root see its page again, the same under [`hide`](Ept::hide): so no table has to be
    /// made. Tables that are no longer needed are retired.
    pub fn show(
        &mut self,
        back: Returned,
        kind: MemType,
        pool: &mut Pool,
        epoch: u64,
    ) -> Result<(), Missing> {
        let spa = back.page().spa();
        self.replace(spa, Leaf { spa: spa.raw(), kind, ..SMALL }, pool)?;
        for level in 2..=3 {
            self.merge(spa.raw(), level, pool, epoch);
        }
        Ok(())
    }

    /// Makes `leaf` the translation of the 4 KiB of the root at `spa`, whatever was there,
    /// splitting a larger page if need be. All or nothing.
    pub(super) fn replace(&mut self, spa: Spa, leaf: Leaf, pool: &mut Pool) -> Result<(), Missing> {
        let at = spa.raw();
        pool.reserve(Gpa::new(at).map_or(0, |gpa| self.split_cost(gpa)))?;
        self.descend(at, 1, pool)?.set(index(at, 1), leaf.word());
        Ok(())
    }

    /// Puts one larger page in place of a table below `level` that says the same.
    pub fn merge(&mut self, gpa: u64, level: u32, pool: &mut Pool, epoch: u64) -> Option<()> {
        let size = Size::at_level(level).filter(|size| self.caps.allows(*size))?;
        let mut node: &mut Node = &mut self.root;
        for above in (level + 1..=LEVELS).rev() {
            node = node.child_mut(index(gpa, above))?;
        }
        let i = index(gpa, level);
        let table = node.child(i)?;
        let part = Size::at_level(level - 1)?;
        let first = table.get(0) & !(ACCESSED | DIRTY);
        let same = |n: usize| {
            let want = first + n as u64 * part.bytes();
            table.get(n) & !(ACCESSED | DIRTY) == want && !table.is_link(n)
        };
        // The last entry first: pages often return in the order of their addresses.
        if !same(WORDS - 1)
            || first == 0
            || !size.aligns(first & Node::ADDRESS)
            || !(0..WORDS).all(same)
        {
            return None;
        }
        let table = node.unlink(i, first | LARGE)?;
        pool.retire(table.into_frame(), epoch);
        Some(())
    }

    /// Unmaps what is mapped in `range` and tells `seen` of each page. Larger pages that reach over
    /// an end of the range are split; without the memory for that nothing changes. (The number of
    /// missing pages may be up to two too high when both ends lie in one page.)
    pub fn unmap(
        &mut self,
        range: GpaRange,
        pool: &mut Pool,
        epoch: u64,
        seen: impl FnMut(Leaf, &mut Pool),
    ) -> Result<(), Missing> {
        let (start, end) = (range.start(), range.end());
        pool.reserve(self.edge_cost(start) + self.edge_cost(end))?;
        self.split_edge(start, pool)?;
        self.split_edge(end, pool)?;
        let mut sweep = Sweep { start, end, pool, epoch, budget: u64::MAX, seen };
        sweep.clear(&mut self.root, LEVELS, 0);
        Ok(())
    }

    /// Unmaps everything, some `budget` pages of 4 KiB at a time: false if there is more to do.
    pub fn drain(
        &mut self,
        budget: u64,
        pool: &mut Pool,
        epoch: u64,
        seen: impl FnMut(Leaf, &mut Pool),
    ) -> bool {
        let mut sweep = Sweep { start: 0, end: GPA_END, pool, epoch, budget, seen };
        sweep.clear(&mut self.root, LEVELS, 0)
    }

    /// Retires the last of its pages. Call [`drain`](Ept::drain) first, until all is unmapped.
    pub fn free(self, pool: &mut Pool, epoch: u64) {
        debug_assert!(self.root.is_empty());
        pool.retire(self.root.into_frame(), epoch);
    }

    /// Tables that have to be made so that a page starts at `at`.
    fn edge_cost(&self, at: u64) -> usize {
        match Gpa::new(at).and_then(|gpa| self.lookup(gpa)) {
            Some(leaf) if !leaf.size.aligns(at) => (leaf.size.level() - edge_level(at)) as usize,
            _ => 0,
        }
    }

    fn split_edge(&mut self, at: u64, pool: &mut Pool) -> Result<(), Missing> {
        if self.edge_cost(at) > 0 {
            self.descend(at, edge_level(at), pool)?;
        }
        Ok(())
    }

    /// Maps `[start, end)`, where nothing is mapped, to itself with the memory types of `mtrrs`, in
    /// the largest pages possible. On an error part of it is mapped.
    pub fn map_identity(
        &mut self,
        start: Gpa,
        end: u64,
        mtrrs: &MtrrState,
        pool: &mut Pool,
    ) -> Result<(), MapError> {
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| at.raw() < end) {
            let (size, kind) = Size::DESCENDING
                .into_iter()
                .filter(|size| self.caps.allows(*size) && size.aligns(at.raw()))
                .filter(|size| size.bytes() <= end - at.raw())
                .find_map(|size| Some((size, mtrrs.uniform(at.raw(), size)?)))
                .ok_or(MapError::Invalid)?;
            self.map(at, at.identity(), size, Access::ALL, kind, pool)?;
            next = at.add(size.bytes());
        }
        Ok(())
    }

    /// Maps the largest page around `gpa` to itself that has one memory type and holds nothing that
    /// is mapped already. For the root's accesses to devices above RAM, mapped when first used.
    /// None if `gpa` is mapped already (another LP was faster).
    pub fn map_identity_at(
        &mut self,
        gpa: Gpa,
        mtrrs: &MtrrState,
        pool: &mut Pool,
    ) -> Result<Option<Leaf>, Missing> {
        for size in Size::DESCENDING {
            let at = gpa.floor(size);
            let Some(kind) = mtrrs.uniform(at.raw(), size) else {
                continue;
            };
            match self.map(at, at.identity(), size, Access::ALL, kind, pool) {
                Ok(()) => return Ok(self.lookup(gpa)),
                Err(MapError::NoMemory(missing)) => return Err(missing),
                Err(MapError::Exists | MapError::Invalid) => {}
            }
        }
        Ok(None)
    }
}

/// Level of the largest page that can start at `at`, not counting 1 GiB.
fn edge_level(at: u64) -> u32 {
    if Size::M2.aligns(at) {
        2
    } else {
        1
    }
}

/// A pass over `[start, end)` that removes what it finds there.
struct Sweep<'a, F> {
    start: u64,
    end: u64,
    pool: &'a mut Pool,
    epoch: u64,
    /// Pages of 4 KiB that it may still unmap.
    budget: u64,
    seen: F,
}

impl<F: FnMut(Leaf, &mut Pool)> Sweep<'_, F> {
    /// Clears the part of the range that is in `node`, a table at `level` that begins at `base`.
    /// False if the budget ended before the range.
    fn clear(&mut self, node: &mut Node, level: u32, base: u64) -> bool {
        let last = base + (span(level) * WORDS as u64 - 1);
        let (first, last) = (self.start.max(base), last.min(self.end - 1));
        for i in index(first, level)..=index(last, level) {
            let at = base + i as u64 * span(level);
            if let Some(child) = node.child_mut(i) {
                if !self.clear(child, level - 1, at) {
                    return false;
                }
                if child.is_empty() {
                    if let Some(table) = node.unlink(i, 0) {
                        self.pool.retire(table.into_frame(), self.epoch);
                    }
                }
            } else if let (Some(size), word @ 1..) = (Size::at_level(level), node.get(i)) {
                if self.budget == 0 {
                    return false;
                }
                self.budget = self.budget.saturating_sub(size.pages());
                // The edges were split: the page lies inside the range.
                node.set(i, 0);
                (self.seen)(Leaf::from_word(at, size, word), self.pool);
            }
        }
        true
    }
}
