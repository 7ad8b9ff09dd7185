// SPDX-License-Identifier: GPL-2.0
//! Logical processors.

use std::fmt;

use hvmod_ioctls::{LpInfo, Signature};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use super::exits::{Exits, exits};

/// What CPUID says on an LP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// In the root partition, by this index.
    Root(u32),
    /// Not in the root partition.
    Outside,
    /// The processor cannot be asked: Linux has it offline.
    Offline,
}

#[derive(Debug, Serialize)]
pub struct Lp {
    index: u32,
    cpu: u32,
    apic_id: u32,
    active: bool,
    cpuid: Answer,
    child_runs: u64,
    nmis: u64,
    hypercalls: u64,
    denied: u64,
    denied_rip: u64,
    hidden_reads: u64,
    root_exits: Vec<Exits>,
    child_exits: Vec<Exits>,
}

impl Lp {
    /// What the device says of an LP, and what CPUID says there.
    pub fn new(lp: &LpInfo, cpuid: Answer) -> Self {
        Self {
            index: lp.index,
            cpu: lp.cpu,
            apic_id: lp.apic_id,
            active: lp.active != 0,
            cpuid,
            child_runs: lp.child_runs,
            nmis: lp.nmis,
            hypercalls: lp.hypercalls,
            denied: lp.denied,
            denied_rip: lp.denied_rip,
            hidden_reads: lp.hidden_reads,
            root_exits: exits([&lp.root_exits]),
            child_exits: exits([&lp.child_exits]),
        }
    }

    /// Whether the two agree.
    pub fn agrees(&self) -> bool {
        match self.cpuid {
            Answer::Root(index) => self.active && index == self.index,
            Answer::Outside => !self.active,
            Answer::Offline => true,
        }
    }
}

impl fmt::Display for Lp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpuid = match self.cpuid {
            Answer::Root(index) => format!("CPUID says root partition, LP {index}"),
            Answer::Outside => "CPUID says not in the root partition".into(),
            Answer::Offline => "offline in Linux, CPUID not asked".into(),
        };
        let state = if self.active {
            "in the root partition"
        } else {
            "not in VMX operation"
        };
        writeln!(
            f,
            "  LP {} (CPU {}, APIC ID {}): {state}; {cpuid}; {} child runs, {} hypercalls, \
             {} NMIs, hidden memory: {} writes refused, {} reads of zeros",
            self.index,
            self.cpu,
            self.apic_id,
            self.child_runs,
            self.hypercalls,
            self.nmis,
            self.denied,
            self.hidden_reads
        )?;
        if self.denied != 0 {
            writeln!(
                f,
                "    the last write refused was at {:#x}",
                self.denied_rip
            )?;
        }
        Ok(())
    }
}

/// Asks CPUID on the given processor, by running there.
pub fn ask(cpu: u32) -> Answer {
    let here = Pid::from_raw(0);
    let Ok(before) = sched_getaffinity(here) else {
        return Answer::Offline;
    };
    let mut set = CpuSet::new();
    if set.set(cpu as usize).is_err() || sched_setaffinity(here, &set).is_err() {
        return Answer::Offline;
    }
    let answer = match hvmod_ioctls::signature_here() {
        Signature::Root => Answer::Root(hvmod_ioctls::lp_here()),
        Signature::Other => Answer::Outside,
    };
    if let Err(cause) = sched_setaffinity(here, &before) {
        tracing::warn!("the affinity of hvctl could not be restored: {cause}");
    }
    answer
}
