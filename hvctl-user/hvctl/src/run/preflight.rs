// SPDX-License-Identifier: GPL-2.0
//! What can be seen to be wrong before anything is built.

use anyhow::{Context, Result, bail};
use procfs::{Current, Meminfo};
use vmm::boot::{self, Payload};

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

#[cfg(test)]
mod tests {
    use super::*;

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
