// SPDX-License-Identifier: GPL-2.0

//! What the kernel's headers do not have is that of the crate that VMMs use.

use mshv_bindings::*;
use std::mem::offset_of;
use tlfs::{hvcall, lapic, message, property, register, status, synic};

macro_rules! layout {
    ($ours:path, $theirs:ty, { $($field:ident => $name:ident),* $(,)? }) => {
        assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($theirs));
        $(assert_eq!(
            offset_of!($ours, $field),
            offset_of!($theirs, $name),
            concat!(stringify!($theirs), "::", stringify!($name)),
        );)*
    };
}

#[test]
fn structures() {
    layout!(message::Message, hv_message, { payload => u });
    layout!(message::IoPortMessage, hv_x64_io_port_intercept_message, {
        port_number => port_number, access_info => access_info,
        instruction_byte_count => instruction_byte_count, rax => rax,
        instruction_bytes => instruction_bytes, ds_segment => ds_segment,
        es_segment => es_segment, rcx => rcx, rsi => rsi, rdi => rdi,
    });
    layout!(message::MemoryMessage, hv_x64_memory_intercept_message, {
        cache_type => cache_type, guest_virtual_address => guest_virtual_address,
    });
    layout!(
        message::InvalidRegisterMessage,
        hv_x64_invalid_vp_register_message,
        {}
    );
    layout!(message::UnsupportedFeatureMessage, hv_x64_unsupported_feature_message, {
        feature_code => feature_code, feature_parameter => feature_parameter,
    });
    layout!(lapic::LapicState, hv_local_interrupt_controller_state, {
        apic_id => apic_id, apic_isr => apic_isr, apic_tmr => apic_tmr, apic_irr => apic_irr,
        apic_esr => apic_esr, apic_icr_low => apic_icr_low, apic_lvt_timer => apic_lvt_timer,
        apic_lvt_cmci => apic_lvt_cmci, apic_error_status => apic_error_status,
        apic_divide_configuration => apic_divide_configuration,
        apic_remote_read => apic_remote_read,
    });
    layout!(hvcall::InputTranslate, hv_input_translate_virtual_address, {
        vp_index => vp_index, control_flags => control_flags, gva_page => gva_page,
    });
    layout!(hvcall::OutputTranslate, hv_output_translate_virtual_address, {
        result_code => translation_result, gpa_page => gpa_page,
    });
    layout!(hvcall::InputInstallIntercept, hv_input_install_intercept, {
        access_type => access_type, intercept_type => intercept_type,
        parameter => intercept_parameter,
    });
    layout!(hvcall::CpuidLeaf, hv_cpuid_leaf_info, { ecx => ecx, xfem => xfem, xss => xss });
    layout!(hvcall::InputCpuidValues, hv_input_get_vp_cpuid_values, {
        vp_index => vp_index, flags => flags,
    });
    layout!(hvcall::InputSignalEvent, hv_input_signal_event_direct, {
        vp_index => target_vp, vtl => target_vtl, sint => target_sint, flag => flag_number,
    });
    layout!(hvcall::OutputSignalEvent, hv_output_signal_event_direct, {
        newly_signaled => newly_signaled,
    });
    layout!(hvcall::InputPostMessage, hv_input_post_message_direct, {
        vp_index => vp_index, vtl => vtl, sint => sint_index, message => message,
    });
    layout!(synic::TimersState, hv_synthetic_timers_state, {});
    layout!(hvcall::PropertyBank, hv_partition_property_vmm_capabilities, {
        bank_count => bank_count,
    });
}

#[test]
fn register_names() {
    use register::name;
    let pairs = [
        (
            name::INTERNAL_ACTIVITY_STATE,
            hv_register_name_HV_REGISTER_INTERNAL_ACTIVITY_STATE,
        ),
        (
            name::PENDING_INTERRUPTION,
            hv_register_name_HV_REGISTER_PENDING_INTERRUPTION,
        ),
        (
            name::INTERRUPT_STATE,
            hv_register_name_HV_REGISTER_INTERRUPT_STATE,
        ),
        (
            name::PENDING_EVENT0,
            hv_register_name_HV_REGISTER_PENDING_EVENT0,
        ),
        (
            name::PENDING_EVENT1,
            hv_register_name_HV_REGISTER_PENDING_EVENT1,
        ),
        (
            name::DELIVERABILITY_NOTIFICATIONS,
            hv_register_name_HV_REGISTER_DELIVERABILITY_NOTIFICATIONS,
        ),
        (name::RAX, hv_register_name_HV_X64_REGISTER_RAX),
        (name::R15, hv_register_name_HV_X64_REGISTER_R15),
        (name::RIP, hv_register_name_HV_X64_REGISTER_RIP),
        (name::RFLAGS, hv_register_name_HV_X64_REGISTER_RFLAGS),
        (name::XMM0, hv_register_name_HV_X64_REGISTER_XMM0),
        (name::XMM15, hv_register_name_HV_X64_REGISTER_XMM15),
        (name::FP_MMX0, hv_register_name_HV_X64_REGISTER_FP_MMX0),
        (name::FP_MMX7, hv_register_name_HV_X64_REGISTER_FP_MMX7),
        (
            name::FP_CONTROL_STATUS,
            hv_register_name_HV_X64_REGISTER_FP_CONTROL_STATUS,
        ),
        (
            name::XMM_CONTROL_STATUS,
            hv_register_name_HV_X64_REGISTER_XMM_CONTROL_STATUS,
        ),
        (name::CR0, hv_register_name_HV_X64_REGISTER_CR0),
        (name::CR2, hv_register_name_HV_X64_REGISTER_CR2),
        (name::CR3, hv_register_name_HV_X64_REGISTER_CR3),
        (name::CR4, hv_register_name_HV_X64_REGISTER_CR4),
        (name::CR8, hv_register_name_HV_X64_REGISTER_CR8),
        (name::XFEM, hv_register_name_HV_X64_REGISTER_XFEM),
        (
            name::INTERMEDIATE_CR0,
            hv_register_name_HV_X64_REGISTER_INTERMEDIATE_CR0,
        ),
        (
            name::INTERMEDIATE_CR3,
            hv_register_name_HV_X64_REGISTER_INTERMEDIATE_CR3,
        ),
        (
            name::INTERMEDIATE_CR4,
            hv_register_name_HV_X64_REGISTER_INTERMEDIATE_CR4,
        ),
        (
            name::INTERMEDIATE_CR8,
            hv_register_name_HV_X64_REGISTER_INTERMEDIATE_CR8,
        ),
        (name::DR3, hv_register_name_HV_X64_REGISTER_DR3),
        (name::DR6, hv_register_name_HV_X64_REGISTER_DR6),
        (name::ES, hv_register_name_HV_X64_REGISTER_ES),
        (name::CS, hv_register_name_HV_X64_REGISTER_CS),
        (name::SS, hv_register_name_HV_X64_REGISTER_SS),
        (name::DS, hv_register_name_HV_X64_REGISTER_DS),
        (name::FS, hv_register_name_HV_X64_REGISTER_FS),
        (name::GS, hv_register_name_HV_X64_REGISTER_GS),
        (name::LDTR, hv_register_name_HV_X64_REGISTER_LDTR),
        (name::TR, hv_register_name_HV_X64_REGISTER_TR),
        (name::IDTR, hv_register_name_HV_X64_REGISTER_IDTR),
        (name::GDTR, hv_register_name_HV_X64_REGISTER_GDTR),
        (name::TSC, hv_register_name_HV_X64_REGISTER_TSC),
        (name::EFER, hv_register_name_HV_X64_REGISTER_EFER),
        (
            name::KERNEL_GS_BASE,
            hv_register_name_HV_X64_REGISTER_KERNEL_GS_BASE,
        ),
        (name::APIC_BASE, hv_register_name_HV_X64_REGISTER_APIC_BASE),
        (name::PAT, hv_register_name_HV_X64_REGISTER_PAT),
        (
            name::SYSENTER_CS,
            hv_register_name_HV_X64_REGISTER_SYSENTER_CS,
        ),
        (
            name::SYSENTER_EIP,
            hv_register_name_HV_X64_REGISTER_SYSENTER_EIP,
        ),
        (
            name::SYSENTER_ESP,
            hv_register_name_HV_X64_REGISTER_SYSENTER_ESP,
        ),
        (name::STAR, hv_register_name_HV_X64_REGISTER_STAR),
        (name::LSTAR, hv_register_name_HV_X64_REGISTER_LSTAR),
        (name::CSTAR, hv_register_name_HV_X64_REGISTER_CSTAR),
        (name::SFMASK, hv_register_name_HV_X64_REGISTER_SFMASK),
        (
            name::INITIAL_APIC_ID,
            hv_register_name_HV_X64_REGISTER_INITIAL_APIC_ID,
        ),
        (name::TSC_AUX, hv_register_name_HV_X64_REGISTER_TSC_AUX),
        (name::DEBUG_CTL, hv_register_name_HV_X64_REGISTER_DEBUG_CTL),
        (name::U_XSS, hv_register_name_HV_X64_REGISTER_U_XSS),
        (
            name::TSC_ADJUST,
            hv_register_name_HV_X64_REGISTER_TSC_ADJUST,
        ),
        (
            name::MISC_ENABLE,
            hv_register_name_HV_X64_REGISTER_MSR_IA32_MISC_ENABLE,
        ),
        (name::APIC_ID, hv_register_name_HV_X64_REGISTER_APIC_ID),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours, theirs);
    }
}

#[test]
fn property_codes() {
    use property::code;
    let pairs = [
        (
            code::TIME_FREEZE,
            hv_partition_property_code_HV_PARTITION_PROPERTY_TIME_FREEZE,
        ),
        (
            code::PROCESSORS_PER_SOCKET,
            hv_partition_property_code_HV_PARTITION_PROPERTY_PROCESSORS_PER_SOCKET,
        ),
        (
            code::PROCESSOR_FEATURES0,
            hv_partition_property_code_HV_PARTITION_PROPERTY_PROCESSOR_FEATURES0,
        ),
        (
            code::PROCESSOR_FEATURES1,
            hv_partition_property_code_HV_PARTITION_PROPERTY_PROCESSOR_FEATURES1,
        ),
        (
            code::PHYSICAL_ADDRESS_WIDTH,
            hv_partition_property_code_HV_PARTITION_PROPERTY_PHYSICAL_ADDRESS_WIDTH,
        ),
        (
            code::ASSIGNABLE_SYNTHETIC_PROC_FEATURES,
            hv_partition_property_code_HV_PARTITION_PROPERTY_ASSIGNABLE_SYNTHETIC_PROC_FEATURES,
        ),
        (
            code::VMM_CAPABILITIES,
            hv_partition_property_code_HV_PARTITION_PROPERTY_VMM_CAPABILITIES,
        ),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours, theirs);
    }
}

#[test]
fn register_classes() {
    use tlfs::register_page::dirty;
    for (ours, theirs) in [
        (dirty::GENERAL, HV_X64_REGISTER_CLASS_GENERAL),
        (dirty::IP, HV_X64_REGISTER_CLASS_IP),
        (dirty::XMM, HV_X64_REGISTER_CLASS_XMM),
        (dirty::SEGMENT, HV_X64_REGISTER_CLASS_SEGMENT),
        (dirty::FLAGS, HV_X64_REGISTER_CLASS_FLAGS),
    ] {
        assert_eq!(ours, 1 << theirs);
    }
}

/// The bit by which `mshv-ioctls` learns that it may ask for assignable features.
#[test]
fn capability_bit() {
    let mut caps = hv_partition_property_vmm_capabilities::default();
    // SAFETY: All members of the union are integers.
    unsafe {
        caps.__bindgen_anon_1
            .__bindgen_anon_1
            .set_assignable_synthetic_proc_features(1);
        let bank = caps.__bindgen_anon_1.as_uint64[0];
        assert_eq!(bank, property::VMM_CAP_ASSIGNABLE_SYNTHETIC);
    }
}

#[test]
fn errno_is_never_zero_for_a_failure() {
    for raw in 1..=u16::MAX {
        assert!(status::HvStatus(raw).errno() > 0);
    }
    assert_eq!(status::HvStatus::SUCCESS.errno(), 0);
}
