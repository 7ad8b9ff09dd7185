// SPDX-License-Identifier: GPL-2.0
//! `hvctl info`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};

use anyhow::{Context, Result, anyhow};
use hvmod_ioctls::{Client, Info, LpInfo, PartitionInfo, VpInfo};
use serde::Serialize;

use crate::holders::{self, Holder};
use crate::{args, status};
use exits::{Exits, exits, list};
use lp::Lp;
pub use lp::{Answer, ask};
use partition::Partition;

mod exits;
mod lp;
mod partition;

/// What to say when hvcore is no more.
pub const DEAD: &str = "hvcore died with all partitions; Linux runs on without it: see \
    'hvctl log', then 'rmmod hvmod', and load it again";

/// Opens hvmod's device, or says why that cannot be.
pub fn open() -> Result<Client> {
    Client::open().map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "{} does not exist: hvmod is not loaded. Load it with 'insmod hvmod.ko'; \
             'hvctl check' says whether this machine can run it",
            Client::DEVICE
        ),
        io::ErrorKind::PermissionDenied => anyhow!("cannot open {}: be root", Client::DEVICE),
        _ => anyhow::Error::new(cause).context(format!("cannot open {}", Client::DEVICE)),
    })
}

#[derive(Debug, Serialize)]
struct Report {
    abi: u32,
    /// hvcore died.
    dead: bool,
    core_spa: u64,
    core_size: u64,
    tsc_khz: u64,
    core_bytes: u64,
    core_text: u64,
    deposited_bytes: u64,
    shared_bytes: u64,
    private_bytes: u64,
    /// Against speculation, on a switch between partitions.
    measures: Vec<&'static str>,
    /// Those that the processor needs, and are not taken.
    measures_lacking: Vec<&'static str>,
    lps: Vec<Lp>,
    partitions: Vec<Partition>,
    root_exits: Vec<Exits>,
    child_exits: Vec<Exits>,
    /// Every LP that can be asked is in the root partition, as the device says.
    agreed: bool,
}

fn report(
    info: &Info,
    lps: &[LpInfo],
    partitions: &[(PartitionInfo, Vec<VpInfo>)],
    ask: impl Fn(u32) -> Answer,
    look: impl FnOnce() -> BTreeMap<u64, Vec<Holder>>,
) -> Report {
    let mut holders = if partitions.iter().any(|(partition, _)| partition.owner == 0) {
        look()
    } else {
        BTreeMap::new()
    };
    let root_exits = exits(lps.iter().map(|lp| &lp.root_exits));
    let child_exits = exits(lps.iter().map(|lp| &lp.child_exits));
    let lps: Vec<_> = lps.iter().map(|lp| Lp::new(lp, ask(lp.cpu))).collect();
    Report {
        abi: info.abi,
        dead: info.dead != 0,
        core_spa: info.core_spa,
        core_size: info.core_size,
        tsc_khz: info.tsc_khz,
        core_bytes: info.core_bytes,
        core_text: info.core_text,
        deposited_bytes: info.deposited_bytes,
        shared_bytes: info.shared_bytes,
        private_bytes: info.private_bytes,
        measures: hvmod_ioctls::measure_names(info.measures),
        measures_lacking: hvmod_ioctls::measure_names(info.measures_lacking),
        agreed: lps.len() == info.lps as usize && lps.iter().all(Lp::agrees),
        lps,
        partitions: partitions
            .iter()
            .map(|(partition, vps)| {
                let holders = match partition.owner {
                    0 => holders.remove(&partition.id).unwrap_or_default(),
                    _ => Vec::new(),
                };
                Partition::new(partition, vps, holders)
            })
            .collect(),
        root_exits,
        child_exits,
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".into(),
        bytes if bytes >= 10 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes.div_ceil(1 << 10)),
    }
}

impl Report {
    fn speculation(&self) -> String {
        let list = |names: &[&str]| match names {
            [] => "nothing".into(),
            names => names.join(", "),
        };
        let lacking = match self.measures_lacking.as_slice() {
            [] => String::new(),
            names => format!("; the processor needs {} too", list(names)),
        };
        format!(
            "speculation: a switch between partitions does {}{lacking}",
            list(&self.measures)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let khz = self.tsc_khz;
        writeln!(
            f,
            "hvmod: interface {}, TSC at {}.{:03} MHz",
            self.abi,
            khz / 1000,
            khz % 1000
        )?;
        if self.dead {
            writeln!(f, "{DEAD}")?;
        }
        writeln!(
            f,
            "hvcore: {} at {:#x}, hidden from Linux",
            size(self.core_size),
            self.core_spa
        )?;
        writeln!(
            f,
            "memory: {} for hvcore ({} of it code), {} deposited for children, {} shared with them, {} private to them",
            size(self.core_bytes),
            size(self.core_text),
            size(self.deposited_bytes),
            size(self.shared_bytes),
            size(self.private_bytes)
        )?;
        writeln!(f, "{}", self.speculation())?;
        writeln!(f, "logical processors:")?;
        for lp in &self.lps {
            write!(f, "{lp}")?;
        }
        if self.partitions.is_empty() {
            writeln!(f, "child partitions: none")?;
        }
        for partition in &self.partitions {
            write!(f, "{partition}")?;
        }
        list(f, "exits of the root partition", &self.root_exits)?;
        list(f, "exits of children", &self.child_exits)
    }
}

/// All partitions with their VPs.
fn partitions(client: &Client) -> io::Result<Vec<(PartitionInfo, Vec<VpInfo>)>> {
    let with_vps = |partition: PartitionInfo| Ok((partition, client.vps(partition.id)?));
    client.partitions()?.into_iter().map(with_vps).collect()
}

pub fn main(args: &args::Info) -> Result<u8> {
    let client = open()?;
    let report = report(
        &client.info().context("hvmod's information")?,
        &client.lps().context("hvmod's logical processors")?,
        &partitions(&client).context("hvmod's partitions")?,
        ask,
        holders::all,
    );
    let text = if args.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        report.to_string()
    };
    io::stdout().write_all(text.as_bytes())?;
    if report.agreed {
        return Ok(0);
    }
    eprintln!("hvctl: CPUID and the device disagree about the root partition");
    Ok(status::FAILED)
}

#[cfg(test)]
mod tests {
    use hvmod_ioctls::vp_state;

    use super::*;

    fn lp(index: u32) -> LpInfo {
        let mut lp = LpInfo {
            index,
            cpu: index,
            active: 1,
            ..Default::default()
        };
        lp.root_exits[10] = 7;
        lp.child_exits[48] = 3;
        lp.child_exits[77] = 1;
        lp
    }

    fn info() -> Info {
        Info {
            abi: 1,
            lps: 2,
            tsc_khz: 50_000,
            core_bytes: 3 << 20,
            ..Default::default()
        }
    }

    #[test]
    fn counters_are_summed_named_and_sorted() {
        let report = report(&info(), &[lp(0), lp(1)], &[], Answer::Root, BTreeMap::new);
        assert!(report.agreed);
        let text = report.to_string();
        assert!(text.contains("50.000 MHz"), "{text}");
        assert!(text.contains("14  CPUID (10)"), "{text}");
        assert!(text.find("EPT violation (48)").unwrap() < text.find("TDCALL (77)").unwrap());
        serde_json::to_string(&report).unwrap();
    }

    #[test]
    fn a_dead_hvcore_is_told_first() {
        let dead = Info { dead: 1, ..info() };
        let text = report(&dead, &[lp(0), lp(1)], &[], Answer::Root, BTreeMap::new).to_string();
        assert!(text.contains("hvcore died"), "{text}");
        let text = report(&info(), &[lp(0), lp(1)], &[], Answer::Root, BTreeMap::new).to_string();
        assert!(!text.contains("died"), "{text}");
    }

    #[test]
    fn measures_against_speculation_are_told() {
        let text = |measures, measures_lacking| {
            let info = Info {
                measures,
                measures_lacking,
                ..info()
            };
            let text = report(&info, &[lp(0), lp(1)], &[], Answer::Root, BTreeMap::new).to_string();
            let line = text.lines().find(|line| line.starts_with("speculation: "));
            line.unwrap().to_owned()
        };
        let begin = "speculation: a switch between partitions does";
        assert_eq!(text(0, 0), format!("{begin} nothing"));
        assert_eq!(
            text(0b0111, 0b1000),
            format!("{begin} IBPB, RSB filling, VERW; the processor needs L1D flush too")
        );
    }

    #[test]
    fn disagreement_is_seen() {
        let lps = [lp(0), lp(1)];
        assert!(!report(&info(), &lps, &[], |_| Answer::Outside, BTreeMap::new).agreed);
        assert!(!report(&info(), &lps, &[], |_| Answer::Root(0), BTreeMap::new).agreed);
        assert!(
            !report(&info(), &lps[..1], &[], Answer::Root, BTreeMap::new).agreed,
            "an LP is missing"
        );
        let half = |cpu| {
            if cpu == 0 {
                Answer::Root(0)
            } else {
                Answer::Offline
            }
        };
        assert!(report(&info(), &lps, &[], half, BTreeMap::new).agreed);
    }

    #[test]
    fn partitions_have_their_owner() {
        let mut partition = PartitionInfo {
            id: 3,
            vps: 3,
            owner: 42,
            ..Default::default()
        };
        partition.comm[..5].copy_from_slice(b"hvctl");
        let vp = |index, state| {
            let mut vp = VpInfo {
                index,
                state,
                cpu: 9,
                thread: 50 + index as i32,
                handled: 2,
                ..Default::default()
            };
            vp.exits[10] = 7;
            vp
        };
        let vps = vec![
            vp(0, vp_state::RUNNING),
            vp(1, vp_state::HALTED),
            vp(5, vp_state::WAITS_FOR_SIPI),
        ];
        let hold = || {
            let holder = Holder {
                process: 77,
                name: "cat".into(),
            };
            BTreeMap::from([(3, vec![holder])])
        };
        let gone = PartitionInfo {
            owner: 0,
            ..partition
        };
        let left = report(&info(), &[lp(0)], &[(gone, vec![])], Answer::Root, hold).to_string();
        let held = "partition 3: made by hvctl, which is gone, held by cat (process 77), 3 VPs";
        assert!(left.contains(held), "{left}");
        let report = report(
            &info(),
            &[lp(0), lp(1)],
            &[(partition, vps)],
            Answer::Root,
            hold,
        );
        let text = report.to_string();
        for line in [
            "partition 3: hvctl (process 42), 3 VPs",
            "VP 0 (thread 50): runs on CPU 9; 7 exits, 5 of them",
            "VP 1 (thread 51): halted;",
            "VP 5 (thread 55): waits to be started;",
        ] {
            assert!(text.contains(line), "{line}:\n{text}");
        }
        serde_json::to_string(&report).unwrap();
    }

    #[test]
    fn a_processor_that_is_not_there_is_offline() {
        assert_eq!(ask(1000), Answer::Offline);
        assert_ne!(ask(0), Answer::Offline);
    }
}
