// SPDX-License-Identifier: GPL-2.0

//! Linux's CPUs: running code on them, and their coming and going.

use kernel::{bindings, error::to_result, ffi::c_int, ffi::c_void, prelude::*};

extern "C" {
    fn hvmod_cpu_online(cpu: u32) -> bool;
    fn hvmod_cpu_possible(cpu: u32) -> bool;
    fn hvmod_cpu_init(cpu: u32);
    fn hvmod_cpu_sipi(cpu: u32);
    fn hvmod_errand(
        cpu: u32,
        run: extern "C" fn(*mut c_void),
        data: *mut c_void,
        ms: kernel::ffi::c_uint,
        give_up: extern "C" fn(*mut c_void, bool),
        about: *mut c_void,
    ) -> c_int;
}

/// Number that all numbers of CPUs are less than.
pub(crate) fn limit() -> u32 {
    kernel::cpu::nr_cpu_ids()
}

/// Number of CPUs that can ever be online.
pub(crate) fn possible_count() -> u32 {
    (0..limit())
        .filter(|&cpu| {
            // SAFETY: Any number may be asked for.
            unsafe { hvmod_cpu_possible(cpu) }
        })
        .count() as u32
}

/// Whether `cpu` is online. Only a [`HotplugLock`] keeps it so.
pub(crate) fn is_online(cpu: u32) -> bool {
    // SAFETY: Any number may be asked for.
    unsafe { hvmod_cpu_online(cpu) }
}

/// Number of the CPU that this runs on; stale at once unless interrupts or preemption are off.
pub(crate) fn current() -> u32 {
    kernel::cpu::CpuId::current().as_u32()
}

/// While one exists, CPUs stay online or offline.
pub(crate) struct HotplugLock(());

impl HotplugLock {
    /// Takes the lock; process context. Readers do not exclude each other.
    pub(crate) fn new() -> Self {
        // SAFETY: Released in `drop`.
        unsafe { bindings::cpus_read_lock() };
        Self(())
    }
}

impl Drop for HotplugLock {
    fn drop(&mut self) {
        // SAFETY: Taken in `new`.
        unsafe { bindings::cpus_read_unlock() };
    }
}

/// Runs `f` on `cpu` with interrupts off, with something of its own to work on, and waits for it so
/// many milliseconds; from another CPU, if there is one, so that one that never comes back does not
/// take this thread along. ETIMEDOUT then; ENXIO if the CPU is offline, EBUSY if it never came to it.
///
/// When the time is up `give_up(true)` should see to it that the CPU, if it ever comes back, leaves
/// things as they were; `give_up(false)` is called if it was just about to come back, and did.
///
/// `f` must not sleep. The caller has the hotplug lock or is a [`Hotplug`].
pub(crate) fn run_within<T: Send, G: Fn(bool)>(
    cpu: u32,
    ms: u32,
    state: T,
    f: fn(&mut T),
    give_up: G,
) -> Result<KBox<T>> {
    struct Errand<T> {
        state: KBox<T>,
        f: fn(&mut T),
    }
    extern "C" fn call<T>(data: *mut c_void) {
        // SAFETY: The pointer below, of which nobody else makes a reference before this ended.
        let errand = unsafe { &mut *data.cast::<Errand<T>>() };
        (errand.f)(&mut errand.state)
    }
    extern "C" fn given_up<G: Fn(bool)>(about: *mut c_void, up: bool) {
        // SAFETY: `about` is the pointer to `give_up` below, whose owner waits.
        unsafe { (*about.cast::<G>())(up) }
    }
    let about = (&raw const give_up).cast_mut().cast();
    let state = KBox::new(state, GFP_KERNEL)?;
    let errand = KBox::into_raw(KBox::new(Errand { state, f }, GFP_KERNEL)?);
    // SAFETY: `call::<T>` fits the pointer, which lives until the call ended, or for ever, and
    // `given_up::<G>` the last one, which lives longer than this call.
    let error = unsafe { hvmod_errand(cpu, call::<T>, errand.cast(), ms, given_up::<G>, about) };
    let done = to_result(error);
    if done == Err(ETIMEDOUT) {
        return Err(ETIMEDOUT);
    }
    // SAFETY: From `into_raw`, and the call ended or never began.
    let errand = KBox::into_inner(unsafe { KBox::from_raw(errand) });
    done.map(|()| errand.state)
}

/// Runs `f` on every online CPU at the same time with interrupts off, and waits for all.
///
/// `f` must not sleep. The caller must not have interrupts off.
pub(crate) fn run_on_all<F: Fn() + Sync>(f: F) {
    extern "C" fn call<F: Fn()>(f: *mut c_void) {
        // SAFETY: `f` is the pointer below, shared by all CPUs; the caller waits.
        unsafe { (*f.cast::<F>())() }
    }
    // SAFETY: `call::<F>` fits the pointer, which lives until all calls ended (`wait`).
    unsafe {
        bindings::on_each_cpu_cond_mask(
            None,
            Some(call::<F>),
            (&raw const f).cast_mut().cast(),
            true,
            &raw const bindings::__cpu_online_mask,
        )
    }
}

/// Sends INIT to `cpu`, if it is offline: what Linux left it doing ends.
pub(crate) fn send_init(cpu: u32) {
    // SAFETY: Any number may be named; Linux has no use for an offline CPU but to send it the same.
    unsafe { hvmod_cpu_init(cpu) };
}

/// Sends SIPI to `cpu`, if it is offline. It must be in the root partition and wait for that, and
/// hvcore not start it then (`Call::Unload` of another one): Linux has no code for it at any vector.
pub(crate) fn send_sipi(cpu: u32) {
    // SAFETY: Any number may be named; what the SIPI does is for the caller to answer for.
    unsafe { hvmod_cpu_sipi(cpu) };
}

/// Somebody who wants to know of CPUs that come and go.
pub(crate) trait Hotplug {
    /// `cpu`, on which this runs, came online; nothing but per-CPU threads runs there yet. An error
    /// sends it offline again.
    fn came_online(cpu: u32) -> Result;

    /// `cpu` is offline, and executes nothing but the loop in which Linux leaves it.
    fn went_offline(cpu: u32);
}

/// A registered [`Hotplug`], to be unregistered before the module goes.
///
/// # Invariants
///
/// The states are ones that `__cpuhp_setup_state_cpuslocked` gave.
pub(crate) struct HotplugCallback([bindings::cpuhp_state; 2]);

impl HotplugCallback {
    /// Registers `T` for CPUs that come and go from now on.
    pub(crate) fn register<T: Hotplug>(lock: &HotplugLock) -> Result<Self> {
        extern "C" fn came_online<T: Hotplug>(cpu: u32) -> c_int {
            match T::came_online(cpu) {
                Ok(()) => 0,
                Err(error) => error.to_errno(),
            }
        }
        extern "C" fn went_offline<T: Hotplug>(cpu: u32) -> c_int {
            T::went_offline(cpu);
            0
        }
        // The states of the first kind end when the CPU has, on another one.
        let dead = setup(
            lock,
            bindings::cpuhp_state_CPUHP_BP_PREPARE_DYN,
            c"hvmod:dead",
            (None, Some(went_offline::<T>)),
        )?;
        let online = setup(
            lock,
            bindings::cpuhp_state_CPUHP_AP_ONLINE_DYN,
            c"hvmod:online",
            (Some(came_online::<T>), None),
        );
        match online {
            // INVARIANT: As given.
            Ok(online) => Ok(Self([dead, online])),
            Err(error) => {
                // SAFETY: As given, and used by nobody else.
                unsafe { bindings::__cpuhp_remove_state_cpuslocked(dead, false) };
                Err(error)
            }
        }
    }

    /// Nothing is called any more.
    pub(crate) fn unregister(self, _lock: &HotplugLock) {
        for state in self.0 {
            // SAFETY: By the invariant, and the lock is held.
            unsafe { bindings::__cpuhp_remove_state_cpuslocked(state, false) };
        }
    }
}

type Callback = Option<extern "C" fn(u32) -> c_int>;

/// Registers what is called when a CPU comes (first) and goes (second), on its way through a state
/// of that kind.
fn setup(
    _lock: &HotplugLock,
    kind: bindings::cpuhp_state,
    name: &'static CStr,
    (startup, teardown): (Callback, Callback),
) -> Result<bindings::cpuhp_state> {
    // SAFETY: The lock is held; the name and the functions live as long as the module, and
    // `HotplugCallback::unregister` takes the functions away before.
    let state = unsafe {
        bindings::__cpuhp_setup_state_cpuslocked(
            kind,
            name.as_char_ptr(),
            false,
            startup.map(|function| function as unsafe extern "C" fn(u32) -> c_int),
            teardown.map(|function| function as unsafe extern "C" fn(u32) -> c_int),
            false,
        )
    };
    to_result(state)?;
    Ok(state as bindings::cpuhp_state)
}
