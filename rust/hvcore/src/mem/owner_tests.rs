// SPDX-License-Identifier: GPL-2.0

//! Ownership, step by step; `space_tests` has it all together, against a model.

use super::addr::{Page, Size, PAGE_SIZE};
use super::frame::Frame;
use super::mtrr::{MtrrState, VARIABLE_MAX};
use super::owner::{Child, Claimed, Owner, Owners, Refused};
use super::pool::{host_pool, Missing, Pool};

/// RAM of the tests: 8 MiB at 0, of which the first pages are the core's pool.
const RAM: u64 = 8 << 20;

fn mtrrs() -> MtrrState {
    let mut variable = [(0, 0); VARIABLE_MAX];
    // A device in the last 4 KiB of the first 2 MiB.
    variable[0] = (0x1f_f000, ((1 << 46) - 0x1000) | 1 << 11);
    MtrrState { def_type: MtrrState::NONE, fixed: [0; 11], variable }
}

fn child(n: u64) -> Child {
    Child::new(n).unwrap()
}

fn fresh(pages: u64) -> (Owners, Pool) {
    let mut pool = host_pool(1, pages);
    let owners = Owners::new(RAM, &mtrrs(), &mut pool).unwrap();
    (owners, pool)
}

fn page(owners: &Owners, number: u64) -> Page {
    owners.page(number * PAGE_SIZE).unwrap()
}

/// The frame of a claimed page, as if all LPs had passed.
fn frame(claim: Claimed) -> Frame {
    let mut pool = Pool::empty();
    pool.admit([claim].into_iter(), 1);
    assert!(pool.pop().is_none());
    pool.settle(1);
    pool.pop().unwrap()
}

#[test]
fn what_is_ram() {
    let (owners, _) = fresh(8);
    for not in [0, 1, 0x1800, 0x1f_f000, RAM, RAM + 0x1000, 1 << 52, u64::MAX, !0xfff] {
        assert!(owners.page(not).is_none(), "{not:#x}");
    }
    assert!(owners.page(0x1f_e000).is_some() && owners.page(RAM - 0x1000).is_some());
    for not in [0, 0x20_1000, RAM, RAM - 0x1000, u64::MAX, 1 << 63] {
        assert!(owners.large_page(not).is_none(), "{not:#x}");
    }
    assert!(owners.large_page(RAM - (2 << 20)).is_some());
    assert!(Child::new(0).is_none() && Child::new(65).is_none() && Child::new(64).is_some());
}

#[test]
fn storage_is_small() {
    assert_eq!(Owners::pages_needed(512 << 20), 3);
    assert_eq!(Owners::pages_needed((512 << 20) + 1), 4);
    // 16 bytes for each 2 MiB: 8 MiB for a TiB, and directories.
    assert_eq!(Owners::pages_needed(1 << 40), 1 + 4 + 2048);
    let mut pool = host_pool(1, 100);
    let owners = Owners::new(16 << 30, &mtrrs(), &mut pool).unwrap();
    assert_eq!(pool.len(), 100 - 34);
    let last = owners.page((16 << 30) - 0x1000).unwrap();
    assert_eq!(owners.owner(last), Owner::Root);
    assert_eq!(Owners::new(16 << 30, &mtrrs(), &mut host_pool(200, 33)).err(), Some(Missing(1)));
}

#[test]
fn a_page_goes_round() {
    let (mut owners, mut pool) = fresh(8);
    let free = pool.len();
    let p = page(&owners, 1000);
    let claim = owners.claim(p, &mut pool).unwrap();
    assert_eq!(owners.owner(p), Owner::Hypervisor);
    assert!(matches!(owners.claim(p, &mut pool), Err(Refused::Owned(Owner::Hypervisor))));
    assert!(matches!(owners.share(p, child(1), &mut pool), Err(Refused::Owned(Owner::Hypervisor))));
    assert!(owners.peek(p).is_err());
    let grant = owners.assign(claim, child(1), &mut pool);
    assert_eq!((grant.spa(), grant.size()), (p.spa(), Size::K4));
    assert_eq!(owners.owner(p), Owner::Child(child(1)));
    assert!(owners.reclaim(p, child(2), &mut pool).is_err());
    let claim = owners.reclaim(p, child(1), &mut pool).unwrap();
    let mut f = frame(claim);
    f.words_mut()[8] = 42;
    let _shown = owners.release(f, &mut pool);
    assert_eq!(owners.owner(p), Owner::Root);
    assert_eq!(owners.peek(p).unwrap()[8].load(std::sync::atomic::Ordering::Relaxed), 0);
    assert_eq!(pool.len(), free);
    let claim = owners.claim(p, &mut pool).unwrap();
    let _shown = owners.cancel(claim, &mut pool);
    assert_eq!((owners.owner(p), pool.len()), (Owner::Root, free));
}

#[test]
fn shared_pages_stay() {
    let (mut owners, mut pool) = fresh(8);
    let p = page(&owners, 600);
    let (one, two) = (child(1), child(2));
    let _grant = owners.share(p, one, &mut pool).unwrap();
    assert_eq!(
        owners.unshare(p, two, &mut pool),
        Err(Refused::Owned(Owner::Shared { with: Some(one), count: 1 }))
    );
    let _grant = owners.share(p, two, &mut pool).unwrap();
    assert!(matches!(
        owners.claim(p, &mut pool),
        Err(Refused::Owned(Owner::Shared { with: None, count: 2 }))
    ));
    owners.unshare(p, one, &mut pool).unwrap();
    owners.unshare(p, two, &mut pool).unwrap();
    assert_eq!(owners.unshare(p, two, &mut pool), Err(Refused::Owned(Owner::Root)));
    let open = owners.open(p, one, &mut pool).unwrap();
    assert!(owners.claim(p, &mut pool).is_err());
    owners.close(open, one, &mut pool);
    assert!(owners.claim(p, &mut pool).is_ok());
}

#[test]
fn large_shares_need_no_memory() {
    let (mut owners, mut pool) = fresh(3);
    assert!(pool.is_empty());
    let large = owners.large_page(4 << 20).unwrap();
    let _grant = owners.share_large(large, child(3), &mut pool).unwrap();
    let p = page(&owners, 1024 + 17);
    assert_eq!(owners.owner(p), Owner::Shared { with: Some(child(3)), count: 1 });
    assert_eq!(owners.unshare(p, child(3), &mut pool), Err(Refused::NoMemory(Missing(1))));
    assert!(owners.claim(p, &mut pool).is_err());
    let mut one = host_pool(10, 1);
    owners.split(p, &mut one).unwrap();
    owners.unshare(p, child(3), &mut one).unwrap();
    // Not all of it is shared: all or nothing.
    assert!(owners.unshare_large(large, child(3), &mut one).is_err());
    let _grant = owners.share(p, child(3), &mut one).unwrap();
    owners.unshare_large(large, child(3), &mut one).unwrap();
    assert_eq!(one.len(), 1);
}
