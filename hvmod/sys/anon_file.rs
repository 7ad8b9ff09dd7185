// SPDX-License-Identifier: GPL-2.0

//! Files without a name, for objects that a program holds by a descriptor.

use core::{ffi::CStr, marker::PhantomData, ptr::NonNull};
use kernel::{
    error::{from_err_ptr, to_result},
    ffi::{c_int, c_long, c_uint, c_ulong, c_void},
    prelude::*,
};

/// `struct hvmod_anon_ops`.
#[repr(C)]
struct Ops {
    name: *const kernel::ffi::c_char,
    ioctl: extern "C" fn(*mut c_void, c_uint, c_ulong) -> c_long,
    release: extern "C" fn(*mut c_void),
    page: extern "C" fn(*mut c_void, c_ulong) -> *mut c_void,
}

/// `struct file`.
#[repr(C)]
struct RawFile {
    _private: [u8; 0],
}

extern "C" {
    fn hvmod_anon_new(ops: *const Ops, partition: u64, data: *mut c_void) -> *mut RawFile;
    fn hvmod_anon_reserve() -> c_int;
    fn hvmod_anon_install(fd: c_int, file: *mut RawFile);
    fn hvmod_anon_cancel(fd: c_int, file: *mut RawFile);
}

/// What a file is of. It is dropped when the last descriptor and the last mapping are gone.
pub(crate) trait AnonFile: Send + Sync + Sized + 'static {
    /// What /proc shows, with the number of the partition behind it.
    const NAME: &'static CStr;

    /// An ioctl. Calls may run at the same time.
    fn ioctl(&self, cmd: u32, arg: usize) -> Result<isize>;

    /// Number of the partition that it is of.
    fn partition(&self) -> u64;

    /// The page to map at offset `offset`, in pages: its kernel address. It must stay allocated
    /// for as long as `self` lives.
    fn page(&self, _offset: u64) -> Result<NonNull<u8>> {
        Err(ENODEV)
    }
}

struct Table<T>(PhantomData<T>);

impl<T: AnonFile> Table<T> {
    const OPS: &'static Ops = &Ops {
        name: T::NAME.to_bytes_with_nul().as_ptr().cast(),
        ioctl: Self::ioctl,
        release: Self::release,
        page: Self::page,
    };

    extern "C" fn ioctl(data: *mut c_void, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: `data` is the `KBox<T>` that `Pending::new` gave away, until `release`.
        match unsafe { &*data.cast::<T>() }.ioctl(cmd, arg) {
            Ok(value) => value as c_long,
            Err(error) => error.to_errno() as c_long,
        }
    }

    extern "C" fn release(data: *mut c_void) {
        // SAFETY: `data` is the `KBox<T>` that `Pending::new` gave away; this is called once, last.
        drop(unsafe { KBox::from_raw(data.cast::<T>()) });
    }

    extern "C" fn page(data: *mut c_void, offset: c_ulong) -> *mut c_void {
        // SAFETY: As in `ioctl`.
        match unsafe { &*data.cast::<T>() }.page(offset as u64) {
            Ok(address) => address.as_ptr().cast(),
            Err(error) => error.to_ptr(),
        }
    }
}

/// A file that no program can see yet.
///
/// # Invariants
///
/// `fd` is reserved, and `file` is a file that this owns.
pub(crate) struct Pending {
    fd: c_int,
    file: *mut RawFile,
}

impl Pending {
    /// Makes a file of `object`, which is dropped on an error.
    pub(crate) fn new<T: AnonFile>(object: KBox<T>) -> Result<Self> {
        // SAFETY: Process context; no other precondition.
        let fd = unsafe { hvmod_anon_reserve() };
        to_result(fd)?;
        let partition = object.partition();
        let data = KBox::into_raw(object);
        // SAFETY: The functions of the table fit `data`.
        match from_err_ptr(unsafe { hvmod_anon_new(Table::<T>::OPS, partition, data.cast()) }) {
            // INVARIANT: Both just made.
            Ok(file) => Ok(Self { fd, file }),
            Err(error) => {
                // SAFETY: The descriptor was just reserved.
                unsafe { hvmod_anon_cancel(fd, core::ptr::null_mut()) };
                // SAFETY: The file does not exist, so the box is ours again.
                drop(unsafe { KBox::from_raw(data) });
                Err(error)
            }
        }
    }

    /// Shows the file to the program: from now on everything can happen to it.
    pub(crate) fn install(self) -> isize {
        let fd = self.fd;
        // SAFETY: By the invariants; both are given away.
        unsafe { hvmod_anon_install(fd, self.file) };
        core::mem::forget(self);
        fd as isize
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { hvmod_anon_cancel(self.fd, self.file) };
    }
}
