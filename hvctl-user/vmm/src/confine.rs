// SPDX-License-Identifier: GPL-2.0
//! What is taken from this process when all is set up: capabilities, files, networks (by
//! Landlock), and of each kind of thread the system calls that it does not need (by seccomp).
//!
//! A system call that is refused fails with EPERM, and we say so once for each number. What
//! Landlock refuses fails with EACCES, and the kernel's audit log has it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use caps::CapSet;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use vmm_sys_util::signal::register_signal_handler;

/// Kinds of thread, by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// Waits for the user and for the end of the run.
    Main,
    /// Serves `hvctl stop`.
    Control,
    /// Runs a virtual processor; starts and stops the threads of devices.
    Processor,
    /// Serves queues of a device.
    Device,
}

/// Whether [`process`] was called: before it nobody is confined.
static ON: AtomicBool = AtomicBool::new(false);

/// Takes from this thread, and from those it starts from now on, what is not needed any
/// more. To be called when all is open.
pub fn process() -> io::Result<()> {
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    few_arenas();
    // As much of it as this kernel knows.
    let abi = ABI::V6;
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(abi)))
        .and_then(|rules| rules.create())
        .and_then(|rules| rules.no_new_privs(true).restrict_self())
        .map_err(io::Error::other)?;
    if restricted.ruleset == RulesetStatus::NotEnforced {
        tracing::warn!(
            "this kernel has no Landlock, or it is off (lsm=): hvctl keeps its access to files; \
             --unconfined says that this is meant"
        );
    }
    register_signal_handler(libc::SIGSYS, refused).map_err(io::Error::from)?;
    ON.store(true, Ordering::Release);
    Ok(())
}

/// Keeps the allocator from asking how many processors there are, which it does when many threads
/// allocate, by opening a file. See `M_ARENA_MAX` in mallopt(3).
fn few_arenas() {
    #[cfg(target_env = "gnu")]
    {
        const ARENAS: libc::c_int = 8;
        // SAFETY: the call sets a number of the allocator, and takes any.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    }
}

/// Takes from this thread, if the process is confined, what its kind does not need.
pub fn thread(kind: Thread) {
    if !ON.load(Ordering::Acquire) {
        return;
    }
    let entered = filter(kind).and_then(|filter| seccompiler::apply_filter(&filter));
    if let Err(cause) = entered {
        tracing::warn!("a thread ({kind:?}) is not confined: {cause}");
    }
}

/// What every thread does: memory, locks, events, its own start and end.
const COMMON: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Threads that start others.
const THREADS: &[libc::c_long] = &[libc::SYS_clone, libc::SYS_clone3];

/// Waiting for many things.
const EVENTS: &[libc::c_long] = &[
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
];

/// What is behind queues.
const STORAGE: &[libc::c_long] = &[
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_io_uring_enter,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
];

/// Setting a device going.
const ACTIVATION: &[libc::c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
];

/// Talking to a process that serves a device.
const VHOST_USER: &[libc::c_long] = &[libc::SYS_recvmsg, libc::SYS_sendmsg];

/// Ending the processes that serve devices.
const CHILDREN: &[libc::c_long] = &[libc::SYS_kill, libc::SYS_wait4, libc::SYS_waitid];

/// Somebody asks something of the run.
const SOCKETS: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_geteuid,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
];

/// Calls of which the low 32 bits of this argument, counted from 0, compare so with the value.
fn argument(
    number: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value)?;
    SeccompRule::new(vec![condition])
}

/// Calls of a family of ioctls: its type is in bits 8 to 15.
fn family(kind: u8) -> Result<SeccompRule, seccompiler::BackendError> {
    argument(1, SeccompCmpOp::MaskedEq(0xff00), u64::from(kind) << 8)
}

/// One ioctl.
fn call(number: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    argument(1, SeccompCmpOp::Eq, number)
}

/// Memory, but none with instructions.
fn not_executable() -> Result<SeccompRule, seccompiler::BackendError> {
    argument(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)
}

/// A signal to one of our threads.
fn to_ourselves() -> Result<SeccompRule, seccompiler::BackendError> {
    argument(0, SeccompCmpOp::Eq, std::process::id().into())
}

const MSHV: u8 = 0xb8;
const VHOST: u8 = 0xaf;

fn ioctls(kind: Thread) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    match kind {
        // The power button is an interrupt.
        Thread::Control => Ok(vec![family(MSHV)?]),
        Thread::Main => [
            libc::TCGETS,
            libc::TCSETS,
            libc::TCSETSW,
            libc::TCGETS2,
            libc::TCSETS2,
            libc::TCSETSW2,
        ]
        .into_iter()
        .map(call)
        // What it typed may be an interrupt of COM1; the end stops vhost, and asks for a reason.
        .chain([family(MSHV), family(VHOST), family(hvmod_ioctls::CALL_TYPE)])
        .collect(),
        Thread::Processor => [family(MSHV), family(VHOST), call(libc::TUNSETOFFLOAD)]
            .into_iter()
            .chain(ioctls_of_devices())
            .collect(),
        Thread::Device => ioctls_of_devices().into_iter().collect(),
    }
}

/// How many pairs of queues a network uses; memory that goes to the root.
fn ioctls_of_devices() -> [Result<SeccompRule, seccompiler::BackendError>; 2] {
    [call(libc::TUNSETQUEUE), call(hvmod_ioctls::DISCARD_CALL)]
}

fn filter(kind: Thread) -> Result<BpfProgram, seccompiler::Error> {
    let lists: &[&[libc::c_long]] = match kind {
        Thread::Main => &[COMMON, VHOST_USER, CHILDREN],
        Thread::Control => &[COMMON, THREADS, SOCKETS],
        // The threads of devices that it starts are confined as it is, and more.
        Thread::Processor => &[COMMON, THREADS, EVENTS, STORAGE, ACTIVATION, VHOST_USER],
        Thread::Device => &[COMMON, EVENTS, STORAGE],
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = lists
        .iter()
        .flat_map(|list| list.iter().map(|number| (*number, Vec::new())))
        .collect();
    rules.insert(libc::SYS_ioctl, ioctls(kind)?);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![not_executable()?]);
    }
    rules.insert(libc::SYS_tgkill, vec![to_ourselves()?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Trap,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

/// Numbers of system calls that were refused, so that each is told once: 0 to 511.
static TOLD: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// The handler of SIGSYS: says what was refused, and makes it fail.
extern "C" fn refused(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    /// struct siginfo of a SIGSYS (signal(7), si_syscall).
    #[repr(C)]
    struct SysInfo {
        head: [libc::c_int; 4],
        address: u64,
        number: libc::c_int,
    }
    // SAFETY: for this signal the kernel fills in these fields.
    let number = unsafe { (*info.cast::<SysInfo>()).number };
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives the handler the thread's registers, which it loads again.
    unsafe {
        (*context).uc_mcontext.gregs[libc::REG_RAX as usize] = -i64::from(libc::EPERM);
    }
    let bit = 1u64 << (number % 64);
    let told = TOLD.get(number as usize / 64);
    if told.is_none_or(|told| told.fetch_or(bit, Ordering::Relaxed) & bit == 0) {
        tell(number as u32);
    }
}

/// Writes with nothing but write(2), as a signal handler must.
fn tell(number: u32) {
    let mut text = *b"hvctl: refused to itself system call      (see ausyscall)\n";
    let (mut at, mut rest) = (40, number);
    loop {
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 || at == 37 {
            break;
        }
        at -= 1;
    }
    // SAFETY: the kernel reads the text.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

#[cfg(test)]
mod tests;
