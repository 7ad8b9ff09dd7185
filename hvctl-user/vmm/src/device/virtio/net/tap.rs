// SPDX-License-Identifier: GPL-2.0
//! The root's end of a network interface: tap, or macvtap.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const TUN: &str = "/dev/net/tun";

/// Which interface of the root it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// A tap interface of this name; it is made if it does not exist.
    Tap(String),
    /// A new tap interface, which becomes a port of this bridge.
    Bridge(String),
    /// A macvtap interface, which exists.
    Macvtap(String),
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open {path}: {cause}{hint}")]
    Device {
        path: String,
        cause: io::Error,
        hint: &'static str,
    },
    #[error("there is no network interface {0}; 'ip link' lists those that there are")]
    NoInterface(String),
    #[error(
        "'{0}' is no name for a network interface: those have up to 15 characters, none of them \
         a space, '/' or ':'"
    )]
    BadName(String),
    #[error("network interface {name}: {what}: {cause}")]
    Refused {
        name: String,
        what: &'static str,
        cause: Errno,
    },
}

/// struct virtio_net_hdr_v1, which is before each frame.
static HEADER_SIZE: libc::c_int = 12;

mod ioctl {
    /// Of linux/sockios.h.
    const SIOCBRADDIF: libc::c_ulong = 0x89a2;

    nix::ioctl_read_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_queue, libc::TUNSETQUEUE, libc::ifreq);
    nix::ioctl_write_int_bad!(set_offload, libc::TUNSETOFFLOAD);
    nix::ioctl_write_ptr_bad!(set_header_size, libc::TUNSETVNETHDRSZ, libc::c_int);
    nix::ioctl_read_bad!(get_flags, libc::SIOCGIFFLAGS, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);
    nix::ioctl_write_ptr_bad!(add_port, SIOCBRADDIF, libc::ifreq);
}

/// One queue of an interface.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
}

fn request(name: &str) -> Result<libc::ifreq, OpenError> {
    // SAFETY: the structure is integers, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    if name.is_empty()
        || name.len() > room
        || name.contains(['/', ':', '\0'])
        || name.contains(char::is_whitespace)
        || [".", ".."].contains(&name)
    {
        return Err(OpenError::BadName(name.into()));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// Why an interface cannot be had as a tap.
fn tap_hint(cause: Errno, many: bool) -> &'static str {
    match cause {
        Errno::EPERM => {
            "it is not yours, and to make one takes CAP_NET_ADMIN; 'ip tuntap add NAME mode tap \
             user YOU' makes one that you may use"
        }
        Errno::EBUSY => "another program has it",
        Errno::EINVAL if many => {
            "it is no tap with several queues: leave out 'queues', or make it with 'multi_queue'"
        }
        Errno::EINVAL => "it is no tap, or one with several queues",
        _ => "it cannot be used as a tap",
    }
}

impl Tap {
    /// Opens `queues` queues of the interface.
    pub fn open(attachment: &Attachment, queues: u16) -> Result<Vec<Self>, OpenError> {
        let (path, name) = match attachment {
            Attachment::Tap(name) => (TUN.into(), name.clone()),
            // The kernel finds a free number.
            Attachment::Bridge(_) => (TUN.into(), "hvctl%d".into()),
            Attachment::Macvtap(name) => {
                let index = if_nametoindex(name.as_str())
                    .map_err(|_| OpenError::NoInterface(name.clone()))?;
                (format!("/dev/tap{index}"), name.clone())
            }
        };
        if let Attachment::Bridge(bridge) = attachment {
            if if_nametoindex(bridge.as_str()).is_err() {
                return Err(OpenError::NoInterface(bridge.clone()));
            }
        }
        let first = Self::open_queue(&path, &name, queues > 1)?;
        let name = first.name.clone();
        let mut taps = vec![first];
        for _ in 1..queues {
            taps.push(Self::open_queue(&path, &name, true)?);
        }
        if let Attachment::Bridge(bridge) = attachment {
            taps[0].join(bridge)?;
            taps[0].switch_on()?;
        }
        Ok(taps)
    }

    fn open_queue(path: &str, name: &str, many: bool) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(path)
            .map_err(|cause| OpenError::Device {
                path: path.into(),
                hint: match cause.kind() {
                    io::ErrorKind::NotFound if path == TUN => ". 'modprobe tun' makes it",
                    io::ErrorKind::NotFound => ": the interface is no macvtap",
                    io::ErrorKind::PermissionDenied => {
                        ": this user may not; its owner and mode say who may"
                    }
                    _ => "",
                },
                cause,
            })?;
        let mut request = request(name)?;
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if many {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        let refused = |what| {
            move |cause| OpenError::Refused {
                name: name.into(),
                what,
                cause,
            }
        };
        // SAFETY: the kernel reads the request, and writes the name it chose into it.
        unsafe { ioctl::set_interface(file.as_raw_fd(), &raw mut request) }
            .map_err(|cause| refused(tap_hint(cause, many))(cause))?;
        // SAFETY: the kernel reads a number.
        unsafe { ioctl::set_header_size(file.as_raw_fd(), &raw const HEADER_SIZE) }
            .map_err(refused("it takes no virtio headers"))?;
        let chosen = request.ifr_name.iter().take_while(|byte| **byte != 0);
        let name = chosen.map(|byte| *byte as u8 as char).collect();
        Ok(Self { file, name })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which work on frames the guest takes off the root (TUN_F_...).
    pub fn set_offload(&self, offload: u32) -> io::Result<()> {
        // SAFETY: the argument is a number.
        unsafe { ioctl::set_offload(self.file.as_raw_fd(), offload as libc::c_int) }?;
        Ok(())
    }

    /// Whether frames come to this queue, of an interface with several.
    pub fn set_active(&self, active: bool) -> io::Result<()> {
        // SAFETY: the structure is integers, for which zeros are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let flags = if active {
            libc::IFF_ATTACH_QUEUE
        } else {
            libc::IFF_DETACH_QUEUE
        };
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the kernel reads the request.
        match unsafe { ioctl::set_queue(self.file.as_raw_fd(), &raw const request) } {
            // It is that already.
            Ok(_) | Err(Errno::EINVAL) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    fn refused(&self, what: &'static str) -> impl FnOnce(Errno) -> OpenError {
        let name = self.name.clone();
        move |cause| OpenError::Refused { name, what, cause }
    }

    fn join(&self, bridge: &str) -> Result<(), OpenError> {
        let control = control().map_err(self.refused("a socket"))?;
        let index = if_nametoindex(self.name.as_str()).map_err(self.refused("its index"))?;
        let mut request = request(bridge)?;
        request.ifr_ifru.ifru_ifindex = index as libc::c_int;
        // SAFETY: the kernel reads the request.
        unsafe { ioctl::add_port(control.as_raw_fd(), &raw const request) }.map_err(|cause| {
            let what = match cause {
                Errno::EPERM => "to join a bridge takes CAP_NET_ADMIN: use a tap of yours in it",
                Errno::EOPNOTSUPP => "it is no bridge; 'ip link add NAME type bridge' makes one",
                _ => "a new tap cannot join it",
            };
            let name = bridge.into();
            OpenError::Refused { name, what, cause }
        })?;
        Ok(())
    }

    fn switch_on(&self) -> Result<(), OpenError> {
        let control = control().map_err(self.refused("a socket"))?;
        let mut request = request(&self.name)?;
        // SAFETY: the kernel writes the flags into the request.
        unsafe { ioctl::get_flags(control.as_raw_fd(), &raw mut request) }
            .map_err(self.refused("its state"))?;
        // SAFETY: the call above has made the flags the member in use.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
        // SAFETY: the kernel reads the request.
        unsafe { ioctl::set_flags(control.as_raw_fd(), &raw const request) }
            .map_err(self.refused("it cannot be switched on"))?;
        Ok(())
    }
}

/// A socket for requests about interfaces.
fn control() -> Result<std::os::fd::OwnedFd, Errno> {
    socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in [
            "",
            "a/b",
            "a b",
            "a:b",
            "a\tb",
            ".",
            "..",
            "sixteen-letters-",
        ] {
            assert!(
                matches!(request(name), Err(OpenError::BadName(_))),
                "{name}"
            );
        }
        assert!(request("fifteen-letters").is_ok());
    }

    #[test]
    fn an_interface_of_another_kind_is_refused() {
        let error = Tap::open(&Attachment::Macvtap("lo".into()), 1).unwrap_err();
        assert!(error.to_string().contains("no macvtap"), "{error}");
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        for attachment in [
            Attachment::Bridge("no-such-bridge".into()),
            Attachment::Macvtap("no-such-macvtap".into()),
        ] {
            let error = Tap::open(&attachment, 1).unwrap_err().to_string();
            assert!(error.contains("no-such-"), "{error}");
        }
    }
}
