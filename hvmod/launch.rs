// SPDX-License-Identifier: GPL-2.0

//! Taking every LP into the root partition, and out of it again.
//!
//! All or none: after [`Launched::new`] each LP that Linux uses runs as the root partition, and
//! each that comes online later joins, or does not come online. An LP that goes offline stays, in
//! wait-for-SIPI: hvcore answers for the INIT and SIPI that bring it back.

use crate::{
    core_log,
    hvabi::call::{Call, Missing, Status},
    hypercall,
    loader::Core,
    lps, requirements,
    sys::{
        cpu::{self, Hotplug, HotplugCallback, HotplugLock},
        deposit,
        gather::{self, Gathering},
        inject::{self, Step},
        loaded,
        notifier::{Events, Notifiers},
        trampoline::{Enter, Outcome},
        vmcall::vmcall,
    },
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{delay::fsleep, Delta},
};

/// hvcore runs beneath Linux while this exists.
pub(crate) struct Launched {
    hotplug: Option<HotplugCallback>,
    notifiers: Option<Notifiers>,
    /// Until all LPs have left.
    _gathering: Gathering,
}

/// How long an LP may take to go to hvcore, or to leave it. It takes a millisecond.
const TIME_LIMIT_MS: u32 = 10_000;

/// Why an LP is not in the root partition.
enum Failure {
    /// hvcore said so.
    Core(Outcome),
    /// Linux did.
    Linux(Error),
}

impl Launched {
    /// Loads hvcore and launches it on all online LPs.
    pub(crate) fn new() -> Result<Self> {
        requirements::check()?;
        let mut pool_factor = 1;
        loop {
            let core = Arc::new(Core::load(pool_factor)?, GFP_KERNEL)?;
            match launch(&core) {
                Ok(launched) => {
                    pr_info!(
                        "Linux is the root partition on {} processors, above {} KiB of hvcore\n",
                        lps::count(),
                        core.bytes() / 1024
                    );
                    return Ok(launched);
                }
                // Counted too small: hvcore knows better. Only so often, lest it never be content.
                Err(Failure::Core(outcome))
                    if outcome.status == Status::Unsupported as u64
                        && outcome.detail == Missing::Memory as u64
                        && pool_factor < 16 =>
                {
                    pool_factor *= 2
                }
                Err(failure) => {
                    core_log::forward_all(&core);
                    return Err(explain(&failure));
                }
            }
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Before the lock: they wait for it when they are called.
        self.notifiers = None;
        let lock = HotplugLock::new();
        // From here on no LP joins.
        if let Some(hotplug) = self.hotplug.take() {
            hotplug.unregister(&lock);
        }
        let Some(core) = loaded::take() else {
            return;
        };
        let left = leave_all(&core, &lock);
        drop(lock);
        core_log::forward(&core);
        if left == 0 {
            deposit::take_all();
            pr_info!("Linux has the machine to itself again\n");
        } else {
            keep(&core, left);
        }
    }
}

/// Launches `core` on all online LPs, or on none.
fn launch(core: &Arc<Core>) -> Result<Launched, Failure> {
    inject::step(Step::Notifiers).map_err(Failure::Linux)?;
    let notifiers = Notifiers::register::<Launched>().map_err(Failure::Linux)?;
    let gathering = Gathering::start().map_err(Failure::Linux)?;
    let lock = HotplugLock::new();
    for cpu in (0..cpu::limit()).filter(|&cpu| cpu::is_online(cpu)) {
        if let Err(failure) = enter(core, cpu) {
            let left = leave_all(core, &lock);
            if left != 0 {
                keep(core, left);
            }
            return Err(failure);
        }
    }
    loaded::put(core.clone());
    let hotplug =
        inject::step(Step::Hotplug).and_then(|()| HotplugCallback::register::<Launched>(&lock));
    match hotplug {
        Ok(hotplug) => Ok(Launched {
            hotplug: Some(hotplug),
            notifiers: Some(notifiers),
            _gathering: gathering,
        }),
        Err(error) => {
            drop(lock);
            // Takes all LPs out.
            drop(Launched {
                hotplug: None,
                notifiers: Some(notifiers),
                _gathering: gathering,
            });
            Err(Failure::Linux(error))
        }
    }
}

/// Never frees the memory of `core`, since `left` LPs are still in it.
fn keep(core: &Arc<Core>, left: usize) {
    pr_crit!("{left} processors could not leave hvcore, whose memory is lost until reboot\n");
    // One more reference, never given back.
    core::mem::forget(core.clone());
}

/// Takes `cpu` into the root partition.
fn enter(core: &Core, cpu: u32) -> Result<(), Failure> {
    let lp = lps::assign(cpu, core.lp_limit()).ok_or(Failure::Linux(ENOSPC))?;
    if lp == 1 {
        inject::step(Step::SecondLp).map_err(Failure::Linux)?;
    }
    struct Way {
        cpu: u32,
        arguments: Enter,
        outcome: Option<Outcome>,
        in_root: bool,
    }
    let way = Way {
        cpu,
        arguments: core.enter(lp, cpu).map_err(Failure::Linux)?,
        outcome: None,
        in_root: false,
    };
    let go = |way: &mut Way| {
        gather::enter(way.cpu);
        way.outcome = Gathering::go(&way.arguments);
        let status = way.outcome.as_ref().map(|outcome| outcome.status);
        if status != Some(Status::Ok as u64) {
            gather::not_entered(way.cpu, status == Some(Status::CoreDead as u64));
        }
        way.in_root = requirements::in_root();
    };
    let give_up = |up| core.give_up(lp, up);
    let way = cpu::run_within(cpu, TIME_LIMIT_MS, way, go, give_up).map_err(|error| {
        if error == ETIMEDOUT {
            pr_crit!(
                "CPU {cpu} did not come back from the launch in {} s: if it does not, reboot\n",
                TIME_LIMIT_MS / 1000
            );
        } else if error == EBUSY {
            pr_err!(
                "CPU {cpu} is too busy to be launched: it did not come to it in {} s\n",
                TIME_LIMIT_MS / 1000
            );
        }
        Failure::Linux(error)
    })?;
    let Way {
        outcome, in_root, ..
    } = KBox::into_inner(way);
    let Some(mut outcome) = outcome else {
        pr_err!("CPU {cpu} cannot send itself an NMI, in which it would be launched\n");
        return Err(Failure::Linux(EIO));
    };
    if !in_root && gather::began() {
        // Another one died, and took it along.
        outcome.status = Status::CoreDead as u64;
    }
    if outcome.status != Status::Ok as u64 {
        return Err(Failure::Core(outcome));
    }
    if !in_root {
        pr_err!("CPU {cpu} was launched and is not in the root partition\n");
        return Err(Failure::Linux(EIO));
    }
    Ok(())
}

/// Takes all LPs out of the root partition that are in it; how many stayed.
fn leave_all(core: &Core, _lock: &HotplugLock) -> usize {
    let all = || (0..lps::count()).filter_map(|lp| Some((lp, lps::cpu_of(lp)?)));
    let online = all().filter(|&(_, cpu)| cpu::is_online(cpu));
    let left = online.filter(|&(lp, cpu)| leave(core, lp, cpu)).count();
    let offline = all().filter(|&(_, cpu)| !cpu::is_online(cpu));
    let evicted = offline.filter(|&(lp, cpu)| evict(core, lp, cpu, left));
    all().count() - left - evicted.count()
}

/// Takes `lp` out of the root partition, if it is in it. Whether it is out now.
fn leave(core: &Core, lp: u32, cpu: u32) -> bool {
    if core.given_up(lp) {
        return false;
    }
    let go = |(status, out): &mut (u64, bool)| {
        // If hvcore died the question alone takes this LP out.
        if requirements::in_root() {
            *status = vmcall(Call::Unload, [0; 5]).status;
        }
        *out = !requirements::in_root();
    };
    let run = cpu::run_within(cpu, TIME_LIMIT_MS, (0, false), go, |_| ());
    let left = run.as_ref().is_ok_and(|run| run.1);
    if !left {
        let status = run.map(|run| run.0);
        pr_crit!("CPU {cpu} did not leave hvcore: status {status:?}\n");
    }
    left
}

/// Takes `lp` out, whose CPU is offline and may not come online: it waits for SIPI. When `left` others
/// left, hvcore lets it leave at that. It is then where Linux had it wait before the INIT, and gets
/// another one, to execute nothing of this module: as it was without hvcore.
fn evict(core: &Core, lp: u32, cpu: u32, left: usize) -> bool {
    const ATTEMPTS: usize = 100;
    let active = || core.lp_stats(lp).is_some_and(|stats| stats.active != 0);
    if !active() {
        return true;
    }
    for attempt in (0..ATTEMPTS).take_while(|_| left != 0 && active()) {
        if attempt == ATTEMPTS / 2 {
            // That with which it went offline was lost.
            cpu::send_init(cpu);
        }
        cpu::send_sipi(cpu);
        fsleep(Delta::from_millis(1));
    }
    if active() {
        pr_crit!("CPU {cpu}, which is offline, did not leave hvcore\n");
        return false;
    }
    cpu::send_init(cpu);
    fsleep(Delta::from_millis(10));
    true
}

/// Says what hvcore had against it, if it was hvcore.
fn explain(failure: &Failure) -> Error {
    let outcome = match failure {
        Failure::Core(outcome) => outcome,
        Failure::Linux(error) => return *error,
    };
    let detail = outcome.detail;
    match Status::from_raw(outcome.status) {
        Some(Status::Unsupported) => {
            let (words, error) = requirements::missing(detail);
            pr_err!("a processor cannot run hvcore: {words}\n");
            error
        }
        Some(Status::LaunchFailed) => {
            pr_err!("hvcore failed to launch: VM-instruction error or exit reason {detail:#x}\n");
            EIO
        }
        Some(Status::CoreDead) => {
            pr_err!("hvcore died during the launch\n");
            EIO
        }
        status => {
            pr_err!(
                "hvcore failed to launch: status {status:?} ({}), {detail:#x}\n",
                outcome.status
            );
            EIO
        }
    }
}

impl Hotplug for Launched {
    fn came_online(cpu: u32) -> Result {
        gather::enter(cpu);
        if requirements::in_root() {
            return Ok(());
        }
        gather::not_entered(cpu, false);
        if hypercall::is_over() || !hypercall::core_alive() {
            return Ok(());
        }
        let Some(core) = loaded::get() else {
            return Ok(());
        };
        match enter(&core, cpu) {
            Ok(()) => Ok(()),
            Err(Failure::Core(outcome)) if outcome.status == Status::CoreDead as u64 => {
                hypercall::note_death();
                Ok(())
            }
            Err(failure) => {
                core_log::forward(&core);
                pr_err!("CPU {cpu} cannot join the root partition and stays offline\n");
                Err(explain(&failure))
            }
        }
    }

    fn went_offline(cpu: u32) {
        // It would not come by hvcore any more, and others would wait for it before pages change
        // hands (Call::Sync). After an INIT it executes nothing until Linux sends the SIPI.
        if lps::of_cpu(cpu).is_some() {
            cpu::send_init(cpu);
            gather::offline(cpu);
        }
    }
}

impl Events for Launched {
    fn going_down() {
        // Firmware and a kernel started by kexec expect processors outside VMX operation. They
        // would live with hvcore beneath them, but nobody would take it away. One that is offline
        // is in wait-for-SIPI, and would start in hvcore when that kernel wakes it.
        let Some(core) = loaded::get() else {
            return;
        };
        hypercall::destroy_all();
        leave_all(&core, &HotplugLock::new());
    }

    fn panicking() {
        // The other LPs are stopped, in the root partition; a crash kernel starts on this one.
        if requirements::in_root() {
            vmcall(Call::Unload, [0; 5]);
        }
    }

    fn may_sleep() -> bool {
        pr_err!("the machine cannot suspend while hvmod is loaded: rmmod hvmod first\n");
        false
    }
}
