// SPDX-License-Identifier: GPL-2.0
//! Options of `hvctl run` that add a device: a list of `key=value`, and words that stand
//! for `key=true`.

use std::path::PathBuf;

use macaddr::MacAddr6;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_keyvalue::from_key_values;
use vmm::device::virtio::fs::TAG_SIZE;
use vmm::device::virtio::net::Mac;
use vmm::device::virtio::net::tap::Attachment;
use vmm::device::virtio::socket::CID;

/// A disk: `--disk path=FILE,format=FORMAT,backing,readonly,direct,serial=TEXT,queues=N`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    pub path: PathBuf,
    pub format: Option<Format>,
    #[serde(default)]
    pub backing: bool,
    #[serde(default)]
    pub readonly: bool,
    #[serde(default)]
    pub direct: bool,
    #[serde(default)]
    pub serial: String,
    #[serde(default = "one")]
    pub queues: u16,
}

/// What the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Raw,
    Qcow2,
}

fn one() -> u16 {
    1
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    from_key_values(text).map_err(|cause| match text.contains(['\'', '"']) {
        true => cause.to_string(),
        false => format!("{cause} (a value with a comma in it wants quotes: key='a,b')"),
    })
}

/// More would be of no use: a guest has no more processors.
const MAX_QUEUES: u16 = 64;

pub fn disk(text: &str) -> Result<Disk, String> {
    let disk: Disk = parse(text)?;
    if disk.path.as_os_str().is_empty() {
        return Err("path is empty".into());
    }
    if disk.serial.len() > 20 || !disk.serial.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a serial number is at most 20 letters, digits and signs".into());
    }
    if !(1..=MAX_QUEUES).contains(&disk.queues) {
        return Err(format!("queues is from 1 to {MAX_QUEUES}"));
    }
    if disk.backing && disk.format != Some(Format::Qcow2) {
        return Err("backing goes with format=qcow2".into());
    }
    Ok(disk)
}

/// A folder of the root's: `--share dir=PATH,tag=NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub dir: PathBuf,
    pub tag: String,
    #[serde(default)]
    pub readonly: bool,
}

pub fn share(text: &str) -> Result<Share, String> {
    let share: Share = parse(text)?;
    if share.dir.as_os_str().is_empty() {
        return Err("dir is empty".into());
    }
    if !(1..=TAG_SIZE).contains(&share.tag.len()) {
        return Err(format!("tag is from 1 to {TAG_SIZE} bytes long"));
    }
    Ok(share)
}

/// A network interface: `--net tap=NAME|bridge=NAME|macvtap=NAME,mac=ADDRESS,queues=N`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetKeys {
    tap: Option<String>,
    bridge: Option<String>,
    macvtap: Option<String>,
    mac: Option<String>,
    #[serde(default = "one")]
    queues: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    pub attachment: Attachment,
    pub mac: Option<Mac>,
    pub queues: u16,
}

pub fn net(text: &str) -> Result<Net, String> {
    let keys: NetKeys = parse(text)?;
    let attachment = match (keys.tap, keys.bridge, keys.macvtap) {
        (Some(name), None, None) => Attachment::Tap(name),
        (None, Some(name), None) => Attachment::Bridge(name),
        (None, None, Some(name)) => Attachment::Macvtap(name),
        _ => return Err("it needs one of tap=, bridge= and macvtap=".into()),
    };
    if !(1..=MAX_QUEUES).contains(&keys.queues) {
        return Err(format!("queues is from 1 to {MAX_QUEUES}"));
    }
    Ok(Net {
        attachment,
        mac: keys.mac.as_deref().map(mac).transpose()?,
        queues: keys.queues,
    })
}

fn mac(text: &str) -> Result<Mac, String> {
    let address: MacAddr6 = text
        .parse()
        .map_err(|_| format!("{text} is no MAC address, such as 52:54:00:12:34:56"))?;
    if address.is_multicast() || address.is_nil() {
        return Err(format!("{text} is not the address of one interface"));
    }
    Ok(address.into_array())
}

/// Sockets between root and guest: `--vsock cid=N`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    pub cid: u32,
}

pub fn vsock(text: &str) -> Result<Vsock, String> {
    let vsock: Vsock = parse(text)?;
    if !CID.contains(&vsock.cid) {
        return Err(format!(
            "cid is from {} to {}; those below are the hypervisor's and the root's",
            CID.start(),
            CID.end()
        ));
    }
    Ok(vsock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks() {
        let plain = Disk {
            path: "/dev/sda".into(),
            format: None,
            backing: false,
            readonly: false,
            direct: false,
            serial: String::new(),
            queues: 1,
        };
        assert_eq!(disk("path=/dev/sda").unwrap(), plain);
        assert_eq!(disk("/dev/sda").unwrap(), plain);
        let all =
            disk("path=a b,format=qcow2,backing,readonly,direct,serial=x-1,queues=4").unwrap();
        let wanted = Disk {
            path: "a b".into(),
            format: Some(Format::Qcow2),
            backing: true,
            readonly: true,
            direct: true,
            serial: "x-1".into(),
            queues: 4,
        };
        assert_eq!(all, wanted);
        assert!(!disk("path=a,readonly=false").unwrap().readonly);
        for text in [
            "path='a,b=c',direct",
            "path=\"a,b=c\",direct",
            "'a,b=c',direct",
        ] {
            assert_eq!(disk(text).unwrap().path, PathBuf::from("a,b=c"), "{text}");
        }
        for (text, word) in [
            ("", "path"),
            ("readonly", "path"),
            ("path=", "string"),
            ("path=a,wet", "wet"),
            ("path=a,b", "'a,b'"),
            ("path=a,queues=0", "queues"),
            ("path=a,queues=65", "queues"),
            ("path=a,queues=many", "number"),
            ("path=a,serial=123456789012345678901", "serial"),
            ("path=a,path=b", "path"),
            ("path=a,format=vhd", "vhd"),
            ("path=a,backing", "qcow2"),
        ] {
            let error = disk(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn interfaces() {
        let given = net("tap=tap0,mac=52:54:00:12:34:56,queues=2").unwrap();
        let wanted = Net {
            attachment: Attachment::Tap("tap0".into()),
            mac: Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            queues: 2,
        };
        assert_eq!(given, wanted);
        assert_eq!(
            net("bridge=br0").unwrap().attachment,
            Attachment::Bridge("br0".into())
        );
        assert_eq!(
            net("macvtap=m0").unwrap().attachment,
            Attachment::Macvtap("m0".into())
        );
        for (text, word) in [
            ("", "one of"),
            ("tap=a,bridge=b", "one of"),
            ("tap=a,mac=1:2", "MAC"),
            ("tap=a,mac=01:00:5e:00:00:01", "one interface"),
            ("tap=a,mac=00:00:00:00:00:00", "one interface"),
            ("tap=a,queues=0", "queues"),
            ("tap=a,speed=1", "speed"),
        ] {
            let error = net(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn shares() {
        let given = share("dir=/srv/x y,tag=files").unwrap();
        let wanted = Share {
            dir: "/srv/x y".into(),
            tag: "files".into(),
            readonly: false,
        };
        assert_eq!(given, wanted);
        assert!(share("dir=/srv,tag=a,readonly").unwrap().readonly);
        let long = format!("dir=/srv,tag={}", "x".repeat(37));
        for (text, word) in [
            ("", "dir"),
            ("dir=/srv", "tag"),
            ("tag=a", "dir"),
            ("dir=/srv,tag=", "string"),
            (long.as_str(), "36"),
            ("dir=/srv,tag=a,cache=b", "cache"),
        ] {
            let error = share(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn context_ids() {
        assert_eq!(vsock("cid=3").unwrap().cid, 3);
        for text in ["cid=2", "cid=4294967295", "cid=-1", "cid=x", ""] {
            assert!(vsock(text).is_err(), "{text}");
        }
    }
}
