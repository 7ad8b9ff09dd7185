// SPDX-License-Identifier: GPL-2.0

//! Late launch: Linux, as it runs on this LP, becomes the root partition.

use crate::arch::caps::Caps;
use crate::arch::image::{self, Failed};
use crate::arch::lock::SpinLock;
use crate::arch::lp::{self, Continue, Lp, LpPages, Native};
use crate::arch::vmcs::{self, control, SegmentFields};
use crate::arch::{insn, msr, public, root_memory, tables};
use crate::control_registers;
use crate::death;
use crate::event::blocking;
use crate::machine::{self, config};
use crate::mem::frame::Frame;
use crate::policy::{self, cr::Policy};
use crate::root;
use hvabi::boot::{CoreInfo, TablePointer};
use hvabi::call::{Missing, Status};
use hvabi::log::Level;
use hvabi::state::Table;
use hvabi::vp::gpr::{RAX, RDX};
use hvabi::vp::Segment;
use hvabi::MAX_LPS;

/// VPID of the root; children have others.
pub const ROOT_VPID: u16 = 1;

const CR4_LA57: u64 = 1 << 12;
const CR4_FRED: u64 = 1 << 32;

/// Pages of LPs, kept for an LP that leaves and comes back.
static PAGES: SpinLock<[Option<(LpPages, u64, u64)>; MAX_LPS]> = SpinLock::new([None; MAX_LPS]);

fn unsupported(missing: Missing) -> Failed {
    Failed { status: Status::Unsupported as u64, detail: missing as u64 }
}

/// An LP enters hvcore for the first time, or again after it left. Returns only if it failed.
pub fn enter(info_spa: u64, index: u32, go_on: Continue) -> Failed {
    match prepare(info_spa, index, go_on) {
        Ok(lp) => launch(lp),
        Err(failed) => failed,
    }
}

fn prepare(info_spa: u64, index: u32, go_on: Continue) -> Result<&'static mut Lp, Failed> {
    let info: CoreInfo =
        root_memory::Hostile::owned_by_root(info_spa).read((info_spa & 0xfff) as usize);
    if info.abi != hvabi::ABI_VERSION || index >= info.lp_count || index as usize >= MAX_LPS {
        return Err(Failed { status: Status::BadArgument as u64, detail: u64::from(info.abi) });
    }
    #[cfg(hvcore_inject)]
    crate::arch::inject::arm(info.inject);
    inject!(index, LaunchBegin);
    if death::is_dead() {
        return Err(Failed::DEAD);
    }
    let caps = Caps::read().map_err(unsupported)?;
    if go_on.cr4 & CR4_FRED != 0 {
        return Err(unsupported(Missing::Feature));
    }
    machine::init(&info, &caps, go_on.cr4).map_err(|_| unsupported(Missing::Memory))?;
    let (pages, place, ist_page) =
        lp_pages(index, caps.revision).ok_or(unsupported(Missing::Memory))?;
    let lp =
        lp::place(place, Lp::new(index, caps, (go_on, Native::live()), info.public_spa, pages));
    lp.load_tables(ist_page);
    inject!(index, LaunchTables);
    Ok(lp)
}

/// The pages of an LP, with the page of the `Lp` itself and the page of its IST stacks.
fn lp_pages(index: u32, revision: u32) -> Option<(LpPages, u64, u64)> {
    let mut kept = PAGES.lock();
    let slot = kept.get_mut(index as usize)?;
    if slot.is_none() {
        let mut memory = machine::MEMORY.lock();
        let pool = &mut memory.as_mut()?.pool;
        pool.reserve(5).ok()?;
        let mut page = || pool.pop();
        let (mut vmxon, mut vmcs, mut idt) = (page()?, page()?, page()?);
        let (lp, ist): (Frame, Frame) = (page()?, page()?);
        for region in [&mut vmxon, &mut vmcs] {
            region.zero();
            region.words_mut()[0] = u64::from(revision);
        }
        idt.zero();
        tables::fill_idt(idt.words_mut());
        let pages = LpPages {
            vmxon: vmxon.spa().raw(),
            vmcs: vmcs.spa().raw(),
            idt: idt.words().as_ptr() as u64,
        };
        *slot = Some((pages, lp.words().as_ptr() as u64, ist.words().as_ptr() as u64));
    }
    *slot
}

fn launch(lp: &'static mut Lp) -> ! {
    if insn::cpuid(7, 0)[1] & policy::cpuid::TRACE != 0 {
        // It goes past EPT; the root does not switch it on again.
        insn::wrmsr(msr::RTIT_CTL, 0);
    }
    lp.stats.get().apic_id = u64::from(insn::cpuid(1, 0)[1] >> 24);
    let cr0 = insn::read_cr0();
    if let Err(failed) = lp::start_vmx(lp) {
        lp.abort_launch(failed);
    }
    inject!(lp.index, LaunchVmx);
    let Some(segments) = Segments::read(&lp.native, &lp.go_on) else {
        lp.abort_launch(unsupported(Missing::Feature));
    };
    write_root_controls(lp);
    lp.write_host_state(config().info.host_cr3);
    write_guest(lp, cr0, &segments);
    machine::catch_up(lp.index);
    public::log(
        lp.index,
        Level::Info,
        format_args!("launch: CR0 {cr0:#x} CR4 {:#x}", lp.go_on.cr4),
    );
    inject!(lp.index, LaunchEntry);
    if image::given_up(lp.index) {
        lp.abort_launch(Failed { status: Status::LaunchFailed as u64, detail: 0 });
    }
    let failed = root::run(lp);
    machine::stand_back(lp.index);
    // VM entry may have failed as late as to replace the root's MSRs and segments: what it was to
    // have is in the VMCS, and continues where a call that failed returns to.
    (lp.gpr[RAX], lp.gpr[RDX]) = (failed.status, failed.detail);
    lp.leave(&machine::way_out(lp.index))
}

/// The root's segment registers, which the processor has in full but tells only in part.
struct Segments {
    all: [(SegmentFields, Segment); 8],
}

/// Reads the descriptor of `selector`.
fn segment(selector: u16, gdt: u64, ldt: u64, go_on: &Continue, system: bool) -> Option<Segment> {
    const UNUSABLE: u32 = 1 << 16;
    if selector & !3 == 0 {
        return Some(Segment { selector, access: UNUSABLE, ..Segment::default() });
    }
    let table = if selector & 4 != 0 { ldt } else { gdt };
    let read = |address| {
        let five = go_on.cr4 & CR4_LA57 != 0;
        root_memory::read_linear(go_on.cr3, five, address, config().info.ram_end)
    };
    let at = table.wrapping_add(u64::from(selector & !7));
    let low = read(at)?;
    let mut base = low >> 16 & 0xff_ffff | low >> 32 & 0xff00_0000;
    if system {
        base |= read(at.wrapping_add(8))? << 32;
    }
    let mut limit = (low & 0xffff | low >> 32 & 0xf_0000) as u32;
    if low & 1 << 55 != 0 {
        limit = limit << 12 | 0xfff;
    }
    let access = (low >> 40) as u32 & 0xf0ff;
    Some(Segment { base, limit, access, selector, reserved: [0; 3] })
}

impl Segments {
    fn read(native: &Native, go_on: &Continue) -> Option<Self> {
        let gdt = native.gdtr.base;
        let ldtr = segment(tables::sldt(), gdt, 0, go_on, true)?;
        let get = |selector| segment(selector, gdt, ldtr.base, go_on, false);
        let mut fs = get(tables::read_fs())?;
        let mut gs = get(tables::read_gs())?;
        fs.base = insn::rdmsr(msr::FS_BASE);
        gs.base = native.gs_base;
        Some(Self {
            all: [
                (vmcs::ES, get(tables::read_es())?),
                (vmcs::CS, get(tables::read_cs())?),
                (vmcs::SS, get(tables::read_ss())?),
                (vmcs::DS, get(tables::read_ds())?),
                (vmcs::FS, fs),
                (vmcs::GS, gs),
                (vmcs::LDTR, ldtr),
                (vmcs::TR, segment(native.tr, gdt, 0, go_on, true)?),
            ],
        })
    }
}

/// Base and limit of Linux's TSS.
pub fn tss_of(native: &Native, go_on: &Continue) -> Option<(u64, u32)> {
    let tr = segment(native.tr, native.gdtr.base, 0, go_on, true)?;
    Some((tr.base, tr.limit))
}

fn write_root_controls(lp: &Lp) {
    use control::{entry, proc, proc2};
    let caps = &lp.caps;
    let required = proc2::EPT | proc2::VPID | proc2::UNRESTRICTED;
    vmcs::PIN_CONTROLS.write(caps.pin.only(0));
    vmcs::PROC_CONTROLS.write(caps.proc.only(proc::MSR_BITMAPS | proc::SECONDARY));
    let config = config();
    let space = Space { vpid: ROOT_VPID, eptp: config.eptp, msrs: config.root_msrs };
    let secondary = caps.proc2.settle(required, lp::ROOT_WANTED);
    write_controls(caps, secondary, &space, &config.root_rules.policy);
    vmcs::ENTRY_CONTROLS.write(vmcs::ENTRY_CONTROLS.read() | entry::IA32E);
    vmcs::CR0_SHADOW.write(insn::read_cr0());
    vmcs::CR4_SHADOW.write(lp.go_on.cr4);
}

/// What bounds a guest.
pub struct Space {
    pub vpid: u16,
    pub eptp: u64,
    /// SPA of the MSR bitmap.
    pub msrs: u64,
}

/// Writes the controls that the root and children have alike.
pub fn write_controls(caps: &Caps, secondary: u32, space: &Space, policy: &Policy) {
    use control::{entry, exit, proc2};
    vmcs::PROC_CONTROLS2.write(secondary);
    vmcs::EXIT_CONTROLS.write(caps.exit.only(
        exit::HOST_64
            | exit::SAVE_DEBUG
            | exit::SAVE_PAT
            | exit::LOAD_PAT
            | exit::SAVE_EFER
            | exit::LOAD_EFER,
    ));
    vmcs::ENTRY_CONTROLS
        .write(caps.entry.only(entry::LOAD_DEBUG | entry::LOAD_PAT | entry::LOAD_EFER));
    vmcs::VPID.write(space.vpid);
    vmcs::EPTP.write(space.eptp);
    vmcs::MSR_BITMAP.write(space.msrs);
    if secondary & proc2::XSAVES != 0 {
        vmcs::XSS_EXITING.write(0);
    }
    if secondary & proc2::ENCLS != 0 {
        vmcs::ENCLS_EXITING.write(u64::MAX);
    }
    if secondary & proc2::PCONFIG != 0 {
        vmcs::PCONFIG_EXITING.write(0);
    }
    vmcs::EXCEPTION_BITMAP.write(0);
    vmcs::PF_ERROR_MASK.write(0);
    vmcs::PF_ERROR_MATCH.write(0);
    vmcs::CR3_TARGETS.write(0);
    vmcs::EXIT_MSR_STORES.write(0);
    vmcs::EXIT_MSR_LOADS.write(0);
    vmcs::ENTRY_MSR_LOADS.write(0);
    vmcs::LINK_POINTER.write(u64::MAX);
    vmcs::CR0_MASK.write(policy.cr0_mask);
    vmcs::CR4_MASK.write(policy.cr4_mask);
}

fn write_guest(lp: &Lp, cr0: u64, segments: &Segments) {
    let go_on = &lp.go_on;
    for (fields, segment) in &segments.all {
        fields.write(segment);
    }
    vmcs::GUEST_CR0.write(cr0 | lp.caps.cr0_fixed.0);
    vmcs::GUEST_CR3.write(go_on.cr3);
    vmcs::GUEST_CR4.write(go_on.cr4 | lp.caps.cr4_fixed.0);
    vmcs::GUEST_RSP.write(go_on.rsp);
    vmcs::GUEST_RIP.write(go_on.rip);
    // Interrupts off; the root turns them on itself.
    vmcs::GUEST_RFLAGS.write(1 << 1);
    let table = |from: TablePointer| Table {
        base: from.base,
        limit: u32::from(from.limit),
        ..Table::default()
    };
    vmcs::GDTR.write(table(lp.native.gdtr));
    vmcs::IDTR.write(table(lp.native.idtr));
    vmcs::GUEST_DR7.write(insn::read_dr7());
    vmcs::GUEST_DEBUGCTL.write(insn::rdmsr(msr::DEBUGCTL));
    vmcs::GUEST_PAT.write(insn::rdmsr(msr::PAT));
    vmcs::GUEST_EFER.write(insn::rdmsr(msr::EFER));
    let sysenter = [msr::SYSENTER_CS, msr::SYSENTER_ESP, msr::SYSENTER_EIP];
    vmcs::write_sysenter(sysenter.map(insn::rdmsr));
    control_registers::activate();
    // Until the root ends the NMI in which this LP came.
    vmcs::GUEST_INTERRUPTIBILITY.write(blocking::NMI);
}
