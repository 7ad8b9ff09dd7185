// SPDX-License-Identifier: GPL-2.0

//! VM exits of children: one short handler for each reason.

use crate::apic::regs::Effect;
use crate::apic_step;
use crate::arch::insn;
use crate::arch::lp::Lp;
use crate::arch::root_memory::{self, Hostile};
use crate::arch::vmcs;
use crate::arch::{msr, public};
use crate::child::{Next, Run};
use crate::control_registers;
use crate::event::{self, blocking, Event};
use crate::interrupt;
use crate::machine::config;
use crate::partition;
use crate::policy::cpuid::ChildCpu;
use crate::policy::cr::{cr0, efer};
use crate::policy::exits::{self, Answer};
use crate::policy::msr::{Msr, Stored};
use crate::policy::{self, Gp};
use crate::vp::Activity;
use hvabi::log::Level;
use hvabi::vp::gpr::{RAX, RBX, RCX, RDX, RSP};
use hvabi::vp::{orders, ExitKind};
use hvabi::APIC_GPA;

/// Handles an exit, with the child's VMCS current and its state in the processor.
#[inline(always)]
pub fn handle(lp: &mut Lp, run: &mut Run<'_>, exit: u32) -> Next {
    match exits::child(exit) {
        Answer::Cpuid => cpuid(run),
        Answer::Halt => {
            event::skip_instruction();
            // A trap would end the halt at once.
            if !event::traps() {
                run.state.activity = Activity::Halted;
            }
            Next::Look
        }
        Answer::Port => port(run),
        Answer::Memory => {
            inject!(lp.index, ChildMemory);
            memory(run)
        }
        Answer::ApicWrite => {
            let offset = vmcs::EXIT_QUALIFICATION.read() as u16;
            let effect = run.state.apic.written(offset, insn::rdtsc());
            apic_effect(run, effect)
        }
        Answer::ReadMsr => rdmsr(run),
        Answer::WriteMsr => wrmsr(run),
        Answer::ControlRegister => control_register(lp, run),
        Answer::Xsetbv => xsetbv(run),
        Answer::Exception => exception(lp, run),
        Answer::Look => Next::Look,
        Answer::Hypercall => vmcall(run),
        // The root may run the VP that this one waits for.
        Answer::Pause => {
            event::skip_instruction();
            Next::Root(ExitKind::Interrupted)
        }
        Answer::TaskSwitch => to_root(run, ExitKind::TaskSwitch),
        Answer::Nothing => {
            event::skip_instruction();
            Next::Enter
        }
        Answer::Protection => inject(run, Event::GP),
        Answer::Undefined => inject(run, Event::UD),
        Answer::ApicAccess => apic_step::begin(run),
        Answer::TripleFault => to_root(run, ExitKind::TripleFault),
        Answer::Interrupted => Next::Root(ExitKind::Interrupted),
        // That INIT is the root's: see `child`.
        Answer::Init | Answer::Unexpected => unexpected(lp, run),
    }
}

/// An exit that cannot be: the partition ends with it, and nothing else does.
#[cold]
fn unexpected(lp: &Lp, run: &mut Run<'_>) -> Next {
    public::log(
        lp.index,
        Level::Error,
        format_args!(
            "partition {} VP {} is stopped: exit {} at {:#x}, qualification {:#x}",
            run.number,
            run.vp.index,
            vmcs::EXIT_REASON.read(),
            vmcs::GUEST_RIP.read(),
            vmcs::EXIT_QUALIFICATION.read()
        ),
    );
    if let Ok(mut partition) = partition::lock(run.number) {
        partition.stopped = true;
    }
    to_root(run, ExitKind::Unexpected)
}

pub fn to_root(run: &mut Run<'_>, kind: ExitKind) -> Next {
    run.page.qualification = vmcs::EXIT_QUALIFICATION.read();
    run.page.instruction_len = vmcs::EXIT_LENGTH.read();
    Next::Root(kind)
}

/// Has the next entry deliver a fault of the instruction that exited.
fn inject(run: &mut Run<'_>, event: Event) -> Next {
    run.state.event = Some(event);
    Next::Enter
}

#[inline(always)]
fn cpuid(run: &mut Run<'_>) -> Next {
    let (gpr, orders) = (&mut run.state.gpr, run.page.orders);
    let (leaf, subleaf) = (gpr[RAX] as u32, gpr[RCX] as u32);
    let known = orders & orders::HYPERVISOR != 0;
    if orders & orders::CPUID != 0 || known && leaf >> 8 == 0x40_0000 {
        return to_root(run, ExitKind::Cpuid);
    }
    // One leaf tells of XCR0.
    let xcr0 = if leaf == 0xd && config().present.xcr0 { insn::xgetbv() } else { 1 };
    let apic_enabled = run.state.apic.present();
    let [eax, ebx, ecx, edx] =
        cpuid_result(leaf, subleaf, run.vp.index, run.vp_count, xcr0, apic_enabled);
    gpr[RAX] = u64::from(eax);
    gpr[RBX] = u64::from(ebx);
    gpr[RCX] = u64::from(ecx) | u64::from(known && leaf == 1) << 31;
    gpr[RDX] = u64::from(edx);
    event::skip_instruction();
    Next::Enter
}

/// What CPUID says to a VP. Its VMCS is current.
#[inline(always)]
pub fn cpuid_result(
    leaf: u32,
    subleaf: u32,
    index: u32,
    vp_count: u32,
    xcr0: u64,
    apic_enabled: bool,
) -> policy::cpuid::Regs {
    let config = config();
    let cpu = ChildCpu {
        apic_id: index,
        vp_count,
        // Two leaves tell of CR4.
        cr4: if matches!(leaf, 1 | 7) { config.child_rules.cr4() } else { 0 },
        xcr0,
        clock: config.clock,
        xsave: &config.xsave,
        xsaves: config.present.xss,
        apic_enabled,
    };
    policy::cpuid::child(leaf, subleaf, insn::cpuid(leaf, subleaf), &cpu)
}

/// IN, OUT, INS, OUTS (SDM vol. 3, table 28-5).
fn port(run: &mut Run<'_>) -> Next {
    let qualification = vmcs::EXIT_QUALIFICATION.read();
    let flag = |bit: u32| (qualification >> bit & 1) as u8;
    let page = &mut run.page;
    page.port = (qualification >> 16) as u16;
    page.port_size = (qualification & 7) as u8 + 1;
    page.port_in = flag(3);
    page.port_string = flag(4);
    page.port_rep = flag(5);
    page.gla_valid = u32::from(flag(4));
    page.gla = if flag(4) != 0 { vmcs::GUEST_LINEAR_ADDRESS.read() } else { 0 };
    to_root(run, ExitKind::Port)
}

/// An access to a GPA that is not mapped, or not so (SDM vol. 3, table 28-7).
fn memory(run: &mut Run<'_>) -> Next {
    const NMI_UNBLOCKING: u64 = 1 << 12;
    let qualification = vmcs::EXIT_QUALIFICATION.read();
    if qualification & NMI_UNBLOCKING != 0 && run.state.event.is_none() {
        let state = vmcs::GUEST_INTERRUPTIBILITY.read();
        vmcs::GUEST_INTERRUPTIBILITY.write(state | blocking::NMI);
    }
    let page = &mut run.page;
    page.gpa = vmcs::GUEST_PHYSICAL_ADDRESS.read();
    page.gla_valid = qualification as u32 >> 7 & 3;
    page.gla = vmcs::GUEST_LINEAR_ADDRESS.read();
    page.access = (qualification & 7) as u8;
    // That of an access of its own, not what RIP is at when an event cannot be delivered or the
    // instruction itself is not there.
    if run.private && run.state.event.is_none() && qualification & 4 == 0 {
        tell_instruction(run);
    }
    to_root(run, ExitKind::Memory)
}

/// The bytes at RIP of a VP whose memory the root cannot read, for it to emulate the instruction:
/// in long mode, and without paging.
fn tell_instruction(run: &mut Run<'_>) {
    let Ok(partition) = partition::lock(run.number) else {
        return;
    };
    let mode = config().child_rules.mode();
    let wide = mode.efer & efer::LMA != 0 && mode.cs_l;
    let base = if wide { 0 } else { vmcs::CS.read().base };
    let start = base.wrapping_add(vmcs::GUEST_RIP.read());
    let page = |gpa| partition.space.translate(gpa).map(Hostile::owned_by_root);
    while let at @ 0..15 = run.page.instruction_bytes {
        let address = start.wrapping_add(u64::from(at));
        let address = if wide { address } else { address & 0xffff_ffff };
        let found = match (mode.cr0 & cr0::PG != 0, mode.efer & efer::LMA != 0) {
            (false, _) => page(address).map(|page| (page, (address & 0xfff) as usize)),
            (true, true) => root_memory::translate(mode.cr3, false, address, page),
            (true, false) => None,
        };
        let Some((found, offset)) = found else {
            return;
        };
        // To the end of the page.
        for (to, offset) in run.page.instruction.iter_mut().skip(at.into()).zip(offset..0x1000) {
            *to = found.read(offset);
            run.page.instruction_bytes += 1;
        }
    }
}

/// Carries out what a write to the local APIC asks for.
fn apic_effect(run: &mut Run<'_>, effect: Effect) -> Next {
    run.vp.posted.publish(run.state.apic.address());
    match effect {
        Effect::None | Effect::Timer | Effect::Eoi { level: None } => Next::Look,
        Effect::Eoi { level: Some(vector) } => {
            run.page.vector = vector;
            Next::Root(ExitKind::Eoi)
        }
        Effect::Ipi(ipi) => {
            if let Ok(partition) = partition::lock(run.number) {
                let set = interrupt::send(&partition, Some(run.vp.index), ipi, false);
                run.page.wake |= set & !(1 << run.vp.index);
            }
            if run.page.wake != 0 {
                // The others wait for the root to wake or interrupt them.
                return Next::Root(ExitKind::Interrupted);
            }
            Next::Look
        }
    }
}

/// The MSR that RCX names; the root answers for one that does not exist.
fn msr_of(run: &mut Run<'_>, access: u8) -> Result<Msr, Next> {
    Msr::decode(run.state.gpr[RCX] as u32, &config().msrs).ok_or_else(|| {
        run.page.access = access;
        to_root(run, ExitKind::Msr)
    })
}

fn rdmsr(run: &mut Run<'_>) -> Next {
    let msr = match msr_of(run, 1) {
        Ok(msr) => msr,
        Err(next) => return next,
    };
    match read_msr(run, msr) {
        Ok(value) => {
            run.state.gpr[RAX] = value & 0xffff_ffff;
            run.state.gpr[RDX] = value >> 32;
            event::skip_instruction();
            Next::Enter
        }
        Err(Gp) => inject(run, Event::GP),
    }
}

fn read_msr(run: &mut Run<'_>, msr: Msr) -> Result<u64, Gp> {
    let state = &mut *run.state;
    match msr {
        Msr::ApicBase => Ok(state.apic.base()),
        Msr::X2Apic(offset) => state.apic.msr_read(offset, insn::rdtsc()),
        Msr::Tsc => Ok(insn::rdtsc().wrapping_add(state.tsc_offset)),
        Msr::TscAdjust => Ok(state.tsc_adjust),
        Msr::TscDeadline => Ok(state.apic.tsc_deadline()),
        Msr::Efer => Ok(vmcs::GUEST_EFER.read()),
        Msr::DebugCtl => Ok(vmcs::GUEST_DEBUGCTL.read()),
        Msr::PredCmd | Msr::FlushCmd => Err(Gp),
        Msr::State(stored) => state.msrs.read(stored),
    }
}

fn wrmsr(run: &mut Run<'_>) -> Next {
    let msr = match msr_of(run, 2) {
        Ok(msr) => msr,
        Err(next) => return next,
    };
    let value = run.state.gpr[RAX] & 0xffff_ffff | run.state.gpr[RDX] << 32;
    match write_msr(run, msr, value) {
        Ok(effect) => {
            event::skip_instruction();
            match effect {
                Some(effect) => apic_effect(run, effect),
                None => Next::Enter,
            }
        }
        Err(Gp) => inject(run, Event::GP),
    }
}

/// The effect on the local APIC, if the MSR is one of its.
fn write_msr(run: &mut Run<'_>, msr: Msr, value: u64) -> Result<Option<Effect>, Gp> {
    let state = &mut *run.state;
    let caps = &config().msrs;
    match msr {
        Msr::ApicBase => {
            state.apic.write_base(value, caps.phys_bits)?;
            let page = state.apic.page_gpa();
            if page != APIC_GPA {
                let shown = partition::lock(run.number).and_then(|mut it| it.show_apic(page));
                shown.map_err(|_| Gp)?;
            }
            apic_step::follow_mode(state);
            return Ok(Some(Effect::None));
        }
        Msr::X2Apic(offset) => {
            return state.apic.msr_write(offset, value, insn::rdtsc()).map(Some);
        }
        Msr::Tsc => {
            let offset = value.wrapping_sub(insn::rdtsc());
            state.move_clock(offset);
        }
        Msr::TscAdjust => {
            let offset = state.tsc_offset.wrapping_add(value.wrapping_sub(state.tsc_adjust));
            state.move_clock(offset);
        }
        Msr::TscDeadline => {
            state.apic.write_tsc_deadline(value, state.tsc_offset, insn::rdtsc());
            state.timer = state.apic.deadline();
        }
        Msr::Efer => {
            let new = policy::cr::write_efer(value, &config().child_rules.mode())?;
            control_registers::set_efer(new);
        }
        Msr::DebugCtl => vmcs::GUEST_DEBUGCTL.write(policy::msr::write_debugctl(value)?),
        Msr::PredCmd => insn::wrmsr(msr::PRED_CMD, caps.write_pred_cmd(value)?),
        Msr::FlushCmd => insn::wrmsr(msr::FLUSH_CMD, caps.write_flush_cmd(value)?),
        Msr::State(stored) => {
            state.msrs.write(stored, value, caps)?;
            if config().present.spec_ctrl && stored == Stored::SpecCtrl {
                insn::wrmsr(msr::SPEC_CTRL, value);
            }
        }
    }
    Ok(None)
}

/// MOV to or from CR8, while the processor does not keep it: see [`apic_step::follow_mode`].
fn task_priority(run: &mut Run<'_>, qualification: u64) -> Next {
    const MOV_FROM: u64 = 1;
    let register = (qualification >> 8 & 0xf) as usize;
    run.state.gpr[RSP] = vmcs::GUEST_RSP.read();
    if qualification >> 4 & 3 == MOV_FROM {
        run.state.gpr[register] = u64::from(run.state.apic.tpr() >> 4);
        vmcs::GUEST_RSP.write(run.state.gpr[RSP]);
    } else {
        match policy::cr::write_cr8(run.state.gpr[register]) {
            Ok(class) => run.state.apic.set_tpr(class << 4),
            Err(Gp) => return inject(run, Event::GP),
        }
    }
    event::skip_instruction();
    Next::Look
}

/// MOV to CR0 or CR4 that touches a bit that is not the child's (CLTS and LMSW never do), or CR8.
fn control_register(lp: &Lp, run: &mut Run<'_>) -> Next {
    const CR8: u64 = 8;
    let qualification = vmcs::EXIT_QUALIFICATION.read();
    if qualification & 0xf == CR8 {
        return task_priority(run, qualification);
    }
    let rules = &config().child_rules;
    let write = match rules.attempted(&run.state.gpr) {
        Some(Ok(write)) => write,
        Some(Err(Gp)) => return inject(run, Event::GP),
        None => return unexpected(lp, run),
    };
    if write.load_pdptes && load_pdptes(run.number, vmcs::GUEST_CR3.read()).is_err() {
        return inject(run, Event::GP);
    }
    rules.apply(&write);
    if write.flush {
        insn::invvpid_one(run.state.vpid);
    }
    event::skip_instruction();
    Next::Enter
}

/// Loads the four PDPTEs, as MOV to a control register does with PAE paging (SDM vol. 3, 5.4.1).
pub fn load_pdptes(number: u64, cr3: u64) -> Result<(), Gp> {
    const PRESENT: u64 = 1;
    const RESERVED: u64 = 0x1e6;
    let base = cr3 & 0xffff_ffe0;
    let spa = partition::lock(number).map_err(|_| Gp)?.space.translate(base).ok_or(Gp)?;
    let fields = [vmcs::GUEST_PDPTE0, vmcs::GUEST_PDPTE1, vmcs::GUEST_PDPTE2, vmcs::GUEST_PDPTE3];
    let page = Hostile::owned_by_root(spa);
    let entries: [u64; 4] =
        core::array::from_fn(|index| page.read((spa & 0xfff) as usize + index * 8));
    let width = config().caps.phys_bits.min(52);
    let bad = |entry: &u64| entry & PRESENT != 0 && (entry & RESERVED != 0 || entry >> width != 0);
    if entries.iter().any(bad) {
        return Err(Gp);
    }
    for (field, entry) in fields.into_iter().zip(entries) {
        field.write(entry);
    }
    Ok(())
}

fn xsetbv(run: &mut Run<'_>) -> Next {
    let gpr = &run.state.gpr;
    let value = gpr[RAX] & 0xffff_ffff | gpr[RDX] << 32;
    if event::cpl() != 0 || gpr[RCX] as u32 != 0 {
        return inject(run, Event::GP);
    }
    match policy::xsave::write_xcr0(value, config().xsave.offered()) {
        Ok(value) => {
            insn::xsetbv(value);
            event::skip_instruction();
            Next::Enter
        }
        Err(Gp) => inject(run, Event::GP),
    }
}

/// An NMI, which is the root's, or an exception that is taken here to be given back.
fn exception(lp: &mut Lp, run: &mut Run<'_>) -> Next {
    const NMI_UNBLOCKING: u32 = 1 << 12;
    let info = vmcs::EXIT_INFO.read();
    let vector = info as u8;
    if info & NMI_UNBLOCKING != 0 && run.state.event.is_none() {
        let state = vmcs::GUEST_INTERRUPTIBILITY.read();
        vmcs::GUEST_INTERRUPTIBILITY.write(state | blocking::NMI);
    }
    match vector {
        _ if !matches!(vector, 2 | 18) && run.page.orders >> (vector & 31) & 1 != 0 => {
            let fault = Event::exited(info);
            run.page.fault = fault.info();
            run.page.fault_error = fault.error();
            to_root(run, ExitKind::Exception)
        }
        2 => {
            lp.set_nmi();
            Next::Root(ExitKind::Interrupted)
        }
        1 => {
            // The exit leaves DR6 alone: the exit qualification is what belongs in it.
            const CONDITIONS: u64 = 0xf | 1 << 13 | 1 << 14;
            let found = vmcs::EXIT_QUALIFICATION.read() & CONDITIONS;
            let kept = insn::read_dr6() & !0xf;
            insn::write_dr6(kept | found);
            // DR7.GD is cleared on the way to the handler.
            vmcs::GUEST_DR7.write(vmcs::GUEST_DR7.read() & !(1 << 13));
            // So is BTF, the one bit of IA32_DEBUGCTL that a child has.
            vmcs::GUEST_DEBUGCTL.write(0);
            if Event::is_int1(info) {
                event::advance();
                return inject(run, Event::exception(1));
            }
            if event::in_shadow() {
                // VM entry insists on it; the exception to be delivered replaces it.
                event::pend_single_step();
            }
            inject(run, Event::exited(info))
        }
        17 => inject(run, Event::exited(info)),
        18 => {
            // The machine's own trouble: the root is told as if it had been running.
            public::log(lp.index, Level::Warning, format_args!("machine check in a child"));
            lp.machine_check = true;
            Next::Root(ExitKind::Interrupted)
        }
        _ => unexpected(lp, run),
    }
}

/// A hypercall of the child: the root's to answer, if it wants to.
fn vmcall(run: &mut Run<'_>) -> Next {
    /// HV_STATUS_INVALID_HYPERCALL_CODE.
    const NO_SUCH_CALL: u64 = 2;
    if event::cpl() != 0 {
        return inject(run, Event::UD);
    }
    if run.page.orders & orders::HYPERCALL != 0 {
        return to_root(run, ExitKind::Hypercall);
    }
    run.state.gpr[RAX] = NO_SUCH_CALL;
    event::skip_instruction();
    Next::Enter
}
