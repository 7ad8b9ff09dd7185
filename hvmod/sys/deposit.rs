// SPDX-License-Identifier: GPL-2.0

//! Pages of Linux that hvcore holds besides its block.
//!
//! hvcore says where a page is when it gives it back, which may be by way of another partition than
//! the one it was deposited with. Taking its word for that is no weakness: it is below Linux, and
//! could do worse to it than have a wrong page freed.

use super::block::Block;
use crate::hvabi::PAGE_SIZE;
use kernel::prelude::*;

extern "C" {
    fn hvmod_deposit_add(spa: u64, pages: usize, private: bool);
    fn hvmod_deposit_take(spa: u64);
    fn hvmod_deposit_free_taken(sync: extern "C" fn());
    fn hvmod_deposit_free_all();
}

/// Lets hvcore have `block` by `call`; the pages are then hvcore's, each for itself. If it fails,
/// it says how many of them hvcore has, and the others are taken back. If they are `private` memory
/// of a partition they are cleared should hvcore die.
pub(crate) fn give(
    block: Block,
    private: bool,
    call: impl FnOnce() -> Result<(), (Error, usize)>,
) -> Result {
    let (spa, pages) = (block.spa(), block.len() / PAGE_SIZE);
    block.give_away();
    // Before the call: as soon as hvcore has them it may give them back.
    // SAFETY: The pages were this function's, and are in no list.
    unsafe { hvmod_deposit_add(spa, pages, private) };
    call().map_err(|(error, given)| {
        for page in given..pages {
            take(spa + (page * PAGE_SIZE) as u64);
        }
        error
    })
}

/// Takes a page that hvcore gave back, to be freed by [`free_taken`].
pub(crate) fn take(spa: u64) {
    // SAFETY: A page in the list: see the top of this file.
    unsafe { hvmod_deposit_take(spa) };
}

/// Frees the pages that were taken. `sync` has every LP forget that it saw zeros in their place.
/// Process context.
pub(crate) fn free_taken(sync: extern "C" fn()) {
    // SAFETY: The pages in that list are this module's again.
    unsafe { hvmod_deposit_free_taken(sync) };
}

/// Frees all pages that hvcore still has. No LP may be in it any more, nor come into it.
pub(crate) fn take_all() {
    // SAFETY: hvcore is gone, so nobody uses the pages or this list.
    unsafe { hvmod_deposit_free_all() };
}
