// SPDX-License-Identifier: GPL-2.0

//! MSRs of children and the bitmaps of both, whatever processor it is.

use hvcore::policy::cpuid::Clock;
use hvcore::policy::msr::{
    canonical, fill_child, fill_root, pat_valid, write_debugctl, Caps, Msr, State, Stored, PASSED,
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
        4 | 5 => 0x200 | u32::from(bytes.u8()),
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

fn words(state: &State) -> Vec<u64> {
    let mut all = vec![state.spec_ctrl, state.misc_enable, state.mtrr_def_type];
    all.extend(state.mtrr_fixed);
    all.extend(state.mtrr_variable);
    all
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let flags = bytes.u8();
    let caps = Caps {
        phys_bits: 32 + u32::from(bytes.u8() & 31),
        arch_capabilities: (flags & 1 != 0).then(|| bytes.value()),
        platform_id: bytes.value(),
        microcode: bytes.value(),
        spec_ctrl: Caps::spec_ctrl_bits(bytes.u32(), bytes.u32()),
        pred_cmd: flags & 2 != 0,
        flush_cmd: flags & 4 != 0,
        clock: Clock::new(bytes.value()),
    };
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
        assert!(exits(&root, 0x3a, true));
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
        let before = words(&state);
        let old = state.read(stored);
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
                    Stored::MiscEnable => true,
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
    let before = words(&state);
    let fixed = core::array::from_fn(|_| bytes.u64());
    let variable = core::array::from_fn(|_| bytes.value());
    let (def_type, mut after) = (bytes.value(), state);
    if after.set_mtrrs(def_type, &fixed, &variable, &caps).is_err() {
        assert_eq!(words(&after), before, "all or nothing");
    } else {
        assert_eq!(
            words(&after)[2..],
            [&[def_type][..], &fixed, &variable].concat()
        );
    }
}
