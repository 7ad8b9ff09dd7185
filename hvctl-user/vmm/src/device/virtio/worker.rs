// SPDX-License-Identifier: GPL-2.0
//! A thread that serves queues of a device until the device is reset.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::ring::{Broken, Chain, Ring};
use super::{ActiveQueue, Health};
use crate::confine;
use crate::device::bytes;
use crate::memory::GuestMemory;

/// What a thread does.
pub trait Serve: Send + 'static {
    /// Descriptors that it waits for. They stay open and the same.
    fn sources(&self) -> Vec<RawFd>;
    /// The source of this number is readable. Returns before long, whatever the guest does,
    /// so that the thread can be stopped.
    fn ready(&mut self, source: usize) -> Result<(), Broken>;
}

/// Answers the chains of a queue one after the other: `answer` says how many bytes it wrote.
pub struct Answering<F> {
    ring: Ring,
    kick: Arc<EventFd>,
    answer: F,
}

impl<F: FnMut(&GuestMemory, &Chain) -> Result<u32, Broken>> Answering<F> {
    pub fn new(queue: ActiveQueue, answer: F) -> Self {
        let ActiveQueue { ring, kick } = queue;
        Self { ring, kick, answer }
    }
}

impl<F> Serve for Answering<F>
where
    F: FnMut(&GuestMemory, &Chain) -> Result<u32, Broken> + Send + 'static,
{
    fn sources(&self) -> Vec<RawFd> {
        vec![self.kick.as_raw_fd()]
    }

    fn ready(&mut self, _: usize) -> Result<(), Broken> {
        self.ring.rung(&self.kick);
        self.ring.serve(&self.kick, &mut self.answer)
    }
}

/// The running thread. Dropping this stops it and waits for its end; then whatever it
/// served is dropped too.
pub struct Worker {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

const STOP: u64 = u64::MAX;

impl Worker {
    pub fn spawn(name: &str, health: Arc<Health>, mut serve: impl Serve) -> io::Result<Self> {
        let stop = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(
            bytes::borrow(&stop),
            EpollEvent::new(EpollFlags::EPOLLIN, STOP),
        )?;
        for (index, fd) in serve.sources().into_iter().enumerate() {
            // SAFETY: `serve` keeps it open, and lives as long as the thread.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        }
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            confine::thread(confine::Thread::Device);
            let panicked = Panicked(&health);
            let ended = run(&epoll, &mut serve);
            std::mem::forget(panicked);
            if let Err(broken) = ended {
                health.fail(&broken);
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

/// Dropped only by a panic, of which the driver is to know.
struct Panicked<'a>(&'a Health);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        self.0.fail(&Broken::Backend("its thread panicked".into()));
    }
}

fn run(epoll: &Epoll, serve: &mut impl Serve) -> Result<(), Broken> {
    let mut events = [EpollEvent::empty(); 8];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(cause) => return Err(Broken::Backend(format!("waiting for events: {cause}"))),
        };
        if events[..count].iter().any(|event| event.data() == STOP) {
            return Ok(());
        }
        for event in &events[..count] {
            serve.ready(event.data() as usize)?;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}
