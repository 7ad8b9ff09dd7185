// SPDX-License-Identifier: GPL-2.0

//! The page walk against page tables that the test builds, and against a second opinion.

use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tlfs::walk::{translate, Access, Fault, GuestMemory, Paging, Translation};

/// Guest memory of 64-bit words; what was never written is not there.
#[derive(Default)]
struct Memory {
    words: BTreeMap<u64, u64>,
    reads: RefCell<u32>,
}

impl GuestMemory for Memory {
    fn read_u64(&self, gpa: u64) -> Option<u64> {
        assert_eq!(gpa % 8, 0, "unaligned read");
        *self.reads.borrow_mut() += 1;
        self.words.get(&gpa).copied()
    }
}

impl Memory {
    fn table(&mut self, gpa: u64) {
        for index in 0..512 {
            self.words.entry(gpa + 8 * index).or_insert(0);
        }
    }

    fn set_u32(&mut self, gpa: u64, value: u32) {
        let word = self.words.entry(gpa & !7).or_insert(0);
        let shift = 8 * (gpa & 4);
        *word = *word & !(0xffff_ffff << shift) | u64::from(value) << shift;
    }
}

const P: u64 = 1;
const W: u64 = 2;
const U: u64 = 4;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;

fn long_mode(cr3: u64) -> Paging {
    Paging {
        cr0: 1 << 31 | 1 << 16 | 1,
        cr3,
        cr4: 1 << 5,
        efer: 1 << 8 | 1 << 10 | 1 << 11,
        rflags: 2,
    }
}

/// Maps `gva` with entries that have `flags` at each level from the top; the last entry is that of
/// the page, large if there are fewer than four.
fn map(memory: &mut Memory, gva: u64, gpa: u64, flags: &[u64]) {
    let mut table = 0x10_0000;
    for (depth, &flags) in flags.iter().enumerate() {
        memory.table(table);
        let shift = 39 - 9 * depth as u64;
        let entry = table + 8 * (gva >> shift & 0x1ff);
        let next = 0x10_0000 + 0x1000 * (depth as u64 + 1);
        memory.words.insert(entry, next | flags);
        table = next;
    }
    // The last one points to the page instead.
    let depth = flags.len() - 1;
    let shift = 39 - 9 * depth as u64;
    let entry = 0x10_0000 + 0x1000 * depth as u64 + 8 * (gva >> shift & 0x1ff);
    let page = gpa & !((1 << shift) - 1);
    let large = if depth < 3 { PS } else { 0 };
    memory.words.insert(entry, page | large | flags[depth]);
}

/// Says from the definition (SDM vol. 3, 5.6.1) whether an access is allowed.
fn allowed(flags: &[u64], paging: &Paging, access: &Access) -> bool {
    let all = |bit: u64| flags.iter().all(|f| f & bit != 0);
    let user_page = all(U);
    let writable = all(W);
    let executable = !flags.iter().any(|f| f & NX != 0);
    let wp = paging.cr0 >> 16 & 1 == 1;
    let smep = paging.cr4 >> 20 & 1 == 1;
    let smap = paging.cr4 >> 21 & 1 == 1 && paging.rflags >> 18 & 1 == 0;
    if access.exempt {
        return true;
    }
    if access.user {
        return user_page && (!access.write || writable) && (!access.execute || executable);
    }
    if (access.read || access.write) && user_page && smap {
        return false;
    }
    if access.write && !writable && wp {
        return false;
    }
    !access.execute || (executable && !(user_page && smep))
}

fn access() -> impl Strategy<Value = Access> {
    (any::<[bool; 5]>()).prop_map(|[read, write, execute, user, exempt]| Access {
        read,
        write,
        execute,
        user,
        exempt,
        ..Access::default()
    })
}

proptest! {
    #[test]
    fn four_levels(
        gva in 0u64..1 << 47, frame in 0u64..1 << 40, depth in 2usize..=4,
        bits in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 4),
        access in access(), wp: bool, smep: bool, smap: bool, ac: bool,
    ) {
        let flags: Vec<u64> = bits[..depth]
            .iter()
            .map(|&(w, u, nx)| {
                P | if w { W } else { 0 } | if u { U } else { 0 } | if nx { NX } else { 0 }
            })
            .collect();
        let mut memory = Memory::default();
        map(&mut memory, gva, frame << 12, &flags);
        let mut paging = long_mode(0x10_0000);
        paging.cr0 = paging.cr0 & !(1 << 16) | u64::from(wp) << 16;
        paging.cr4 |= u64::from(smep) << 20 | u64::from(smap) << 21;
        paging.rflags |= u64::from(ac) << 18;

        let shift = 12 + 9 * (4 - depth as u64);
        let offset = gva & ((1 << shift) - 1);
        let expected = if allowed(&flags, &paging, &access) {
            Ok(Translation {
                gpa: (frame << 12) & !((1 << shift) - 1) | offset,
                contiguous: (1 << shift) - offset,
            })
        } else {
            Err(Fault::Privilege)
        };
        prop_assert_eq!(translate(&memory, &paging, gva, &access), expected);
        prop_assert_eq!(*memory.reads.borrow(), depth as u32);
    }

    /// Whatever the tables hold: no panic, at most five reads, and a GPA of 52 bits.
    #[test]
    fn hostile_tables(
        words in prop::collection::vec(any::<u64>(), 64), gva: u64,
        cr0: u64, cr3: u64, cr4: u64, efer: u64, access in access(),
    ) {
        struct Noise<'a>(&'a [u64], RefCell<u32>);
        impl GuestMemory for Noise<'_> {
            fn read_u64(&self, gpa: u64) -> Option<u64> {
                assert_eq!(gpa % 8, 0);
                assert!(gpa < 1 << 52);
                *self.1.borrow_mut() += 1;
                Some(self.0[(gpa / 8 % 64) as usize])
            }
        }
        let noise = Noise(&words, RefCell::new(0));
        let paging = Paging { cr0, cr3, cr4, efer, rflags: 2 };
        if let Ok(found) = translate(&noise, &paging, gva, &access) {
            prop_assert!(found.gpa < 1 << 52);
            prop_assert!(found.contiguous > 0);
        }
        prop_assert!(*noise.1.borrow() <= 5);
    }

    #[test]
    fn legacy(
        gva: u32, frame in 0u32..1 << 20, large: bool,
        w in any::<[bool; 2]>(), u in any::<[bool; 2]>(), access in access(),
    ) {
        let mut memory = Memory::default();
        memory.table(0x1000);
        memory.table(0x2000);
        let bits = |level: usize| {
            1 | u32::from(w[level]) << 1 | u32::from(u[level]) << 2
        };
        let pde = 0x1000 + 4 * u64::from(gva >> 22);
        let flags: Vec<u64> = if large {
            memory.set_u32(pde, frame << 22 | 1 << 7 | bits(0));
            vec![bits(0).into()]
        } else {
            memory.set_u32(pde, 0x2000 | bits(0));
            memory.set_u32(0x2000 + 4 * u64::from(gva >> 12 & 0x3ff), frame << 12 | bits(1));
            vec![bits(0).into(), bits(1).into()]
        };
        let paging = Paging { cr0: 1 << 31 | 1 << 16, cr3: 0x1000, cr4: 1 << 4, efer: 0, rflags: 2 };
        let shift = if large { 22 } else { 12 };
        let offset = u64::from(gva) & ((1 << shift) - 1);
        let expected = if allowed(&flags, &paging, &access) {
            Ok(Translation {
                gpa: u64::from(frame << shift) | offset,
                contiguous: (1 << shift) - offset,
            })
        } else {
            Err(Fault::Privilege)
        };
        prop_assert_eq!(translate(&memory, &paging, gva.into(), &access), expected);
    }
}

#[test]
fn pae() {
    let mut memory = Memory::default();
    memory.table(0x1000);
    memory.table(0x2000);
    memory.words.insert(0x500, 0);
    memory.words.insert(0x508, 0x1000 | P);
    memory.words.insert(0x1000, 0x2000 | P | W | U);
    memory
        .words
        .insert(0x2000 + 8 * 5, 0xf_1234_5000 | P | W | U);
    let paging = Paging {
        cr0: 1 << 31,
        cr3: 0x500,
        cr4: 1 << 5,
        efer: 0,
        rflags: 2,
    };
    let read = Access {
        read: true,
        ..Access::default()
    };
    let found = translate(&memory, &paging, 0x4000_5678, &read).unwrap();
    assert_eq!(found.gpa, 0xf_1234_5678);
    assert_eq!(
        translate(&memory, &paging, 0x5678, &read),
        Err(Fault::NotPresent)
    );
    assert_eq!(
        translate(&memory, &paging, 0x8000_0000, &read),
        Err(Fault::Unmapped)
    );
}

#[test]
fn no_paging_and_not_canonical() {
    let memory = Memory::default();
    let found = translate(
        &memory,
        &Paging::default(),
        0x1_2345_6789,
        &Access::default(),
    )
    .unwrap();
    assert_eq!(found.gpa, 0x2345_6789);
    let paging = long_mode(0x10_0000);
    let fault = translate(&memory, &paging, 1 << 47, &Access::default());
    assert_eq!(fault, Err(Fault::NotPresent));
    let five = Paging {
        cr4: paging.cr4 | 1 << 12,
        ..paging
    };
    // Canonical with five levels: the top table is missing.
    assert_eq!(
        translate(&memory, &five, 1 << 47, &Access::default()),
        Err(Fault::Unmapped)
    );
}

#[test]
fn nx_without_nxe_is_reserved() {
    let mut memory = Memory::default();
    map(&mut memory, 0x1000, 0x5000, &[P, P, P, P | NX]);
    let mut paging = long_mode(0x10_0000);
    paging.efer &= !(1 << 11);
    let fault = translate(&memory, &paging, 0x1000, &Access::default());
    assert_eq!(fault, Err(Fault::Reserved));
}
