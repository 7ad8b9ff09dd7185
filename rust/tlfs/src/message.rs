// SPDX-License-Identifier: GPL-2.0

//! Intercept messages: what a VMM reads from RUN_VP, made from what hvcore wrote to the RunPage.

use super::hvabi;
use super::pod::{self, pod_struct, Pod};
use super::processor::Cpuid;
use super::segment::SegmentRegister;
use hvabi::vp::{gpr, ExitKind, RunPage};

/// `enum hv_message_type`.
pub mod message_type {
    pub const NONE: u32 = 0x0000_0000;
    pub const TIMER_EXPIRED: u32 = 0x8000_0010;
    pub const UNMAPPED_GPA: u32 = 0x8000_0000;
    pub const GPA_INTERCEPT: u32 = 0x8000_0001;
    pub const INVALID_VP_REGISTER_VALUE: u32 = 0x8000_0020;
    pub const UNRECOVERABLE_EXCEPTION: u32 = 0x8000_0021;
    pub const UNSUPPORTED_FEATURE: u32 = 0x8000_0022;
    pub const X64_IO_PORT_INTERCEPT: u32 = 0x8001_0000;
    pub const X64_MSR_INTERCEPT: u32 = 0x8001_0001;
    pub const X64_CPUID_INTERCEPT: u32 = 0x8001_0002;
    pub const X64_EXCEPTION_INTERCEPT: u32 = 0x8001_0003;
    pub const X64_APIC_EOI: u32 = 0x8001_0004;
    pub const X64_HALT: u32 = 0x8001_0007;
}

/// `enum hv_intercept_access_type`.
pub mod access_type {
    pub const READ: u8 = 0;
    pub const WRITE: u8 = 1;
    pub const EXECUTE: u8 = 2;
}

/// Bits of `union hv_x64_vp_execution_state`.
pub mod execution_state {
    pub const CR0_PE: u16 = 1 << 2;
    pub const CR0_AM: u16 = 1 << 3;
    pub const EFER_LMA: u16 = 1 << 4;
    pub const DEBUG_ACTIVE: u16 = 1 << 5;
    pub const INTERRUPTION_PENDING: u16 = 1 << 6;
    pub const INTERRUPT_SHADOW: u16 = 1 << 12;
}

/// `enum hv_unsupported_feature_code`.
pub mod feature {
    pub const INTERCEPT: u32 = 1;
    /// The parameter is the exit qualification (SDM vol. 3, table 28-2).
    pub const TASK_SWITCH: u32 = 2;
}

/// Most bytes of an instruction that a message carries.
pub const INSTRUCTION_BYTES: usize = 16;

/// Bytes of payload of a message.
pub const PAYLOAD_SIZE: usize = 240;

pod_struct! {
    /// `struct hv_message`.
    pub struct Message {
        pub message_type: u32,
        pub payload_size: u8,
        pub message_flags: u8,
        pub reserved: [u8; 2],
        pub sender: u64,
        pub payload: [u8; PAYLOAD_SIZE],
    }
    /// `struct hv_x64_intercept_message_header`.
    pub struct InterceptHeader {
        pub vp_index: u32,
        /// Bits 0 to 3 instruction length, 4 to 7 CR8.
        pub length_cr8: u8,
        pub intercept_access_type: u8,
        pub execution_state: u16,
        pub cs_segment: SegmentRegister,
        pub rip: u64,
        pub rflags: u64,
    }
    /// `struct hv_x64_io_port_intercept_message`.
    pub struct IoPortMessage {
        pub header: InterceptHeader,
        pub port_number: u16,
        /// Bits 0 to 2 size, 3 string operation, 4 REP prefix.
        pub access_info: u8,
        pub instruction_byte_count: u8,
        pub reserved: u32,
        pub rax: u64,
        pub instruction_bytes: [u8; INSTRUCTION_BYTES],
        pub ds_segment: SegmentRegister,
        pub es_segment: SegmentRegister,
        pub rcx: u64,
        pub rsi: u64,
        pub rdi: u64,
    }
    /// `struct hv_x64_memory_intercept_message`.
    pub struct MemoryMessage {
        pub header: InterceptHeader,
        pub cache_type: u32,
        pub instruction_byte_count: u8,
        /// Bit 0: the GVA is valid, bit 1: it is the GVA of the GPA.
        pub memory_access_info: u8,
        pub tpr_priority: u8,
        pub reserved1: u8,
        pub guest_virtual_address: u64,
        pub guest_physical_address: u64,
        pub instruction_bytes: [u8; INSTRUCTION_BYTES],
    }
    /// `struct hv_x64_msr_intercept_message`.
    pub struct MsrMessage {
        pub header: InterceptHeader,
        pub msr_number: u32,
        pub reserved: u32,
        pub rdx: u64,
        pub rax: u64,
    }
    /// `struct hv_x64_cpuid_intercept_message`.
    pub struct CpuidMessage {
        pub header: InterceptHeader,
        pub rax: u64,
        pub rcx: u64,
        pub rdx: u64,
        pub rbx: u64,
        /// What the hypervisor would answer: RAX, RCX, RDX, RBX.
        pub default_result: [u64; 4],
    }
    /// `struct hv_x64_exception_intercept_message`.
    pub struct ExceptionMessage {
        pub header: InterceptHeader,
        pub exception_vector: u16,
        /// Bit 0: the error code is valid, bit 1: software exception.
        pub exception_info: u8,
        pub instruction_byte_count: u8,
        pub error_code: u32,
        pub exception_parameter: u64,
        pub reserved: u64,
        pub instruction_bytes: [u8; INSTRUCTION_BYTES],
        pub ds_segment: SegmentRegister,
        pub ss_segment: SegmentRegister,
        /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
        pub gpr: [u64; 16],
    }
    /// `struct hv_x64_apic_eoi_message`.
    pub struct ApicEoiMessage {
        pub vp_index: u32,
        pub interrupt_vector: u32,
    }
    /// `struct hv_x64_invalid_vp_register_message`.
    pub struct InvalidRegisterMessage {
        pub vp_index: u32,
        pub reserved: u32,
    }
    /// `struct hv_x64_unsupported_feature_message`.
    pub struct UnsupportedFeatureMessage {
        pub vp_index: u32,
        pub feature_code: u32,
        pub feature_parameter: u64,
    }
}

/// HV_CACHE_TYPE of write-back memory.
const CACHE_WRITE_BACK: u32 = 6;

/// The bytes of the instruction that caused an intercept, as far as they could be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Instruction {
    pub bytes: [u8; INSTRUCTION_BYTES],
    pub count: u8,
}

impl Message {
    /// A message of no type.
    pub fn none() -> Message {
        pod::zeroed()
    }

    /// The bytes that say something: the head and the payload.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        const HEAD: usize = core::mem::offset_of!(Message, payload);
        let end = HEAD + usize::from(self.payload_size).min(PAYLOAD_SIZE);
        &pod::bytes_of(self)[..end]
    }

    /// Makes this a message of type `message_type` with `payload`.
    ///
    /// What is behind the payload keeps its bytes: a message is written to memory of the same VP
    /// again and again, and only ever holds bytes of messages of that VP.
    #[inline]
    pub fn set<T: Pod>(&mut self, message_type: u32, payload: &T) {
        const {
            assert!(core::mem::size_of::<T>() <= PAYLOAD_SIZE);
            assert!(core::mem::align_of::<T>() <= core::mem::align_of::<Message>());
            assert!(
                core::mem::offset_of!(Message, payload) % core::mem::align_of::<Message>() == 0
            );
        }
        self.message_type = message_type;
        self.payload_size = core::mem::size_of::<T>() as u8;
        self.message_flags = 0;
        self.reserved = [0; 2];
        self.sender = 0;
        // The assertions say that it fits.
        if let Some(place) = pod::view_mut(&mut self.payload) {
            *place = *payload;
        }
    }
}

/// The header of an intercept message of VP `vp_index`.
pub fn header(vp_index: u32, run: &RunPage, access: u8) -> InterceptHeader {
    let mut state = run.cpl as u16 & 3;
    if run.cr0 & 1 << 0 != 0 {
        state |= execution_state::CR0_PE;
    }
    if run.cr0 & 1 << 18 != 0 {
        state |= execution_state::CR0_AM;
    }
    if run.efer & 1 << 10 != 0 {
        state |= execution_state::EFER_LMA;
    }
    if run.event & 1 << 31 != 0 {
        state |= execution_state::INTERRUPTION_PENDING;
    }
    if run.interruptibility & 3 != 0 {
        state |= execution_state::INTERRUPT_SHADOW;
    }
    InterceptHeader {
        vp_index,
        length_cr8: (run.instruction_len & 0xf) as u8 | (run.cr8 as u8) << 4,
        intercept_access_type: access,
        execution_state: state,
        cs_segment: run.cs.into(),
        rip: run.rip,
        rflags: run.rflags,
    }
}

/// True if the message of this exit carries the bytes of the instruction.
///
/// A simple IN or OUT is told in full by the exit; INS and OUTS need the address size and the
/// segment, and memory accesses everything.
pub fn wants_instruction(run: &RunPage, kind: ExitKind) -> bool {
    match kind {
        ExitKind::Port => run.port_string != 0,
        ExitKind::Memory => run.access & 4 == 0,
        ExitKind::Exception => true,
        _ => false,
    }
}

/// Writes the message for an exit that the VMM must handle.
///
/// `mapped` says whether the GPA of a memory exit is mapped, so that the access was one the
/// mapping does not allow.
pub fn translate(
    message: &mut Message,
    vp_index: u32,
    run: &RunPage,
    kind: ExitKind,
    instruction: &Instruction,
    mapped: bool,
) {
    match kind {
        ExitKind::Port => io_port(message, vp_index, run, instruction),
        ExitKind::Memory => memory(message, vp_index, run, instruction, mapped),
        ExitKind::Eoi => message.set(
            message_type::X64_APIC_EOI,
            &ApicEoiMessage {
                vp_index,
                interrupt_vector: u32::from(run.vector),
            },
        ),
        ExitKind::Halted => message.set(
            message_type::X64_HALT,
            &header(vp_index, run, access_type::EXECUTE),
        ),
        ExitKind::TripleFault => message.set(
            message_type::UNRECOVERABLE_EXCEPTION,
            &header(vp_index, run, access_type::EXECUTE),
        ),
        ExitKind::BadState => message.set(
            message_type::INVALID_VP_REGISTER_VALUE,
            &InvalidRegisterMessage {
                vp_index,
                reserved: 0,
            },
        ),
        ExitKind::TaskSwitch => message.set(
            message_type::UNSUPPORTED_FEATURE,
            &UnsupportedFeatureMessage {
                vp_index,
                feature_code: feature::TASK_SWITCH,
                feature_parameter: run.qualification,
            },
        ),
        ExitKind::Msr => message.set(
            message_type::X64_MSR_INTERCEPT,
            &MsrMessage {
                header: header(vp_index, run, msr_access(run)),
                msr_number: run.gpr[gpr::RCX] as u32,
                reserved: 0,
                rdx: run.gpr[gpr::RDX],
                rax: run.gpr[gpr::RAX],
            },
        ),
        ExitKind::Exception => exception(message, vp_index, run, instruction),
        ExitKind::Unexpected
        | ExitKind::Interrupted
        | ExitKind::WaitForSipi
        | ExitKind::Cpuid
        | ExitKind::Hypercall => message.set(
            message_type::UNSUPPORTED_FEATURE,
            &UnsupportedFeatureMessage {
                vp_index,
                feature_code: feature::INTERCEPT,
                feature_parameter: u64::from(run.reason),
            },
        ),
    }
}

fn msr_access(run: &RunPage) -> u8 {
    if run.access & 2 != 0 {
        access_type::WRITE
    } else {
        access_type::READ
    }
}

/// Writes the message for CPUID, to which the hypervisor would answer `default`.
pub fn cpuid(message: &mut Message, vp_index: u32, run: &RunPage, default: &Cpuid) {
    let [eax, ebx, ecx, edx] = default.map(u64::from);
    message.set(
        message_type::X64_CPUID_INTERCEPT,
        &CpuidMessage {
            header: header(vp_index, run, access_type::EXECUTE),
            rax: run.gpr[gpr::RAX],
            rcx: run.gpr[gpr::RCX],
            rdx: run.gpr[gpr::RDX],
            rbx: run.gpr[gpr::RBX],
            default_result: [eax, ecx, edx, ebx],
        },
    );
}

/// The parameter is CR2 of a page fault, and DR6 of a debug exception.
fn exception(message: &mut Message, vp_index: u32, run: &RunPage, instruction: &Instruction) {
    const HAS_ERROR: u32 = 1 << 11;
    const TYPE_SOFTWARE: u32 = 6;
    let error_valid = u8::from(run.fault & HAS_ERROR != 0);
    let software = u8::from(run.fault >> 8 & 7 == TYPE_SOFTWARE);
    message.set(
        message_type::X64_EXCEPTION_INTERCEPT,
        &ExceptionMessage {
            header: header(vp_index, run, access_type::EXECUTE),
            exception_vector: (run.fault & 0xff) as u16,
            exception_info: error_valid | software << 1,
            instruction_byte_count: instruction.count,
            error_code: run.fault_error,
            exception_parameter: run.qualification,
            reserved: 0,
            instruction_bytes: instruction.bytes,
            ds_segment: run.ds.into(),
            ss_segment: run.ss.into(),
            gpr: run.gpr,
        },
    );
}

fn io_port(message: &mut Message, vp_index: u32, run: &RunPage, instruction: &Instruction) {
    let access = if run.port_in != 0 {
        access_type::READ
    } else {
        access_type::WRITE
    };
    message.set(
        message_type::X64_IO_PORT_INTERCEPT,
        &IoPortMessage {
            header: header(vp_index, run, access),
            port_number: run.port,
            access_info: run.port_size & 7 | (run.port_string & 1) << 3 | (run.port_rep & 1) << 4,
            instruction_byte_count: instruction.count,
            reserved: 0,
            rax: run.gpr[gpr::RAX],
            instruction_bytes: instruction.bytes,
            ds_segment: run.ds.into(),
            es_segment: run.es.into(),
            rcx: run.gpr[gpr::RCX],
            rsi: run.gpr[gpr::RSI],
            rdi: run.gpr[gpr::RDI],
        },
    );
}

fn memory(
    message: &mut Message,
    vp_index: u32,
    run: &RunPage,
    instruction: &Instruction,
    mapped: bool,
) {
    let access = match run.access {
        a if a & 2 != 0 => access_type::WRITE,
        a if a & 4 != 0 => access_type::EXECUTE,
        _ => access_type::READ,
    };
    // An access to a table that was read to translate the address is not one to it.
    let info = match run.gla_valid & 3 {
        both @ (1 | 3) => both as u8,
        _ => 0,
    };
    let type_ = if mapped {
        message_type::GPA_INTERCEPT
    } else {
        message_type::UNMAPPED_GPA
    };
    message.set(
        type_,
        &MemoryMessage {
            header: header(vp_index, run, access),
            cache_type: CACHE_WRITE_BACK,
            instruction_byte_count: instruction.count,
            memory_access_info: info,
            tpr_priority: run.cr8 as u8,
            reserved1: 0,
            guest_virtual_address: if info != 0 { run.gla } else { 0 },
            guest_physical_address: run.gpa,
            instruction_bytes: instruction.bytes,
        },
    );
}
