// SPDX-License-Identifier: GPL-2.0
//! What can be seen to be wrong before anything is built.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use procfs::process::{LimitValue, Process};
use procfs::{Current, Meminfo};
use vmm::boot::{self, Payload};
use vmm::device::pci::{BusFull, MAX_FUNCTIONS};
use vmm::device::virtio::net::tap::Attachment;

use crate::args;

/// The files are there, and the kernel is one.
pub fn files(payload: &Payload) -> Result<()> {
    boot::kind(&payload.kernel)?;
    if let Some(initrd) = &payload.initrd {
        let metadata = std::fs::metadata(initrd)
            .with_context(|| format!("cannot read the initrd {}", initrd.display()))?;
        if !metadata.is_file() {
            bail!("the initrd {} is not a file", initrd.display());
        }
    }
    Ok(())
}

/// The devices fit together, and into the machine.
pub fn devices(args: &args::Run) -> Result<()> {
    let single = [
        args.vsock.is_some(),
        args.rng,
        args.balloon,
        args.virtio_console.is_some(),
    ];
    let count = args.disk.len()
        + args.net.len()
        + args.share.len()
        + single.iter().filter(|there| **there).count();
    if count > MAX_FUNCTIONS {
        return Err(BusFull(count).into());
    }
    if args.private && count != 0 {
        bail!(
            "--private keeps the guest's memory from every device too: a private guest has its \
             console, clock and power control, but no disk, network or other virtio device. \
             Leave out one or the other"
        );
    }
    let mut tags = HashSet::new();
    if let Some(twice) = args.share.iter().find(|share| !tags.insert(&share.tag)) {
        bail!(
            "two shares have the tag {}, by which a guest knows them: give each its own",
            twice.tag
        );
    }
    let mut names = HashSet::new();
    for net in &args.net {
        // Of a bridge each has a tap of its own.
        let (Attachment::Tap(name) | Attachment::Macvtap(name)) = &net.attachment else {
            continue;
        };
        if !names.insert(name) {
            bail!("two interfaces are to have the root's {name}: give each its own");
        }
    }
    if let Some(args::Console::File(path)) = &args.virtio_console {
        if args.console == args::Console::File(path.clone()) {
            bail!(
                "both consoles are to go to {}: give each its own file",
                path.display()
            );
        }
    }
    Ok(())
}

/// What Linux keeps for itself: guest memory cannot be swapped, so to give the last of it would
/// have some program killed.
const KEPT: u64 = 64 << 20;

/// The machine has that much to give.
pub fn memory(wanted: u64) -> Result<()> {
    // Where the kernel does not say, it will when the memory is used.
    let Ok(meminfo) = Meminfo::current() else {
        return Ok(());
    };
    let Some(available) = meminfo.mem_available else {
        return Ok(());
    };
    // Lists and tables of its pages take up to 16 bytes for each.
    let needed = wanted.saturating_add(wanted / 256).saturating_add(KEPT);
    if needed > available {
        bail!(
            "{} MiB of guest memory are more than this machine can give: it has {} MiB available, \
             of which Linux keeps {}. Use a smaller --memory, or free some",
            wanted >> 20,
            available >> 20,
            KEPT >> 20
        );
    }
    Ok(())
}

/// This user may lock that much: the kernel counts a guest's memory so, but for whoever has
/// CAP_IPC_LOCK.
pub fn locked_memory(wanted: u64) -> Result<()> {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let Ok(process) = Process::myself() else {
        return Ok(());
    };
    let (Ok(status), Ok(limits)) = (process.status(), process.limits()) else {
        return Ok(());
    };
    match limits.max_locked_memory.soft_limit {
        LimitValue::Value(limit) if limit < wanted && status.capeff & CAP_IPC_LOCK == 0 => bail!(
            "a guest's memory is locked, and of that this user may have {} KiB: too little for {} \
             MiB. Allow more ('ulimit -l', LimitMEMLOCK= of systemd, memlock in \
             /etc/security/limits.conf), or use a smaller --memory",
            limit >> 10,
            wanted >> 20
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn looked_at(arguments: &[&str]) -> Result<(), String> {
        let all = ["hvctl", "run", "--kernel", "k"].iter().chain(arguments);
        match args::Args::try_parse_from(all).unwrap().command {
            args::Command::Run(run) => devices(&run).map_err(|cause| cause.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn devices_that_do_not_fit_together_are_refused() {
        for (arguments, words) in [
            (
                &["--share=dir=/a,tag=x", "--share=dir=/b,tag=x"][..],
                "tag x",
            ),
            (&["--net=tap=t", "--net=tap=t"], "root's t"),
            (&["--net=macvtap=m", "--net=macvtap=m"], "root's m"),
            (&["--console=file:c", "--virtio-console=file:c"], "both"),
            (&["--private", "--rng"], "--private"),
            (&["--private", "--disk=path=d"], "--private"),
        ] {
            let error = looked_at(arguments).unwrap_err();
            assert!(error.contains(words), "{arguments:?}: {error}");
        }
        for arguments in [
            &["--share=dir=/a,tag=x", "--share=dir=/a,tag=y"][..],
            &["--net=bridge=b", "--net=bridge=b", "--net=tap=b"],
            &["--console=null", "--virtio-console=null"],
            &["--private"],
        ] {
            looked_at(arguments).unwrap();
        }
    }

    #[test]
    fn there_is_room_for_31_devices() {
        let disks = vec!["--disk=path=d"; MAX_FUNCTIONS - 1];
        looked_at(&[&disks[..], &["--rng"]].concat()).unwrap();
        let error = looked_at(&[&disks[..], &["--rng", "--balloon"]].concat()).unwrap_err();
        assert!(error.contains("32 devices are more than the 31"), "{error}");
    }

    #[test]
    fn more_memory_than_there_is_is_refused() {
        let error = memory(1 << 60).unwrap_err();
        assert!(error.to_string().contains("--memory"), "{error}");
        memory(1 << 20).unwrap();
    }

    #[test]
    fn files_are_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = directory.path().join("kernel");
        std::fs::write(&kernel, b"\x7fELF").unwrap();
        let payload = |initrd| Payload {
            kernel: kernel.clone(),
            initrd,
            command_line: None,
        };
        files(&payload(None)).unwrap();
        assert!(files(&payload(Some("/nonexistent".into()))).is_err());
        assert!(files(&payload(Some(directory.path().into()))).is_err());
        std::fs::write(&kernel, b"#!/bin/sh\n").unwrap();
        assert!(
            files(&payload(None))
                .unwrap_err()
                .to_string()
                .contains("not a kernel")
        );
    }
}
