// SPDX-License-Identifier: GPL-2.0
//! COM1: vm-superio's 16550A on this machine's bus and interrupt line.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_superio::serial::{Error, SerialEvents};
use vm_superio::{Serial as Uart, Trigger};
use vmm_sys_util::eventfd::EventFd;

use super::Device;
use super::ioapic::Pin;
use crate::hypervisor::Failure;
use crate::outcome::Ending;

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

/// Output that may block for as long as the run lasts: the signal that ends a processor's thread
/// ends its waiting too.
struct Output {
    out: Box<dyn Write + Send>,
    ending: Arc<Ending>,
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.out.write(data) {
            Err(cause)
                if cause.kind() == ErrorKind::Interrupted && self.ending.outcome().is_some() =>
            {
                Ok(data.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

type Inner = Uart<Pin, Drained, Output>;

pub struct Serial {
    uart: Mutex<Inner>,
}

impl Serial {
    /// Output goes to `out`; `drained` is signalled when input can be taken again.
    pub fn new(
        pin: Pin,
        drained: EventFd,
        out: Box<dyn Write + Send>,
        ending: Arc<Ending>,
    ) -> Arc<Self> {
        let output = Output { out, ending };
        let uart = Uart::with_events(pin, Drained { event: drained }, output);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    /// Nobody reads what is written here, and a signal comes.
    struct Stuck;

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::Interrupted.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn output_that_nobody_takes_does_not_outlast_the_run() {
        let ending = Arc::new(Ending::new().unwrap());
        let mut output = Output {
            out: Box::new(Stuck),
            ending: ending.clone(),
        };
        assert!(output.write(b"x").is_err());
        ending.end(Outcome::PowerOff);
        output.write_all(b"x").unwrap();
    }
}
