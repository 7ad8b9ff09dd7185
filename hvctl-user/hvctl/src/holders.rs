// SPDX-License-Identifier: GPL-2.0
//! Who has a partition's files open or mapped: its maker may have ended, and have given them to others.

use std::collections::BTreeMap;
use std::fmt;

use procfs::process::{self, FDTarget, MMapPath, Process};
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

/// The processes that have files of partitions open or mapped, by the number of the partition; only
/// what may be seen.
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
    let files = files.filter_map(|file| match file.target {
        FDTarget::AnonInode(name) => number(&name),
        _ => None,
    });
    let maps = process.maps().into_iter().flatten();
    let maps = maps.filter_map(|map| match map.pathname {
        MMapPath::Path(path) => number(path.to_str()?.strip_prefix("anon_inode:")?),
        _ => None,
    });
    files.chain(maps).collect()
}

/// The number of the partition that a file of that name is of.
fn number(name: &str) -> Option<u64> {
    let (kind, number) = name.rsplit_once('-')?;
    kind.starts_with("mshv_").then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        assert_eq!(number("mshv_vp-12"), Some(12));
        assert_eq!(number("mshv_partition-3"), Some(3));
        assert_eq!(number("mshv_vp"), None);
        assert_eq!(number("mshv_vp-x"), None);
        assert_eq!(number("[eventpoll]"), None);
        assert_eq!(number("other-1"), None);
    }
}
