// SPDX-License-Identifier: GPL-2.0
//! All the firmware that there is: what a program finds that jumps to where a PC's begins.
//!
//! Linux resets a machine so whose ACPI says "hardware-reduced": it expects EFI there, finds
//! none, and goes to real mode and to f000:fff0 without a look at the reset register.

use super::Error;
use super::entry::place_bytes;
use crate::layout;
use crate::memory::GuestMemory;

/// Real-mode code that asks the keyboard controller for a reset, and waits for it.
const RESET: [u8; 7] = [
    0xb0, 0xfe, // mov $0xfe, %al
    0xe6, 0x64, // out %al, $0x64
    0xf4, // 1: hlt
    0xeb, 0xfd, // jmp 1b
];

/// Puts it into memory.
pub fn install(memory: &GuestMemory) -> Result<(), Error> {
    place_bytes(memory, layout::RESET_VECTOR, &RESET)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::power::KeyboardReset;
    use crate::layout::port;
    use crate::memory;
    use iced_x86::{Code, Decoder, DecoderOptions, Register};
    use vm_memory::{Bytes, GuestAddress};

    #[test]
    fn the_reset_vector_pulses_the_reset_line() {
        let memory = memory::allocate(&[(0, 1 << 20)]).unwrap();
        install(&memory).unwrap();
        let mut bytes = [0; RESET.len()];
        memory
            .read_slice(&mut bytes, GuestAddress(layout::RESET_VECTOR))
            .unwrap();
        let code: Vec<_> = Decoder::with_ip(16, &bytes, 0xfff0, DecoderOptions::NONE)
            .into_iter()
            .collect();
        assert_eq!(code[0].op0_register(), Register::AL);
        assert_eq!(code[0].immediate8(), KeyboardReset::PULSE_RESET);
        assert_eq!(code[1].code(), Code::Out_imm8_AL);
        assert_eq!(u16::from(code[1].immediate8()), port::KEYBOARD_COMMAND);
        assert_eq!(code[2].code(), Code::Hlt);
        assert_eq!(code[3].near_branch_target(), code[2].ip());
    }
}
