// SPDX-License-Identifier: GPL-2.0
//! A 32-bit ELF with a Multiboot 1 header.

use object::Endianness;
use object::elf::{EM_386, ET_EXEC, FileHeader32, PF_X, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use vm_memory::ByteValued;

use super::entry::{self, place, place_bytes};
use super::error::mib;
use super::{Content, Error, Payload, read_initrd, read_whole};
use crate::hypervisor::{CpuState, Gpr};
use crate::layout::{self, HOLE, boot};
use crate::memory::GuestMemory;

const HEADER_MAGIC: u32 = 0x1bad_b002;
const LOADER_MAGIC: u64 = 0x2bad_b002;
/// The header lies in the first 8 KiB, on a 4-byte boundary.
const SEARCH: usize = 8192;

const WANTS_VIDEO: u32 = 1 << 2;
/// Demands that a loader must know or refuse: modules on pages, memory sizes, video.
const KNOWN_DEMANDS: u32 = 0b111;
const DEMANDS: u32 = 0xffff;

const INFO_MEMORY: u32 = 1 << 0;
const INFO_COMMAND_LINE: u32 = 1 << 2;
const INFO_MODULES: u32 = 1 << 3;
const INFO_MEMORY_MAP: u32 = 1 << 6;
const INFO_LOADER_NAME: u32 = 1 << 9;

const LOADER_NAME: &[u8] = b"hvctl\0";
const COMMAND_LINE_LIMIT: usize = 4095;
/// All of the file is read, debug information included.
const LARGEST_FILE: u64 = 1 << 30;

/// The flags of the Multiboot header in the file, if there is one.
pub fn find_header(file: &[u8]) -> Option<u32> {
    let words: Vec<u32> = file[..file.len().min(SEARCH)]
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    words.windows(3).find_map(|header| {
        let sum = header[0].wrapping_add(header[1]).wrapping_add(header[2]);
        (header[0] == HEADER_MAGIC && sum == 0).then_some(header[1])
    })
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Info {
    flags: u32,
    mem_lower: u32,
    mem_upper: u32,
    boot_device: u32,
    cmdline: u32,
    mods_count: u32,
    mods_addr: u32,
    syms: [u32; 4],
    mmap_length: u32,
    mmap_addr: u32,
    drives: [u32; 2],
    config_table: u32,
    boot_loader_name: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Module {
    start: u32,
    end: u32,
    string: u32,
    reserved: u32,
}

#[repr(C, packed)]
#[derive(Debug, Clone, Copy, Default)]
struct MapEntry {
    size: u32,
    start: u64,
    length: u64,
    kind: u32,
}

// SAFETY: plain integers without padding.
unsafe impl ByteValued for Info {}
// SAFETY: plain integers without padding.
unsafe impl ByteValued for Module {}
// SAFETY: plain integers, packed.
unsafe impl ByteValued for MapEntry {}

/// What was loaded.
struct Image {
    entry: u32,
    end: u64,
}

fn load_elf(
    memory: &GuestMemory,
    low_end: u64,
    file: &[u8],
    payload: &Payload,
) -> Result<Image, Error> {
    let bad = |cause: String| Error::BadKernel {
        path: payload.kernel.clone(),
        cause,
    };
    let malformed = |cause: object::Error| bad(cause.to_string());
    if file.get(4) == Some(&object::elf::ELFCLASS64) {
        return Err(bad(
            "it is a 64-bit ELF; a Multiboot kernel is a 32-bit one".into(),
        ));
    }
    let elf = FileHeader32::<Endianness>::parse(file).map_err(malformed)?;
    let endian = elf.endian().map_err(malformed)?;
    if elf.e_machine(endian) != EM_386 || elf.e_type(endian) != ET_EXEC {
        return Err(bad("it is not an executable for i386".into()));
    }
    let virtual_entry = elf.e_entry(endian);
    let mut image = Image {
        entry: virtual_entry,
        end: 0,
    };
    for segment in elf.program_headers(endian, file).map_err(malformed)? {
        if segment.p_type(endian) != PT_LOAD || segment.p_memsz(endian) == 0 {
            continue;
        }
        let start = u64::from(segment.p_paddr(endian));
        let end = start + u64::from(segment.p_memsz(endian));
        let data = segment
            .data(endian, file)
            .map_err(|()| bad("a segment is not within the file".into()))?;
        if data.len() as u64 > end - start {
            return Err(bad("a segment has more contents than memory".into()));
        }
        if start < boot::END {
            let low = format!(
                "it loads to {start:#x}, where hvctl keeps boot data: link it at {:#x} or above",
                boot::END
            );
            return Err(bad(low));
        }
        if end > low_end {
            return Err(Error::KernelDoesNotFit {
                path: payload.kernel.clone(),
                need: mib(end),
                have: mib(low_end),
            });
        }
        // Fresh memory is zero, so what the file does not fill is.
        place_bytes(memory, start, data)?;
        image.end = image.end.max(end);
        let within = virtual_entry.wrapping_sub(segment.p_vaddr(endian));
        if segment.p_flags(endian) & PF_X != 0 && within < segment.p_memsz(endian) {
            image.entry = segment.p_paddr(endian).wrapping_add(within);
        }
    }
    if image.end == 0 {
        return Err(bad("it has no segment to load".into()));
    }
    Ok(image)
}

/// Strings and the like, one after the other.
struct Room<'a> {
    memory: &'a GuestMemory,
    next: u64,
}

impl Room<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<u32, Error> {
        let address = self.next;
        place_bytes(self.memory, address, bytes)?;
        self.next = (address + bytes.len() as u64).next_multiple_of(16);
        Ok(address as u32)
    }

    fn put_text(&mut self, text: &[u8]) -> Result<u32, Error> {
        self.put(&[text, b"\0"].concat())
    }
}

/// Loads kernel, module and the information structure.
pub fn load(memory: &GuestMemory, size: u64, payload: &Payload) -> Result<CpuState, Error> {
    use std::os::unix::ffi::OsStrExt;
    let bad = |cause: String| Error::BadKernel {
        path: payload.kernel.clone(),
        cause,
    };
    let file = match read_whole(&payload.kernel, "kernel", LARGEST_FILE)? {
        Content::Bytes(bytes) => bytes,
        Content::TooLarge(size) => {
            return Err(bad(format!(
                "it has {} MiB, and {} are the most",
                mib(size),
                mib(LARGEST_FILE)
            )));
        }
    };
    let flags = find_header(&file).ok_or_else(|| Error::NotAKernel {
        path: payload.kernel.clone(),
    })?;
    if flags & DEMANDS & !KNOWN_DEMANDS != 0 {
        return Err(bad(format!(
            "its Multiboot header demands features unknown here ({flags:#x})"
        )));
    }
    if flags & WANTS_VIDEO != 0 {
        tracing::warn!("the kernel asks for a video mode; there is no video");
    }
    let low_end = size.min(HOLE);
    let image = load_elf(memory, low_end, &file, payload)?;

    let command_line = payload.command_line.as_deref().unwrap_or_default();
    if command_line.len() > COMMAND_LINE_LIMIT {
        let length = command_line.len();
        return Err(Error::CommandLineTooLong {
            length,
            limit: COMMAND_LINE_LIMIT,
        });
    }
    if command_line.contains('\0') {
        return Err(Error::CommandLineNul);
    }
    // The first word is the kernel's name, as other loaders have it.
    let mut line = payload.kernel.as_os_str().as_bytes().to_vec();
    if !command_line.is_empty() {
        line.push(b' ');
        line.extend_from_slice(command_line.as_bytes());
    }
    let mut room = Room {
        memory,
        next: boot::MODULES,
    };
    let mut info = Info {
        flags: INFO_MEMORY | INFO_COMMAND_LINE | INFO_MEMORY_MAP | INFO_LOADER_NAME,
        mem_lower: (layout::LOW_END >> 10) as u32,
        mem_upper: (low_end.saturating_sub(layout::HIGH_START) >> 10) as u32,
        boot_loader_name: room.put(LOADER_NAME)?,
        ..Default::default()
    };
    let map: Vec<u8> = layout::memory_map(size)
        .into_iter()
        .flat_map(|range| {
            let entry = MapEntry {
                size: (size_of::<MapEntry>() - size_of::<u32>()) as u32,
                start: range.start,
                length: range.size,
                kind: range.kind as u32,
            };
            entry.as_slice().to_vec()
        })
        .collect();
    info.mmap_length = map.len() as u32;
    info.mmap_addr = room.put(&map)?;
    if let Some(path) = &payload.initrd {
        let module = module(memory, &image, low_end, path, &mut room)?;
        info.flags |= INFO_MODULES;
        info.mods_count = 1;
        info.mods_addr = room.put(module.as_slice())?;
    }
    info.cmdline = room.put_text(&line)?;
    place(memory, boot::MULTIBOOT_INFO, info)?;

    let mut cpu = entry::protected(memory)?;
    cpu.rip = u64::from(image.entry);
    cpu.set(Gpr::Rax, LOADER_MAGIC);
    cpu.set(Gpr::Rbx, boot::MULTIBOOT_INFO);
    cpu.set(Gpr::Rsp, boot::STACK);
    Ok(cpu)
}

/// Loads the one module on the page after the kernel.
fn module(
    memory: &GuestMemory,
    image: &Image,
    low_end: u64,
    path: &std::path::Path,
    room: &mut Room,
) -> Result<Module, Error> {
    use std::os::unix::ffi::OsStrExt;
    let start = image.end.next_multiple_of(0x1000);
    let bytes = read_initrd(path, low_end.saturating_sub(start))?;
    let size = bytes.len() as u64;
    place_bytes(memory, start, &bytes)?;
    Ok(Module {
        start: start as u32,
        end: (start + size) as u32,
        string: room.put_text(path.as_os_str().as_bytes())?,
        reserved: 0,
    })
}

#[cfg(test)]
mod tests;
