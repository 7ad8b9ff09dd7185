// SPDX-License-Identifier: GPL-2.0

//! Virtual processors: what they consist of, and how they come and go.

use crate::apic::posted::Posted;
use crate::apic::Apic;
use crate::arch::counted::Counted;
use crate::arch::insn;
use crate::arch::lock::{Guard, SpinLock};
use crate::arch::lp::Lp;
use crate::arch::root_memory::Hostile;
use crate::arch::vmcs::{self, control};
use crate::arch::xsave::Area;
use crate::event::Event;
use crate::launch::{self, Space};
use crate::machine::{self, config};
use crate::mem::frame::{Frame, PageBox, RootPage};
use crate::mem::owner::Child;
use crate::mem::pool::Pool;
use crate::partition::{self, Answer, Partition};
use crate::policy;
use crate::switch::Switched;
use hvabi::call::Status;
use hvabi::stats::{VpStats, EXIT_REASONS};
use hvabi::vp::RunPage;
use hvabi::MAX_VPS;

/// Pages of a VP: itself, its VMCS, its APIC's registers, its extended state.
const PAGES: usize = 4;

/// What a VP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Active,
    Halted,
    WaitForSipi,
}

/// A virtual processor. All but `state` may be used by any LP at any time.
pub struct Vp {
    pub child: Child,
    pub index: u32,
    pub posted: Posted,
    /// Locked while it runs.
    state: SpinLock<State>,
}

/// The state of a VP that only one LP at a time has to do with.
pub struct State {
    vmcs: Frame,
    pub xsave: PageBox<Area>,
    pub apic: Apic,
    run: RootPage,
    pub gpr: [u64; 16],
    pub switched: Switched,
    pub msrs: policy::msr::State,
    pub activity: Activity,
    /// To be delivered at the next entry, before anything else.
    pub event: Option<Event>,
    pub nmi: bool,
    /// An interrupt of the VMM's 8259A, by its vector.
    pub external: Option<u8>,
    /// The VP's TSC less the LP's.
    pub tsc_offset: u64,
    pub tsc_adjust: u64,
    pub vpid: u16,
    /// LP whose host state the VMCS holds, and which knows no old translations of the VP, plus 1.
    pub host: u32,
    /// Exceptions that exit.
    pub exceptions: u32,
    /// Primary processor-based controls without the windows.
    pub controls: u32,
    /// See [`apic_step`](crate::apic_step).
    pub steps: bool,
    /// TSC of the LP at which the local APIC's timer is due, as it was when last looked at.
    pub timer: Option<u64>,
    /// The VMCS has the preemption timer at its longest.
    pub unarmed: bool,
    pub stats: VpStats,
}

/// Number of VPIDs before those of children: 0 is hvcore's, 1 the root's.
const FIRST_VPID: u16 = 2;

impl Vp {
    /// The VP's state, if it does not run.
    pub fn state(&self) -> Answer<Guard<'_, State>> {
        self.state.try_lock().ok_or((Status::Busy, 0))
    }

    /// Frees its pages to the pool; the run page has to be closed by the caller.
    pub fn dismantle(self, pool: &mut Pool, epoch: u64) -> RootPage {
        let state = self.state.into_inner();
        // The processor may still hold parts of the VMCS, if the VP was destroyed unused: writing
        // it back now cannot hit a page that has another use.
        let _ = insn::vmclear(state.vmcs.spa().raw());
        pool.retire(state.vmcs, epoch);
        pool.retire(state.xsave.into_frame(), epoch);
        pool.retire(state.apic.into_frame(), epoch);
        state.run
    }
}

/// [`Call::VpCreate`](hvabi::call::Call::VpCreate).
pub fn create(lp: &Lp, number: u64, index: u64, run_spa: u64) -> Answer<u64> {
    if !lp.caps.children() {
        return Err((Status::Unsupported, hvabi::call::Missing::Controls as u64));
    }
    let mut locked = partition::lock(number)?;
    let index = usize::try_from(index)
        .ok()
        .filter(|index| *index < MAX_VPS)
        .ok_or((Status::BadArgument, 0))?;
    if locked.vps[index].is_some() {
        return Err((Status::Exists, 0));
    }
    let eptp = locked.eptp()?;
    partition::need(&mut locked.space.pool, PAGES)?;
    let Partition { space, vps, tsc_offset, vp_count, .. } = &mut *locked;
    let child = space.child();
    let run = partition::with_memory(|memory| {
        let page = memory.owners.page(run_spa).ok_or((Status::NotOwner, 0))?;
        memory.owners.open(page, child, &mut memory.pool).map_err(|r| (partition::refused(r), 0))
    })?;
    let mut page = || space.pool.pop().ok_or((Status::NoMemory, PAGES as u64));
    let (place, mut vmcs, apic, xsave) = (page()?, page()?, page()?, page()?);
    vmcs.zero();
    vmcs.words_mut()[0] = u64::from(lp.caps.revision);
    let bsp = index == 0;
    let mut state = State {
        vmcs,
        xsave: PageBox::zeroed(xsave),
        apic: Apic::new(apic, index as u32, bsp, config().clock),
        run,
        gpr: [0; 16],
        switched: Switched::reset(),
        msrs: policy::msr::State::RESET,
        activity: if bsp { Activity::Active } else { Activity::WaitForSipi },
        event: None,
        nmi: false,
        external: None,
        tsc_offset: *tsc_offset,
        tsc_adjust: 0,
        vpid: FIRST_VPID + (child.index() * MAX_VPS + index) as u16,
        host: 0,
        exceptions: CHILD_EXCEPTIONS,
        controls: 0,
        steps: false,
        timer: None,
        unarmed: false,
        stats: VpStats { exits: [0; EXIT_REASONS], handled: 0, to_root: 0, injected: 0 },
    };
    state.xsave.reset();
    state.with_vmcs(lp, |state| {
        write_controls(lp, state, eptp);
        state.reset();
        // The run page is the truth for these.
        let (gpr, rip, rflags) = (state.gpr, vmcs::GUEST_RIP.read(), vmcs::GUEST_RFLAGS.read());
        state.run_page().write(0, RunPage { gpr, rip, rflags, ..RunPage::default() });
    });
    *vp_count = (*vp_count).max(index as u32 + 1);
    let posted = Posted::new();
    posted.publish(state.apic.address());
    vps[index] = Some(Counted::new(
        place,
        Vp { child, index: index as u32, posted, state: SpinLock::new(state) },
    ));
    Ok(0)
}

/// Finds a VP that is to run, see [`find`]; also whether its partition has private memory.
pub fn find_to_run(number: u64, index: u64) -> Answer<(Counted<Vp>, u32, bool)> {
    let partition = partition::lock(number)?;
    if !partition.space.may_run(machine::everyone_saw) {
        return Err((Status::NeedSync, 0));
    }
    let (vp, vp_count) = find_in(&partition, index)?;
    Ok((vp, vp_count, partition.space.is_private()))
}

/// Finds a VP, to be used without the partition's lock.
/// Also gives the number of VPs that the partition shows.
pub fn find(number: u64, index: u64) -> Answer<(Counted<Vp>, u32)> {
    find_in(&*partition::lock(number)?, index)
}

fn find_in(partition: &Partition, index: u64) -> Answer<(Counted<Vp>, u32)> {
    usize::try_from(index)
        .ok()
        .and_then(|index| partition.vps.get(index))
        .and_then(Option::as_ref)
        .map(|vp| (vp.hold(), partition.vp_count))
        .ok_or((Status::NoVp, 0))
}

/// The controls of a child, which do not change but for the interrupt windows.
fn write_controls(lp: &Lp, state: &mut State, eptp: u64) {
    use control::{pin, proc, proc2};
    let caps = &lp.caps;
    vmcs::PIN_CONTROLS.write(
        caps.pin
            .only(pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMIS | pin::PREEMPTION_TIMER),
    );
    state.controls = caps.proc.only(
        proc::TSC_OFFSETTING
            | proc::HLT
            | proc::MWAIT
            | proc::RDPMC
            | proc::TPR_SHADOW
            | proc::UNCONDITIONAL_IO
            | proc::MSR_BITMAPS
            | proc::MONITOR
            | proc::SECONDARY,
    );
    vmcs::PROC_CONTROLS.write(state.controls);
    let secondary = caps.proc2.settle(
        proc2::APIC_ACCESSES
            | proc2::EPT
            | proc2::VPID
            | proc2::UNRESTRICTED
            | proc2::APIC_REGISTERS,
        proc2::RDTSCP
            | proc2::WBINVD
            | proc2::INVPCID
            | proc2::ENCLS
            | proc2::XSAVES
            | proc2::PAUSE_LOOP,
    );
    let space = Space { vpid: state.vpid, eptp, msrs: config().child_msrs };
    launch::write_controls(caps, secondary, &space, &config().child_rules.policy);
    vmcs::EXCEPTION_BITMAP.write(CHILD_EXCEPTIONS);
    vmcs::VIRTUAL_APIC.write(state.apic.page_spa().raw());
    vmcs::APIC_ACCESS.write(config().apic_access);
    vmcs::TPR_THRESHOLD.write(0);
    vmcs::TSC_OFFSET.write(state.tsc_offset);
    if caps.proc2.offers(proc2::PAUSE_LOOP) {
        vmcs::PLE_GAP.write(PLE_GAP);
        vmcs::PLE_WINDOW.write(PLE_WINDOW);
    }
}

/// TSC ticks between two PAUSEs of one loop at most, and for which the loop may go on: longer than
/// any critical section that its VP could be waiting for, if the other VP runs.
const PLE_GAP: u32 = 128;
const PLE_WINDOW: u32 = 4096;

/// #DB and #AC, whose delivery can go on for ever without an interrupt being taken; #MC, which is
/// the root's.
pub const CHILD_EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

impl State {
    /// The page that the root shares for this VP.
    pub fn run_page(&self) -> Hostile {
        Hostile::owned_by_root(self.run.page().spa().raw())
    }

    pub fn vmcs_spa(&self) -> u64 {
        self.vmcs.spa().raw()
    }

    /// Does something with this VP's VMCS current, and the root's again afterwards.
    pub fn with_vmcs<T>(&mut self, lp: &Lp, work: impl FnOnce(&mut Self) -> T) -> T {
        let loaded = insn::vmclear(self.vmcs_spa()).and_then(|()| insn::vmptrld(self.vmcs_spa()));
        if loaded.is_err() {
            panic!("VMPTRLD of {:#x} failed", self.vmcs_spa());
        }
        let result = work(self);
        if insn::vmclear(self.vmcs_spa()).and_then(|()| insn::vmptrld(lp.vmcs)).is_err() {
            panic!("VMPTRLD of the root failed");
        }
        result
    }

    /// The state after RESET or INIT. The VMCS is current.
    pub fn reset(&mut self) {
        vmcs::GUEST_PAT.write(0x0007_0406_0007_0406);
        self.gpr = config().child_rules.reset();
        insn::invvpid_one(self.vpid);
        self.event = None;
        self.nmi = false;
        self.external = None;
    }

    /// The state after the SIPI with that vector. The VMCS is current.
    pub fn start_up(&mut self, vector: u8) {
        self.reset();
        self.gpr = config().child_rules.start_up(vector);
    }

    /// Gives the VP another time. The VMCS is current.
    pub fn move_clock(&mut self, offset: u64) {
        self.tsc_adjust = self.tsc_adjust.wrapping_add(offset.wrapping_sub(self.tsc_offset));
        self.tsc_offset = offset;
        vmcs::TSC_OFFSET.write(offset);
        self.apic.set_tsc_offset(offset, insn::rdtsc());
    }
}
