// SPDX-License-Identifier: GPL-2.0
//! Disks (virtio 1.2, section 5.2).

pub mod disk;
pub mod engine;
pub mod request;

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use virtio_bindings::virtio_blk as bindings;
use virtio_bindings::virtio_blk::VIRTIO_BLK_F_FLUSH;
use zerocopy::{Immutable, IntoBytes};

use super::ring::{Broken, Ring};
use super::worker::{Serve, Worker};
use super::{Activation, ActiveQueue, COMMON_FEATURES, Health, Kind, VirtioDevice};
use crate::device::bytes;
use disk::{Disk, SECTOR};
use engine::{Action, Engine};
use request::{Operation, Range, Request, SERIAL_SIZE, Status};

const QUEUE_SIZE: u16 = 256;
/// Of a request: the queue's, less header and status.
const MAX_SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// Sectors of one discard or write-zeroes: 1 GiB.
const MAX_TRIM: u32 = 1 << 21;

/// struct virtio_blk_config, as far as we use it.
#[repr(C, packed)]
#[derive(Default, IntoBytes, Immutable)]
struct Config {
    capacity: u64,
    size_max: u32,
    seg_max: u32,
    geometry: u32,
    blk_size: u32,
    physical_block_exponent: u8,
    topology: [u8; 7],
    writeback: u8,
    unused: u8,
    num_queues: u16,
    max_discard_sectors: u32,
    max_discard_seg: u32,
    discard_sector_alignment: u32,
    max_write_zeroes_sectors: u32,
    max_write_zeroes_seg: u32,
    write_zeroes_may_unmap: u8,
    unused1: [u8; 3],
}

/// A disk of the guest.
pub struct Block {
    disk: Arc<Disk>,
    serial: [u8; SERIAL_SIZE],
    queues: u16,
    workers: Vec<Worker>,
}

impl Block {
    /// The serial number is cut to the 20 bytes that there are for it.
    pub fn new(disk: Disk, serial: &str, queues: u16) -> Self {
        let mut id = [0; SERIAL_SIZE];
        bytes::write(&mut id, 0, serial.as_bytes());
        Self {
            disk: Arc::new(disk),
            serial: id,
            queues,
            workers: Vec::new(),
        }
    }
}

impl Block {
    /// What serves a queue; `sync`: each write is safe before it is answered.
    pub(super) fn server(&self, queue: ActiveQueue, sync: bool, health: Arc<Health>) -> Server {
        let ActiveQueue { ring, kick } = queue;
        Server {
            engine: Engine::new(self.disk.clone(), ring.memory().clone(), ring.size()),
            requests: (0..ring.size()).map(|_| None).collect(),
            ring,
            kick,
            disk: self.disk.clone(),
            serial: self.serial,
            sync,
            health,
        }
    }
}

impl VirtioDevice for Block {
    fn kind(&self) -> Kind {
        Kind::Block
    }

    fn features(&self) -> u64 {
        let mut features = COMMON_FEATURES
            | 1 << bindings::VIRTIO_BLK_F_SEG_MAX
            | 1 << bindings::VIRTIO_BLK_F_BLK_SIZE
            | 1 << bindings::VIRTIO_BLK_F_TOPOLOGY
            | 1 << VIRTIO_BLK_F_FLUSH
            | 1 << bindings::VIRTIO_BLK_F_MQ;
        features |= if self.disk.readonly() {
            1 << bindings::VIRTIO_BLK_F_RO
        } else {
            1 << bindings::VIRTIO_BLK_F_DISCARD | 1 << bindings::VIRTIO_BLK_F_WRITE_ZEROES
        };
        features
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; self.queues.into()]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = Config {
            capacity: self.disk.size() / SECTOR,
            seg_max: MAX_SEGMENTS,
            blk_size: self.disk.block_size(),
            physical_block_exponent: self.disk.physical_block_exponent(),
            num_queues: self.queues,
            max_discard_sectors: MAX_TRIM,
            max_discard_seg: 1,
            discard_sector_alignment: self.disk.block_size() / SECTOR as u32,
            max_write_zeroes_sectors: MAX_TRIM,
            max_write_zeroes_seg: 1,
            write_zeroes_may_unmap: 1,
            ..Config::default()
        };
        bytes::read(config.as_bytes(), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        // Without flushes the driver takes each write for safe when it has ended.
        let sync = !activation.has(VIRTIO_BLK_F_FLUSH);
        for queue in activation.queues.into_iter().flatten() {
            let name = format!("disk-queue{}", queue.ring.index());
            let health = activation.health.clone();
            let server = self.server(queue, sync, health.clone());
            self.workers.push(Worker::spawn(&name, health, server)?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.clear();
    }
}

/// Serves one queue.
pub(super) struct Server {
    // Before the ring: what it drops is waited for while all else is there.
    engine: Engine,
    ring: Ring,
    kick: Arc<vmm_sys_util::eventfd::EventFd>,
    disk: Arc<Disk>,
    serial: [u8; SERIAL_SIZE],
    sync: bool,
    requests: Vec<Option<Request>>,
    health: Arc<Health>,
}

/// Numbers of its sources.
const KICK: usize = 0;

impl Server {
    /// Takes what there is and there is room for, but no more than a queue full.
    fn take(&mut self) -> Result<(), Broken> {
        self.ring.disable_doorbell()?;
        let mut taken = 0;
        let mut answered = false;
        let more = loop {
            if taken == self.ring.size() || !self.engine.has_room() {
                break true;
            }
            let Some(chain) = self.ring.pop()? else {
                if self.ring.enable_doorbell()? {
                    self.ring.disable_doorbell()?;
                    continue;
                }
                break false;
            };
            taken += 1;
            let request = Request::parse(self.ring.memory(), &self.disk, chain)?;
            answered |= self.begin(request)?;
        };
        self.submit()?;
        answered |= self.finish_ended()?;
        if answered {
            self.ring.notify()?;
        }
        // Without room, the end of a request brings us back here.
        if more && self.engine.has_room() {
            let _ = self.kick.write(1);
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), Broken> {
        let submitted = self.engine.submit();
        submitted.map_err(|cause| Broken::Backend(format!("io_uring: {cause}")))
    }

    /// Starts a request, or answers it at once and returns true.
    fn begin(&mut self, request: Request) -> Result<bool, Broken> {
        let whole = Range {
            offset: 0,
            length: 0,
        };
        let status = match &request.operation {
            Operation::Read(range, buffers) => {
                let (range, buffers) = (*range, buffers.clone());
                return self.fly(request, Action::Read, range, buffers);
            }
            Operation::Write(range, buffers) => {
                let (range, buffers) = (*range, buffers.clone());
                let action = Action::Write { sync: self.sync };
                return self.fly(request, action, range, buffers);
            }
            Operation::Flush => {
                return self.fly(request, Action::Flush, whole, Default::default());
            }
            Operation::Identify(buffers) => {
                buffers.write(self.ring.memory(), &self.serial);
                Status::Ok
            }
            Operation::Discard(range) => self.status(self.disk.discard(range.offset, range.length)),
            Operation::WriteZeroes(range, unmap) => {
                let done = self.disk.write_zeroes(range.offset, range.length, *unmap);
                self.status(done)
            }
            Operation::Refuse(status) => *status,
        };
        let written = request.answer(self.ring.memory(), status);
        self.ring.complete(request.head, written)?;
        Ok(true)
    }

    fn fly(
        &mut self,
        request: Request,
        action: Action,
        range: Range,
        buffers: super::ring::Buffers,
    ) -> Result<bool, Broken> {
        let free = self.requests.iter().position(Option::is_none);
        let Some(tag) = free else {
            unreachable!("the engine has room, and so have we");
        };
        self.requests[tag] = Some(request);
        self.engine.start(tag as u16, action, range, buffers);
        Ok(false)
    }

    /// Answers what has ended; whether anything had.
    fn finish_ended(&mut self) -> Result<bool, Broken> {
        let ended = self.engine.ended();
        let any = !ended.is_empty();
        for (tag, result) in ended {
            let Some(request) = self.requests[usize::from(tag)].take() else {
                continue;
            };
            let status = self.status(result);
            let written = request.answer(self.ring.memory(), status);
            self.ring.complete(request.head, written)?;
        }
        Ok(any)
    }

    fn status(&self, result: io::Result<()>) -> Status {
        match result {
            Ok(()) => Status::Ok,
            Err(cause) if cause.raw_os_error() == Some(libc::EOPNOTSUPP) => Status::Unsupported,
            Err(cause) => {
                self.health
                    .complain(&format_args!("an I/O error for the guest: {cause}"));
                Status::Error
            }
        }
    }
}

impl Serve for Server {
    fn sources(&self) -> Vec<RawFd> {
        let mut sources = vec![self.kick.as_raw_fd()];
        sources.extend(self.engine.event());
        sources
    }

    fn ready(&mut self, source: usize) -> Result<(), Broken> {
        if source == KICK {
            self.ring.rung(&self.kick);
            return self.take();
        }
        let full = !self.engine.has_room();
        if self.finish_ended()? {
            self.ring.notify()?;
        }
        if full { self.take() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
