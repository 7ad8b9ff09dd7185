// SPDX-License-Identifier: GPL-2.0
//! A kernel with a Multiboot 1 header: a 32-bit ELF, or a flat image whose header says where
//! it belongs.

use std::os::unix::ffi::OsStrExt;

use object::Endianness;
use object::elf::{EM_386, ET_EXEC, FileHeader32, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use vm_memory::ByteValued;

use super::entry::{self, place, place_bytes};
use super::error::mib;
use super::{Content, Error, Payload, is_elf, read_initrd, read_whole};
use crate::hypervisor::{CpuState, Gpr};
use crate::layout::{self, HOLE, boot};
use crate::memory::GuestMemory;

const HEADER_MAGIC: u32 = 0x1bad_b002;
const LOADER_MAGIC: u64 = 0x2bad_b002;
/// The header lies in the first 8 KiB, on a 4-byte boundary.
pub const SEARCH: usize = 8192;

const WANTS_VIDEO: u32 = 1 << 2;
/// The header has addresses; of an ELF its own headers count.
const HAS_ADDRESSES: u32 = 1 << 16;
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

/// A Multiboot header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where in the file it is.
    at: usize,
    flags: u32,
    addresses: Option<Addresses>,
}

/// Where a flat image belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Addresses {
    header: u32,
    load: u32,
    /// 0: all of the file.
    load_end: u32,
    /// 0: nothing is cleared.
    bss_end: u32,
    entry: u32,
}

/// The Multiboot header in a file, of which at least the first 8 KiB are `file`.
fn find_header(file: &[u8]) -> Option<Header> {
    let words: Vec<u32> = file[..file.len().min(SEARCH)]
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    let index = words.windows(3).position(|header| {
        header[0] == HEADER_MAGIC && header[0].wrapping_add(header[1]).wrapping_add(header[2]) == 0
    })?;
    let flags = words[index + 1];
    let addresses = match words.get(index + 3..index + 8) {
        Some(&[header, load, load_end, bss_end, entry]) if flags & HAS_ADDRESSES != 0 => {
            Some(Addresses {
                header,
                load,
                load_end,
                bss_end,
                entry,
            })
        }
        _ => None,
    };
    Some(Header {
        at: index * 4,
        flags,
        addresses,
    })
}

/// Whether a file that begins so is a flat image.
pub fn is_flat(start: &[u8]) -> bool {
    find_header(start).is_some_and(|header| header.addresses.is_some())
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
#[derive(Default)]
struct Image {
    entry: u32,
    /// The stretches of memory that it fills, with their ends.
    parts: Vec<(u64, u64)>,
}

impl Image {
    fn end(&self) -> u64 {
        self.parts.iter().map(|&(_, end)| end).max().unwrap_or(0)
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.parts
            .iter()
            .any(|&(first, last)| first < end && start < last)
    }
}

/// Puts parts of a kernel into memory.
struct Loader<'a> {
    memory: &'a GuestMemory,
    /// Memory below 4 GiB ends here.
    low_end: u64,
    payload: &'a Payload,
    image: Image,
}

impl Loader<'_> {
    fn bad(&self, cause: impl Into<String>) -> Error {
        Error::BadKernel {
            path: self.payload.kernel.clone(),
            cause: cause.into(),
        }
    }

    /// Places `data` at `start`, and zeros from there to `end`.
    fn place(&mut self, start: u64, data: &[u8], end: u64) -> Result<(), Error> {
        if end > self.low_end {
            return Err(Error::KernelDoesNotFit {
                path: self.payload.kernel.clone(),
                need: mib(end),
                have: mib(self.low_end),
            });
        }
        if end > layout::LOW_END && start < layout::HIGH_START {
            return Err(self.bad(format!(
                "it loads to {start:#x}..{end:#x}, of which {:#x}..{:#x} is not memory",
                layout::LOW_END,
                layout::HIGH_START
            )));
        }
        // Fresh memory is zero, but where hvctl's own boot data are.
        let filled = start + data.len() as u64;
        let dirty = end.min(boot::END).saturating_sub(filled);
        place_bytes(self.memory, filled, &vec![0; dirty as usize])?;
        place_bytes(self.memory, start, data)?;
        self.image.parts.push((start, end));
        Ok(())
    }

    fn elf(mut self, file: &[u8]) -> Result<Image, Error> {
        if file.get(4) == Some(&object::elf::ELFCLASS64) {
            return Err(self.bad("it is a 64-bit ELF; a Multiboot kernel is a 32-bit one"));
        }
        let malformed = |cause: object::Error| Error::BadKernel {
            path: self.payload.kernel.clone(),
            cause: cause.to_string(),
        };
        let elf = FileHeader32::<Endianness>::parse(file).map_err(malformed)?;
        let endian = elf.endian().map_err(malformed)?;
        if elf.e_machine(endian) != EM_386 || elf.e_type(endian) != ET_EXEC {
            return Err(self.bad("it is not an executable for i386"));
        }
        let segments = elf.program_headers(endian, file).map_err(malformed)?;
        let virtual_entry = elf.e_entry(endian);
        let mut entry = None;
        for segment in segments {
            let size = segment.p_memsz(endian);
            if segment.p_type(endian) != PT_LOAD || size == 0 {
                continue;
            }
            let data = segment
                .data(endian, file)
                .map_err(|()| self.bad("a segment is not within the file"))?;
            if data.len() as u64 > u64::from(size) {
                return Err(self.bad("a segment has more contents than memory"));
            }
            let start = segment.p_paddr(endian);
            self.place(start.into(), data, u64::from(start) + u64::from(size))?;
            let within = virtual_entry.wrapping_sub(segment.p_vaddr(endian));
            if within < size {
                entry = Some(start.wrapping_add(within));
            }
        }
        if self.image.parts.is_empty() {
            return Err(self.bad("it has no segment to load"));
        }
        self.image.entry = entry.ok_or_else(|| {
            self.bad(format!(
                "its entry point, {virtual_entry:#x}, is in none of its segments"
            ))
        })?;
        Ok(self.image)
    }

    fn flat(mut self, file: &[u8], at: usize, addresses: Addresses) -> Result<Image, Error> {
        let inconsistent =
            |what| self.bad(format!("the addresses in its Multiboot header: {what}"));
        let before = addresses.header.checked_sub(addresses.load);
        let first = before
            .and_then(|before| at.checked_sub(before as usize))
            .ok_or_else(|| inconsistent("the header is not in what is loaded"))?;
        let mut data = &file[first..];
        if addresses.load_end != 0 {
            let size = addresses.load_end.checked_sub(addresses.load);
            data = size
                .and_then(|size| data.get(..size as usize))
                .ok_or_else(|| inconsistent("the end is not within the file"))?;
        }
        let start = u64::from(addresses.load);
        let end = (start + data.len() as u64).max(addresses.bss_end.into());
        if !(start..end).contains(&addresses.entry.into()) {
            return Err(inconsistent("the entry point is not in what is loaded"));
        }
        self.place(start, data, end)?;
        self.image.entry = addresses.entry;
        Ok(self.image)
    }
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

/// Bytes for what the kernel is told, and where: there, or in other memory that the kernel
/// does not fill.
const ROOM: u64 = boot::END - boot::MULTIBOOT_INFO;

fn find_room(image: &Image) -> u64 {
    let low = (boot::GDT.next_multiple_of(0x1000)..=layout::LOW_END - ROOM).step_by(0x1000);
    std::iter::once(boot::MULTIBOOT_INFO)
        .chain(low)
        .find(|&start| !image.overlaps(start, start + ROOM))
        .unwrap_or(image.end().next_multiple_of(0x1000))
}

/// Loads kernel, module and the information structure.
pub fn load(memory: &GuestMemory, size: u64, payload: &Payload) -> Result<CpuState, Error> {
    let loader = Loader {
        memory,
        low_end: size.min(HOLE),
        payload,
        image: Image::default(),
    };
    let file = match read_whole(&payload.kernel, "kernel", LARGEST_FILE)? {
        Content::Bytes(bytes) => bytes,
        Content::TooLarge(size) => {
            return Err(loader.bad(format!(
                "it has {} MiB, and {} are the most",
                mib(size),
                mib(LARGEST_FILE)
            )));
        }
    };
    let header = find_header(&file).ok_or_else(|| Error::NotAKernel {
        path: payload.kernel.clone(),
    })?;
    let flags = header.flags;
    if flags & DEMANDS & !KNOWN_DEMANDS != 0 {
        return Err(loader.bad(format!(
            "its Multiboot header demands features unknown here ({flags:#x})"
        )));
    }
    if flags & WANTS_VIDEO != 0 {
        tracing::warn!("the kernel asks for a video mode; there is no video");
    }
    let line = command_line(payload)?;

    // Before the kernel, which may want that place.
    let mut cpu = entry::protected(memory)?;
    let low_end = loader.low_end;
    let image = match header.addresses {
        Some(addresses) if !is_elf(&file) => loader.flat(&file, header.at, addresses)?,
        _ => loader.elf(&file)?,
    };
    let start = find_room(&image);
    let mut room = Room {
        memory,
        next: start + size_of::<Info>().next_multiple_of(16) as u64,
    };
    let mut info = Info {
        flags: INFO_MEMORY | INFO_COMMAND_LINE | INFO_MEMORY_MAP | INFO_LOADER_NAME,
        mem_lower: (layout::LOW_END >> 10) as u32,
        mem_upper: (low_end.saturating_sub(layout::HIGH_START) >> 10) as u32,
        boot_loader_name: room.put(LOADER_NAME)?,
        ..Default::default()
    };
    let map = memory_map(size);
    info.mmap_length = map.len() as u32;
    info.mmap_addr = room.put(&map)?;
    if let Some(path) = &payload.initrd {
        let from = image.end().max(if start >= image.end() {
            start + ROOM
        } else {
            0
        });
        let module = module(memory, from, low_end, path, &mut room)?;
        info.flags |= INFO_MODULES;
        info.mods_count = 1;
        info.mods_addr = room.put(module.as_slice())?;
    }
    info.cmdline = room.put_text(&line)?;
    place(memory, start, info)?;

    cpu.rip = u64::from(image.entry);
    cpu.set(Gpr::Rax, LOADER_MAGIC);
    cpu.set(Gpr::Rbx, start);
    cpu.set(Gpr::Rsp, boot::STACK);
    Ok(cpu)
}

/// The command line. Its first word is the kernel's name, as other loaders have it.
fn command_line(payload: &Payload) -> Result<Vec<u8>, Error> {
    let given = payload.command_line("", COMMAND_LINE_LIMIT)?;
    let mut line = payload.kernel.as_os_str().as_bytes().to_vec();
    if !given.is_empty() {
        line.push(b' ');
        line.extend_from_slice(given.as_bytes());
    }
    Ok(line)
}

/// The map of `size` bytes of RAM.
fn memory_map(size: u64) -> Vec<u8> {
    layout::memory_map(size)
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
        .collect()
}

/// Loads the one module on the page after `from`, and above the first MiB.
fn module(
    memory: &GuestMemory,
    from: u64,
    low_end: u64,
    path: &std::path::Path,
    room: &mut Room,
) -> Result<Module, Error> {
    let start = from.max(layout::HIGH_START).next_multiple_of(0x1000);
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
