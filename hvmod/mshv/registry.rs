// SPDX-License-Identifier: GPL-2.0

//! Which partitions exist, for those who ask about them.

use super::vp::Vp;
use crate::{
    hypercall::{self, PartitionId},
    sys::{
        partitions::{self, PARTITIONS},
        uapi::{PartitionInfo, VpInfo},
    },
};
use kernel::{
    prelude::*,
    sync::{aref::ARef, Arc},
    task::Task,
};

/// A partition.
pub(crate) struct Entry {
    id: PartitionId,
    /// They may outlive the partition, of which they then say that it is gone.
    vps: KVec<Arc<Vp>>,
    shared_bytes: u64,
    private_bytes: u64,
    creator: ARef<Task>,
    comm: [u8; 16],
}

/// Notes that the current thread made partition `id`.
pub(super) fn add(id: PartitionId) -> Result {
    let entry = Entry {
        id,
        vps: KVec::new(),
        shared_bytes: 0,
        private_bytes: 0,
        creator: ARef::from(&**kernel::current!()),
        comm: partitions::current_comm(),
    };
    Ok(PARTITIONS.lock().push(entry, GFP_KERNEL)?)
}

/// Notes that partition `id` is no more.
pub(super) fn remove(id: PartitionId) {
    let mut list = PARTITIONS.lock();
    let entry = list
        .iter()
        .position(|entry| entry.id == id)
        .and_then(|index| list.remove(index).ok());
    drop(list);
    // Not under the lock: this can be the end of VPs.
    drop(entry);
}

/// Makes room for one more VP of partition `id`.
pub(super) fn reserve_vp(id: PartitionId) -> Result {
    match PARTITIONS.lock().iter_mut().find(|entry| entry.id == id) {
        Some(entry) => Ok(entry.vps.reserve(1, GFP_KERNEL)?),
        None => Err(ENOENT),
    }
}

/// Notes a VP of partition `id`, for which there is room.
pub(super) fn add_vp(id: PartitionId, vp: Arc<Vp>) {
    if let Some(entry) = PARTITIONS.lock().iter_mut().find(|entry| entry.id == id) {
        let _ = entry.vps.push_within_capacity(vp);
    }
}

/// Notes how much memory is mapped into partition `id`.
pub(super) fn set_shared_bytes(id: PartitionId, bytes: u64) {
    if let Some(entry) = PARTITIONS.lock().iter_mut().find(|entry| entry.id == id) {
        entry.shared_bytes = bytes;
    }
}

/// Wakes every VP that sleeps, to find out what happened.
pub(crate) fn wake_all() {
    for vp in PARTITIONS.lock().iter().flat_map(|entry| entry.vps.iter()) {
        vp.notify();
    }
}

/// Notes that partition `id` has so much more private memory.
pub(super) fn add_private_bytes(id: PartitionId, bytes: u64) {
    if let Some(entry) = PARTITIONS.lock().iter_mut().find(|entry| entry.id == id) {
        entry.private_bytes += bytes;
    }
}

/// Bytes that partitions have for themselves.
pub(crate) fn private_bytes() -> u64 {
    PARTITIONS
        .lock()
        .iter()
        .map(|entry| entry.private_bytes)
        .sum()
}

/// Number of partitions.
pub(crate) fn partition_count() -> u32 {
    PARTITIONS.lock().len() as u32
}

/// Bytes of root memory that partitions have mapped.
pub(crate) fn shared_bytes() -> u64 {
    PARTITIONS
        .lock()
        .iter()
        .map(|entry| entry.shared_bytes)
        .sum()
}

/// The partition with the least number that is at least `min_id`.
pub(crate) fn partition_info(min_id: u64) -> Option<PartitionInfo> {
    let list = PARTITIONS.lock();
    let entry = list
        .iter()
        .filter(|entry| entry.id.number() >= min_id)
        .min_by_key(|entry| entry.id.number())?;
    let mut info = PartitionInfo {
        id: entry.id.number(),
        vps: entry.vps.len() as u32,
        owner: partitions::visible_pid(&entry.creator),
        comm: entry.comm,
        shared_bytes: entry.shared_bytes,
        deposited_bytes: hypercall::deposited_bytes(entry.id).saturating_sub(entry.private_bytes),
        exits: [0; crate::hvabi::stats::EXIT_REASONS],
        private_bytes: entry.private_bytes,
        reserved: [0; 3],
    };
    let mut vps = KVec::with_capacity(entry.vps.len(), GFP_KERNEL).ok()?;
    for vp in entry.vps.iter() {
        vps.push_within_capacity(vp.clone()).ok()?;
    }
    drop(list);
    for vp in vps {
        vp.add_exits(&mut info.exits);
    }
    Some(info)
}

/// The VP of that partition with the least index that is at least `min_index`.
pub(crate) fn vp_info(partition: u64, min_index: u32) -> Option<VpInfo> {
    let list = PARTITIONS.lock();
    let vp = list
        .iter()
        .find(|entry| entry.id.number() == partition)?
        .vps
        .iter()
        .filter(|vp| vp.index() >= min_index)
        .min_by_key(|vp| vp.index())?
        .clone();
    drop(list);
    Some(vp.info())
}
