// SPDX-License-Identifier: GPL-2.0

//! Free pages, kept in a list that runs through the pages themselves.

use super::frame::{zeroable, Frame, PageBox};
use super::owner::Claimed;
use hvabi::call::DEPOSIT_PAGES;

zeroable! {
    /// A free page.
    struct Free {
        next: Option<PageBox<Free>>,
    }
}

#[derive(Default, Debug)]
struct List {
    head: Option<PageBox<Free>>,
    len: usize,
}

impl List {
    fn push(&mut self, frame: Frame) {
        let mut free = PageBox::<Free>::headed(frame);
        free.next = self.head.take();
        self.head = Some(free);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<Frame> {
        let mut free = self.head.take()?;
        self.head = free.next.take();
        self.len -= 1;
        Some(free.into_frame())
    }
}

/// That many pages are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing(pub usize);

/// An epoch that has not begun. An epoch that began *before* a table was unlinked is too early for
/// its page: an LP may see the epoch, flush, and walk the table once more. So retire at `UNSEALED`,
/// begin the epoch when the change is complete, and [`Pool::seal`] with it.
pub const UNSEALED: u64 = u64::MAX;

/// Free pages of a partition or of hvcore itself.
///
/// A page that somebody else could reach a moment ago (the root before it deposited it, a walk of
/// an EPT before the table was unlinked) is *retired* first: it is handed out again only when every
/// LP has passed the epoch at which it was retired, and so flushed its translations. Until then a
/// deposited page can still be written: nothing may lie in it, so that those are noted here.
#[derive(Debug)]
pub struct Pool {
    free: List,
    retired: List,
    deposited: [Option<Claimed>; DEPOSIT_PAGES],
    waiting: usize,
    /// Latest epoch of a page in `retired`. One for all keeps the list simple: the older pages
    /// wait for the youngest.
    epoch: u64,
}

impl Pool {
    pub const fn empty() -> Pool {
        Pool {
            free: List { head: None, len: 0 },
            retired: List { head: None, len: 0 },
            deposited: [const { None }; DEPOSIT_PAGES],
            waiting: 0,
            epoch: 0,
        }
    }

    /// Adds a page that nobody else can reach.
    pub fn push(&mut self, frame: Frame) {
        self.free.push(frame);
    }

    /// Takes a page.
    pub fn pop(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    /// Pages that [`pop`](Pool::pop) can give.
    pub fn len(&self) -> usize {
        self.free.len
    }

    pub fn is_empty(&self) -> bool {
        self.free.len == 0
    }

    /// Pages that wait for LPs.
    pub fn retired(&self) -> usize {
        self.retired.len + self.waiting
    }

    /// Pages that [`admit`](Pool::admit) can take before the next [`settle`](Pool::settle).
    pub fn room(&self) -> usize {
        DEPOSIT_PAGES - self.waiting
    }

    /// Checks that `n` pages can be taken, so that what follows can not fail half-way.
    pub fn reserve(&self, n: usize) -> Result<(), Missing> {
        match n.checked_sub(self.free.len) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(Missing(missing)),
        }
    }

    /// Adds a page that an LP may still reach until it has passed `epoch`.
    pub fn retire(&mut self, frame: Frame, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
        self.retired.push(frame);
    }

    /// What was retired at [`UNSEALED`] waits for `epoch`, which began after the change.
    pub fn seal(&mut self, epoch: u64) {
        if self.epoch == UNSEALED {
            self.epoch = epoch;
        }
    }

    /// Adds pages that just became hvcore's and are out of every EPT. The caller saw that there is
    /// [`room`](Pool::room).
    pub fn admit(&mut self, claims: impl Iterator<Item = Claimed>, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
        for claim in claims {
            self.deposited[self.waiting] = Some(claim);
            self.waiting += 1;
        }
    }

    /// Adds a page that just became hvcore's and that no LP can reach any more.
    pub fn accept(&mut self, claim: Claimed) {
        self.free.push(Frame::claimed(claim));
    }

    /// Every LP has passed `epoch`. Whether no page waits any more.
    pub fn settle(&mut self, epoch: u64) -> bool {
        if epoch >= self.epoch {
            while let Some(frame) = self.retired.pop() {
                self.free.push(frame);
            }
            for slot in self.deposited.iter_mut().take(self.waiting) {
                if let Some(claim) = slot.take() {
                    self.free.push(Frame::claimed(claim));
                }
            }
            self.waiting = 0;
        }
        self.retired() == 0
    }
}

#[cfg(test)]
impl Pool {
    /// Free pages in the order in which they are given.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        core::iter::successors(self.free.head.as_ref(), |free| free.next.as_ref())
            .map(|free| free.spa().raw() / 4096)
    }
}

/// A pool with the pages `first` to `first + count - 1` of the tests' RAM.
#[cfg(not(hvcore_image))]
pub fn host_pool(first: u64, count: u64) -> Pool {
    let mut pool = Pool::empty();
    for number in (first..first + count).rev() {
        pool.push(super::frame::host_frame(number));
    }
    pool
}

#[cfg(test)]
mod tests {
    use super::super::frame::host_frame;
    use super::*;

    #[test]
    fn gives_what_it_got() {
        let mut pool = host_pool(1, 3);
        assert_eq!(pool.reserve(3), Ok(()));
        assert_eq!(pool.reserve(5), Err(Missing(2)));
        let pages: [u64; 3] = core::array::from_fn(|_| pool.pop().unwrap().page().number());
        assert_eq!(pages, [1, 2, 3]);
        assert!(pool.pop().is_none() && pool.is_empty());
    }

    #[test]
    fn retired_pages_wait() {
        let mut pool = host_pool(1, 1);
        pool.retire(host_frame(2), 7);
        pool.retire(host_frame(3), 9);
        assert_eq!((pool.len(), pool.retired()), (1, 2));
        assert!(!pool.settle(8));
        assert_eq!(pool.len(), 1);
        assert!(pool.settle(9));
        assert_eq!((pool.len(), pool.retired()), (3, 0));

        pool.retire(host_frame(4), UNSEALED);
        assert!(!pool.settle(UNSEALED - 1));
        pool.seal(10);
        pool.seal(5);
        assert!(!pool.settle(9));
        assert!(pool.settle(10));
    }
}
