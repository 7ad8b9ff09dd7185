// SPDX-License-Identifier: GPL-2.0
//! Waits for the end of the process that serves a share, and answers in its place from then on.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::device::bytes;
use crate::device::virtio::ring::{Broken, Chain};
use crate::device::virtio::worker::Serve;
use crate::device::virtio::{ActiveQueue, Health};
use crate::memory::GuestMemory;

/// struct fuse_in_header (linux/fuse.h).
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable)]
struct RequestHeader {
    length: u32,
    opcode: u32,
    unique: u64,
    node: u64,
    uid: u32,
    gid: u32,
    pid: u32,
    total_extension: u16,
    padding: u16,
}

/// struct fuse_out_header.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct AnswerHeader {
    length: u32,
    error: i32,
    unique: u64,
}

/// What of the share is waited for.
const PROCESS: u64 = u64::MAX;

pub struct Watch {
    /// The process, and when that has ended the doorbells: before, they are its.
    waiting: Epoll,
    process: RawFd,
    queues: Vec<ActiveQueue>,
    gone: Arc<AtomicBool>,
    health: Arc<Health>,
}

impl Watch {
    /// `process` is the connection to it, which says nothing that it is not asked for. It is kept
    /// open by the caller.
    pub fn new(
        process: &impl AsRawFd,
        queues: Vec<ActiveQueue>,
        gone: Arc<AtomicBool>,
        health: Arc<Health>,
    ) -> io::Result<Self> {
        let mut watch = Self {
            waiting: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            process: process.as_raw_fd(),
            queues,
            gone,
            health,
        };
        if watch.gone.load(Ordering::Acquire) {
            watch.listen()?;
        } else {
            watch.waiting.add(
                watch.process(),
                EpollEvent::new(EpollFlags::EPOLLIN, PROCESS),
            )?;
        }
        Ok(watch)
    }

    fn process(&self) -> BorrowedFd<'_> {
        // SAFETY: the device keeps it open for longer than this.
        unsafe { BorrowedFd::borrow_raw(self.process) }
    }

    /// From now on the doorbells wake us.
    fn listen(&mut self) -> io::Result<()> {
        for (index, queue) in self.queues.iter().enumerate() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
            self.waiting.add(bytes::borrow(&queue.kick), event)?;
        }
        Ok(())
    }

    fn take_over(&mut self) -> Result<(), Broken> {
        self.gone.store(true, Ordering::Release);
        self.health
            .complain(&"virtiofsd has ended: what the guest asks of the share fails");
        let failed = |cause| Broken::Backend(format!("waiting for doorbells: {cause}"));
        self.waiting
            .delete(self.process())
            .map_err(|cause| failed(cause.into()))?;
        self.listen().map_err(failed)?;
        for index in 0..self.queues.len() {
            self.queues[index].ring.take_over()?;
            self.refuse(index)?;
        }
        Ok(())
    }

    fn refuse(&mut self, index: usize) -> Result<(), Broken> {
        let ActiveQueue { ring, kick } = &mut self.queues[index];
        ring.rung(kick);
        ring.serve(kick, |memory, chain| Ok(refuse(memory, chain)))
    }
}

impl Serve for Watch {
    fn sources(&self) -> Vec<RawFd> {
        vec![self.waiting.0.as_raw_fd()]
    }

    fn ready(&mut self, _: usize) -> Result<(), Broken> {
        let mut events = [EpollEvent::empty(); 4];
        let count = match self.waiting.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(cause) => return Err(Broken::Backend(format!("waiting for events: {cause}"))),
        };
        for event in &events[..count] {
            match event.data() {
                PROCESS => self.take_over()?,
                index => self.refuse(index as usize)?,
            }
        }
        Ok(())
    }
}

/// Says that nobody is there; how much it wrote. Some requests have no answer, and no room for one.
fn refuse(memory: &GuestMemory, chain: &Chain) -> u32 {
    let mut request = RequestHeader::new_zeroed();
    chain.readable.read(memory, request.as_mut_bytes());
    let answer = AnswerHeader {
        length: size_of::<AnswerHeader>() as u32,
        error: -libc::ENOTCONN,
        unique: request.unique,
    };
    match chain.writable.len() < answer.as_bytes().len() {
        true => 0,
        false => chain.writable.write(memory, answer.as_bytes()) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::bench::Driver;
    use crate::device::virtio::worker::Worker;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;
    use vmm_sys_util::eventfd::EventFd;

    const LENGTH: u32 = size_of::<RequestHeader>() as u32;

    fn ask(driver: &mut Driver, unique: u64, room: u32) {
        let at = 0x8000 + 0x100 * unique;
        driver.write(at + 8, &unique.to_le_bytes());
        let answer = (at + 0x80, room, true);
        driver.chain(&[(at, LENGTH, false), answer][..if room == 0 { 1 } else { 2 }]);
    }

    fn answer(driver: &Driver, unique: u64) -> Vec<u8> {
        driver.read(0x8080 + 0x100 * unique, 16)
    }

    fn refusal(unique: u64) -> Vec<u8> {
        let error = -libc::ENOTCONN;
        [
            &16u32.to_le_bytes()[..],
            &error.to_le_bytes(),
            &unique.to_le_bytes(),
        ]
        .concat()
    }

    #[test]
    fn what_was_asked_of_a_process_that_ends_is_answered() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut driver = Driver::new(16);
        let (activation, kick) = driver.activation(0, 0, 1);
        let queues = activation.queues.into_iter().flatten().collect();
        let (gone, health) = (Arc::<AtomicBool>::default(), activation.health);
        // The process answered the first, and took the second.
        ask(&mut driver, 1, 64);
        ask(&mut driver, 2, 64);
        let mut process = driver.ring(false);
        let first = process.pop().unwrap().unwrap();
        process.complete(first.head, 16).unwrap();
        process.pop().unwrap().unwrap();
        assert_eq!(driver.wait_used(), [(0, 16)]);
        let watch = Watch::new(&near, queues, gone.clone(), health.clone()).unwrap();
        let worker = Worker::spawn("share", health.clone(), watch).unwrap();
        // Its doorbell is not ours.
        kick.write(1).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(driver.used().is_empty());
        drop(far);
        assert_eq!(driver.wait_used(), [(2, 16)]);
        assert_eq!(answer(&driver, 1), [0; 16]);
        assert_eq!(answer(&driver, 2), refusal(2));
        assert!(gone.load(Ordering::Acquire));
        // Also what comes later, and what has no room for an answer.
        ask(&mut driver, 3, 0);
        ask(&mut driver, 4, 16);
        kick.write(1).unwrap();
        let mut used = driver.wait_used();
        while used.len() < 2 {
            used.extend(driver.wait_used());
        }
        assert_eq!(used, [(4, 0), (5, 16)]);
        assert_eq!(answer(&driver, 4), refusal(4));
        assert_eq!(health.status(), 0);
        drop(worker);
    }

    #[test]
    fn a_driver_that_comes_after_the_end_is_answered() {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut driver = Driver::new(8);
        let (activation, _) = driver.activation(0, 0, 1);
        let queues: Vec<ActiveQueue> = activation.queues.into_iter().flatten().collect();
        let kick: Arc<EventFd> = queues[0].kick.clone();
        let gone = Arc::new(AtomicBool::new(true));
        let watch = Watch::new(&near, queues, gone, activation.health.clone()).unwrap();
        let _worker = Worker::spawn("share", activation.health, watch).unwrap();
        ask(&mut driver, 7, 32);
        kick.write(1).unwrap();
        assert_eq!(driver.wait_used(), [(0, 16)]);
        assert_eq!(answer(&driver, 7), refusal(7));
    }
}
