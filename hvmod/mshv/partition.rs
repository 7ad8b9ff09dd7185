// SPDX-License-Identifier: GPL-2.0

//! A partition and its file.

use super::{
    hvcall::{self, Target},
    intercept::Installed,
    interface::Interface,
    ioeventfd::{self, Doorbells},
    irqfd::{self, Irqfds},
    private,
    region::{self, Regions, Request},
    registry,
    routing::{self, Routes},
    user,
    vp::{self, Vp},
};
use crate::{
    control,
    hvabi::MAX_VPS,
    hypercall::{self, CorePartition, PartitionId},
    sys::{
        anon_file::{AnonFile, Pending},
        killable::Killable,
    },
    tlfs::{
        mshv::{self as uapi, pt_flags, CreatePartition, CreatePartitionV2, UserMemRegion},
        property::Properties,
    },
};
use core::ffi::CStr;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex, SetOnce,
    },
};

/// What one call on the partition's file at a time may change.
pub(super) struct Setup {
    pub(super) initialized: bool,
    /// It has private memory.
    pub(super) private: bool,
    pub(super) properties: Properties,
}

/// A child partition. Fields are dropped in this order: first hvcore's part goes, which uses the
/// others.
#[pin_data(PinnedDrop)]
pub(crate) struct Partition {
    core: CorePartition,
    /// The property TIME_FREEZE.
    pub(super) frozen: Atomic<bool>,
    /// See [`while_stopped`](Partition::while_stopped).
    stopped: Atomic<bool>,
    vps: [SetOnce<Arc<Vp>>; MAX_VPS],
    pub(super) setup: Killable<Setup>,
    #[pin]
    pub(super) regions: Mutex<Regions>,
    #[pin]
    pub(super) routes: Mutex<Routes>,
    #[pin]
    pub(super) irqfds: Mutex<Irqfds>,
    #[pin]
    pub(super) doorbells: Doorbells,
    #[pin]
    pub(super) installed: Installed,
    #[pin]
    pub(super) interface: Mutex<Interface>,
}

impl Partition {
    fn new(properties: Properties) -> Result<Arc<Self>> {
        let setup = Killable::new(Setup {
            initialized: false,
            private: false,
            properties,
        })?;
        let core = hypercall::partition_create()?;
        let id = core.id();
        registry::add(id)?;
        let made = Arc::pin_init(
            pin_init!(Self {
                core,
                frozen: Atomic::new(false),
                stopped: Atomic::new(false),
                vps: [const { SetOnce::new() }; MAX_VPS],
                setup,
                regions <- new_mutex!(Regions::new()),
                routes <- new_mutex!(Routes::new()),
                irqfds <- new_mutex!(Irqfds::new()),
                doorbells <- Doorbells::new(),
                installed <- Installed::new(),
                interface <- new_mutex!(Interface::new()),
            }),
            GFP_KERNEL_ACCOUNT,
        );
        made.inspect_err(|_| registry::remove(id))
    }

    /// Its number in hvcore.
    pub(super) fn id(&self) -> PartitionId {
        self.core.id()
    }

    /// A VP of this partition. In any context.
    #[inline]
    pub(super) fn vp(&self, index: u32) -> Option<&Arc<Vp>> {
        self.vps.get(index as usize)?.as_ref()
    }

    /// Keeps `vp`, of which this partition has none yet.
    pub(super) fn add_vp(&self, vp: Arc<Vp>) {
        let index = vp.index();
        self.vps[index as usize].populate(vp);
    }

    /// `spinning` waits for another VP: lets one run that could. Those behind it come first, so that
    /// each gets its turn.
    pub(super) fn give_turn_from(&self, spinning: &Vp) {
        let (before, behind) = self.vps.split_at(spinning.index() as usize);
        let others = Iterator::chain(behind.iter().skip(1), before);
        let _ = others.filter_map(SetOnce::as_ref).any(|vp| vp.give_turn());
    }

    /// Does `work` while no VP runs. One at a time: the caller has `setup`.
    pub(super) fn while_stopped<T>(&self, work: impl FnOnce() -> T) -> T {
        self.stopped.store(true, Relaxed);
        // Who runs one has its state, and looks again before the next entry.
        self.vps
            .iter()
            .filter_map(SetOnce::as_ref)
            .for_each(|vp| drop(vp.lock()));
        let result = work();
        self.stopped.store(false, Relaxed);
        self.notify(u64::MAX);
        result
    }

    /// Whether VPs wait until [`while_stopped`](Self::while_stopped) is done.
    #[inline]
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    fn initialize(&self, setup: &mut Setup) -> Result<isize> {
        // hvcore's partitions are complete when they are made.
        setup.initialized = true;
        Ok(0)
    }

    fn set_memory(&self, setup: &Setup, arg: usize) -> Result<isize> {
        let request = Request::new(&user::read::<UserMemRegion>(arg)?)?;
        if request.is_unmap() {
            let region = self.regions.lock().take(&request)?;
            region::unmap(self.id(), region);
        } else {
            self.regions.lock().check_free(&request)?;
            if !setup.initialized {
                return Err(EIO);
            }
            // `setup` is locked, so nobody maps anything else meanwhile, nor starts tracking.
            let tracked = self.regions.lock().is_tracked();
            let region = region::map(self.id(), request, tracked)?;
            self.regions.lock().add(self.id(), region)?;
        }
        let bytes = self.regions.lock().bytes();
        registry::set_shared_bytes(self.id(), bytes);
        Ok(0)
    }

    /// Notes that the partition got private memory.
    pub(super) fn add_private_bytes(&self, bytes: u64) {
        registry::add_private_bytes(self.id(), bytes);
    }
}

#[pinned_drop]
impl PinnedDrop for Partition {
    fn drop(self: Pin<&mut Self>) {
        registry::remove(self.id());
    }
}

/// The file of a partition.
struct PartitionFile(Arc<Partition>);

impl AnonFile for PartitionFile {
    const NAME: &'static CStr = c"mshv_partition";

    fn ioctl(&self, cmd: u32, arg: usize) -> Result<isize> {
        let partition = &self.0;
        let mut setup = partition.setup.lock()?;
        match cmd {
            uapi::INITIALIZE_PARTITION => partition.initialize(&mut setup),
            uapi::SET_GUEST_MEMORY => partition.set_memory(&setup, arg),
            uapi::CREATE_VP => vp::create(partition, &setup, arg),
            uapi::IRQFD => irqfd::ioctl(partition, arg),
            uapi::IOEVENTFD => ioeventfd::ioctl(partition, arg),
            uapi::SET_MSI_ROUTING => routing::ioctl(partition, arg),
            uapi::GET_GPAP_ACCESS_BITMAP => partition.access_bitmap(arg),
            uapi::ROOT_HVCALL => hvcall::passthrough(Target::Partition(partition, &mut setup), arg),
            control::SET_PRIVATE_MEMORY if !setup.initialized => Err(EIO),
            control::SET_PRIVATE_MEMORY => private::set(partition, &mut setup, arg),
            control::DISCARD_MEMORY => region::discard(partition, arg),
            _ => Err(ENOTTY),
        }
    }

    fn partition(&self) -> u64 {
        self.0.id().number()
    }
}

impl Drop for PartitionFile {
    fn drop(&mut self) {
        irqfd::remove_all(&self.0);
        self.0.doorbells.clear();
    }
}

/// MSHV_CREATE_PARTITION.
pub(super) fn create(arg: usize) -> Result<isize> {
    let first = user::read::<CreatePartition>(arg)?;
    let valid = |flags: u64, isolation: u64| {
        flags & !pt_flags::MASK == 0 && isolation < uapi::ISOLATION_COUNT
    };
    if !valid(first.pt_flags, first.pt_isolation) {
        return Err(EINVAL);
    }
    let mut properties = Properties::default();
    if first.pt_flags & pt_flags::CPU_AND_XSAVE_FEATURES != 0 {
        let args = user::read::<CreatePartitionV2>(arg)?;
        if !valid(args.pt_flags, args.pt_isolation)
            || usize::from(args.pt_num_cpu_fbanks) != uapi::FEATURE_BANKS
            || args.pt_rsvd != [0; 6]
            || args.pt_rsvd1 != [0; 2]
        {
            return Err(EINVAL);
        }
        properties.disabled_features = args.pt_cpu_fbanks;
        properties.disabled_xsave = args.pt_disabled_xsave;
    }
    let partition = Partition::new(properties)?;
    let file = KBox::new(PartitionFile(partition), GFP_KERNEL_ACCOUNT)?;
    Ok(Pending::new(file)?.install())
}
