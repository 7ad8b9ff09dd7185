// SPDX-License-Identifier: GPL-2.0

//! hvcore: the micro-hypervisor beneath Linux, and all that has to be trusted.
//!
//! It owns VMX operation on every LP, the root's and the children's EPT, who owns which page, and
//! the switch between them. It has no device, no decoder, no scheduler and no allocator.
//!
//! Where things are:
//!
//! * [`arch`]: what touches the processor, and with [`mem`] the only place for `unsafe`;
//! * [`mem`]: frames, page tables, memory types, ownership;
//! * [`policy`]: which CPUID, MSR and control-register values the root and a child get;
//! * [`apic`]: the virtual local APIC;
//! * [`machine`]: what all LPs share;
//! * [`launch`], [`root`], [`hypercall`]: an LP's life in the root partition;
//! * [`partition`], [`vp`], [`child`], [`child_exit`]: the children, and [`interrupt`]s for them;
//! * [`switch`], [`event`], [`control_registers`], [`vp_state`]: the state of a guest;
//! * [`death`]: what hvcore does when it finds itself broken.

#![cfg_attr(not(test), no_std)]

/// A place where the tests of hvcore's death have it die; see `arch::inject`. Nothing at all in
/// images that are not built for those tests.
macro_rules! inject {
    ($lp:expr, $point:ident) => {{
        #[cfg(hvcore_inject)]
        $crate::arch::inject::at($lp, $crate::arch::inject::Point::$point);
    }};
}

pub mod apic;
pub mod apic_step;
pub mod arch;
pub mod child;
pub mod child_exit;
pub mod control_registers;
pub mod death;
pub mod event;
pub mod hypercall;
pub mod interrupt;
pub mod launch;
pub mod machine;
pub mod mem;
pub mod partition;
pub mod policy;
pub mod root;
#[cfg(not(hvcore_image))]
pub mod stage;
#[cfg(not(hvcore_image))]
mod stage_guest;
pub mod switch;
pub mod vp;
pub mod vp_state;
