// SPDX-License-Identifier: GPL-2.0

//! EPT against a map of pages that is too simple to be wrong.

use super::addr::{Gpa, GpaRange, Size, Spa, PAGE_SIZE};
use super::ept::{Access, Ept, EptCaps, Leaf, MapError};
use super::ept_model::Both;
use super::frame::host_frame;
use super::mtrr::{MemType, MtrrState, VARIABLE_MAX};
use super::owner::Returned;
use super::pool::{host_pool, Missing, Pool};
use super::rng::Rng;

const FULL: EptCaps = EptCaps { one_gib: true, two_mib: true };
const NO_G1: EptCaps = EptCaps { one_gib: false, ..FULL };
const WB: MemType = MemType::WriteBack;

fn ept(caps: EptCaps) -> Ept {
    Ept::new(host_frame(1), caps)
}

fn gpa(raw: u64) -> Gpa {
    Gpa::new(raw).unwrap()
}

fn spa(raw: u64) -> Spa {
    Spa::new(raw).unwrap()
}

/// Everything write-back but the second GiB's first 4 KiB after 1 GiB + 2 MiB.
fn mtrrs() -> MtrrState {
    let mut variable = [(0, 0); VARIABLE_MAX];
    variable[0] = (0x4020_0000, ((1 << 46) - 0x1000) | 1 << 11);
    MtrrState { def_type: MtrrState::NONE, fixed: [0; 11], variable }
}

/// What the root sees in place of a hidden page.
fn blank(raw: u64) -> Leaf {
    Leaf { gpa: 0, spa: raw, size: Size::K4, access: Access::READ, kind: WB }
}

fn show(e: &mut Ept, raw: u64, pool: &mut Pool) {
    let page = host_frame(raw / PAGE_SIZE).page();
    e.show(Returned::for_tests(page), WB, pool, 1).unwrap();
}

fn conserved(pool: &Pool, total: usize) {
    assert_eq!(pool.len() + pool.retired(), total);
}

#[test]
fn pointer() {
    assert_eq!(ept(FULL).eptp(), 0x101e);
}

#[test]
fn identity_takes_the_largest_pages() {
    let mut pool = host_pool(2, 64);
    let mut e = ept(FULL);
    e.map_identity(gpa(0), 4 << 30, &mtrrs(), &mut pool).unwrap();
    // One table for 512 GiB, one for the second GiB, one for its second 2 MiB.
    assert_eq!(pool.len(), 64 - 3);
    let at = |a| e.lookup(gpa(a)).unwrap();
    assert_eq!((at(0x1234).size, at(0x1234).kind), (Size::G1, WB));
    assert_eq!(at(0x4000_0000).size, Size::M2);
    assert_eq!((at(0x4020_0fff).size, at(0x4020_0fff).kind), (Size::K4, MemType::Uncacheable));
    assert_eq!((at(0x4020_1000).size, at(0x4020_1000).kind), (Size::K4, WB));
    assert_eq!(at(0xc000_0000).spa, 0xc000_0000);
    assert!(e.lookup(gpa(4 << 30)).is_none());

    let mut pool = host_pool(100, 64);
    let mut e = Ept::new(host_frame(99), NO_G1);
    e.map_identity(gpa(0), (1 << 30) + 0x1000, &mtrrs(), &mut pool).unwrap();
    assert_eq!(e.lookup(gpa(0)).unwrap().size, Size::M2);
    assert_eq!(e.lookup(gpa(1 << 30)).unwrap().size, Size::K4);
}

#[test]
fn identity_on_demand() {
    let mut pool = host_pool(2, 16);
    let mut e = ept(FULL);
    e.map_identity(gpa(0), (4 << 30) + 0x20_3000, &mtrrs(), &mut pool).unwrap();
    let mut at = |a| e.map_identity_at(gpa(a), &mtrrs(), &mut pool).unwrap();
    assert_eq!(at(0x1000), None);
    assert_eq!(at((4 << 30) + 0x20_3abc).unwrap().size, Size::K4);
    assert_eq!(at((4 << 30) + 0x50_0000).unwrap().size, Size::M2);
    let bar = at((5 << 30) + 0x1234).unwrap();
    assert_eq!((bar.size, bar.gpa, bar.spa), (Size::G1, 5 << 30, 5 << 30));
    assert_eq!(at((5 << 30) + 0x1234), None);
    let mut empty = Pool::empty();
    let far = e.map_identity_at(gpa(1 << 40), &mtrrs(), &mut empty);
    assert_eq!(far, Err(Missing(1)));
}

#[test]
fn refusals_change_nothing() {
    let mut pool = host_pool(2, 2);
    let mut e = ept(NO_G1);
    let mut map = |g, s, size, pool: &mut Pool| e.map(gpa(g), spa(s), size, Access::ALL, WB, pool);
    assert_eq!(map(0x1000, 0x5000, Size::K4, &mut pool), Err(MapError::NoMemory(Missing(1))));
    assert_eq!(pool.len(), 2);
    assert_eq!(map(0, 0, Size::G1, &mut pool), Err(MapError::Invalid));
    assert_eq!(map(0x1000, 0, Size::M2, &mut pool), Err(MapError::Invalid));
    assert_eq!(map(0, 0x1000, Size::M2, &mut pool), Err(MapError::Invalid));
    assert_eq!(map(0, 0x20_0000, Size::M2, &mut pool), Ok(()));
    assert_eq!(map(0x1000, 0x5000, Size::K4, &mut pool), Err(MapError::Exists));
    assert_eq!(map(0, 0x20_0000, Size::M2, &mut pool), Err(MapError::Exists));
    // Splitting needs a page.
    assert!(pool.is_empty());
    let range = GpaRange::new(0x1000, 1).unwrap();
    assert!(e.unmap(range, &mut pool, 1, |_, _| panic!()).is_err());
    assert_eq!(e.replace(spa(0), blank(0x3000), &mut pool), Err(Missing(1)));
    assert_eq!(e.lookup(gpa(0x1000)).unwrap().size, Size::M2);

    let mut pool = host_pool(10, 2);
    let mut e = Ept::new(host_frame(9), FULL);
    e.map(gpa(0), spa(0), Size::G1, Access::ALL, WB, &mut pool).unwrap();
    assert_eq!(e.replace(spa(0), blank(0x3000), &mut pool), Err(Missing(1)));
    assert_eq!((pool.len(), e.lookup(gpa(0)).unwrap().size), (1, Size::G1));
}

#[test]
fn hide_and_restore() {
    for caps in [FULL, NO_G1] {
        let mut pool = host_pool(2, 64);
        let mut e = ept(caps);
        e.map_identity(gpa(0), 1 << 30, &mtrrs(), &mut pool).unwrap();
        let (before, tables) = (e.lookup(gpa(0)), pool.len());
        for page in [0x1000, 0x2000, 0x3fff_f000] {
            assert!(e.split_cost(gpa(page)) <= 2);
            e.replace(spa(page), blank(0xff000), &mut pool).unwrap();
            let leaf = e.lookup(gpa(page)).unwrap();
            assert_eq!((leaf.spa, leaf.access, leaf.size), (0xff000, Access::READ, Size::K4));
            assert_eq!(e.split_cost(gpa(page)), 0);
        }
        let next = e.lookup(gpa(0x3000)).unwrap();
        assert_eq!((next.spa, next.access), (0x3000, Access::ALL));
        for page in [0x1000, 0x3fff_f000, 0x2000] {
            let at = |e: &Ept| e.lookup(gpa(0x2000)).unwrap().spa;
            assert_eq!(at(&e), 0xff000, "what is hidden stays hidden");
            show(&mut e, page, &mut pool);
            assert_eq!(e.lookup(gpa(page)).unwrap().translate(gpa(page)), page);
        }
        assert_eq!(e.lookup(gpa(0)), before);
        conserved(&pool, tables);
    }
}

#[test]
fn partial_unmap_splits() {
    let mut pool = host_pool(2, 16);
    let mut e = ept(FULL);
    e.map(gpa(0), spa(1 << 30), Size::G1, Access::ALL, WB, &mut pool).unwrap();
    let mut seen = Vec::new();
    e.unmap(GpaRange::new(0x1f_f000, 0x202).unwrap(), &mut pool, 1, |l, _| seen.push(l)).unwrap();
    let sizes: Vec<_> = seen.iter().map(|l: &Leaf| (l.gpa, l.spa - (1 << 30), l.size)).collect();
    let want = [(0x1f_f000, Size::K4), (0x20_0000, Size::M2), (0x40_0000, Size::K4)];
    assert_eq!(sizes, want.map(|(a, s)| (a, a, s)));
    assert_eq!(e.lookup(gpa(0x1f_efff)).unwrap().size, Size::K4);
    assert_eq!(e.lookup(gpa(0x40_1000)).unwrap().translate(gpa(0x40_1234)), 0x4040_1234);
    assert!(e.lookup(gpa(0x20_0000)).is_none());
    assert!(e.drain(u64::MAX, &mut pool, 1, |_, _| ()));
    e.free(&mut pool, 1);
    conserved(&pool, 17);
}

#[test]
fn draining_stops_at_its_budget() {
    let mut pool = host_pool(2, 64);
    let mut e = ept(FULL);
    for n in 0..20 {
        e.map(gpa(n << 21), spa(n << 12), Size::K4, Access::READ, WB, &mut pool).unwrap();
    }
    let mut seen = 0;
    let mut rounds = 0;
    while !e.drain(3, &mut pool, 1, |_, _| seen += 1) {
        rounds += 1;
        assert!(rounds < 30);
    }
    assert_eq!(seen, 20);
    assert!(rounds >= 5);
    e.free(&mut pool, 1);
    conserved(&pool, 65);
}

#[test]
fn random_sequences() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut below = |n| rng.below(n);
        let mut both = Both::new(&mut below);
        for _ in 0..60 {
            both.step(&mut below);
            both.compare();
        }
        both.end();
    }
}
