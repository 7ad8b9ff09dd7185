// SPDX-License-Identifier: GPL-2.0
//! Reading and writing with many requests at once: io_uring, or, where there is none, one
//! after the other.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::{IoUring, opcode, types};
use nix::errno::Errno;
use vm_memory::GuestMemory as _;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::disk::Disk;
use super::request::Range;
use crate::device::virtio::ring::Buffers;
use crate::memory::GuestMemory;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Read,
    Write { sync: bool },
    Flush,
}

/// Where an action's data is.
struct Vectors {
    parts: Vec<libc::iovec>,
    /// Ours, where the guest's is not aligned as the disk wants it.
    bounce: Option<Bounce>,
}

/// Memory with an alignment.
struct Bounce {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Bounce {
    fn new(length: usize, alignment: usize) -> Self {
        let mut bytes = vec![0; length + alignment];
        let start = bytes.as_mut_ptr().align_offset(alignment);
        Self {
            bytes,
            start,
            length,
        }
    }

    fn data(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// An action on its way.
struct Flight {
    tag: u16,
    action: Action,
    range: Range,
    buffers: Buffers,
    vectors: Vectors,
}

// SAFETY: the pointers in the vectors are to guest memory, which the engine keeps, or to a
// bounce buffer, which the flight has itself.
unsafe impl Send for Flight {}

enum Way {
    Ring { ring: Box<IoUring>, event: EventFd },
    OneByOne { done: Vec<(u16, io::Result<()>)> },
}

/// Carries out actions. Dropped, it waits for those on their way.
pub struct Engine {
    way: Way,
    disk: Arc<Disk>,
    memory: GuestMemory,
    flights: Vec<Option<Box<Flight>>>,
    flying: usize,
}

impl Engine {
    /// For up to `depth` actions at once.
    pub fn new(disk: Arc<Disk>, memory: GuestMemory, depth: u16) -> Self {
        let way = ring(depth).unwrap_or_else(|cause| {
            tracing::info!("no io_uring for a disk ({cause}): one request at a time");
            Way::OneByOne { done: Vec::new() }
        });
        Self {
            way,
            disk,
            memory,
            flights: (0..depth).map(|_| None).collect(),
            flying: 0,
        }
    }

    /// Readable when actions have ended; none if all end while they are started.
    pub fn event(&self) -> Option<RawFd> {
        match &self.way {
            Way::Ring { event, .. } => Some(event.as_raw_fd()),
            Way::OneByOne { .. } => None,
        }
    }

    pub fn has_room(&self) -> bool {
        self.flying < self.flights.len()
    }

    /// Starts an action; there must be room. `tag` comes back with its end.
    pub fn start(&mut self, tag: u16, action: Action, range: Range, buffers: Buffers) {
        let flight = Flight {
            tag,
            vectors: self.vectors(action, range, &buffers),
            action,
            range,
            buffers,
        };
        if let Way::OneByOne { done } = &mut self.way {
            let result = finish(&self.disk, &self.memory, flight, 0);
            done.push((tag, result));
            return;
        }
        let slot = self.flights.iter().position(Option::is_none);
        let Some(slot) = slot else {
            unreachable!("no room for an action");
        };
        let flight = self.flights[slot].insert(Box::new(flight));
        let entry = entry(&self.disk, flight).user_data(slot as u64);
        self.flying += 1;
        if let Way::Ring { ring, .. } = &mut self.way {
            // SAFETY: what the entry points to is in `flights` until its completion comes,
            // and guest memory stays mapped as long as this.
            let pushed = unsafe { ring.submission().push(&entry) };
            assert!(pushed.is_ok(), "the ring has an entry for each slot");
        }
    }

    /// Tells the kernel of what was started.
    pub fn submit(&mut self) -> io::Result<()> {
        if let Way::Ring { ring, .. } = &mut self.way {
            loop {
                match ring.submit() {
                    Ok(_) => break,
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                    // Memory is short for the moment: what was taken completes.
                    Err(cause) if cause.raw_os_error() == Some(libc::EAGAIN) => {
                        std::thread::yield_now();
                    }
                    Err(cause) => return Err(cause),
                }
            }
        }
        Ok(())
    }

    /// What has ended since the last call.
    pub fn ended(&mut self) -> Vec<(u16, io::Result<()>)> {
        let mut ended = Vec::new();
        match &mut self.way {
            Way::OneByOne { done } => ended.append(done),
            Way::Ring { ring, event } => {
                let _ = event.read();
                for completion in ring.completion() {
                    let flight = self.flights[completion.user_data() as usize].take();
                    let Some(flight) = flight else { continue };
                    self.flying -= 1;
                    let (tag, result) = (flight.tag, completion.result());
                    let result = if result < 0 {
                        Err(io::Error::from_raw_os_error(-result))
                    } else {
                        finish(&self.disk, &self.memory, *flight, result as u64)
                    };
                    ended.push((tag, result));
                }
            }
        }
        ended
    }

    fn vectors(&self, action: Action, range: Range, buffers: &Buffers) -> Vectors {
        let mut parts = Vec::new();
        let (_, alignment) = self.disk.way_to(range);
        let mut aligned = true;
        for (address, length) in buffers.parts() {
            // All of `buffers` is in memory, so there is a slice.
            let Ok(slice) = self.memory.get_slice(address, length) else {
                continue;
            };
            let base = slice.ptr_guard_mut().as_ptr();
            aligned &= base as usize % alignment == 0 && length % alignment == 0;
            parts.push(libc::iovec {
                iov_base: base.cast(),
                iov_len: length,
            });
        }
        if aligned {
            let bounce = None;
            return Vectors { parts, bounce };
        }
        let mut bounce = Bounce::new(buffers.len(), alignment);
        if matches!(action, Action::Write { .. }) {
            buffers.read(&self.memory, bounce.data());
        }
        let parts = vec![libc::iovec {
            iov_base: bounce.data().as_mut_ptr().cast(),
            iov_len: buffers.len(),
        }];
        Vectors {
            parts,
            bounce: Some(bounce),
        }
    }
}

fn ring(depth: u16) -> io::Result<Way> {
    let ring = IoUring::new(depth.into())?;
    let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
    ring.submitter().register_eventfd(event.as_raw_fd())?;
    let ring = Box::new(ring);
    Ok(Way::Ring { ring, event })
}

fn entry(disk: &Disk, flight: &Flight) -> io_uring::squeue::Entry {
    let fd = types::Fd(disk.way_to(flight.range).0.as_raw_fd());
    let (parts, count) = (
        flight.vectors.parts.as_ptr(),
        flight.vectors.parts.len() as u32,
    );
    let offset = flight.range.offset;
    match flight.action {
        Action::Read => opcode::Readv::new(fd, parts, count).offset(offset).build(),
        Action::Write { sync } => opcode::Writev::new(fd, parts, count)
            .offset(offset)
            .rw_flags(if sync { libc::RWF_DSYNC } else { 0 })
            .build(),
        Action::Flush => opcode::Fsync::new(fd)
            .flags(types::FsyncFlags::DATASYNC)
            .build(),
    }
}

/// Does what of an action is left after its first `done` bytes.
fn finish(disk: &Disk, memory: &GuestMemory, mut flight: Flight, done: u64) -> io::Result<()> {
    if flight.action == Action::Flush {
        return disk.file().sync_data();
    }
    let (mut parts, mut done) = (flight.vectors.parts, done);
    let mut passed = done;
    while done < flight.range.length {
        // What is done already goes from the front.
        while let Some(part) = parts.first_mut() {
            let step = passed.min(part.iov_len as u64);
            part.iov_base = part.iov_base.wrapping_byte_add(step as usize);
            part.iov_len -= step as usize;
            passed -= step;
            if part.iov_len != 0 {
                break;
            }
            parts.remove(0);
        }
        let left = Range {
            offset: flight.range.offset + done,
            length: flight.range.length - done,
        };
        let fd = disk.way_to(left).0.as_raw_fd();
        let offset = left.offset as i64;
        let count = parts.len() as i32;
        // SAFETY: the vectors are of guest memory or of the flight's own buffer, which both
        // live longer than the call.
        let moved = unsafe {
            match flight.action {
                Action::Read => libc::preadv2(fd, parts.as_ptr(), count, offset, 0),
                Action::Write { sync } => {
                    let flags = if sync { libc::RWF_DSYNC } else { 0 };
                    libc::pwritev2(fd, parts.as_ptr(), count, offset, flags)
                }
                Action::Flush => 0,
            }
        };
        match Errno::result(moved) {
            // The file has become shorter than the disk.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(moved) => {
                passed = moved as u64;
                done += passed;
            }
            Err(Errno::EINTR) => passed = 0,
            Err(cause) => return Err(cause.into()),
        }
    }
    if let (Action::Read, Some(bounce)) = (flight.action, &mut flight.vectors.bounce) {
        flight.buffers.write(memory, bounce.data());
    }
    Ok(())
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The kernel reads and writes the memory of flights until they end.
        while self.flying != 0 {
            if let Way::Ring { ring, .. } = &mut self.way {
                if let Err(cause) = ring.submit_and_wait(1) {
                    if cause.kind() != io::ErrorKind::Interrupted {
                        tracing::error!("waiting for a disk: {cause}");
                    }
                }
            }
            self.ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::virtio::bench::Driver;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    #[test]
    fn dropping_it_waits_for_what_is_on_its_way() {
        // A file that is read when somebody else writes.
        let (near, mut far) = UnixStream::pair().unwrap();
        let disk = Arc::new(Disk::of_file(File::from(OwnedFd::from(near))));
        let mut driver = Driver::new(8);
        let mut engine = Engine::new(disk, driver.memory.clone(), 8);
        if engine.event().is_none() {
            eprintln!("no io_uring here: skipped");
            return;
        }
        driver.chain(&[(0x8000, 512, true)]);
        let chain = driver.ring(false).pop().unwrap().unwrap();
        let range = Range {
            offset: 0,
            length: 512,
        };
        engine.start(0, Action::Read, range, chain.writable);
        engine.submit().unwrap();
        assert!(engine.ended().is_empty());
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            far.write_all(&[7; 512]).unwrap();
            far
        });
        drop(engine);
        assert_eq!(driver.read(0x8000, 512), [7; 512]);
        writer.join().unwrap();
    }
}
