// SPDX-License-Identifier: GPL-2.0

//! The policy as a table: processors as Linux knows them, and what it does on each.

use super::*;

const SPEC: u32 = feature::SPEC_CTRL;
const FULL: u32 = SPEC | feature::MD_CLEAR | feature::L1D_FLUSH | feature::ARCH_CAPABILITIES;
const RDCL_NO: u64 = capability::RDCL_NO;
const MDS_NO: u64 = capability::MDS_NO;
const STALE_NO: u64 = capability::NO_STALE_DATA;
const BRANCHES: u64 = IBPB | RSB_FILL;

/// Name, model of family 6, EBX and EDX of leaf 7, capabilities; measures taken and lacking.
type Row = (&'static str, u32, u32, u32, u64, u64, u64);

const TABLE: &[Row] = &[
    (
        "Westmere, no microcode",
        0x2c,
        0,
        0,
        0,
        RSB_FILL,
        IBPB | VERW | L1D_FLUSH,
    ),
    (
        "Haswell",
        0x3c,
        0,
        FULL & !feature::ARCH_CAPABILITIES,
        0,
        ALL,
        0,
    ),
    (
        "Skylake-SP",
        0x55,
        feature::RTM,
        FULL,
        capability::FB_CLEAR,
        ALL,
        0,
    ),
    (
        "Skylake-SP, microcode of 2018",
        0x55,
        feature::RTM,
        SPEC,
        0,
        BRANCHES,
        VERW | L1D_FLUSH,
    ),
    (
        "its hypervisor flushes",
        0x55,
        0,
        FULL,
        capability::SKIP_L1DFL_VMENTRY,
        BRANCHES | VERW,
        0,
    ),
    (
        "Cascade Lake, TSX off",
        0x55,
        0,
        FULL,
        RDCL_NO | MDS_NO | capability::TSX_CTRL | capability::FB_CLEAR,
        BRANCHES | VERW,
        0,
    ),
    (
        "Cascade Lake, TSX",
        0x55,
        feature::RTM,
        FULL,
        RDCL_NO | MDS_NO,
        BRANCHES | VERW,
        0,
    ),
    (
        "the same, TAA only by TSX_CTRL",
        0x55,
        0,
        FULL,
        RDCL_NO | MDS_NO | capability::TSX_CTRL,
        BRANCHES | VERW,
        0,
    ),
    (
        "Ice Lake-SP",
        0x6a,
        feature::RTM,
        FULL,
        RDCL_NO | MDS_NO | capability::TAA_NO | capability::FB_CLEAR,
        BRANCHES | VERW,
        0,
    ),
    (
        "Ice Lake that says one of three",
        0x7e,
        0,
        FULL,
        RDCL_NO | MDS_NO | capability::FB_CLEAR | 1 << 14,
        BRANCHES | VERW,
        0,
    ),
    (
        "Tiger Lake",
        0x8c,
        0,
        FULL,
        RDCL_NO | MDS_NO | capability::TAA_NO,
        BRANCHES,
        0,
    ),
    (
        "Alder Lake",
        0x97,
        0,
        FULL,
        RDCL_NO | MDS_NO | STALE_NO | capability::FB_CLEAR | capability::RFDS_CLEAR,
        BRANCHES | VERW,
        0,
    ),
    (
        "Sapphire Rapids",
        0x8f,
        feature::RTM,
        FULL,
        RDCL_NO | MDS_NO | capability::TAA_NO | STALE_NO | capability::RFDS_NO,
        BRANCHES,
        0,
    ),
    (
        "immune though it could clear",
        0x8f,
        0,
        FULL,
        RDCL_NO
            | MDS_NO
            | STALE_NO
            | capability::FB_CLEAR
            | capability::RFDS_NO
            | capability::RFDS_CLEAR,
        BRANCHES,
        0,
    ),
    (
        "Silvermont",
        0x37,
        0,
        SPEC | feature::MD_CLEAR,
        0,
        BRANCHES | VERW,
        0,
    ),
    (
        "Silvermont, no microcode",
        0x4d,
        0,
        0,
        0,
        RSB_FILL,
        IBPB | VERW,
    ),
    ("Goldmont", 0x5c, 0, SPEC, 0, BRANCHES, 0),
    (
        "Goldmont Plus",
        0x7a,
        0,
        SPEC,
        capability::RFDS_CLEAR,
        BRANCHES | VERW,
        0,
    ),
    (
        "Knights Landing",
        0x57,
        0,
        SPEC | feature::MD_CLEAR,
        0,
        BRANCHES | VERW,
        0,
    ),
    (
        "an unknown one is taken to suffer",
        0xff,
        0,
        FULL,
        0,
        ALL,
        0,
    ),
];

fn cpu(row: &Row) -> Cpu {
    let (_, model, leaf7_ebx, leaf7_edx, capabilities, ..) = *row;
    let signature = 6 << 8 | (model >> 4) << 16 | (model & 0xf) << 4 | 3;
    Cpu {
        signature,
        leaf7_ebx,
        leaf7_edx,
        capabilities,
    }
}

#[test]
fn as_linux_would() {
    for row in TABLE {
        let (name, .., taken, lacking) = *row;
        assert_eq!(cpu(row).choose(), Choice { taken, lacking }, "{name}");
    }
}

#[test]
fn other_families_are_taken_to_suffer() {
    let goldmont = cpu(&("", 0x5c, 0, FULL, 0, 0, 0));
    assert_eq!(goldmont.choose().taken, BRANCHES);
    let other = Cpu {
        signature: goldmont.signature & !0xf00 | 0xf00,
        ..goldmont
    };
    assert_eq!(other.choose().taken, ALL);
}

#[test]
fn never_more_than_it_can_never_less_than_it_says() {
    for row in TABLE {
        let cpu = cpu(row);
        let Choice { taken, lacking } = cpu.choose();
        assert_eq!(taken & !cpu.can(), 0, "{}", row.0);
        assert_eq!(taken | lacking, cpu.needs(), "{}", row.0);
        assert_eq!((taken & lacking, cpu.needs() & !ALL), (0, 0), "{}", row.0);
    }
}

#[test]
fn a_person_may_decide() {
    for row in TABLE {
        let cpu = cpu(row);
        for wanted in 0..=2 * ALL + 1 {
            let choice = cpu.choose_as(wanted);
            let possible = wanted & cpu.can() == wanted;
            let expected = Choice {
                taken: wanted,
                lacking: cpu.needs() & !wanted,
            };
            assert_eq!(
                choice,
                possible.then_some(expected),
                "{}: {wanted:#x}",
                row.0
            );
        }
        assert_eq!(cpu.choose_as(u64::MAX), None);
    }
}
