// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::memory;
use object::elf::{PF_R, PF_W, PF_X, PT_NOTE};
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
    assert!(refused(&elf(0, &[code(0xa_0000, &good)])).contains("is not memory"));
    assert!(refused(&elf(0, &[code(0x9_fbf8, &good)])).contains("is not memory"));
    assert!(refused(&elf(0, &[code(0x10_0000, &good)])).contains("its entry point, 0x0"));
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

fn info(memory: &GuestMemory, cpu: &CpuState) -> Info {
    memory.read_obj(GuestAddress(cpu.get(Gpr::Rbx))).unwrap()
}

#[test]
fn a_kernel_may_fill_low_memory_and_boot_data_go_elsewhere() {
    let contents = with_header(b"low");
    for (start, size) in [
        (0x0, 0x1000),
        (0x500, 0x8000),
        (0x8000, 0x4_0000),
        (0x3_0000, 0x6_0000),
        (0x1000, 0x9_ec00),
    ] {
        let segment = Segment {
            memory: size,
            ..code(start, &contents)
        };
        let mut files = files(&elf(start + 12, &[segment]));
        let module = files.directory.path().join("module");
        std::fs::write(&module, b"the module").unwrap();
        files.payload.initrd = Some(module);
        let (memory, cpu) = boot(&files).unwrap();
        assert_eq!(cpu.rip, u64::from(start) + 12);
        assert_eq!(text(&memory, start + 12), b"low", "{start:#x}");
        // All of the rest is zero, whatever was there before.
        let mut rest = vec![1; size as usize - contents.len()];
        let from = u64::from(start) + contents.len() as u64;
        memory.read_slice(&mut rest, GuestAddress(from)).unwrap();
        assert!(rest.iter().all(|&byte| byte == 0), "{start:#x}");
        let told = info(&memory, &cpu);
        let name = files.payload.kernel.to_str().unwrap().as_bytes();
        assert_eq!(text(&memory, told.cmdline), name);
        let entry: Module = memory
            .read_obj(GuestAddress(told.mods_addr.into()))
            .unwrap();
        assert_eq!(text(&memory, entry.start), b"the module", "{start:#x}");
    }
}

/// A flat image: the header with these addresses at `at`, the rest `0x90`.
fn flat(at: usize, addresses: [u32; 5]) -> Vec<u8> {
    let mut file = vec![0x90; 0x3000];
    let words: Vec<u8> = addresses.into_iter().flat_map(u32::to_le_bytes).collect();
    let header = [header(HAS_ADDRESSES | 3), words].concat();
    file[at..at + header.len()].copy_from_slice(&header);
    file
}

#[test]
fn a_flat_image_goes_where_its_header_says() {
    // The file's first 0x100 bytes are not loaded.
    let file = flat(
        0x180,
        [0x20_0080, 0x20_0000, 0x20_1000, 0x20_8000, 0x20_0010],
    );
    let (memory, cpu) = boot(&files(&file)).unwrap();
    assert_eq!(cpu.rip, 0x20_0010);
    let mut loaded = vec![0; 0x8000];
    memory
        .read_slice(&mut loaded, GuestAddress(0x20_0000))
        .unwrap();
    assert_eq!(loaded[..0x1000], file[0x100..0x1100]);
    assert!(loaded[0x1000..].iter().all(|&byte| byte == 0));
    // All of the file, nothing cleared, the header first.
    let whole = flat(0, [0x10_0000, 0x10_0000, 0, 0, 0x10_2fff]);
    let (memory, cpu) = boot(&files(&whole)).unwrap();
    assert_eq!(cpu.rip, 0x10_2fff);
    let mut loaded = vec![0; whole.len()];
    memory
        .read_slice(&mut loaded, GuestAddress(0x10_0000))
        .unwrap();
    assert_eq!(loaded, whole);
}

#[test]
fn a_flat_image_with_addresses_that_cannot_be_is_refused() {
    let base = 0x10_0000;
    for (at, addresses, why) in [
        (0, [base, base + 4, 0, 0, base], "the header is not in what"),
        (0, [base + 4, base, 0, 0, base], "the header is not in what"),
        (
            0,
            [base, base, base + 0x3001, 0, base],
            "not within the file",
        ),
        (0, [base, base, base - 1, 0, base], "not within the file"),
        (0, [base, base, 0, 0, base + 0x3000], "the entry point"),
        (0, [base, base, 0, u32::MAX, base], "needs 4096 MiB"),
        (0, [0x9_f000, 0x9_f000, 0, 0, 0x9_f000], "is not memory"),
    ] {
        let said = refused(&flat(at, addresses));
        assert!(said.contains(why), "{addresses:x?}: {said}");
    }
    // Without addresses only an ELF is a kernel.
    let mut file = vec![0; 4096];
    file[..12].copy_from_slice(&header(3));
    assert!(refused(&file).contains("is not a kernel"));
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
        prop_assert_eq!(find_header(&file).map(|found| found.flags), reachable.then_some(flags));
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
