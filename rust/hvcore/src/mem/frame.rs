// SPDX-License-Identifier: GPL-2.0

//! Pages that hvcore owns, and typed access to them.
//!
//! Ownership of a page is a value: a [`Frame`] (contents unspecified), a [`PageBox<T>`] (a `T` lies
//! in it), or a link in a [`Node`] (a table that hardware walks). None can be copied, and each is
//! made from another one by moving it, so that no page has two uses. Dropping one loses its page:
//! give it to a [`Pool`](super::pool::Pool).

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, Ordering};

use super::addr::{Page, Spa};
use super::owner::Claimed;

/// Words of a page.
pub const WORDS: usize = 512;

/// Where hvcore sees the byte at SPA `spa`.
#[cfg(hvcore_image)]
pub(crate) fn direct(spa: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((hvabi::boot::DIRECT_BASE + spa) as usize)
}

#[cfg(not(hvcore_image))]
pub(crate) use arena::{clear_ram, direct};

/// RAM for tests on the host: each thread has its own, from SPA 0 on.
#[cfg(not(hvcore_image))]
mod arena {
    extern crate std;
    use std::alloc::{alloc_zeroed, Layout};
    use std::cell::RefCell;
    use std::thread_local;
    use std::vec;
    use std::vec::Vec;

    /// Bytes of RAM.
    const SIZE: usize = 256 << 20;

    thread_local! {
        static BASE: usize = {
            // Aligned by hand: to ask the allocator for it would make it touch all of it.
            let layout = Layout::from_size_align(SIZE + 4096, 16).expect("layout");
            // SAFETY: the layout's size is not 0. The memory is never freed.
            let base = unsafe { alloc_zeroed(layout) };
            base.expose_provenance().next_multiple_of(4096)
        };
    }

    thread_local! {
        /// A bit for each page that may hold something.
        static USED: RefCell<Vec<u64>> = RefCell::new(vec![0; SIZE / 4096 / 64]);
    }

    /// All of RAM is zeros again. Nobody has anything in it.
    pub fn clear_ram() {
        let used: Vec<u64> = USED.with(|used| used.borrow().clone());
        for (word, bits) in used.into_iter().enumerate().filter(|(_, bits)| *bits != 0) {
            for page in (0..64).filter(|page| bits >> page & 1 != 0) {
                let at = direct((word as u64 * 64 + page) * 4096);
                // SAFETY: a page of the thread's own RAM, to which the caller has no reference.
                unsafe { at.write_bytes(0, 4096) };
            }
        }
        USED.with(|used| used.borrow_mut().fill(0));
    }

    pub fn direct(spa: u64) -> *mut u8 {
        assert!(spa < SIZE as u64, "SPA {spa:#x} is outside the tests' RAM");
        USED.with(|used| used.borrow_mut()[spa as usize / 4096 / 64] |= 1 << (spa / 4096 % 64));
        BASE.with(|base| core::ptr::with_exposed_provenance_mut(*base + spa as usize))
    }
}

/// A 4 KiB page that hvcore owns and has no other use for. Contents are unspecified.
///
/// Having one proves that nothing else in hvcore, and no LP's translations, lead to the page.
#[derive(Debug)]
#[must_use = "the page is lost"]
pub struct Frame {
    page: Page,
}

impl Frame {
    /// Takes over the page at `spa` at launch. None if that is not the address of a page.
    ///
    /// # Safety
    ///
    /// The page is mapped in the direct map, belongs to hvcore, and nothing else uses it.
    pub unsafe fn adopt(spa: u64) -> Option<Frame> {
        Page::proven(spa).map(|page| Frame { page })
    }

    /// The frame of a page that the owner table just gave to hvcore.
    pub(super) fn claimed(claim: Claimed) -> Frame {
        Frame { page: claim.page() }
    }

    pub fn spa(&self) -> Spa {
        self.page.spa()
    }

    pub fn page(&self) -> Page {
        self.page
    }

    pub fn words(&self) -> &[u64; WORDS] {
        // SAFETY: the page is in the direct map, aligned, initialized (any bits are a u64), and
        // borrowed from its only token.
        unsafe { &*direct(self.page.spa().raw()).cast() }
    }

    pub fn words_mut(&mut self) -> &mut [u64; WORDS] {
        // SAFETY: as for `words`, and the token is borrowed exclusively.
        unsafe { &mut *direct(self.page.spa().raw()).cast() }
    }

    pub fn zero(&mut self) {
        self.words_mut().fill(0);
    }
}

/// Types for which a page of zeroes is a value.
///
/// # Safety
///
/// All bytes zero is a valid value, and the type needs no drop.
pub unsafe trait Zeroable: Sized {}

// SAFETY: zero is a number.
unsafe impl Zeroable for u8 {}
// SAFETY: zero is a number.
unsafe impl Zeroable for u32 {}
// SAFETY: zero is a number.
unsafe impl Zeroable for u64 {}
// SAFETY: zero is a number.
unsafe impl Zeroable for AtomicU64 {}
// SAFETY: zero is None, guaranteed for a transparent wrapper of NonZeroU64.
unsafe impl<T> Zeroable for Option<PageBox<T>> {}
// SAFETY: an array of zero values.
unsafe impl<T: Zeroable, const N: usize> Zeroable for [T; N] {}

/// Declares a struct whose fields are all [`Zeroable`], and so is itself.
macro_rules! zeroable {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$doc:meta])* $fvis:vis $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[repr(C)]
        $vis struct $name { $($(#[$doc])* $fvis $field: $type),* }

        const _: () = {
            const fn zeroable<T: $crate::mem::frame::Zeroable>() {}
            $(zeroable::<$type>();)*
        };

        // SAFETY: every field's type is zeroable, as the compiler checked above.
        unsafe impl $crate::mem::frame::Zeroable for $name {}
    };
}
pub(crate) use zeroable;

/// A page of hvcore with a `T` in it.
#[repr(transparent)]
#[must_use = "the page is lost"]
pub struct PageBox<T> {
    page: Page,
    owns: PhantomData<T>,
}

impl<T> core::fmt::Debug for PageBox<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PageBox({:#x})", self.page.spa().raw())
    }
}

impl<T: Zeroable> PageBox<T> {
    /// Clears the page.
    pub fn zeroed(mut frame: Frame) -> PageBox<T> {
        const {
            assert!(size_of::<T>() <= 4096 && align_of::<T>() <= 4096);
            assert!(!core::mem::needs_drop::<T>());
        }
        frame.zero();
        PageBox { page: frame.page, owns: PhantomData }
    }

    /// Clears only what the `T` takes.
    pub fn headed(frame: Frame) -> PageBox<T> {
        const { assert!(size_of::<T>() <= 4096 && align_of::<T>() <= 4096) };
        // SAFETY: the page is in the direct map, aligned, large enough, and nobody else's.
        unsafe { direct(frame.page.spa().raw()).cast::<T>().write_bytes(0, 1) };
        PageBox { page: frame.page, owns: PhantomData }
    }

    /// The page without its contents. What the `T` owns must have been taken out.
    pub fn into_frame(self) -> Frame {
        Frame { page: self.page }
    }

    pub fn spa(&self) -> Spa {
        self.page.spa()
    }
}

impl<T: Zeroable> Deref for PageBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the page is in the direct map, holds a valid `T` since `zeroed` made it, and is
        // borrowed from its only token.
        unsafe { &*direct(self.page.spa().raw()).cast() }
    }
}

impl<T: Zeroable> DerefMut for PageBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`, and the token is borrowed exclusively.
        unsafe { &mut *direct(self.page.spa().raw()).cast() }
    }
}

/// A table of 512 entries that hardware walks.
///
/// INVARIANT: an entry with [`Node::LINK`] set owns the node whose address it holds. Only `link`
/// sets that bit and only `unlink` clears it; hardware ignores it (SDM vol. 3, tables 30-1 to 30-6).
///
/// Entries are read and written as whole words, since the processors walk the table while it
/// changes: one store changes one translation at a time, and a table that gets linked is complete.
#[repr(C, align(4096))]
pub struct Node([AtomicU64; WORDS]);

// SAFETY: zero is an entry that is not present.
unsafe impl Zeroable for Node {}

impl Node {
    const LINK: u64 = 1 << 52;

    /// Bits of an entry that hold an address.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

    fn entry(&self, index: usize) -> &AtomicU64 {
        &self.0[index % WORDS]
    }

    /// A table with these entries, none a link.
    pub fn filled(frame: Frame, words: impl Fn(u64) -> u64) -> PageBox<Node> {
        let mut node = PageBox::<Node>::zeroed(frame);
        for index in 0..WORDS {
            node.set(index, words(index as u64));
        }
        node
    }

    pub fn get(&self, index: usize) -> u64 {
        self.entry(index).load(Ordering::Relaxed)
    }

    pub fn is_link(&self, index: usize) -> bool {
        self.get(index) & Node::LINK != 0
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|entry| entry.load(Ordering::Relaxed) == 0)
    }

    /// Writes an entry that links nothing. A link is left alone.
    pub fn set(&mut self, index: usize, word: u64) {
        debug_assert!(!self.is_link(index));
        if !self.is_link(index) {
            self.entry(index).store(word & !Node::LINK, Ordering::Release);
        }
    }

    /// Puts `child` below the entry, which links nothing yet; `flags` are for the hardware.
    pub fn link(&mut self, index: usize, child: PageBox<Node>, flags: u64) {
        debug_assert!(!self.is_link(index));
        if !self.is_link(index) {
            let word = child.spa().raw() | flags & !Node::ADDRESS | Node::LINK;
            // Release: the child's entries are visible before it can be reached.
            self.entry(index).store(word, Ordering::Release);
        }
    }

    /// Takes the table below an entry out and writes `word` in its place. Processors may still
    /// have the way to it cached.
    pub fn unlink(&mut self, index: usize, word: u64) -> Option<PageBox<Node>> {
        let page = self.linked(index)?;
        self.entry(index).store(word & !Node::LINK, Ordering::Release);
        Some(PageBox { page, owns: PhantomData })
    }

    pub fn child(&self, index: usize) -> Option<&Node> {
        let page = self.linked(index)?;
        // SAFETY: by the invariant the entry owns a node, which is in the direct map; it can not
        // be unlinked while `self` is borrowed.
        Some(unsafe { &*direct(page.spa().raw()).cast() })
    }

    pub fn child_mut(&mut self, index: usize) -> Option<&mut Node> {
        let page = self.linked(index)?;
        // SAFETY: as for `child`, and `self` is borrowed exclusively.
        Some(unsafe { &mut *direct(page.spa().raw()).cast() })
    }

    fn linked(&self, index: usize) -> Option<Page> {
        let word = self.get(index);
        if word & Node::LINK == 0 {
            return None;
        }
        Page::proven(word & Node::ADDRESS)
    }
}

/// A page of the root that hvcore reads and writes, for instance the run page of a VP. The root may
/// change it at any time, on any LP: every word that is read is hostile and is read once.
///
/// Having one proves that the page is the root's and stays so: it is counted as shared, see
/// [`Owners::open`](super::owner::Owners::open).
#[derive(Debug)]
#[must_use = "the page stays shared"]
pub struct RootPage {
    page: Page,
}

impl RootPage {
    /// INVARIANT: the caller counted the page as shared.
    pub(super) fn opened(page: Page) -> RootPage {
        RootPage { page }
    }

    pub fn page(&self) -> Page {
        self.page
    }

    pub fn words(&self) -> &[AtomicU64; WORDS] {
        root_words(self.page)
    }
}

/// The words of a page that the root owns for as long as `'a`.
pub(super) fn root_words<'a>(page: Page) -> &'a [AtomicU64; WORDS] {
    // SAFETY: a `Page` is in the direct map, and hvcore has no token for a page of the root, so
    // that all its accesses are these atomic ones.
    unsafe { &*direct(page.spa().raw()).cast() }
}

/// The words of a page, as an LP writes them that has not flushed yet.
#[cfg(not(hvcore_image))]
pub fn host_words<'a>(page: Page) -> &'a [AtomicU64; WORDS] {
    root_words(page)
}

/// A frame for tests.
#[cfg(not(hvcore_image))]
pub fn host_frame(number: u64) -> Frame {
    // SAFETY: the arena is the tests' own; a test makes each frame once.
    unsafe { Frame::adopt(number * 4096) }.expect("page")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_owns_its_table() {
        let mut root = PageBox::<Node>::zeroed(host_frame(1));
        let leaf = Node::filled(host_frame(2), |i| i << 12 | 7);
        root.link(5, leaf, 7);
        assert_eq!(root.get(5) & !Node::LINK, 0x2007);
        assert_eq!(root.child(5).unwrap().get(3), 0x3007);
        assert!(root.child(4).is_none() && !root.is_empty());
        root.child_mut(5).unwrap().set(3, 0);
        let leaf = root.unlink(5, 0).unwrap();
        assert_eq!(leaf.get(3), 0);
        assert!(root.unlink(5, 0).is_none() && root.is_empty());
        assert_eq!(leaf.into_frame().page().number(), 2);
    }

    #[test]
    fn a_leaf_can_not_pose_as_a_link() {
        let mut root = PageBox::<Node>::zeroed(host_frame(1));
        root.set(0, u64::MAX);
        assert!(root.child(0).is_none());
    }
}
