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

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    // A processor that has what VMX needs.
    let fixed = Fixed {
        cr0_0: 0x8000_0021,
        cr4_0: cr4::VMXE,
        cr4_1: bytes.value() & 0x1ff_ffff | 0x20 | cr4::VMXE | cr4::MCE,
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
                let value = [bytes.value(), mode.cr0 ^ bytes.value()][usize::from(kind >> 7)];
                if let Ok(write) = policy.write_cr0(value, &mode) {
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
                let value = [bytes.value(), mode.cr4 ^ bytes.value()][usize::from(kind >> 7)];
                if let Ok(write) = policy.write_cr4(value, &mode) {
                    assert_eq!(write.shadow, value, "the guest reads what it wrote");
                    assert_eq!((write.hardware ^ value) & !policy.cr4_mask, 0);
                    take(&write, &mut mode, false);
                }
            }
            6 => {
                let value = mode.efer ^ bytes.value();
                if let Ok(new) = write_efer(value, &mode) {
                    assert_eq!(new & efer::LMA, mode.efer & efer::LMA, "LMA follows paging");
                    mode.efer = new;
                }
            }
            _ => {
                mode.cr3 = bytes.value();
                mode.cs_l = kind & 8 != 0;
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
