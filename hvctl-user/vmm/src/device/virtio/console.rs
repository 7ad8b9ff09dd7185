// SPDX-License-Identifier: GPL-2.0
//! A console (virtio 1.2, section 5.3) of one port: Linux's hvc0.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use vmm_sys_util::eventfd::EventFd;

use super::ring::{Broken, Chain, Ring};
use super::worker::{Answering, Serve, Worker};
use super::{Activation, ActiveQueue, COMMON_FEATURES, Kind, VirtioDevice};
use crate::memory::GuestMemory;

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
        if let (Some(queue), Some(input)) = (queue(0), &self.port.input) {
            let receiver = Receiver::new(queue, input.clone())?;
            self.workers
                .push(Worker::spawn("console-in", health.clone(), receiver)?);
        }
        if let Some(queue) = queue(1) {
            let output = self.port.output.clone();
            let sender = Answering::new(queue, move |memory, chain| say(&*output, memory, chain));
            self.workers
                .push(Worker::spawn("console-out", health, sender)?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.clear();
    }
}

/// Writes what the guest says to `output`.
pub(super) fn say(
    output: &Mutex<dyn Write + Send>,
    memory: &GuestMemory,
    chain: &Chain,
) -> Result<u32, Broken> {
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
}

/// Gives the guest what is typed.
pub(super) struct Receiver {
    ring: Ring,
    kick: Arc<EventFd>,
    input: Arc<File>,
    /// Has the input, while there may be room for what is typed.
    waiting: Epoll,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for input.
    Open,
    /// Waits for the driver to make room.
    Full,
    /// There is no more input.
    Ended,
}

const KICK: usize = 0;

impl Receiver {
    pub(super) fn new(queue: ActiveQueue, input: Arc<File>) -> io::Result<Self> {
        let ActiveQueue { ring, kick } = queue;
        let waiting = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        waiting.add(&*input, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        let state = State::Open;
        Ok(Self {
            ring,
            kick,
            input,
            waiting,
            state,
        })
    }

    fn enter(&mut self, state: State) -> Result<(), Broken> {
        let changed = match state {
            State::Open => {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
                self.waiting.add(&*self.input, event)
            }
            State::Full | State::Ended => self.waiting.delete(&*self.input),
        };
        self.state = state;
        changed.map_err(|cause| Broken::Backend(format!("waiting for input: {cause}")))
    }
}

impl Serve for Receiver {
    fn sources(&self) -> Vec<RawFd> {
        vec![self.kick.as_raw_fd(), self.waiting.0.as_raw_fd()]
    }

    fn ready(&mut self, source: usize) -> Result<(), Broken> {
        if source == KICK {
            self.ring.rung(&self.kick);
            return match self.state {
                State::Full => self.enter(State::Open),
                State::Open | State::Ended => Ok(()),
            };
        }
        if self.state != State::Open {
            return Ok(());
        }
        let Some(chain) = self.ring.pop()? else {
            return match self.ring.enable_doorbell()? {
                true => Ok(()),
                false => self.enter(State::Full),
            };
        };
        let mut data = [0; CHUNK];
        let room = chain.writable.len().min(CHUNK);
        let size = match (&*self.input).read(&mut data[..room]) {
            Ok(0) if room != 0 => {
                self.enter(State::Ended)?;
                0
            }
            Ok(size) => size,
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => 0,
            Err(cause) => {
                tracing::debug!("console input: {cause}");
                self.enter(State::Ended)?;
                0
            }
        };
        let written = chain.writable.write(self.ring.memory(), &data[..size]);
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

    #[test]
    fn what_is_typed_waits_for_room_and_ends() {
        let (port, _output, mut writer) = port();
        let mut driver = Driver::new(8);
        let (activation, kick) = driver.activation(0, 0, 2);
        let mut device = Console::new(port);
        device.activate(activation).unwrap();
        writer.write_all(b"hello").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        for (index, text) in [(0, b"hel"), (1, b"lo\0")] {
            driver.chain(&[(0x8000, 3, true)]);
            kick.write(1).unwrap();
            let size = text.iter().filter(|byte| **byte != 0).count();
            assert_eq!(driver.wait_used(), [(index, size as u32)]);
            assert_eq!(driver.read(0x8000, size), text[..size]);
        }
        // Its end is an empty answer, and the last.
        drop(writer);
        driver.chain(&[(0x8000, 3, true)]);
        kick.write(1).unwrap();
        assert_eq!(driver.wait_used(), [(2, 0)]);
        driver.chain(&[(0x8000, 3, true)]);
        kick.write(1).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(driver.used().is_empty());
        device.reset();
    }
}
