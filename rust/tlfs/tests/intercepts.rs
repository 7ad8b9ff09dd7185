// SPDX-License-Identifier: GPL-2.0

//! What a VMM has CPUID say, what it wants to be asked about, and the XSAVE area it sees.

use hvabi::vp::{gpr, orders, ExitKind, RunPage};
use mshv_bindings::*;
use proptest::prelude::*;
use tlfs::cpuid::{find, CpuidResult};
use tlfs::hvcall::{intercept_type as kind, InputInstallIntercept, InputInterceptResult};
use tlfs::intercept::{Intercepts, MAX_NUMBERS};
use tlfs::message::{cpuid, translate, Instruction, Message};
use tlfs::pod;
use tlfs::processor::Cpuid;
use tlfs::status::HvStatus;
use tlfs::xsave::Layout;

fn result(leaf: u32, subleaf: Option<u32>, value: Cpuid, mask: Cpuid) -> CpuidResult {
    CpuidResult {
        leaf,
        subleaf,
        value,
        mask,
    }
}

#[test]
fn input_of_the_hypercall() {
    let mut input: InputInterceptResult = pod::zeroed();
    input.eax = 7;
    input.ecx = 1;
    input.result = [1, 2, 3, 4, 5, 6, 7, 8];
    let all = CpuidResult::from_input(&input).unwrap();
    assert_eq!(all, result(7, None, [1, 3, 5, 7], [2, 4, 6, 8]));
    input.subleaf_specific = 1;
    assert_eq!(
        CpuidResult::from_input(&input).unwrap().subleaf,
        Some(1),
        "of one subleaf"
    );
    input.padding = 1;
    assert_eq!(
        CpuidResult::from_input(&input),
        Err(HvStatus::INVALID_PARAMETER)
    );
    (input.padding, input.always_override) = (0, 2);
    assert!(CpuidResult::from_input(&input).is_err());
    // The numbers are those of the crate that VMMs use, which has a union around them.
    assert_eq!(
        size_of::<InputInterceptResult>(),
        size_of::<hv_input_register_intercept_result>()
    );
}

#[test]
fn a_subleaf_of_its_own_comes_first() {
    let any = result(4, None, [1; 4], [!0; 4]);
    let one = result(4, Some(2), [2; 4], [!0; 4]);
    for list in [[any, one], [one, any]] {
        assert_eq!(find(&list, 4, 2), Some(&one));
        assert_eq!(find(&list, 4, 3), Some(&any));
        assert_eq!(find(&list, 5, 2), None);
    }
    assert_eq!(find(&[one], 4, 3), None);
    assert!(one.replaces(&one) && !one.replaces(&any));
}

#[test]
fn a_vmm_can_hide_features_but_not_add_any() {
    let offered = [0x10, 0x20, 0x40, 0x80];
    let mut one = result(1, None, [!0; 4], [!0; 4]);
    one.limit(&offered);
    // The family and the APIC ID are the VMM's; so are "hypervisor" and HTT.
    assert_eq!(one.value, [!0, !0, 0x40 | 1 << 31, 0x80 | 1 << 28]);
    let mut seven = result(7, Some(0), [!0; 4], [!0; 4]);
    seven.limit(&offered);
    assert_eq!(seven.value, [!0, 0x20, 0x40, 0x80]);
    let mut hidden = result(7, Some(0), [0; 4], [!0; 4]);
    hidden.limit(&offered);
    assert_eq!(hidden.value, [0; 4]);
    let mut part = result(0xd, Some(9), [8, 2688, 0, 0], [!0; 4]);
    part.limit(&[0; 4]);
    assert_eq!(part.value, [0; 4]);
}

#[test]
fn what_follows_the_state_of_the_vp_stays_so() {
    let dynamic = |leaf, subleaf| {
        let mut result = result(leaf, subleaf, [0; 4], [!0; 4]);
        result.yield_dynamic();
        result
    };
    assert_eq!(dynamic(1, None).mask, [!0, !0, !(1 << 27), !0]);
    assert_eq!(dynamic(7, Some(0)).mask, [!0, !0, !(1 << 4), !0]);
    assert_eq!(dynamic(0xd, Some(1)).mask, [!0, 0, !0, !0]);
    assert!(dynamic(0xd, Some(2)).is_whole());
    assert_eq!(
        dynamic(1, None).apply(&[!0; 4]),
        [0, 0, 1 << 27, 0],
        "OSXSAVE is the hypervisor's"
    );
}

proptest! {
    #[test]
    fn masked_bits_are_the_vmms(value: Cpuid, mask: Cpuid, default: Cpuid) {
        let answer = result(2, None, value, mask).apply(&default);
        for register in 0..4 {
            prop_assert_eq!((answer[register] ^ value[register]) & mask[register], 0);
            prop_assert_eq!((answer[register] ^ default[register]) & !mask[register], 0);
        }
    }

    /// An area survives the way to a VMM and back, with any set of parts in use.
    #[test]
    fn compacted_and_back(
        states in (0u64..0x400).prop_map(|set| set | 3),
        present: u64,
        bytes in prop::collection::vec(any::<u8>(), 4096),
        misaligned: u32,
    ) {
        // As on a processor with AVX-512 and PKRU.
        let places = |subleaf: u32| -> Cpuid {
            let [size, offset] = match subleaf {
                2 => [256, 576], 5 => [64, 1088], 6 => [512, 1152], 7 => [1024, 1664],
                9 => [8, 2688], _ => [0, 0],
            };
            [size, offset, misaligned >> subleaf << 1 & 2, 0]
        };
        let layout = Layout::new(states, places);
        let states = states & 0x2e7;
        let mut standard: [u8; 4096] = bytes.try_into().unwrap();
        standard[512..520].copy_from_slice(&(present & states).to_le_bytes());
        standard[520..576].fill(0);
        let (mut there, mut scratch) = ([0xaa; 4096], [0xbb; 4096]);
        layout.compact(&standard, &mut there);
        prop_assert_eq!(u64::from_le_bytes(there[520..528].try_into().unwrap()), 1 << 63 | states);
        layout.expand(&mut there, &mut scratch).unwrap();
        prop_assert_eq!(&there[..520], &standard[..520]);
        for part in (2..10).filter(|part| present & states & 1 << part != 0) {
            let [size, offset, ..] = places(part);
            let range = offset as usize..(offset + size) as usize;
            prop_assert_eq!(&there[range.clone()], &standard[range]);
        }
        // One in standard format is left alone.
        let mut plain = standard;
        layout.expand(&mut plain, &mut scratch).unwrap();
        prop_assert_eq!(plain, standard);
        // A part that the VP cannot have.
        let mut bad = standard;
        bad[520..528].copy_from_slice(&(1u64 << 63 | states | 1 << 8).to_le_bytes());
        prop_assert_eq!(layout.expand(&mut bad, &mut scratch), Err(HvStatus::INVALID_PARAMETER));
    }
}

#[test]
fn compacted_parts_follow_each_other() {
    let layout = Layout::new(0x207, |n| match n {
        2 => [256, 576, 0, 0],
        9 => [8, 2688, 0, 0],
        _ => [0; 4],
    });
    let mut standard = [0; 4096];
    standard[512..520].copy_from_slice(&0x200u64.to_le_bytes());
    standard[2688] = 0x5a;
    let mut compact = [0; 4096];
    layout.compact(&standard, &mut compact);
    // Behind the AVX part, which has its place although it is not in use.
    assert_eq!(compact[576 + 256], 0x5a);
}

fn install(intercept_type: u32, access_type: u32, parameter: u64) -> InputInstallIntercept {
    InputInstallIntercept {
        partition_id: 0,
        access_type,
        intercept_type,
        parameter,
    }
}

#[test]
fn intercepts_come_and_go() {
    let mut intercepts = Intercepts::NONE;
    assert_eq!(intercepts.orders(), 0);
    intercepts
        .install(&install(kind::EXCEPTION, 4, 14))
        .unwrap();
    assert_eq!(intercepts.orders(), 1 << 14);
    intercepts
        .install(&install(kind::X64_CPUID, 4, 0x4000_0000))
        .unwrap();
    assert_eq!(intercepts.orders(), 1 << 14 | orders::CPUID);
    assert!(intercepts.cpuid(0x4000_0000) && !intercepts.cpuid(1));
    intercepts
        .install(&install(kind::X64_GLOBAL_CPUID, 4, 0))
        .unwrap();
    assert!(intercepts.cpuid(1));
    intercepts
        .install(&install(kind::X64_MSR_INDEX, 2, 0x123))
        .unwrap();
    assert!(intercepts.msr(0x123, true) && !intercepts.msr(0x123, false));
    intercepts.install(&install(kind::X64_MSR, 1, 0)).unwrap();
    assert!(intercepts.msr(7, false) && !intercepts.msr(7, true));
    for (kind, parameter) in [
        (kind::EXCEPTION, 14),
        (kind::X64_CPUID, 0x4000_0000),
        (kind::X64_GLOBAL_CPUID, 0),
        (kind::X64_MSR_INDEX, 0x123),
        (kind::X64_MSR, 0),
    ] {
        intercepts.install(&install(kind, 0, parameter)).unwrap();
    }
    assert_eq!(intercepts.orders(), 0);
    assert!(!intercepts.cpuid(1) && !intercepts.msr(7, false) && !intercepts.msr(0x123, true));
}

#[test]
fn intercepts_that_are_refused_change_nothing() {
    let mut intercepts = Intercepts::NONE;
    for (kind, access, parameter) in [
        (kind::EXCEPTION, 4, 2),
        (kind::EXCEPTION, 4, 18),
        (kind::EXCEPTION, 4, 32),
        (kind::EXCEPTION, 1, 14),
        (kind::X64_IO_PORT, 4, 0),
        (kind::X64_CPUID, 8, 0),
        (kind::HYPERCALL, 4, 0),
        (99, 1, 0),
    ] {
        assert_eq!(
            intercepts.install(&install(kind, access, parameter)),
            Err(HvStatus::INVALID_PARAMETER),
            "{kind} {access} {parameter}"
        );
    }
    assert_eq!(intercepts.orders(), 0);
    for leaf in 0..MAX_NUMBERS as u64 {
        intercepts
            .install(&install(kind::X64_CPUID, 4, leaf))
            .unwrap();
    }
    let more = install(kind::X64_CPUID, 4, 1000);
    assert_eq!(intercepts.install(&more), Err(HvStatus::NO_RESOURCES));
    intercepts.install(&install(kind::X64_CPUID, 0, 0)).unwrap();
    intercepts.install(&more).unwrap();
    assert!(!intercepts.cpuid(0) && intercepts.cpuid(1) && intercepts.cpuid(1000));
}

/// The payload of a message as the crate that VMMs use sees it.
fn theirs<T: Copy>(message: &Message) -> T {
    assert!(usize::from(message.payload_size) == size_of::<T>());
    // SAFETY: Integers, all bytes of which are there.
    unsafe { message.payload.as_ptr().cast::<T>().read_unaligned() }
}

fn run_page() -> RunPage {
    RunPage {
        gpr: std::array::from_fn(|register| 0x100 + register as u64),
        rip: 0x1000,
        instruction_len: 2,
        ..RunPage::default()
    }
}

#[test]
fn messages() {
    let mut message = Message::none();
    let mut run = run_page();
    let none = Instruction::default();
    run.access = 2;
    translate(&mut message, 3, &run, ExitKind::Msr, &none, false);
    assert_eq!(
        message.message_type,
        hv_message_type_HVMSG_X64_MSR_INTERCEPT
    );
    let msr: hv_x64_msr_intercept_message = theirs(&message);
    assert_eq!(
        ({ msr.msr_number }, { msr.rax }, { msr.rdx }),
        (0x101, 0x100, 0x102)
    );
    assert_eq!(
        u32::from(msr.header.intercept_access_type),
        HV_INTERCEPT_ACCESS_WRITE
    );

    cpuid(&mut message, 3, &run, &[1, 2, 3, 4]);
    assert_eq!(
        message.message_type,
        hv_message_type_HVMSG_X64_CPUID_INTERCEPT
    );
    let cpuid: hv_x64_cpuid_intercept_message = theirs(&message);
    assert_eq!(
        ({ cpuid.rax }, { cpuid.rcx }, { cpuid.rdx }, { cpuid.rbx }),
        (0x100, 0x101, 0x102, 0x103)
    );
    assert_eq!(
        (
            { cpuid.default_result_rax },
            { cpuid.default_result_rcx },
            { cpuid.default_result_rdx },
            { cpuid.default_result_rbx }
        ),
        (1, 3, 4, 2)
    );

    run.fault = 1 << 31 | 1 << 11 | 3 << 8 | 14;
    run.fault_error = 6;
    run.qualification = 0xdead_b000;
    let mut bytes = none;
    (bytes.count, bytes.bytes[0]) = (1, 0x90);
    translate(&mut message, 3, &run, ExitKind::Exception, &bytes, false);
    assert_eq!(
        message.message_type,
        hv_message_type_HVMSG_X64_EXCEPTION_INTERCEPT
    );
    let fault: hv_x64_exception_intercept_message = theirs(&message);
    assert_eq!(({ fault.exception_vector }, { fault.error_code }), (14, 6));
    assert_eq!({ fault.exception_parameter }, 0xdead_b000);
    assert_eq!(
        ({ fault.rax }, { fault.rdi }, { fault.r15 }),
        (run.gpr[gpr::RAX], run.gpr[gpr::RDI], run.gpr[15])
    );
    assert_eq!(
        (fault.instruction_byte_count, fault.instruction_bytes[0]),
        (1, 0x90)
    );
    // SAFETY: A union of a byte and its bits.
    assert_eq!(unsafe { fault.exception_info.as_uint8 }, 1);
}
