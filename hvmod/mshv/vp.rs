// SPDX-License-Identifier: GPL-2.0

//! A VP and its file.

use super::{
    freeze::Clock,
    hvcall::{self, Target},
    partition::{Partition, Setup},
    register_page::RegisterPage,
    registry, run, user, vp_state,
};
use crate::{
    hvabi::{
        call::Status,
        state::{Registers, StateKind},
        stats::{VpStats, EXIT_REASONS},
        vp::RunPage,
        MAX_VPS,
    },
    hypercall::{self, PartitionId, VpState},
    requirements,
    sys::{
        anon_file::{AnonFile, Pending},
        cpu,
        killable::Killable,
        run as cpu_run,
        shared::Shared,
        uapi::VpInfo,
        wait::Waiter,
    },
    tlfs::{
        cpuid::CpuidResult,
        fpu::XsaveArea,
        message::Message,
        mshv::{self as uapi, mmap_offset},
        state::LocalRegisters,
        status::{HvResult, HvStatus},
    },
};
use core::{ffi::CStr, ptr::NonNull};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        Arc, Mutex, MutexGuard,
    },
    time::{delay::fsleep, Delta},
};

/// Of [`Vp::running_on`]: why it is no CPU.
pub(super) mod idle {
    /// No thread is in RUN_VP.
    pub(crate) const STOPPED: u32 = u32::MAX;
    /// Its thread would run it.
    pub(crate) const READY: u32 = u32::MAX - 1;
    /// Its thread sleeps until an interrupt comes.
    pub(crate) const HALTED: u32 = u32::MAX - 2;
    /// Its thread sleeps until the VP is started.
    pub(crate) const WAITS_FOR_SIPI: u32 = u32::MAX - 3;
    /// What is less is a CPU.
    pub(crate) const FIRST: u32 = WAITS_FOR_SIPI;
}

// `HVMOD_VP_*` of `hvmod_vp_info.state`.
const VP_STOPPED: u32 = 0;
const VP_RUNNING: u32 = 1;
const VP_READY: u32 = 2;
const VP_HALTED: u32 = 3;
const VP_WAITS_FOR_SIPI: u32 = 4;

/// What belongs to whoever runs the VP or looks at its registers.
pub(super) struct State {
    /// The VP's general registers are here while it does not run.
    pub(super) run: Shared<RunPage>,
    /// Where other registers are moved through.
    pub(super) registers: Shared<Registers>,
    /// The same for the FPU's.
    pub(super) xsave: Shared<XsaveArea>,
    pub(super) local: LocalRegisters,
    /// The last intercept.
    pub(super) message: KBox<Message>,
    /// What the program has CPUID say.
    pub(super) cpuid: KVec<CpuidResult>,
    /// The next entry is behind an instruction: see [`orders::RETIRED`](crate::hvabi::vp::orders::RETIRED).
    pub(super) retired: bool,
    /// The VP was told to wait for an interrupt: see [`orders::IDLE`](crate::hvabi::vp::orders::IDLE).
    pub(super) idle: bool,
    /// While the partition's time stands still.
    pub(super) frozen: Option<Clock>,
    /// RIP of the instruction that the program was told of: once it has moved, the program has
    /// carried that out.
    pub(super) told: Option<u64>,
}

/// A virtual processor.
#[pin_data]
pub(crate) struct Vp {
    partition: PartitionId,
    index: u32,
    calls: Killable<()>,
    #[pin]
    state: Mutex<State>,
    /// Threads that want `state`; the one that runs the VP gives it up for them.
    wanted: Atomic<u32>,
    /// CPU on which the VP runs now, or one of [`idle`].
    running_on: Atomic<u32>,
    /// Its translations are to be forgotten before it runs again.
    flush: Atomic<bool>,
    /// Where the thread that runs the VP sleeps while the VP is halted.
    pub(super) waiter: Waiter,
    /// A copy of the last intercept for a program that mapped it.
    message_page: Shared<Message>,
    message_mapped: Atomic<bool>,
    /// Registers for a program that mapped them.
    pub(super) register_page: RegisterPage,
}

impl Vp {
    fn new(partition: PartitionId, index: u32, features: u64) -> Result<Arc<Self>> {
        let state = State {
            run: Shared::new()?,
            registers: Shared::new()?,
            xsave: Shared::new()?,
            local: LocalRegisters {
                vp_index: index,
                features,
                // Until it is run first.
                explicit_suspend: true,
                ..LocalRegisters::default()
            },
            message: KBox::new(Message::none(), GFP_KERNEL_ACCOUNT)?,
            cpuid: KVec::new(),
            retired: false,
            idle: false,
            frozen: None,
            told: None,
        };
        let calls = Killable::new(())?;
        let waiter = Waiter::new()?;
        let message_page = Shared::new()?;
        let register_page = RegisterPage::new()?;
        Arc::pin_init(
            pin_init!(Self {
                partition,
                index,
                calls,
                state <- new_mutex!(state),
                wanted: Atomic::new(0),
                running_on: Atomic::new(idle::STOPPED),
                flush: Atomic::new(false),
                waiter,
                message_page,
                message_mapped: Atomic::new(false),
                register_page,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn partition_id(&self) -> PartitionId {
        self.partition
    }

    /// The state, for the thread that runs the VP.
    #[inline]
    pub(super) fn lock_to_run(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The state, for another: if the VP runs it is stopped, and goes on when the guard is gone.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        if let Some(state) = self.state.try_lock() {
            return state;
        }
        self.wanted.fetch_add(1, Full);
        self.interrupt();
        let state = self.state.lock();
        self.wanted.fetch_sub(1, Full);
        state
    }

    /// The state, for one who can do without: none if it is not to be had soon, as while the thread that
    /// runs the VP waits for memory of its program.
    fn lock_soon(&self) -> Option<MutexGuard<'_, State>> {
        const ATTEMPTS: usize = 20;
        for _ in 0..ATTEMPTS {
            let state = self.state.try_lock();
            if state.is_some() {
                return state;
            }
            if self.running_on.load(Relaxed) < idle::FIRST {
                return Some(self.lock());
            }
            fsleep(Delta::from_millis(10));
        }
        None
    }

    /// Whether another thread waits for the state.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed) != 0
    }

    /// Says that the VP is about to run on this CPU; interrupts are off until
    /// [`set_idle`](Self::set_idle).
    #[inline]
    pub(super) fn set_running(&self) {
        // A full barrier: whoever does not see this did what is looked at after this before.
        self.running_on.xchg(cpu::current(), Full);
    }

    /// Says that the VP does not run any more: one of [`idle`].
    #[inline]
    pub(super) fn set_idle(&self, why: u32) {
        self.running_on.store(why, Relaxed);
    }

    /// Whether translations are to be forgotten, which from now on is done. After
    /// [`set_running`](Self::set_running).
    #[inline]
    pub(super) fn take_flush(&self) -> bool {
        self.flush.load(Relaxed) && self.flush.xchg(false, Full)
    }

    /// Has the VP forget its translations before it runs on; true if it runs now and was told to
    /// stop, so that [`has_left`](Self::has_left) must be waited for.
    pub(super) fn request_flush(&self) -> bool {
        // A full barrier: a VP that does not see this is seen running.
        self.flush.xchg(true, Full);
        let cpu = self.running_on.load(Relaxed);
        if cpu >= idle::FIRST {
            return false;
        }
        cpu_run::kick(cpu);
        true
    }

    /// Whether the VP has not been running all the time since
    /// [`request_flush`](Self::request_flush).
    pub(super) fn has_left(&self) -> bool {
        self.running_on.load(Acquire) >= idle::FIRST || !self.flush.load(Acquire)
    }

    /// Lets the VP run in place of the current thread, if it could.
    pub(super) fn give_turn(&self) -> bool {
        self.running_on.load(Relaxed) == idle::READY && self.waiter.yield_to()
    }

    /// Makes the VP look at what is pending for it. In any context.
    ///
    /// Whatever it shall see was told to hvcore before this is called. A VP that is about to run
    /// sees it on entry; one that runs is made to enter again; a thread that sleeps is woken.
    pub(super) fn notify(&self) {
        self.waiter.wake();
        self.interrupt();
    }

    /// If the VP runs, makes it return. In any context.
    fn interrupt(&self) {
        let cpu = self.running_on.load(Relaxed);
        if cpu < idle::FIRST && cpu != cpu::current() {
            cpu_run::kick(cpu);
        }
    }

    /// Shows the last intercept to a program that mapped its page.
    #[inline]
    pub(super) fn publish(&self, message: &Message) {
        if self.message_mapped.load(Relaxed) {
            self.message_page.publish(message);
        }
    }

    /// State of this VP in hvcore, which is moved through the page at `page_spa`.
    pub(super) fn state_by(&self, kind: StateKind, page_spa: u64, groups: u64) -> VpState {
        VpState {
            partition: self.partition,
            index: self.index,
            kind,
            page_spa,
            groups,
        }
    }

    /// Has hvcore write state to the page at `page_spa`.
    pub(super) fn load(&self, kind: StateKind, page_spa: u64, groups: u64) -> HvResult {
        hv_status(self.state_by(kind, page_spa, groups).get())
    }

    /// Has hvcore read state from the page at `page_spa`: all or nothing.
    pub(super) fn store(&self, kind: StateKind, page_spa: u64, groups: u64) -> HvResult {
        hv_status(self.state_by(kind, page_spa, groups).set().0)
    }

    /// hvcore's counters of this VP, if it still has them.
    fn stats(&self) -> Option<Shared<VpStats>> {
        let stats = Shared::<VpStats>::new().ok()?;
        let _state = self.lock_soon()?;
        self.load(StateKind::Stats, stats.spa(), 0).ok()?;
        Some(stats)
    }

    /// Adds the VM exits of this VP, by reason.
    pub(super) fn add_exits(&self, exits: &mut [u64; EXIT_REASONS]) {
        if let Some(stats) = self.stats() {
            for (sum, count) in exits.iter_mut().zip(stats.exits) {
                *sum += count;
            }
        }
    }

    /// What there is to tell of this VP.
    pub(super) fn info(&self) -> VpInfo {
        // Before the counters are looked at, for which the VP stops.
        let (state, cpu) = match self.running_on.load(Relaxed) {
            idle::STOPPED => (VP_STOPPED, 0),
            idle::READY => (VP_READY, 0),
            idle::HALTED => (VP_HALTED, 0),
            idle::WAITS_FOR_SIPI => (VP_WAITS_FOR_SIPI, 0),
            cpu => (VP_RUNNING, cpu),
        };
        let stats = self.stats();
        let of = |count: fn(&VpStats) -> u64| stats.as_deref().map_or(0, count);
        VpInfo {
            partition: self.partition.number(),
            index: self.index,
            state,
            cpu,
            thread: self.waiter.thread(),
            exits: stats
                .as_deref()
                .map_or([0; EXIT_REASONS], |stats| stats.exits),
            handled: of(|stats| stats.handled),
            injected: of(|stats| stats.injected),
            reserved: [0; 4],
        }
    }
}

/// What a failed hypercall on a VP is in the TLFS.
pub(super) fn hv_status(status: Status) -> HvResult {
    match status {
        Status::Ok => Ok(()),
        Status::BadArgument => Err(HvStatus::INVALID_REGISTER_VALUE),
        Status::NoVp => Err(HvStatus::INVALID_VP_INDEX),
        Status::NoPartition | Status::Dead => Err(HvStatus::INVALID_PARTITION_STATE),
        Status::Busy => Err(HvStatus::INVALID_VP_STATE),
        _ => Err(HvStatus::OPERATION_FAILED),
    }
}

/// The file of a VP. It keeps the partition.
struct VpFile {
    partition: Arc<Partition>,
    vp: Arc<Vp>,
}

impl AnonFile for VpFile {
    const NAME: &'static CStr = c"mshv_vp";

    fn ioctl(&self, cmd: u32, arg: usize) -> Result<isize> {
        let _calls = self.vp.calls.lock()?;
        match cmd {
            uapi::RUN_VP => run::ioctl(&self.partition, &self.vp, arg),
            uapi::ROOT_HVCALL => hvcall::passthrough(Target::Vp(&self.partition), arg),
            uapi::GET_VP_STATE => vp_state::ioctl(&self.partition, &self.vp, arg, false),
            uapi::SET_VP_STATE => vp_state::ioctl(&self.partition, &self.vp, arg, true),
            _ => Err(ENOTTY),
        }
    }

    fn partition(&self) -> u64 {
        self.vp.partition.number()
    }

    fn page(&self, offset: u64) -> Result<NonNull<u8>> {
        match offset {
            mmap_offset::INTERCEPT_MESSAGE => {
                self.vp.message_mapped.store(true, Relaxed);
                Ok(self.vp.message_page.address())
            }
            mmap_offset::REGISTERS => Ok(self.vp.register_page.map()),
            // As of a partition that is not encrypted.
            mmap_offset::GHCB => Err(ENODEV),
            _ => Err(EINVAL),
        }
    }
}

/// MSHV_CREATE_VP.
pub(super) fn create(partition: &Arc<Partition>, setup: &Setup, arg: usize) -> Result<isize> {
    let index = user::read::<uapi::CreateVp>(arg)?.vp_index;
    if index >= uapi::MAX_VPS {
        return Err(EINVAL);
    }
    if partition.vp(index).is_some() {
        return Err(EEXIST);
    }
    let refused = |status: HvStatus| Err(user::error(status.errno()));
    if !requirements::children() {
        return Err(EIO);
    }
    if !setup.initialized {
        return refused(HvStatus::INVALID_PARTITION_STATE);
    }
    if index as usize >= MAX_VPS {
        return refused(HvStatus::INVALID_VP_INDEX);
    }

    let vp = Vp::new(partition.id(), index, setup.properties.synthetic_features)?;
    let file = KBox::new(
        VpFile {
            partition: partition.clone(),
            vp: vp.clone(),
        },
        GFP_KERNEL_ACCOUNT,
    )?;
    let pending = Pending::new(file)?;
    registry::reserve_vp(partition.id())?;
    // hvcore can not take back one VP, so this is the last step that can fail.
    let spa = vp.lock().run.spa();
    hypercall::vp_create(partition.id(), index, spa)?;
    registry::add_vp(partition.id(), vp.clone());
    partition.add_vp(vp);
    Ok(pending.install())
}
