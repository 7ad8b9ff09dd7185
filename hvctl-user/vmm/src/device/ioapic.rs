// SPDX-License-Identifier: GPL-2.0
//! An I/O APIC (82093AA with the EOI register of its successors).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Device;
use crate::hypervisor::{Delivery, Failure, Interrupt, Interrupts};

pub const PINS: usize = 24;
const VERSION: u32 = 0x20;

/// A redirection entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    const LOGICAL: u64 = 1 << 11;
    const PENDING: u64 = 1 << 12;
    const REMOTE_IRR: u64 = 1 << 14;
    const LEVEL: u64 = 1 << 15;
    const MASKED: u64 = 1 << 16;
    const READ_ONLY: u64 = Self::PENDING | Self::REMOTE_IRR;
    const WRITABLE: u64 = 0xff00_0000_0001_ffff & !Self::READ_ONLY;

    fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    fn vector(self) -> u8 {
        self.0 as u8
    }

    /// The message that this entry sends; `None` for a reserved delivery mode.
    fn interrupt(self) -> Option<Interrupt> {
        let delivery = match (self.0 >> 8) & 7 {
            0 => Delivery::Fixed,
            1 => Delivery::LowestPriority,
            2 => Delivery::Smi,
            4 => Delivery::Nmi,
            5 => Delivery::Init,
            7 => Delivery::ExtInt,
            _ => return None,
        };
        Some(Interrupt {
            vector: self.vector(),
            delivery,
            destination: (self.0 >> 56) as u32,
            logical: self.has(Self::LOGICAL),
            level: self.has(Self::LEVEL),
        })
    }
}

struct State {
    id: u32,
    select: u8,
    entries: [Entry; PINS],
    /// Levels of the input pins.
    asserted: u32,
}

pub struct Ioapic {
    state: Mutex<State>,
    interrupts: Arc<dyn Interrupts>,
}

impl Ioapic {
    pub fn new(interrupts: Arc<dyn Interrupts>) -> Arc<Self> {
        let entries = [Entry(Entry::MASKED); PINS];
        let state = State {
            id: 0,
            select: 0,
            entries,
            asserted: 0,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            interrupts,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves an input pin. A rising edge or a standing level is sent on.
    pub fn set(&self, pin: u8, level: bool) -> Result<(), Failure> {
        let mut state = self.state();
        let bit = 1 << pin;
        let rising = level && state.asserted & bit == 0;
        if level {
            state.asserted |= bit;
        } else {
            state.asserted &= !bit;
        }
        let entry = state.entries[usize::from(pin)];
        if entry.has(Entry::LEVEL) || rising {
            self.service(&mut state, pin)
        } else {
            Ok(())
        }
    }

    /// The guest ended the level-triggered interrupt `vector`.
    pub fn end_of_interrupt(&self, vector: u8) -> Result<(), Failure> {
        let mut state = self.state();
        for pin in 0..PINS as u8 {
            let entry = &mut state.entries[usize::from(pin)];
            if entry.vector() == vector && entry.has(Entry::LEVEL) && entry.has(Entry::REMOTE_IRR) {
                entry.0 &= !Entry::REMOTE_IRR;
                self.service(&mut state, pin)?;
            }
        }
        Ok(())
    }

    /// Sends the pin's interrupt if it is asserted and nothing holds it back.
    fn service(&self, state: &mut State, pin: u8) -> Result<(), Failure> {
        let asserted = state.asserted & 1 << pin != 0;
        let entry = &mut state.entries[usize::from(pin)];
        if !asserted || entry.has(Entry::MASKED) || entry.has(Entry::REMOTE_IRR) {
            return Ok(());
        }
        let Some(interrupt) = entry.interrupt() else {
            return Ok(());
        };
        if entry.has(Entry::LEVEL) {
            entry.0 |= Entry::REMOTE_IRR;
        }
        self.interrupts.assert(interrupt)
    }

    fn read_register(&self) -> u32 {
        let state = self.state();
        match state.select {
            0 | 2 => state.id << 24,
            1 => VERSION | (PINS as u32 - 1) << 16,
            select @ 0x10..=0x3f => {
                let entry = state.entries[usize::from(select - 0x10) / 2].0;
                if select % 2 == 0 {
                    entry as u32
                } else {
                    (entry >> 32) as u32
                }
            }
            _ => 0,
        }
    }

    fn write_register(&self, value: u32) -> Result<(), Failure> {
        let mut state = self.state();
        match state.select {
            0 => state.id = value >> 24 & 0xf,
            select @ 0x10..=0x3f => {
                let pin = (select - 0x10) / 2;
                let entry = &mut state.entries[usize::from(pin)];
                let (shift, value) = if select % 2 == 0 {
                    (0, u64::from(value))
                } else {
                    (32, u64::from(value))
                };
                let written = 0xffff_ffff << shift & Entry::WRITABLE;
                entry.0 = entry.0 & !written | value << shift & written;
                if !entry.has(Entry::LEVEL) {
                    entry.0 &= !Entry::REMOTE_IRR;
                }
                // A level that stood while the pin was masked is sent now; an edge is lost.
                if entry.has(Entry::LEVEL) {
                    return self.service(&mut state, pin);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Device for Ioapic {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let value = match offset & !3 {
            0x00 => u32::from(self.state().select),
            0x10 => self.read_register(),
            _ => 0,
        };
        let shifted = u64::from(value) >> ((offset & 3) * 8);
        for (byte, from) in data.iter_mut().zip(shifted.to_le_bytes()) {
            *byte = from;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut value = [0; 4];
        let size = data.len().min(4);
        value[..size].copy_from_slice(&data[..size]);
        let value = u32::from_le_bytes(value);
        let result = match offset {
            0x00 => {
                self.state().select = value as u8;
                Ok(())
            }
            0x10 => self.write_register(value),
            0x40 => self.end_of_interrupt(value as u8),
            _ => Ok(()),
        };
        if let Err(cause) = result {
            tracing::warn!("I/O APIC: {cause}");
        }
    }
}

/// A device's interrupt line.
#[derive(Clone)]
pub struct Pin {
    ioapic: Arc<Ioapic>,
    number: u8,
}

impl Pin {
    pub fn new(ioapic: Arc<Ioapic>, number: u8) -> Self {
        assert!(usize::from(number) < PINS);
        Self { ioapic, number }
    }

    /// An edge.
    pub fn pulse(&self) -> Result<(), Failure> {
        self.ioapic.set(self.number, true)?;
        self.ioapic.set(self.number, false)
    }

    pub fn set(&self, level: bool) -> Result<(), Failure> {
        self.ioapic.set(self.number, level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<Interrupt>>);

    impl Interrupts for Recorder {
        fn assert(&self, interrupt: Interrupt) -> Result<(), Failure> {
            self.0.lock().unwrap().push(interrupt);
            Ok(())
        }
    }

    impl Recorder {
        fn take(&self) -> Vec<u8> {
            self.0
                .lock()
                .unwrap()
                .drain(..)
                .map(|interrupt| interrupt.vector)
                .collect()
        }
    }

    fn new() -> (Arc<Ioapic>, Arc<Recorder>) {
        let recorder = Arc::new(Recorder::default());
        (Ioapic::new(recorder.clone()), recorder)
    }

    fn put(ioapic: &Ioapic, select: u8, value: u32) {
        ioapic.write(0, &[select]);
        ioapic.write(0x10, &value.to_le_bytes());
    }

    fn get(ioapic: &Ioapic, select: u8) -> u32 {
        ioapic.write(0, &[select]);
        let mut data = [0; 4];
        ioapic.read(0x10, &mut data);
        u32::from_le_bytes(data)
    }

    const LEVEL: u32 = 1 << 15;
    const MASKED: u32 = 1 << 16;
    const REMOTE_IRR: u32 = 1 << 14;

    #[test]
    fn it_says_what_it_is() {
        let (ioapic, _) = new();
        assert_eq!(get(&ioapic, 1), 0x0017_0020);
        put(&ioapic, 0, 0x0300_0000);
        assert_eq!(get(&ioapic, 0), 0x0300_0000);
        assert_eq!(get(&ioapic, 0x10), MASKED);
    }

    #[test]
    fn an_edge_is_sent_once_to_where_the_entry_says() {
        let (ioapic, recorder) = new();
        put(&ioapic, 0x19, 0x0100_0000);
        put(&ioapic, 0x18, 0x31 | 1 << 11);
        let pin = Pin::new(ioapic.clone(), 4);
        pin.pulse().unwrap();
        let sent = recorder.0.lock().unwrap().clone();
        assert_eq!(
            sent,
            [Interrupt {
                vector: 0x31,
                delivery: Delivery::Fixed,
                destination: 1,
                logical: true,
                level: false
            }]
        );
        recorder.take();
        pin.set(true).unwrap();
        pin.set(true).unwrap();
        assert_eq!(recorder.take(), [0x31]);
    }

    #[test]
    fn a_masked_edge_is_lost_and_a_masked_level_is_not() {
        let (ioapic, recorder) = new();
        put(&ioapic, 0x18, 0x31 | MASKED);
        Pin::new(ioapic.clone(), 4).pulse().unwrap();
        put(&ioapic, 0x18, 0x31);
        assert!(recorder.take().is_empty());

        put(&ioapic, 0x1a, 0x32 | LEVEL | MASKED);
        Pin::new(ioapic.clone(), 5).set(true).unwrap();
        assert!(recorder.take().is_empty());
        put(&ioapic, 0x1a, 0x32 | LEVEL);
        assert_eq!(recorder.take(), [0x32]);
    }

    #[test]
    fn a_level_waits_for_its_end_and_comes_again_while_it_stands() {
        let (ioapic, recorder) = new();
        put(&ioapic, 0x1a, 0x32 | LEVEL);
        let pin = Pin::new(ioapic.clone(), 5);
        pin.set(true).unwrap();
        assert_eq!(recorder.take(), [0x32]);
        assert_ne!(get(&ioapic, 0x1a) & REMOTE_IRR, 0);
        pin.set(false).unwrap();
        pin.set(true).unwrap();
        assert!(
            recorder.take().is_empty(),
            "not before the end of the first"
        );
        ioapic.end_of_interrupt(0x32).unwrap();
        assert_eq!(recorder.take(), [0x32]);
        pin.set(false).unwrap();
        // By the register this time.
        ioapic.write(0x40, &[0x32, 0, 0, 0]);
        assert!(recorder.take().is_empty());
        assert_eq!(get(&ioapic, 0x1a) & REMOTE_IRR, 0);
    }

    #[test]
    fn the_guest_cannot_write_the_status_bits() {
        let (ioapic, _) = new();
        put(&ioapic, 0x10, LEVEL | REMOTE_IRR | 1 << 12 | MASKED);
        assert_eq!(get(&ioapic, 0x10), LEVEL | MASKED);
    }

    proptest! {
        #[test]
        fn any_accesses_leave_it_standing(accesses in prop::collection::vec(
            (0u64..0x1000, prop::collection::vec(any::<u8>(), 1..9), any::<bool>()), 0..200)) {
            let (ioapic, recorder) = new();
            for (offset, mut data, write) in accesses {
                let offset = if offset % 3 == 0 { (offset & 1) * 0x10 } else { offset };
                if write { ioapic.write(offset, &data) } else { ioapic.read(offset, &mut data) }
            }
            for pin in 0..PINS as u8 {
                ioapic.set(pin, true).unwrap();
                ioapic.set(pin, false).unwrap();
            }
            prop_assert!(recorder.take().len() <= 300);
        }
    }
}
