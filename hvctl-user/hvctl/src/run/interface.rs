// SPDX-License-Identifier: GPL-2.0
//! What sysfs says of the root's network interfaces.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use macaddr::MacAddr6;
use nix::net::if_::InterfaceFlags;
use vmm::device::virtio::net::Mac;

const INTERFACES: &str = "/sys/class/net";

/// Its address.
pub fn mac(name: &str) -> Result<Mac> {
    let path = format!("{INTERFACES}/{name}/address");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let address: MacAddr6 = text.trim().parse().with_context(|| path)?;
    Ok(address.into_array())
}

/// Of the interface, the bridge that it is a port of, and what it lies on: those that are down, so
/// that no frame passes.
pub fn down(name: &str) -> Vec<String> {
    down_in(Path::new(INTERFACES), name)
}

fn down_in(interfaces: &Path, name: &str) -> Vec<String> {
    let mut way = vec![name.to_owned()];
    for entry in fs::read_dir(interfaces.join(name)).into_iter().flatten() {
        let Ok(entry) = entry else { continue };
        let link = entry.file_name();
        let Some(link) = link.to_str() else { continue };
        let is_next = link == "master" || link.starts_with("lower_");
        let next = fs::read_link(entry.path()).ok().filter(|_| is_next);
        way.extend(next.and_then(|next| Some(next.file_name()?.to_str()?.to_owned())));
    }
    way.retain(|name| is_down(&interfaces.join(name)));
    way
}

/// One that cannot be asked is taken for well.
fn is_down(interface: &Path) -> bool {
    let flags = fs::read_to_string(interface.join("flags")).ok();
    let flags = flags.and_then(|text| {
        let digits = text.trim().strip_prefix("0x")?;
        i32::from_str_radix(digits, 16).ok()
    });
    flags.is_some_and(|flags| {
        !InterfaceFlags::from_bits_truncate(flags).contains(InterfaceFlags::IFF_UP)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_down_on_the_way_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let add = |name: &str, flags: &str| {
            fs::create_dir_all(at(name)).unwrap();
            fs::write(at(name).join("flags"), flags).unwrap();
        };
        let down = |name| down_in(directory.path(), name);
        for (name, flags) in [
            ("up", "0x1003\n"),
            ("off", "0x1002\n"),
            ("br0", "0x1002\n"),
            ("port", "0x1103\n"),
            ("macvtap0", "0x1002\n"),
        ] {
            add(name, flags);
        }
        symlink(at("br0"), at("port").join("master")).unwrap();
        symlink(at("port"), at("br0").join("lower_port")).unwrap();
        symlink(at("off"), at("macvtap0").join("lower_off")).unwrap();
        symlink(at("off"), at("up").join("subsystem")).unwrap();
        assert!(down("up").is_empty());
        assert_eq!(down("off"), ["off"]);
        assert_eq!(down("port"), ["br0"]);
        assert_eq!(down("macvtap0"), ["macvtap0", "off"]);
        assert!(down("nowhere").is_empty());
        add("br0", "0x1003\n");
        assert!(down("port").is_empty());
    }
}
