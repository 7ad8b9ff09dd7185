// SPDX-License-Identifier: GPL-2.0
//! Who has a partition's files open: its maker may have ended, and have given them to others.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use procfs::process::{self, FDTarget, Process};
use serde::Serialize;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    pub process: i32,
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.process)
    }
}

/// The processes that have files of partitions open, by the number of the partition; only what may
/// be seen.
pub fn all() -> BTreeMap<u64, Vec<Holder>> {
    let mut holders: BTreeMap<u64, Vec<Holder>> = BTreeMap::new();
    for process in process::all_processes().into_iter().flatten().flatten() {
        let mut held: Vec<u64> = partitions_of(&process);
        held.sort_unstable();
        held.dedup();
        if held.is_empty() {
            continue;
        }
        let holder = Holder {
            process: process.pid(),
            name: process.stat().map_or_else(|_| "?".into(), |stat| stat.comm),
        };
        for partition in held {
            holders.entry(partition).or_default().push(holder.clone());
        }
    }
    holders
}

fn partitions_of(process: &Process) -> Vec<u64> {
    let files = process.fd().into_iter().flatten().flatten();
    files
        .filter(
            |file| matches!(&file.target, FDTarget::AnonInode(kind) if kind.starts_with("mshv_")),
        )
        .filter_map(|file| {
            let path = format!("/proc/{}/fdinfo/{}", process.pid(), file.fd);
            number(&fs::read_to_string(path).ok()?)
        })
        .collect()
}

/// The number of the partition that a file of hvmod tells in `fdinfo`.
fn number(fdinfo: &str) -> Option<u64> {
    let rest = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("partition:"))?;
    rest.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_whose_it_is() {
        let told = "pos:\t0\nflags:\t0100002\nmnt_id:\t15\nino:\t9\npartition:\t12\n";
        assert_eq!(number(told), Some(12));
        assert_eq!(number("pos:\t0\n"), None);
        assert_eq!(number("partition:\tx\n"), None);
    }
}
