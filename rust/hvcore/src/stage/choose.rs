// SPDX-License-Identifier: GPL-2.0

//! What the root of the [stage](crate::stage) asks for.

use super::{write, Stage, CHILDREN, LISTS, PAGES, PLAYED};
use crate::mem::addr::PAGE_SIZE;
use hvabi::call::{map_flags, Call, DEPOSIT_PAGES};

impl Stage<'_> {
    /// A page of the root that hvcore is to be told of.
    pub(super) fn page(&mut self) -> u64 {
        let span = PLAYED.end - PLAYED.start;
        let n = match self.below(4) {
            0 => PLAYED.start + self.below(span),
            1 => self.below(PAGES),
            _ => PLAYED.start + 512 * self.below(2) + self.below(24),
        };
        n * PAGE_SIZE
    }

    /// A number that is somehow interesting.
    pub(super) fn odd(&mut self) -> u64 {
        const EDGES: [u64; 20] = [
            0,
            1,
            2,
            7,
            63,
            64,
            65,
            511,
            512,
            513,
            4096,
            0xfee0_0000,
            1 << 32,
            1 << 39,
            (1 << 48) - 4096,
            1 << 48,
            (1 << 52) - 4096,
            1 << 63,
            u64::MAX,
            !0xfff,
        ];
        match self.below(3) {
            0 => EDGES[self.below(20) as usize],
            1 => self.page() + self.below(8),
            _ => self.below(16),
        }
    }

    pub(super) fn partition(&mut self) -> u64 {
        match self.below(16) {
            0 => self.odd(),
            1..8 => 1,
            n => 1 + n % CHILDREN,
        }
    }

    pub(super) fn guest_page(&mut self) -> u64 {
        match self.below(8) {
            0 => self.odd(),
            1 => 512 * self.below(3) * PAGE_SIZE,
            _ => self.below(24) * PAGE_SIZE,
        }
    }

    pub(super) fn count(&mut self, most: u64) -> u64 {
        match self.below(16) {
            0 => self.odd(),
            _ => 1 + self.below(most),
        }
    }

    /// Writes a list into a page that is the root's, and gives its address: any pages, or a run of
    /// them, which can all be what a call wants.
    pub(super) fn list(&mut self, large: bool) -> u64 {
        let at = PLAYED.start + self.below(LISTS);
        let run = (!large && self.below(2) == 0).then(|| self.page());
        for item in 0..if run.is_some() { DEPOSIT_PAGES } else { 24 } {
            let spa = match run {
                Some(first) => first + item as u64 * PAGE_SIZE,
                None if large => self.page() & !0x1f_ffff,
                None => self.page(),
            };
            // The root cannot write what is not its.
            if self.owns(at) {
                write(at, item, spa);
            }
        }
        at * PAGE_SIZE
    }

    pub(super) fn index(&mut self) -> u64 {
        match self.below(16) {
            0 => self.odd(),
            n => n % 2,
        }
    }

    /// Arguments of a call; none if it is not to be made now.
    pub(super) fn arguments(&mut self, number: u64, partition: u64) -> Option<[u64; 5]> {
        const DEPOSIT: u64 = Call::Deposit as u64;
        const WITHDRAW: u64 = Call::Withdraw as u64;
        const DESTROY: u64 = Call::PartitionDestroy as u64;
        const MAP: u64 = Call::GpaMap as u64;
        const UNMAP: u64 = Call::GpaUnmap as u64;
        const VP_CREATE: u64 = Call::VpCreate as u64;
        const VP_GET: u64 = Call::VpGet as u64;
        const ASSERT: u64 = Call::AssertInterrupt as u64;
        let mut a = [partition, 0, 0, 0, 0];
        match number {
            // With no partition that would leave hvcore.
            1 if !crate::partition::any() => return None,
            DEPOSIT => {
                if self.below(32) == 0 {
                    a[0] = 0;
                }
                (a[1], a[2]) = (self.list(false), self.count(DEPOSIT_PAGES as u64));
            }
            WITHDRAW => (a[1], a[2]) = (self.list(false), self.count(24)),
            DESTROY if self.below(4) != 0 => return None,
            MAP => {
                let large = self.below(4) == 0;
                a[1] = self.guest_page();
                a[2] = self.list(large);
                a[3] = self.count(if large { 2 } else { 8 });
                a[4] = self.below(4) | u64::from(large) * map_flags::LARGE;
                a[4] |= [0, map_flags::PRIVATE][self.below(2) as usize];
                a[4] |= [0, self.below(1 << 16)][usize::from(self.below(16) == 0)];
            }
            UNMAP => (a[1], a[2]) = (self.guest_page(), self.count(16)),
            VP_CREATE => (a[1], a[2]) = (self.index(), self.page()),
            VP_GET => {
                a[3] = self.list(false);
                (a[1], a[2], a[4]) = (self.index(), self.below(6), self.odd());
            }
            ASSERT => {
                let modes = self.below(16) << 8;
                a[1] = modes | self.below(256) | self.below(16) << 11;
                a[2] = self.odd();
            }
            4 | 14 | 15 => {}
            _ => a = core::array::from_fn(|_| self.odd()),
        }
        Some(a)
    }
}
