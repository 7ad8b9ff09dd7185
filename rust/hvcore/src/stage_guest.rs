// SPDX-License-Identifier: GPL-2.0

//! A guest of the [stage](crate::stage): it exits as it is told, and looks whether each VM entry is
//! one that a processor would make.

extern crate std;

use std::boxed::Box;
use std::vec::Vec;

use crate::arch::enter::Entered;
use crate::arch::host;
use crate::arch::vmcs::{self, control, reason};
use crate::machine::config;
use crate::policy::cr::{cr0, cr4, efer};
use hvabi::vp::gpr::{RAX, RCX, RDX};

/// What the guest does next: numbers from which an exit is made.
pub type Choice = [u64; 8];

pub struct Guest {
    choices: Vec<Choice>,
}

impl Guest {
    /// One that exits as often as there are choices, and is then interrupted.
    pub fn new(choices: Vec<Choice>) -> Guest {
        Guest { choices }
    }

    /// For the processor, to be entered.
    pub fn entered(mut self) -> host::Guest {
        Box::new(move |registers| {
            check_entry();
            match self.choices.pop() {
                Some(choice) => act(&choice, registers),
                None => exit(reason::EXTERNAL_INTERRUPT),
            }
            Entered::Exited
        })
    }
}

fn exit(number: u32) {
    vmcs::EXIT_REASON.write(number);
}

/// Values that instructions might have as operands.
fn value(choice: u64) -> u64 {
    match choice >> 13 {
        0 => choice & 0xff,
        1 => 1 << (choice & 63),
        2 => !(1 << (choice & 63)),
        3 => u64::MAX >> (choice & 63),
        4 => 0xfee0_0000 | choice & 0xfff,
        5 => 0x8005_0033 ^ 1 << (choice & 31),
        6 => 0x20 ^ 1 << (choice & 31),
        _ => (choice & 0xfff) << 12 | 3,
    }
}

/// MSRs that are emulated, and some that are not.
fn msr(choice: u64) -> u64 {
    const MSRS: [u32; 24] = [
        0x10,
        0x1b,
        0x3a,
        0x3b,
        0x48,
        0x49,
        0x10a,
        0x10b,
        0x17,
        0x8b,
        0xce,
        0xfe,
        0x179,
        0x1a0,
        0x1d9,
        0x200,
        0x20f,
        0x250,
        0x26f,
        0x2ff,
        0x6e0,
        0xda0,
        0xc000_0080,
        0x4000_0000,
    ];
    match choice >> 14 {
        0 => MSRS[choice as usize % MSRS.len()].into(),
        1 | 2 => 0x800 | choice & 0xff,
        _ => choice & 0x3fff,
    }
}

/// Makes up an exit.
fn act(choice: &Choice, registers: &mut [u64; 16]) {
    const REASONS: [u32; 24] = [
        reason::CPUID,
        reason::HLT,
        reason::IO,
        reason::EPT_VIOLATION,
        reason::APIC_WRITE,
        reason::APIC_WRITE,
        reason::RDMSR,
        reason::WRMSR,
        reason::WRMSR,
        reason::CR_ACCESS,
        reason::CR_ACCESS,
        reason::XSETBV,
        reason::EXCEPTION_NMI,
        reason::INTERRUPT_WINDOW,
        reason::NMI_WINDOW,
        reason::PREEMPTION_TIMER,
        reason::VMCALL,
        reason::PAUSE,
        reason::APIC_ACCESS,
        reason::APIC_ACCESS,
        reason::MONITOR_TRAP,
        reason::TASK_SWITCH,
        reason::WBINVD,
        reason::TPR_BELOW_THRESHOLD,
    ];
    let [kind, qualification, first, second, third, flags, event, more] = *choice;
    let number = match kind as usize % 26 {
        index @ 0..24 => REASONS[index],
        24 => (kind >> 8) as u32 % 80,
        _ => {
            // A MOV to CR0 or CR4 that touches nothing of hvcore's: the processor does it.
            let rules = &config().child_rules;
            let mode = rules.mode();
            let done = if first & 1 == 0 {
                rules.policy.write_cr0(mode.cr0 ^ 1 << (second & 31), &mode)
            } else {
                rules.policy.write_cr4(mode.cr4 ^ 1 << (second & 31), &mode)
            };
            if let Ok(write) = done {
                rules.apply(&write);
            }
            reason::EXTERNAL_INTERRUPT
        }
    };
    registers[RAX] = value(second);
    registers[RDX] = value(third) >> (first & 32);
    registers[RCX] = match number {
        reason::RDMSR | reason::WRMSR => msr(first),
        reason::XSETBV => first & 1,
        _ => value(first),
    };
    registers[(more & 15) as usize] = value(more >> 4 & 0xffff);
    vmcs::EXIT_QUALIFICATION.write(match number {
        reason::CR_ACCESS => [0, 4, 8, 8][qualification as usize & 3] | qualification & 0xf10,
        reason::APIC_ACCESS => qualification & 0x1fff,
        reason::APIC_WRITE => qualification & 0xff0,
        _ => qualification | second << 16,
    });
    if number == reason::APIC_WRITE && qualification & 1 != 0 {
        // The processor wrote the page by itself.
        write_apic((qualification & 0xff0) as u16, value(second) as u32);
    }
    vmcs::GUEST_PHYSICAL_ADDRESS.write(value(first));
    vmcs::GUEST_LINEAR_ADDRESS.write(value(third));
    vmcs::EXIT_LENGTH.write(1 + (flags & 15).min(14) as u32);
    vmcs::GUEST_RIP.write(vmcs::GUEST_RIP.read().wrapping_add(value(flags)));
    const FLAGS: u64 = 1 << 9 | 1 << 8 | 1 << 16;
    vmcs::GUEST_RFLAGS.write(2 | flags & FLAGS);
    vmcs::GUEST_INTERRUPTIBILITY.write([0, 0, 1, 2, 8, 9][flags as usize >> 10 & 3]);
    if vmcs::GUEST_CR0.read() & cr0::PE != 0 {
        let level = (flags >> 12 & 3) as u32;
        vmcs::GUEST_SS_ACCESS.write(vmcs::GUEST_SS_ACCESS.read() & !0x60 | level << 5);
    }
    let error = vmcs::GUEST_CR0.read() & cr0::PE != 0;
    vmcs::VECTORING_INFO.write(if event & 7 == 7 { information(event >> 3, error) } else { 0 });
    vmcs::EXIT_INFO.write(exception(event, error));
    vmcs::VECTORING_ERROR.write(0x18);
    vmcs::EXIT_ERROR.write(0);
    vmcs::ENTRY_INFO.write(vmcs::ENTRY_INFO.read() & !VALID);
    exit(number);
}

fn write_apic(offset: u16, value: u32) {
    let at = vmcs::VIRTUAL_APIC.read() + u64::from(offset);
    // SAFETY: the page is a frame in the tests' RAM, and nobody has a reference to it while the
    // guest runs.
    unsafe { crate::mem::frame::direct(at).cast::<u32>().write(value) };
}

const VALID: u32 = 1 << 31;
const HAS_ERROR: u32 = 1 << 11;

fn with_error(vector: u32) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}

fn hardware(vector: u32, error: bool) -> u32 {
    let code = if error && with_error(vector) { HAS_ERROR } else { 0 };
    VALID | 3 << 8 | code | vector
}

/// What was being delivered when the exit came (SDM vol. 3, 25.9.3).
fn information(choice: u64, error: bool) -> u32 {
    let vector = (choice >> 3) as u32 & 0xff;
    match choice & 3 {
        0 => VALID | vector.max(32),
        1 => VALID | 2 << 8 | 2,
        2 => hardware([0, 6, 10, 13, 14][vector as usize % 5], error),
        _ => VALID | 4 << 8 | vector,
    }
}

/// Of an exception or NMI that exits.
fn exception(choice: u64, error: bool) -> u32 {
    match choice >> 8 & 7 {
        0 => VALID | 2 << 8 | 2,
        1 => VALID | 5 << 8 | 1,
        2 => hardware(1, error),
        3 => hardware(17, error),
        4 => hardware(18, error),
        n => hardware((choice & 31) as u32 * u32::from(n != 2), error),
    }
}

fn canonical(address: u64) -> bool {
    crate::policy::msr::canonical(address)
}

/// What VM entry checks (SDM vol. 3, 28.2 and 28.3), as far as the root has no say in it.
fn check_entry() {
    use control::{entry, pin, proc, proc2};
    let (pin_controls, first) = (vmcs::PIN_CONTROLS.read(), vmcs::PROC_CONTROLS.read());
    let second = vmcs::PROC_CONTROLS2.read();
    let always = pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMIS | pin::PREEMPTION_TIMER;
    assert_eq!(pin_controls & always, always, "pin-based controls");
    let always = proc::HLT
        | proc::MWAIT
        | proc::RDPMC
        | proc::UNCONDITIONAL_IO
        | proc::MSR_BITMAPS
        | proc::MONITOR
        | proc::SECONDARY;
    assert_eq!(first & always, always, "primary controls");
    let always = proc2::EPT | proc2::VPID | proc2::UNRESTRICTED | proc2::WBINVD | proc2::ENCLS;
    assert_eq!(second & always, always, "secondary controls");
    assert_eq!(vmcs::ENCLS_EXITING.read(), u64::MAX);
    if first & proc::TPR_SHADOW == 0 {
        assert_eq!(second & proc2::APIC_REGISTERS, 0, "needs the TPR shadow");
        assert_eq!(first >> 19 & 3, 3, "without a TPR shadow CR8 exits");
    } else {
        let threshold = vmcs::TPR_THRESHOLD.read();
        assert_eq!(threshold & !0xf, 0, "TPR threshold");
    }
    // A step, in which the guest reaches the APIC's page, is one instruction long.
    let steps = first & proc::MONITOR_TRAP != 0;
    assert_eq!(second & proc2::APIC_ACCESSES == 0, steps, "the APIC's page");
    assert_eq!(vmcs::APIC_ACCESS.read(), config().apic_access);
    assert_eq!(vmcs::MSR_BITMAP.read(), config().child_msrs);
    assert!(vmcs::VPID.read() > 1 && vmcs::EPTP.read() & 0xfff == 0x1e);
    assert_ne!(vmcs::EPTP.read(), config().eptp, "the root's tables");
    assert_eq!(vmcs::HOST_CR3.read(), config().info.host_cr3);
    assert!(vmcs::EXCEPTION_BITMAP.read() & (1 << 1 | 1 << 17 | 1 << 18) != 0);

    let (cr0_now, cr4_now) = (vmcs::GUEST_CR0.read(), vmcs::GUEST_CR4.read());
    let efer_now = vmcs::GUEST_EFER.read();
    let caps = &config().caps;
    assert_eq!(!cr0_now & caps.cr0_fixed.0 & !(cr0::PG | cr0::PE), 0, "CR0 {cr0_now:#x}");
    assert_eq!(cr0_now & (cr0::CD | cr0::NW), 0, "caching is not the child's");
    assert!(cr0_now & cr0::PG == 0 || cr0_now & cr0::PE != 0, "CR0 {cr0_now:#x}");
    assert_eq!(!cr4_now & caps.cr4_fixed.0 | cr4_now & !caps.cr4_fixed.1, 0, "CR4 {cr4_now:#x}");
    let hidden = cr4_now & !(cr4::CHILD | caps.cr4_fixed.0);
    assert_eq!((hidden, cr4_now & cr4::MCE), (0, cr4::MCE), "CR4 {cr4_now:#x}");
    let long = vmcs::ENTRY_CONTROLS.read() & entry::IA32E != 0;
    assert_eq!(efer_now & !(efer::SCE | efer::LME | efer::LMA | efer::NXE), 0, "{efer_now:#x}");
    assert_eq!(efer_now & efer::LMA != 0, long, "EFER {efer_now:#x}");
    let paged = cr0_now & cr0::PG != 0;
    assert_eq!(long, paged && efer_now & efer::LME != 0, "EFER {efer_now:#x}, CR0 {cr0_now:#x}");
    assert!(!long || cr4_now & cr4::PAE != 0);
    assert!(long || cr4_now & cr4::PCIDE == 0);
    assert_eq!(vmcs::GUEST_CR3.read() >> caps.phys_bits, 0);
    assert_eq!(vmcs::GUEST_DR7.read() >> 32, 0);
    assert!(canonical(vmcs::GUEST_SYSENTER_ESP.read()));
    assert!(canonical(vmcs::GUEST_SYSENTER_EIP.read()));
    assert!(crate::policy::msr::pat_valid(vmcs::GUEST_PAT.read()));
    assert_eq!(vmcs::GUEST_DEBUGCTL.read() & !2, 0);
    assert_eq!(vmcs::GUEST_RFLAGS.read() & !0x3f_7fd5, 2);
    assert_eq!(vmcs::GUEST_ACTIVITY.read(), 0, "a VP that waits is not entered");
    check_event(cr0_now);
}

/// What the entry delivers (SDM vol. 3, 28.2.1.3).
pub fn check_event(cr0_now: u64) {
    let info = vmcs::ENTRY_INFO.read();
    if info & VALID == 0 {
        return;
    }
    let (kind, vector) = (info >> 8 & 7, info & 0xff);
    assert_eq!(info & 0x7fff_f000, 0, "{info:#x}");
    match kind {
        0 => {}
        2 => assert_eq!(vector, 2),
        3 => assert!(vector < 32 && vector != 2, "{info:#x}"),
        4..=6 => assert!((1..=15).contains(&vmcs::ENTRY_LENGTH.read()), "{info:#x}"),
        _ => panic!("{info:#x}"),
    }
    if info & HAS_ERROR != 0 {
        assert!(kind == 3 && (with_error(vector) || vector == 21), "{info:#x}");
        assert!(cr0_now & cr0::PE != 0, "{info:#x} in real mode");
        assert_eq!(vmcs::ENTRY_ERROR.read() >> 16, 0);
    }
}
