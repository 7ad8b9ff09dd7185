// SPDX-License-Identifier: GPL-2.0

//! The decoder of stores against a complete one.

use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic, OpKind, Register};
use proptest::prelude::*;
use tlfs::store::{decode, Mode, Store};

const BITS: [(Mode, u32); 3] = [(Mode::Bits16, 16), (Mode::Bits32, 32), (Mode::Bits64, 64)];

fn value_of(register: Register, gpr: &[u64; 16]) -> u64 {
    let full = gpr[register.full_register().number()];
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => full >> 8,
        _ => full,
    }
}

/// What iced-x86 says of the bytes, if they are a MOV to memory.
fn expected(bytes: &[u8], bits: u32, gpr: &[u64; 16]) -> Option<Store> {
    let mut decoder = Decoder::new(bits, bytes, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let general = matches!(
        instruction.code(),
        Code::Mov_rm8_r8
            | Code::Mov_rm16_r16
            | Code::Mov_rm32_r32
            | Code::Mov_rm64_r64
            | Code::Mov_rm8_imm8
            | Code::Mov_rm16_imm16
            | Code::Mov_rm32_imm32
            | Code::Mov_rm64_imm32
            | Code::Mov_moffs8_AL
            | Code::Mov_moffs16_AX
            | Code::Mov_moffs32_EAX
            | Code::Mov_moffs64_RAX
    );
    let plain = instruction.mnemonic() == Mnemonic::Mov
        && general
        && instruction.op0_kind() == OpKind::Memory
        && !instruction.has_lock_prefix()
        && !instruction.has_rep_prefix()
        && !instruction.has_repne_prefix()
        && !instruction.has_xrelease_prefix();
    if !plain {
        return None;
    }
    let size = instruction.memory_size().size();
    let value = match instruction.op1_kind() {
        OpKind::Register => value_of(instruction.op1_register(), gpr),
        _ => instruction.immediate(1),
    };
    Some(Store {
        length: instruction.len() as u8,
        size: size as u8,
        value: value & u64::MAX >> (64 - 8 * size),
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop::sample::select(vec![
        0x66u8, 0x67, 0x2e, 0x3e, 0x26, 0x64, 0x65, 0x36, 0x40, 0x48, 0x44, 0x4f, 0x41,
    ]);
    let opcode = prop::sample::select(vec![0x88u8, 0x89, 0xc6, 0xc7, 0xa2, 0xa3, 0x8b, 0x0f]);
    (
        prop::collection::vec(prefix, 0..4),
        opcode,
        prop::collection::vec(any::<u8>(), 0..14),
    )
        .prop_map(|(mut bytes, opcode, rest)| {
            bytes.push(opcode);
            bytes.extend(rest);
            bytes.truncate(15);
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn same_as_iced(bytes in bytes(), gpr: [u64; 16]) {
        for (mode, bits) in BITS {
            prop_assert_eq!(
                decode(&bytes, mode, &gpr),
                expected(&bytes, bits, &gpr),
                "{} bits: {:02x?}", bits, bytes
            );
        }
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>, gpr: [u64; 16]) {
        for (mode, bits) in BITS {
            let bytes = &bytes[..bytes.len().min(15)];
            if let Some(store) = decode(bytes, mode, &gpr) {
                prop_assert_eq!(Some(store), expected(bytes, bits, &gpr));
            }
        }
    }
}
