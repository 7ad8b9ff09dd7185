// SPDX-License-Identifier: GPL-2.0
//! A Linux bzImage by the 64-bit boot protocol.

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::KernelLoader;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use linux_loader::loader::bzimage::BzImage;
use vm_memory::GuestAddress;

use super::entry::{self, place_bytes};
use super::error::mib;
use super::{Error, LINUX_COMMAND_LINE, Payload, open, read_initrd};
use crate::hypervisor::{CpuState, Gpr};
use crate::layout::{self, HOLE, boot};
use crate::memory::GuestMemory;

/// XLF_KERNEL_64: there is a 64-bit entry.
const KERNEL_64: u16 = 1 << 0;
const ENTRY_64: u64 = 0x200;
/// "No boot loader ID of its own".
const LOADER_UNDEFINED: u8 = 0xff;
/// Limits of headers too old to state their own.
const OLD_INITRD_MAX: u64 = 0x37ff_ffff;
const OLD_COMMAND_LINE_MAX: usize = 255;
/// The room that [`layout`] leaves.
const COMMAND_LINE_ROOM: usize = (boot::MULTIBOOT_INFO - boot::COMMAND_LINE) as usize;

/// Loads kernel, initrd, command line and boot parameters.
pub fn load(
    memory: &GuestMemory,
    size: u64,
    rsdp: u64,
    payload: &Payload,
) -> Result<CpuState, Error> {
    let bad = |cause: String| Error::BadKernel {
        path: payload.kernel.clone(),
        cause,
    };
    let mut file = open(&payload.kernel, "kernel")?;
    let preferred = header(&payload.kernel)?;
    let length = file
        .metadata()
        .map_err(|cause| bad(cause.to_string()))?
        .len();
    let stated = stated_length(&preferred);
    if length < stated {
        return Err(bad(format!(
            "it is cut short, at {length} of {stated} bytes"
        )));
    }
    let low_end = size.min(HOLE);
    // Where the kernel wants to be it need not move itself; elsewhere it will.
    let load = preferred.pref_address.max(layout::HIGH_START);
    let end = load + u64::from(preferred.init_size);
    if end > low_end {
        return Err(Error::KernelDoesNotFit {
            path: payload.kernel.clone(),
            need: mib(end),
            have: mib(low_end),
        });
    }
    let loaded = BzImage::load(
        memory,
        Some(GuestAddress(load)),
        &mut file,
        Some(GuestAddress(layout::HIGH_START)),
    )
    .map_err(|cause| bad(cause.to_string()))?;
    let mut header = loaded
        .setup_header
        .ok_or_else(|| bad("it has no setup header".into()))?;
    if header.version < 0x20c || header.xloadflags & KERNEL_64 == 0 {
        return Err(bad("it has no 64-bit entry".into()));
    }
    let end = end.max(loaded.kernel_end);

    command_line(memory, &header, payload)?;
    header.type_of_loader = LOADER_UNDEFINED;
    header.cmd_line_ptr = boot::COMMAND_LINE as u32;
    if let Some((address, size)) = initrd(memory, &header, end, low_end, payload)? {
        header.ramdisk_image = address as u32;
        header.ramdisk_size = size as u32;
    }
    zero_page(memory, size, rsdp, header)?;

    let mut cpu = entry::long(memory)?;
    cpu.rip = load + ENTRY_64;
    cpu.set(Gpr::Rsp, boot::STACK);
    cpu.set(Gpr::Rsi, boot::ZERO_PAGE);
    Ok(cpu)
}

/// Writes what the kernel is told: its own `header` as completed, and the map of `size` bytes of RAM.
fn zero_page(
    memory: &GuestMemory,
    size: u64,
    rsdp: u64,
    header: setup_header,
) -> Result<(), Error> {
    let mut parameters = boot_params {
        hdr: header,
        acpi_rsdp_addr: rsdp,
        ..Default::default()
    };
    for (index, range) in layout::memory_map(size).into_iter().enumerate() {
        parameters.e820_table[index] = boot_e820_entry {
            addr: range.start,
            size: range.size,
            type_: range.kind as u32,
        };
        parameters.e820_entries = index as u8 + 1;
    }
    LinuxBootConfigurator::write_bootparams(
        &BootParams::new(&parameters, GuestAddress(boot::ZERO_PAGE)),
        memory,
    )
    .map_err(|cause| Error::Place {
        address: boot::ZERO_PAGE,
        cause: cause.to_string(),
    })
}

/// How long the file is by its own account.
fn stated_length(header: &setup_header) -> u64 {
    let setup_sectors = match header.setup_sects {
        0 => 4,
        stated => u64::from(stated),
    };
    (setup_sectors + 1) * 512 + u64::from(header.syssize) * 16
}

/// The setup header, before it is known where the kernel goes.
fn header(path: &std::path::Path) -> Result<setup_header, Error> {
    use std::os::unix::fs::FileExt;
    use vm_memory::ByteValued;
    let mut header = setup_header::default();
    open(path, "kernel")?
        .read_exact_at(header.as_mut_slice(), 0x1f1)
        .map_err(|cause| Error::Open {
            what: "kernel",
            path: path.to_owned(),
            cause,
        })?;
    Ok(header)
}

fn command_line(
    memory: &GuestMemory,
    header: &setup_header,
    payload: &Payload,
) -> Result<(), Error> {
    let limit = match header.cmdline_size as usize {
        0 => OLD_COMMAND_LINE_MAX,
        stated => stated,
    }
    .min(COMMAND_LINE_ROOM - 1);
    let text = payload.command_line(LINUX_COMMAND_LINE, limit)?;
    place_bytes(
        memory,
        boot::COMMAND_LINE,
        &[text.as_bytes(), b"\0"].concat(),
    )
}

/// Puts the initrd as high as the kernel takes it.
fn initrd(
    memory: &GuestMemory,
    header: &setup_header,
    kernel_end: u64,
    low_end: u64,
    payload: &Payload,
) -> Result<Option<(u64, u64)>, Error> {
    let Some(path) = &payload.initrd else {
        return Ok(None);
    };
    let highest = match u64::from(header.initrd_addr_max) {
        0 => OLD_INITRD_MAX,
        stated => stated,
    };
    let end = low_end.min(highest + 1) & !0xfff;
    let start = kernel_end.next_multiple_of(0x1000);
    let bytes = read_initrd(path, end.saturating_sub(start))?;
    let size = bytes.len() as u64;
    let address = (end - size) & !0xfff;
    place_bytes(memory, address, &bytes)?;
    Ok(Some((address, size)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use std::path::PathBuf;
    use vm_memory::{ByteValued, Bytes};

    const MIB: u64 = 1 << 20;

    /// A bzImage in form, with `kernel` after its setup.
    fn image(kernel: &[u8], change: impl FnOnce(&mut setup_header)) -> Vec<u8> {
        let mut header = setup_header {
            setup_sects: 1,
            boot_flag: 0xaa55,
            header: 0x5372_6448,
            version: 0x20f,
            loadflags: 1,
            code32_start: 0x10_0000,
            initrd_addr_max: 0x7fff_ffff,
            kernel_alignment: 0x20_0000,
            relocatable_kernel: 1,
            xloadflags: KERNEL_64,
            cmdline_size: 100,
            pref_address: 0x100_0000,
            init_size: 0x10_0000,
            ..Default::default()
        };
        change(&mut header);
        let mut image = vec![0; 1024];
        let bytes = header.as_slice();
        image[0x1f1..0x1f1 + bytes.len()].copy_from_slice(bytes);
        image.extend_from_slice(kernel);
        image
    }

    struct Files {
        _directory: tempfile::TempDir,
        payload: Payload,
    }

    fn files(image: &[u8], initrd: Option<&[u8]>, command_line: Option<&str>) -> Files {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| -> PathBuf {
            let path = directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let payload = Payload {
            kernel: write("kernel", image),
            initrd: initrd.map(|bytes| write("initrd", bytes)),
            command_line: command_line.map(str::to_owned),
        };
        Files {
            _directory: directory,
            payload,
        }
    }

    fn boot_in(size: u64, files: &Files) -> Result<(GuestMemory, CpuState), Error> {
        let memory = memory::allocate(&layout::ram(size)).unwrap();
        super::super::load(&memory, size, 1, &files.payload).map(|cpu| (memory, cpu))
    }

    #[test]
    fn everything_is_where_the_parameters_say() {
        let files = files(
            &image(b"the kernel", |_| {}),
            Some(b"the initrd"),
            Some("quiet"),
        );
        let (memory, cpu) = boot_in(32 * MIB, &files).unwrap();
        assert_eq!(cpu.rip, 0x100_0200);
        assert_eq!(cpu.get(Gpr::Rsi), boot::ZERO_PAGE);
        let parameters: boot_params = memory.read_obj(GuestAddress(boot::ZERO_PAGE)).unwrap();
        let header = parameters.hdr;
        let read = |address: u64, size: usize| {
            let mut bytes = vec![0; size];
            memory
                .read_slice(&mut bytes, GuestAddress(address))
                .unwrap();
            bytes
        };
        assert_eq!(read(0x100_0000, 10), b"the kernel");
        assert_eq!(read(header.cmd_line_ptr.into(), 6), b"quiet\0");
        assert_eq!(
            read(header.ramdisk_image.into(), header.ramdisk_size as usize),
            b"the initrd"
        );
        assert_eq!({ parameters.acpi_rsdp_addr }, layout::FIRMWARE);
        assert_eq!(parameters.e820_entries, 6);
        assert_eq!(parameters.sentinel, 0);
        assert_eq!(header.type_of_loader, 0xff);
    }

    #[test]
    fn the_initrd_goes_high_and_within_the_kernels_limit() {
        let limited = image(b"", |header| header.initrd_addr_max = 0x17f_ffff);
        let files = files(&limited, Some(&[7; 5000]), None);
        let (memory, _) = boot_in(64 * MIB, &files).unwrap();
        let parameters: boot_params = memory.read_obj(GuestAddress(boot::ZERO_PAGE)).unwrap();
        assert_eq!({ parameters.hdr.ramdisk_image }, 0x180_0000 - 0x2000);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let kernel = image(b"", |_| {});
        let error = boot_in(8 * MIB, &files(&kernel, None, None)).unwrap_err();
        assert!(error.to_string().contains("needs 17 MiB"), "{error}");

        let big = files(&kernel, Some(&vec![0; 20 << 20]), None);
        let error = boot_in(32 * MIB, &big).unwrap_err();
        assert!(
            matches!(error, Error::InitrdDoesNotFit { room: 15728640, .. }),
            "{error}"
        );

        let error = boot_in(32 * MIB, &files(&kernel, None, Some(&"x".repeat(101)))).unwrap_err();
        assert!(
            matches!(
                error,
                Error::CommandLineTooLong {
                    length: 101,
                    limit: 100
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn the_longest_command_line_is_taken() {
        let files = files(&image(b"", |_| {}), None, Some(&"x".repeat(100)));
        boot_in(32 * MIB, &files).unwrap();
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        for (bytes, word) in [
            (&b""[..], "not a kernel"),
            (&[0x5a; 4096][..], "not a kernel"),
        ] {
            let error = boot_in(32 * MIB, &files(bytes, None, None)).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        let cut = image(&[0; 100], |header| header.syssize = 7);
        let error = boot_in(32 * MIB, &files(&cut, None, None)).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        assert!(
            error.to_string().contains("at 1124 of 1136 bytes"),
            "{error}"
        );
        let old = image(b"", |header| header.xloadflags = 0);
        let error = boot_in(32 * MIB, &files(&old, None, None)).unwrap_err();
        assert!(error.to_string().contains("64-bit entry"), "{error}");
        let missing = Payload {
            kernel: "/nonexistent/vmlinuz".into(),
            initrd: None,
            command_line: None,
        };
        let memory = memory::allocate(&[(0, 32 * MIB)]).unwrap();
        let error = super::super::load(&memory, 32 * MIB, 1, &missing).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/vmlinuz"),
            "{error}"
        );
    }

    #[test]
    fn an_initrd_that_cannot_fit_is_not_read() {
        let mut files = files(&image(b"", |_| {}), None, None);
        let sparse = files._directory.path().join("sparse");
        std::fs::File::create(&sparse)
            .and_then(|file| file.set_len(1 << 42))
            .unwrap();
        files.payload.initrd = Some(sparse);
        let error = boot_in(32 * MIB, &files).unwrap_err();
        assert!(
            matches!(error, Error::InitrdDoesNotFit { size, .. } if size == 1 << 42),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_a_file_is_refused_at_once() {
        let mut files = files(&image(b"", |_| {}), None, None);
        let fifo = files._directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [fifo, "/dev/zero".into(), "/dev/null".into()] {
            let good = std::mem::replace(&mut files.payload.kernel, path.clone());
            let error = boot_in(32 * MIB, &files).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
            files.payload.kernel = good;
            files.payload.initrd = Some(path);
            let error = boot_in(32 * MIB, &files).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
    }

    #[test]
    fn a_missing_initrd_is_named() {
        let mut files = files(&image(b"", |_| {}), None, None);
        files.payload.initrd = Some("/nonexistent/initrd".into());
        let error = boot_in(32 * MIB, &files).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/initrd"), "{error}");
    }
}
