// SPDX-License-Identifier: GPL-2.0

//! hvmod: slides hvcore, a micro-hypervisor, beneath the running kernel, which thereby becomes its
//! root partition, and offers child partitions with the calls of `linux/mshv.h`.
//!
//! | module | what |
//! |---|---|
//! | [`requirements`] | can this machine do it, and if not why |
//! | [`loader`], [`layout`], [`pagetables`] | hvcore's image in memory |
//! | [`launch`], [`lps`] | all processors go to hvcore and come back |
//! | [`hypercall`] | what hvcore can be asked for |
//! | [`core_log`] | what hvcore has to say |
//! | [`device`], [`control`], [`debugfs`] | what programs can ask for |
//! | [`sys`] | everything that is `unsafe` |

use kernel::prelude::*;

#[path = "../rust/hvabi/src/lib.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, unused_attributes)]
mod hvabi;

// hvabi is a crate of its own elsewhere, and names its parts as such.
use hvabi::{vp, PAGE_SIZE};

mod core_log;
mod launch;
mod layout;
mod loader;
mod lps;
mod pagetables;
mod requirements;
mod sys;

module! {
    type: HvMod,
    name: "hvmod",
    authors: ["The hvmod authors"],
    description: "Micro-hypervisor with Linux as its root partition",
    license: "GPL",
}

struct HvMod {
    _launched: launch::Launched,
}

impl kernel::Module for HvMod {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        sys::loaded::init();
        let launched = launch::Launched::new()?;
        pr_info!("{} processors are in the root partition\n", lps::count());
        Ok(HvMod {
            _launched: launched,
        })
    }
}
