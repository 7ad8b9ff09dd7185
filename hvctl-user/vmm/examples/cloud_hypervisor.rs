// SPDX-License-Identifier: GPL-2.0

//! The calls that Cloud Hypervisor makes to run, pause, save and restore a guest on `/dev/mshv`, in
//! its order, by the same crate: `mshv-ioctls`. The order is that of its source,
//! `hypervisor/src/mshv/mod.rs` (`create_vm`, `create_vcpu`, `run`, `state`, `set_state`) and
//! `vmm/src/{vm,cpu,memory_manager}.rs`. Prints TAP.

use mshv_bindings::*;
use mshv_ioctls::{IoEventAddress, Mshv, NoDatamatch, VcpuFd, VmFd, set_registers_64};
use std::sync::atomic::{AtomicU32, Ordering};
use vmm_sys_util::eventfd::EventFd;

const MEMORY: usize = 2 << 20;
const PAGE: usize = 4096;
/// Counts in BX, and tells by a port: `inc bx; mov ax, bx; out 0x80, ax; jmp` back.
const CODE: &[u8] = &[0x43, 0x89, 0xd8, 0xe7, 0x80, 0xeb, 0xf9];

static NUMBER: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);

/// One result.
fn tap(passed: bool, name: &str, why: impl std::fmt::Debug) {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
    println!("{}ok {number} - {name}", if passed { "" } else { "not " });
    if !passed {
        FAILED.fetch_add(1, Ordering::Relaxed);
        println!("# {why:?}");
    }
}

/// That a call succeeds; its value. Without it nothing can go on.
fn call<T, E: std::fmt::Debug>(name: &str, result: Result<T, E>) -> T {
    tap(result.is_ok(), name, result.as_ref().err());
    result.unwrap_or_else(|_| {
        println!("Bail out! {name}");
        std::process::exit(1)
    })
}

/// Guest memory with the code at 0x1000.
fn memory() -> *mut u8 {
    // SAFETY: New memory of this program; the result is checked.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            MEMORY,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_ANONYMOUS | libc::MAP_SHARED,
            -1,
            0,
        )
    };
    assert!(memory != libc::MAP_FAILED, "no memory");
    let memory = memory.cast::<u8>();
    // SAFETY: Inside of the memory, which nothing else knows of yet.
    unsafe { std::ptr::copy_nonoverlapping(CODE.as_ptr(), memory.add(0x1000), CODE.len()) };
    memory
}

/// A partition as `create_vm` makes it: frozen until it is started.
fn create(mshv: &Mshv) -> VmFd {
    let vm = call("create the partition", mshv.create_vm());
    call("initialize it", vm.initialize());
    call(
        "have unknown MSRs ignored",
        vm.set_partition_property(
            hv_partition_property_code_HV_PARTITION_PROPERTY_UNIMPLEMENTED_MSR_ACTION,
            u64::from(
                hv_unimplemented_msr_action_HV_UNIMPLEMENTED_MSR_ACTION_IGNORE_WRITE_READ_ZERO,
            ),
        ),
    );
    freeze(&vm, true);
    vm
}

fn freeze(vm: &VmFd, on: bool) {
    call(
        if on { "freeze time" } else { "let time go on" },
        vm.set_partition_property(
            hv_partition_property_code_HV_PARTITION_PROPERTY_TIME_FREEZE,
            u64::from(on),
        ),
    );
}

fn region(memory: *mut u8) -> mshv_user_mem_region {
    mshv_user_mem_region {
        flags: 1 << MSHV_SET_MEM_BIT_WRITABLE | 1 << MSHV_SET_MEM_BIT_EXECUTABLE,
        guest_pfn: 0,
        size: MEMORY as u64,
        userspace_addr: memory as u64,
        ..Default::default()
    }
}

/// Begins in real mode at 0x1000.
fn start(vp: &VcpuFd) {
    let mut sregs = call("get the special registers", vp.get_sregs());
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    call("set the special registers", vp.set_sregs(&sregs));
    let regs = StandardRegisters {
        rip: 0x1000,
        rflags: 2,
        ..Default::default()
    };
    call("set the general registers", vp.set_regs(&regs));
}

/// Runs to the guest's next OUT, as `run` does: what it says.
fn step(vp: &VcpuFd) -> Option<u64> {
    let message = vp.run().ok()?;
    if message.header.message_type != hv_message_type_HVMSG_X64_IO_PORT_INTERCEPT {
        return None;
    }
    let info = message.to_ioport_info().ok()?;
    if info.port_number != 0x80 {
        return None;
    }
    let next = info.header.rip + u64::from(info.header.instruction_length());
    let registers = [
        (hv_register_name_HV_X64_REGISTER_RIP, next),
        (hv_register_name_HV_X64_REGISTER_RAX, info.rax),
    ];
    set_registers_64!(vp, registers).ok()?;
    Some(info.rax)
}

/// What `state` reads and `set_state` writes.
struct State {
    msrs: Msrs,
    events: VcpuEvents,
    regs: StandardRegisters,
    sregs: SpecialRegisters,
    fpu: FloatingPointUnit,
    xcrs: Xcrs,
    lapic: LapicState,
    debug: DebugRegisters,
    xsave: XSave,
    misc: MiscRegs,
}

fn save(vm: &VmFd, vp: &VcpuFd) -> State {
    let indices = call("list the MSRs", vm.get_msr_index_list());
    let entries: Vec<_> = indices
        .iter()
        .map(|&index| msr_entry {
            index,
            ..Default::default()
        })
        .collect();
    let mut msrs = call("  as entries", Msrs::from_entries(&entries));
    let regs = call("save the general registers", vp.get_regs());
    let sregs = call("save the special registers", vp.get_sregs());
    let xcrs = call("save XCR0", vp.get_xcrs());
    let fpu = call("save the FPU", vp.get_fpu());
    let events = call("save the pending events", vp.get_vcpu_events());
    let got = call("save the MSRs", vp.get_msrs(&mut msrs));
    tap(got == entries.len(), "  all of them", got);
    let lapic = call("save the local APIC", vp.get_lapic());
    let xsave = call("save the XSAVE area", vp.get_xsave());
    let misc = call("save the hypercall register", vp.get_misc_regs());
    let debug = call("save the debug registers", vp.get_debug_regs());
    State {
        msrs,
        events,
        regs,
        sregs,
        fpu,
        xcrs,
        lapic,
        debug,
        xsave,
        misc,
    }
}

fn restore(vp: &VcpuFd, state: &State) {
    call("restore the MSRs", vp.set_msrs(&state.msrs));
    call(
        "restore the pending events",
        vp.set_vcpu_events(&state.events),
    );
    call("restore the general registers", vp.set_regs(&state.regs));
    call("restore the special registers", vp.set_sregs(&state.sregs));
    call("restore the FPU", vp.set_fpu(&state.fpu));
    call("restore XCR0", vp.set_xcrs(&state.xcrs));
    call("restore the local APIC", vp.set_lapic(&state.lapic));
    call("restore the XSAVE area", vp.set_xsave(&state.xsave));
    call(
        "restore the hypercall register",
        vp.set_misc_regs(&state.misc),
    );
    call(
        "restore the debug registers",
        vp.set_debug_regs(&state.debug),
    );
}

fn devices(vm: &VmFd) {
    let event = call("an eventfd", EventFd::new(libc::EFD_NONBLOCK));
    let routes = [mshv_user_irq_entry {
        gsi: 5,
        address_lo: 0xfee0_0000,
        data: 0x41,
        ..Default::default()
    }];
    let mut table = vec![0u64; 1 + routes.len() * 2];
    // SAFETY: The vector has room for the head and the entries, which are integers.
    let table = unsafe {
        let head = table.as_mut_ptr().cast::<mshv_user_irq_table>();
        (*head).nr = routes.len() as u32;
        (*head)
            .entries
            .as_mut_slice(routes.len())
            .copy_from_slice(&routes);
        &*head
    };
    call("route an interrupt", vm.set_msi_routing(table));
    call("an irqfd", vm.register_irqfd(&event, 5));
    call("  is taken back", vm.unregister_irqfd(&event, 5));
    let doorbell = IoEventAddress::Mmio(0xd000_0000);
    call(
        "an ioeventfd",
        vm.register_ioevent(&event, &doorbell, NoDatamatch),
    );
    call(
        "  is taken back",
        vm.unregister_ioevent(&event, &doorbell, NoDatamatch),
    );
}

fn main() {
    let mshv = call("open /dev/mshv", Mshv::new());
    call("list the MSRs of the machine", mshv.get_msr_index_list());
    let vm = create(&mshv);
    let memory = memory();
    call("map memory", vm.map_user_memory(region(memory)));
    let vp = call("create a VP", vm.create_vcpu(0));
    let entry = hv_cpuid_entry {
        function: 0x4000_0000,
        eax: 7,
        ebx: 0x5a,
        ..Default::default()
    };
    let cpuid = call("CPUID entries", CpuId::from_entries(&[entry]));
    call(
        "  are registered",
        vp.register_intercept_result_cpuid(&cpuid),
    );
    let told = call(
        "  and can be asked for",
        vp.get_cpuid_values(0x4000_0000, 0, 0, 0),
    );
    tap(told[1] & 0x5a == 0x5a, "  as they were registered", told);
    devices(&vm);
    start(&vp);

    freeze(&vm, false);
    let first = [step(&vp), step(&vp), step(&vp)];
    tap(
        first == [Some(1), Some(2), Some(3)],
        "the guest runs",
        first,
    );
    call("track dirty pages", vm.enable_dirty_page_tracking());
    tap(step(&vp) == Some(4), "  while it runs", ());
    let dirty = call(
        "  read them",
        vm.get_dirty_log(0, MEMORY, MSHV_GPAP_ACCESS_OP_CLEAR as u8),
    );
    tap(
        dirty.len() == MEMORY / PAGE / 64,
        "  one bit for each",
        dirty.len(),
    );
    call("  and stop", vm.disable_dirty_page_tracking());
    freeze(&vm, true);
    let state = save(&vm, &vp);

    // A migration: the same memory, another partition.
    call("unmap memory", vm.unmap_user_memory(region(memory)));
    drop(vp);
    drop(vm);
    let vm = create(&mshv);
    call("map the memory", vm.map_user_memory(region(memory)));
    let vp = call("create the VP", vm.create_vcpu(0));
    restore(&vp, &state);
    freeze(&vm, false);
    let then = step(&vp);
    tap(then == Some(5), "the guest goes on where it was", then);

    println!("1..{}", NUMBER.load(Ordering::Relaxed));
    std::process::exit(i32::from(FAILED.load(Ordering::Relaxed) != 0));
}
