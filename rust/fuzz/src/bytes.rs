// SPDX-License-Identifier: GPL-2.0

//! An input, as numbers.

/// The bytes of an input that are left. Behind its end there are zeros.
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn new(data: &'a [u8]) -> Bytes<'a> {
        Bytes(data)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let count = N.min(self.0.len());
        let (head, rest) = self.0.split_at(count);
        taken[..count].copy_from_slice(head);
        self.0 = rest;
        taken
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// A number below `n`, of as few bytes as that takes.
    pub fn below(&mut self, n: u64) -> u64 {
        match n {
            0..=1 => 0,
            2..=0x100 => u64::from(self.u8()) % n,
            0x101..=0x1_0000 => u64::from(self.u16()) % n,
            _ => self.u64() % n,
        }
    }

    /// A register's value: any, or one with few bits set or clear.
    pub fn value(&mut self) -> u64 {
        let kind = self.u8();
        match kind >> 6 {
            0 => u64::from(kind),
            1 => 1 << (kind & 63),
            2 => u64::MAX << (kind & 63),
            _ => self.u64(),
        }
    }
}
