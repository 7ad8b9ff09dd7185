// SPDX-License-Identifier: GPL-2.0
//! Disks in qcow2 images: QEMU's storage daemon shows what is in one as a file (by FUSE), which
//! is then a disk like any other.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, mkdtemp};
use vmm::device::virtio::block::disk::QCOW2_MAGIC;

use crate::args::devices::Disk;

const PROGRAM: &str = "qemu-storage-daemon";
/// It has to be ready within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon. Dropped, it writes what it has not, and ends; so it does when we are killed.
pub struct Server {
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        // The image is free for the next run when this returns.
        let _ = self.child.wait();
    }
}

/// A file with what is in the image, for as long as it is open or this exists.
pub struct Shown {
    pub path: PathBuf,
    directory: PathBuf,
}

impl Drop for Shown {
    fn drop(&mut self) {
        // Whoever has the file open keeps it; its name is gone.
        if umount2(&self.path, MntFlags::MNT_DETACH).is_err() {
            let _ = Command::new("fusermount3")
                .args(["-u", "-z", "-q"])
                .arg(&self.path)
                .status();
        }
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Shows the image that the option names.
pub fn show(wanted: &Disk) -> Result<(Server, Shown)> {
    let image = wanted.path.display();
    check(wanted).with_context(|| format!("cannot use {image} as a disk"))?;
    let directory = mkdtemp(&temporary().join("hvctl-XXXXXX"))
        .with_context(|| format!("cannot make a directory in {}", temporary().display()))?;
    let shown = Shown {
        path: directory.join("disk"),
        directory,
    };
    File::create(&shown.path).with_context(|| format!("cannot make {}", shown.path.display()))?;
    let mut server = start(wanted, &shown.path)?;
    let began = Instant::now();
    while !is_mounted(&shown)? {
        if server.child.try_wait()?.is_some() {
            let mut said = String::new();
            if let Some(mut pipe) = server.child.stderr.take() {
                pipe.read_to_string(&mut said)?;
            }
            bail!("cannot use {image} as a disk: {}", said.trim());
        }
        if began.elapsed() > PATIENCE {
            bail!("cannot use {image} as a disk: {PROGRAM} does not begin");
        }
        thread::sleep(Duration::from_millis(20));
    }
    // What it says in the end, that its file is gone already, is nobody's business.
    server.child.stderr = None;
    Ok((server, shown))
}

fn temporary() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| "/tmp".into(), PathBuf::from)
}

fn is_mounted(shown: &Shown) -> io::Result<bool> {
    Ok(fs::metadata(&shown.path)?.dev() != fs::metadata(&shown.directory)?.dev())
}

/// That it is an image, and names no other file unless the user allows that: one from
/// elsewhere may name any file of the root's.
fn check(wanted: &Disk) -> Result<()> {
    /// Where the header says that there is a file below this one; not 0.
    const BACKING: std::ops::Range<usize> = 8..16;
    /// Of version 3: where it says that the data are elsewhere, by a bit.
    const FEATURES: std::ops::Range<usize> = 72..80;
    const EXTERNAL_DATA: u64 = 1 << 2;

    let mut header = [0; 80];
    let file = File::open(&wanted.path)?;
    // A short one of version 2 has no more than zeros after its end.
    let length = file.read_at(&mut header, 0)?;
    if length < BACKING.end || !header.starts_with(&QCOW2_MAGIC) {
        bail!("it is no qcow2 image");
    }
    let number = |range: std::ops::Range<usize>| {
        header[range]
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte))
    };
    let others = number(BACKING) != 0 || number(4..8) > 2 && number(FEATURES) & EXTERNAL_DATA != 0;
    if others && !wanted.backing {
        bail!("it is built on another file: say 'backing' to have that read too");
    }
    Ok(())
}

fn start(wanted: &Disk, shown: &Path) -> Result<Server> {
    // A comma in a value is doubled.
    let escaped = |path: &Path| -> Result<String> {
        let text = path.to_str();
        let text = text.ok_or_else(|| anyhow!("{} is not UTF-8", path.display()))?;
        Ok(text.replace(',', ",,"))
    };
    let switch = |on| if on { "on" } else { "off" };
    let file = format!(
        "driver=file,node-name=file,filename={},cache.direct={},read-only={},discard=unmap",
        escaped(&fs::canonicalize(&wanted.path)?)?,
        switch(wanted.direct),
        switch(wanted.readonly),
    );
    let image = format!(
        "driver=qcow2,node-name=image,file=file,read-only={},discard=unmap",
        switch(wanted.readonly),
    );
    let export = format!(
        "type=fuse,id=disk,node-name=image,mountpoint={},writable={},allow-other=off",
        escaped(shown)?,
        switch(!wanted.readonly),
    );
    let mut command = Command::new(PROGRAM);
    command
        .args(["--blockdev", &file, "--blockdev", &image])
        .args(["--export", &export])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    // SAFETY: between fork and exec this makes a system call and nothing else.
    unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?)) };
    // Ctrl-C at the terminal is for us, who then end it.
    command.process_group(0);
    let child = command.spawn().map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => {
            anyhow!("qcow2 images need {PROGRAM}: install QEMU's tools (Debian: qemu-utils)")
        }
        _ => anyhow!("cannot start {PROGRAM}: {cause}"),
    })?;
    Ok(Server { child })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::devices;

    fn checked(header: &[u8], option: &str) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, header).unwrap();
        let text = format!("path={},format=qcow2{option}", file.path().display());
        check(&devices::disk(&text).unwrap()).map_err(|cause| cause.to_string())
    }

    #[test]
    fn an_image_names_other_files_only_if_the_user_says_so() {
        let mut header = [0; 104];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        checked(&header, "").unwrap();
        let plain = header;
        header[15] = 1;
        let error = checked(&header, "").unwrap_err();
        assert!(error.contains("'backing'"), "{error}");
        checked(&header, ",backing").unwrap();
        let mut header = plain;
        header[79] = 4;
        assert!(checked(&header, "").is_err());
        checked(&header, ",backing").unwrap();
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for header in [&b""[..], b"QFI\xfb", &[0; 104]] {
            let error = checked(header, "").unwrap_err();
            assert!(error.contains("no qcow2"), "{error}");
        }
    }
}
