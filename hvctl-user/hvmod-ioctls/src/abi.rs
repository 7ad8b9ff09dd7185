// SPDX-License-Identifier: GPL-2.0
//! Structures and numbers of `linux/hvmod.h`.

/// VPs that a partition has at most.
pub use hvabi::MAX_VPS;
/// VM exits are counted by basic exit reason.
pub use hvabi::stats::EXIT_REASONS;

use hvabi::log::TEXT_SIZE;

/// The information calls are there.
pub const CAP_INFO: u64 = 1 << 0;
/// The log can be read.
pub const CAP_LOG: u64 = 1 << 1;
/// VPs can run: the processor virtualizes APIC registers.
pub const CAP_CHILDREN: u64 = 1 << 2;
/// Partitions can have private memory.
pub const CAP_PRIVATE: u64 = 1 << 8;

/// Memory of partitions can be done without for a time.
pub const CAP_DISCARD: u64 = 1 << 9;

/// VPs can be asked about one by one.
pub const CAP_VP_INFO: u64 = 1 << 3;

/// What this hvmod can do.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Caps {
    pub caps: u64,
    pub reserved: [u64; 3],
}

/// The hypervisor as a whole.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Info {
    /// Version of the interface between hvmod and hvcore.
    pub abi: u32,
    /// LPs in the root partition.
    pub lps: u32,
    /// Children that exist.
    pub partitions: u32,
    /// 1 if hvcore died; see the log.
    pub dead: u32,
    /// Memory taken at load.
    pub core_bytes: u64,
    /// Of it, hvcore's code.
    pub core_text: u64,
    /// Memory deposited for children.
    pub deposited_bytes: u64,
    /// Root memory mapped into children.
    pub shared_bytes: u64,
    pub tsc_khz: u64,
    /// Physical address of hvcore's own memory, hidden from Linux, and its size in bytes.
    pub core_spa: u64,
    pub core_size: u64,
    /// Memory that children have for themselves.
    pub private_bytes: u64,
    /// [`measures`](crate::measures) taken on a switch between partitions.
    pub measures: u32,
    /// Those that the processor needs, and are not taken.
    pub measures_lacking: u32,
    pub reserved: [u64; 3],
}

/// One logical processor.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LpInfo {
    /// In: from 0.
    pub index: u32,
    /// Linux's number of it.
    pub cpu: u32,
    pub apic_id: u32,
    /// 1 while in VMX operation.
    pub active: u32,
    pub root_exits: [u64; EXIT_REASONS],
    pub child_exits: [u64; EXIT_REASONS],
    /// Switches from the root to a child.
    pub child_runs: u64,
    /// NMIs handed to the root.
    pub nmis: u64,
    pub hypercalls: u64,
    /// Writes of the root to pages that it may not touch, refused.
    pub denied: u64,
    /// Where the last of them was.
    pub denied_rip: u64,
    /// Reads of such pages, which gave zeros.
    pub hidden_reads: u64,
    pub reserved: [u64; 2],
}

/// One child partition.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PartitionInfo {
    /// In: least number wanted; out: number of this one.
    pub id: u64,
    pub vps: u32,
    /// Process that created it; 0: not visible.
    pub owner: i32,
    /// Its name, NUL-terminated.
    pub comm: [u8; 16],
    /// Root memory mapped into it.
    pub shared_bytes: u64,
    /// Memory deposited for it.
    pub deposited_bytes: u64,
    /// VM exits of all its VPs.
    pub exits: [u64; EXIT_REASONS],
    /// Memory that it has for itself.
    pub private_bytes: u64,
    pub reserved: [u64; 3],
}

/// What a VP does.
#[allow(missing_docs)]
pub mod vp_state {
    /// No thread is in MSHV_RUN_VP.
    pub const STOPPED: u32 = 0;
    pub const RUNNING: u32 = 1;
    /// Its thread would run it, but has no CPU or other work.
    pub const READY: u32 = 2;
    /// Its thread sleeps until an interrupt comes.
    pub const HALTED: u32 = 3;
    /// Its thread sleeps until another VP starts it.
    pub const WAITS_FOR_SIPI: u32 = 4;
}

/// One VP.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VpInfo {
    /// In: number of a partition.
    pub partition: u64,
    /// In: least index wanted; out: index of this one.
    pub index: u32,
    /// One of [`vp_state`].
    pub state: u32,
    /// CPU that it runs on, if it runs.
    pub cpu: u32,
    /// Thread that ran it last; 0: not visible.
    pub thread: i32,
    pub exits: [u64; EXIT_REASONS],
    /// Of them, those that the root did not see.
    pub handled: u64,
    /// Interrupts that it got.
    pub injected: u64,
    pub reserved: [u64; 4],
}

impl Default for VpInfo {
    fn default() -> Self {
        Self {
            partition: 0,
            index: 0,
            state: 0,
            cpu: 0,
            thread: 0,
            exits: [0; EXIT_REASONS],
            handled: 0,
            injected: 0,
            reserved: [0; 4],
        }
    }
}

/// Private memory for a partition.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PrivateMemory {
    /// First guest page, of 4 KiB.
    pub guest_pfn: u64,
    /// Bytes, whole pages.
    pub size: u64,
    /// User address of that many bytes to begin with, or 0: zeros.
    pub image: u64,
    /// [`PRIVATE_WRITABLE`], [`PRIVATE_EXECUTABLE`].
    pub flags: u32,
    pub reserved: [u32; 3],
}

/// Memory that a guest does without for a time.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct DiscardMemory {
    /// First guest page, of 4 KiB: where a unit begins.
    pub guest_pfn: u64,
    /// Bytes, whole units.
    pub size: u64,
    pub reserved: [u64; 2],
}

/// Bytes, at a multiple of as many.
pub const DISCARD_UNIT: u64 = 2 << 20;

/// The guest may write it.
pub const PRIVATE_WRITABLE: u32 = 1 << 0;
/// The guest may execute it.
pub const PRIVATE_EXECUTABLE: u32 = 1 << 1;

/// One line of hvcore's log.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct LogRecord {
    /// Number of the record, from 1.
    pub seq: u64,
    /// TSC when it was written.
    pub tsc: u64,
    /// LP that wrote it.
    pub lp: u16,
    /// As in syslog: 2 critical to 7 debug.
    pub level: u8,
    /// Bytes of text.
    pub len: u8,
    pub reserved: u32,
    pub text: [u8; TEXT_SIZE],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReadLog {
    /// In: least number wanted; out: least number not read.
    pub seq: u64,
    /// In: user address of an array of [`LogRecord`].
    pub records: u64,
    /// In: room in the array; out: records written.
    pub count: u32,
    pub reserved: u32,
    /// Wanted records that were overwritten.
    pub lost: u64,
}

impl Default for LpInfo {
    fn default() -> Self {
        Self {
            index: 0,
            cpu: 0,
            apic_id: 0,
            active: 0,
            root_exits: [0; EXIT_REASONS],
            child_exits: [0; EXIT_REASONS],
            child_runs: 0,
            nmis: 0,
            hypercalls: 0,
            denied: 0,
            denied_rip: 0,
            hidden_reads: 0,
            reserved: [0; 2],
        }
    }
}

impl Default for PartitionInfo {
    fn default() -> Self {
        Self {
            id: 0,
            vps: 0,
            owner: 0,
            comm: [0; 16],
            shared_bytes: 0,
            deposited_bytes: 0,
            exits: [0; EXIT_REASONS],
            private_bytes: 0,
            reserved: [0; 3],
        }
    }
}

impl Default for LogRecord {
    fn default() -> Self {
        Self {
            seq: 0,
            tsc: 0,
            lp: 0,
            level: 0,
            len: 0,
            reserved: 0,
            text: [0; TEXT_SIZE],
        }
    }
}

impl PartitionInfo {
    /// The owner's name.
    pub fn name(&self) -> String {
        let end = self
            .comm
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.comm.len());
        String::from_utf8_lossy(&self.comm[..end]).into_owned()
    }
}

impl LogRecord {
    pub fn message(&self) -> String {
        let end = usize::from(self.len).min(self.text.len());
        String::from_utf8_lossy(&self.text[..end]).into_owned()
    }
}

/// The type of all of them, beside which each has a number.
pub const CALL_TYPE: u8 = call::TYPE;

/// The calls.
#[allow(missing_docs)]
pub(crate) mod call {
    use super::{Caps, DiscardMemory, Info, LpInfo, PartitionInfo, PrivateMemory, ReadLog, VpInfo};

    pub const TYPE: u8 = 0xbb;
    nix::ioctl_read!(get_caps, TYPE, 0x00, Caps);
    nix::ioctl_read!(get_info, TYPE, 0x01, Info);
    nix::ioctl_readwrite!(get_lp_info, TYPE, 0x02, LpInfo);
    nix::ioctl_readwrite!(get_partition_info, TYPE, 0x03, PartitionInfo);
    nix::ioctl_readwrite!(read_log, TYPE, 0x04, ReadLog);
    nix::ioctl_readwrite!(get_vp_info, TYPE, 0x05, VpInfo);
    nix::ioctl_write_ptr!(set_private_memory, TYPE, 0x20, PrivateMemory);
    nix::ioctl_write_ptr!(discard_memory, TYPE, 0x21, DiscardMemory);
}

/// The number of the call behind [`discard_memory`](crate::discard_memory).
pub const DISCARD_CALL: u64 =
    nix::request_code_write!(call::TYPE, 0x21, size_of::<DiscardMemory>());

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;
    use std::process::Command;

    /// The same questions to the C compiler and to us.
    #[test]
    fn the_c_header_agrees() {
        let mut questions: Vec<(String, u64)> = Vec::new();
        macro_rules! layout {
            ($rust:ident, $c:literal, $($field:ident),*) => {
                questions.push((concat!("sizeof(struct ", $c, ")").into(),
                                size_of::<$rust>() as u64));
                $(questions.push((
                    format!("offsetof(struct {}, {})", $c, stringify!($field)),
                    offset_of!($rust, $field) as u64,
                ));)*
            };
        }
        layout!(Caps, "hvmod_caps", caps, reserved);
        layout!(
            Info,
            "hvmod_info",
            abi,
            lps,
            partitions,
            dead,
            core_bytes,
            core_text,
            deposited_bytes,
            shared_bytes,
            tsc_khz,
            core_spa,
            core_size,
            private_bytes,
            measures,
            measures_lacking,
            reserved
        );
        layout!(
            LpInfo,
            "hvmod_lp_info",
            index,
            cpu,
            apic_id,
            active,
            root_exits,
            child_exits,
            child_runs,
            nmis,
            hypercalls,
            denied,
            denied_rip,
            hidden_reads,
            reserved
        );
        layout!(
            PartitionInfo,
            "hvmod_partition_info",
            id,
            vps,
            owner,
            comm,
            shared_bytes,
            deposited_bytes,
            exits,
            private_bytes,
            reserved
        );
        layout!(
            PrivateMemory,
            "hvmod_private_memory",
            guest_pfn,
            size,
            image,
            flags,
            reserved
        );
        layout!(
            VpInfo,
            "hvmod_vp_info",
            partition,
            index,
            state,
            cpu,
            thread,
            exits,
            handled,
            injected,
            reserved
        );
        layout!(
            LogRecord,
            "hvmod_log_record",
            seq,
            tsc,
            lp,
            level,
            len,
            reserved,
            text
        );
        layout!(
            ReadLog,
            "hvmod_read_log",
            seq,
            records,
            count,
            reserved,
            lost
        );
        let mut constant = |name: &str, value: u64| questions.push((name.into(), value));
        constant("HVMOD_EXIT_REASONS", EXIT_REASONS as u64);
        constant("HVMOD_MAX_VPS", MAX_VPS as u64);
        constant("HVMOD_CAP_INFO", CAP_INFO);
        constant("HVMOD_CAP_LOG", CAP_LOG);
        constant("HVMOD_CAP_CHILDREN", CAP_CHILDREN);
        constant("HVMOD_CAP_VP_INFO", CAP_VP_INFO);
        constant("HVMOD_MEASURE_IBPB", hvabi::boot::measures::IBPB);
        constant("HVMOD_MEASURE_RSB_FILL", hvabi::boot::measures::RSB_FILL);
        constant("HVMOD_MEASURE_VERW", hvabi::boot::measures::VERW);
        constant("HVMOD_MEASURE_L1D_FLUSH", hvabi::boot::measures::L1D_FLUSH);
        constant("HVMOD_VP_STOPPED", vp_state::STOPPED.into());
        constant("HVMOD_VP_RUNNING", vp_state::RUNNING.into());
        constant("HVMOD_VP_READY", vp_state::READY.into());
        constant("HVMOD_VP_HALTED", vp_state::HALTED.into());
        constant("HVMOD_VP_WAITS_FOR_SIPI", vp_state::WAITS_FOR_SIPI.into());
        let vp_info = 3u64 << 30 | u64::from(call::TYPE) << 8 | 5;
        constant(
            "HVMOD_GET_VP_INFO",
            vp_info | (size_of::<VpInfo>() as u64) << 16,
        );
        constant("HVMOD_CAP_PRIVATE", CAP_PRIVATE);
        constant("HVMOD_CAP_DISCARD", CAP_DISCARD);
        constant("HVMOD_DISCARD_UNIT", DISCARD_UNIT);
        constant("HVMOD_PRIVATE_WRITABLE", PRIVATE_WRITABLE.into());
        constant("HVMOD_PRIVATE_EXECUTABLE", PRIVATE_EXECUTABLE.into());
        constant("HVMOD_CPUID_BASE", hvabi::CPUID_ROOT_BASE.into());
        constant("HVMOD_CPUID_LP", hvabi::CPUID_ROOT_LP.into());
        let number = |nr, size| u64::from(call::TYPE) << 8 | nr | (size as u64) << 16;
        let (read, both) = (2u64 << 30, 3u64 << 30);
        constant("HVMOD_GET_CAPS", read | number(0, size_of::<Caps>()));
        constant("HVMOD_GET_INFO", read | number(1, size_of::<Info>()));
        constant("HVMOD_GET_LP_INFO", both | number(2, size_of::<LpInfo>()));
        constant(
            "HVMOD_GET_PARTITION_INFO",
            both | number(3, size_of::<PartitionInfo>()),
        );
        constant("HVMOD_READ_LOG", both | number(4, size_of::<ReadLog>()));
        constant(
            "HVMOD_SET_PRIVATE_MEMORY",
            (1u64 << 30) | number(0x20, size_of::<PrivateMemory>()),
        );
        constant("HVMOD_DISCARD_MEMORY", DISCARD_CALL);
        layout!(
            DiscardMemory,
            "hvmod_discard_memory",
            guest_pfn,
            size,
            reserved
        );

        let header = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../include/uapi/linux/hvmod.h"
        );
        let mut prints = String::new();
        for (question, _) in &questions {
            prints += &format!("printf(\"%llu\\n\", (unsigned long long)({question}));\n");
        }
        let source = format!(
            "#include <stddef.h>\n#include <stdio.h>\n#include \"{header}\"\n\
             int main(void) {{\n{prints}return 0;\n}}\n"
        );
        let directory = tempfile::tempdir().unwrap();
        let (file, program) = (directory.path().join("abi.c"), directory.path().join("abi"));
        std::fs::write(&file, source).unwrap();
        let compiler = cc::Build::new()
            .target("x86_64-unknown-linux-gnu")
            .host("x86_64-unknown-linux-gnu")
            .opt_level(0)
            .get_compiler();
        let status = compiler
            .to_command()
            .arg(&file)
            .arg("-o")
            .arg(&program)
            .status()
            .unwrap();
        assert!(status.success(), "the header does not compile");
        let output = Command::new(&program).output().unwrap();
        let answers: Vec<u64> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        assert_eq!(answers.len(), questions.len());
        for ((question, ours), theirs) in questions.iter().zip(answers) {
            assert_eq!(*ours, theirs, "{question}");
        }
    }

    #[test]
    fn text_ends_where_it_says() {
        let mut record = LogRecord {
            len: 5,
            ..Default::default()
        };
        record.text[..7].copy_from_slice(b"hellooo");
        assert_eq!(record.message(), "hello");
        let mut partition = PartitionInfo::default();
        partition.comm[..5].copy_from_slice(b"hvctl");
        assert_eq!(partition.name(), "hvctl");
    }
}
