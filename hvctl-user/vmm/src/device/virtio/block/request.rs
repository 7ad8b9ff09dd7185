// SPDX-License-Identifier: GPL-2.0
//! What a driver asks of a disk (virtio 1.2, section 5.2.6).

use virtio_bindings::virtio_blk as bindings;
use vm_memory::ByteValued;

use super::disk::{Disk, SECTOR};
use crate::device::virtio::ring::{Broken, Buffers, Chain};
use crate::memory::GuestMemory;

/// How a request ended, as the driver reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok = bindings::VIRTIO_BLK_S_OK as isize,
    Error = bindings::VIRTIO_BLK_S_IOERR as isize,
    Unsupported = bindings::VIRTIO_BLK_S_UNSUPP as isize,
}

pub const SERIAL_SIZE: usize = bindings::VIRTIO_BLK_ID_BYTES as usize;

/// struct virtio_blk_outhdr.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

// SAFETY: integers without padding.
unsafe impl ByteValued for Header {}

/// struct virtio_blk_discard_write_zeroes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Segment {
    sector: u64,
    sectors: u32,
    flags: u32,
}

// SAFETY: integers without padding.
unsafe impl ByteValued for Segment {}

/// A range of the disk. Having one proves that it is in the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub offset: u64,
    pub length: u64,
}

impl Range {
    fn new(disk: &Disk, sector: u64, length: u64) -> Option<Self> {
        let offset = sector.checked_mul(SECTOR)?;
        let end = offset.checked_add(length)?;
        (length % SECTOR == 0 && end <= disk.size()).then_some(Self { offset, length })
    }
}

#[derive(Debug)]
pub enum Operation {
    Read(Range, Buffers),
    Write(Range, Buffers),
    Flush,
    Identify(Buffers),
    Discard(Range),
    WriteZeroes(Range, bool),
    /// It is answered with no work to do.
    Refuse(Status),
}

#[derive(Debug)]
pub struct Request {
    pub head: u16,
    pub operation: Operation,
    /// One byte.
    status: Buffers,
}

impl Request {
    /// Understands a chain. What is wrong with a request alone is answered by its status.
    pub fn parse(memory: &GuestMemory, disk: &Disk, chain: Chain) -> Result<Self, Broken> {
        let Chain {
            head,
            mut readable,
            mut writable,
        } = chain;
        let mut header = Header::default();
        readable
            .split_front(size_of::<Header>())
            .ok_or(Broken::Short("its header"))?
            .read(memory, header.as_mut_slice());
        let status = writable
            .split_back(1)
            .ok_or(Broken::Short("a byte for its status"))?;
        Ok(Self {
            head,
            operation: operation(memory, disk, header, readable, writable),
            status,
        })
    }

    /// Writes the status; returns how many bytes the device wrote in all.
    pub fn answer(&self, memory: &GuestMemory, status: Status) -> u32 {
        self.status.write(memory, &[status as u8]);
        let data = match &self.operation {
            Operation::Read(_, buffers) | Operation::Identify(buffers) if status == Status::Ok => {
                buffers.len()
            }
            _ => 0,
        };
        // The chain is shorter than 4 GiB, as virtio-queue sees to.
        data as u32 + 1
    }
}

fn operation(
    memory: &GuestMemory,
    disk: &Disk,
    header: Header,
    readable: Buffers,
    writable: Buffers,
) -> Operation {
    let refuse_writing = match u32::from_le(header.kind) {
        bindings::VIRTIO_BLK_T_OUT
        | bindings::VIRTIO_BLK_T_DISCARD
        | bindings::VIRTIO_BLK_T_WRITE_ZEROES => disk.readonly(),
        _ => false,
    };
    if refuse_writing {
        return Operation::Refuse(Status::Error);
    }
    let sector = u64::from_le(header.sector);
    let range = |length| Range::new(disk, sector, length);
    match u32::from_le(header.kind) {
        bindings::VIRTIO_BLK_T_IN => match range(writable.len() as u64) {
            Some(range) => Operation::Read(range, writable),
            None => Operation::Refuse(Status::Error),
        },
        bindings::VIRTIO_BLK_T_OUT => match range(readable.len() as u64) {
            Some(range) => Operation::Write(range, readable),
            None => Operation::Refuse(Status::Error),
        },
        bindings::VIRTIO_BLK_T_FLUSH => Operation::Flush,
        bindings::VIRTIO_BLK_T_GET_ID => Operation::Identify(writable),
        kind @ (bindings::VIRTIO_BLK_T_DISCARD | bindings::VIRTIO_BLK_T_WRITE_ZEROES) => {
            trim(memory, disk, kind, &readable)
        }
        _ => Operation::Refuse(Status::Unsupported),
    }
}

/// Discard or write zeroes: of one range, as our configuration allows.
fn trim(memory: &GuestMemory, disk: &Disk, kind: u32, readable: &Buffers) -> Operation {
    const UNMAP: u32 = bindings::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    if readable.len() != size_of::<Segment>() {
        return Operation::Refuse(Status::Error);
    }
    let mut segment = Segment::default();
    readable.read(memory, segment.as_mut_slice());
    let flags = u32::from_le(segment.flags);
    let discard = kind == bindings::VIRTIO_BLK_T_DISCARD;
    if flags & !UNMAP != 0 || discard && flags != 0 {
        return Operation::Refuse(Status::Unsupported);
    }
    let length = u64::from(u32::from_le(segment.sectors)) * SECTOR;
    match Range::new(disk, u64::from_le(segment.sector), length) {
        // The file system refuses to do nothing.
        Some(Range { length: 0, .. }) => Operation::Refuse(Status::Ok),
        Some(range) if discard => Operation::Discard(range),
        Some(range) => Operation::WriteZeroes(range, flags & UNMAP != 0),
        None => Operation::Refuse(Status::Error),
    }
}
