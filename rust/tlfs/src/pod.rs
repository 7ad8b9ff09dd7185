// SPDX-License-Identifier: GPL-2.0

//! Plain old data: structures that are nothing but their bytes.

use core::mem::{size_of, MaybeUninit};

/// A type for which every bit pattern is a value and which has no padding.
///
/// # Safety
///
/// The type is `repr(C)` (or a primitive), consists of [`Pod`] fields only, and has no padding.
pub unsafe trait Pod: Copy + 'static {}

// SAFETY: Integers have no padding and no invalid values; arrays of such neither.
unsafe impl Pod for u8 {}
// SAFETY: As above.
unsafe impl Pod for u16 {}
// SAFETY: As above.
unsafe impl Pod for u32 {}
// SAFETY: As above.
unsafe impl Pod for i32 {}
// SAFETY: As above.
unsafe impl Pod for u64 {}
// SAFETY: As above.
unsafe impl<T: Pod, const N: usize> Pod for [T; N] {}

/// The value with all bytes zero.
pub fn zeroed<T: Pod>() -> T {
    // SAFETY: Every bit pattern is a value of a `Pod` type.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// The bytes of `value`.
pub fn bytes_of<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: A `Pod` type has no padding, so all its bytes are initialized.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The bytes of `value`, to write to.
pub fn bytes_of_mut<T: Pod>(value: &mut T) -> &mut [u8] {
    // SAFETY: As in `bytes_of`, and every bit pattern that is written is a value.
    unsafe { core::slice::from_raw_parts_mut(core::ptr::from_mut(value).cast(), size_of::<T>()) }
}

/// Reads a `T` from the bytes at `offset`, if they are all there.
pub fn read_at<T: Pod>(bytes: &[u8], offset: usize) -> Option<T> {
    let end = offset.checked_add(size_of::<T>())?;
    let source = bytes.get(offset..end)?;
    let mut value = zeroed::<T>();
    bytes_of_mut(&mut value).copy_from_slice(source);
    Some(value)
}

/// Writes `value` to the bytes at `offset`, if there is room.
pub fn write_at<T: Pod>(bytes: &mut [u8], offset: usize, value: &T) -> Option<()> {
    let end = offset.checked_add(size_of::<T>())?;
    bytes.get_mut(offset..end)?.copy_from_slice(bytes_of(value));
    Some(())
}

/// The bytes at the start of `bytes` as a `T`, if they are all there and aligned.
pub fn view_mut<T: Pod>(bytes: &mut [u8]) -> Option<&mut T> {
    let pointer = bytes.as_mut_ptr().cast::<T>();
    if bytes.len() < size_of::<T>() || !pointer.is_aligned() {
        return None;
    }
    // SAFETY: Inside of `bytes`, aligned, and every content is a `T` and the other way round.
    Some(unsafe { &mut *pointer })
}

/// Declares structures of the ABI: `repr(C)`, all fields public, [`Pod`] with the absence of
/// padding checked when compiled.
macro_rules! pod_struct {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }

            const _: () = assert!(
                core::mem::size_of::<$name>() == 0 $(+ core::mem::size_of::<$ty>())*,
                "padding in a structure of the ABI"
            );

            // SAFETY: `repr(C)`, the fields are `Pod` (checked by `assert_pod`), and the sizes of
            // the fields add up to the size of the structure, so there is no padding.
            unsafe impl super::pod::Pod for $name {}

            const _: () = {
                const fn assert_pod<T: super::pod::Pod>() {}
                $(assert_pod::<$ty>();)*
            };
        )*
    };
}
pub(crate) use pod_struct;
