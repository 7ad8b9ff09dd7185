// SPDX-License-Identifier: GPL-2.0
//! QEMU's configuration device (docs/specs/fw_cfg.rst there), as far as test kernels ask
//! it: how many processors and how much memory there are.

use std::sync::{Mutex, PoisonError};

use super::Device;

const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const RAM_SIZE: u16 = 0x03;
const PROCESSORS: u16 = 0x05;
const MAX_PROCESSORS: u16 = 0x0f;

/// Selected by a word, read byte by byte.
const TRADITIONAL: u32 = 1;

/// Offset of the data register from the selector.
const DATA: u64 = 1;
pub const SIZE: u64 = 2;

/// The item that is read, and how much of it has been.
#[derive(Default)]
struct Position {
    item: u16,
    next: usize,
}

pub struct FwCfg {
    memory: u64,
    processors: u16,
    position: Mutex<Position>,
}

impl FwCfg {
    pub fn new(memory: u64, processors: u8) -> Self {
        Self {
            memory,
            processors: processors.into(),
            position: Mutex::default(),
        }
    }

    fn byte(&self, item: u16, at: usize) -> u8 {
        let value = match item {
            SIGNATURE => u64::from(u32::from_le_bytes(*b"QEMU")),
            ID => TRADITIONAL.into(),
            RAM_SIZE => self.memory,
            PROCESSORS | MAX_PROCESSORS => self.processors.into(),
            _ => 0,
        };
        value.to_le_bytes().get(at).copied().unwrap_or(0)
    }
}

impl Device for FwCfg {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        for (register, byte) in (offset..).zip(data) {
            if register == DATA {
                *byte = self.byte(position.item, position.next);
                position.next += 1;
            } else {
                *byte = 0;
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (0, Some(&[low, high])) = (offset, data.first_chunk()) {
            let item = u16::from_le_bytes([low, high]);
            *self.position.lock().unwrap_or_else(PoisonError::into_inner) =
                Position { item, next: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<const N: usize>(device: &FwCfg, item: u16) -> [u8; N] {
        device.write(0, &item.to_le_bytes());
        let mut bytes = [0x55; N];
        for byte in &mut bytes {
            device.read(DATA, std::slice::from_mut(byte));
        }
        bytes
    }

    #[test]
    fn it_says_what_the_machine_has() {
        let device = FwCfg::new(384 << 20, 2);
        assert_eq!(&get::<4>(&device, SIGNATURE), b"QEMU");
        assert_eq!(get(&device, ID), [1, 0, 0, 0]);
        assert_eq!(u64::from_le_bytes(get(&device, RAM_SIZE)), 384 << 20);
        assert_eq!(get(&device, PROCESSORS), [2, 0]);
        assert_eq!(get(&device, MAX_PROCESSORS), [2, 0]);
    }

    #[test]
    fn the_rest_is_zero() {
        let device = FwCfg::new(1, 1);
        assert_eq!(get(&device, 0x19), [0; 20]);
        assert_eq!(get(&device, PROCESSORS), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // A selector of one byte selects nothing.
        device.write(0, &[0]);
        let mut word = [0x55; 2];
        device.read(0, &mut word);
        assert_eq!(word, [0, 0]);
    }
}
