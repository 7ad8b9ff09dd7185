// SPDX-License-Identifier: GPL-2.0
//! What test kernels find in QEMU's test device: registers that keep what is written, and
//! interrupt lines to pull.

use std::sync::{Arc, Mutex, PoisonError};

use super::ioapic::{Ioapic, PINS, Pin};
use super::{Device, bytes};

/// Bytes of [`Latch`].
pub const LATCH_SIZE: u64 = 4;

/// Four bytes that keep what is written.
#[derive(Default)]
pub struct Latch(Mutex<[u8; LATCH_SIZE as usize]>);

impl Device for Latch {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes::read(&*kept, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes::write(&mut *kept, offset, data);
    }
}

/// A port for each pin of the I/O APIC; a value that is not 0 raises it.
pub struct Lines(Vec<Pin>);

impl Lines {
    pub const COUNT: u64 = PINS as u64;

    pub fn new(ioapic: &Arc<Ioapic>) -> Self {
        Self(
            (0..PINS as u8)
                .map(|number| Pin::new(ioapic.clone(), number))
                .collect(),
        )
    }
}

impl Device for Lines {
    fn read(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let raised = data.iter().any(|&byte| byte != 0);
        if let Some(Err(cause)) = self.0.get(offset as usize).map(|pin| pin.set(raised)) {
            tracing::warn!("interrupt line {offset}: {cause}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{Failure, Interrupt, Interrupts};

    #[test]
    fn a_latch_keeps_what_is_written_where_it_was_written() {
        let latch = Latch::default();
        latch.write(0, &[1, 2, 3, 4]);
        latch.write(3, &[9, 9]);
        let mut all = [0; 4];
        latch.read(0, &mut all);
        assert_eq!(all, [1, 2, 3, 9]);
        let mut end = [0xff; 4];
        latch.read(2, &mut end);
        assert_eq!(end, [3, 9, 0xff, 0xff]);
    }

    #[derive(Default)]
    struct Sent(Mutex<Vec<u8>>);

    impl Interrupts for Sent {
        fn assert(&self, interrupt: Interrupt) -> Result<(), Failure> {
            self.0.lock().unwrap().push(interrupt.vector);
            Ok(())
        }
    }

    #[test]
    fn a_line_is_a_pin() {
        let sent = Arc::new(Sent::default());
        let ioapic = Ioapic::new(sent.clone());
        let lines = Lines::new(&ioapic);
        ioapic.write(0, &[0x10 + 2 * 14]);
        ioapic.write(0x10, &0x77u32.to_le_bytes());
        lines.write(15, &[1]);
        for value in [1, 1, 0, 2] {
            lines.write(14, &[value]);
        }
        assert_eq!(*sent.0.lock().unwrap(), [0x77, 0x77]);
        lines.write(Lines::COUNT, &[1]);
    }
}
