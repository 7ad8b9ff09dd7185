// SPDX-License-Identifier: GPL-2.0
//! Starts what serves a folder of the root's to the guest: virtiofsd, which has a sandbox of
//! its own and ends when we do.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
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

/// A socket that listens, with one connection waiting. It is in no file system, and its name is one
/// that nobody else can guess; but all can read it once it is there.
fn pair() -> io::Result<(UnixListener, UnixStream)> {
    let random = || RandomState::new().build_hasher().finish();
    let name = format!("hvctl-share-{:016x}{:016x}", random(), random());
    let address = UnixAddr::new_abstract(name.as_bytes())?;
    let (listener, stream) = (new_socket()?, new_socket()?);
    bind(listener.as_raw_fd(), &address)?;
    // No more than one can wait: where somebody else does, this fails, and when it has not, nobody
    // else comes in before virtiofsd has taken this one, which is all that it takes.
    listen(&listener, Backlog::new(0)?)?;
    connect(stream.as_raw_fd(), &address)?;
    let (listener, stream) = (UnixListener::from(listener), UnixStream::from(stream));
    listener.set_nonblocking(false)?;
    stream.set_nonblocking(false)?;
    Ok((listener, stream))
}

/// A socket that does not wait.
fn new_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use nix::sys::socket::getsockname;

    use super::*;

    #[test]
    fn nobody_else_comes_in() {
        let (listener, _stream) = pair().unwrap();
        let address: UnixAddr = getsockname(listener.as_raw_fd()).unwrap();
        let other = new_socket().unwrap();
        assert_eq!(
            connect(other.as_raw_fd(), &address),
            Err(Errno::EAGAIN),
            "another connection waits"
        );
    }
}
