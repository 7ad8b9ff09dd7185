// SPDX-License-Identifier: GPL-2.0

//! MSHV_ROOT_HVCALL: hypercalls of Hyper-V that a program makes on the root partition or on one of
//! its own.

use super::{
    intercept, machine,
    partition::{Partition, Setup},
    registers,
    user::{self, Small},
    vp::Vp,
};
use crate::hvabi::MAX_VPS;
use crate::tlfs::{
    hvcall::{
        self as tlfs, code, cpuid_flags, translate_flags as flags, translate_result, CpuidLeaf,
        Input, InputAccessStates, InputAssertInterrupt, InputCpuidValues, InputGetProperty,
        InputGetPropertyEx, InputInterceptResult, InputSetProperty, InputSignalEvent,
        InputTranslate, Interrupt, OutputSignalEvent, OutputTranslate, PropertyBank,
    },
    mshv::RootHvcall,
    pod::{self, Pod},
    processor::Cpuid,
    property::code as property,
    register::{InputVpRegisters, RegisterAssoc, RegisterValue, VP_INDEX_ANY},
    state::View,
    status::{HvResult, HvStatus},
    walk::{self, Access, Fault, Paging},
    PAGE_SIZE,
};
use kernel::{prelude::*, sync::Arc};

/// What a hypercall is made on.
pub(super) enum Target<'a> {
    Root,
    /// By the partition's file.
    Partition(&'a Arc<Partition>, &'a mut Setup),
    /// By the file of one of its VPs.
    Vp(&'a Arc<Partition>),
}

/// Words of input or output for which nothing is allocated: the registers that end an intercept
/// fit.
const SMALL: usize = 14;

/// The input of a hypercall, on the stack if it is short.
enum InputBytes {
    Small(Small<SMALL>),
    Large(KVVec<u8>),
}

impl InputBytes {
    #[inline]
    fn read(address: usize, size: usize) -> Result<Self> {
        if size <= Small::<SMALL>::SIZE {
            return Ok(Self::Small(Small::read(address, size)?));
        }
        let mut bytes = user::buffer(size)?;
        user::read_bytes(address, &mut bytes)?;
        Ok(Self::Large(bytes))
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes.bytes(),
            Self::Large(bytes) => bytes,
        }
    }
}

/// Bytes of output that are on the stack.
const OUTPUT: usize = 64;

/// What a hypercall writes back. The program takes as much of it as it has room for.
struct Output<'a>(&'a mut [u8]);

impl Output<'_> {
    fn put<T: Pod>(&mut self, offset: usize, value: &T) {
        let bytes = pod::bytes_of(value);
        if let Some(room) = self.0.get_mut(offset..) {
            let count = usize::min(room.len(), bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
        }
    }

    /// That the program wants output at all.
    fn wanted(&self) -> HvResult {
        if self.0.is_empty() {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        Ok(())
    }
}

/// How a hypercall ended: repetitions done, and the status.
type Done = (u16, HvResult);

/// Makes the hypercall that the structure at `arg` describes.
pub(super) fn passthrough(mut target: Target<'_>, arg: usize) -> Result<isize> {
    let mut args = user::read::<RootHvcall>(arg)?;
    let in_size = usize::from(args.in_sz);
    let out_size = usize::from(args.out_sz);
    if args.status != 0
        || args.in_ptr == 0
        || in_size < size_of::<u64>()
        || args.rsvd != [0; 6]
        || in_size > PAGE_SIZE
    {
        return Err(EINVAL);
    }
    if args.out_ptr != 0 && (out_size == 0 || out_size > PAGE_SIZE) {
        return Err(EINVAL);
    }
    let allowed = match target {
        Target::Root => tlfs::allowed_on_root(args.code),
        Target::Partition(..) => tlfs::allowed_on_partition(args.code),
        Target::Vp(_) => tlfs::allowed_on_partition(args.code) && !tlfs::is_async(args.code),
    };
    if !allowed {
        return Err(EINVAL);
    }

    let input = InputBytes::read(args.in_ptr as usize, in_size)?;
    let input = Input::new(input.bytes(), args.reps);
    let (mut small, mut large);
    let output: &mut [u8] = match (args.out_ptr, out_size) {
        (0, _) => &mut [],
        (_, 1..=OUTPUT) => {
            small = [0; OUTPUT];
            &mut small[..out_size]
        }
        _ => {
            large = user::buffer(out_size)?;
            &mut large
        }
    };
    let (reps, result) = call(&mut target, args.code, input, &mut Output(output));

    args.reps = reps;
    args.status = result.err().map_or(0, |status| status.0);
    user::write(arg, &args)?;
    if let Err(status) = result {
        return Err(user::error(status.errno()));
    }
    if args.out_ptr != 0 {
        user::write_bytes(args.out_ptr as usize, output)?;
    }
    Ok(0)
}

fn call(target: &mut Target<'_>, code: u16, input: Input<'_>, output: &mut Output<'_>) -> Done {
    let simple = |result: HvResult| (0, result);
    let partition = match target {
        Target::Root => return simple(root(code, input, output)),
        Target::Partition(partition, setup) => match code {
            // These two look at what the partition was set up with.
            code::GET_PARTITION_PROPERTY => {
                return simple(get_property(partition, setup, input, output))
            }
            code::SET_PARTITION_PROPERTY => return simple(set_property(partition, setup, input)),
            _ => *partition,
        },
        Target::Vp(partition) => *partition,
    };
    match code {
        code::SET_VP_REGISTERS => set_registers(partition, input),
        code::GET_VP_REGISTERS => get_registers(partition, input, output),
        code::ASSERT_VIRTUAL_INTERRUPT => simple(assert_interrupt(partition, input)),
        // Its input is the partition's ID alone.
        code::CLEAR_VIRTUAL_INTERRUPT => simple(
            input
                .simple::<u64>()
                .and_then(|_| partition.clear_interrupt()),
        ),
        code::TRANSLATE_VIRTUAL_ADDRESS => simple(translate(partition, input, output)),
        code::INSTALL_INTERCEPT => simple(
            input
                .simple()
                .and_then(|input| intercept::install(partition, &input)),
        ),
        code::REGISTER_INTERCEPT_RESULT => simple(register_result(partition, input)),
        code::GET_GPA_PAGES_ACCESS_STATES => access_states(partition, input, output),
        code::GET_VP_CPUID_VALUES => cpuid_values(partition, input, output),
        code::GET_PARTITION_PROPERTY => match partition.setup.lock() {
            Ok(setup) => simple(get_property(partition, &setup, input, output)),
            // The thread was killed, and will not see this.
            Err(_) => simple(Err(HvStatus::OPERATION_FAILED)),
        },
        code::GET_PARTITION_PROPERTY_EX => simple(get_property_ex(input, output)),
        code::SIGNAL_EVENT_DIRECT => simple(signal_event(partition, input, output)),
        code::POST_MESSAGE_DIRECT => simple(
            input
                .simple()
                .and_then(|input| partition.post_message(&input)),
        ),
        // What hvcore can not do, a hypervisor without these calls says.
        _ => simple(Err(HvStatus::INVALID_HYPERCALL_CODE)),
    }
}

/// A hypercall on the root partition.
fn root(code: u16, input: Input<'_>, output: &mut Output<'_>) -> HvResult {
    if code == code::GET_PARTITION_PROPERTY_EX {
        return get_property_ex(input, output);
    }
    let input: InputGetProperty = input.simple()?;
    output.wanted()?;
    output.put(0, &machine::get().get(input.property_code)?);
    Ok(())
}

fn get_property(
    partition: &Partition,
    setup: &Setup,
    input: Input<'_>,
    output: &mut Output<'_>,
) -> HvResult {
    let input: InputGetProperty = input.simple()?;
    output.wanted()?;
    let value = match input.property_code {
        property::REFERENCE_TIME => partition.reference_time()?,
        property::GUEST_OS_ID => partition.interface.lock().registers().guest_os_id,
        code => setup.properties.get(&machine::get(), code)?,
    };
    output.put(0, &value);
    Ok(())
}

fn get_property_ex(input: Input<'_>, output: &mut Output<'_>) -> HvResult {
    let input: InputGetPropertyEx = input.simple()?;
    output.wanted()?;
    let bank = PropertyBank {
        bank_count: 1,
        reserved: [0; 3],
        bank: machine::get().get_ex(input.property_code)?,
    };
    output.put(0, &bank);
    Ok(())
}

fn set_property(partition: &Partition, setup: &mut Setup, input: Input<'_>) -> HvResult {
    let input: InputSetProperty = input.simple()?;
    if input.property_code == property::REFERENCE_TIME {
        return partition.set_reference_time(input.property_value);
    }
    // Who tracks accesses wants to copy the memory.
    if input.property_code == property::GPA_PAGE_ACCESS_TRACKING
        && input.property_value != 0
        && setup.private
    {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    setup
        .properties
        .set(input.property_code, input.property_value, setup.initialized)?;
    if input.property_code == property::GPA_PAGE_ACCESS_TRACKING {
        partition.track(input.property_value != 0)?;
    }
    if input.property_code == property::TIME_FREEZE {
        partition.freeze(input.property_value != 0)?;
    }
    partition
        .installed
        .set_msr_action(setup.properties.unimplemented_msr_action);
    Ok(())
}

/// The VP that an input names.
pub(super) fn vp(partition: &Partition, index: u32) -> HvResult<&Arc<Vp>> {
    partition.vp(index).ok_or(HvStatus::INVALID_VP_INDEX)
}

/// The VP and the number of elements of a call on registers. VTLs other than 0 do not exist.
fn registers_of<'a, E: Pod>(
    partition: &'a Partition,
    input: &Input<'_>,
) -> HvResult<(&'a Arc<Vp>, u16)> {
    let (header, count) = input.rep::<InputVpRegisters, E>()?;
    if header.input_vtl & 0xf != 0 || header.rsvd_z8 != 0 || header.rsvd_z16 != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    Ok((vp(partition, header.vp_index)?, count))
}

fn set_registers(partition: &Partition, input: Input<'_>) -> Done {
    let (vp, count) = match registers_of::<RegisterAssoc>(partition, &input) {
        Ok(found) => found,
        Err(status) => return (0, Err(status)),
    };
    let mut state = vp.lock();
    let suspended = state.local.explicit_suspend;
    let interface = partition.interface.lock().registers();
    state.local.interface = interface;
    let mut done = registers::set(vp, &mut state, count, |index| {
        input.element::<InputVpRegisters, RegisterAssoc>(index)
    });
    if state.local.interface != interface {
        if let Err(status) = partition.set_interface(state.local.interface) {
            done.1 = Err(status);
        }
    }
    if suspended && !state.local.explicit_suspend {
        vp.notify();
    }
    done
}

fn get_registers(partition: &Partition, input: Input<'_>, output: &mut Output<'_>) -> Done {
    let checked = registers_of::<u32>(partition, &input).and_then(|found| {
        output.wanted()?;
        if usize::from(found.1) * size_of::<RegisterValue>() > PAGE_SIZE {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        Ok(found)
    });
    let (vp, count) = match checked {
        Ok(found) => found,
        Err(status) => return (0, Err(status)),
    };
    let mut state = vp.lock();
    state.local.interface = partition.interface.lock().registers();
    registers::get(
        vp,
        &mut state,
        count,
        |index| input.element::<InputVpRegisters, u32>(index),
        |index, value| output.put(usize::from(index) * size_of::<RegisterValue>(), &value),
    )
}

fn assert_interrupt(partition: &Partition, input: Input<'_>) -> HvResult {
    let input: InputAssertInterrupt = input.simple()?;
    partition.assert_interrupt(Interrupt::from_input(&input)?)
}

fn signal_event(partition: &Partition, input: Input<'_>, output: &mut Output<'_>) -> HvResult {
    let input: InputSignalEvent = input.simple()?;
    let newly = partition.signal_event(&input)?;
    output.put(
        0,
        &OutputSignalEvent {
            newly_signaled: newly.into(),
            reserved: [0; 7],
        },
    );
    Ok(())
}

fn register_result(partition: &Partition, input: Input<'_>) -> HvResult {
    let input: InputInterceptResult = input.simple()?;
    intercept::register_result(partition, &input)
}

/// Does something with the VP of that index, or with all of them.
pub(super) fn each_vp(
    partition: &Partition,
    index: u32,
    mut work: impl FnMut(&Vp) -> HvResult,
) -> HvResult {
    if index != VP_INDEX_ANY {
        return work(vp(partition, index)?);
    }
    (0..MAX_VPS as u32)
        .filter_map(|index| partition.vp(index))
        .try_for_each(|vp| work(vp))
}

fn access_states(partition: &Partition, input: Input<'_>, output: &mut Output<'_>) -> Done {
    // Nothing follows the head.
    let states = input.rep::<InputAccessStates, [u8; 0]>().and_then(|found| {
        output.wanted()?;
        let (header, count) = found;
        partition.access_states(
            header.gpa_page_number,
            u64::from(count),
            header.flags,
            |page, state| output.put(page, &state),
        )?;
        Ok(count)
    });
    match states {
        Ok(count) => (count, Ok(())),
        Err(status) => (0, Err(status)),
    }
}

fn cpuid_values(partition: &Partition, input: Input<'_>, output: &mut Output<'_>) -> Done {
    let checked = input
        .rep::<InputCpuidValues, CpuidLeaf>()
        .and_then(|found| {
            output.wanted()?;
            let (header, _) = found;
            if header.flags & !cpuid_flags::VALID != 0
                || header.reserved != 0
                || header.padding != 0
            {
                return Err(HvStatus::INVALID_PARAMETER);
            }
            Ok((vp(partition, header.vp_index)?, found))
        });
    let (vp, (header, count)) = match checked {
        Ok(found) => found,
        Err(status) => return (0, Err(status)),
    };
    let registered = header.flags & cpuid_flags::APPLY_REGISTERED != 0;
    let mut state = vp.lock();
    for index in 0..count {
        let values = input
            .element::<InputCpuidValues, CpuidLeaf>(index)
            .and_then(|leaf| {
                intercept::cpuid_values(vp, &mut state, leaf.eax, leaf.ecx, registered)
            });
        match values {
            Ok(values) => output.put(usize::from(index) * size_of::<Cpuid>(), &values),
            Err(status) => return (index, Err(status)),
        }
    }
    (count, Ok(()))
}

fn translate(partition: &Partition, input: Input<'_>, output: &mut Output<'_>) -> HvResult {
    use crate::{hvabi::state::group, tlfs::register::name};

    let input: InputTranslate = input.simple()?;
    output.wanted()?;
    let control = input.control_flags;
    if control & !flags::VALID != 0 || input.gva_page >> 52 != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let vp = vp(partition, input.vp_index)?;
    let mut state = vp.lock();
    vp.take_page(&mut state)?;
    state.load_groups(vp, group::CONTROL | group::SEGMENTS)?;
    let ss = state.registers.ss;
    let mut view = state.view();
    let mut register = |name| View::get(&mut view, name).map(|value| value.low);
    let paging = Paging {
        cr0: register(name::CR0)?,
        cr3: register(name::CR3)?,
        cr4: register(name::CR4)?,
        efer: register(name::EFER)?,
        rflags: register(name::RFLAGS)?,
    };
    drop(state);
    let cpl3 = ss.access >> 5 & 3 == 3;
    let access = Access {
        read: control & flags::VALIDATE_READ != 0,
        write: control & flags::VALIDATE_WRITE != 0,
        execute: control & flags::VALIDATE_EXECUTE != 0,
        user: control & flags::USER_ACCESS != 0
            || (cpl3 && control & flags::SUPERVISOR_ACCESS == 0),
        exempt: control & flags::PRIVILEGE_EXEMPT != 0,
        enforce_smap: control & flags::ENFORCE_SMAP != 0,
        override_smap: control & flags::OVERRIDE_SMAP != 0,
    };
    let regions = partition.regions.lock();
    // The page number of a GVA has 52 bits, of which those of a canonical address repeat.
    let gva = input.gva_page << 12;
    let (result_code, gpa_page) = match walk::translate(&*regions, &paging, gva, &access) {
        Ok(found) => match regions.find(found.gpa) {
            None => (translate_result::GPA_UNMAPPED, found.gpa >> 12),
            Some(region) if access.write && !region.writable() => {
                (translate_result::GPA_NO_WRITE_ACCESS, found.gpa >> 12)
            }
            Some(_) => (translate_result::SUCCESS, found.gpa >> 12),
        },
        Err(Fault::NotPresent) => (translate_result::PAGE_NOT_PRESENT, 0),
        Err(Fault::Privilege) => (translate_result::PRIVILEGE_VIOLATION, 0),
        Err(Fault::Reserved) => (translate_result::INVALID_PAGE_TABLE_FLAGS, 0),
        Err(Fault::Unmapped) => (translate_result::GPA_UNMAPPED, 0),
    };
    output.put(
        0,
        &OutputTranslate {
            result_code,
            flags: 0,
            gpa_page,
        },
    );
    Ok(())
}
