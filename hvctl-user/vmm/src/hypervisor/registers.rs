// SPDX-License-Identifier: GPL-2.0
//! Registers of a VP in Hyper-V's words.

use mshv_bindings as hv;

use super::{CpuState, Event, EventKind, Exception, Gpr, Register, Segment, Table};

const GPRS: [hv::hv_register_name; 16] = [
    hv::hv_register_name_HV_X64_REGISTER_RAX,
    hv::hv_register_name_HV_X64_REGISTER_RCX,
    hv::hv_register_name_HV_X64_REGISTER_RDX,
    hv::hv_register_name_HV_X64_REGISTER_RBX,
    hv::hv_register_name_HV_X64_REGISTER_RSP,
    hv::hv_register_name_HV_X64_REGISTER_RBP,
    hv::hv_register_name_HV_X64_REGISTER_RSI,
    hv::hv_register_name_HV_X64_REGISTER_RDI,
    hv::hv_register_name_HV_X64_REGISTER_R8,
    hv::hv_register_name_HV_X64_REGISTER_R9,
    hv::hv_register_name_HV_X64_REGISTER_R10,
    hv::hv_register_name_HV_X64_REGISTER_R11,
    hv::hv_register_name_HV_X64_REGISTER_R12,
    hv::hv_register_name_HV_X64_REGISTER_R13,
    hv::hv_register_name_HV_X64_REGISTER_R14,
    hv::hv_register_name_HV_X64_REGISTER_R15,
];

const CONTROLS: [hv::hv_register_name; 6] = [
    hv::hv_register_name_HV_X64_REGISTER_RIP,
    hv::hv_register_name_HV_X64_REGISTER_RFLAGS,
    hv::hv_register_name_HV_X64_REGISTER_CR0,
    hv::hv_register_name_HV_X64_REGISTER_CR3,
    hv::hv_register_name_HV_X64_REGISTER_CR4,
    hv::hv_register_name_HV_X64_REGISTER_EFER,
];

const SEGMENTS: [hv::hv_register_name; 8] = [
    hv::hv_register_name_HV_X64_REGISTER_CS,
    hv::hv_register_name_HV_X64_REGISTER_DS,
    hv::hv_register_name_HV_X64_REGISTER_ES,
    hv::hv_register_name_HV_X64_REGISTER_FS,
    hv::hv_register_name_HV_X64_REGISTER_GS,
    hv::hv_register_name_HV_X64_REGISTER_SS,
    hv::hv_register_name_HV_X64_REGISTER_TR,
    hv::hv_register_name_HV_X64_REGISTER_LDTR,
];

const TABLES: [hv::hv_register_name; 2] = [
    hv::hv_register_name_HV_X64_REGISTER_GDTR,
    hv::hv_register_name_HV_X64_REGISTER_IDTR,
];

/// XMM registers have consecutive names.
pub(super) fn vector_name(index: usize) -> hv::hv_register_name {
    hv::hv_register_name_HV_X64_REGISTER_XMM0 + (index % 16) as hv::hv_register_name
}

pub(super) fn name(register: Register) -> hv::hv_register_name {
    match register {
        Register::Gpr(gpr) => GPRS[gpr as usize],
        Register::Rip => hv::hv_register_name_HV_X64_REGISTER_RIP,
        Register::Rflags => hv::hv_register_name_HV_X64_REGISTER_RFLAGS,
    }
}

pub(super) fn assoc(
    name: hv::hv_register_name,
    value: hv::hv_register_value,
) -> hv::hv_register_assoc {
    hv::hv_register_assoc {
        name,
        value,
        ..Default::default()
    }
}

pub(super) fn assoc64(name: hv::hv_register_name, value: u64) -> hv::hv_register_assoc {
    assoc(name, hv::hv_register_value { reg64: value })
}

fn segment(value: &Segment) -> hv::hv_register_value {
    let mut segment = hv::hv_x64_segment_register {
        base: value.base,
        limit: value.limit,
        selector: value.selector,
        ..Default::default()
    };
    segment.__bindgen_anon_1.attributes = value.attributes;
    hv::hv_register_value { segment }
}

fn table(value: &Table) -> hv::hv_register_value {
    let table = hv::hv_x64_table_register {
        base: value.base,
        limit: value.limit,
        ..Default::default()
    };
    hv::hv_register_value { table }
}

pub(super) fn to_assocs(state: &CpuState) -> Vec<hv::hv_register_assoc> {
    let controls = [
        state.rip,
        state.rflags,
        state.cr0,
        state.cr3,
        state.cr4,
        state.efer,
    ];
    let segments = [
        &state.cs,
        &state.ds,
        &state.es,
        &state.fs,
        &state.gs,
        &state.ss,
        &state.tr,
        &state.ldtr,
    ];
    let tables = [&state.gdtr, &state.idtr];
    let mut assocs = Vec::with_capacity(32);
    assocs.extend(
        GPRS.iter()
            .zip(state.gpr)
            .map(|(&name, value)| assoc64(name, value)),
    );
    assocs.extend(
        SEGMENTS
            .iter()
            .zip(segments)
            .map(|(&name, value)| assoc(name, segment(value))),
    );
    assocs.extend(
        TABLES
            .iter()
            .zip(tables)
            .map(|(&name, value)| assoc(name, table(value))),
    );
    assocs.extend(
        CONTROLS
            .iter()
            .zip(controls)
            .map(|(&name, value)| assoc64(name, value)),
    );
    assocs
}

pub(super) fn from_assocs(assocs: &[hv::hv_register_assoc]) -> CpuState {
    let mut values = assocs.iter().map(|assoc| assoc.value);
    let mut next = || values.next().unwrap_or_default();
    let mut state = CpuState::default();
    // SAFETY: all members of the unions are plain integers, for which every bit pattern
    // is valid, and the hypervisor filled the one that belongs to the register's name.
    unsafe {
        for gpr in Gpr::ALL {
            state.set(gpr, next().reg64);
        }
        for segment in [
            &mut state.cs,
            &mut state.ds,
            &mut state.es,
            &mut state.fs,
            &mut state.gs,
            &mut state.ss,
            &mut state.tr,
            &mut state.ldtr,
        ] {
            let value = next().segment;
            *segment = Segment {
                base: value.base,
                limit: value.limit,
                selector: value.selector,
                attributes: value.__bindgen_anon_1.attributes,
            };
        }
        for table in [&mut state.gdtr, &mut state.idtr] {
            let value = next().table;
            *table = Table {
                base: value.base,
                limit: value.limit,
            };
        }
        for control in [
            &mut state.rip,
            &mut state.rflags,
            &mut state.cr0,
            &mut state.cr3,
            &mut state.cr4,
            &mut state.efer,
        ] {
            *control = next().reg64;
        }
    }
    state
}

/// The value of HV_REGISTER_PENDING_EVENT0 that stands for an exception.
pub(super) fn pending_event(exception: Exception) -> hv::hv_u128 {
    let low = 1 // event pending, of type 0: exception
        | u64::from(exception.error_code.is_some()) << 8
        | u64::from(exception.vector) << 16
        | u64::from(exception.error_code.unwrap_or(0)) << 32;
    hv::hv_u128 {
        low_part: low,
        high_part: exception.parameter,
    }
}

/// The event that HV_REGISTER_PENDING_INTERRUPTION stands for.
pub(super) fn pending_interruption(value: u64) -> Option<Event> {
    let kind = match value >> 1 & 7 {
        0 => EventKind::Interrupt,
        2 => EventKind::Nmi,
        3 => EventKind::Exception,
        4 => EventKind::SoftwareInterrupt,
        5 => EventKind::PrivilegedSoftwareException,
        6 => EventKind::SoftwareException,
        _ => return None,
    };
    (value & 1 != 0).then_some(Event {
        kind,
        vector: (value >> 16) as u8,
        error_code: (value >> 4 & 1 != 0).then_some((value >> 32) as u32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_survive_the_hypervisors_encoding() {
        let mut state = CpuState {
            rip: 0x10_0000,
            rflags: 2,
            cr0: 0x8000_0031,
            cr3: 0x9000,
            cr4: 0x20,
            efer: 0x500,
            cs: Segment::flat_code(0x10, true),
            ss: Segment::flat_data(0x18),
            tr: Segment::task(0x20),
            gdtr: Table {
                base: 0x500,
                limit: 39,
            },
            ..Default::default()
        };
        for (index, gpr) in Gpr::ALL.into_iter().enumerate() {
            state.set(gpr, 0x1111 * index as u64);
        }
        assert_eq!(from_assocs(&to_assocs(&state)), state);
    }

    #[test]
    fn attributes_are_the_hypervisors_bits() {
        let value = segment(&Segment::flat_code(0x10, true));
        // SAFETY: plain bits.
        let bits = unsafe { value.segment.__bindgen_anon_1.__bindgen_anon_1 };
        assert_eq!(
            (
                bits.segment_type(),
                bits.non_system_segment(),
                bits.present()
            ),
            (0xb, 1, 1)
        );
        assert_eq!(
            (bits._long(), bits._default(), bits.granularity()),
            (1, 0, 1)
        );
    }

    #[test]
    fn a_page_fault_is_encoded_as_the_interface_says() {
        let event = pending_event(Exception {
            vector: 14,
            error_code: Some(2),
            parameter: 0xdead_b000,
        });
        let (low, high) = (event.low_part, event.high_part);
        assert_eq!((low, high), (0x0000_0002_000e_0101, 0xdead_b000));
    }

    #[test]
    fn a_pending_event_is_decoded_as_the_interface_says() {
        let event = |kind, vector, error_code| {
            Some(Event {
                kind,
                vector,
                error_code,
            })
        };
        assert_eq!(pending_interruption(0x0000_0002_000e_0016), None);
        assert_eq!(
            pending_interruption(0x0000_0002_000e_0017),
            event(EventKind::Exception, 14, Some(2))
        );
        assert_eq!(
            pending_interruption(0x0021_0009),
            event(EventKind::SoftwareInterrupt, 0x21, None)
        );
        assert_eq!(
            pending_interruption(0x0002_0005),
            event(EventKind::Nmi, 2, None)
        );
    }
}
