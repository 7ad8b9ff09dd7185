// SPDX-License-Identifier: GPL-2.0

//! hvmod: slides hvcore, a micro-hypervisor, beneath the running kernel, which thereby becomes its
//! root partition, and offers child partitions with the calls of `linux/mshv.h`.
//!
//! | module | what |
//! |---|---|
//! | [`requirements`] | can this machine do it, and if not why |
//! | [`loader`], [`layout`], [`pagetables`] | hvcore's image in memory |
//! | [`measures`] | against speculation |
//! | [`launch`], [`lps`] | all processors go to hvcore and come back |
//! | [`hypercall`] | what hvcore can be asked for |
//! | [`core_log`], [`watch`] | what hvcore has to say |
//! | [`device`], [`control`], [`debugfs`] | what programs can ask for |
//! | [`sys`] | everything that is `unsafe` |

use core::borrow::Borrow;
use kernel::{miscdevice::MiscDeviceRegistration, prelude::*};

#[path = "../rust/hvabi/src/lib.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unused_attributes)]
mod hvabi;

// hvabi is a crate of its own elsewhere, and names its parts as such.
use hvabi::{vp, PAGE_SIZE};

mod control;
mod core_log;
mod debugfs;
mod device;
mod hypercall;
mod launch;
mod layout;
mod loader;
mod lps;
mod measures;
mod mshv;
mod pagetables;
mod requirements;
#[path = "../rust/speculation/src/lib.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unused_attributes)]
mod speculation;
mod sys;
#[path = "../rust/tlfs/src/lib.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unused_attributes)]
mod tlfs;
mod watch;

module! {
    type: HvMod,
    name: "hvmod",
    authors: ["The hvmod authors"],
    description: "Micro-hypervisor with Linux as its root partition",
    license: "GPL",
    params: {
        mshv: u8 {
            default: 1,
            description: "Whether the device appears as /dev/mshv too (default: 1)",
        },
        speculation: i32 {
            default: -1,
            description: "Measures on a switch between partitions: 1 IBPB, 2 RSB filling, 4 VERW, 8 L1D flush, or a sum; -1 for what the processor needs (default: -1)",
        },
    },
}

/// The loaded module. Fields are dropped in this order: first nobody can open the device any more,
/// last hvcore goes.
#[pin_data]
struct HvMod {
    mshv: Option<Pin<KBox<MiscDeviceRegistration<device::Device>>>>,
    #[pin]
    hvmod: MiscDeviceRegistration<device::Device>,
    debugfs: sys::debugfs::Dir,
    partitions: mshv::Service,
    watch: watch::Watch,
    launched: launch::Launched,
}

impl kernel::InPlaceModule for HvMod {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        sys::loaded::init();
        try_pin_init!(Self {
            launched: launch::Launched::new()?,
            watch: watch::Watch::new(),
            debugfs: debugfs::new(),
            partitions: mshv::Service::new()?,
            hvmod <- device::register(),
            // Linux 7.2 gives a reference here, 7.3 the value.
            mshv: if *Borrow::<u8>::borrow(&module_parameters::mshv.value()) != 0 {
                device::register_mshv(&hvmod)?
            } else {
                None
            },
        })
    }
}
