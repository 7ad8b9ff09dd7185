// SPDX-License-Identifier: GPL-2.0

//! What a VMM reads of an exit.

use hvabi::vp::{ExitKind, RunPage, Segment};
use mshv_bindings::*;
use proptest::prelude::*;
use tlfs::message::{header, translate, wants_instruction, Instruction, Message};
use tlfs::pod;

/// A VP in 64-bit mode at CPL 3.
fn run_page() -> RunPage {
    // SAFETY: Integers only.
    let mut run: RunPage = unsafe { std::mem::zeroed() };
    run.gpr = std::array::from_fn(|n| 0x1111_1111_1111_1111 * n as u64);
    run.rip = 0x1000;
    run.rflags = 0x246;
    run.cr0 = 0x8005_0033;
    run.cr4 = 0x20;
    run.cr8 = 5;
    run.efer = 0xd01;
    run.cpl = 3;
    run.instruction_len = 2;
    run.cs = Segment {
        base: 0,
        limit: 0xffff_ffff,
        access: 0xa0fb,
        selector: 0x33,
        reserved: [0; 3],
    };
    run
}

/// The message as the crate that VMMs use sees it.
fn theirs(message: &Message) -> hv_message {
    assert_eq!(size_of::<hv_message>(), size_of::<Message>());
    let mut theirs = hv_message::default();
    // SAFETY: Same size, integers on both sides.
    unsafe {
        std::ptr::copy_nonoverlapping(
            pod::bytes_of(message).as_ptr(),
            (&raw mut theirs).cast(),
            size_of::<Message>(),
        )
    };
    theirs
}

fn message(run: &RunPage, kind: ExitKind, instruction: &[u8], mapped: bool) -> hv_message {
    let mut bytes = Instruction::default();
    bytes.bytes[..instruction.len()].copy_from_slice(instruction);
    bytes.count = instruction.len() as u8;
    let mut message = Message::none();
    translate(&mut message, 7, run, kind, &bytes, mapped);
    theirs(&message)
}

#[test]
fn port() {
    let mut run = run_page();
    (run.port, run.port_size, run.port_in) = (0x3f8, 4, 0);
    let message = message(&run, ExitKind::Port, &[], false);
    assert_eq!(
        { message.header.message_type },
        hv_message_type_HVMSG_X64_IO_PORT_INTERCEPT
    );
    let info = message.to_ioport_info().unwrap();
    assert_eq!({ info.port_number }, 0x3f8);
    assert_eq!({ info.header.vp_index }, 7);
    assert_eq!(
        info.header.intercept_access_type,
        HV_INTERCEPT_ACCESS_WRITE as u8
    );
    // SAFETY: All members of the union are integers.
    let access = unsafe { info.access_info.__bindgen_anon_1 };
    assert_eq!(
        (
            access.access_size(),
            access.string_op(),
            access.rep_prefix()
        ),
        (4, 0, 0)
    );
    assert_eq!(info.header.instruction_length(), 2);
    assert_eq!(info.header.cr8(), 5);
    assert_eq!(
        ({ info.header.rip }, { info.header.rflags }, { info.rax }),
        (0x1000, 0x246, 0)
    );
    // SAFETY: As above.
    let state = unsafe { info.header.execution_state.__bindgen_anon_1 };
    assert_eq!(
        (
            state.cpl(),
            state.cr0_pe(),
            state.cr0_am(),
            state.efer_lma(),
            state.interrupt_shadow()
        ),
        (3, 1, 1, 1, 0)
    );
    // SAFETY: As above.
    assert_eq!(
        unsafe { info.header.cs_segment.__bindgen_anon_1.attributes },
        0xa0fb
    );
}

#[test]
fn string_port() {
    let mut run = run_page();
    (run.port, run.port_size, run.port_in) = (0x1f0, 2, 1);
    (run.port_string, run.port_rep) = (1, 1);
    assert!(wants_instruction(&run, ExitKind::Port));
    let info = message(&run, ExitKind::Port, &[0xf3, 0x66, 0x6d], false)
        .to_ioport_info()
        .unwrap();
    assert_eq!(
        info.header.intercept_access_type,
        HV_INTERCEPT_ACCESS_READ as u8
    );
    // SAFETY: All members of the union are integers.
    let access = unsafe { info.access_info.__bindgen_anon_1 };
    assert_eq!(
        (
            access.access_size(),
            access.string_op(),
            access.rep_prefix()
        ),
        (2, 1, 1)
    );
    assert_eq!(info.instruction_byte_count, 3);
    assert_eq!(info.instruction_bytes[..3], [0xf3, 0x66, 0x6d]);
    assert_eq!(
        ({ info.rcx }, { info.rsi }, { info.rdi }),
        (run.gpr[1], run.gpr[6], run.gpr[7])
    );
}

#[test]
fn memory() {
    let mut run = run_page();
    (run.gpa, run.gla, run.gla_valid, run.access) = (0xfee0_0020, 0x7000_0020, 3, 1);
    for (access, bits, type_) in [
        (
            HV_INTERCEPT_ACCESS_READ,
            1,
            hv_message_type_HVMSG_UNMAPPED_GPA,
        ),
        (
            HV_INTERCEPT_ACCESS_WRITE,
            2,
            hv_message_type_HVMSG_UNMAPPED_GPA,
        ),
        (
            HV_INTERCEPT_ACCESS_WRITE,
            3,
            hv_message_type_HVMSG_GPA_INTERCEPT,
        ),
        (
            HV_INTERCEPT_ACCESS_EXECUTE,
            4,
            hv_message_type_HVMSG_UNMAPPED_GPA,
        ),
    ] {
        run.access = bits;
        let mapped = type_ == hv_message_type_HVMSG_GPA_INTERCEPT;
        let message = message(&run, ExitKind::Memory, &[0x8b, 0x07], mapped);
        assert_eq!({ message.header.message_type }, type_);
        let info = message.to_memory_info().unwrap();
        assert_eq!(info.header.intercept_access_type, access as u8);
        assert_eq!({ info.guest_physical_address }, 0xfee0_0020);
        assert_eq!({ info.guest_virtual_address }, 0x7000_0020);
        // SAFETY: All members of the union are integers.
        let access = unsafe { info.memory_access_info.__bindgen_anon_1 };
        assert_eq!((access.gva_valid(), access.gva_gpa_valid()), (1, 1));
        assert_eq!(info.instruction_byte_count, 2);
    }
    // A table of the guest's lies there.
    run.gla_valid = 1;
    let info = message(&run, ExitKind::Memory, &[], false)
        .to_memory_info()
        .unwrap();
    // SAFETY: All members of the union are integers.
    let access = unsafe { info.memory_access_info.__bindgen_anon_1 };
    assert_eq!((access.gva_valid(), access.gva_gpa_valid()), (1, 0));
    run.gla_valid = 0;
    let info = message(&run, ExitKind::Memory, &[], false)
        .to_memory_info()
        .unwrap();
    // SAFETY: All members of the union are integers.
    assert_eq!(
        unsafe { info.memory_access_info.__bindgen_anon_1 }.gva_valid(),
        0
    );
    assert_eq!({ info.guest_virtual_address }, 0);
    // A fetch has no instruction to show.
    run.access = 4;
    assert!(!wants_instruction(&run, ExitKind::Memory));
}

#[test]
fn the_others() {
    let mut run = run_page();
    run.vector = 0x41;
    let eoi = message(&run, ExitKind::Eoi, &[], false);
    assert_eq!(
        { eoi.header.message_type },
        hv_message_type_HVMSG_X64_APIC_EOI
    );
    let eoi = eoi.to_apic_eoi_info().unwrap();
    assert_eq!(({ eoi.vp_index }, { eoi.interrupt_vector }), (7, 0x41));
    for (kind, type_) in [
        (
            ExitKind::TripleFault,
            hv_message_type_HVMSG_UNRECOVERABLE_EXCEPTION,
        ),
        (ExitKind::Halted, hv_message_type_HVMSG_X64_HALT),
        (
            ExitKind::BadState,
            hv_message_type_HVMSG_INVALID_VP_REGISTER_VALUE,
        ),
        (
            ExitKind::Unexpected,
            hv_message_type_HVMSG_UNSUPPORTED_FEATURE,
        ),
    ] {
        assert_eq!(
            { message(&run, kind, &[], false).header.message_type },
            type_
        );
    }
}

proptest! {
    /// Bits of one field never reach into another, whatever hvcore writes.
    #[test]
    fn fields_keep_to_themselves(
        cpl: u32, cr0: u64, efer: u64, cr8: u64, len: u32, interruptibility: u64, port: [u8; 5],
    ) {
        let mut run = run_page();
        (run.cpl, run.cr0, run.efer, run.cr8) = (cpl, cr0, efer, cr8);
        (run.instruction_len, run.interruptibility) = (len, interruptibility);
        [run.port_size, run.port_in, run.port_string, run.port_rep, run.access] = port;
        let header = header(0, &run, 0);
        prop_assert_eq!(u32::from(header.execution_state & 3), cpl & 3);
        // Nothing of debugging, VTLs, enclaves and reserved bits.
        prop_assert_eq!(header.execution_state & !(0x1f | 1 << 12), 0);
        prop_assert_eq!(u32::from(header.length_cr8 & 0xf), len & 0xf);
        prop_assert_eq!(u64::from(header.length_cr8 >> 4), cr8 & 0xf);
        let message = message(&run, ExitKind::Port, &[], false).to_ioport_info().unwrap();
        // SAFETY: All members of the union are integers.
        let access = unsafe { message.access_info.as_uint8 };
        prop_assert_eq!(access & !0x1f, 0);
    }

    /// The bytes that are told are the head and the payload.
    #[test]
    fn bytes(kind in prop::sample::select(vec![
        ExitKind::Port, ExitKind::Memory, ExitKind::Eoi, ExitKind::TripleFault, ExitKind::BadState,
    ])) {
        let mut message = Message::none();
        prop_assert_eq!(message.bytes().len(), 16);
        translate(&mut message, 0, &run_page(), kind, &Instruction::default(), false);
        prop_assert_eq!(message.bytes().len(), 16 + usize::from(message.payload_size));
        prop_assert!(message.payload_size > 0);
        message.payload_size = 255;
        prop_assert_eq!(message.bytes().len(), 256);
    }
}
