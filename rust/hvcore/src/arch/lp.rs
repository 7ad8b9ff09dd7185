// SPDX-License-Identifier: GPL-2.0

//! A logical processor: what hvcore keeps for each, and the way into and out of VMX operation.

use super::caps::Caps;
use super::enter::{enter, Entered};
use super::image::{self, Failed};
use super::insn;
use super::msr;
use super::public::Stats;
use super::root_memory::Hostile;
use super::tables::{self, Tables};
use super::vmcs::{self, control};
use crate::event::{blocking, Event};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use hvabi::boot::{LeaveFrame, TablePointer, STACKS_BASE, STACK_STRIDE};
use hvabi::state::Table;

/// Where and how the root continues after the launch.
#[derive(Clone, Copy, Debug)]
pub struct Continue {
    pub cr3: u64,
    pub cr4: u64,
    pub rsp: u64,
    pub rip: u64,
}

/// What the LP had in the registers that hvcore replaces before the first VM entry.
#[derive(Clone, Copy, Debug)]
pub struct Native {
    pub gdtr: TablePointer,
    pub idtr: TablePointer,
    pub tr: u16,
    pub gs_base: u64,
}

impl Native {
    /// What is in them now.
    pub fn live() -> Self {
        Self {
            gdtr: tables::sgdt(),
            idtr: tables::sidt(),
            tr: tables::str_(),
            gs_base: insn::rdmsr(msr::GS_BASE),
        }
    }
}

/// How far the LP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In its first call; a failure returns to the trampoline.
    Launching,
    /// Linux runs above; a failure leaves VMX operation.
    Root,
}

/// A logical processor. The first three fields are used by assembly through GS.
#[repr(C)]
pub struct Lp {
    /// An NMI for the root is waiting.
    nmi: AtomicU8,
    emergency_stack: u64,
    this: u64,

    pub index: u32,
    pub phase: Phase,
    /// In VMX operation.
    pub vmx: bool,
    /// SPAs of the VMXON region and of the root's VMCS.
    pub vmxon: u64,
    pub vmcs: u64,
    pub native: Native,
    pub go_on: Continue,
    pub caps: Caps,
    /// General registers of the root.
    pub gpr: [u64; 16],
    pub stats: Stats,
    /// Address of the IDT.
    idt: u64,
    tables: Tables,
    /// An NMI waits for an entry that injects nothing else.
    pub nmi_later: bool,
    /// A hypercall of the root is being carried out; its VMCALL was skipped.
    pub in_call: bool,
    /// A machine check came while a child ran.
    pub machine_check: bool,
    /// After INIT, before SIPI.
    pub waits_for_sipi: bool,
    /// State of the root that a child's is swapped with; `Some` while a child is loaded.
    pub parked: Option<crate::switch::Parked>,
}

/// LPs that GS points to in hvcore.
static LOADED: [AtomicBool; hvabi::MAX_LPS] = [const { AtomicBool::new(false) }; hvabi::MAX_LPS];

impl Lp {
    /// An LP whose parts lie in the given pages; goes to its final place before anything else.
    pub fn new(
        index: u32,
        caps: Caps,
        (go_on, native): (Continue, Native),
        public_spa: u64,
        pages: LpPages,
    ) -> Self {
        Self {
            nmi: AtomicU8::new(0),
            emergency_stack: image::emergency_stack(index),
            this: 0,
            index,
            phase: Phase::Launching,
            vmx: false,
            vmxon: pages.vmxon,
            vmcs: pages.vmcs,
            native,
            go_on,
            caps,
            gpr: [0; 16],
            stats: Stats::new(public_spa, index),
            idt: pages.idt,
            tables: Tables::EMPTY,
            nmi_later: false,
            in_call: false,
            machine_check: false,
            waits_for_sipi: false,
            parked: None,
        }
    }

    /// Loads hvcore's descriptor tables and GS base: from here on faults and NMIs are caught.
    pub fn load_tables(&mut self, ist_page: u64) {
        self.this = self as *mut Self as u64;
        self.tables.fill(ist_page);
        insn::wrmsr(msr::GS_BASE, self.this);
        self.tables.load(self.idt);
        self.set_loaded(true);
    }

    fn set_loaded(&self, loaded: bool) {
        if let Some(flag) = LOADED.get(self.index as usize) {
            flag.store(loaded, Ordering::Relaxed);
        }
    }

    /// The LP whose stack this code runs on: its index, and the LP itself if it came as far as
    /// [`load_tables`](Self::load_tables).
    pub fn on_this_stack() -> (u32, Option<&'static mut Self>) {
        let index = (insn::read_rsp().wrapping_sub(STACKS_BASE) / STACK_STRIDE) as u32;
        let loaded = LOADED.get(index as usize).is_some_and(|flag| flag.load(Ordering::Relaxed));
        (index, loaded.then(Self::current))
    }

    /// The LP that this code runs on.
    pub fn current() -> &'static mut Self {
        let this: *mut Self;
        // SAFETY: GS points to the LP from `load_tables` on, and `this` to itself.
        unsafe { asm!("mov {}, gs:[16]", out(reg) this, options(nostack, preserves_flags)) };
        // SAFETY: the LP lives as long as the LP is in hvcore. Only ends of hvcore call this, and
        // they never return to the code that has the other reference.
        unsafe { &mut *this }
    }

    /// Takes the NMI that waits for the root, if one does.
    pub fn take_nmi(&self) -> bool {
        self.nmi.load(Ordering::Relaxed) != 0 && self.nmi.swap(0, Ordering::Relaxed) != 0
    }

    /// Remembers an NMI for the root.
    pub fn set_nmi(&self) {
        self.nmi.store(1, Ordering::Relaxed);
    }

    /// Writes the host state of the current VMCS: how hvcore runs on this LP after a VM exit.
    pub fn write_host_state(&self, host_cr3: u64) {
        vmcs::HOST_CR0.write(insn::read_cr0() & !CR0_TS_EM);
        vmcs::HOST_CR3.write(host_cr3);
        vmcs::HOST_CR4.write(insn::read_cr4());
        vmcs::HOST_ES.write(tables::DATA);
        vmcs::HOST_CS.write(tables::CODE);
        vmcs::HOST_SS.write(tables::DATA);
        vmcs::HOST_DS.write(tables::DATA);
        vmcs::HOST_FS.write(0);
        vmcs::HOST_GS.write(0);
        vmcs::HOST_TR.write(tables::TSS);
        vmcs::HOST_FS_BASE.write(0);
        vmcs::HOST_GS_BASE.write(self.this);
        vmcs::HOST_TR_BASE.write(self.tables.tss_base());
        vmcs::HOST_GDTR_BASE.write(self.tables.gdt_base());
        vmcs::HOST_IDTR_BASE.write(self.idt);
        vmcs::HOST_SYSENTER_CS.write(0);
        vmcs::HOST_SYSENTER_ESP.write(0);
        vmcs::HOST_SYSENTER_EIP.write(0);
        vmcs::HOST_PAT.write(HOST_PAT);
        vmcs::HOST_EFER.write(HOST_EFER);
        vmcs::HOST_RIP.write(image::host_rip());
    }

    /// Ends VMX operation. A VMCS that the processor still held could be written to its page later,
    /// when Linux has that again (SDM vol. 3, 25.11.1).
    fn end_vmx(&mut self) {
        let _ = insn::vmclear(self.vmcs);
        insn::vmxoff();
        self.vmx = false;
        self.stats.get().active = 0;
    }

    /// Puts back what `load_tables` replaced and reports a failed launch.
    pub fn abort_launch(&mut self, failed: Failed) -> ! {
        if self.vmx {
            self.end_vmx();
        }
        insn::write_cr4(insn::read_cr4() & !CR4_VMXE);
        // The base and limit of the TSS as Linux has them: read back through its own table.
        if let Some((base, limit)) = crate::launch::tss_of(&self.native, &self.go_on) {
            tables::restore_tr(self.native.tr, base, limit);
        }
        self.set_loaded(false);
        insn::wrmsr(msr::GS_BASE, self.native.gs_base);
        let (gdtr, idtr) = (self.native.gdtr, self.native.idtr);
        tables::lgdt(&gdtr);
        tables::lidt(&idtr);
        image::launch_failed(self.index, failed)
    }

    /// Leaves VMX operation and continues in Linux, natively, with the state that the root had at
    /// its last VM exit. `frame` and the numbers beside it come from the launch.
    pub fn leave(&mut self, out: &WayOut) -> ! {
        if let Some(parked) = self.parked.take() {
            parked.abandon();
        }
        // With a VMCS that cannot be loaded nothing is known of the root; the reads below panic
        // then, and this LP stops in `death`.
        let _ = insn::vmptrld(self.vmcs);
        self.block_nmis();
        let mut frame = LeaveFrame {
            gpr: self.gpr,
            fs_base: vmcs::GUEST_FS_BASE.read(),
            gs_base: vmcs::GUEST_GS_BASE.read(),
            rip: vmcs::GUEST_RIP.read(),
            cs: u64::from(vmcs::GUEST_CS.read()),
            rflags: vmcs::GUEST_RFLAGS.read(),
            rsp: vmcs::GUEST_RSP.read(),
            ss: u64::from(vmcs::GUEST_SS.read()),
            ds: vmcs::GUEST_DS.read(),
            es: vmcs::GUEST_ES.read(),
            fs: vmcs::GUEST_FS.read(),
            gs: vmcs::GUEST_GS.read(),
            ldtr: vmcs::GUEST_LDTR.read(),
            dead: u16::from(crate::death::is_dead()),
            ..LeaveFrame::default()
        };
        let pointer = |table: Table| TablePointer { limit: table.limit as u16, base: table.base };
        (frame.gdtr, frame.idtr) = (pointer(vmcs::GDTR.read()), pointer(vmcs::IDTR.read()));
        let cr3 = vmcs::GUEST_CR3.read();
        let cr4 = vmcs::GUEST_CR4.read() & !CR4_VMXE;
        let cr0 = vmcs::GUEST_CR0.read();
        let dr7 = vmcs::GUEST_DR7.read();
        let tr = vmcs::TR.read();
        let msrs = [
            (msr::DEBUGCTL, vmcs::GUEST_DEBUGCTL.read()),
            (msr::PAT, vmcs::GUEST_PAT.read()),
            (msr::SYSENTER_CS, u64::from(vmcs::GUEST_SYSENTER_CS.read())),
            (msr::SYSENTER_ESP, vmcs::GUEST_SYSENTER_ESP.read()),
            (msr::SYSENTER_EIP, vmcs::GUEST_SYSENTER_EIP.read()),
            // Last: it enables what the others do not need.
            (msr::EFER, vmcs::GUEST_EFER.read()),
        ];
        Hostile::owned_by_root(out.frame_spa).write((out.frame_spa & 0xfff) as usize, frame);

        self.end_vmx();
        insn::write_cr0(cr0);
        for (index, value) in msrs {
            insn::wrmsr(index, value);
        }
        tables::restore_tr(tr.selector, tr.base, tr.limit);
        insn::write_dr7(dr7);
        self.set_loaded(false);
        image::leave(out.rip, cr3, cr4, out.frame_va)
    }

    /// Blocks NMIs until the IRETQ of the trampoline: one that came between its load of CR3 and
    /// that of the IDT would find no handler mapped. VM entry can block them, and VM exits leave
    /// that alone (SDM vol. 3, 29.5.5): so this enters the root once more, whose next instruction
    /// the VMX-preemption timer forestalls. An NMI that waits is delivered to the root on the way.
    fn block_nmis(&mut self) {
        const HLT: u32 = 1;
        // In wait-for-SIPI the timer would not end it.
        if vmcs::GUEST_ACTIVITY.read() > HLT {
            return;
        }
        vmcs::PIN_CONTROLS.write(self.caps.pin.only(control::pin::PREEMPTION_TIMER));
        vmcs::PREEMPTION_TIMER.write(0);
        vmcs::GUEST_INTERRUPTIBILITY.write(blocking::NMI);
        loop {
            if self.take_nmi() || self.nmi_later {
                self.nmi_later = false;
                Event::NMI.inject();
            }
            // Whatever else ends it, the root's state is in the VMCS.
            if enter(&mut self.gpr, true) != Entered::Nmi {
                return;
            }
        }
    }
}

#[cfg(not(hvcore_image))]
impl Lp {
    /// An LP that runs the root on the [host's processor](super::host).
    pub fn on_host(index: u32, caps: Caps, public_spa: u64, vmcs: u64) -> Self {
        let table = TablePointer::default();
        let native = Native { gdtr: table, idtr: table, tr: 0, gs_base: 0 };
        let go_on = Continue { cr3: 0, cr4: 0, rsp: 0, rip: 0 };
        let pages = LpPages { vmxon: 0, vmcs, idt: 0 };
        let lp = Self::new(index, caps, (go_on, native), public_spa, pages);
        Self { phase: Phase::Root, vmx: true, ..lp }
    }
}

/// Pages of an LP.
#[derive(Clone, Copy, Debug)]
pub struct LpPages {
    /// SPAs.
    pub vmxon: u64,
    pub vmcs: u64,
    /// Address of the IDT.
    pub idt: u64,
}

/// Where the trampoline continues, and the frame that it reads.
#[derive(Clone, Copy, Debug)]
pub struct WayOut {
    pub rip: u64,
    pub frame_va: u64,
    pub frame_spa: u64,
}

/// TS and EM, which would make XSAVE fault.
const CR0_TS_EM: u64 = 1 << 3 | 1 << 2;

pub const CR4_VMXE: u64 = 1 << 13;
const CR4_PKE: u64 = 1 << 22;

/// IA32_PAT in hvcore: the value after RESET (SDM vol. 3, 13.12.4).
const HOST_PAT: u64 = 0x0007_0406_0007_0406;

/// IA32_EFER in hvcore: LME, LMA, NXE.
const HOST_EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11;

/// Enters VMX operation: CR4.VMXE, IA32_FEATURE_CONTROL, VMXON.
pub fn start_vmx(lp: &mut Lp) -> Result<(), Failed> {
    use hvabi::call::{Missing, Status};
    let unsupported =
        |missing: Missing| Failed { status: Status::Unsupported as u64, detail: missing as u64 };
    const LOCK: u64 = 1 << 0;
    const OUTSIDE_SMX: u64 = 1 << 2;
    let feature = insn::rdmsr(msr::FEATURE_CONTROL);
    if feature & LOCK == 0 {
        insn::wrmsr(msr::FEATURE_CONTROL, feature | LOCK | OUTSIDE_SMX);
    } else if feature & OUTSIDE_SMX == 0 {
        return Err(unsupported(Missing::LockedOff));
    }
    if lp.go_on.cr4 & CR4_VMXE != 0 {
        return Err(unsupported(Missing::InUse));
    }
    insn::write_cr0(insn::read_cr0() | lp.caps.cr0_fixed.0);
    // PKE, where Linux uses it, to switch PKRU with the partition.
    let pke = lp.go_on.cr4 & CR4_PKE;
    insn::write_cr4(insn::read_cr4() | CR4_VMXE | pke | lp.caps.cr4_fixed.0);
    let failed = |detail| Failed { status: Status::LaunchFailed as u64, detail };
    insn::vmxon(lp.vmxon).map_err(|_| failed(0))?;
    lp.vmx = true;
    insn::vmclear(lp.vmcs).map_err(|_| failed(1))?;
    insn::vmptrld(lp.vmcs).map_err(|_| failed(2))?;
    Ok(())
}

/// Secondary controls that the root must have because Linux may use what they enable.
pub const ROOT_WANTED: u32 = control::proc2::RDTSCP
    | control::proc2::INVPCID
    | control::proc2::XSAVES
    | control::proc2::USER_WAIT
    | control::proc2::PCONFIG;

/// Puts an LP into the page at `address`, where it stays.
pub fn place(address: u64, lp: Lp) -> &'static mut Lp {
    const { assert!(core::mem::size_of::<Lp>() <= hvabi::PAGE_SIZE) };
    let place = address as *mut Lp;
    // SAFETY: the page is a frame that hvcore keeps for this LP alone, which is not in hvcore yet.
    unsafe { place.write(lp) };
    // SAFETY: it was written just now, and nothing else refers to it.
    unsafe { &mut *place }
}
