// SPDX-License-Identifier: GPL-2.0
//! From the hypervisor's intercept messages to [`Exit`].

use mshv_bindings as hv;

use super::Failure;
use super::exit::{Exit, InstructionBytes, MemoryAccess, PortAccess};
use crate::emulate::TaskSwitch;

/// HvUnsupportedFeatureTaskSwitchTss; its parameter is the exit qualification.
const TASK_SWITCH: u32 = 2;
/// InterruptionPending of `union hv_x64_vp_execution_state`.
const INTERRUPTION_PENDING: u16 = 1 << 6;

const WRITE: u8 = hv::HV_INTERCEPT_ACCESS_WRITE as u8;

/// What a message of RUN_VP says.
pub fn decode(message: &hv::hv_message) -> Result<Exit, Failure> {
    // The header is packed: copy before use.
    let message_type = message.header.message_type;
    Ok(match message_type {
        hv::hv_message_type_HVMSG_X64_IO_PORT_INTERCEPT => {
            Exit::Port(port(&message.to_ioport_info().map_err(malformed)?))
        }
        hv::hv_message_type_HVMSG_UNMAPPED_GPA | hv::hv_message_type_HVMSG_GPA_INTERCEPT => {
            Exit::Memory(memory(&message.to_memory_info().map_err(malformed)?))
        }
        hv::hv_message_type_HVMSG_X64_APIC_EOI => {
            let eoi = message.to_apic_eoi_info().map_err(malformed)?;
            Exit::Eoi {
                vector: eoi.interrupt_vector as u8,
            }
        }
        hv::hv_message_type_HVMSG_X64_HALT => Exit::Halt,
        hv::hv_message_type_HVMSG_UNRECOVERABLE_EXCEPTION => Exit::Unrecoverable,
        hv::hv_message_type_HVMSG_INVALID_VP_REGISTER_VALUE => Exit::InvalidRegisters,
        hv::hv_message_type_HVMSG_UNSUPPORTED_FEATURE => {
            let feature = unsupported_feature(message);
            match feature.feature_code {
                TASK_SWITCH => {
                    Exit::TaskSwitch(TaskSwitch::from_qualification(feature.feature_parameter))
                }
                _ => Exit::Unexpected { message_type },
            }
        }
        message_type => Exit::Unexpected { message_type },
    })
}

fn unsupported_feature(message: &hv::hv_message) -> hv::hv_x64_unsupported_feature_message {
    // SAFETY: the message's type says that its payload begins with this structure, which is
    // plain integers.
    unsafe {
        std::ptr::addr_of!(message.u.payload)
            .cast::<hv::hv_x64_unsupported_feature_message>()
            .read_unaligned()
    }
}

fn malformed(cause: vmm_sys_util::errno::Error) -> Failure {
    Failure {
        call: "intercept message",
        cause: cause.to_string(),
    }
}

fn port(message: &hv::hv_x64_io_port_intercept_message) -> PortAccess {
    // SAFETY: every bit pattern is valid for either member of the union.
    let info = unsafe { message.access_info.__bindgen_anon_1 };
    PortAccess {
        port: message.port_number,
        size: info.access_size(),
        write: message.header.intercept_access_type == WRITE,
        string: info.string_op() != 0,
        rax: message.rax,
        rip: message.header.rip,
        instruction_length: message.header.instruction_length(),
        instruction: InstructionBytes::new(
            message.instruction_bytes,
            message.instruction_byte_count,
        ),
    }
}

fn memory(message: &hv::hv_x64_memory_intercept_message) -> MemoryAccess {
    // SAFETY: every bit pattern is valid for either member of the union.
    let state = unsafe { message.header.execution_state.as_uint16 };
    // SAFETY: and for these.
    let info = unsafe { message.memory_access_info.__bindgen_anon_1 };
    let translated = info.gva_valid() != 0 && info.gva_gpa_valid() != 0;
    MemoryAccess {
        gpa: message.guest_physical_address,
        linear: translated.then_some(message.guest_virtual_address),
        write: message.header.intercept_access_type == WRITE,
        by_event: state & INTERRUPTION_PENDING != 0,
        rip: message.header.rip,
        instruction: InstructionBytes::new(
            message.instruction_bytes,
            message.instruction_byte_count,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T>(message_type: u32, payload: &T) -> hv::hv_message {
        let mut message = hv::hv_message::default();
        message.header.message_type = message_type;
        message.header.payload_size = size_of::<T>() as u8;
        // SAFETY: the payload area is 240 bytes, more than any of these structures,
        // which are plain bytes.
        unsafe {
            assert!(size_of::<T>() <= 240);
            let to = std::ptr::addr_of_mut!(message.u.payload).cast::<T>();
            to.write_unaligned(std::ptr::read(payload));
        }
        message
    }

    #[test]
    fn a_port_write_keeps_its_fields() {
        let mut payload = hv::hv_x64_io_port_intercept_message::default();
        payload.header.intercept_access_type = WRITE;
        payload.header.set_instruction_length(1);
        payload.header.rip = 0x1234;
        payload.port_number = 0xf4;
        payload.access_info.as_uint8 = 4;
        payload.rax = 9;
        let exit = decode(&message(
            hv::hv_message_type_HVMSG_X64_IO_PORT_INTERCEPT,
            &payload,
        ));
        assert_eq!(
            exit.unwrap(),
            Exit::Port(PortAccess {
                port: 0xf4,
                size: 4,
                write: true,
                string: false,
                rax: 9,
                rip: 0x1234,
                instruction_length: 1,
                instruction: InstructionBytes::default(),
            })
        );
    }

    #[test]
    fn a_repeated_string_read_is_told_from_a_plain_one() {
        let mut payload = hv::hv_x64_io_port_intercept_message::default();
        payload.access_info.as_uint8 = 1 | 1 << 3 | 1 << 4;
        let exit = decode(&message(
            hv::hv_message_type_HVMSG_X64_IO_PORT_INTERCEPT,
            &payload,
        ));
        let Exit::Port(access) = exit.unwrap() else {
            panic!("not a port access")
        };
        assert!(access.string && !access.write && access.size == 1);
    }

    #[test]
    fn memory_accesses_of_both_kinds_are_the_same() {
        let mut payload = hv::hv_x64_memory_intercept_message {
            guest_physical_address: 0xfec0_0010,
            ..Default::default()
        };
        payload.header.rip = 0xffff_ffff_8100_0000;
        payload.guest_virtual_address = 0x7010;
        payload.instruction_byte_count = 2;
        payload.instruction_bytes[..2].copy_from_slice(&[0x8b, 0x07]);
        for kind in [
            hv::hv_message_type_HVMSG_UNMAPPED_GPA,
            hv::hv_message_type_HVMSG_GPA_INTERCEPT,
        ] {
            let Exit::Memory(access) = decode(&message(kind, &payload)).unwrap() else {
                panic!("not a memory access")
            };
            assert_eq!((access.gpa, access.write), (0xfec0_0010, false));
            assert_eq!(access.instruction.as_slice(), [0x8b, 0x07]);
        }
        // Only the address that was translated to this one is of use.
        for (info, linear) in [(0, None), (1, None), (2, None), (3, Some(0x7010))] {
            payload.memory_access_info.as_uint8 = info;
            let Exit::Memory(access) =
                decode(&message(hv::hv_message_type_HVMSG_UNMAPPED_GPA, &payload)).unwrap()
            else {
                panic!("not a memory access")
            };
            assert_eq!(access.linear, linear);
        }
    }

    #[test]
    fn the_rest_is_named_or_refused() {
        let eoi = hv::hv_x64_apic_eoi_message {
            vp_index: 0,
            interrupt_vector: 0x31,
        };
        let exit = decode(&message(hv::hv_message_type_HVMSG_X64_APIC_EOI, &eoi));
        assert_eq!(exit.unwrap(), Exit::Eoi { vector: 0x31 });
        let msr = hv::hv_message_type_HVMSG_X64_MSR_INTERCEPT;
        assert_eq!(
            decode(&message(msr, &())).unwrap(),
            Exit::Unexpected { message_type: msr }
        );
    }
}
