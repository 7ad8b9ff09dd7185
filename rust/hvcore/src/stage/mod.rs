// SPDX-License-Identifier: GPL-2.0

//! hvcore on a machine that is not there: hypercalls of a root on two LPs, and guests whose exits
//! are made up, on [the host's processor](crate::arch::host). For tests and fuzzers.
//!
//! What is checked: hvcore does not panic; each VM entry of a child keeps to the rules of the
//! processor as far as they do not depend on what the root wrote; a page that is not the root's is
//! not seen by it, and by no child but its owner; and in the end all memory is the root's again.

extern crate std;

mod choose;
mod meanwhile;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use crate::arch::caps::Caps;
use crate::arch::host;
use crate::arch::lp::Lp;
use crate::arch::msr;
use crate::arch::vmcs::{self, reason};
use crate::hypercall;
use crate::machine;
use crate::mem::addr::PAGE_SIZE;
use crate::mem::ept::Access;
use crate::mem::frame::direct;
use crate::mem::owner::Owner;
use crate::partition;
use crate::policy::cr::Mode;
use crate::root;
use crate::stage_guest;
use hvabi::boot::CoreInfo;
use hvabi::call::{map_flags, Call, Status, LIST_ITEMS};
use hvabi::vp::gpr::{RAX, RCX, RDI, RDX, RSI};

/// Chooses a number below the one it is given.
pub type Below<'a> = &'a mut dyn FnMut(u64) -> u64;

/// RAM: 8 MiB at 0.
const PAGES: u64 = 2048;
/// hvcore's block; its last pages are public.
const BLOCK: core::ops::Range<u64> = 16..160;
const PUBLIC: u64 = 138;
/// Pages that the root plays with: two regions of 2 MiB. The first of them are lists as well.
const PLAYED: core::ops::Range<u64> = 512..1536;
const LISTS: u64 = 8;
const LPS: u32 = 2;
/// Partitions that are tried, of those that there could be.
const CHILDREN: u64 = 3;

/// hvcore's memory and partitions are there once.
static TAKEN: Mutex<()> = Mutex::new(());

/// The machine after launch. There is one at a time.
pub struct Stage<'a> {
    /// Taken where a guest has one.
    lps: [Option<Lp>; LPS as usize],
    below: Below<'a>,
    /// Pages of hvcore's pool: at first, and what the root gave.
    core_pages: usize,
    given: usize,
    /// Pages that tables for devices above 4 GiB may have taken.
    tables: usize,
    calls: u64,
    /// Pages that left the root, and the LPs (as bits) that did not flush since: there the root can
    /// still write them, and does.
    stale: Vec<(u64, u32)>,
    _taken: MutexGuard<'static, ()>,
}

/// CPUID of a processor with what hvcore looks for.
fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    match (leaf, subleaf) {
        (1, _) => [0x50654, 0, u32::MAX, !(1 << 12)],
        (7, 0) => [2, u32::MAX, u32::MAX, 1 << 26 | 1 << 28 | 1 << 29],
        (0xd, 0) => [7, 832, 832, 0],
        (0xd, 1) => [0xf, 0, 0, 0],
        (0xd, 2) => [256, 576, 0, 0],
        (0x8000_0001, _) => [0, 0, u32::MAX, u32::MAX],
        (0x8000_0008, _) => [39, 0, 0, 0],
        _ => [0; 4],
    }
}

fn switch_on() {
    host::reset();
    host::with(|p| p.cpuid = Some(cpuid));
    use host::insn::wrmsr;
    const ANY: u64 = 0xffff_ffff << 32;
    wrmsr(msr::VMX_BASIC, 1 << 55 | 4);
    for control in [msr::VMX_PINBASED, msr::VMX_PROCBASED, msr::VMX_EXIT, msr::VMX_ENTRY] {
        wrmsr(control + msr::VMX_TRUE_OFFSET, ANY);
    }
    wrmsr(msr::VMX_PROCBASED2, ANY);
    wrmsr(msr::VMX_EPT_VPID_CAP, u64::MAX);
    wrmsr(msr::VMX_CR0_FIXED0, 0x8000_0021);
    wrmsr(msr::VMX_CR0_FIXED1, 0xffff_ffff);
    wrmsr(msr::VMX_CR4_FIXED0, 1 << 13);
    wrmsr(msr::VMX_CR4_FIXED1, 0x0077_2fff);
    wrmsr(msr::VMX_MISC, 5);
}

impl<'a> Stage<'a> {
    pub fn new(below: Below<'a>) -> Stage<'a> {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        switch_on();
        let caps = Caps::read().expect("a processor with all that is needed");
        let info = CoreInfo {
            abi: hvabi::ABI_VERSION,
            lp_count: LPS,
            block_spa: BLOCK.start * PAGE_SIZE,
            block_size: (BLOCK.end - BLOCK.start) * PAGE_SIZE,
            public_spa: PUBLIC * PAGE_SIZE,
            public_pages: BLOCK.end - PUBLIC,
            // The first two are the root's VMCSs.
            pool_spa: (BLOCK.start + u64::from(LPS)) * PAGE_SIZE,
            pool_pages: PUBLIC - BLOCK.start - u64::from(LPS),
            host_cr3: 0x5000,
            ram_end: PAGES * PAGE_SIZE,
            tsc_khz: 1_000_000,
            leave_rip: 0,
            leave_va: 0,
            leave_spa: 0,
            measures: hvabi::boot::measures::ALL,
            inject: 0,
        };
        machine::forget();
        machine::init(&info, &caps, 0).expect("memory");
        let lp = |index| {
            let vmcs = (BLOCK.start + u64::from(index)) * PAGE_SIZE;
            Lp::on_host(index, caps, info.public_spa, vmcs)
        };
        let core_pages = memory(|memory| memory.pool.len());
        let lps = core::array::from_fn(|index| Some(lp(index as u32)));
        let mut stage = Stage {
            _taken: taken,
            lps,
            below,
            core_pages,
            given: 0,
            tables: 0,
            calls: 0,
            stale: Vec::new(),
        };
        for index in 0..LPS {
            stage.sync(index);
        }
        match stage.below(4) {
            0 => {}
            kind => stage.prepare(kind == 3),
        }
        stage
    }

    /// A partition with memory and two VPs: what most of the root's calls are about.
    fn prepare(&mut self, private: bool) {
        let first = PLAYED.start + 64;
        let list = |stage: &mut Self, number, from: u64, arguments| {
            (0..48).for_each(|item| write(PLAYED.start, item, (from + item as u64) * PAGE_SIZE));
            let (status, ..) = stage.call(0, number, arguments);
            assert_eq!(status, Status::Ok);
            stage.sync(1);
        };
        let spa = PLAYED.start * PAGE_SIZE;
        let private = [0, map_flags::PRIVATE][usize::from(private)];
        let flags = map_flags::WRITE | map_flags::EXECUTE | private;
        list(self, Call::PartitionCreate as u64, 0, [0; 5]);
        list(self, Call::Deposit as u64, first, [1, spa, 48, 0, 0]);
        list(self, Call::GpaMap as u64, first + 48, [1, 0, spa, 16, flags]);
        for index in 0..2 {
            let page = (first + 64 + index) * PAGE_SIZE;
            list(self, Call::VpCreate as u64, 0, [1, index, page, 0, 0]);
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.below)(n)
    }

    /// A hypercall by an LP: status, value, second value.
    fn call(&mut self, index: usize, number: u64, arguments: [u64; 5]) -> (Status, u64, u64) {
        let done = dispatch(self.lp(index), number, arguments);
        self.calls += 1;
        // On its way back to the root.
        self.sync(index as u32);
        done
    }

    fn lp(&mut self, index: usize) -> &mut Lp {
        self.lps[index].as_mut().expect("an LP in the root")
    }

    fn sync(&mut self, index: u32) {
        machine::catch_up(index);
        self.stale.retain_mut(|(_, lps)| {
            *lps &= !(1 << index);
            *lps != 0
        });
    }

    /// The root writes where it still can.
    fn scribble(&self) {
        for (page, _) in &self.stale {
            [0, 1, 511]
                .into_iter()
                .for_each(|word| write(*page, word, PLAYED.start * PAGE_SIZE | 7));
        }
    }

    /// LPs that an INIT reached while a VP ran there get the SIPI that they wait for: until then
    /// they do nothing else.
    fn start_up(&mut self) {
        for lp in self.lps.iter_mut().flatten().filter(|lp| lp.waits_for_sipi) {
            host::insn::vmptrld(lp.vmcs).expect("VMPTRLD");
            root::handle(lp, reason::SIPI);
        }
    }

    /// One hypercall, or an LP that passes through hvcore.
    pub fn step(&mut self) {
        self.start_up();
        // Mostly one of them, so that the other one does not flush for a while.
        let lp = usize::from(self.below(4) == 0);
        let number = match self.below(28) {
            number @ 0..20 => number,
            20..23 => Call::VpSet as u64,
            _ => Call::VpRun as u64,
        };
        let partition = self.partition();
        const VP_RUN: u64 = Call::VpRun as u64;
        const VP_SET: u64 = Call::VpSet as u64;
        match number {
            16 => return self.root_exit(lp),
            17 => {
                self.sync(0);
                return self.sync(1);
            }
            VP_RUN => return self.run(lp, partition, false),
            18 => return self.run(lp, partition, true),
            VP_SET => return self.set(lp, partition),
            _ => {}
        }
        let Some(arguments) = self.arguments(number, partition) else {
            return;
        };
        self.scribble();
        let asked = Asked::new(lp, number, arguments);
        let (status, _, mapped) = self.call(lp, number, arguments);
        self.note(&asked, status, mapped);
    }

    /// What a call changed for the root.
    fn note(&mut self, asked: &Asked, status: Status, mapped: u64) {
        const DEPOSIT: u64 = Call::Deposit as u64;
        const MAP: u64 = Call::GpaMap as u64;
        let Asked { lp, number, arguments: a, list } = asked;
        let (items, pages) = match *number {
            DEPOSIT if status == Status::Ok => (a[2], 1),
            MAP if a[4] & map_flags::PRIVATE == 0 => (0, 0),
            MAP => (mapped, if a[4] & map_flags::LARGE != 0 { 512 } else { 1 }),
            _ => (0, 0),
        };
        for spa in &list[..items as usize] {
            let first = spa / PAGE_SIZE;
            // The LP that called flushed on its way back.
            let lps = (1 << LPS) - 1 & !(1 << lp);
            self.stale.extend((first..first + pages).map(|page| (page, lps)));
        }
        if (*number, a[0], status) == (DEPOSIT, 0, Status::Ok) {
            self.core_pages += a[2] as usize;
            self.given += a[2] as usize;
        }
        if *number > 14 {
            assert_eq!(status, Status::BadCall);
        }
    }

    /// The root does something that only hvcore may, or looks where it must not.
    fn root_exit(&mut self, index: usize) {
        const REASONS: [u32; 12] = [
            reason::INIT,
            reason::TASK_SWITCH,
            reason::SEAMCALL,
            reason::CPUID,
            reason::EPT_VIOLATION,
            reason::EPT_VIOLATION,
            reason::WRMSR,
            reason::XSETBV,
            reason::CR_ACCESS,
            reason::CR_ACCESS,
            reason::INVD,
            reason::VMXON,
        ];
        let exit = REASONS[self.below(12) as usize];
        let hidden = (BLOCK.start + self.below(BLOCK.end - BLOCK.start)) * PAGE_SIZE;
        let spa = [hidden, self.page(), self.odd()][self.below(3) as usize];
        let access = 1 << self.below(3);
        let (register, bit) = ([0, 4][self.below(2) as usize], self.below(32));
        let (value, high) = (self.odd(), self.odd());
        let (real, nmi) = (self.below(8) == 0, self.below(4) == 0);
        let blocked = [0, 0, 1, 2, 8][self.below(5) as usize];
        let lp = self.lp(index);
        host::insn::vmptrld(lp.vmcs).expect("VMPTRLD");
        let rules = &machine::config().root_rules;
        if real {
            rules.set_mode(&Mode { cr0: 0x10, ..Mode::default() });
        } else if vmcs::GUEST_CR0.read() & 1 == 0 {
            rules.set_mode(&Mode {
                cr0: 0x8005_0033,
                cr3: 0x1000,
                cr4: 0x20,
                efer: 0xd01,
                cs_l: true,
            });
            vmcs::GUEST_CS_ACCESS.write(0xa09b);
        }
        let (cr0_old, cr4_old) = (rules.cr0(), rules.cr4());
        let old = if register == 0 { cr0_old } else { cr4_old };
        lp.gpr[RAX] = if exit == reason::CR_ACCESS { old ^ 1 << bit } else { value };
        (lp.gpr[RCX], lp.gpr[RDX]) = (high & 1, value >> 32);
        vmcs::EXIT_QUALIFICATION.write(if exit == reason::CR_ACCESS { register } else { access });
        vmcs::GUEST_PHYSICAL_ADDRESS.write(spa);
        vmcs::GUEST_LINEAR_ADDRESS.write(value);
        vmcs::EXIT_LENGTH.write(3);
        vmcs::ENTRY_INFO.write(0);
        vmcs::GUEST_INTERRUPTIBILITY.write(blocked);
        let denied = lp.stats.get().denied;
        root::handle(lp, exit);
        if nmi {
            lp.set_nmi();
            root::hand_over_nmi(lp);
        }

        let denied = lp.stats.get().denied != denied;
        stage_guest::check_event(vmcs::GUEST_CR0.read());
        // Nothing is delivered in wait-for-SIPI, and no NMI behind STI and MOV SS (28.3.1.5).
        const NMI: u32 = 0x8000_0202;
        const WAIT_FOR_SIPI: u32 = 3;
        let (info, shadow) = (vmcs::ENTRY_INFO.read(), vmcs::GUEST_INTERRUPTIBILITY.read() & 3);
        match vmcs::GUEST_ACTIVITY.read() {
            WAIT_FOR_SIPI => assert_eq!((info >> 31, shadow), (0, 0), "{info:#x}"),
            _ => assert!(info != NMI || shadow == 0, "an NMI behind {shadow}"),
        }
        if exit == reason::INIT {
            root::handle(lp, reason::SIPI);
        }
        let (cr0, cr4) = (vmcs::GUEST_CR0.read(), vmcs::GUEST_CR4.read());
        assert_eq!(cr4 & 1 << 13, 1 << 13, "the root took CR4.VMXE away");
        assert_eq!(cr0 & 1 << 5, 1 << 5, "the root took CR0.NE away");
        if exit == reason::EPT_VIOLATION {
            self.tables += [0, 3][usize::from(spa >> 32 != 0)];
            // A look is answered, by a page of zeros; a write to what is not the root's is not.
            let public = PUBLIC * PAGE_SIZE..BLOCK.end * PAGE_SIZE;
            let is_ram = (PAGE_SIZE..PAGES * PAGE_SIZE).contains(&spa);
            let mine = self.owns(spa / PAGE_SIZE) || !is_ram;
            assert!(!denied || !mine || spa >= 1 << 39, "the root's own {spa:#x} is denied");
            assert!(denied || mine || access == 1 || public.contains(&spa), "{spa:#x} is given");
        }
        self.sync(index as u32);
    }

    /// Sets some state of a VP, near what it has. It changes all of it, or nothing.
    fn set(&mut self, lp: usize, number: u64) {
        const ALL: u64 = hvabi::state::group::ALL;
        let (index, kind) = (self.index(), self.below(4));
        let (page, other) = (PLAYED.start, PLAYED.start + 1);
        let (spa, other_spa) = (page * PAGE_SIZE, other * PAGE_SIZE);
        let get = |stage: &mut Self, spa| {
            stage.call(lp, Call::VpGet as u64, [number, index, kind, spa, ALL]).0
        };
        if !self.owns(page) || !self.owns(other) || get(self, spa) != Status::Ok {
            return;
        }
        let before = read(page);
        for _ in 0..self.below(6) {
            let (word, bit) = (self.below(96) as usize, self.below(64));
            let old = read(page)[word];
            let new = [old ^ 1 << bit, self.odd()][self.below(2) as usize];
            write(page, word, new);
        }
        let groups = [ALL, 1 << self.below(12), self.below(1 << 11)][self.below(3) as usize];
        let arguments = [number, index, kind, spa, groups];
        let (status, ..) = self.call(lp, Call::VpSet as u64, arguments);
        const WORDS: usize = size_of::<hvabi::state::Registers>() / 8;
        // Time goes on.
        const TSC: usize = core::mem::offset_of!(hvabi::state::Registers, tsc) / 8;
        if status != Status::Ok && kind == 0 && get(self, other_spa) == Status::Ok {
            let mut after = read(other);
            after[TSC] = before[TSC];
            assert_eq!(before[..WORDS], after[..WORDS], "a refused VpSet changed something");
        }
    }

    fn owns(&self, number: u64) -> bool {
        memory(|memory| match memory.owners.page(number * PAGE_SIZE) {
            Some(page) => matches!(memory.owners.owner(page), Owner::Root | Owner::Shared { .. }),
            None => false,
        })
    }

    /// What hvcore promises of memory.
    pub fn check(&self) {
        memory(|memory| {
            for number in PLAYED.chain(BLOCK.start..PUBLIC) {
                let page = memory.owners.page(number * PAGE_SIZE).expect("RAM");
                let owner = memory.owners.owner(page);
                let seen = memory.root_sees(page);
                let own = (number * PAGE_SIZE, Access::ALL);
                let mine = matches!(owner, Owner::Root | Owner::Shared { .. });
                assert_eq!(seen == own, mine, "page {number}: {owner:?}, the root sees {seen:x?}");
            }
        });
        self.check_children();
    }

    /// Destroys what there is: all memory comes back, and hvcore works on.
    pub fn end(mut self) {
        self.check();
        for number in 1..=hvabi::MAX_PARTITIONS as u64 {
            let mut rounds = 0;
            loop {
                self.sync(0);
                self.sync(1);
                let (status, left, _) = self.call(0, 5, [number, 0, 0, 0, 0]);
                rounds += 1;
                assert!(rounds < 100, "destroying {number}: {status:?}");
                match (status, left) {
                    (Status::NoPartition, _) | (Status::Ok, 0) => break,
                    (Status::Ok, _) | (Status::NeedSync, _) => {}
                    _ => panic!("destroying {number}: {status:?}"),
                }
            }
            loop {
                self.sync(0);
                self.sync(1);
                let list = (1..PAGES).rev().find(|page| self.owns(*page));
                let list = list.expect("a page of the root's") * PAGE_SIZE;
                let (status, given, _) = self.call(0, 3, [number, list, LIST_ITEMS as u64, 0, 0]);
                rounds += 1;
                assert!(rounds < 100, "withdrawing of {number}: {status:?}");
                match (status, given) {
                    (Status::NoPartition, _) | (Status::Ok, 0) => break,
                    (Status::Ok, _) => {}
                    _ => panic!("withdrawing of {number}: {status:?}"),
                }
            }
        }
        self.sync(0);
        self.sync(1);
        assert!(!partition::any());
        let (core_pages, given, tables) = (self.core_pages, self.given, self.tables);
        memory(|memory| {
            memory.pool.settle(u64::MAX - 1);
            // Records of the pages that it was given lie in some.
            let records = if given == 0 { 0 } else { 2 * 4 + 2 };
            let records = records + tables;
            let lost = core_pages - memory.pool.len();
            assert!(lost <= records, "{lost} pages of hvcore's are lost");
        });
        let lost: Vec<u64> =
            (1..PAGES).filter(|page| !BLOCK.contains(page) && !self.owns(*page)).collect();
        assert_eq!(lost.len(), self.given, "of {lost:?} hvcore was given some");
    }
}

fn memory<T>(work: impl FnOnce(&mut crate::mem::space::Memory) -> T) -> T {
    work(machine::MEMORY.lock().as_mut().expect("memory"))
}

/// A hypercall, and the list that it names.
struct Asked {
    lp: usize,
    number: u64,
    arguments: [u64; 5],
    list: [u64; 512],
}

impl Asked {
    fn new(lp: usize, number: u64, arguments: [u64; 5]) -> Asked {
        let list = arguments[if number == Call::GpaMap as u64 { 2 } else { 1 }];
        Asked { lp, number, arguments, list: read(list / PAGE_SIZE % PAGES) }
    }
}

/// A hypercall by an LP that runs the root: status, value, second value.
fn dispatch(lp: &mut Lp, number: u64, arguments: [u64; 5]) -> (Status, u64, u64) {
    host::insn::vmptrld(lp.vmcs).expect("VMPTRLD");
    let [a, b, c, d, e] = arguments;
    lp.gpr = [0x5555; 16];
    (lp.gpr[RAX], lp.gpr[RDI], lp.gpr[RSI], lp.gpr[RDX]) = (number, a, b, c);
    (lp.gpr[8], lp.gpr[9]) = (d, e);
    let before = lp.gpr;
    hypercall::dispatch(lp);
    assert_eq!(host::insn::vmptrst(), lp.vmcs, "the root's VMCS is current again");
    let (after, status) = (lp.gpr, Status::from_raw(lp.gpr[RAX]).expect("a status"));
    for register in (0..16).filter(|r| ![RAX, RDX, 8].contains(r)) {
        assert_eq!(after[register], before[register], "register {register}");
    }
    (status, after[RDX], after[8])
}

/// The words of a page, as the root sees them.
fn read(number: u64) -> [u64; 512] {
    // SAFETY: the page is in the tests' RAM; no reference to it lives.
    unsafe { direct(number * PAGE_SIZE).cast::<[u64; 512]>().read() }
}

fn write(number: u64, word: usize, value: u64) {
    assert!(word < 512);
    // SAFETY: the word is in a page of the tests' RAM; no reference to it lives.
    unsafe { direct(number * PAGE_SIZE).cast::<u64>().add(word).write(value) }
}
