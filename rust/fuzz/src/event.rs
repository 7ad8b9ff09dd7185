// SPDX-License-Identifier: GPL-2.0

//! Events that the root sets, and what comes of each exit reason.

use hvcore::event::Event;
use hvcore::policy::exits::{child, Answer};

use crate::bytes::Bytes;

/// What VM entry says to an event of a processor in protected mode (SDM vol. 3, 28.2.1.3), as far
/// as it depends on the event alone and hvcore promises to refuse it.
fn enters(info: u32, error: u32) -> bool {
    let (vector, kind, has_error) = (info & 0xff, info >> 8 & 7, info >> 11 & 1 != 0);
    let kind_fits = match kind {
        0 => !has_error,
        2 => vector == 2 && !has_error,
        3 => vector < 32 && vector != 2,
        _ => false,
    };
    let error_fits = !has_error || matches!(vector, 8 | 10..=14 | 17 | 21) && error >> 16 == 0;
    info >> 31 != 0 && info & 0x7fff_f000 == 0 && kind_fits && error_fits
}

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    while !bytes.is_empty() {
        let (info, error) = (
            bytes.value() as u32 ^ bytes.u16() as u32,
            bytes.value() as u32,
        );
        for info in [info, info | 1 << 31, info & 0xfff | 1 << 31] {
            match Event::from_root(info, error) {
                Some(event) => {
                    assert!(enters(info, error), "{info:#x} {error:#x}");
                    assert_eq!((event.info(), event.error()), (info, error));
                    assert_eq!(event.for_mode(0).info(), info & !(1 << 11), "in real mode");
                    assert_eq!(event.for_mode(1), event);
                }
                // A little more is refused: error codes with bits above 15 that are not used.
                None => assert!(
                    !enters(info, error) || error > 0xffff,
                    "{info:#x} {error:#x}"
                ),
            }
        }
        // SIPI, failed entries, EPT misconfigurations and all that nobody knows end the partition.
        let exit = [bytes.value() as u32, bytes.below(96) as u32][usize::from(bytes.u8() & 1)];
        match exit {
            4..=6 | 33..=35 | 41 | 42 | 45..=47 | 49 | 61..=64 | 66..=75 | 82 | 83 | 86.. => {
                assert_eq!(child(exit), Answer::Unexpected, "{exit}");
            }
            // What a child does not have.
            11 | 19..=27 | 36 | 39 | 50 | 53 | 59 | 60 | 65 | 76..=81 | 84 | 85 => {
                assert_eq!(child(exit), Answer::Undefined, "{exit}");
            }
            _ => assert_eq!(child(exit), answer(exit), "{exit}"),
        }
    }
}

/// What comes of the exits that a child can have (SDM vol. 3, appendix C).
fn answer(exit: u32) -> Answer {
    use Answer::*;
    match exit {
        0 => Exception,
        1 => Interrupted,
        2 => TripleFault,
        3 => Init,
        // Windows, monitor trap, TPR below threshold, preemption timer.
        7 | 8 | 37 | 43 | 52 => Look,
        9 => TaskSwitch,
        10 => Cpuid,
        12 => Halt,
        // INVD, WBINVD.
        13 | 54 => Nothing,
        15 => Protection,
        18 => Hypercall,
        28 => ControlRegister,
        30 => Port,
        31 => ReadMsr,
        32 => WriteMsr,
        40 => Pause,
        44 => ApicAccess,
        48 => Memory,
        55 => Xsetbv,
        56 => ApicWrite,
        // Those whose controls are off.
        _ => Unexpected,
    }
}
