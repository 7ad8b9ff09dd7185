// SPDX-License-Identifier: GPL-2.0

//! A VP of the [stage](crate::stage) runs, and the root's other LP does not wait for it.

extern crate std;

use std::boxed::Box;
use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Vec;

use super::{dispatch, memory, read, Asked, Stage};
use crate::arch::host;
use crate::arch::lp::Lp;
use crate::arch::vmcs;
use crate::machine;
use crate::mem::addr::PAGE_SIZE;
use crate::mem::owner::{Child, Owner};
use crate::stage_guest::Guest;
use hvabi::call::{map_flags, Call, Status};

/// A hypercall: its number, and its arguments.
type Wanted = (u64, [u64; 5]);

/// What a partition's tables lead to, as the processor walks them.
#[derive(Default)]
pub(super) struct Reach {
    pub tables: Vec<u64>,
    pub pages: Vec<u64>,
}

impl Reach {
    pub fn of(eptp: u64) -> Reach {
        let mut reach = Reach::default();
        if eptp != 0 {
            reach.walk(eptp / PAGE_SIZE, 4);
        }
        reach
    }

    fn walk(&mut self, table: u64, level: u32) {
        self.tables.push(table);
        for entry in read(table).into_iter().filter(|entry| *entry != 0) {
            let to = entry >> 12 & 0xff_ffff_ffff;
            if level > 1 && entry & 1 << 7 == 0 {
                self.walk(to, level - 1);
            } else {
                self.pages.extend(to..to + (1 << (9 * (level - 1))));
            }
        }
    }
}

fn owner(number: u64) -> Owner {
    memory(|memory| {
        let page = memory.owners.page(number * PAGE_SIZE).expect("RAM");
        memory.owners.owner(page)
    })
}

/// The other LP, and what the root has it do at the first entry of the guest.
struct Meanwhile {
    lp: Lp,
    index: usize,
    /// The VP that runs.
    runs: (u64, u64),
    calls: Vec<Wanted>,
    answers: Vec<(Asked, Status, u64)>,
}

impl Meanwhile {
    fn happen(&mut self) {
        let (partition, vp) = self.runs;
        let vmcs = host::insn::vmptrst();
        let reach = Reach::of(vmcs::EPTP.read());
        let child = Child::new(partition).map(Owner::Child);
        let private = |page: &u64| Some(owner(*page)) == child;
        let own: Vec<u64> = reach.pages.iter().copied().filter(private).collect();
        for (number, arguments) in core::mem::take(&mut self.calls) {
            let asked = Asked::new(self.index, number, arguments);
            host::with(|p| p.guest = Some(Guest::new(Vec::new()).entered()));
            let (status, _, mapped) = dispatch(&mut self.lp, number, arguments);
            host::with(|p| p.guest = None);
            machine::catch_up(self.index as u32);

            let same = arguments[0] == partition;
            if same && number == Call::PartitionDestroy as u64 {
                assert_eq!(status, Status::Busy, "destroyed while a VP runs");
            }
            let takes = [Call::VpRun, Call::VpGet, Call::VpSet].map(|call| call as u64);
            if same && arguments[1] == vp && takes.contains(&number) {
                assert_ne!(status, Status::Ok, "call {number} of a VP that runs");
            }
            if same && number == Call::GpaMap as u64 && arguments[4] & map_flags::PRIVATE != 0 {
                assert_eq!(mapped, 0, "private memory while the VP runs");
            }
            // The guest's LP has flushed nothing.
            for table in &reach.tables {
                assert_eq!(owner(*table), Owner::Hypervisor, "table {table:#x}, by {number}");
            }
            for page in &own {
                assert!(private(page), "page {page:#x}, by {number}");
            }
            self.answers.push((asked, status, mapped));
        }
        host::insn::vmptrld(vmcs).expect("VMPTRLD");
    }
}

impl Stage<'_> {
    /// Runs a VP of a guest that does what it is told. If it is `watched`, the other LP makes calls
    /// meanwhile.
    pub(super) fn run(&mut self, lp: usize, number: u64, watched: bool) {
        let index = self.index();
        let mut choices = Vec::new();
        for _ in 0..self.below(6) {
            choices.push(core::array::from_fn(|_| self.below(1 << 16)));
        }
        let mut calls = Vec::new();
        for _ in 0..if watched { 1 + self.below(3) } else { 0 } {
            calls.extend(self.meanwhile(number));
        }
        self.scribble();
        let early = memory(|memory| {
            let mut pages = self.stale.iter().filter_map(|s| memory.owners.page(s.0 * PAGE_SIZE));
            let private = Child::new(number).map(Owner::Child);
            pages.any(|page| Some(memory.owners.owner(page)) == private)
        });
        let mut guest = Guest::new(choices).entered();
        let other = Rc::new(RefCell::new(watched.then(|| Meanwhile {
            lp: self.lps[1 - lp].take().expect("an LP in the root"),
            index: 1 - lp,
            runs: (number, index),
            calls,
            answers: Vec::new(),
        })));
        let seen = other.clone();
        let entered: host::Guest = Box::new(move |registers| {
            if let Some(meanwhile) = seen.borrow_mut().as_mut() {
                meanwhile.happen();
            }
            guest(registers)
        });
        host::with(|p| p.guest = Some(entered));
        let (status, ..) = self.call(lp, Call::VpRun as u64, [number, index, 0, 0, 0]);
        assert!(!early || status != Status::Ok, "it runs, and the root can write its memory");
        host::with(|p| p.guest = None);
        let other = other.borrow_mut().take();
        if let Some(Meanwhile { lp: back, answers, .. }) = other {
            self.lps[1 - lp] = Some(back);
            for (asked, status, mapped) in answers {
                self.note(&asked, status, mapped);
            }
            // Both passed through hvcore afterwards.
            (0..2).for_each(|lp| self.sync(lp));
        }
    }

    /// A call that the root makes while a VP of the partition runs, mostly about that partition.
    fn meanwhile(&mut self, partition: u64) -> Option<Wanted> {
        const CALLS: [Call; 12] = [
            Call::PartitionDestroy,
            Call::PartitionDestroy,
            Call::Deposit,
            Call::Withdraw,
            Call::GpaMap,
            Call::GpaUnmap,
            Call::GpaUnmap,
            Call::VpCreate,
            Call::VpRun,
            Call::VpGet,
            Call::VpSet,
            Call::AssertInterrupt,
        ];
        let call = CALLS[self.below(12) as usize];
        let partition = if self.below(4) == 0 { self.partition() } else { partition };
        Some(match call {
            Call::PartitionDestroy => (call as u64, [partition, 0, 0, 0, 0]),
            Call::VpRun => (call as u64, [partition, self.index(), 0, 0, 0]),
            Call::VpSet => (call as u64, self.arguments(Call::VpGet as u64, partition)?),
            _ => (call as u64, self.arguments(call as u64, partition)?),
        })
    }

    /// What the tables of the partitions lead to is theirs, or the root's, which lets them have it.
    pub(super) fn check_children(&self) {
        for number in 1..=super::CHILDREN {
            let Ok(partition) = crate::partition::lock(number) else {
                continue;
            };
            let child = Child::new(number).expect("a child");
            let reach = Reach::of(partition.space.eptp());
            for table in reach.tables {
                assert_eq!(owner(table), Owner::Hypervisor, "table {table:#x} of {number}");
            }
            let apic = memory(|memory| memory.apic_spa().raw() / PAGE_SIZE);
            // All children have the page of local APICs.
            for page in reach.pages.into_iter().filter(|page| *page != apic) {
                match owner(page) {
                    Owner::Child(owner) => assert_eq!(owner, child, "page {page:#x}"),
                    Owner::Shared { with, .. } => {
                        assert!(with.is_none_or(|c| c == child), "page {page:#x}: {with:?}");
                    }
                    owner => panic!("child {number} maps {page:#x}: {owner:?}"),
                }
            }
        }
    }
}
