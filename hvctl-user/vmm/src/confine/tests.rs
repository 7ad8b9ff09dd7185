// SPDX-License-Identifier: GPL-2.0
//! In a process of its own, since there is no way back: this test's program again.

use super::*;
use crate::device::virtio::VirtioDevice;
use crate::device::virtio::bench::Driver;
use crate::device::virtio::block::Block;
use crate::device::virtio::block::disk::{Disk, Options};
use crate::device::virtio::entropy::Entropy;
use std::process::Command;
use vmm_sys_util::signal::SIGRTMIN;

/// Runs the ignored test `name` of this file; what it says.
fn alone(name: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("confine::tests::{name}")])
        .args(["--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    text
}

#[test]
fn devices_work_in_confinement() {
    let said = alone("inside_devices_work");
    assert!(!said.contains("refused"), "{said}");
}

#[test]
fn what_is_not_needed_is_refused_and_told() {
    let said = alone("inside_what_is_not_needed_is_refused");
    for number in [
        libc::SYS_socket,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_tgkill,
        libc::SYS_ioctl,
    ] {
        let told = format!("refused to itself system call {number:>4}");
        assert_eq!(said.matches(&told).count(), 1, "{told}: {said}");
    }
}

#[test]
#[ignore = "run by devices_work_in_confinement"]
fn inside_devices_work() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let disk = Disk::open(image.path(), &Options::default()).unwrap();
    process().unwrap();
    std::thread::scope(|scope| {
        let processor = scope.spawn(|| {
            thread(Thread::Processor);
            // A write of 512 bytes to sector 2, then a flush.
            let mut block = Block::new(disk, "", 1);
            let mut driver = Driver::new(16);
            for _ in 0..3 {
                let (activation, kick) = driver.activation(1 << 9, 0, 1);
                block.activate(activation).unwrap();
                for kind in [1u32, 4, 0] {
                    let header = [&kind.to_le_bytes()[..], &[0; 4], &2u64.to_le_bytes()].concat();
                    driver.write(0x8000, &header);
                    let write = kind == 0;
                    driver.chain(&[(0x8000, 16, false), (0x9000, 512, write), (0xa000, 1, true)]);
                    kick.write(1).unwrap();
                    driver.wait_used();
                    assert_eq!(driver.read(0xa000, 1), [0]);
                }
                block.reset();
                driver = Driver::new(16);
            }
            let mut entropy = Entropy::default();
            let (activation, kick) = driver.activation(0, 0, 1);
            entropy.activate(activation).unwrap();
            driver.chain(&[(0x9000, 64, true)]);
            kick.write(1).unwrap();
            driver.wait_used();
            entropy.reset();
            // One that its guest leaves running.
            driver = Driver::new(16);
            let (activation, _) = driver.activation(1 << 9, 0, 1);
            block.activate(activation).unwrap();
            block
        });
        let mut block = processor.join().unwrap();
        scope.spawn(move || {
            thread(Thread::Main);
            extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
            register_signal_handler(SIGRTMIN(), nothing).unwrap();
            // As a run ends: the processors' threads are told, then the devices are stopped.
            // SAFETY: the signal has a handler, which does nothing.
            assert_eq!(
                unsafe { libc::pthread_kill(libc::pthread_self(), SIGRTMIN()) },
                0
            );
            block.reset();
        });
    });
}

#[test]
#[ignore = "run by what_is_not_needed_is_refused_and_told"]
fn inside_what_is_not_needed_is_refused() {
    process().unwrap();
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    // By Landlock: also root may not.
    let opened = std::fs::File::open("/etc/passwd").map(drop);
    assert_eq!(kind(opened), io::ErrorKind::PermissionDenied);
    assert!(caps::read(None, CapSet::Effective).unwrap().is_empty());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            thread(Thread::Device);
            for _ in 0..3 {
                let socket = std::net::UdpSocket::bind("127.0.0.1:0").map(drop);
                assert_eq!(kind(socket), io::ErrorKind::PermissionDenied);
                for execute in [0, libc::PROT_EXEC] {
                    let access = libc::PROT_READ | execute;
                    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                    // SAFETY: a new mapping, where the kernel likes.
                    let made =
                        unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0) };
                    assert_eq!(made == libc::MAP_FAILED, execute != 0);
                    if made != libc::MAP_FAILED {
                        // SAFETY: of the mapping just made, which nobody uses.
                        let changed = unsafe { libc::mprotect(made, 4096, libc::PROT_EXEC) };
                        assert_eq!(changed, -1);
                    }
                }
                // SAFETY: no signal is sent, only asked whether it could be.
                assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, 1, 1, 0) }, -1);
                // SAFETY: the call reads no memory; it is refused before it is one.
                assert_eq!(unsafe { libc::ioctl(0, libc::TIOCSTI, 0) }, -1);
            }
        });
    });
}
