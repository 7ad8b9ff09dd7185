// SPDX-License-Identifier: GPL-2.0

//! What holds for every value.

use hvabi::state::{activity, Registers, Table};
use hvabi::vp::{RunPage, Segment};
use proptest::prelude::*;
use tlfs::fpu::XsaveArea;
use tlfs::hvcall::{Input, Interrupt};
use tlfs::lapic::{self, LapicState};
use tlfs::pod;
use tlfs::register::{name, InputVpRegisters, RegisterAssoc, RegisterValue};
use tlfs::segment::{SegmentRegister, TableRegister};
use tlfs::state::{home, Home, LocalRegisters, View};
use tlfs::status::HvStatus;

/// State of a VP with nothing in it.
struct Vp {
    run: RunPage,
    registers: Registers,
    xsave: XsaveArea,
    local: LocalRegisters,
}

impl Vp {
    fn new() -> Box<Vp> {
        // SAFETY: Integers only.
        let mut vp = Box::new(Vp {
            run: unsafe { std::mem::zeroed() },
            registers: unsafe { std::mem::zeroed() },
            xsave: [0; 4096],
            local: LocalRegisters::default(),
        });
        // As on every processor.
        vp.run.rflags = 2;
        vp
    }

    fn view(&mut self) -> View<'_> {
        View {
            run: &mut self.run,
            registers: &mut self.registers,
            xsave: &mut self.xsave,
            local: &mut self.local,
        }
    }
}

/// Names of all registers there are.
fn names() -> Vec<u32> {
    (0..0x000a_0000)
        .filter(|&name| home(name).is_some())
        .collect()
}

/// Registers whose value is any 64 bits.
fn plain_names() -> Vec<u32> {
    names()
        .into_iter()
        .filter(|&name| {
            matches!(name, name::RAX..=name::RIP | name::CR0..=name::DR7 | name::TSC..=name::SFMASK)
                || (name::MTRR_DEF_TYPE..=name::TSC_AUX).contains(&name)
        })
        .collect()
}

fn segment() -> impl Strategy<Value = SegmentRegister> {
    (any::<u64>(), any::<u32>(), any::<u16>(), any::<u16>()).prop_map(
        |(base, limit, selector, attributes)| SegmentRegister {
            base,
            limit,
            selector,
            attributes,
        },
    )
}

proptest! {
    #[test]
    fn segment_to_vmcs_and_back(register in segment()) {
        let segment = Segment::from(register);
        // No bits that the VMCS wants clear, and unusable exactly if not present.
        prop_assert_eq!(segment.access & !0x1_f0ff, 0);
        prop_assert_eq!(segment.access >> 16 & 1, !segment.access >> 7 & 1);
        let back = SegmentRegister::from(segment);
        prop_assert_eq!(back.attributes, register.attributes & 0xf0ff);
        prop_assert_eq!(
            (back.base, back.limit, back.selector),
            (register.base, register.limit, register.selector)
        );
    }

    #[test]
    fn segment_from_vmcs_and_back(
        base: u64, limit: u32, access in 0u32..=0x1_ffff, selector: u16,
    ) {
        let segment = Segment { base, limit, access: access & 0x1_f0ff, selector, reserved: [0; 3] };
        let back = Segment::from(SegmentRegister::from(segment));
        let unusable = segment.access >> 16 & 1 == 1 || segment.access >> 7 & 1 == 0;
        // What an unusable segment says besides stays, but for P.
        let expected = if unusable { segment.access & !0x80 | 1 << 16 } else { segment.access };
        prop_assert_eq!(back, Segment { access: expected, ..segment });
    }

    #[test]
    fn table_and_back(base: u64, limit: u16) {
        let table = Table { base, limit: u32::from(limit), reserved: 0 };
        prop_assert_eq!(Table::from(TableRegister::from(table)), table);
        let register = TableRegister::from(table);
        prop_assert_eq!(TableRegister::from(RegisterValue::from(register)), register);
    }

    #[test]
    fn segment_as_value(register in segment()) {
        let value = RegisterValue::from(register);
        prop_assert_eq!(pod::bytes_of(&value), pod::bytes_of(&register));
        prop_assert_eq!(SegmentRegister::from(value), register);
    }

    /// What the page shows and takes back is what was there.
    #[test]
    fn register_page(gpr: [u64; 16], rip: u64, rflags: u64, segments in [(); 6].map(|()| segment())) {
        use tlfs::register_page::{self as page, dirty};
        let mut vp = Vp::new();
        (vp.run.gpr, vp.run.rip, vp.run.rflags) = (gpr, rip, rflags & 0x3f_7fd5 | 2);
        let places: [Segment; 6] = segments.map(Segment::from);
        [vp.run.es, vp.run.cs, vp.run.ss, vp.run.ds, vp.run.fs, vp.run.gs] = places;
        let words = std::cell::RefCell::new([0u64; 512]);
        page::show(&vp.run, |index, value| words.borrow_mut()[index] = value);
        let get = |index: usize| words.borrow()[index];
        prop_assert_eq!(page::take_segments(get), places);
        let mut back = Vp::new();
        page::take_general(dirty::SEGMENT | dirty::XMM, get, &mut back.run);
        prop_assert_eq!(back.run.gpr, [0; 16]);
        page::take_general(dirty::GENERAL | dirty::IP | dirty::FLAGS, get, &mut back.run);
        prop_assert_eq!(
            (back.run.gpr, back.run.rip, back.run.rflags),
            (vp.run.gpr, vp.run.rip, vp.run.rflags)
        );
        prop_assert_eq!(words.borrow()[page::HEAD], 0);
    }

    #[test]
    fn plain_registers_keep_their_value(values: [u64; 8]) {
        let mut vp = Vp::new();
        let names = plain_names();
        for (index, &name) in names.iter().enumerate() {
            let value = values[index % 8].wrapping_add(index as u64);
            // INTERMEDIATE_* are other names of what is there already.
            if (name::INTERMEDIATE_CR0..=name::INTERMEDIATE_CR8).contains(&name)
                || matches!(home(name), Some(Home::Local))
            {
                continue;
            }
            prop_assert_eq!(vp.view().set(name, value.into()), Ok(()));
        }
        for (index, &name) in names.iter().enumerate() {
            let value = values[index % 8].wrapping_add(index as u64);
            if (name::INTERMEDIATE_CR0..=name::INTERMEDIATE_CR8).contains(&name)
                || matches!(home(name), Some(Home::Local))
            {
                continue;
            }
            // No two names share a place.
            prop_assert_eq!(vp.view().get(name), Ok(value.into()), "{:#x}", name);
        }
    }

    #[test]
    fn what_was_read_can_be_written_and_reads_the_same(
        name in prop::sample::select(names()), low: u64, high: u64,
    ) {
        let mut vp = Vp::new();
        // Whether or not the register likes the value.
        let _ = vp.view().set(name, RegisterValue { low, high });
        let first = vp.view().get(name).unwrap();
        match vp.view().set(name, first) {
            Ok(()) => prop_assert_eq!(vp.view().get(name), Ok(first)),
            // Read-only.
            Err(status) => prop_assert_eq!(status, HvStatus::ACCESS_DENIED),
        }
    }

    #[test]
    fn a_refused_value_changes_nothing(
        name in prop::sample::select(names()), low: u64, high: u64,
    ) {
        let mut vp = Vp::new();
        let before = vp.view().get(name).unwrap();
        if vp.view().set(name, RegisterValue { low, high }).is_err() {
            prop_assert_eq!(vp.view().get(name), Ok(before));
        }
    }

    #[test]
    fn unknown_registers_are_refused(name: u32) {
        if home(name).is_none() {
            let mut vp = Vp::new();
            prop_assert_eq!(vp.view().get(name), Err(HvStatus::INVALID_PARAMETER));
            prop_assert_eq!(vp.view().set(name, 0.into()), Err(HvStatus::INVALID_PARAMETER));
        }
    }

    #[test]
    fn fpu_registers_do_not_overlap(values: [u64; 26], highs: [u64; 26]) {
        let mut vp = Vp::new();
        let expected = |index: usize| match name::XMM0 + index as u32 {
            name::FP_CONTROL_STATUS => RegisterValue {
                low: values[index] & 0xffff_00ff_ffff_ffff,
                high: highs[index],
            },
            name::XMM_CONTROL_STATUS => RegisterValue {
                low: values[index],
                high: highs[index] & 0xffff | 0xffff << 32,
            },
            _ => RegisterValue { low: values[index], high: highs[index] },
        };
        for (index, high) in highs.into_iter().enumerate() {
            let value = RegisterValue {
                high: if index == 25 { high & 0xffff } else { high },
                ..expected(index)
            };
            prop_assert_eq!(vp.view().set(name::XMM0 + index as u32, value), Ok(()));
        }
        for index in 0..26 {
            prop_assert_eq!(vp.view().get(name::XMM0 + index as u32), Ok(expected(index)));
        }
        // x87 and SSE are in use, nothing else.
        prop_assert_eq!(pod::read_at::<u64>(&vp.xsave, 512), Some(3));
    }

    #[test]
    fn lapic_to_page_and_back(bytes: Vec<u8>) {
        let mut state = pod::zeroed::<LapicState>();
        let room = pod::bytes_of_mut(&mut state);
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        state.apic_error_status = state.apic_esr;
        let mut page = [0; 4096];
        lapic::to_page(&state, &mut page);
        prop_assert_eq!(lapic::from_page(&page), state);
    }

    /// However a program lies about sizes, what is read lies in what it gave, or is zero.
    #[test]
    fn hostile_input(bytes in prop::collection::vec(any::<u8>(), 0..=4096), reps: u16) {
        let input = Input::new(&bytes, reps);
        prop_assert_eq!(input.simple::<u64>().is_ok(), reps == 0);
        match input.rep::<InputVpRegisters, RegisterAssoc>() {
            Err(status) => {
                prop_assert_eq!(status, HvStatus::INVALID_HYPERCALL_INPUT);
                prop_assert!(reps == 0 || 16 + 32 * usize::from(reps) > 4096);
            }
            Ok((header, count)) => {
                prop_assert_eq!(count, reps);
                let mut page = bytes.clone();
                page.resize(4096, 0);
                prop_assert_eq!(pod::bytes_of(&header), &page[..16]);
                for index in 0..count {
                    let element: RegisterAssoc =
                        input.element::<InputVpRegisters, RegisterAssoc>(index).unwrap();
                    let offset = 16 + 32 * usize::from(index);
                    prop_assert_eq!(pod::bytes_of(&element), &page[offset..offset + 32]);
                }
            }
        }
        // Also an index that no count allows is only an error.
        let _ = input.element::<InputVpRegisters, RegisterAssoc>(reps);
    }

    #[test]
    fn interrupts_keep_to_the_fields_of_the_word(
        type_: u32, vector: u32, level: bool, logical: bool, dest: u64,
    ) {
        if let Ok(interrupt) = Interrupt::new(type_, vector, level, logical, dest) {
            prop_assert_eq!(interrupt.word & !0x1fff, 0);
            prop_assert_eq!(interrupt.level(), level);
            prop_assert_eq!(u32::from(interrupt.vector()), vector & 0xff);
            prop_assert_eq!(interrupt.destination, dest);
            prop_assert!(matches!(interrupt.word >> 8 & 7, 0 | 1 | 4 | 5 | 7));
        }
    }
}

#[test]
fn the_intermediate_names_are_the_same_registers() {
    let mut vp = Vp::new();
    for (name, other) in [
        (name::CR0, name::INTERMEDIATE_CR0),
        (name::CR3, name::INTERMEDIATE_CR3),
        (name::CR4, name::INTERMEDIATE_CR4),
        (name::CR8, name::INTERMEDIATE_CR8),
    ] {
        vp.view().set(other, 0x1234.into()).unwrap();
        assert_eq!(vp.view().get(name), Ok(0x1234.into()));
    }
}

#[test]
fn pending_interruption_and_vmcs_format() {
    let mut vp = Vp::new();
    // A page fault with an error code: type 3, deliver, vector 14.
    let value = 1 | 3 << 1 | 1 << 4 | 14 << 16 | 0x2u64 << 32;
    vp.view()
        .set(name::PENDING_INTERRUPTION, value.into())
        .unwrap();
    assert_eq!(vp.registers.event, 1 << 31 | 1 << 11 | 3 << 8 | 14);
    assert_eq!(vp.registers.event_error, 2);
    assert_eq!(vp.view().get(name::PENDING_INTERRUPTION), Ok(value.into()));
    // Reserved type, exception with a vector that is none, error code where there is none.
    for bad in [
        1 | 1 << 1,
        1 | 3 << 1 | 32 << 16,
        1 | 1 << 4 | 32 << 16,
        1 | 7 << 1,
    ] {
        let status = vp.view().set(name::PENDING_INTERRUPTION, bad.into());
        assert_eq!(status, Err(HvStatus::INVALID_REGISTER_VALUE));
    }
    vp.view().set(name::PENDING_INTERRUPTION, 0.into()).unwrap();
    assert_eq!(vp.registers.event, 0);
}

#[test]
fn activity_and_shadow() {
    let mut vp = Vp::new();
    vp.view()
        .set(name::INTERNAL_ACTIVITY_STATE, 1.into())
        .unwrap();
    assert_eq!(vp.registers.activity, activity::WAIT_FOR_SIPI);
    vp.registers.interruptibility = 2;
    assert_eq!(vp.view().get(name::INTERRUPT_STATE), Ok(1.into()));
    // A shadow of MOV SS stays one.
    vp.view().set(name::INTERRUPT_STATE, 3.into()).unwrap();
    assert_eq!(vp.registers.interruptibility, 2 | 8);
}
