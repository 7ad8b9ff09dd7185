// SPDX-License-Identifier: GPL-2.0

//! `/dev/hvmod`, and `/dev/mshv`, which is the same under the name that programs for mshv open.
//!
//! The nodes belong to root alone: that is devtmpfs's default, and hvmod sets no other mode.

use crate::{control, loader::Core, sys};
use kernel::{
    fs::File,
    ioctl::_IOC_TYPE,
    miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration},
    prelude::*,
    sync::{Arc, ArcBorrow},
};

const MSHV: &CStr = c"mshv";

/// `MSHV_IOCTL`.
const MSHV_TYPE: u32 = 0xb8;

/// An open device.
pub(crate) struct Device;

/// Registers `/dev/hvmod`.
pub(crate) fn register() -> impl PinInit<MiscDeviceRegistration<Device>, Error> {
    MiscDeviceRegistration::register(MiscDeviceOptions { name: c"hvmod" })
}

/// Registers `/dev/mshv` too, unless another driver did.
pub(crate) fn register_mshv(
    hvmod: &MiscDeviceRegistration<Device>,
) -> Result<Option<Pin<KBox<MiscDeviceRegistration<Device>>>>> {
    if sys::device::misc_exists(hvmod, MSHV) {
        pr_warn!("another driver has /dev/mshv: programs for mshv must open /dev/hvmod\n");
        return Ok(None);
    }
    let options = MiscDeviceOptions { name: MSHV };
    KBox::pin_init(MiscDeviceRegistration::register(options), GFP_KERNEL).map(Some)
}

#[vtable]
impl MiscDevice for Device {
    // A reference, and with the file's reference to the module all that a file needs.
    type Ptr = Arc<Core>;

    fn open(file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Arc<Core>> {
        sys::device::keep_module(file)?;
        sys::loaded::get().ok_or(ENODEV)
    }

    fn ioctl(core: ArcBorrow<'_, Core>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match _IOC_TYPE(cmd) {
            control::TYPE => control::ioctl(&core, cmd, arg),
            MSHV_TYPE => crate::mshv::device_ioctl(cmd, arg),
            _ => Err(ENOTTY),
        }
    }
}
