// SPDX-License-Identifier: GPL-2.0

//! MSRs of children and the bitmaps of both, whatever processor it is.

use hvcore::policy::cpuid::Clock;
use hvcore::policy::msr::{
    canonical, fill_child, fill_root, pat_valid, root_may_write, write_debugctl, Caps, Msr, State,
    Stored, PASSED,
};

use crate::bytes::Bytes;

/// Whether an access exits, by the processor's own arithmetic (SDM vol. 3, 25.6.9).
fn exits(bitmap: &[u64; 512], msr: u32, write: bool) -> bool {
    let low = msr < 0x2000;
    if !low && !(0xc000_0000..0xc000_2000).contains(&msr) {
        return true;
    }
    let bit = msr as usize % 0x2000 + if low { 0 } else { 0x2000 } + if write { 0x4000 } else { 0 };
    bitmap[bit / 64] >> (bit % 64) & 1 != 0
}

fn number(bytes: &mut Bytes) -> u32 {
    match bytes.u8() >> 5 {
        0..=3 => u32::from(bytes.u16()) & 0x1fff,
        4 => match u32::from(bytes.u8()) & 31 {
            n @ 0..16 => 0x200 + n,
            n @ 16..24 => 0x268 + n - 16,
            n => [0x250, 0x258, 0x259, 0x277, 0x2ff, 0x210, 0x25a, 0x3f1][n as usize - 24],
        },
        5 => [0x1b, 0x3a, 0x48, 0x10a, 0x1a0, 0x570, 0x17d0, 0xfe][usize::from(bytes.u8() & 7)],
        6 => 0xc000_0000 | u32::from(bytes.u16()) & 0x1fff,
        _ => bytes.u32(),
    }
}

fn valid_mtrr(kind: u64) -> bool {
    matches!(kind, 0 | 1 | 4 | 5 | 6)
}

/// What WRMSR refuses (SDM vol. 3, 13.11; vol. 4), by the number of the MSR.
fn refused(msr: u32, value: u64, caps: &Caps) -> Option<bool> {
    let width = caps.phys_bits.min(52);
    let wide = value >> width != 0;
    match msr {
        0x48 => Some(value & !caps.spec_ctrl != 0),
        0x200..=0x20f if msr % 2 == 0 => {
            Some(wide || value & 0xf00 != 0 || !valid_mtrr(value & 0xff))
        }
        0x200..=0x20f => Some(wide || value & 0x7ff != 0),
        0x250 | 0x258 | 0x259 | 0x268..=0x26f => Some(
            !value
                .to_le_bytes()
                .iter()
                .all(|kind| valid_mtrr((*kind).into())),
        ),
        0x2ff => Some(value & !0xcff != 0 || !valid_mtrr(value & 0xff)),
        // Read-only, all of them.
        0x17 | 0xce | 0xfe | 0x10a | 0x179 | 0x3a => Some(true),
        0xda0 => Some(value != 0),
        _ => None,
    }
}

/// What the root may not write, beside the MSRs of VMX: moving its APIC, hiding CPUID's leaves, XD
/// off, a trace to memory past its EPT, what the processor thinks of its cores, and records of
/// counters by hvcore's tables.
fn root_is_denied(msr: u32, value: u64, now: u64) -> Option<bool> {
    match msr {
        0x1b => Some(value >> 12 != now >> 12),
        0x1a0 => Some((value & !now) & (1 << 22 | 1 << 34) != 0),
        0x3f1 => Some(value != 0),
        0x570 => Some(value & 1 != 0),
        0x3a | 0x17d0 => Some(true),
        _ => None,
    }
}

/// What a child reads where it is always the same.
fn constant(msr: u32, read: u64, caps: &Caps) {
    match msr {
        // Locked, and no VMX.
        0x3a => assert_eq!(read, 1),
        // No bit that promises an MSR (MCU_CONTROL, MISC_PACKAGE_CTLS, ENERGY_FILTERING, DOITM,
        // MCU_ENUM, TSX_CTRL, XAPIC_DISABLE, OVERCLOCKING, GDS_CTRL), and none that is not so.
        0x10a => {
            let others = 1 << 7 | 0xf << 9 | 1 << 16 | 1 << 21 | 1 << 23 | 1 << 25;
            let native = caps.arch_capabilities.expect("there is one");
            assert_eq!(read & (others | !native), 0, "{read:#x}");
        }
        0xfe => assert_eq!(read & 0xff, 8, "ranges"),
        _ => {}
    }
}

fn words(state: &State) -> Vec<u64> {
    let mut all = vec![state.spec_ctrl, state.misc_enable, state.mtrr_def_type];
    all.extend(state.mtrr_fixed);
    all.extend(state.mtrr_variable);
    all
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let flags = bytes.u8();
    let (leaf7, leaf7_2) = (bytes.u32(), bytes.u32());
    let caps = Caps {
        phys_bits: 32 + u32::from(bytes.u8() & 31),
        arch_capabilities: (flags & 1 != 0).then(|| bytes.value()),
        platform_id: bytes.value(),
        microcode: bytes.value(),
        spec_ctrl: Caps::spec_ctrl_bits(leaf7, leaf7_2),
        pred_cmd: flags & 2 != 0,
        flush_cmd: flags & 4 != 0,
        clock: Clock::new(bytes.value()),
    };
    // IBRS, STIBP, SSBD; IPRED_DIS, RRSBA_DIS (of two modes each), PSFD, BHI_DIS_S.
    for (bit, word, feature) in [
        (0, leaf7, 26),
        (1, leaf7, 27),
        (2, leaf7, 31),
        (3, leaf7_2, 1),
        (4, leaf7_2, 1),
        (5, leaf7_2, 2),
        (6, leaf7_2, 2),
        (7, leaf7_2, 0),
        (10, leaf7_2, 4),
    ] {
        assert_eq!(
            caps.spec_ctrl >> bit & 1,
            u64::from(word >> feature & 1),
            "SPEC_CTRL {bit}"
        );
    }
    assert_eq!(caps.spec_ctrl & !0x4ff, 0);
    assert_eq!(caps.write_pred_cmd(1).is_ok(), caps.pred_cmd);
    assert_eq!(caps.write_flush_cmd(1).is_ok(), caps.flush_cmd);
    let (mut root, mut child) = ([0; 512], [0; 512]);
    fill_root(&mut root);
    fill_child(&mut child);
    let mut state = State::RESET;
    let mut steps = 0;
    while !bytes.is_empty() && steps < 48 {
        steps += 1;
        let (msr, value) = (number(&mut bytes), bytes.value());
        let vmx = (0x480..=0x493).contains(&msr);
        assert!(
            !vmx || exits(&root, msr, false) && exits(&root, msr, true),
            "{msr:#x}"
        );
        let now = bytes.value();
        match root_is_denied(msr, value, now) {
            Some(denied) => {
                assert!(exits(&root, msr, true), "{msr:#x}");
                assert_eq!(
                    root_may_write(msr, value, || now),
                    !denied,
                    "{msr:#x}: {value:#x}"
                );
            }
            None => assert!(vmx || !exits(&root, msr, true) || msr >= 0x2000, "{msr:#x}"),
        }
        // A child touches none but those that are switched with it; EFER it may read.
        for write in [false, true] {
            let open = PASSED.contains(&msr) || msr == 0xc000_0080 && !write;
            assert_eq!(exits(&child, msr, write), !open, "{msr:#x}");
        }
        assert!(
            caps.write_pred_cmd(value)
                .is_ok_and(|v| v == value && v < 2)
                || value > 1
                || !caps.pred_cmd
        );
        assert!(write_debugctl(value).map_or(value & !3 != 0, |kept| kept & !2 == 0));
        let high = value >> 47;
        assert_eq!(canonical(value), high == 0 || high == 0x1_ffff);
        let pat = (0..8).all(|i| !matches!(value >> (8 * i) & 0xff, 2 | 3 | 8..));
        assert_eq!(pat_valid(value), pat);
        let decoded = Msr::decode(msr, &caps);
        assert!(
            decoded.is_none() || !PASSED.contains(&msr),
            "{msr:#x} is answered twice"
        );
        // VMX, machine check banks, counters, microcode's and power's: not a child's.
        if vmx
            || matches!(msr, 0x186..=0x189 | 0xc1..=0xc8 | 0x38d..=0x390 | 0x400..=0x47f | 0x600..=0x6df)
        {
            assert_eq!(decoded, None, "{msr:#x}");
        }
        let Some(Msr::State(stored)) = decoded else {
            continue;
        };
        if let Stored::Constant(read) = stored {
            constant(msr, read, &caps);
        }
        let before = words(&state);
        let old = state.read(stored);
        // What it holds, with any bit changed.
        for near in (0..64).map(|bit| old.unwrap_or(0) ^ 1 << bit) {
            let (mut other, is) = (state, refused(msr, near, &caps));
            let done = other.write(stored, near, &caps);
            assert!(
                is.is_none_or(|is| is == done.is_err()),
                "{msr:#x}: {near:#x}"
            );
        }
        match state.write(stored, value, &caps) {
            Ok(()) => {
                assert_ne!(
                    refused(msr, value, &caps),
                    Some(true),
                    "{msr:#x} took {value:#x}"
                );
                let new = state.read(stored);
                let kept = match stored {
                    Stored::Constant(_) | Stored::Inert(_) => new == old,
                    // Fast strings, TM1, EIST, MONITOR, CPUID's limit, xTPR, XD: nothing else.
                    Stored::MiscEnable => {
                        const SWITCHES: u64 = 1 | 1 << 3 | 1 << 16 | 1 << 18 | 3 << 22 | 1 << 34;
                        let read = new.unwrap_or(0);
                        read & SWITCHES == value & SWITCHES && read & !SWITCHES == 3 << 11
                    }
                    _ => new == Ok(value),
                };
                assert!(kept, "{msr:#x}: wrote {value:#x}, reads {new:x?}");
            }
            Err(_) => {
                assert_ne!(
                    refused(msr, value, &caps),
                    Some(false),
                    "{msr:#x} refused {value:#x}"
                );
                assert_eq!(before, words(&state), "a refused write of {msr:#x}");
            }
        }
        let changed = before
            .iter()
            .zip(words(&state))
            .filter(|(a, b)| **a != *b)
            .count();
        assert!(changed <= 1, "a write of {msr:#x} changed {changed} others");
    }
    // Mostly values that can be.
    let odd = bytes.u8();
    let mut any = |bit: u8, or: u64| [or, bytes.value()][usize::from(odd == bit)];
    let fixed = core::array::from_fn(|i| any(i as u8, 0x0606_0605_0401_0006));
    let variable = core::array::from_fn(|i| any(16 + i as u8, [0x8000_0006, 0x8000_0800][i % 2]));
    let def_type = any(11, 0xc06);
    if let Ok(after) = state.with_mtrrs(def_type, &fixed, &variable, &caps) {
        assert_eq!(
            words(&after)[2..],
            [&[def_type][..], &fixed, &variable].concat()
        );
    }
}
