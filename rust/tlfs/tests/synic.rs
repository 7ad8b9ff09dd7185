// SPDX-License-Identifier: GPL-2.0

//! The synthetic interrupt controller and its timers.

use proptest::prelude::*;
use tlfs::interface::{feature, Gp, ASSIGNABLE};
use tlfs::message::message_type;
use tlfs::register::name;
use tlfs::status::HvStatus;
use tlfs::synic::*;

const ENABLED: u64 = 1;
const PERIODIC: u64 = 2;
const AUTO_ENABLE: u64 = 8;
const DIRECT: u64 = 1 << 12 | 0xed << 4;
/// The source of the timers.
const SINT: u64 = 4 << 16;

/// With its pages, and source 4 as interrupt 0x50.
fn ready() -> Synic {
    let mut synic = Synic::default();
    for (register, value) in [
        (Register::Control, 1),
        (Register::Messages, 0x5001),
        (Register::Flags, 0x6001),
        (Register::Sint(4), 0x50),
    ] {
        synic.write(register, value).unwrap();
    }
    synic
}

#[test]
fn numbers() {
    for (msr, name, register) in [
        (0x4000_0080, name::SCONTROL, Register::Control),
        (0x4000_0083, name::SCONTROL + 3, Register::Messages),
        (0x4000_0084, name::SCONTROL + 4, Register::EndOfMessage),
        (0x4000_0090, name::SINT0, Register::Sint(0)),
        (0x4000_009f, name::SINT0 + 15, Register::Sint(15)),
        (0x4000_00b0, name::STIMER0_CONFIG, Register::TimerConfig(0)),
        (
            0x4000_00b7,
            name::STIMER0_CONFIG + 7,
            Register::TimerCount(3),
        ),
    ] {
        assert_eq!(Register::of_msr(msr), Some(register));
        assert_eq!(Register::of_name(name), Some(register));
    }
    for msr in [0, 0x4000_007f, 0x4000_0085, 0x4000_00a0, 0x4000_00b8, !0] {
        assert_eq!(Register::of_msr(msr), None);
    }
    assert_eq!(Register::Sint(0).feature(), feature::SYNIC);
    assert_eq!(Register::TimerCount(0).feature(), feature::TIMERS);
}

#[test]
fn as_after_reset() {
    let synic = Synic::default();
    assert_eq!(synic.read(Register::Control), 0);
    assert_eq!(synic.read(Register::Version), 1);
    assert_eq!(synic.read(Register::Sint(15)), 1 << 16);
    assert_eq!(synic.message(4), Err(HvStatus::INVALID_SYNIC_STATE));
    assert_eq!(synic.event(4), Err(HvStatus::INVALID_SYNIC_STATE));
    assert!(!synic.counts());
}

#[test]
fn what_cannot_be_written() {
    let mut synic = ready();
    assert_eq!(synic.write(Register::Version, 1), Err(Gp));
    // No vector, auto-EOI, as an intercept, passed on.
    for value in [0xf, 0x50 | 1 << 17, 0x50 | 1 << 19, 0x50 | 1 << 20] {
        assert_eq!(synic.write(Register::Sint(4), value), Err(Gp));
    }
    // Direct mode with no vector, and bits that do not exist.
    for value in [1 << 12 | 0xf << 4, 1 << 13, 1 << 20, 1 << 63] {
        assert_eq!(synic.write(Register::TimerConfig(0), value), Err(Gp));
    }
    assert_eq!(synic, ready());
}

#[test]
fn pages_are_cleared_when_they_appear() {
    let mut synic = Synic::default();
    let mut write = |value| synic.write(Register::Messages, value).unwrap();
    assert_eq!(write(0x5000), Effect::None);
    assert_eq!(write(0x5001), Effect::Clear(0x5000));
    assert_eq!(write(0x5001), Effect::None);
    assert_eq!(write(0x7001), Effect::Clear(0x7000));
    assert_eq!(write(0), Effect::None);
}

#[test]
fn where_things_go() {
    let mut synic = ready();
    let vector = Some(0x50);
    assert_eq!(
        synic.message(4),
        Ok(Target {
            slot: 0x5400,
            vector
        })
    );
    assert_eq!(
        synic.event(4),
        Ok(Target {
            slot: 0x6400,
            vector
        })
    );
    assert_eq!(synic.message(16), Err(HvStatus::INVALID_PARAMETER));
    assert_eq!(synic.message(5), Err(HvStatus::INVALID_SYNIC_STATE));
    synic.write(Register::Sint(4), 0x50 | 1 << 18).unwrap();
    assert_eq!(synic.message(4).unwrap().vector, None);
    synic.write(Register::Control, 0).unwrap();
    assert_eq!(synic.message(4), Err(HvStatus::INVALID_SYNIC_STATE));
}

#[test]
fn once() {
    let mut synic = ready();
    let write = |synic: &mut Synic, register, value| {
        assert_eq!(synic.write(register, value), Ok(Effect::Timers));
    };
    write(&mut synic, Register::TimerConfig(0), ENABLED | SINT);
    write(&mut synic, Register::TimerCount(0), 1000);
    assert!(synic.counts());
    let timer = &mut synic.timers()[0];
    assert_eq!((timer.expired(999), timer.due()), (None, Some(1000)));
    assert_eq!((timer.expired(1005), timer.due()), (Some(1000), None));
    // Until it is delivered.
    assert_eq!(timer.expired(1006), Some(1000));
    assert_eq!(timer.notice(), Notice::Message(4));
    timer.settled();
    assert_eq!(timer.expired(1007), None);
    assert_eq!(synic.read(Register::TimerConfig(0)), SINT);
    assert!(!synic.counts());
}

#[test]
fn enabled_by_its_count() {
    let mut synic = ready();
    synic
        .write(Register::TimerConfig(1), AUTO_ENABLE | SINT)
        .unwrap();
    synic.write(Register::TimerCount(1), 1000).unwrap();
    assert_eq!(synic.timers()[1].expired(2000), Some(1000));
    synic.write(Register::TimerCount(1), 3000).unwrap();
    assert_eq!(synic.timers()[1].expired(2500), None);
    synic.write(Register::TimerCount(1), 0).unwrap();
    assert_eq!(synic.timers()[1].expired(3500), None);
    assert_eq!(synic.read(Register::TimerConfig(1)), AUTO_ENABLE | SINT);
    // Source 0 tells nothing of timers.
    synic.write(Register::TimerConfig(1), ENABLED).unwrap();
    assert_eq!(synic.read(Register::TimerConfig(1)), 0);
}

#[test]
fn direct() {
    let mut synic = ready();
    // With no source.
    synic
        .write(Register::TimerConfig(0), ENABLED | AUTO_ENABLE | DIRECT)
        .unwrap();
    synic.write(Register::TimerCount(0), 1000).unwrap();
    let timer = &mut synic.timers()[0];
    assert_eq!(timer.notice(), Notice::Interrupt(0xed));
    assert_eq!((timer.expired(999), timer.due()), (None, Some(1000)));
    assert_eq!(timer.expired(1000), Some(1000));
    timer.settled();
    assert_eq!(
        synic.read(Register::TimerConfig(0)),
        AUTO_ENABLE | DIRECT,
        "once"
    );
    synic.write(Register::TimerCount(0), 2000).unwrap();
    assert_eq!(synic.timers()[0].expired(2000), Some(2000), "and again");
}

#[test]
fn another_time() {
    let mut synic = ready();
    for (timer, config, count) in [
        (0, ENABLED | SINT, 1 << 60),
        (1, ENABLED | PERIODIC | SINT, 1000),
        (2, SINT, 7000),
    ] {
        let write = |synic: &mut Synic, register, value| synic.write(register, value).unwrap();
        write(&mut synic, Register::TimerConfig(timer), config);
        write(&mut synic, Register::TimerCount(timer), count);
        assert_eq!(synic.timers()[timer].expired(1 << 50), None);
    }
    synic.move_time();
    let timers = synic.timers();
    assert_eq!(timers[0].expired(5000), Some(0), "what waited expires");
    assert_eq!(
        (timers[1].expired(5000), timers[1].due()),
        (None, Some(6000)),
        "a period begins"
    );
    assert_eq!(timers[2].expired(8000), None, "it was off");
}

#[test]
fn direct_ones_are_a_feature() {
    let config = Register::TimerConfig(3);
    assert_eq!(config.feature_to_write(SINT | ENABLED), feature::TIMERS);
    assert_eq!(config.feature_to_write(DIRECT), feature::DIRECT_TIMERS);
    let count = Register::TimerCount(3);
    assert_eq!(count.feature_to_write(DIRECT), feature::TIMERS);
    let mut state = Synic::default().timers_state();
    state.timers[3].config = DIRECT | ENABLED;
    let mut synic = ready();
    let without = ASSIGNABLE & !feature::DIRECT_TIMERS;
    assert_eq!(
        synic.set_timers_state(without, &state),
        Err(HvStatus::INVALID_PARAMETER)
    );
    assert_eq!(synic, ready());
    synic.set_timers_state(ASSIGNABLE, &state).unwrap();
    assert_eq!(synic.read(config), DIRECT | ENABLED);
}

proptest! {
    #[test]
    fn periods_do_not_drift(period in 1u64..1 << 40, late in 0u64..1 << 50, start in 0u64..1 << 60) {
        let mut synic = ready();
        synic.write(Register::TimerConfig(0), ENABLED | PERIODIC | SINT).unwrap();
        synic.write(Register::TimerCount(0), period).unwrap();
        let timer = &mut synic.timers()[0];
        prop_assert_eq!(timer.expired(start), None);
        prop_assert_eq!(timer.due(), Some(start + period));
        let now = start + period + late;
        prop_assert_eq!(timer.expired(now), Some(start + period));
        let due = timer.due().unwrap();
        prop_assert!(due > now && due - now <= period && (due - start) % period == 0);
    }

    #[test]
    fn saved_and_restored(config in any::<u64>(), count in any::<u64>(), now in any::<u64>(), later in any::<u64>()) {
        let mut synic = ready();
        if synic.write(Register::TimerConfig(2), config & 0xf_0fff).is_ok() {
            synic.write(Register::TimerCount(2), count).unwrap();
        }
        synic.timers()[2].expired(now);
        let mut other = ready();
        other.set_timers_state(ASSIGNABLE, &synic.timers_state()).unwrap();
        prop_assert_eq!(other.timers_state(), synic.timers_state());
        prop_assert_eq!(other.timers()[2].expired(later), synic.timers()[2].expired(later));
    }
}

#[test]
fn state_that_is_none() {
    let mut state = Synic::default().timers_state();
    state.timers[3].config = 1 << 13;
    let mut synic = ready();
    assert_eq!(
        synic.set_timers_state(ASSIGNABLE, &state),
        Err(HvStatus::INVALID_PARAMETER)
    );
    assert_eq!(synic, ready());
}

#[test]
fn messages() {
    let message = timer_message(3, 0x1000, 0x2000);
    assert_eq!(message.message_type, message_type::TIMER_EXPIRED);
    let mut waiting = message;
    waiting.message_flags = 1;
    let words = slot_words(&waiting);
    assert_eq!(words[0], 24 << 32 | 0x8000_0010);
    assert_eq!(words[2..5], [3, 0x1000, 0x2000]);
}
