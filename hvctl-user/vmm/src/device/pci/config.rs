// SPDX-License-Identifier: GPL-2.0
//! The configuration space of a function with one memory BAR.

use std::ops::Range;

use crate::device::bytes;

/// What a function says it is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    pub vendor: u16,
    pub device: u16,
    /// Base class, subclass, programming interface.
    pub class: u32,
    pub revision: u8,
    /// Subsystem ID (high) and subsystem vendor ID.
    pub subsystem: u32,
}

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR0: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const FIRST_CAPABILITY: usize = 0x40;

const COMMAND_MEMORY: u8 = 1 << 1;
const COMMAND_BUS_MASTER: u8 = 1 << 2;
const STATUS_CAPABILITIES: u8 = 1 << 4;

/// 256 bytes, of which the guest can write some bits.
pub struct ConfigSpace {
    bytes: [u8; 256],
    writable: [u8; 256],
    memory_size: u64,
    /// Where the next capability goes, and where its address is to be noted.
    next: (usize, usize),
}

impl ConfigSpace {
    pub fn new(identity: Identity) -> Self {
        let mut space = Self {
            bytes: [0; 256],
            writable: [0; 256],
            memory_size: 0,
            next: (FIRST_CAPABILITY, CAPABILITIES),
        };
        space.put(0, &identity.vendor.to_le_bytes());
        space.put(2, &identity.device.to_le_bytes());
        let class = identity.class << 8 | u32::from(identity.revision);
        space.put(8, &class.to_le_bytes());
        space.put(0x2c, &identity.subsystem.to_le_bytes());
        space.writable[COMMAND] = COMMAND_MEMORY | COMMAND_BUS_MASTER;
        space
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Gives it `size` bytes (a power of two) of memory behind BAR 0, at first at `address`.
    pub fn set_memory(&mut self, address: u64, size: u64) {
        assert!(size.is_power_of_two() && size >= 16 && address % size == 0);
        self.memory_size = size;
        self.put(BAR0, &(address as u32).to_le_bytes());
        // The bits that do not change are how the guest finds out the size.
        let mask = !(size as u32 - 1);
        self.writable[BAR0..BAR0 + 4].copy_from_slice(&mask.to_le_bytes());
    }

    /// Adds a capability of this ID; `body` follows the pointer to the next, and `writable`
    /// are bits of it. Returns where it is.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u8 {
        let (at, link) = self.next;
        let end = at + 2 + body.len();
        assert!(end <= 256 && writable.len() <= body.len());
        self.bytes[link] = at as u8;
        self.bytes[STATUS] |= STATUS_CAPABILITIES;
        self.bytes[at] = id;
        self.put(at + 2, body);
        self.writable[at + 2..at + 2 + writable.len()].copy_from_slice(writable);
        self.next = (end.next_multiple_of(4), at + 1);
        at as u8
    }

    pub fn read(&self, offset: u8, data: &mut [u8]) {
        for (byte, from) in data.iter_mut().zip(&self.bytes[usize::from(offset)..]) {
            *byte = *from;
        }
    }

    pub fn write(&mut self, offset: u8, data: &[u8]) {
        for (index, byte) in (usize::from(offset)..256).zip(data) {
            let writable = self.writable[index];
            self.bytes[index] = self.bytes[index] & !writable | byte & writable;
        }
    }

    /// What the device itself writes.
    pub fn set(&mut self, offset: u8, data: &[u8]) {
        bytes::write(&mut self.bytes, offset.into(), data);
    }

    pub fn u16(&self, offset: u8) -> u16 {
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    pub fn u32(&self, offset: u8) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Where its memory is, if the guest has it switched on.
    pub fn memory(&self) -> Option<Range<u64>> {
        if self.memory_size == 0 || self.bytes[COMMAND] & COMMAND_MEMORY == 0 {
            return None;
        }
        let start = u64::from(self.u32(BAR0 as u8));
        Some(start..start + self.memory_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> ConfigSpace {
        ConfigSpace::new(Identity {
            vendor: 0x1af4,
            device: 0x1041,
            class: 0x02_00_00,
            revision: 1,
            subsystem: 0x1234_1af4,
        })
    }

    #[test]
    fn capabilities_are_a_list() {
        let mut space = space();
        let first = space.add_capability(0x11, &[1; 10], &[0, 0xff]);
        let second = space.add_capability(0x09, &[2; 3], &[]);
        assert_eq!((first, second), (0x40, 0x4c));
        assert_eq!(space.bytes[0x34], 0x40);
        assert_eq!(space.bytes[0x40..0x44], [0x11, 0x4c, 1, 1]);
        assert_eq!(space.bytes[0x4c..0x51], [0x09, 0, 2, 2, 2]);
        assert_ne!(
            space.bytes[6] & 0x10,
            0,
            "the status says that there are some"
        );
        space.write(0x42, &[0; 4]);
        assert_eq!(
            space.bytes[0x42..0x46],
            [1, 0, 1, 1],
            "only what is writable is written"
        );
    }

    #[test]
    fn the_identity_cannot_be_written() {
        let mut space = space();
        for offset in 0..64 {
            space.write(offset * 4, &[0xff; 4]);
        }
        assert_eq!(space.u32(0), 0x1041_1af4);
        assert_eq!(space.u32(0x2c), 0x1234_1af4);
        assert_eq!(space.u16(4), 6);
        assert_eq!(space.memory(), None, "it has none");
    }
}
