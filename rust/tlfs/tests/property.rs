// SPDX-License-Identifier: GPL-2.0

//! Partition properties, and what they say of the processor.

use proptest::prelude::*;
use tlfs::processor::describe;
use tlfs::property::{code, Machine, Properties};
use tlfs::status::HvStatus;

/// CPUID of a processor with AVX-512.
fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    match (leaf, subleaf) {
        (1, 0) => [0, 0x0001_0800, 1 << 0 | 1 << 26 | 1 << 28, 0],
        (7, 0) => [0, 1 << 5, 0, 0],
        (0xd, 0) => [0x2ff, 0, 0, 0],
        (0xd, 1) => [1, 0, 0, 0],
        (0xd, 2) => [256, 576, 0, 0],
        (0xd, 3) => [64, 960, 0, 0],
        (0xd, 4) => [64, 1024, 0, 0],
        (0xd, 5) => [64, 1088, 0, 0],
        (0xd, 6) => [512, 1152, 0, 0],
        (0xd, 7) => [1024, 1664, 0, 0],
        (0xd, 9) => [8, 2688, 0, 0],
        (0x8000_0008, 0) => [39, 0, 0, 0],
        _ => [0; 4],
    }
}

#[test]
fn processor() {
    let machine = describe(cpuid, 50_000);
    assert_eq!(machine.get(code::PROCESSOR_FEATURES0), Ok(1));
    // XSAVE, XSAVEOPT, AVX, AVX2.
    assert_eq!(machine.get(code::PROCESSOR_XSAVE_FEATURES), Ok(0b1111));
    // MPX is left out.
    assert_eq!(machine.get(code::XSAVE_STATES), Ok(0x2e7));
    assert_eq!(machine.get(code::MAX_XSAVE_DATA_SIZE), Ok(2696));
    assert_eq!(machine.get(code::PHYSICAL_ADDRESS_WIDTH), Ok(39));
    assert_eq!(machine.get(code::PROCESSOR_CLOCK_FREQUENCY), Ok(50_000_000));
    assert_eq!(machine.get(code::PROCESSOR_CL_FLUSH_SIZE), Ok(8));
    assert_eq!(machine.get(0x1234), Err(HvStatus::UNKNOWN_PROPERTY));
    assert_eq!(
        machine.get_ex(code::PROCESSOR_VENDOR),
        Err(HvStatus::UNKNOWN_PROPERTY)
    );
}

#[test]
fn a_processor_without_xsave() {
    let machine = describe(|_, _| [0; 4], 1);
    assert_eq!(machine.get(code::MAX_XSAVE_DATA_SIZE), Ok(0));
    assert_eq!(machine.get(code::PHYSICAL_ADDRESS_WIDTH), Ok(36));
}

#[test]
fn early_properties() {
    let machine = Machine::default();
    let mut properties = Properties::default();
    assert_eq!(
        properties.set(code::SYNTHETIC_PROC_FEATURES, !0, false),
        Ok(())
    );
    // All were asked for; these can be had.
    assert_eq!(
        properties.get(&machine, code::SYNTHETIC_PROC_FEATURES),
        machine.get_ex(code::ASSIGNABLE_SYNTHETIC_PROC_FEATURES)
    );
    assert_eq!(
        properties.set(code::SYNTHETIC_PROC_FEATURES, 0, true),
        Err(HvStatus::INVALID_PARTITION_STATE)
    );
    assert_eq!(
        properties.set(code::TIME_FREEZE, 2, true),
        Err(HvStatus::PROPERTY_VALUE_OUT_OF_RANGE)
    );
    assert_eq!(
        properties.set(code::GPA_PAGE_ACCESS_TRACKING, 2, true),
        Err(HvStatus::PROPERTY_VALUE_OUT_OF_RANGE)
    );
    assert_eq!(
        properties.set(code::GPA_PAGE_ACCESS_TRACKING, 1, true),
        Ok(())
    );
    assert_eq!(
        properties.get(&machine, code::GPA_PAGE_ACCESS_TRACKING),
        Ok(1)
    );
}

#[test]
fn disabled_features() {
    let machine = describe(cpuid, 1);
    let properties = Properties {
        disabled_features: [1, 0],
        disabled_xsave: 1 << 2,
        ..Properties::default()
    };
    assert_eq!(properties.get(&machine, code::PROCESSOR_FEATURES0), Ok(0));
    assert_eq!(
        properties.get(&machine, code::PROCESSOR_XSAVE_FEATURES),
        Ok(0b1011)
    );
}

proptest! {
    #[test]
    fn a_refused_property_changes_nothing(code in 0u32..0x000a_0000, value: u64, late: bool) {
        let machine = describe(cpuid, 1);
        let mut properties = Properties::default();
        let before = properties.get(&machine, code);
        if properties.set(code, value, late).is_err() {
            prop_assert_eq!(properties.get(&machine, code), before);
        } else {
            prop_assert!(properties.get(&machine, code).is_ok());
        }
    }
}
