// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::memory;
use object::elf::{PF_R, PF_W, PT_NOTE};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 16 * MIB;

/// A segment of an ELF to be made.
struct Segment {
    kind: u32,
    flags: u32,
    virtual_address: u32,
    physical: u32,
    contents: Vec<u8>,
    memory: u32,
}

fn code(physical: u32, contents: &[u8]) -> Segment {
    Segment {
        kind: PT_LOAD,
        flags: PF_R | PF_X,
        virtual_address: physical,
        physical,
        contents: contents.to_vec(),
        memory: contents.len() as u32,
    }
}

fn header(flags: u32) -> Vec<u8> {
    let sum = 0u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(flags);
    [HEADER_MAGIC, flags, sum]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
}

/// A 32-bit ELF, its segments' contents one after the other behind the headers.
fn elf(entry: u32, segments: &[Segment]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x01\x01\x01");
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, value: u16| file.extend_from_slice(&value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend_from_slice(&value.to_le_bytes());
    half(&mut file, ET_EXEC);
    half(&mut file, EM_386);
    for value in [1, entry, 52, 0, 0] {
        word(&mut file, value);
    }
    for value in [52, 32, segments.len() as u16, 40, 0, 0] {
        half(&mut file, value);
    }
    let mut offset = 52 + 32 * segments.len() as u32;
    for segment in segments {
        let size = segment.contents.len() as u32;
        for value in [
            segment.kind,
            offset,
            segment.virtual_address,
            segment.physical,
            size,
            segment.memory,
            segment.flags,
            1,
        ] {
            word(&mut file, value);
        }
        offset += size;
    }
    for segment in segments {
        file.extend_from_slice(&segment.contents);
    }
    file
}

fn with_header(contents: &[u8]) -> Vec<u8> {
    // The header on its boundary: the file's headers are a multiple of four long.
    [&header(3), contents].concat()
}

struct Files {
    directory: tempfile::TempDir,
    payload: Payload,
}

fn files(kernel: &[u8]) -> Files {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kernel");
    std::fs::write(&path, kernel).unwrap();
    Files {
        directory,
        payload: Payload {
            kernel: path,
            initrd: None,
            command_line: None,
        },
    }
}

fn boot(files: &Files) -> Result<(GuestMemory, CpuState), Error> {
    let memory = memory::allocate(&[(0, SIZE)]).unwrap();
    crate::boot::load(&memory, SIZE, 1, &files.payload).map(|cpu| (memory, cpu))
}

fn refused(kernel: &[u8]) -> String {
    boot(&files(kernel)).unwrap_err().to_string()
}

fn text(memory: &GuestMemory, address: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    memory
        .read_slice(&mut bytes, GuestAddress(address.into()))
        .unwrap();
    bytes.split(|byte| *byte == 0).next().unwrap().to_vec()
}

#[test]
fn everything_is_where_the_information_says() {
    let mut files = files(&elf(0x20_000c, &[code(0x20_0000, &with_header(b"code"))]));
    let module = files.directory.path().join("module");
    std::fs::write(&module, b"the module").unwrap();
    files.payload.initrd = Some(module.clone());
    files.payload.command_line = Some("one two".into());
    let (memory, cpu) = boot(&files).unwrap();

    assert_eq!((cpu.rip, cpu.get(Gpr::Rax)), (0x20_000c, LOADER_MAGIC));
    assert_eq!((cpu.bitness(), cpu.cr0 & CpuState::CR0_PG), (32, 0));
    assert_eq!(text(&memory, 0x20_000c), b"code");
    let info: Info = memory.read_obj(GuestAddress(cpu.get(Gpr::Rbx))).unwrap();
    assert_eq!(info.flags, 0b10_0100_1101);
    assert_eq!((info.mem_lower, info.mem_upper), (639, 15 * 1024));
    let line = format!("{} one two", files.payload.kernel.display());
    assert_eq!(text(&memory, info.cmdline), line.as_bytes());
    assert_eq!(text(&memory, info.boot_loader_name), b"hvctl");

    let entry: Module = memory
        .read_obj(GuestAddress(info.mods_addr.into()))
        .unwrap();
    assert_eq!((info.mods_count, entry.start % 4096), (1, 0));
    assert_eq!(text(&memory, entry.start), b"the module");
    assert_eq!(entry.end - entry.start, 10);
    assert_eq!(
        text(&memory, entry.string),
        module.to_str().unwrap().as_bytes()
    );

    // The map, walked as its format says.
    let (mut at, end) = (info.mmap_addr, info.mmap_addr + info.mmap_length);
    let mut usable = 0;
    while at < end {
        let entry: MapEntry = memory.read_obj(GuestAddress(at.into())).unwrap();
        if entry.kind == 1 {
            usable += entry.length;
        }
        at += entry.size + 4;
    }
    assert_eq!(
        (at, usable),
        (end, SIZE - (layout::HIGH_START - layout::LOW_END))
    );
}

#[test]
fn segments_go_to_their_physical_addresses_and_are_filled_up() {
    let segments = [
        code(0x10_0000, &with_header(b"")),
        Segment {
            kind: PT_LOAD,
            flags: PF_R | PF_W,
            virtual_address: 0xc040_0000,
            physical: 0x40_0000,
            contents: b"data".to_vec(),
            memory: 0x1000,
        },
        Segment {
            kind: PT_NOTE,
            flags: PF_R,
            virtual_address: 0,
            physical: 0,
            contents: b"note".to_vec(),
            memory: 4,
        },
    ];
    let (memory, cpu) = boot(&files(&elf(0x10_0000, &segments))).unwrap();
    assert_eq!(cpu.rip, 0x10_0000);
    assert_eq!(text(&memory, 0x40_0000), b"data");
    assert_eq!(text(&memory, 0), b"");
}

#[test]
fn a_virtual_entry_is_turned_into_a_physical_one() {
    let segment = Segment {
        virtual_address: 0xc010_0000,
        ..code(0x10_0000, &with_header(b"xyz"))
    };
    let (_, cpu) = boot(&files(&elf(0xc010_000c, &[segment]))).unwrap();
    assert_eq!(cpu.rip, 0x10_000c);
}

#[test]
fn what_cannot_be_booted_says_why() {
    let good = with_header(b"");
    assert!(refused(&elf(0, &[code(0x10_0000, b"no header")])).contains("Multiboot 1 header"));
    assert!(refused(&elf(0, &[code(0x1000, &good)])).contains("boot data"));
    assert!(refused(&elf(0, &[code(0xff_fff8, &good)])).contains("needs 17 MiB"));
    assert!(refused(&elf(0, &[code(0xffff_fff8, &good)])).contains("needs 4097 MiB"));
    let strange = [header(1 << 5), vec![0; 4]].concat();
    assert!(refused(&elf(0, &[code(0x10_0000, &strange)])).contains("features unknown"));
    let note = Segment {
        kind: PT_NOTE,
        ..code(0x10_0000, &good)
    };
    assert!(refused(&elf(0, &[note])).contains("no segment"));
    let mut wide = elf(0, &[code(0x10_0000, &good)]);
    wide[4] = 2;
    assert!(refused(&wide).contains("64-bit ELF"));
    let mut arm = elf(0, &[code(0x10_0000, &good)]);
    arm[18] = 40;
    assert!(refused(&arm).contains("i386"));
    let mut cut = elf(0, &[code(0x10_0000, &with_header(&[1; 100]))]);
    cut.truncate(cut.len() - 10);
    assert!(refused(&cut).contains("not within the file"));
}

#[test]
fn command_lines_have_a_limit() {
    let mut files = files(&elf(0x10_0000, &[code(0x10_0000, &with_header(b""))]));
    files.payload.command_line = Some("x".repeat(COMMAND_LINE_LIMIT));
    boot(&files).unwrap();
    files.payload.command_line = Some("x".repeat(COMMAND_LINE_LIMIT + 1));
    assert!(boot(&files).unwrap_err().to_string().contains("--cmdline"));
}

#[test]
fn a_module_that_does_not_fit_is_refused() {
    let mut files = files(&elf(0x10_0000, &[code(0x10_0000, &with_header(b""))]));
    let module = files.directory.path().join("module");
    std::fs::write(&module, vec![0; SIZE as usize]).unwrap();
    files.payload.initrd = Some(module);
    assert!(matches!(boot(&files), Err(Error::InitrdDoesNotFit { .. })));
}

proptest! {
    #[test]
    fn a_header_is_found_on_its_boundary_in_the_first_8_kib(at in 0usize..9000, flags: u32) {
        let mut file = vec![0; 16384];
        let header = header(flags);
        file[at..at + header.len()].copy_from_slice(&header);
        let reachable = at % 4 == 0 && at + header.len() <= SEARCH;
        prop_assert_eq!(find_header(&file), reachable.then_some(flags));
    }

    #[test]
    fn a_wrong_sum_is_no_header(flags: u32, error in 1u32..) {
        let mut file = header(flags);
        let sum = u32::from_le_bytes(file[8..12].try_into().unwrap()).wrapping_add(error);
        file[8..12].copy_from_slice(&sum.to_le_bytes());
        prop_assert_eq!(find_header(&file), None);
    }

    #[test]
    fn any_file_is_booted_or_refused(
        start in prop::collection::vec(any::<u8>(), 0..300),
        changes in prop::collection::vec((0usize..200, any::<u8>()), 0..20),
        random: bool,
    ) {
        let mut file = elf(0x10_0000, &[code(0x10_0000, &with_header(&[0x90; 64]))]);
        if random {
            file = [b"\x7fELF".to_vec(), start].concat();
        }
        for (at, value) in changes {
            if let Some(byte) = file.get_mut(at) {
                *byte = value;
            }
        }
        let _ = boot(&files(&file));
    }
}
