// SPDX-License-Identifier: GPL-2.0

//! What a switch does against speculation, on any processor.

use hvabi::boot::measures::{ALL, IBPB, L1D_FLUSH, RSB_FILL, VERW};
use speculation::{Choice, Cpu};

use crate::bytes::Bytes;

/// Bits of IA32_ARCH_CAPABILITIES that say that a flaw is not there; the number of those that
/// only together say so (SDM vol. 4, table 2-2).
const IMMUNE: [(&[u32], u64); 6] = [
    (&[0], L1D_FLUSH),
    (&[3], L1D_FLUSH),
    (&[5], VERW),
    (&[8], VERW),
    (&[13, 14, 15], VERW),
    (&[27], VERW),
];

/// Family 6, by model: what it is free of though it does not say so (Linux, `common.c`).
fn free_of(signature: u32) -> u64 {
    if signature >> 8 & 0xf != 6 {
        return 0;
    }
    match signature >> 12 & 0xf0 | signature >> 4 & 0xf {
        // Goldmont, Denverton, Goldmont Plus.
        0x5c | 0x5f | 0x7a => L1D_FLUSH | VERW,
        // Silvermont and Airmont; Xeon Phi.
        0x37 | 0x4a | 0x4d | 0x4c | 0x5a | 0x75 | 0x57 | 0x85 => L1D_FLUSH,
        _ => 0,
    }
}

/// What it needs, flaw by flaw, by the table in docs/speculation.md.
fn needs(cpu: &Cpu) -> u64 {
    let has = |bit: u32| cpu.capabilities >> bit & 1 == 1;
    let free = free_of(cpu.signature);
    let l1tf = !has(0) && !has(3) && free & L1D_FLUSH == 0;
    let mds = !has(5) && free & VERW == 0;
    let taa = !has(8) && (has(7) || cpu.leaf7_ebx >> 11 & 1 == 1);
    let stale = has(17) && [13, 14, 15].into_iter().any(|bit| !has(bit));
    let rfds = has(28) && !has(27);
    let of = |suffers: bool, measure: u64| if suffers { measure } else { 0 };
    IBPB | RSB_FILL | of(l1tf, L1D_FLUSH) | of(mds || taa || stale || rfds, VERW)
}

/// What it can do.
fn can(cpu: &Cpu) -> u64 {
    let edx = |bit: u32| cpu.leaf7_edx >> bit & 1;
    let verw = u64::from(edx(10)) | cpu.capabilities >> 17 & 1 | cpu.capabilities >> 28 & 1;
    RSB_FILL | u64::from(edx(26)) * IBPB | verw * VERW | u64::from(edx(28)) * L1D_FLUSH
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut word = || bytes.value() as u32;
    // Mostly family 6, of which all models come.
    let signature = [6 << 8 | word() & 0xf_00ff, word()][usize::from(word() & 7 == 0)];
    let (leaf7_ebx, leaf7_edx) = (word(), word());
    let cpu = Cpu {
        signature,
        leaf7_ebx,
        leaf7_edx,
        capabilities: bytes.value() ^ bytes.value(),
    };
    let (needs, can) = (needs(&cpu), can(&cpu));
    assert_eq!((cpu.needs(), cpu.can()), (needs, can), "{cpu:x?}");
    let Choice { taken, lacking } = cpu.choose();
    assert_eq!((taken, lacking), (needs & can, needs & !can), "{cpu:x?}");

    for wanted in (0..=2 * ALL).chain([bytes.value()]) {
        let chosen = cpu.choose_as(wanted);
        let possible = wanted & !can == 0;
        let expected = possible.then_some(Choice {
            taken: wanted,
            lacking: needs & !wanted,
        });
        assert_eq!(chosen, expected, "{wanted:#x} on {cpu:x?}");
    }
    monotonous(&cpu);
}

/// One flaw more never takes a measure away, one that is mended never adds one; what a processor
/// can do more, it does not need more often.
fn monotonous(cpu: &Cpu) {
    for (bits, measure) in IMMUNE {
        let mask = bits.iter().fold(0, |mask, bit| mask | 1 << bit);
        let immune = Cpu {
            capabilities: cpu.capabilities | mask,
            ..*cpu
        };
        let flawed = Cpu {
            capabilities: cpu.capabilities & !mask,
            ..*cpu
        };
        let gone = flawed.needs() & !immune.needs();
        assert_eq!(immune.needs() & !flawed.needs(), 0, "{bits:?}: {cpu:x?}");
        assert_eq!(gone & !measure, 0, "{bits:?}: {cpu:x?}");
    }
    for bit in 0..32 {
        let other = Cpu {
            leaf7_edx: cpu.leaf7_edx | 1 << bit,
            ..*cpu
        };
        assert_eq!(other.needs(), cpu.needs(), "EDX bit {bit}: {cpu:x?}");
        assert_eq!(cpu.can() & !other.can(), 0, "EDX bit {bit}: {cpu:x?}");
    }
}
