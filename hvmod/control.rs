// SPDX-License-Identifier: GPL-2.0

//! hvmod's own calls on its device: `include/uapi/linux/hvmod.h`.

use crate::{
    core_log::Records,
    hvabi::ABI_VERSION,
    hypercall,
    loader::Core,
    lps, mshv, requirements,
    sys::uapi::{
        Caps, DiscardMemory, Info, LpInfo, PartitionInfo, PrivateMemory, ReadLog, Record, VpInfo,
    },
};
use core::mem::size_of;
use kernel::{
    ioctl::{_IOC_SIZE, _IOR, _IOW, _IOWR},
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};

/// `HVMOD_IOCTL`.
pub(crate) const TYPE: u32 = 0xbb;

const GET_CAPS: u32 = _IOR::<Caps>(TYPE, 0);
const GET_INFO: u32 = _IOR::<Info>(TYPE, 1);
const GET_LP_INFO: u32 = _IOWR::<LpInfo>(TYPE, 2);
const GET_PARTITION_INFO: u32 = _IOWR::<PartitionInfo>(TYPE, 3);
const READ_LOG: u32 = _IOWR::<ReadLog>(TYPE, 4);
const GET_VP_INFO: u32 = _IOWR::<VpInfo>(TYPE, 5);

/// `HVMOD_CAP_INFO`.
const CAP_INFO: u64 = 1 << 0;
/// `HVMOD_CAP_LOG`.
const CAP_LOG: u64 = 1 << 1;
/// `HVMOD_CAP_CHILDREN`.
const CAP_CHILDREN: u64 = 1 << 2;
/// `HVMOD_CAP_VP_INFO`.
const CAP_VP_INFO: u64 = 1 << 3;
/// `HVMOD_CAP_PRIVATE`.
const CAP_PRIVATE: u64 = 1 << 8;
/// `HVMOD_CAP_DISCARD`.
const CAP_DISCARD: u64 = 1 << 9;

/// `HVMOD_SET_PRIVATE_MEMORY`, a call on a partition.
pub(crate) const SET_PRIVATE_MEMORY: u32 = _IOW::<PrivateMemory>(TYPE, 0x20);
/// `HVMOD_DISCARD_MEMORY`, another.
pub(crate) const DISCARD_MEMORY: u32 = _IOW::<DiscardMemory>(TYPE, 0x21);

/// A call of [`TYPE`].
pub(crate) fn ioctl(core: &Core, cmd: u32, arg: usize) -> Result<isize> {
    let user = || UserSlice::new(UserPtr::from_addr(arg), _IOC_SIZE(cmd));
    match cmd {
        GET_CAPS => user().writer().write(&caps())?,
        GET_INFO => user().writer().write(&info(core))?,
        GET_LP_INFO => {
            let (mut reader, mut writer) = user().reader_writer();
            writer.write(&lp_info(core, reader.read()?)?)?;
        }
        GET_PARTITION_INFO => {
            let (mut reader, mut writer) = user().reader_writer();
            writer.write(&partition_info(reader.read()?)?)?;
        }
        GET_VP_INFO => {
            let (mut reader, mut writer) = user().reader_writer();
            writer.write(&vp_info(reader.read()?)?)?;
        }
        READ_LOG => {
            let (mut reader, mut writer) = user().reader_writer();
            writer.write(&read_log(core, reader.read()?)?)?;
        }
        _ => return Err(ENOTTY),
    }
    Ok(0)
}

fn caps() -> Caps {
    let children = if requirements::children() {
        CAP_CHILDREN
    } else {
        0
    };
    Caps {
        caps: CAP_INFO | CAP_LOG | CAP_VP_INFO | CAP_PRIVATE | CAP_DISCARD | children,
        reserved: [0; 3],
    }
}

fn info(core: &Core) -> Info {
    // If hvcore died, now is the time to notice.
    hypercall::report();
    let (core_spa, core_size) = core.place();
    let measures = core.measures();
    let active = |&lp: &u32| core.lp_stats(lp).is_some_and(|stats| stats.active != 0);
    Info {
        abi: ABI_VERSION,
        lps: (0..lps::count()).filter(active).count() as u32,
        partitions: mshv::partition_count(),
        dead: u32::from(!hypercall::core_alive()),
        core_bytes: core.bytes() + hypercall::core_deposited_bytes(),
        core_text: core.text_bytes(),
        deposited_bytes: hypercall::all_deposited_bytes().saturating_sub(mshv::private_bytes()),
        shared_bytes: mshv::shared_bytes(),
        tsc_khz: hypercall::tsc_khz(),
        core_spa,
        core_size,
        private_bytes: mshv::private_bytes(),
        measures: measures.taken as u32,
        measures_lacking: measures.lacking as u32,
        reserved: [0; 3],
    }
}

fn lp_info(core: &Core, wanted: LpInfo) -> Result<LpInfo> {
    if wanted.reserved != [0; 2] {
        return Err(EINVAL);
    }
    let cpu = lps::cpu_of(wanted.index).ok_or(ENOENT)?;
    let stats = core.lp_stats(wanted.index).ok_or(ENOENT)?;
    Ok(LpInfo {
        index: wanted.index,
        cpu,
        apic_id: stats.apic_id as u32,
        active: stats.active as u32,
        root_exits: stats.root_exits,
        child_exits: stats.child_exits,
        child_runs: stats.child_runs,
        nmis: stats.nmis,
        hypercalls: stats.hypercalls,
        denied: stats.denied,
        denied_rip: stats.denied_rip,
        hidden_reads: stats.hidden_reads,
        reserved: [0; 2],
    })
}

fn partition_info(wanted: PartitionInfo) -> Result<PartitionInfo> {
    if wanted.reserved != [0; 3] {
        return Err(EINVAL);
    }
    mshv::partition_info(wanted.id).ok_or(ENOENT)
}

fn vp_info(wanted: VpInfo) -> Result<VpInfo> {
    if wanted.reserved != [0; 4] {
        return Err(EINVAL);
    }
    mshv::vp_info(wanted.partition, wanted.index).ok_or(ENOENT)
}

fn read_log(core: &Core, wanted: ReadLog) -> Result<ReadLog> {
    if wanted.reserved != 0 {
        return Err(EINVAL);
    }
    let size = (wanted.count as usize)
        .checked_mul(size_of::<Record>())
        .ok_or(EINVAL)?;
    let address = UserPtr::from_addr(usize::try_from(wanted.records)?);
    let mut writer = UserSlice::new(address, size).writer();
    let mut records = Records::new(core, wanted.seq);
    let mut count = 0;
    while count < wanted.count {
        let Some(record) = records.next() else {
            break;
        };
        writer.write(&Record(record))?;
        count += 1;
    }
    Ok(ReadLog {
        seq: records.next,
        records: wanted.records,
        count,
        reserved: 0,
        lost: records.lost,
    })
}
