// SPDX-License-Identifier: GPL-2.0
//! How one hvctl speaks to another that has a run: a socket without a file, which is gone
//! when its process is, and one line of JSON each way.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{UnixCredentials, getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use vmm::device::virtio::counters::Figures;

/// What to do with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Press the power button.
    PowerButton,
    /// End it.
    End,
    /// Ask the guest to do without so many pages; `None`: ask nothing new.
    Balloon(Option<u32>),
    /// Say what the devices counted.
    Devices,
}

/// What came of it. The connection stays open for as long as the run goes on.
pub type Reply = std::result::Result<Answer, String>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answer {
    /// Pages that the guest does without, and those of them that the root has.
    pub balloon: u32,
    pub returned: u32,
    pub devices: Vec<Device>,
}

/// What a device counted, by number of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    pub queues: Vec<Figures>,
}

/// Connects to a run.
pub fn connect(name: &str) -> Result<UnixStream> {
    let run = UnixStream::connect_addr(&address(name)?).map_err(|cause| match cause.kind() {
        ErrorKind::ConnectionRefused => anyhow!(
            "there is no run of the name {name}: it is what 'hvctl run --name' said, or else \
             the process ID of that hvctl"
        ),
        _ => anyhow!("cannot reach the run {name}: {cause}"),
    })?;
    let holder = peer(&run)?;
    ensure!(
        is_trusted(&holder),
        "the name {name} is that of {}: if it is a run, ask it as that user",
        of(&holder)
    );
    Ok(run)
}

/// Who is at the other end.
pub fn peer(stream: &UnixStream) -> io::Result<UnixCredentials> {
    Ok(getsockopt(stream, PeerCredentials)?)
}

/// Any user can take any name, so that what is behind one is told what to do, and believed, only if
/// it is of this user, or root's.
pub fn is_trusted(peer: &UnixCredentials) -> bool {
    peer.uid() == 0 || peer.uid() == geteuid().as_raw()
}

fn of(peer: &UnixCredentials) -> String {
    format!("process {} of user {}", peer.pid(), peer.uid())
}

/// Takes a name.
pub fn listen(name: &str) -> Result<UnixListener> {
    UnixListener::bind_addr(&address(name)?).map_err(|cause| match cause.kind() {
        ErrorKind::AddrInUse => match connect(name) {
            // Or it has just ended.
            Ok(_) => anyhow!(
                "there is a run of the name {name} already: choose another --name, or end it with \
                 'hvctl stop {name}'"
            ),
            Err(cause) => anyhow!("{cause:#}; or choose another --name"),
        },
        _ => anyhow!("cannot take the name {name}: {cause}"),
    })
}

/// Asks one thing of a run.
pub fn ask(name: &str, request: Request) -> Result<Answer> {
    let mut run = connect(name)?;
    run.set_read_timeout(Some(Duration::from_secs(30)))?;
    send(&mut run, &request)?;
    let reply: Reply = receive(&run).context("the run does not answer")?;
    reply.map_err(|cause| anyhow!("the run {name} refuses: {cause}"))
}

/// The address of a run.
fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("hvctl/run/{name}"))
}

pub fn send(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(message)? + "\n";
    stream.write_all(line.as_bytes())
}

/// A line is not longer than this.
const MAX_LINE: u64 = 1 << 20;

pub fn receive<T: for<'a> Deserialize<'a>>(stream: &UnixStream) -> io::Result<T> {
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
