// SPDX-License-Identifier: GPL-2.0
//! Starts what serves a folder of the root's to the guest: virtiofsd, which has a sandbox of
//! its own and ends when we do.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use vmm::device::virtio::fs::FileSystem;
use vmm::vm::Attached;

use crate::args::devices::Share;

/// Where distributions put it, none of which is in PATH.
const PROGRAMS: [&str; 3] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
];

pub fn open(wanted: &Share) -> Result<Attached> {
    let dir = wanted.dir.display();
    let metadata = wanted.dir.metadata();
    if !metadata
        .with_context(|| format!("cannot share {dir}"))?
        .is_dir()
    {
        return Err(anyhow!("cannot share {dir}: it is no directory"));
    }
    let stream = start(wanted).with_context(|| format!("cannot share {dir}"))?;
    let tag = wanted.tag.clone();
    Ok(Attached {
        name: format!("share {tag} ({dir})"),
        make: Box::new(move |host| Ok(Box::new(FileSystem::new(&host.memory, stream, &tag)?))),
    })
}

/// The connection to a new virtiofsd. It ends when the connection does.
fn start(wanted: &Share) -> Result<UnixStream> {
    let found = PROGRAMS.iter().find(|program| Path::new(program).exists());
    let program = found.context("there is no virtiofsd: install the package of that name")?;
    let (listener, stream) = pair().context("cannot make a socket")?;
    let mut command = Command::new(program);
    command
        // The socket is its standard input.
        .arg("--fd=0")
        .arg("--shared-dir")
        .arg(&wanted.dir)
        .args(["--log-level", "warn"])
        .stdin(Stdio::from(OwnedFd::from(listener)));
    if wanted.readonly {
        command.arg("--readonly");
    }
    command
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    Ok(stream)
}

/// A socket that listens, with one connection waiting. It has a name that nobody else can guess,
/// and is in no file system.
fn pair() -> io::Result<(UnixListener, UnixStream)> {
    let random = || RandomState::new().build_hasher().finish();
    let name = format!("hvctl-share-{:016x}{:016x}", random(), random());
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let stream = UnixStream::connect_addr(&address)?;
    Ok((listener, stream))
}
