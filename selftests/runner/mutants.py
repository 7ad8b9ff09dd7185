# SPDX-License-Identifier: GPL-2.0
"""hvcore with one protection taken away, and the attacks that must succeed then.

A test of an attack shows something only if it fails where nothing stops the attack.
"""

import dataclasses

ROOT = "root_attacks"
CHILD = "child_attacks"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A replacement in hvcore's source, and results of a test program that are not ok with it."""

    name: str
    file: str
    old: str
    new: str
    program: str
    # Parts of the names of results; each must be part of one that is not ok, or be what the
    # machine died of.
    fails: tuple


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
           "reason::RDMSR | reason::WRMSR => inject(lp, Event::GP)",
           "reason::RDMSR | reason::WRMSR => event::skip_instruction()", ROOT,
           ("MSR: RDMSR of 0x480 of VMX is #GP", "MSR: WRMSR of IA32_FEATURE_CONTROL is #GP",
            "MSR: one outside of the bitmap is #GP", "MSR: writing one outside of the bitmap is #GP")),
    Mutant("root-vmx-instructions", "root.rs",
           "        | reason::VMFUNC => inject(lp, Event::UD)",
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
           "    if event::cpl() != 0 {\n        return inject(lp, Event::UD);\n    }\n    lp.stats",
           "    lp.stats", ROOT, ("ring 3: VMCALL is SIGILL",)),

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
           "    if partition::any() {\n", "    if false {\n", ROOT,
           ("hypercall: unloading while it lives",)),
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
]
