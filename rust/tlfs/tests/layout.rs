// SPDX-License-Identifier: GPL-2.0

//! The structures and numbers of this crate are those of the kernel's own headers.
//!
//! Compiles a C program against `linux/mshv.h` and `hyperv/*.h` of the kernel source that `KSRC` or
//! `KDIR` names, and compares what it prints. Says SKIP where there is no such source.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What the kernel's headers take from others, as far as it matters to a layout.
const SHIM: &str = r#"
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
typedef uint8_t u8, __u8; typedef uint16_t u16, __u16; typedef uint32_t u32, __u32;
typedef uint64_t u64; typedef unsigned long long __u64; typedef int64_t s64; typedef int32_t __s32;
typedef unsigned long ulong;
#define CONFIG_X86 1
#define CONFIG_X86_64 1
#define IS_ENABLED(x) IS_ENABLED_##x
#define IS_ENABLED_CONFIG_X86 1
#define IS_ENABLED_CONFIG_ARM64 0
#define __packed __attribute__((__packed__))
#define __aligned(x) __attribute__((__aligned__(x)))
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK(h, l) ((~0UL << (l)) & (~0UL >> (63 - (h))))
#define GENMASK_ULL(h, l) GENMASK(h, l)
#define static_assert _Static_assert
#define DECLARE_FLEX_ARRAY(t, n) struct { struct { } e_##n; t n[]; }
#define __struct_group(TAG, NAME, ATTRS, MEMBERS...) \
    union { struct { MEMBERS } ATTRS; struct TAG { MEMBERS } ATTRS NAME; } ATTRS
#define __TRAILING_OVERLAP(TYPE, NAME, FAM, ATTRS, MEMBERS) \
    union { TYPE NAME; struct { unsigned char o_##FAM[offsetof(TYPE, FAM)]; MEMBERS } ATTRS; }
"#;

fn source() -> Option<PathBuf> {
    ["KSRC", "KDIR"]
        .iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from)
        .find(|path| path.join("include/hyperv/hvhdk.h").exists())
}

/// Compiles and runs a program whose `main` is `body`; gives the numbers that it prints.
fn run(source: &Path, body: &str) -> Vec<u64> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("layout{number}"));
    let shim = dir.join("linux");
    std::fs::create_dir_all(&shim).unwrap();
    // None of these may come from the kernel, whose own need its configuration.
    for header in ["types.h", "bits.h", "build_bug.h"] {
        std::fs::write(shim.join(header), "").unwrap();
    }
    std::fs::copy(
        source.join("include/uapi/linux/mshv.h"),
        shim.join("mshv.h"),
    )
    .unwrap();
    let program = format!(
        "{SHIM}\n#include <hyperv/hvhdk.h>\n#include <linux/mshv.h>\n\
         int main(void) {{\n{body}return 0; }}\n"
    );
    std::fs::write(dir.join("layout.c"), program).unwrap();
    let status = Command::new("cc")
        .current_dir(&dir)
        .args(["-w", "-o", "layout", "layout.c", "-I."])
        .arg(format!("-I{}", source.join("include").display()))
        .status()
        .expect("cc");
    assert!(status.success(), "the kernel's headers do not compile");
    let output = Command::new(dir.join("layout")).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect()
}

/// Pairs of what C calls a number, and what it is in this crate.
#[derive(Default)]
struct Checks {
    names: Vec<String>,
    ours: Vec<u64>,
}

impl Checks {
    fn add(&mut self, name: impl Into<String>, ours: u64) {
        self.names.push(name.into());
        self.ours.push(ours);
    }
}

macro_rules! layout {
    ($checks:ident, $ours:path, $theirs:literal, { $($field:ident => $name:literal),* $(,)? }) => {
        $checks.add(concat!("sizeof(", $theirs, ")"), size_of::<$ours>() as u64);
        $($checks.add(
            concat!("offsetof(", $theirs, ", ", $name, ")"),
            std::mem::offset_of!($ours, $field) as u64,
        );)*
    };
}

macro_rules! values {
    ($checks:ident, $($ours:expr => $theirs:literal),* $(,)?) => {
        $($checks.add($theirs, $ours as u64);)*
    };
}

#[test]
fn same_as_the_kernel() {
    let Some(source) = source() else {
        eprintln!("SKIP: neither KSRC nor KDIR names a kernel source with include/hyperv");
        return;
    };
    let mut checks = Checks::default();
    structures(&mut checks);
    numbers(&mut checks);
    registers(&mut checks);

    let theirs = values(&source, &checks.names);
    assert_eq!(theirs.len(), checks.ours.len());
    for ((name, ours), theirs) in checks.names.iter().zip(&checks.ours).zip(theirs) {
        assert_eq!(*ours, theirs, "{name}");
    }
}

/// Words of `text` that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(prefix))
        .collect()
}

/// What lies between `from` and the next `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).expect(from);
    rest.split_once(to).expect(to).0
}

fn sorted(mut values: Vec<u64>) -> Vec<u64> {
    values.sort_unstable();
    values
}

/// What C says of these expressions.
fn values(source: &Path, expressions: &[impl std::fmt::Display]) -> Vec<u64> {
    let mut body = String::new();
    for expression in expressions {
        writeln!(
            body,
            "printf(\"%llu\\n\", (unsigned long long)({expression}));"
        )
        .unwrap();
    }
    run(source, &body)
}

#[test]
fn same_calls_as_the_kernels_driver() {
    let driver = |source: &Path| {
        let read = |name| std::fs::read_to_string(source.join("drivers/hv").join(name)).ok();
        Some((read("mshv_root_main.c")?, read("hv_common.c")?))
    };
    let Some((source, (main, common))) = source().and_then(|s| Some((s.clone(), driver(&s)?)))
    else {
        eprintln!("SKIP: neither KSRC nor KDIR names a kernel source with drivers/hv");
        return;
    };
    let calls = |allowed: fn(u16) -> bool| -> Vec<u64> {
        (0..=u16::MAX)
            .filter(|&code| allowed(code))
            .map(u64::from)
            .collect()
    };
    // Hypercalls that a program may make on a partition, and on the root.
    for (list, ours) in [
        (
            "mshv_passthru_hvcalls[] = {",
            calls(tlfs::hvcall::allowed_on_partition),
        ),
        (
            "mshv_self_passthru_hvcalls[] = {",
            calls(tlfs::hvcall::allowed_on_root),
        ),
    ] {
        let theirs = words(between(&main, list, "};"), "HVCALL_");
        assert_eq!(sorted(values(&source, &theirs)), ours, "{list}");
    }
    // Ioctls of each file.
    use tlfs::mshv::*;
    for (function, ours) in [
        ("mshv_dev_ioctl(", vec![CREATE_PARTITION, ROOT_HVCALL]),
        (
            "mshv_partition_ioctl(",
            vec![
                INITIALIZE_PARTITION,
                SET_GUEST_MEMORY,
                CREATE_VP,
                IRQFD,
                IOEVENTFD,
                SET_MSI_ROUTING,
                GET_GPAP_ACCESS_BITMAP,
                ROOT_HVCALL,
            ],
        ),
        (
            "mshv_vp_ioctl(",
            vec![RUN_VP, GET_VP_STATE, SET_VP_STATE, ROOT_HVCALL],
        ),
    ] {
        let body = main
            .rsplit_once(&format!("{function}struct file"))
            .expect(function)
            .1;
        let cases: Vec<_> = words(between(body, "switch (ioctl)", "\n}"), "MSHV_");
        let ours = ours.into_iter().map(u64::from).collect();
        assert_eq!(sorted(values(&source, &cases)), sorted(ours), "{function}");
    }
    // What each status is for a program, as it is since 7.3.
    if !common.contains("-EACCES") {
        return;
    }
    let table = between(&common, "hv_status_infos[] = {", "#undef");
    let entries = table.split("_STATUS_INFO(HV_").skip(1);
    let pairs: Vec<_> = entries
        .flat_map(|entry| {
            let (status, errno) = between(entry, "", ")").split_once(',').expect(entry);
            [format!("HV_{status}"), format!("-({errno})")]
        })
        .collect();
    assert!(pairs.len() > 50);
    for (names, theirs) in pairs.chunks(2).zip(values(&source, &pairs).chunks(2)) {
        let ours = tlfs::status::HvStatus(theirs[0] as u16).errno();
        assert_eq!(u64::from(ours as u32), theirs[1], "{}", names[0]);
    }
}

fn structures(c: &mut Checks) {
    use tlfs::{hvcall::*, lapic::*, message::*, mshv::*, register::*};
    use tlfs::{register_page::*, segment::*, synic::*};
    layout!(c, CreatePartition, "struct mshv_create_partition",
        { pt_flags => "pt_flags", pt_isolation => "pt_isolation" });
    layout!(c, CreatePartitionV2, "struct mshv_create_partition_v2", {
        pt_num_cpu_fbanks => "pt_num_cpu_fbanks", pt_rsvd => "pt_rsvd",
        pt_cpu_fbanks => "pt_cpu_fbanks", pt_rsvd1 => "pt_rsvd1",
        pt_disabled_xsave => "pt_disabled_xsave",
    });
    layout!(c, CreateVp, "struct mshv_create_vp", { vp_index => "vp_index" });
    layout!(c, UserMemRegion, "struct mshv_user_mem_region", {
        size => "size", guest_pfn => "guest_pfn", userspace_addr => "userspace_addr",
        flags => "flags", rsvd => "rsvd",
    });
    layout!(c, UserIrqfd, "struct mshv_user_irqfd",
        { fd => "fd", resamplefd => "resamplefd", gsi => "gsi", flags => "flags" });
    layout!(c, UserIoeventfd, "struct mshv_user_ioeventfd", {
        datamatch => "datamatch", addr => "addr", len => "len", fd => "fd", flags => "flags",
        rsvd => "rsvd",
    });
    layout!(c, UserIrqEntry, "struct mshv_user_irq_entry", {
        gsi => "gsi", address_lo => "address_lo", address_hi => "address_hi", data => "data",
    });
    layout!(c, UserIrqTable, "struct mshv_user_irq_table", { nr => "nr", rsvd => "rsvd" });
    layout!(c, GpapAccessBitmap, "struct mshv_gpap_access_bitmap", {
        access_type => "access_type", access_op => "access_op", rsvd => "rsvd",
        page_count => "page_count", gpap_base => "gpap_base", bitmap_ptr => "bitmap_ptr",
    });
    layout!(c, RootHvcall, "struct mshv_root_hvcall", {
        code => "code", reps => "reps", in_sz => "in_sz", out_sz => "out_sz", status => "status",
        rsvd => "rsvd", in_ptr => "in_ptr", out_ptr => "out_ptr",
    });
    layout!(c, GetSetVpState, "struct mshv_get_set_vp_state",
        { type_ => "type", rsvd => "rsvd", buf_sz => "buf_sz", buf_ptr => "buf_ptr" });

    layout!(c, SegmentRegister, "struct hv_x64_segment_register", {
        base => "base", limit => "limit", selector => "selector", attributes => "attributes",
    });
    layout!(c, TableRegister, "struct hv_x64_table_register",
        { pad => "pad", limit => "limit", base => "base" });
    layout!(c, RegisterValue, "union hv_register_value", { low => "reg64" });
    layout!(c, RegisterAssoc, "struct hv_register_assoc", { name => "name", value => "value" });
    layout!(c, InputVpRegisters, "struct hv_input_get_vp_registers",
        { partition_id => "partition_id", vp_index => "vp_index", input_vtl => "input_vtl" });
    layout!(c, InputVpRegisters, "struct hv_input_set_vp_registers",
        { partition_id => "partition_id", vp_index => "vp_index", input_vtl => "input_vtl" });
    layout!(c, InputGetProperty, "struct hv_input_get_partition_property",
        { partition_id => "partition_id", property_code => "property_code" });
    layout!(c, InputSetProperty, "struct hv_input_set_partition_property",
        { property_code => "property_code", property_value => "property_value" });
    layout!(c, InputGetPropertyEx, "struct hv_input_get_partition_property_ex",
        { property_code => "property_code", arg => "arg" });
    layout!(c, PropertyBank, "struct hv_partition_property_vmm_capabilities",
        { bank_count => "bank_count", bank => "as_uint64" });
    layout!(c, InputAssertInterrupt, "struct hv_input_assert_virtual_interrupt", {
        partition_id => "partition_id", interrupt_type => "control", dest_addr => "dest_addr",
        vector => "vector", target_vtl => "target_vtl",
    });

    layout!(c, Message, "struct hv_message", { message_type => "header.message_type",
        payload_size => "header.payload_size", message_flags => "header.message_flags",
        sender => "header.sender", payload => "u" });
    layout!(c, InterceptHeader, "struct hv_x64_intercept_message_header", {
        vp_index => "vp_index", intercept_access_type => "intercept_access_type",
        execution_state => "execution_state", cs_segment => "cs_segment", rip => "rip",
        rflags => "rflags",
    });
    layout!(c, MemoryMessage, "struct hv_x64_memory_intercept_message", {
        header => "header", cache_type => "cache_type",
        instruction_byte_count => "instruction_byte_count",
        memory_access_info => "memory_access_info", tpr_priority => "tpr_priority",
        guest_virtual_address => "guest_virtual_address",
        guest_physical_address => "guest_physical_address",
        instruction_bytes => "instruction_bytes",
    });
    layout!(c, ApicEoiMessage, "struct hv_x64_apic_eoi_message",
        { vp_index => "vp_index", interrupt_vector => "interrupt_vector" });
    layout!(c, RegisterPage, "struct hv_vp_register_page", {
        version => "version", isvalid => "isvalid", dirty => "dirty", gpr => "rax", rip => "rip",
        rflags => "rflags", xmm => "xmm0", segments => "es", cr0 => "cr0", cr3 => "cr3",
        cr4 => "cr4", cr8 => "cr8", efer => "efer", dr7 => "dr7",
        pending_interruption => "pending_interruption", interrupt_state => "interrupt_state",
        instruction_emulation_hints => "instruction_emulation_hints", xfem => "xfem",
        interrupt_vectors => "interrupt_vectors",
    });
    layout!(c, TimerState, "struct hv_stimer_state", {
        config => "config", count => "count", adjustment => "adjustment",
        undelivered_exp_time => "undelivered_exp_time",
    });
    layout!(c, TimersState, "struct hv_synthetic_timers_state", { reserved => "reserved" });
    layout!(c, TimerPayload, "struct hv_timer_message_payload", {
        timer_index => "timer_index", expiration_time => "expiration_time",
        delivery_time => "delivery_time",
    });
    // Not in the kernel's headers: see `bindings.rs`.
    let _ = size_of::<LapicState>();
}

fn numbers(c: &mut Checks) {
    use tlfs::{hvcall::code, hvcall::intercept_type, hvcall::interrupt_type, message::*};
    use tlfs::{mshv, property::code as property, status::HvStatus};
    values!(c,
        mshv::CREATE_PARTITION => "MSHV_CREATE_PARTITION",
        mshv::INITIALIZE_PARTITION => "MSHV_INITIALIZE_PARTITION",
        mshv::CREATE_VP => "MSHV_CREATE_VP",
        mshv::SET_GUEST_MEMORY => "MSHV_SET_GUEST_MEMORY",
        mshv::IRQFD => "MSHV_IRQFD",
        mshv::IOEVENTFD => "MSHV_IOEVENTFD",
        mshv::SET_MSI_ROUTING => "MSHV_SET_MSI_ROUTING",
        mshv::GET_GPAP_ACCESS_BITMAP => "MSHV_GET_GPAP_ACCESS_BITMAP",
        mshv::ROOT_HVCALL => "MSHV_ROOT_HVCALL",
        mshv::RUN_VP => "MSHV_RUN_VP",
        mshv::GET_VP_STATE => "MSHV_GET_VP_STATE",
        mshv::SET_VP_STATE => "MSHV_SET_VP_STATE",
        mshv::pt_flags::MASK => "MSHV_PT_FLAGS_MASK",
        mshv::pt_flags::CPU_AND_XSAVE_FEATURES => "1 << MSHV_PT_BIT_CPU_AND_XSAVE_FEATURES",
        mshv::ISOLATION_COUNT => "MSHV_PT_ISOLATION_COUNT",
        mshv::mem_flags::MASK => "MSHV_SET_MEM_FLAGS_MASK",
        mshv::mem_flags::UNMAP => "1 << MSHV_SET_MEM_BIT_UNMAP",
        mshv::mem_flags::EXECUTABLE => "1 << MSHV_SET_MEM_BIT_EXECUTABLE",
        mshv::irqfd_flags::MASK => "MSHV_IRQFD_FLAGS_MASK",
        mshv::irqfd_flags::RESAMPLE => "1 << MSHV_IRQFD_BIT_RESAMPLE",
        mshv::ioeventfd_flags::MASK => "MSHV_IOEVENTFD_FLAGS_MASK",
        mshv::ioeventfd_flags::PIO => "1 << MSHV_IOEVENTFD_BIT_PIO",
        mshv::GPAP_ACCESS_TYPE_COUNT => "MSHV_GPAP_ACCESS_TYPE_COUNT",
        mshv::GPAP_ACCESS_OP_COUNT => "MSHV_GPAP_ACCESS_OP_COUNT",
        mshv::vp_state::XSAVE => "MSHV_VP_STATE_XSAVE",
        mshv::vp_state::COUNT => "MSHV_VP_STATE_COUNT",
        mshv::mmap_offset::INTERCEPT_MESSAGE => "MSHV_VP_MMAP_OFFSET_INTERCEPT_MESSAGE",
        mshv::RUN_VP_SIZE => "MSHV_RUN_VP_BUF_SZ",

        HvStatus::INVALID_HYPERCALL_CODE.0 => "HV_STATUS_INVALID_HYPERCALL_CODE",
        HvStatus::INVALID_HYPERCALL_INPUT.0 => "HV_STATUS_INVALID_HYPERCALL_INPUT",
        HvStatus::INVALID_ALIGNMENT.0 => "HV_STATUS_INVALID_ALIGNMENT",
        HvStatus::INVALID_PARAMETER.0 => "HV_STATUS_INVALID_PARAMETER",
        HvStatus::ACCESS_DENIED.0 => "HV_STATUS_ACCESS_DENIED",
        HvStatus::INVALID_PARTITION_STATE.0 => "HV_STATUS_INVALID_PARTITION_STATE",
        HvStatus::OPERATION_DENIED.0 => "HV_STATUS_OPERATION_DENIED",
        HvStatus::UNKNOWN_PROPERTY.0 => "HV_STATUS_UNKNOWN_PROPERTY",
        HvStatus::PROPERTY_VALUE_OUT_OF_RANGE.0 => "HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE",
        HvStatus::INSUFFICIENT_MEMORY.0 => "HV_STATUS_INSUFFICIENT_MEMORY",
        HvStatus::INVALID_PARTITION_ID.0 => "HV_STATUS_INVALID_PARTITION_ID",
        HvStatus::INVALID_VP_INDEX.0 => "HV_STATUS_INVALID_VP_INDEX",
        HvStatus::NOT_FOUND.0 => "HV_STATUS_NOT_FOUND",
        HvStatus::INVALID_VP_STATE.0 => "HV_STATUS_INVALID_VP_STATE",
        HvStatus::NO_RESOURCES.0 => "HV_STATUS_NO_RESOURCES",
        HvStatus::PROCESSOR_FEATURE_NOT_SUPPORTED.0 =>
            "HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED",
        HvStatus::INVALID_REGISTER_VALUE.0 => "HV_STATUS_INVALID_REGISTER_VALUE",
        HvStatus::OPERATION_FAILED.0 => "HV_STATUS_OPERATION_FAILED",

        code::GET_PARTITION_PROPERTY => "HVCALL_GET_PARTITION_PROPERTY",
        code::SET_PARTITION_PROPERTY => "HVCALL_SET_PARTITION_PROPERTY",
        code::INSTALL_INTERCEPT => "HVCALL_INSTALL_INTERCEPT",
        code::GET_VP_REGISTERS => "HVCALL_GET_VP_REGISTERS",
        code::SET_VP_REGISTERS => "HVCALL_SET_VP_REGISTERS",
        code::TRANSLATE_VIRTUAL_ADDRESS => "HVCALL_TRANSLATE_VIRTUAL_ADDRESS",
        code::CLEAR_VIRTUAL_INTERRUPT => "HVCALL_CLEAR_VIRTUAL_INTERRUPT",
        code::REGISTER_INTERCEPT_RESULT => "HVCALL_REGISTER_INTERCEPT_RESULT",
        code::ASSERT_VIRTUAL_INTERRUPT => "HVCALL_ASSERT_VIRTUAL_INTERRUPT",
        code::SIGNAL_EVENT_DIRECT => "HVCALL_SIGNAL_EVENT_DIRECT",
        code::POST_MESSAGE_DIRECT => "HVCALL_POST_MESSAGE_DIRECT",
        code::GET_GPA_PAGES_ACCESS_STATES => "HVCALL_GET_GPA_PAGES_ACCESS_STATES",
        code::GET_VP_CPUID_VALUES => "HVCALL_GET_VP_CPUID_VALUES",
        code::GET_PARTITION_PROPERTY_EX => "HVCALL_GET_PARTITION_PROPERTY_EX",

        intercept_type::X64_IO_PORT => "HV_INTERCEPT_TYPE_X64_IO_PORT",
        intercept_type::X64_MSR => "HV_INTERCEPT_TYPE_X64_MSR",
        intercept_type::X64_CPUID => "HV_INTERCEPT_TYPE_X64_CPUID",
        intercept_type::EXCEPTION => "HV_INTERCEPT_TYPE_EXCEPTION",
        intercept_type::MMIO => "HV_INTERCEPT_TYPE_MMIO",
        intercept_type::HYPERCALL => "HV_INTERCEPT_TYPE_HYPERCALL",
        intercept_type::X64_MSR_INDEX => "HV_INTERCEPT_TYPE_X64_MSR_INDEX",
        interrupt_type::EXTINT => "HV_X64_INTERRUPT_TYPE_EXTINT",
        interrupt_type::LOCALINT0 => "HV_X64_INTERRUPT_TYPE_LOCALINT0",
        interrupt_type::MAXIMUM => "HV_X64_INTERRUPT_TYPE_MAXIMUM",

        message_type::TIMER_EXPIRED => "HVMSG_TIMER_EXPIRED",
        message_type::UNMAPPED_GPA => "HVMSG_UNMAPPED_GPA",
        message_type::GPA_INTERCEPT => "HVMSG_GPA_INTERCEPT",
        message_type::INVALID_VP_REGISTER_VALUE => "HVMSG_INVALID_VP_REGISTER_VALUE",
        message_type::UNRECOVERABLE_EXCEPTION => "HVMSG_UNRECOVERABLE_EXCEPTION",
        message_type::UNSUPPORTED_FEATURE => "HVMSG_UNSUPPORTED_FEATURE",
        message_type::X64_IO_PORT_INTERCEPT => "HVMSG_X64_IO_PORT_INTERCEPT",
        message_type::X64_MSR_INTERCEPT => "HVMSG_X64_MSR_INTERCEPT",
        message_type::X64_CPUID_INTERCEPT => "HVMSG_X64_CPUID_INTERCEPT",
        message_type::X64_APIC_EOI => "HVMSG_X64_APIC_EOI",
        message_type::X64_HALT => "HVMSG_X64_HALT",

        property::PRIVILEGE_FLAGS => "HV_PARTITION_PROPERTY_PRIVILEGE_FLAGS",
        property::SYNTHETIC_PROC_FEATURES => "HV_PARTITION_PROPERTY_SYNTHETIC_PROC_FEATURES",
        property::GPA_PAGE_ACCESS_TRACKING => "HV_PARTITION_PROPERTY_GPA_PAGE_ACCESS_TRACKING",
        property::UNIMPLEMENTED_MSR_ACTION => "HV_PARTITION_PROPERTY_UNIMPLEMENTED_MSR_ACTION",
        property::PROCESSOR_XSAVE_FEATURES => "HV_PARTITION_PROPERTY_PROCESSOR_XSAVE_FEATURES",
        property::XSAVE_STATES => "HV_PARTITION_PROPERTY_XSAVE_STATES",
        property::MAX_XSAVE_DATA_SIZE => "HV_PARTITION_PROPERTY_MAX_XSAVE_DATA_SIZE",
        property::PROCESSOR_CLOCK_FREQUENCY =>
            "HV_PARTITION_PROPERTY_PROCESSOR_CLOCK_FREQUENCY",
        property::VMM_CAPABILITIES => "HV_PARTITION_PROPERTY_VMM_CAPABILITIES",
    );
}

/// The kernel names only a part of the registers; the rest is in `bindings.rs`.
fn registers(c: &mut Checks) {
    use tlfs::register::{name, MTRR_PAIRS, VP_INDEX_SELF};
    values!(c,
        name::EXPLICIT_SUSPEND => "HV_REGISTER_EXPLICIT_SUSPEND",
        name::INTERCEPT_SUSPEND => "HV_REGISTER_INTERCEPT_SUSPEND",
        name::DISPATCH_SUSPEND => "HV_REGISTER_DISPATCH_SUSPEND",
        name::DR0 => "HV_X64_REGISTER_DR0",
        name::DR7 => "HV_X64_REGISTER_DR7",
        name::MTRR_CAP => "HV_X64_REGISTER_MSR_MTRR_CAP",
        name::MTRR_PHYS_BASE0 + MTRR_PAIRS - 1 => "HV_X64_REGISTER_MSR_MTRR_PHYS_BASE7",
        name::MTRR_PHYS_MASK0 + MTRR_PAIRS - 1 => "HV_X64_REGISTER_MSR_MTRR_PHYS_MASK7",
        name::MTRR_FIX4KF8000 => "HV_X64_REGISTER_MSR_MTRR_FIX4KF8000",
        name::VP_INDEX => "HV_REGISTER_VP_INDEX",
        name::VP_ROOT_SIGNAL_COUNT => "HV_REGISTER_VP_ROOT_SIGNAL_COUNT",
        VP_INDEX_SELF => "HV_VP_INDEX_SELF",
    );
}
