// SPDX-License-Identifier: GPL-2.0
//! A console (virtio 1.2, section 5.3) of one port: Linux's hvc0.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::ring::{Broken, Ring};
use super::worker::{Serve, Worker};
use super::{Activation, ActiveQueue, COMMON_FEATURES, Kind, VirtioDevice};

const QUEUE_SIZE: u16 = 64;

/// Of what is moved in one step.
const CHUNK: usize = 4096;

/// The root's end, which must not block.
#[derive(Clone)]
pub struct Port {
    pub input: Option<Arc<File>>,
    pub output: Arc<Mutex<dyn Write + Send>>,
}

pub struct Console {
    port: Port,
    workers: Vec<Worker>,
}

impl Console {
    pub fn new(port: Port) -> Self {
        Self {
            port,
            workers: Vec::new(),
        }
    }
}

impl VirtioDevice for Console {
    fn kind(&self) -> Kind {
        Kind::Console
    }

    fn features(&self) -> u64 {
        COMMON_FEATURES
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2]
    }

    fn read_config(&self, _: u64, _: &mut [u8]) {}

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        let health = activation.health;
        let mut queue = |index: usize| activation.queues[index].take();
        if let (Some(ActiveQueue { ring, kick }), Some(input)) = (queue(0), &self.port.input) {
            let receiver = Receiver {
                ring,
                kick,
                input: input.clone(),
                ended: false,
            };
            self.workers
                .push(Worker::spawn("console-in", health.clone(), receiver)?);
        }
        if let Some(ActiveQueue { ring, kick }) = queue(1) {
            let sender = Sender {
                ring,
                kick,
                output: self.port.output.clone(),
            };
            self.workers
                .push(Worker::spawn("console-out", health, sender)?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.clear();
    }
}

pub(super) struct Sender {
    pub(super) ring: Ring,
    pub(super) kick: Arc<EventFd>,
    pub(super) output: Arc<Mutex<dyn Write + Send>>,
}

impl Serve for Sender {
    fn sources(&self) -> Vec<RawFd> {
        vec![self.kick.as_raw_fd()]
    }

    fn ready(&mut self, _: usize) -> Result<(), Broken> {
        self.ring.rung(&self.kick);
        let output = &self.output;
        self.ring.serve(&self.kick, |memory, chain| {
            let mut rest = chain.readable.clone();
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(part) = rest.split_front(rest.len().min(CHUNK)) {
                let mut data = [0; CHUNK];
                let size = part.read(memory, &mut data);
                if size == 0 {
                    break;
                }
                if let Err(cause) = output.write_all(&data[..size]) {
                    // A console that went away is no reason to disturb the guest.
                    tracing::debug!("console output: {cause}");
                }
            }
            Ok(0)
        })
    }
}

struct Receiver {
    ring: Ring,
    kick: Arc<EventFd>,
    input: Arc<File>,
    ended: bool,
}

const KICK: usize = 0;

impl Serve for Receiver {
    fn sources(&self) -> Vec<RawFd> {
        vec![self.kick.as_raw_fd(), self.input.as_raw_fd()]
    }

    fn ready(&mut self, source: usize) -> Result<(), Broken> {
        if source == KICK {
            self.ring.rung(&self.kick);
            return Ok(());
        }
        if self.ended {
            // The descriptor stays readable: do not turn the processor's heat on for it.
            std::thread::sleep(std::time::Duration::from_millis(100));
            return Ok(());
        }
        let Some(chain) = self.ring.pop()? else {
            // What is typed waits; the driver gives buffers back soon.
            std::thread::sleep(std::time::Duration::from_millis(10));
            return Ok(());
        };
        let mut data = [0; CHUNK];
        let room = chain.writable.len().min(CHUNK);
        let size = match (&*self.input).read(&mut data[..room]) {
            Ok(0) => {
                self.ended = true;
                0
            }
            Ok(size) => size,
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => 0,
            Err(cause) => {
                tracing::debug!("console input: {cause}");
                self.ended = true;
                0
            }
        };
        let memory = self.ring.memory().clone();
        let written = chain.writable.write(&memory, &data[..size]);
        self.ring.complete(chain.head, written as u32)?;
        self.ring.notify()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::bench::Driver;
    use std::os::unix::net::UnixStream;

    fn port() -> (Port, Arc<Mutex<Vec<u8>>>, UnixStream) {
        let (reader, writer) = UnixStream::pair().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let port = Port {
            input: Some(Arc::new(File::from(std::os::fd::OwnedFd::from(reader)))),
            output: output.clone(),
        };
        (port, output, writer)
    }

    #[test]
    fn what_the_guest_says_comes_out() {
        let (port, output, _writer) = port();
        let mut driver = Driver::new(8);
        let (activation, kick) = driver.activation(0, 1, 2);
        let mut device = Console::new(port);
        device.activate(activation).unwrap();
        driver.write(0x8000, &[b'x'; 5000]);
        driver.chain(&[(0x8000, 5000, false)]);
        kick.write(1).unwrap();
        assert_eq!(driver.wait_used(), [(0, 0)]);
        device.reset();
        assert_eq!(*output.lock().unwrap(), [b'x'; 5000]);
    }

    #[test]
    fn what_is_typed_goes_in() {
        let (port, _output, mut writer) = port();
        let mut driver = Driver::new(8);
        let (activation, _kick) = driver.activation(0, 0, 2);
        let mut device = Console::new(port);
        driver.chain(&[(0x8000, 64, true)]);
        device.activate(activation).unwrap();
        writer.write_all(b"hello").unwrap();
        assert_eq!(driver.wait_used(), [(0, 5)]);
        assert_eq!(driver.read(0x8000, 5), b"hello");
        device.reset();
    }
}
