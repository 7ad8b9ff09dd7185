# SPDX-License-Identifier: GPL-2.0
"""hvcore and hvmod with one protection taken away, and the attacks that must succeed then.

A test of an attack shows something only if it fails where nothing stops the attack.
"""

import dataclasses

ROOT = "root_attacks"
CHILD = "child_attacks"
PRIVATE = "private"
ABI_PRIVATE = "abi_private"
ABI_TRACKING = "abi_tracking"
SPECULATION = "speculation"


@dataclasses.dataclass(frozen=True)
class Program:
    """How a test program is run, and what it needs of the test programs' directory."""

    command: str
    files: tuple
    # MiB; little where all of it is looked through.
    memory: int = 2048
    # Tried with the module that can be told to fail; hvmod.ko is then as it should be.
    debug: bool = False
    # Of selftests/lab/run.
    options: tuple = ()
    # Seconds of the emulator's processor time.
    cpu_time: int = 120


PROGRAMS = {
    ROOT: Program("./root_attacks.sh",
                  ("hvattack.ko", "identity", "work", "kcore", "ring3", "steps", "exit.elf")),
    CHILD: Program("./child_attacks.sh", ("payload.sh", "escape.elf", "old_modes.elf", "identity", "work")),
    # The attacks alone.
    PRIVATE: Program("ATTACKS=1 ./private.sh",
                     ("guest_console.sh", "hvattack.ko", "vmlinuz", "initrd", "exit.elf"), 512),
    ABI_PRIVATE: Program("./with_hvmod ./abi_private", ("with_hvmod", "abi_private"), 512),
    ABI_TRACKING: Program("./with_hvmod ./abi_tracking", ("with_hvmod", "abi_tracking"), 512),
    SPECULATION: Program("./speculation.sh", ("exit.elf",), 512),
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A replacement in the source, and results of a test program that are not ok with it."""

    name: str
    # In rust/hvcore/src, or from the top if it begins with hvmod/ or rust/.
    file: str
    old: str
    new: str
    program: str
    # Parts of the names of results; each must be part of one that is not ok, or be what the
    # machine died of.
    fails: tuple
    # Of a program that takes it, the only tests to run: a pattern of `case`.
    only: str = ""

    def path(self):
        """The file, in a tree."""
        place = "" if self.file.startswith(("hvmod/", "rust/")) else "rust/hvcore/src/"
        return place + self.file


# All that leaves the root comes by here.
HIDE = """        match self.ept.hide(&claim, self.blank, &mut self.pool) {
            Ok(()) => Ok(claim),
"""
HIDE_NOT = """        match self.ept.hide(&claim, page.spa(), &mut self.pool) {
            Ok(()) => {
                let gpa = Gpa::new(spa).ok_or(Refused::NotRam)?;
                self.ept.blink(gpa, page.spa(), Access::ALL, &mut self.pool);
                Ok(claim)
            }
"""

ALL = [
    # The root's address space.
    Mutant("hvcore-readable", "mem/space.rs",
           """                ept.hide(&claim, blank, &mut pool)?;
""",
           """                ept.hide(&claim, page.spa(), &mut pool)?;
                ept.blink(Gpa::new(spa).ok_or(NoRoom)?, page.spa(), Access::READ, &mut pool);
""", ROOT,
           ("hidden: a read through another mapping gives zero",
            "hidden: all of hvcore reads as zeros, but its log and counters",
            "hidden: /proc/kcore gives zeros")),
    Mutant("hvcore-writable", "mem/space.rs",
           """                ept.hide(&claim, blank, &mut pool)?;
""",
           """                let _stays = (&claim, blank);
""", ROOT,
           ("hidden: all of hvcore reads as zeros, but its log and counters",
            "hidden: hvcore's last page cannot be written",
            "hidden: write is a fault that the writer survives")),
    Mutant("counters-writable", "mem/space.rs",
           "page.spa(), Access::READ, &mut pool);\n            } else {",
           "page.spa(), Access { read: true, write: true, execute: true }, &mut pool);\n            } else {",
           ROOT, ("hidden: hvcore's counters cannot be written",)),
    Mutant("reads-not-counted", "root.rs",
           "lp.stats.get().hidden_reads += 1;", "", ROOT, ("hidden: that is counted",)),
    Mutant("writes-not-logged", "root.rs",
           'format_args!("denied: {what} of the root to {spa:#x} at {rip:#x}")',
           'format_args!("denied: {what}")', ROOT, ("hidden: hvcore's log has the writer",)),

    # The root's VMX.
    Mutant("root-vmx-msrs", "policy/msr.rs",
           "    for msr in VMX {\n        put(bitmap, 0, msr, true);",
           "    for msr in VMX {\n        put(bitmap, 0, msr, false);", ROOT,
           ("MSR: RDMSR of 0x480 of VMX is #GP", "MSR: RDMSR of 0x491 of VMX is #GP")),
    Mutant("root-other-msrs", "root.rs",
           "reason::RDMSR => inject(Event::GP)",
           "reason::RDMSR => event::skip_instruction()", ROOT,
           ("MSR: RDMSR of 0x480 of VMX is #GP", "MSR: one outside of the bitmap is #GP")),
    Mutant("root-other-msrs-written", "root.rs",
           "if may && insn::wrmsr_checked(msr, value) {",
           "if !may || insn::wrmsr_checked(msr, value) {", ROOT,
           ("MSR: WRMSR of IA32_FEATURE_CONTROL is #GP",
            "MSR: writing one outside of the bitmap is #GP",
            "MSR: the local APIC over a page of hvcore is #GP", "MSR: a limit of CPUID is #GP",
            "MSR: tables without XD are #GP")),
    Mutant("root-refused-msr", "arch/fault.rs",
           '    "cmp dword ptr [rsp + 8], 13",', '    "cmp dword ptr [rsp + 8], 99",', ROOT,
           # It is hvcore that gets the #GP.
           ("every LP is in the root partition",)),
    Mutant("root-moves-its-apic", "policy/msr.rs",
           "        APIC_BASE => (value ^ now()) >> 12 == 0,", "        APIC_BASE => now() != 0,", ROOT,
           ("MSR: the local APIC over a page of hvcore is #GP",)),
    Mutant("root-vmx-instructions", "root.rs",
           "        | reason::VMFUNC => inject(Event::UD)",
           "        | reason::VMFUNC => event::skip_instruction()", ROOT,
           tuple(f"instruction: {name} is #UD" for name in
                 ("vmxon", "vmxoff", "vmclear", "vmptrld", "vmptrst", "vmread", "vmwrite",
                  "vmlaunch", "vmresume", "invept", "invvpid"))
           + ("CR4: VMXON after that is #UD all the same", "ring 3: VMXOFF is SIGILL")),
    Mutant("root-xcr0", "root.rs",
           "match policy::xsave::write_xcr0(value, offered) {",
           "match Ok::<u64, ()>(value | offered & 0) {", ROOT,
           # It is hvcore that gets the #GP, and then Linux natively.
           ("every LP is in the root partition",)),
    Mutant("root-xcr1", "root.rs",
           "if event::cpl() != 0 || lp.gpr[RCX] as u32 != 0 {", "if event::cpl() != 0 {", ROOT,
           ("instruction: XSETBV of XCR1 is #GP",)),
    Mutant("root-xcr0-of-ring-3", "root.rs",
           "if event::cpl() != 0 || lp.gpr[RCX] as u32 != 0 {", "if lp.gpr[RCX] as u32 != 0 {", ROOT,
           ("ring 3: XSETBV is SIGSEGV",)),
    Mutant("root-hypercall-of-ring-3", "root.rs",
           "    if event::cpl() != 0 {\n        return inject(Event::UD);\n    }\n    lp.stats",
           "    lp.stats", ROOT, ("ring 3: VMCALL is SIGILL",)),

    Mutant("root-in-real-mode", "root.rs",
           "    event.for_mode(vmcs::GUEST_CR0.read()).inject();", "    event.inject();", ROOT,
           # VM entry refuses an error code there, and hvcore dies of it.
           ("real mode: exceptions as there, without an error code",)),
    Mutant("root-nmi-over-a-step", "root.rs", "|| blocked || event::traps() {", "|| blocked {", ROOT,
           ("no single step over an instruction that exits is lost",)),
    Mutant("root-nmi-behind-mov-ss", "root.rs",
           "    event::leave_shadow();\n    Event::NMI.inject();\n", "    Event::NMI.inject();\n", ROOT,
           # VM entry refuses it, and hvcore dies of that; Linux takes the NMIs all the same.
           ("NMI: every LP is in the root partition",)),

    # Hypercalls.
    Mutant("list-of-anybody", "partition.rs",
           "    owners.peek(page).map_err(|_| (Status::BadArgument, 0))?;\n", "", ROOT,
           ("hypercall: deposit of hvcore's own memory as a list",
            "hypercall: deposit with hvcore as the list")),
    Mutant("page-of-anybody-claimed", "mem/owner.rs",
           "        self.change(page, exchange(Owner::Root, Owner::Hypervisor), pool)?;\n"
           "        Ok(Claimed(page))",
           "        let _ = self.change(page, exchange(Owner::Root, Owner::Hypervisor), pool);\n"
           "        Ok(Claimed(page))", ROOT, ("hypercall: deposit of what hvcore has",)),
    Mutant("page-of-anybody-mapped", "mem/owner.rs",
           "        self.change(page, |state| shared(state, child), pool)?;\n        Ok(Grant",
           "        let _ = self.change(page, |state| shared(state, child), pool);\n        Ok(Grant", ROOT,
           ("hypercall: map of what hvcore has",)),
    Mutant("list-too-long", "partition.rs",
           ".filter(|count| (1..=most).contains(count))",
           ".map(|count| count.min(most))", ROOT, ("hypercall: deposit of more than a list",)),
    Mutant("unload-while-a-partition-lives", "hypercall.rs",
           "    partition::no_more()?;\n", "    let _ = partition::no_more();\n", ROOT,
           ("hypercall: unloading while it lives",)),
    Mutant("a-partition-beside-a-free-lp", "partition.rs",
           "        if LEFT.load(Ordering::SeqCst) != 0 {", "        if false {", ROOT,
           ("an LP that leaves: there is no partition any more",)),
    Mutant("destroyed-partition-lives", "partition.rs",
           "    if partition.dying || partition.stopped {", "    if partition.stopped {", ROOT,
           ("hypercall: a destroyed partition makes no VP",)),

    # Children.
    Mutant("child-all-msrs", "policy/msr.rs",
           "    bitmap.fill(u64::MAX);", "    bitmap.fill(0);", CHILD,
           ("MSR: RDMSR of 0x480 is #GP", "MSR: and says that VMX is locked off")),
    Mutant("child-feature-control", "policy/msr.rs",
           "FEATURE_CONTROL => Constant(1)", "FEATURE_CONTROL => Constant(5)", CHILD,
           ("MSR: and says that VMX is locked off",)),
    Mutant("child-efer", "policy/cr.rs",
           "    unless(value & !(WRITABLE | efer::LMA) != 0)?;\n", "", CHILD,
           ("MSR: WRMSR of 0xc0000080",)),
    Mutant("child-apic-base", "apic/mod.rs",
           "if value & reserved != 0 || !allowed {", "if !allowed {", CHILD,
           # The APIC's page is then sought where no address can be.
           ("fuzz: hvcore lives",)),
    Mutant("child-debugctl", "policy/msr.rs",
           "    unless(value & !3 != 0)?;\n    Ok(value & 2)", "    Ok(value & 2)", CHILD,
           ("MSR: WRMSR of 0x1d9",)),
    Mutant("child-xss", "policy/msr.rs",
           "            Stored::Xss => unless(value != 0)?,", "            Stored::Xss => {}", CHILD, ("MSR: WRMSR of 0xda0",)),
    Mutant("child-undefined-instructions", "child_exit.rs",
           "        Answer::Undefined => inject(run, Event::UD)",
           "        Answer::Undefined => {\n            event::skip_instruction();\n"
           "            Next::Enter\n        }", CHILD,
           tuple(f"VMX: {name} is #UD" for name in
                 ("VMXON", "VMXOFF", "VMLAUNCH", "VMRESUME", "VMPTRLD", "VMPTRST", "VMCLEAR",
                  "VMREAD", "VMWRITE", "INVEPT", "INVVPID"))
           + ("MONITOR is #UD", "MWAIT is #UD")),
    Mutant("child-rdpmc", "policy/exits.rs",
           "reason::RDPMC => Answer::Protection", "reason::RDPMC => Answer::Nothing", CHILD,
           ("RDPMC is #GP",)),
    Mutant("child-hypercalls", "child_exit.rs",
           "const NO_SUCH_CALL: u64 = 2;", "const NO_SUCH_CALL: u64 = 0;", CHILD,
           ("VMCALL: every number is unknown",)),
    Mutant("child-hypercall-of-ring-3", "child_exit.rs",
           "    if event::cpl() != 0 {\n        return inject(run, Event::UD);", "    if false {\n        return inject(run, Event::UD);",
           CHILD, ("VM86: VMCALL",)),
    Mutant("child-in-real-mode", "interrupt.rs",
           "        event.for_mode(vmcs::GUEST_CR0.read()).inject();", "        event.inject();", CHILD,
           # VM entry refuses an error code there, which ends the partition.
           ("old_modes: ends with status 1",)),
    Mutant("child-cr4", "policy/cr.rs",
           "        unless(value & !self.cr4_allowed != 0)?;\n", "", CHILD,
           ("CR4: VMXE is #GP",)),
    Mutant("child-cr0-caches", "policy/cr.rs",
           "        unless(new & cr0::NW != 0 && new & cr0::CD == 0)?;\n", "", CHILD,
           ("CR0: NW without CD is #GP",)),
    Mutant("child-xcr0", "child_exit.rs",
           "match policy::xsave::write_xcr0(value, config().xsave.offered()) {",
           "match Ok::<u64, Gp>(value | config().xsave.offered() & 0) {", CHILD,
           # It is hvcore that gets the #GP.
           ("fuzz: hvcore lives",)),
    Mutant("child-xcr1", "child_exit.rs",
           "if event::cpl() != 0 || gpr[RCX] as u32 != 0 {", "if event::cpl() != 0 {", CHILD,
           ("XCR1 is #GP",)),
    Mutant("child-cpuid-vmx", "policy/cpuid.rs",
           "            ecx & LEAF1_ECX | LEAF1_ECX_OURS", "            ecx | LEAF1_ECX_OURS", CHILD,
           ("CPUID: no VMX",)),

    # Private partitions.
    Mutant("private-stays-in-the-root", "mem/space.rs", HIDE, HIDE_NOT, ABI_PRIVATE,
           ("the root does not find the secret", "the root does not find it while the guest has run")),
    Mutant("private-can-be-touched", "mem/space.rs", HIDE, HIDE_NOT, PRIVATE,
           ("attack: memory of the guest is hidden",)),
    Mutant("private-can-be-read", "mem/space.rs",
           "            Some(Access::NONE) if !needs.write && !needs.execute => {\n"
           "                self.look(spa);",
           "            Some(Access::NONE) if !needs.write && !needs.execute => {\n"
           "                self.ept.blink(spa, self.blank, Access::ALL, &mut self.pool);", PRIVATE,
           # The victim is looked for by reading, and writes hit the page of zeros then.
           ("attack: memory of the guest is hidden",)),
    Mutant("private-not-cleared", "mem/owner.rs", "        frame.zero();\n        let page",
           "        let page", ABI_PRIVATE,
           ("it came back cleared", "the secret is nowhere in RAM")),
    Mutant("private-list", "partition.rs",
           "    owners.peek(page).map_err(|_| (Status::BadArgument, 0))?;\n", "", PRIVATE,
           ("attack: it is no list",)),
    Mutant("private-deposited", "mem/owner.rs",
           "        self.change(page, exchange(Owner::Root, Owner::Hypervisor), pool)?;\n"
           "        Ok(Claimed(page))",
           "        let _ = self.change(page, exchange(Owner::Root, Owner::Hypervisor), pool);\n"
           "        Ok(Claimed(page))", PRIVATE, ("attack: it cannot be deposited",)),
    Mutant("private-shared", "mem/owner.rs",
           "        self.change(page, |state| shared(state, child), pool)?;\n        Ok(Grant",
           "        let _ = self.change(page, |state| shared(state, child), pool);\n        Ok(Grant",
           PRIVATE, ("attack: it cannot be mapped into another partition", "attack: it is no VP's page")),
    Mutant("private-shared-large", "mem/owner.rs",
           "        self.region_mut(large.0)?.change_all(|state| shared(state, child), pool)?;",
           "        let _ = self.region_mut(large.0)?.change_all(|state| shared(state, child), pool);",
           PRIVATE, ("attack: nor as a large page",)),
    Mutant("private-tracked", "hvmod/mshv/hvcall.rs", "        && setup.private\n", "        && false\n",
           ABI_PRIVATE, ("accesses are not tracked: EIO",)),
    Mutant("private-while-tracked", "hvmod/mshv/private.rs",
           "        if regions.is_tracked() {", "        if false {", ABI_PRIVATE,
           ("what is tracked gets no private memory: EBUSY",)),
    Mutant("private-half-made", "hvmod/mshv/private.rs",
           "partition.while_stopped(|| hypercall::gpa_unmap(partition.id(), request.gpa, done));",
           "hypercall::gpa_unmap(partition.id(), request.gpa, done);", ABI_PRIVATE,
           ("and nothing of it is left",)),
    Mutant("memory-around-the-apic", "hvmod/mshv/region.rs", "        if apic || self", "        if self",
           ABI_TRACKING, ("with tracking as well", "what is taken away the guest does not reach")),
    Mutant("private-image-left-behind", "hvmod/mshv/private.rs", "    buffer.fill(0);\n", "", ABI_PRIVATE,
           # A page of the image; it may be in use again when the root looks for the first time.
           ("the secret is nowhere in RAM",)),

    # Speculation: what is told. That a switch does it, a test of switch.rs shows on the host.
    Mutant("speculation-not-chosen", "hvmod/measures.rs", "        return Ok(cpu.choose());",
           "        return cpu.choose_as(0).ok_or(EINVAL);", SPECULATION,
           ("what the processor needs and can do is chosen",)),
    Mutant("speculation-not-overridden", "hvmod/measures.rs", "    if wanted == AUTOMATIC {",
           "    if wanted == AUTOMATIC || wanted == 0 {", SPECULATION, ("and does nothing",)),
    Mutant("speculation-beyond-the-processor", "rust/speculation/src/lib.rs",
           "        let allowed = wanted & !(self.can() & ALL) == 0;", "        let allowed = true;",
           SPECULATION, ("is refused",)),
]
