// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::arch::enter::{enter, Entered};
use crate::arch::host::Forgotten;
use crate::mem::rng::Rng;

/// Without the timer an NMI that cannot be injected at once would keep an LP in hvcore.
#[test]
fn the_timer_is_needed() {
    switch_on();
    assert!(Caps::read().is_ok());
    host::insn::wrmsr(msr::VMX_PINBASED + msr::VMX_TRUE_OFFSET, !(1 << 6) << 32);
    assert!(matches!(Caps::read(), Err(hvabi::call::Missing::Controls)));
}

/// An LP that leaves a dead hvcore enters the root once more, which blocks NMIs.
#[test]
fn a_dead_hvcore_leaves_the_root_as_it_is() {
    let mut below = |_| 0;
    let mut stage = Stage::new(&mut below);
    let lp = stage.lp(0);
    host::insn::vmptrld(lp.vmcs).expect("the root's VMCS");
    host::with(|p| p.guest = Some(std::boxed::Box::new(|_| Entered::Exited)));
    assert_eq!(enter(&mut lp.gpr, false), Entered::Exited);
    root::answer_dead_call(lp);
    assert_eq!(enter(&mut lp.gpr, true), Entered::Exited);
    // It died with a child's VMCS in the processor.
    host::insn::vmptrld(0x7000).expect("a child's VMCS");
    assert_eq!(enter(&mut lp.gpr, false), Entered::Exited);
    root::answer_dead_call(lp);
    assert_eq!(enter(&mut lp.gpr, true), Entered::Exited);
    host::insn::vmptrld(0x7000).expect("a child's VMCS");
    assert_eq!(enter(&mut lp.gpr, true), Entered::Failed, "the child's was not cleared");
}

/// The page of local APICs is hvcore's, and lent to children: the root cannot take it from them.
#[test]
fn the_apics_page_is_only_lent() {
    let mut below = |_| 0;
    let mut stage = Stage::new(&mut below);
    stage.prepare(false);
    for (first, pages) in [(0xfee0_0000, 1), (0xfedf_f000, 2), (0xfedf_f000, 3)] {
        let (status, ..) = stage.call(0, Call::GpaUnmap as u64, [1, first, pages, 0, 0]);
        assert_eq!(status, Status::BadArgument, "{pages} pages at {first:#x}");
        stage.check();
    }
    for first in [0xfedf_f000, 0xfee0_1000] {
        let (status, ..) = stage.call(0, Call::GpaUnmap as u64, [1, first, 1, 0, 0]);
        assert_eq!(status, Status::Ok, "a page at {first:#x}");
    }
    stage.end();
}

/// Whichever MTRR is the wrong one, those before it stay as they were too.
#[test]
fn a_refused_set_of_mtrrs_changes_none() {
    use hvabi::state::{group, Registers};
    const WORDS: usize = size_of::<Registers>() / 8;
    const FIXED: usize = core::mem::offset_of!(Registers, mtrr_fixed) / 8;
    const VARIABLE: usize = core::mem::offset_of!(Registers, mtrr_variable) / 8;
    const TYPE: usize = core::mem::offset_of!(Registers, mtrr_def_type) / 8;
    let mut below = |_| 0;
    let mut stage = Stage::new(&mut below);
    stage.prepare(false);
    let page = PLAYED.start;
    let arguments = [1, 0, 0, page * PAGE_SIZE, group::MTRR];
    let get = |stage: &mut Stage<'_>| {
        assert_eq!(stage.call(0, Call::VpGet as u64, arguments).0, Status::Ok);
        read(page)
    };
    let set = |stage: &mut Stage<'_>, wrong: Option<usize>| {
        write(page, TYPE, 0xc06);
        (0..11).for_each(|fixed| write(page, FIXED + fixed, 0x0606_0606_0606_0606));
        (0..16).for_each(|n| write(page, VARIABLE + n, if n % 2 == 0 { 6 } else { 0x800 }));
        if let Some(word) = wrong {
            // A type that does not exist.
            write(page, word, 2);
        }
        stage.call(0, Call::VpSet as u64, arguments).0
    };
    let before = get(&mut stage);
    let bases = (0..8).map(|pair| VARIABLE + 2 * pair);
    for word in (FIXED..FIXED + 11).chain(bases).chain([TYPE]) {
        assert_eq!(set(&mut stage, Some(word)), Status::BadArgument, "word {word}");
        assert_eq!(get(&mut stage)[..WORDS], before[..WORDS], "word {word}");
    }
    assert_eq!(set(&mut stage, None), Status::Ok);
    assert_ne!(get(&mut stage)[..WORDS], before[..WORDS]);
    stage.end();
}

/// A partition that is destroyed in part keeps its number, and what it has, whatever is withdrawn
/// meanwhile.
#[test]
fn what_is_half_destroyed_is_not_forgotten() {
    let mut below = |_| 0;
    let mut stage = Stage::new(&mut below);
    stage.prepare(false);
    // One large page, so often that one call does not unmap them all.
    let (list, flags) = (PLAYED.start * PAGE_SIZE, map_flags::WRITE | map_flags::LARGE);
    (0..80).for_each(|item| write(PLAYED.start, item, 1024 * PAGE_SIZE));
    let (status, ..) = stage.call(0, Call::GpaMap as u64, [1, 1 << 30, list, 80, flags]);
    assert_eq!(status, Status::Ok);
    stage.sync(1);
    let (status, more, _) = stage.call(0, Call::PartitionDestroy as u64, [1, 0, 0, 0, 0]);
    assert_eq!((status, more), (Status::Ok, 1));
    let withdraw = [1, list, LIST_ITEMS as u64, 0, 0];
    for _ in 0..2 {
        stage.sync(1);
        assert_eq!(stage.call(0, Call::Withdraw as u64, withdraw).0, Status::Ok);
    }
    assert_eq!(stage.call(0, Call::Withdraw as u64, withdraw).1, 0);
    assert_eq!(stage.call(0, Call::PoolInfo as u64, [1, 0, 0, 0, 0]).0, Status::Ok);
    stage.end();
}

/// Runs VP 0 of partition 1 on the first LP, with a guest that `act`s and says why it exits.
fn run(stage: &mut Stage<'_>, mut act: impl FnMut() -> u32 + 'static) {
    host::with(|p| {
        p.guest = Some(std::boxed::Box::new(move |_| {
            vmcs::EXIT_REASON.write(act());
            Entered::Exited
        }));
    });
    assert_eq!(stage.call(0, Call::VpRun as u64, [1, 0, 0, 0, 0]).0, Status::Ok);
}

/// What the processor forgot since this was asked last.
fn forgotten() -> Vec<Forgotten> {
    host::with(|p| core::mem::take(&mut p.forgotten))
}

/// Another mode is another address space, whichever LP sets it: the one that runs the VP next
/// forgets what it knows of the VP.
#[test]
fn translations_do_not_outlive_the_mode() {
    use hvabi::state::group;
    let mut below = |_| 0;
    let mut stage = Stage::new(&mut below);
    stage.prepare(false);
    run(&mut stage, || reason::EXTERNAL_INTERRUPT);
    forgotten();
    let forgets = || {
        let vpid = vmcs::VPID.read();
        assert!(forgotten().contains(&Forgotten::Vpid(vpid)));
        reason::EXTERNAL_INTERRUPT
    };
    let registers = [1, 0, 0, PLAYED.start * PAGE_SIZE, group::CONTROL];
    for call in [Call::VpGet, Call::VpSet] {
        assert_eq!(stage.call(1, call as u64, registers).0, Status::Ok);
    }
    forgotten();
    run(&mut stage, forgets);
    // INIT ends paging as well.
    const INIT: u64 = 5 << hvabi::call::interrupt::MODE_SHIFT;
    assert_eq!(stage.call(1, Call::AssertInterrupt as u64, [1, INIT, 0, 0, 0]).0, Status::Ok);
    run(&mut stage, forgets);
    stage.end();
}

/// Translations say whether they lead to the page of local APICs, also those that have no VPID.
#[test]
fn a_step_into_the_apics_page_leaves_no_translation() {
    let mut below = |_| 0;
    let mut stage = Stage::new(&mut below);
    stage.prepare(false);
    let mut entries = 0;
    run(&mut stage, move || {
        entries += 1;
        let forgot = forgotten().contains(&Forgotten::Ept);
        match entries {
            1 => {
                vmcs::EXIT_QUALIFICATION.write(0x390);
                return reason::APIC_ACCESS;
            }
            2 => assert!(forgot, "the step finds the page"),
            _ => assert!(forgot, "what it found is not for the next instruction"),
        }
        [reason::MONITOR_TRAP, reason::EXTERNAL_INTERRUPT][entries - 2]
    });
    stage.end();
}

/// Outside of 64-bit code a move to a control register takes the lower half of the other.
#[test]
fn the_upper_half_is_not_moved() {
    let mut below = |_| 0;
    let mut stage = Stage::new(&mut below);
    stage.prepare(false);
    let mut entries = 0;
    run(&mut stage, move || {
        entries += 1;
        if entries == 1 {
            // MOV of ESP to CR0, with CD off and PE on, from real mode.
            vmcs::GUEST_RSP.write(0x1234_5678_0000_0011);
            vmcs::EXIT_QUALIFICATION.write(4 << 8);
            return reason::CR_ACCESS;
        }
        assert_eq!(vmcs::ENTRY_INFO.read() >> 31, 0, "an exception");
        assert_eq!(vmcs::GUEST_CR0.read() & 1, 1, "protected mode");
        reason::EXTERNAL_INTERRUPT
    });
    stage.end();
}

#[test]
fn random_hypercalls() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut below = |n| rng.below(n);
        let mut stage = Stage::new(&mut below);
        for step in 0..200 {
            stage.step();
            if step % 16 == 15 {
                stage.check();
            }
        }
        stage.end();
    }
}
