// SPDX-License-Identifier: GPL-2.0

//! Sequences of writes to control registers and EFER: what hardware gets is what VM entry accepts
//! (SDM vol. 3, 28.3.1.1), and a refused write changes nothing.

use hvcore::policy::cr::{cr0, cr4, efer, write_cr8, write_efer, Fixed, Mode, Policy, Write};

use crate::bytes::Bytes;

/// The checks of VM entry, as the manual has them.
fn enters(hardware0: u64, hardware4: u64, mode: &Mode, fixed: &Fixed) {
    let must0 = fixed.cr0_0 & !(cr0::PE | cr0::PG);
    assert_eq!(must0 & !hardware0, 0, "CR0 {hardware0:#x}");
    assert_eq!(hardware0 >> 32, 0);
    assert!(
        hardware0 & cr0::PG == 0 || hardware0 & cr0::PE != 0,
        "CR0 {hardware0:#x}"
    );
    assert_eq!(
        fixed.cr4_0 & !hardware4 | hardware4 & !fixed.cr4_1,
        0,
        "CR4 {hardware4:#x}"
    );
    assert!(hardware4 & cr4::CET == 0 || hardware0 & cr0::WP != 0);
    let long = mode.efer & efer::LMA != 0;
    assert_eq!(
        long,
        hardware0 & cr0::PG != 0 && mode.efer & efer::LME != 0,
        "{mode:x?}"
    );
    assert!(!long || hardware4 & cr4::PAE != 0, "{mode:x?}");
    assert!(long || hardware4 & cr4::PCIDE == 0, "{mode:x?}");
}

/// What MOV to CR0 and CR4 refuses (SDM vol. 2, MOV to control registers), of a CR4 that has `has`.
fn refused(cr0: bool, value: u64, mode: &Mode, has: u64) -> bool {
    let is = |register: u64, bits: u64| register & bits == bits;
    let long = is(mode.efer, efer::LMA);
    if cr0 {
        let (old, new) = (is(mode.cr0, cr0::PG), is(value, cr0::PG));
        let enters = !old && new && is(mode.efer, efer::LME);
        return value >> 32 != 0
            || new && !is(value, cr0::PE)
            || is(value, cr0::NW) && !is(value, cr0::CD)
            || enters && (!is(mode.cr4, cr4::PAE) || mode.cs_l)
            || !new && (is(mode.cr4, cr4::PCIDE) || long && mode.cs_l)
            || !is(value, cr0::WP) && is(mode.cr4, cr4::CET);
    }
    let sets_pcide = is(value & !mode.cr4, cr4::PCIDE);
    value & !has != 0
        || long && (!is(value, cr4::PAE) || is(value ^ mode.cr4, cr4::LA57))
        || is(value, cr4::CET) && !is(mode.cr0, cr0::WP)
        || sets_pcide && (!long || mode.cr3 & 0xfff != 0)
}

/// What a write has the processor forget and load (SDM vol. 3, 5.10.4.1 and 5.4.1): at least that.
fn follows(write: &Write, old: &Mode, cr0: bool) {
    let (cr0, cr4) = if cr0 {
        (write.shadow, old.cr4)
    } else {
        (old.cr0, write.shadow)
    };
    let (changed0, changed4) = (cr0 ^ old.cr0, cr4 ^ old.cr4);
    let flushes = changed0 & cr0::PG
        | changed4 & (cr4::PGE | cr4::PAE)
        | old.cr4 & !cr4 & cr4::PCIDE
        | cr4 & !old.cr4 & cr4::SMEP;
    assert!(write.flush || flushes == 0, "{old:x?}: {write:x?}");
    let pae = cr0 & cr0::PG != 0 && cr4 & cr4::PAE != 0 && write.efer & efer::LMA == 0;
    let loads = changed0 & (cr0::PG | cr0::CD | cr0::NW)
        | changed4 & (cr4::PAE | cr4::PGE | cr4::PSE | cr4::SMEP);
    assert_eq!(write.load_pdptes, pae && loads != 0, "{old:x?}: {write:x?}");
}

const CR0: &[u64] = &[
    cr0::PE,
    cr0::PG,
    cr0::PG | cr0::PE,
    cr0::WP,
    cr0::NE,
    cr0::CD,
    cr0::NW,
];
const CR4: &[u64] = {
    use cr4::*;
    &[
        PSE, PAE, PAE, MCE, PGE, LA57, VMXE, PCIDE, OSXSAVE, SMEP, SMAP, PKE, CET,
    ]
};
const EFER: &[u64] = &[efer::SCE, efer::LME, efer::LMA, efer::NXE];

/// A new value of a register that holds `old`: any, or one that differs in one bit, mostly of those
/// that do something.
fn near(bytes: &mut Bytes, kind: u8, old: u64, bits: &[u64]) -> u64 {
    match kind >> 6 {
        0 => bytes.value(),
        1 => old ^ bytes.value(),
        _ => old ^ bits[bytes.below(bits.len() as u64) as usize],
    }
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    // A processor that has what VMX needs.
    let fixed = Fixed {
        cr0_0: 0x8000_0021,
        cr4_0: cr4::VMXE,
        cr4_1: !bytes.value() & 0x1ff_ffff | 0x20 | cr4::VMXE | cr4::MCE,
    };
    let is_root = bytes.u8() & 1 != 0;
    let policy = if is_root {
        Policy::root(fixed)
    } else {
        Policy::child(fixed)
    };
    let mut mode = Mode {
        cr0: cr0::ET | cr0::CD | cr0::NW,
        ..Mode::default()
    };
    let has = fixed.cr4_1 & if is_root { u64::MAX } else { cr4::CHILD };
    let (mut hardware0, mut hardware4) = (policy.cr0_hardware(mode.cr0), policy.cr4_hardware(0));
    let mut steps = 0;
    while !bytes.is_empty() && steps < 64 {
        steps += 1;
        let kind = bytes.u8();
        let mut take = |write: &Write, mode: &mut Mode, cr0: bool| {
            if cr0 {
                (hardware0, mode.cr0) = (write.hardware, write.shadow);
            } else {
                (hardware4, mode.cr4) = (write.hardware, write.shadow);
            }
            mode.efer = write.efer;
        };
        match kind & 7 {
            0..=2 => {
                let value = near(&mut bytes, kind, mode.cr0, CR0);
                let done = policy.write_cr0(value, &mode);
                assert_eq!(
                    done.is_err(),
                    refused(true, value, &mode, has),
                    "{mode:x?}: {value:#x}"
                );
                if let Ok(write) = done {
                    follows(&write, &mode, true);
                    let kept = value & cr0::ALL | cr0::ET;
                    assert_eq!(write.shadow, kept, "the guest reads what it wrote");
                    let foreign = (write.hardware ^ kept) & !policy.cr0_mask;
                    assert!(
                        foreign & !fixed.cr0_0 == 0,
                        "a bit of the guest's own changed"
                    );
                    take(&write, &mut mode, true);
                }
            }
            3..=5 => {
                let value = near(&mut bytes, kind, mode.cr4, CR4);
                let done = policy.write_cr4(value, &mode);
                assert_eq!(
                    done.is_err(),
                    refused(false, value, &mode, has),
                    "{mode:x?}: {value:#x}"
                );
                if let Ok(write) = done {
                    follows(&write, &mode, false);
                    assert_eq!(write.shadow, value, "the guest reads what it wrote");
                    assert_eq!((write.hardware ^ value) & !policy.cr4_mask, 0);
                    take(&write, &mut mode, false);
                }
            }
            6 => {
                let value = near(&mut bytes, kind, mode.efer, EFER);
                if let Ok(new) = write_efer(value, &mode) {
                    assert_eq!(new & efer::LMA, mode.efer & efer::LMA, "LMA follows paging");
                    mode.efer = new;
                }
            }
            _ => {
                mode.cr3 = bytes.value();
                mode.cs_l = kind & 8 != 0;
                // Mostly one that can be had with a PCID.
                mode.cr3 &= [!0xfff, !0][usize::from(kind & 0x30 == 0)];
                let value = bytes.value();
                assert_eq!(
                    write_cr8(value).ok().map(u64::from),
                    Some(value).filter(|v| *v < 16)
                );
            }
        }
        mode.cs_l &= mode.efer & efer::LMA != 0;
        enters(hardware0, hardware4, &mode, &fixed);
        if !is_root {
            assert!(policy.consistent(&mode), "{mode:x?}");
            assert_eq!(
                hardware0 & (cr0::CD | cr0::NW),
                0,
                "caching is not the child's"
            );
            let more = hardware4 & !(cr4::CHILD | fixed.cr4_0);
            assert_eq!(
                (more, hardware4 & cr4::MCE),
                (0, cr4::MCE),
                "CR4 {hardware4:#x}"
            );
        }
    }
    // A mode from outside that is called consistent is one that VM entry accepts.
    let mode = Mode {
        cr0: bytes.value(),
        cr3: 0,
        cr4: bytes.value(),
        efer: bytes.value(),
        cs_l: false,
    };
    if policy.consistent(&mode) {
        enters(
            policy.cr0_hardware(mode.cr0),
            policy.cr4_hardware(mode.cr4),
            &mode,
            &fixed,
        );
    }
}
