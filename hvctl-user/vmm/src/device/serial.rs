// SPDX-License-Identifier: GPL-2.0
//! COM1: vm-superio's 16550A on this machine's bus and interrupt line.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_superio::serial::{Error, SerialEvents};
use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::EventFd;

use super::Device;
use super::ioapic::Pin;
use crate::hypervisor::Failure;

impl Trigger for Pin {
    type E = Failure;

    fn trigger(&self) -> Result<(), Failure> {
        self.pulse()
    }
}

/// Tells the console when the guest has taken all its input.
struct Drained {
    event: EventFd,
}

impl SerialEvents for Drained {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        // The counter cannot overflow and the descriptor is ours.
        let _ = self.event.write(1);
    }
}

type Inner = Uart<Pin, Drained, Box<dyn Write + Send>>;

pub struct Serial {
    uart: Mutex<Inner>,
}

impl Serial {
    /// Output goes to `out`; `drained` is signalled when input can be taken again.
    pub fn new(pin: Pin, drained: EventFd, out: Box<dyn Write + Send>) -> Arc<Self> {
        let uart = Uart::with_events(pin, Drained { event: drained }, out);
        Arc::new(Self {
            uart: Mutex::new(uart),
        })
    }

    fn uart(&self) -> MutexGuard<'_, Inner> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes as much of `input` as there is room for; returns how much.
    pub fn enqueue(&self, input: &[u8]) -> usize {
        let mut uart = self.uart();
        if uart.fifo_capacity() == 0 {
            return 0;
        }
        uart.enqueue_raw_bytes(input).unwrap_or_else(|cause| {
            report(cause);
            0
        })
    }
}

fn report(cause: Error<Failure>) {
    match cause {
        // A console that went away is no reason to disturb the guest.
        Error::IOError(cause) => tracing::debug!("console output: {cause}"),
        cause => tracing::warn!("COM1: {cause}"),
    }
}

impl Device for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut uart = self.uart();
        for (at, byte) in (offset..8).zip(data) {
            *byte = uart.read(at as u8);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut uart = self.uart();
        for (at, &byte) in (offset..8).zip(data) {
            if let Err(cause) = uart.write(at as u8, byte) {
                report(cause);
            }
        }
    }
}
