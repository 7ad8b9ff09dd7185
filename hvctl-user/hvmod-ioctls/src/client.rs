// SPDX-License-Identifier: GPL-2.0
//! Asking hvmod.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use crate::abi::{
    Caps, DiscardMemory, Info, LogRecord, LpInfo, PartitionInfo, PrivateMemory, ReadLog, VpInfo,
    call,
};

/// An open /dev/hvmod.
#[derive(Debug)]
pub struct Client {
    device: File,
}

/// What a read of the log brought.
#[derive(Debug, Default)]
pub struct Records {
    pub records: Vec<LogRecord>,
    /// The number to go on from.
    pub next: u64,
    /// Records that were overwritten before they could be read.
    pub lost: u64,
}

/// `None` where the call says that there is no such thing (any more).
fn or_end<T>(result: nix::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(nix::errno::Errno::ENOENT) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// Gives a partition, whose descriptor `partition` is, memory that only it can reach.
///
/// # Safety
///
/// If `memory.image` is not 0, `memory.size` bytes there are readable.
pub unsafe fn set_private_memory(
    partition: BorrowedFd<'_>,
    memory: &PrivateMemory,
) -> io::Result<()> {
    // SAFETY: the call reads one `PrivateMemory`, and what the caller vouches for.
    unsafe { call::set_private_memory(partition.as_raw_fd(), memory) }?;
    Ok(())
}

/// Has the guest of a partition, whose descriptor `partition` is, do without memory.
pub fn discard_memory(partition: BorrowedFd<'_>, memory: &DiscardMemory) -> io::Result<()> {
    // SAFETY: the call reads one `DiscardMemory`; no memory of ours changes by it.
    unsafe { call::discard_memory(partition.as_raw_fd(), memory) }?;
    Ok(())
}

impl Client {
    pub const DEVICE: &str = "/dev/hvmod";

    pub fn open() -> io::Result<Self> {
        Self::open_at(Self::DEVICE)
    }

    pub fn open_at(path: impl AsRef<Path>) -> io::Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { device })
    }

    pub fn caps(&self) -> io::Result<Caps> {
        let mut caps = Caps::default();
        // SAFETY: the call writes one `Caps`, which is plain data.
        unsafe { call::get_caps(self.device.as_raw_fd(), &mut caps) }?;
        Ok(caps)
    }

    pub fn info(&self) -> io::Result<Info> {
        let mut info = Info::default();
        // SAFETY: the call writes one `Info`, which is plain data.
        unsafe { call::get_info(self.device.as_raw_fd(), &mut info) }?;
        Ok(info)
    }

    /// The LP of that index, if there is one.
    pub fn lp(&self, index: u32) -> io::Result<Option<LpInfo>> {
        let mut lp = LpInfo {
            index,
            ..Default::default()
        };
        // SAFETY: the call reads and writes one `LpInfo`, which is plain data.
        let result = unsafe { call::get_lp_info(self.device.as_raw_fd(), &mut lp) };
        Ok(or_end(result)?.map(|_| lp))
    }

    pub fn lps(&self) -> io::Result<Vec<LpInfo>> {
        let mut lps = Vec::new();
        while let Some(lp) = self.lp(lps.len() as u32)? {
            lps.push(lp);
        }
        Ok(lps)
    }

    pub fn partitions(&self) -> io::Result<Vec<PartitionInfo>> {
        let mut partitions: Vec<PartitionInfo> = Vec::new();
        loop {
            let id = partitions
                .last()
                .map_or(0, |last| last.id.saturating_add(1));
            let mut partition = PartitionInfo {
                id,
                ..Default::default()
            };
            let file = self.device.as_raw_fd();
            // SAFETY: the call reads and writes one `PartitionInfo`, which is plain data.
            let result = unsafe { call::get_partition_info(file, &mut partition) };
            // A kernel that does not move on must not keep us here.
            if or_end(result)?.is_none() || partition.id < id {
                return Ok(partitions);
            }
            partitions.push(partition);
        }
    }

    /// The VPs of a partition; none if that is gone.
    pub fn vps(&self, partition: u64) -> io::Result<Vec<VpInfo>> {
        let mut vps: Vec<VpInfo> = Vec::new();
        loop {
            let index = vps.last().map_or(0, |last| last.index.saturating_add(1));
            let mut vp = VpInfo {
                partition,
                index,
                ..Default::default()
            };
            // SAFETY: the call reads and writes one `VpInfo`, which is plain data.
            let result = unsafe { call::get_vp_info(self.device.as_raw_fd(), &mut vp) };
            // A kernel that does not move on must not keep us here.
            if or_end(result)?.is_none() || vp.index < index {
                return Ok(vps);
            }
            vps.push(vp);
        }
    }

    /// Log records from number `seq` on, as many as fit in one call.
    pub fn log(&self, seq: u64) -> io::Result<Records> {
        let mut records = vec![LogRecord::default(); 64];
        let mut call = ReadLog {
            seq,
            records: records.as_mut_ptr() as u64,
            count: records.len() as u32,
            ..Default::default()
        };
        // SAFETY: the call reads and writes one `ReadLog`, and writes at most `count`
        // records to the array, which lives until after it. All of it is plain data.
        unsafe { call::read_log(self.device.as_raw_fd(), &mut call) }?;
        records.truncate(call.count as usize);
        Ok(Records {
            records,
            next: call.seq,
            lost: call.lost,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_device_refuses_every_call() {
        let client = Client::open_at("/dev/null").unwrap();
        assert!(client.caps().is_err());
        assert!(client.info().is_err());
        assert!(client.lps().is_err());
        assert!(client.partitions().is_err());
        assert!(client.vps(1).is_err());
        assert!(client.log(0).is_err());
    }
}
