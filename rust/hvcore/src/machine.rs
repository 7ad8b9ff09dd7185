// SPDX-License-Identifier: GPL-2.0

//! What all LPs share: the machine as it was found at launch, memory, and the epoch of
//! translations.

use crate::arch::caps::Caps;
use crate::arch::insn;
use crate::arch::lock::{Once, SpinLock};
use crate::arch::lp::WayOut;
use crate::arch::{msr, public};
use crate::control_registers::Rules;
use crate::mem::ept::EptCaps;
use crate::mem::frame::Frame;
use crate::mem::mtrr::{MtrrState, VARIABLE_MAX};
use crate::mem::space::{Memory, NoRoom, Setup};
use crate::policy;
use crate::policy::cpuid::Clock;
use crate::policy::cr;
use crate::policy::xsave::Layout;
use crate::switch::Present;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hvabi::boot::CoreInfo;
use hvabi::{MAX_LPS, PAGE_SIZE};

/// What does not change after the first launch.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub info: CoreInfo,
    pub caps: Caps,
    pub present: Present,
    /// EPT pointer of the root.
    pub eptp: u64,
    /// SPA of the root's MSR bitmap, and of the children's.
    pub root_msrs: u64,
    pub child_msrs: u64,
    /// SPA of a page that is never accessed: hardware wants an address for the virtualized APIC
    /// page, and turns every access to it into something else.
    pub apic_access: u64,
    /// The control registers of the root and of children.
    pub root_rules: Rules,
    pub child_rules: Rules,
    pub msrs: policy::msr::Caps,
    pub xsave: Layout,
    pub clock: Clock,
}

static CONFIG: Once<Config> = Once::new();

/// Locked after any lock of a partition.
pub static MEMORY: SpinLock<Option<Memory>> = SpinLock::new(None);

/// Set while [`Memory`] has hidden pages that the root reads without an exit.
pub static ANY_SEEN: AtomicBool = AtomicBool::new(false);

/// At exits of the root that are not looks at hidden pages: the next looks are counted again, when
/// this LP has flushed.
#[inline(always)]
pub fn look_away() {
    if ANY_SEEN.load(Ordering::Relaxed) && ANY_SEEN.swap(false, Ordering::Relaxed) {
        MEMORY.lock().as_mut().map(Memory::look_away);
        new_epoch();
    }
}

/// The configuration.
///
/// # Panics
///
/// Before the first launch.
#[inline(always)]
pub fn config() -> &'static Config {
    match CONFIG.get() {
        Some(config) => config,
        None => panic!("no configuration before launch"),
    }
}

/// Where LP `index` goes when it leaves VMX operation.
pub fn way_out(index: u32) -> WayOut {
    let info = &config().info;
    let offset = u64::from(index) * PAGE_SIZE as u64;
    WayOut {
        rip: info.leave_rip,
        frame_va: info.leave_va + offset,
        frame_spa: info.leave_spa + offset,
    }
}

fn read_mtrrs() -> MtrrState {
    const MTRR: u32 = 1 << 12;
    const FIXED: u64 = 1 << 8;
    let mut state =
        MtrrState { def_type: MtrrState::NONE, fixed: [0; 11], variable: [(0, 0); VARIABLE_MAX] };
    if insn::cpuid(1, 0)[3] & MTRR == 0 {
        return state;
    }
    let cap = insn::rdmsr(msr::MTRR_CAP);
    state.def_type = insn::rdmsr(msr::MTRR_DEF_TYPE);
    let numbers = 0..(cap as u32 & 0xff).min(VARIABLE_MAX as u32);
    let ranges = numbers.map(|number| {
        let base = msr::MTRR_PHYS_BASE0 + 2 * number;
        (insn::rdmsr(base), insn::rdmsr(base + 1))
    });
    for (to, range) in state.variable.iter_mut().zip(ranges.filter(MtrrState::is_valid)) {
        *to = range;
    }
    if cap & FIXED != 0 {
        for (value, index) in state.fixed.iter_mut().zip(msr::MTRR_FIXED) {
            *value = insn::rdmsr(index);
        }
    }
    state
}

/// Upper bits of a physical address that name a key of memory encryption (SDM vol. 4,
/// IA32_TME_ACTIVATE).
fn key_bits() -> u32 {
    const TME: u32 = 1 << 13;
    const ENABLED: u64 = 3;
    if insn::cpuid(7, 0)[2] & TME == 0 {
        return 0;
    }
    let active = insn::rdmsr(msr::TME_ACTIVATE);
    if active & ENABLED == ENABLED {
        (active >> 32) as u32 & 0xf
    } else {
        0
    }
}

/// What of this processor shows in children's MSRs.
fn read_msr_caps(phys_bits: u32, clock: Clock) -> policy::msr::Caps {
    let leaf7 = insn::cpuid(7, 0)[3];
    let leaf7_2 = if insn::cpuid(7, 0)[0] >= 2 { insn::cpuid(7, 2)[3] } else { 0 };
    let bit = |number: u32| leaf7 >> number & 1 != 0;
    // The revision is there after a CPUID of leaf 1 (SDM vol. 3, 11.11.7.1).
    insn::cpuid(1, 0);
    policy::msr::Caps {
        phys_bits,
        arch_capabilities: bit(29).then(|| insn::rdmsr(msr::ARCH_CAPABILITIES)),
        platform_id: insn::rdmsr(msr::PLATFORM_ID),
        microcode: insn::rdmsr(msr::BIOS_SIGN_ID),
        spec_ctrl: policy::msr::Caps::spec_ctrl_bits(leaf7, leaf7_2),
        pred_cmd: bit(26),
        flush_cmd: bit(28),
        clock,
    }
}

/// What the EPT of this processor can do.
pub fn ept_caps(caps: &Caps) -> EptCaps {
    EptCaps { one_gib: caps.ept_1gib(), two_mib: true }
}

/// As before the first launch, but for the configuration, which tests do not change.
#[cfg(not(hvcore_image))]
pub fn forget() {
    *MEMORY.lock() = None;
    crate::mem::frame::clear_ram();
    crate::interrupt::forget();
    ANY_SEEN.store(false, Ordering::Relaxed);
    EPOCH.store(1, Ordering::SeqCst);
    SEEN.iter().for_each(|seen| seen.store(OUT, Ordering::SeqCst));
}

/// Sets up what all LPs share, unless it is there.
pub fn init(info: &CoreInfo, caps: &Caps, root_cr4: u64) -> Result<(), NoRoom> {
    if MEMORY.lock().is_some() {
        return Ok(());
    }
    let page = PAGE_SIZE as u64;
    let mtrrs = read_mtrrs();
    let setup = Setup {
        caps: ept_caps(caps),
        phys_bits: caps.phys_bits - key_bits(),
        ram_end: info.ram_end,
        block: info.block_spa..info.block_spa + info.block_size,
        public: info.public_spa..info.public_spa + info.public_pages * page,
    };
    let mut memory = Memory::new(&setup, &mtrrs, crate::arch::image::initial_pool(info))?;

    let mut bitmap = |fill: fn(&mut [u64; 512])| -> Result<u64, NoRoom> {
        let mut frame: Frame = memory.pool.pop().ok_or(NoRoom)?;
        fill(frame.words_mut());
        Ok(frame.spa().raw())
    };
    let root_msrs = bitmap(policy::msr::fill_root)?;
    let child_msrs = bitmap(policy::msr::fill_child)?;
    public::set_log(info.public_spa + stats_bytes(info));

    let clock = Clock::new(info.tsc_khz);
    let fixed =
        cr::Fixed { cr0_0: caps.cr0_fixed.0, cr4_0: caps.cr4_fixed.0, cr4_1: caps.cr4_fixed.1 };
    CONFIG.set(Config {
        info: *info,
        caps: *caps,
        present: Present::detect(root_cr4, info.measures),
        eptp: memory.eptp(),
        root_msrs,
        child_msrs,
        apic_access: memory.apic_spa().raw(),
        root_rules: Rules { policy: cr::Policy::root(fixed) },
        child_rules: Rules { policy: cr::Policy::child(fixed) },
        msrs: read_msr_caps(caps.phys_bits, clock),
        xsave: Layout::new(|subleaf| insn::cpuid(0xd, subleaf)),
        clock,
    });
    *MEMORY.lock() = Some(memory);
    Ok(())
}

/// Bytes of the public pages before the log: a page for each LP.
fn stats_bytes(info: &CoreInfo) -> u64 {
    u64::from(info.lp_count) * PAGE_SIZE as u64
}

/// Number of changes that took a translation away from somebody.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// The epoch up to which each LP has flushed; `OUT` while it can use no translation.
static SEEN: [AtomicU64; MAX_LPS] = [const { AtomicU64::new(OUT) }; MAX_LPS];

const OUT: u64 = u64::MAX;

/// A translation was taken away: what depends on it must wait for [`everyone_saw`] this.
pub fn new_epoch() -> u64 {
    EPOCH.fetch_add(1, Ordering::SeqCst) + 1
}

/// The current epoch.
pub fn epoch() -> u64 {
    EPOCH.load(Ordering::SeqCst)
}

/// The epoch that every LP has reached.
pub fn everyone_saw() -> u64 {
    let lps = SEEN.iter().take(config().info.lp_count as usize);
    lps.map(|seen| seen.load(Ordering::SeqCst)).min().unwrap_or(OUT)
}

/// Before this LP enters any guest: forgets translations if any were taken away since it last did.
/// True if there were.
///
/// The order matters: the epoch is read before the flush, so that a change between the two is only
/// flushed once more.
#[inline(always)]
pub fn catch_up(index: u32) -> bool {
    let epoch = EPOCH.load(Ordering::SeqCst);
    match SEEN.get(index as usize) {
        Some(seen) if seen.load(Ordering::Relaxed) != epoch => {
            insn::invept_all();
            insn::invvpid_all();
            seen.store(epoch, Ordering::SeqCst);
            true
        }
        _ => false,
    }
}

/// This LP uses no translation until it calls [`catch_up`] again.
pub fn stand_back(index: u32) {
    if let Some(seen) = SEEN.get(index as usize) {
        seen.store(OUT, Ordering::SeqCst);
    }
}
