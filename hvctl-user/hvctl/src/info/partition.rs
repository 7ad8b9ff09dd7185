// SPDX-License-Identifier: GPL-2.0
//! Child partitions and their VPs.

use std::fmt;

use hvmod_ioctls::{PartitionInfo, VpInfo, vp_state};
use serde::Serialize;

use super::exits::{Exits, exits, list};
use super::size;
use crate::holders::Holder;

/// What a VP does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Doing {
    Stopped,
    /// On this CPU.
    Running(u32),
    Ready,
    Halted,
    WaitsForSipi,
}

impl From<&VpInfo> for Doing {
    fn from(vp: &VpInfo) -> Self {
        match vp.state {
            vp_state::RUNNING => Self::Running(vp.cpu),
            vp_state::READY => Self::Ready,
            vp_state::HALTED => Self::Halted,
            vp_state::WAITS_FOR_SIPI => Self::WaitsForSipi,
            _ => Self::Stopped,
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("with its program"),
            Self::Running(cpu) => write!(f, "runs on CPU {cpu}"),
            Self::Ready => f.write_str("ready to run"),
            Self::Halted => f.write_str("halted"),
            Self::WaitsForSipi => f.write_str("waits to be started"),
        }
    }
}

#[derive(Debug, Serialize)]
struct Vp {
    index: u32,
    state: Doing,
    thread: i32,
    handled: u64,
    injected: u64,
    exits: Vec<Exits>,
}

impl From<&VpInfo> for Vp {
    fn from(vp: &VpInfo) -> Self {
        Self {
            index: vp.index,
            state: vp.into(),
            thread: vp.thread,
            handled: vp.handled,
            injected: vp.injected,
            exits: exits([&vp.exits]),
        }
    }
}

impl fmt::Display for Vp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thread = match self.thread {
            0 => String::new(),
            thread => format!(" (thread {thread})"),
        };
        let exits: u64 = self.exits.iter().map(|exit| exit.count).sum();
        writeln!(
            f,
            "  VP {}{thread}: {}; {exits} exits, {} of them seen by the root, {} interrupts",
            self.index,
            self.state,
            exits.saturating_sub(self.handled),
            self.injected
        )
    }
}

#[derive(Debug, Serialize)]
pub struct Partition {
    id: u64,
    owner: i32,
    name: String,
    /// Who has it, if its owner is not to be seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<Holder>,
    vps: u32,
    virtual_processors: Vec<Vp>,
    shared_bytes: u64,
    private_bytes: u64,
    deposited_bytes: u64,
    exits: Vec<Exits>,
}

impl Partition {
    /// What the device says of a partition and its VPs, and who holds it.
    pub fn new(partition: &PartitionInfo, vps: &[VpInfo], holders: Vec<Holder>) -> Self {
        Self {
            id: partition.id,
            owner: partition.owner,
            name: partition.name(),
            holders,
            vps: partition.vps,
            virtual_processors: vps.iter().map(Vp::from).collect(),
            shared_bytes: partition.shared_bytes,
            private_bytes: partition.private_bytes,
            deposited_bytes: partition.deposited_bytes,
            exits: exits([&partition.exits]),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = match self.owner {
            0 if self.holders.is_empty() => "an owner not visible here".into(),
            0 => {
                let holders: Vec<_> = self.holders.iter().map(Holder::to_string).collect();
                format!(
                    "made by {}, which is gone, held by {}",
                    self.name,
                    holders.join(", ")
                )
            }
            owner => format!("{} (process {owner})", self.name),
        };
        writeln!(
            f,
            "partition {}: {owner}, {} VPs, {} of memory shared, {} private, {} deposited",
            self.id,
            self.vps,
            size(self.shared_bytes),
            size(self.private_bytes),
            size(self.deposited_bytes)
        )?;
        for vp in &self.virtual_processors {
            write!(f, "{vp}")?;
        }
        list(f, "  its exits", &self.exits)
    }
}
