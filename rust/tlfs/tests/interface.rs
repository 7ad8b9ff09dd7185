// SPDX-License-Identifier: GPL-2.0

//! Hyper-V's interface for guests.

use tlfs::interface::{self, code, feature, msr, Call, Clock, Control, Gp, Page, Read, Registers};
use tlfs::status::HvStatus;

const ALL: u64 = interface::ASSIGNABLE;

fn leaf(features: u64, leaf: u32) -> [u32; 4] {
    let mut answer = [7; 4];
    interface::cpuid(features, leaf, 64, &mut answer);
    answer
}

#[test]
fn nothing_is_announced_that_was_not_asked_for() {
    for features in [
        0,
        feature::HYPERVISOR_PRESENT,
        feature::HV1,
        feature::HYPERCALL,
    ] {
        for number in [1, 0x4000_0000, 0x4000_0003, 0x4000_0082] {
            assert_eq!(leaf(features, number), [7; 4]);
        }
        for index in (0x4000_0000..0x4000_0200).chain([0x10, 0x8000_0000]) {
            assert_eq!(Registers::default().read(features, index), None);
            assert_eq!(Registers::default().write(features, index, 1), None);
        }
    }
    let few = feature::HYPERVISOR_PRESENT | feature::HV1 | feature::VP_INDEX;
    assert_eq!(leaf(few, 0x4000_0003), [1 << 6, 0, 0, 0]);
    assert_eq!(leaf(few, 0x4000_0004)[0], 1 << 5);
    assert_eq!(
        Registers::default().read(few, msr::VP_INDEX),
        Some(Read::VpIndex)
    );
    assert_eq!(Registers::default().read(few, msr::HYPERCALL), None);
}

#[test]
fn what_is_asked_for_and_not_there_is_not_announced() {
    assert_eq!(leaf(u64::MAX, 0x4000_0003), leaf(ALL, 0x4000_0003));
    // Reference counter, SynIC, timers, hypercalls, VP index, reference TSC, guest idle, frequencies.
    // And direct timers.
    assert_eq!(
        leaf(ALL, 0x4000_0003),
        [0xe6e, 0, 0, 1 << 5 | 1 << 8 | 1 << 19]
    );
    assert_eq!(
        leaf(ALL, 0x4000_0004),
        [1 << 2 | 1 << 5 | 1 << 9 | 1 << 10, u32::MAX, 0, 0]
    );
    // Timers have nowhere to tell without the SynIC.
    for without in [feature::SYNIC, feature::SYNIC | feature::TIMERS] {
        let [eax, .., edx] = leaf(ALL & !without, 0x4000_0003);
        assert_eq!((eax, edx & 1 << 19), (0xe62, 0));
    }
    assert_eq!(leaf(ALL & !feature::TIMERS, 0x4000_0003)[3] & 1 << 19, 0);
    for index in [
        0x4000_0003,
        0x4000_0010,
        0x4000_0070,
        0x4000_0080,
        0x4000_00b0,
        0x4000_0118,
    ] {
        assert_eq!(
            Registers::default().read(u64::MAX, index),
            None,
            "{index:#x}"
        );
    }
}

#[test]
fn cpuid_names_the_interface() {
    let [eax, ebx, ecx, edx] = leaf(ALL, 0x4000_0000);
    assert!(eax >= 0x4000_0005);
    let name: Vec<u8> = [ebx, ecx, edx]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    assert_eq!(name, b"Microsoft Hv");
    assert_eq!(leaf(ALL, 0x4000_0001)[0], 0x3123_7648);
    assert_eq!(leaf(ALL, 0x4000_0005)[0], 64);
    // No confidential VMBus, no isolation, nothing nested.
    for number in [0x4000_0007, 0x4000_000a, 0x4000_000c, 0x4000_0082] {
        assert_eq!(leaf(ALL, number), [0; 4]);
    }
    assert_eq!(leaf(ALL, 1), [7, 7, 7 | 1 << 31, 7]);
    assert_eq!(leaf(ALL, 7), [7; 4]);
    assert_eq!(leaf(ALL, 0x4000_0100), [7; 4]);
}

#[test]
fn a_guest_says_who_it_is_before_it_gets_hypercalls() {
    let mut r = Registers::default();
    let on = 0x5000 | 1;
    assert_eq!(r.write(ALL, msr::HYPERCALL, on), Some(Ok(Page::None)));
    assert!(!r.hypercalls());
    assert_eq!(
        r.write(ALL, msr::GUEST_OS_ID, 0x8100 << 48),
        Some(Ok(Page::None))
    );
    assert_eq!(
        r.write(ALL, msr::HYPERCALL, on),
        Some(Ok(Page::Hypercall(0x5000)))
    );
    assert!(r.hypercalls());
    assert_eq!(r.read(ALL, msr::HYPERCALL), Some(Read::Value(on)));
    assert_eq!(r.write(ALL, msr::GUEST_OS_ID, 0), Some(Ok(Page::None)));
    assert!(!r.hypercalls());
    assert_eq!(r.read(ALL, msr::HYPERCALL), Some(Read::Value(0x5000)));

    r.write(ALL, msr::GUEST_OS_ID, 1);
    r.write(ALL, msr::HYPERCALL, on | 2);
    assert_eq!(r.write(ALL, msr::HYPERCALL, 0), Some(Ok(Page::None)));
    assert!(r.hypercalls(), "it is locked");
}

#[test]
fn msrs_that_are_read_only() {
    let mut r = Registers::default();
    for index in [
        msr::VP_INDEX,
        msr::TIME_REF_COUNT,
        msr::TSC_FREQUENCY,
        msr::APIC_FREQUENCY,
        msr::GUEST_IDLE,
    ] {
        assert_eq!(r.write(ALL, index, 0), Some(Err(Gp)));
    }
    assert_eq!(
        r.write(ALL, msr::REFERENCE_TSC, 0x7001),
        Some(Ok(Page::ReferenceTsc(0x7000)))
    );
    assert_eq!(
        r.write(ALL, msr::REFERENCE_TSC, 0x7ffe),
        Some(Ok(Page::None))
    );
    assert_eq!(
        r,
        Registers {
            reference_tsc: 0x7ffe,
            ..Registers::default()
        }
    );
}

#[test]
fn reference_time() {
    for khz in [50_000, 999_999, 2_400_000, 3_500_000] {
        let clock = Clock::new(khz);
        let exact = (10_000u128 << 64) / u128::from(khz);
        assert!(exact - u128::from(clock.scale) <= 1);
        // A second, and a year, to 100 ns in each day.
        assert!(10_000_000 - clock.time(khz * 1000) <= 1);
        let year = 365 * 86400;
        let off = year * 10_000_000 - clock.time(khz * 1000 * year);
        assert!(off <= 365, "{khz}: {off}");
    }
    let mut clock = Clock::new(2_000_000);
    clock.set(1 << 40, 5);
    assert_eq!(clock.time(1 << 40), 5);
    assert_eq!(clock.time((1 << 40) + 2_000_000), 10_005);
    clock.set(0, 1 << 50);
    assert_eq!(clock.time(0), 1 << 50);
    // A frequency that was not measured is no reason to divide by zero.
    Clock::new(0);
}

fn call(control: u64, input: &[u64]) -> Result<Call, HvStatus> {
    Control::parse(control)?.call(ALL, input)
}

const INPUT: HvStatus = HvStatus::INVALID_HYPERCALL_INPUT;

#[test]
fn hypercalls_are_understood() {
    let flush = u64::from(code::FLUSH_SPACE);
    assert_eq!(call(flush, &[0x1000, 2, 5]), Ok(Call::Flush(5)));
    assert_eq!(call(flush, &[0x1000, 3, 0]), Ok(Call::Flush(u64::MAX)));
    assert_eq!(
        call(flush, &[0x1000, 0x10, 5]),
        Err(HvStatus::INVALID_PARAMETER)
    );
    assert_eq!(call(flush, &[0x1000, 2]), Err(INPUT));
    assert_eq!(call(flush | 1 << 32, &[0, 2, 5]), Err(INPUT), "no list");
    assert_eq!(
        call(flush | 1 << 17, &[0, 2, 5, 0]),
        Err(INPUT),
        "no variable header"
    );
    let list = u64::from(code::FLUSH_LIST) | 9 << 32;
    assert_eq!(call(list, &[0, 0, 3]), Ok(Call::Flush(3)));
    assert_eq!(
        call(u64::from(code::FLUSH_LIST), &[0, 0, 3]),
        Err(INPUT),
        "a list of nothing"
    );

    let ex = u64::from(code::FLUSH_SPACE_EX);
    assert_eq!(call(ex | 1 << 17, &[0, 0, 0, 1, 6]), Ok(Call::Flush(6)));
    assert_eq!(
        call(ex | 1 << 17, &[0, 0, 0, 2, 6]),
        Ok(Call::Flush(0)),
        "VPs that cannot be"
    );
    assert_eq!(call(ex, &[0, 0, 1, 0]), Ok(Call::Flush(u64::MAX)));
    assert_eq!(
        call(ex, &[0, 0, 0, 1]),
        Err(INPUT),
        "a bank that is not there"
    );
    assert_eq!(call(ex, &[0, 0, 2, 0]), Err(HvStatus::INVALID_PARAMETER));

    let ipi = u64::from(code::SEND_IPI);
    assert_eq!(call(ipi, &[0x30, 3]), Ok(Call::SendIpi(0x30, 3)));
    assert_eq!(
        call(ipi, &[1 << 32 | 0x30, 3]),
        Err(HvStatus::INVALID_PARAMETER)
    );
    let ipi = u64::from(code::SEND_IPI_EX);
    assert_eq!(
        call(ipi | 1 << 17, &[0x30, 0, 1, 9]),
        Ok(Call::SendIpi(0x30, 9))
    );

    for number in [0, 1, 8, 0x5c, 0x8001, 0xffff] {
        assert_eq!(call(number, &[0; 8]), Err(HvStatus::INVALID_HYPERCALL_CODE));
    }
    for bad in [1 << 27, 1 << 31, 1 << 44, 1 << 63, 1 << 48] {
        assert_eq!(call(flush | bad, &[0, 0, 0]), Err(INPUT));
    }
    let plain = ALL & !(feature::FLUSH | feature::CLUSTER_IPI);
    let control = Control::parse(flush).unwrap();
    assert_eq!(
        control.call(plain, &[0, 0, 1]),
        Err(HvStatus::ACCESS_DENIED)
    );
}

#[test]
fn hypercalls_say_how_they_ended() {
    let control = Control::parse(u64::from(code::FLUSH_LIST) | 9 << 32 | 4 << 48).unwrap();
    assert_eq!(control.result(Ok(())), 9 << 32);
    assert_eq!(control.result(Err(INPUT)), 4 << 32 | 3);
}

/// Whatever registers and memory say, there is an answer.
#[test]
fn any_input() {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..200_000 {
        let known = [2, 3, 0xb, 0x13, 0x14, 0x15][next() as usize % 6];
        let value = next() & next() & !0xffff | known;
        let input = [0; 8].map(|_: u64| next() & next() & next());
        let length = next() as usize % 9;
        if let Ok(control) = Control::parse(value) {
            let _ = control.call(next() | 3, &input[..length]);
        }
    }
}
