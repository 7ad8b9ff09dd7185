// SPDX-License-Identifier: GPL-2.0

//! The hypercalls that MSHV_ROOT_HVCALL passes through: numbers, inputs and outputs.

use super::pod::{self, pod_struct, Pod};
use super::status::{HvResult, HvStatus};
use super::PAGE_SIZE;

/// Call codes.
pub mod code {
    pub const GET_PARTITION_PROPERTY: u16 = 0x0044;
    pub const SET_PARTITION_PROPERTY: u16 = 0x0045;
    pub const INSTALL_INTERCEPT: u16 = 0x004d;
    pub const GET_VP_REGISTERS: u16 = 0x0050;
    pub const SET_VP_REGISTERS: u16 = 0x0051;
    pub const TRANSLATE_VIRTUAL_ADDRESS: u16 = 0x0052;
    pub const CLEAR_VIRTUAL_INTERRUPT: u16 = 0x0056;
    pub const REGISTER_INTERCEPT_RESULT: u16 = 0x0091;
    pub const ASSERT_VIRTUAL_INTERRUPT: u16 = 0x0094;
    pub const SIGNAL_EVENT_DIRECT: u16 = 0x00c0;
    pub const POST_MESSAGE_DIRECT: u16 = 0x00c1;
    pub const GET_GPA_PAGES_ACCESS_STATES: u16 = 0x00c9;
    pub const GET_VP_CPUID_VALUES: u16 = 0x00f4;
    pub const GET_PARTITION_PROPERTY_EX: u16 = 0x0101;
}

/// True if a program may make this call on a partition or VP.
pub const fn allowed_on_partition(code: u16) -> bool {
    use code::*;
    matches!(
        code,
        GET_PARTITION_PROPERTY
            | GET_PARTITION_PROPERTY_EX
            | SET_PARTITION_PROPERTY
            | INSTALL_INTERCEPT
            | GET_VP_REGISTERS
            | SET_VP_REGISTERS
            | TRANSLATE_VIRTUAL_ADDRESS
            | CLEAR_VIRTUAL_INTERRUPT
            | REGISTER_INTERCEPT_RESULT
            | ASSERT_VIRTUAL_INTERRUPT
            | GET_GPA_PAGES_ACCESS_STATES
            | SIGNAL_EVENT_DIRECT
            | POST_MESSAGE_DIRECT
            | GET_VP_CPUID_VALUES
    )
}

/// True if a program may make this call on the device, that is, on the root partition.
pub const fn allowed_on_root(code: u16) -> bool {
    matches!(
        code,
        code::GET_PARTITION_PROPERTY | code::GET_PARTITION_PROPERTY_EX
    )
}

/// True if the call is asynchronous on Hyper-V, so that the kernel's driver takes it on a
/// partition only, not on a VP.
pub const fn is_async(code: u16) -> bool {
    code == code::SET_PARTITION_PROPERTY
}

pod_struct! {
    /// `struct hv_input_get_partition_property`.
    pub struct InputGetProperty {
        pub partition_id: u64,
        pub property_code: u32,
        pub padding: u32,
    }
    /// `struct hv_input_set_partition_property`.
    pub struct InputSetProperty {
        pub partition_id: u64,
        pub property_code: u32,
        pub padding: u32,
        pub property_value: u64,
    }
    /// `struct hv_input_get_partition_property_ex`.
    pub struct InputGetPropertyEx {
        pub partition_id: u64,
        pub property_code: u32,
        pub padding: u32,
        pub arg: u64,
    }
    /// `struct hv_partition_property_vmm_capabilities`, and any property of one bank.
    pub struct PropertyBank {
        pub bank_count: u16,
        pub reserved: [u16; 3],
        pub bank: u64,
    }
    /// `struct hv_input_assert_virtual_interrupt`.
    pub struct InputAssertInterrupt {
        pub partition_id: u64,
        pub interrupt_type: u32,
        /// Bit 0 level-triggered, 1 logical destination mode.
        pub control: u32,
        pub dest_addr: u64,
        pub vector: u32,
        pub target_vtl: u8,
        pub rsvd_z0: u8,
        pub rsvd_z1: u16,
    }
    /// `struct hv_input_install_intercept`.
    pub struct InputInstallIntercept {
        pub partition_id: u64,
        /// Bit 0 read, 1 write, 2 execute.
        pub access_type: u32,
        pub intercept_type: u32,
        pub parameter: u64,
    }
    /// `struct hv_input_translate_virtual_address`.
    pub struct InputTranslate {
        pub partition_id: u64,
        pub vp_index: u32,
        pub padding: u32,
        pub control_flags: u64,
        pub gva_page: u64,
    }
    /// `struct hv_output_translate_virtual_address`.
    pub struct OutputTranslate {
        pub result_code: u32,
        /// Bits 0 to 7 cache type, 8 overlay page.
        pub flags: u32,
        pub gpa_page: u64,
    }
    /// `struct hv_input_register_intercept_result` for CPUID.
    pub struct InputInterceptResult {
        /// A `u64`, in halves because the whole is no multiple of 8 bytes.
        pub partition_id: [u32; 2],
        pub vp_index: u32,
        pub intercept_type: u32,
        pub eax: u32,
        pub ecx: u32,
        pub subleaf_specific: u8,
        pub always_override: u8,
        pub padding: u16,
        /// EAX and its mask, EBX, ECX, EDX likewise.
        pub result: [u32; 8],
    }
    /// `struct hv_input_get_vp_cpuid_values`, followed by [`CpuidLeaf`].
    pub struct InputCpuidValues {
        pub partition_id: u64,
        pub vp_index: u32,
        pub flags: u32,
        pub reserved: u32,
        pub padding: u32,
    }
    /// `struct hv_input_get_gpa_pages_access_state`.
    pub struct InputAccessStates {
        pub partition_id: u64,
        /// See [`access_state_flags`].
        pub flags: u64,
        pub gpa_page_number: u64,
    }
    /// `struct hv_input_signal_event_direct`.
    pub struct InputSignalEvent {
        pub partition_id: u64,
        pub vp_index: u32,
        pub vtl: u8,
        pub sint: u8,
        pub flag: u16,
    }
    /// `struct hv_output_signal_event_direct`.
    pub struct OutputSignalEvent {
        pub newly_signaled: u8,
        pub reserved: [u8; 7],
    }
    /// `struct hv_input_post_message_direct`.
    pub struct InputPostMessage {
        pub partition_id: u64,
        pub vp_index: u32,
        pub vtl: u8,
        pub padding: [u8; 3],
        pub sint: u32,
        /// A [`Message`](super::message::Message).
        pub message: [u8; 256],
        pub padding2: u32,
    }
    /// `struct hv_cpuid_leaf_info`.
    pub struct CpuidLeaf {
        pub eax: u32,
        pub ecx: u32,
        pub xfem: u64,
        pub xss: u64,
    }
}

/// Bits of [`InputAccessStates::flags`]: what to do to each page.
pub mod access_state_flags {
    pub const CLEAR_ACCESSED: u64 = 1 << 0;
    pub const SET_ACCESSED: u64 = 1 << 1;
    pub const CLEAR_DIRTY: u64 = 1 << 2;
    pub const SET_DIRTY: u64 = 1 << 3;
    pub const VALID: u64 = 15;
}

/// Bits of `union hv_gpa_page_access_state`: how a page was found.
pub mod access_state {
    pub const ACCESSED: u8 = 1 << 0;
    pub const DIRTY: u8 = 1 << 1;
}

/// Bits of [`InputCpuidValues::flags`].
pub mod cpuid_flags {
    /// XCR0 and IA32_XSS are the VP's; else those of [`CpuidLeaf`](super::CpuidLeaf), which make
    /// no difference here.
    pub const USE_VP_XFEM_XSS: u32 = 1 << 0;
    /// With what was registered by REGISTER_INTERCEPT_RESULT.
    pub const APPLY_REGISTERED: u32 = 1 << 1;
    pub const VALID: u32 = USE_VP_XFEM_XSS | APPLY_REGISTERED;
}

/// `enum hv_intercept_type`.
pub mod intercept_type {
    pub const X64_IO_PORT: u32 = 0;
    pub const X64_MSR: u32 = 1;
    pub const X64_CPUID: u32 = 2;
    pub const EXCEPTION: u32 = 3;
    pub const MMIO: u32 = 5;
    pub const X64_GLOBAL_CPUID: u32 = 6;
    pub const HYPERCALL: u32 = 8;
    pub const X64_MSR_INDEX: u32 = 12;
}

/// Bits of [`InputTranslate::control_flags`].
pub mod translate_flags {
    pub const VALIDATE_READ: u64 = 1 << 0;
    pub const VALIDATE_WRITE: u64 = 1 << 1;
    pub const VALIDATE_EXECUTE: u64 = 1 << 2;
    pub const PRIVILEGE_EXEMPT: u64 = 1 << 3;
    pub const SET_PAGE_TABLE_BITS: u64 = 1 << 4;
    pub const TLB_FLUSH_INHIBIT: u64 = 1 << 5;
    pub const SUPERVISOR_ACCESS: u64 = 1 << 6;
    pub const USER_ACCESS: u64 = 1 << 7;
    pub const ENFORCE_SMAP: u64 = 1 << 8;
    pub const OVERRIDE_SMAP: u64 = 1 << 9;
    pub const SHADOW_STACK: u64 = 1 << 10;
    pub const VALID: u64 = (1 << 11) - 1;
}

/// `enum hv_translate_gva_result_code`.
pub mod translate_result {
    pub const SUCCESS: u32 = 0;
    pub const PAGE_NOT_PRESENT: u32 = 1;
    pub const PRIVILEGE_VIOLATION: u32 = 2;
    pub const INVALID_PAGE_TABLE_FLAGS: u32 = 3;
    pub const GPA_UNMAPPED: u32 = 4;
    pub const GPA_NO_READ_ACCESS: u32 = 5;
    pub const GPA_NO_WRITE_ACCESS: u32 = 6;
}

/// Most repetitions that the control word of a hypercall has room for.
pub const MAX_REPS: u16 = 0xfff;

/// The input of a hypercall as it came from a program.
///
/// Its length is what the program said; what a call reads behind that is zero, and what lies behind
/// the end of a page does not exist.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    bytes: &'a [u8],
    reps: u16,
}

impl<'a> Input<'a> {
    /// Takes `bytes`, at most a page, with the rep count that the program gave.
    pub fn new(bytes: &'a [u8], reps: u16) -> Input<'a> {
        Input { bytes, reps }
    }

    /// The `T` at `offset`.
    fn at<T: Pod>(&self, offset: usize) -> HvResult<T> {
        if let Some(value) = pod::read_at(self.bytes, offset) {
            return Ok(value);
        }
        if offset + core::mem::size_of::<T>() > PAGE_SIZE {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        let mut value = pod::zeroed::<T>();
        if let Some(rest) = self.bytes.get(offset..) {
            pod::bytes_of_mut(&mut value)[..rest.len()].copy_from_slice(rest);
        }
        Ok(value)
    }

    /// The input of a simple call.
    pub fn simple<T: Pod>(&self) -> HvResult<T> {
        if self.reps != 0 {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        self.at(0)
    }

    /// The header of a rep call and the number of elements, at least 1, that follow it.
    ///
    /// All of them lie in the page.
    pub fn rep<T: Pod, E: Pod>(&self) -> HvResult<(T, u16)> {
        let header = core::mem::size_of::<T>();
        let elements = usize::from(self.reps) * core::mem::size_of::<E>();
        if self.reps == 0 || self.reps > MAX_REPS || header + elements > PAGE_SIZE {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        Ok((self.at(0)?, self.reps))
    }

    /// Element `index` of a rep call with header `T`.
    pub fn element<T: Pod, E: Pod>(&self, index: u16) -> HvResult<E> {
        self.at(core::mem::size_of::<T>() + usize::from(index) * core::mem::size_of::<E>())
    }
}

/// Delivery modes of [`InputAssertInterrupt::interrupt_type`] that mean something here: the
/// numbers of the local APIC, and LINT0 and LINT1.
pub mod interrupt_type {
    pub const FIXED: u32 = 0;
    pub const LOWEST_PRIORITY: u32 = 1;
    pub const NMI: u32 = 4;
    pub const INIT: u32 = 5;
    pub const SIPI: u32 = 6;
    pub const EXTINT: u32 = 7;
    pub const LOCALINT0: u32 = 8;
    pub const LOCALINT1: u32 = 9;
    pub const MAXIMUM: u32 = 10;
}

/// An interrupt in the words of hvcore: see [`hvabi::call::interrupt`](super::hvabi::call::interrupt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    pub word: u64,
    pub destination: u64,
}

impl Interrupt {
    /// Checks and translates an interrupt of the TLFS.
    pub fn new(type_: u32, vector: u32, level: bool, logical: bool, dest: u64) -> HvResult<Self> {
        use super::hvabi::call::interrupt as word;
        let mode = match type_ {
            interrupt_type::FIXED | interrupt_type::LOWEST_PRIORITY
                if (16..256).contains(&vector) =>
            {
                type_
            }
            interrupt_type::NMI | interrupt_type::INIT | interrupt_type::EXTINT if vector < 256 => {
                type_
            }
            // As they are wired on every PC: LINT0 to the PIC, LINT1 to NMI.
            interrupt_type::LOCALINT0 if vector < 256 => interrupt_type::EXTINT,
            interrupt_type::LOCALINT1 => interrupt_type::NMI,
            _ => return Err(HvStatus::INVALID_PARAMETER),
        };
        let mut bits = u64::from(vector) & word::VECTOR | u64::from(mode) << word::MODE_SHIFT;
        if logical {
            bits |= word::LOGICAL;
        }
        if level {
            bits |= word::LEVEL;
        }
        Ok(Interrupt {
            word: bits,
            destination: dest,
        })
    }

    /// Translates a message-signalled interrupt (SDM vol. 3, 12.11).
    ///
    /// As the kernel's driver does, only bits 12 to 19 of the address name the destination.
    pub fn from_msi(address_lo: u32, data: u32) -> HvResult<Self> {
        Interrupt::new(
            data >> 8 & 7,
            data & 0xff,
            data & 1 << 15 != 0,
            address_lo & 1 << 2 != 0,
            u64::from(address_lo >> 12 & 0xff),
        )
    }

    /// From the input of ASSERT_VIRTUAL_INTERRUPT.
    pub fn from_input(input: &InputAssertInterrupt) -> HvResult<Self> {
        // Bit 30 is a hint that an x64 guest needs none of.
        if input.control & !(3 | 1 << 30) != 0
            || input.target_vtl & 0xf != 0
            || input.rsvd_z0 != 0
            || input.rsvd_z1 != 0
        {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        Interrupt::new(
            input.interrupt_type,
            input.vector,
            input.control & 1 != 0,
            input.control & 2 != 0,
            input.dest_addr,
        )
    }

    pub fn level(&self) -> bool {
        self.word & super::hvabi::call::interrupt::LEVEL != 0
    }

    pub fn vector(&self) -> u8 {
        self.word as u8
    }
}
