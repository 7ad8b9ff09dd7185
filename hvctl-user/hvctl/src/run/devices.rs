// SPDX-License-Identifier: GPL-2.0
//! Opens what the guest's devices need of us.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use vmm::device::virtio::balloon::{Account, Balloon};
use vmm::device::virtio::block::Block;
use vmm::device::virtio::block::disk::{Disk, Options};
use vmm::device::virtio::console::{Console, Port};
use vmm::device::virtio::entropy::Entropy;
use vmm::device::virtio::net::tap::{Attachment, Tap};
use vmm::device::virtio::net::{Mac, Net};
use vmm::device::virtio::socket::Socket;
use vmm::vm::Attached;

use super::{console, image, interface, share};
use crate::args::{self, devices as keys};

pub struct Open {
    /// In the order of their kinds.
    pub devices: Vec<Attached>,
    /// Processes that have to last as long as the devices.
    pub servers: Vec<image::Server>,
}

/// The devices that the command line asks for.
pub fn open(args: &args::Run, balloon: Option<Arc<Account>>) -> Result<Open> {
    let mut devices = Vec::new();
    let mut servers = Vec::new();
    for (index, wanted) in args.disk.iter().enumerate() {
        devices.push(disk(index, wanted, &mut servers)?);
    }
    for wanted in &args.net {
        devices.push(net(wanted)?);
    }
    for wanted in &args.share {
        devices.push(share::open(wanted)?);
    }
    if let Some(wanted) = &args.vsock {
        let cid = wanted.cid;
        devices.push(Attached {
            name: "vsock".into(),
            make: Box::new(move |host| Ok(Box::new(Socket::new(&host.memory, cid)?))),
        });
    }
    if args.rng {
        devices.push(Attached {
            name: "rng".into(),
            make: Box::new(|_| Ok(Box::new(Entropy::default()))),
        });
    }
    if let Some(account) = balloon {
        devices.push(Attached {
            name: "balloon".into(),
            make: Box::new(|host| Ok(Box::new(Balloon::new(account, host)))),
        });
    }
    if let Some(wanted) = &args.virtio_console {
        devices.push(second_console(wanted)?);
    }
    Ok(Open { devices, servers })
}

fn disk(index: usize, wanted: &keys::Disk, servers: &mut Vec<image::Server>) -> Result<Attached> {
    let mut options = Options {
        readonly: wanted.readonly,
        direct: wanted.direct,
        raw: wanted.format.is_some(),
    };
    let file = match wanted.format {
        Some(keys::Format::Qcow2) => {
            let (server, shown) = image::show(wanted)?;
            servers.push(server);
            // Whether past the page cache is the server's business.
            options.direct = false;
            Disk::open(&shown.path, &options)?
        }
        _ => Disk::open(&wanted.path, &options)?,
    };
    let device = Block::new(file, &wanted.serial, wanted.queues);
    Ok(Attached {
        name: format!("disk {index} ({})", wanted.path.display()),
        make: Box::new(|_| Ok(Box::new(device))),
    })
}

fn net(wanted: &keys::Net) -> Result<Attached> {
    let taps = Tap::open(&wanted.attachment, wanted.queues)?;
    let mac = match (&wanted.mac, &wanted.attachment) {
        (Some(mac), _) => *mac,
        (None, Attachment::Macvtap(name)) => interface::mac(name)?,
        (None, _) => random_mac(),
    };
    // Whoever made it may switch it on later.
    for name in interface::down(taps[0].name()) {
        tracing::warn!(
            "network interface {name} is down, and no frame passes: 'ip link set {name} up' \
             changes that"
        );
    }
    Ok(Attached {
        name: format!("net {}", taps[0].name()),
        make: Box::new(move |host| Ok(Box::new(Net::new(&host.memory, taps, mac)?))),
    })
}

/// An address that nobody assigned (the second bit) to one interface.
fn random_mac() -> Mac {
    // Its keys are random, anew in each process.
    let random = RandomState::new().build_hasher().finish().to_le_bytes();
    let [first, rest @ .., _, _] = random;
    let [a, b, c, d, e] = rest;
    [first & 0xfc | 2, a, b, c, d, e]
}

fn second_console(wanted: &args::Console) -> Result<Attached> {
    let console = console::open(wanted)?;
    let port = Port {
        input: console.input.map(|input| Arc::new(input.into_file())),
        output: Arc::new(Mutex::new(console.out)),
    };
    Ok(Attached {
        name: "virtio console".into(),
        make: Box::new(|_| Ok(Box::new(Console::new(port)))),
    })
}
