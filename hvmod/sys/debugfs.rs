// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs: see `debugfs.c`.

use core::marker::PhantomData;
use kernel::{
    ffi::{c_char, c_void},
    fmt,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
};

/// `struct dentry`.
#[repr(C)]
struct RawDentry {
    _private: [u8; 0],
}

extern "C" {
    fn hvmod_debugfs_dir(name: *const c_char) -> *mut RawDentry;
    fn hvmod_debugfs_file(
        dir: *mut RawDentry,
        name: *const c_char,
        show: extern "C" fn(*mut c_void),
    );
    fn hvmod_debugfs_remove(dir: *mut RawDentry);
}

/// A file's content.
pub(crate) trait Show {
    /// What it is called.
    const NAME: &'static CStr;

    /// Writes it. Process context.
    fn show(f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

struct Content<T>(PhantomData<T>);

impl<T: Show> fmt::Display for Content<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::show(f)
    }
}

/// A directory, which is there while this exists. The module is, while one of its files is open.
///
/// # Invariants
///
/// The pointer is what `hvmod_debugfs_dir` gave.
pub(crate) struct Dir(*mut RawDentry);

// SAFETY: The functions take it on any thread.
unsafe impl Send for Dir {}
// SAFETY: As above, at the same time.
unsafe impl Sync for Dir {}

impl Dir {
    /// Makes an empty one. That there is no debugfs is no error.
    pub(crate) fn new(name: &'static CStr) -> Self {
        // SAFETY: A string; process context.
        // INVARIANT: As given.
        Self(unsafe { hvmod_debugfs_dir(name.as_char_ptr()) })
    }

    /// With a file, which root can read.
    pub(crate) fn with<T: Show>(self) -> Self {
        extern "C" fn show<T: Show>(file: *mut c_void) {
            // SAFETY: Linux gives a `seq_file` that is being shown.
            let file = unsafe { SeqFile::from_raw(file.cast()) };
            seq_print!(file, "{}", Content::<T>(PhantomData));
        }
        // SAFETY: By the invariant; the function lives as long as the module, which is longer than
        // the file.
        unsafe { hvmod_debugfs_file(self.0, T::NAME.as_char_ptr(), show::<T>) };
        self
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // SAFETY: By the invariant; not used after this.
        unsafe { hvmod_debugfs_remove(self.0) };
    }
}
