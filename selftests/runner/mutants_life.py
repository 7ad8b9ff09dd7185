# SPDX-License-Identifier: GPL-2.0
"""What keeps Linux alive beneath and beside hvmod, taken away, and the tests that must fail then."""

from . import mutants
from .mutants import Mutant, Program

DEATH = "death"
FUZZ = "ioctl_fuzz"
HERE = "here"
LAUNCH = "launch"
ROUNDS = "rounds"
KEXEC = "kexec"
KEXEC_OFFLINE = "kexec-offline"
CRASH = "crash"
LOST = "lost"

# What nearly all need.
COMMON = ("payload.sh", "work", "exit.elf", "spin.elf")

PROGRAMS = mutants.PROGRAMS | {
    ROUNDS: Program("./rounds.sh", COMMON),
    FUZZ: Program("./ioctl_fuzz.sh", (*COMMON, "ioctl_fuzz"), cpu_time=240),
    HERE: Program("./life.sh here", (*COMMON, "inherit")),
    KEXEC: Program("./life.sh kexec", (*COMMON, "kexec"), options=("--reboots",)),
    KEXEC_OFFLINE: Program("./life.sh kexec-offline", (*COMMON, "kexec", "hvattack.ko"),
                           options=("--reboots",)),
    CRASH: Program("./life.sh crash", (*COMMON, "kexec"), 1024,
                   options=("--reboots", "--append", "crashkernel=384M"), cpu_time=240),
    LAUNCH: Program("./launch.sh", COMMON, debug=True, cpu_time=60),
    LOST: Program("./launch.sh lost", (*COMMON, "insmod_once"), debug=True),
    DEATH: Program("./death.sh", (*COMMON, "hvattack.ko", "wait.elf", "nowhere.elf", "abi_private",
                                  "ioctl_fuzz"), debug=True, cpu_time=480),
}

# A part of death.sh: what hvcore is told to die of, and where.
PANIC = "root exit, LP 0, panic"


def of_death(name, file, old, new, part, result):
    """A mutant for that part of death.sh alone, of which this result is not ok then."""
    return Mutant(name, file, old, new, DEATH, (f"{part}: {result}",), part)


ALL = [
    # Partitions come and go.
    Mutant("partition-not-destroyed", "hvmod/hypercall.rs",
           "        partition_destroy(self.id, &self.taken);\n        // No LP uses",
           "        let _ = &self.taken;\n        // No LP uses", ROUNDS,
           ("before: nothing is held", "rounds: nothing is held", "kills: nothing is held", "rmmod",
            "the kernel complained of nothing")),
    Mutant("partition-not-forgotten", "hvmod/mshv/partition.rs",
           "        registry::remove(self.id());\n    }", "        let _ = self.id();\n    }", ROUNDS,
           ("rounds: nothing is held", "kills: nothing is held")),
    Mutant("memory-not-unpinned", "hvmod/sys/pin.rs",
           "            unsafe { hvmod_unpin(now.as_mut_ptr(), now.len() as c_ulong, self.written) };",
           "", ROUNDS, ("memory came back",)),
    Mutant("core-grows", "hvmod/hypercall.rs",
           "    match call(Call::PartitionCreate, [0; 5]) {",
           "    let _ = feed();\n    match call(Call::PartitionCreate, [0; 5]) {", ROUNDS,
           ("hvcore has no more memory than before",)),
    Mutant("reference-kept", "hvmod/sys/anon_file.c",
           "\tanon->ops->release(anon->data);\n",
           "\tanon->ops->release(anon->data);\n\t__module_get(THIS_MODULE);\n", ROUNDS, ("rmmod",)),

    # Calls, right and wrong.
    Mutant("call-refused", "hvmod/mshv/partition.rs",
           "uapi::IOEVENTFD => ioeventfd::ioctl(partition, arg),",
           "uapi::IOEVENTFD => Err(ENOTTY).or_else(|_: Error| ioeventfd::ioctl(partition, 0)),", FUZZ,
           ("all rounds ended, and every call succeeded at times",)),
    Mutant("discarded-memory-stays-away", "hvmod/mshv/region.rs",
           "        if self.memory.spa(page).is_none() {\n            self.restore(partition, pfn)?;\n        }\n", "",
           FUZZ, ("all rounds ended, and every call succeeded at times",)),
    Mutant("irqfd-not-unhooked", "hvmod/sys/eventfd.c",
           "\tif (watch->hooked)\n\t\teventfd_ctx_remove", "\tif (0)\n\t\teventfd_ctx_remove", FUZZ,
           ("the kernel complained of nothing",)),
    Mutant("signals-unheard", "hvmod/sys/wait.c",
           "\t\tif (signal_pending(current)) {", "\t\tif (0) {", FUZZ,
           ("all rounds ended, and every call succeeded at times",)),
    Mutant("memory-not-unpinned-after-calls", "hvmod/sys/pin.rs",
           "            unsafe { hvmod_unpin(now.as_mut_ptr(), now.len() as c_ulong, self.written) };",
           "", FUZZ, ("memory came back",)),

    # Loading.
    Mutant("no-rollback", "hvmod/launch.rs",
           "            let left = leave_all(core, &lock);\n            if",
           "            let left = 0;\n            if", LAUNCH,
           ("the second LP is not sent, when the first is in: no LP is in VMX operation",)),
    Mutant("failed-load-keeps-memory", "hvmod/launch.rs",
           "                    core_log::forward_all(&core);\n", "                    core::mem::forget(core.clone());\n",
           LAUNCH, ("memory came back",)),
    Mutant("no-watchdog", "hvmod/launch.rs",
           "const TIME_LIMIT_MS: u32 = 10_000;", "const TIME_LIMIT_MS: u32 = 10_000_000;", LOST,
           ("an LP that does not come back: the kernel's log says so",)),
    Mutant("late-lp-is-launched", "arch/image.rs",
           "    frame.read::<u64>(GIVEN_UP) != 0\n", "    frame.read::<u64>(GIVEN_UP) == u64::MAX\n", LOST,
           ("no LP is in VMX operation",)),

    Mutant("launched-outside-an-nmi", "hvmod/sys/gather.c",
           "\tsend_nmi(cpu_physical_id(smp_processor_id()));\n",
           "\tentry.outcome = hvmod_enter(xchg(&entry.enter, NULL));\n", DEATH,
           ("LP 0 dies while another one is launched, begin: no LP is in VMX operation",),
           "LP 0 dies while another one is launched, begin"),

    # The machine's life.
    Mutant("owner-untold", "hvmod/mshv/registry.rs",
           "owner: partitions::visible_pid(&entry.creator),", "owner: 0,", HERE,
           ("hvctl info says who has it",)),
    Mutant("suspend-allowed", "hvmod/sys/notifier.c",
           "return may_sleep() ? NOTIFY_OK : NOTIFY_BAD;", "return may_sleep() ? NOTIFY_OK : NOTIFY_OK;", HERE,
           ("suspend: freeze is refused",)),
    Mutant("suspend-unexplained", "hvmod/launch.rs",
           'pr_err!("the machine cannot suspend while hvmod is loaded: rmmod hvmod first\\n");', "", HERE,
           ("suspend: the kernel's log says why, and what to do",)),
    Mutant("suspend-ends-partitions", "hvmod/launch.rs",
           "    fn may_sleep() -> bool {\n", "    fn may_sleep() -> bool {\n        hypercall::destroy_all();\n",
           HERE, ("the child still runs",)),
    Mutant("kexec-unheard", "hvmod/sys/notifier.c",
           "error = register_reboot_notifier(&reboot_block);", "error = 0;", KEXEC,
           ("no hypervisor is beneath it",)),
    Mutant("kexec-with-partitions", "hvmod/launch.rs",
           "        hypercall::destroy_all();\n        leave_all", "        leave_all", KEXEC,
           ("no hypervisor is beneath it",)),
    Mutant("offline-lp-stays", "partition.rs",
           "    LEFT.load(Ordering::SeqCst) != 0 && no_more().is_ok()", "    false", KEXEC_OFFLINE,
           ("no hypervisor is beneath it",)),
    Mutant("lp-joins-what-goes-down", "hvmod/launch.rs",
           "if hypercall::is_over() || !hypercall::core_alive()", "if !hypercall::core_alive()",
           KEXEC_OFFLINE, ("no hypervisor is beneath it",)),
    # For good: what fails once is read by dd's next try.
    Mutant("crash-cannot-read", "mem/space.rs",
           "                self.look(spa);\n                Retry::Hidden\n",
           "                Retry::Denied\n", CRASH,
           ("it can read all of it",)),

    # hvcore's death.
    of_death("death-unseen-by-others", "root.rs",
             "        if death::is_dead() && !starts() {\n            death::leave_dead(lp);\n        }\n", "",
             PANIC, "no LP is in VMX operation"),
    of_death("death-without-reason", "death.rs",
             '        public::log(index, Level::Critical, format_args!("{info}"));\n', "",
             PANIC, "hvctl log has the reason and the rest"),
    of_death("death-without-callers", "death.rs",
             "        tell_callers(index, insn::read_rbp());\n", "",
             PANIC, "hvctl log has the reason and the rest"),
    of_death("death-not-in-info", "hvmod/control.rs",
             "dead: u32::from(!hypercall::core_alive()),", "dead: 0,",
             PANIC, "hvctl info tells"),
    of_death("death-not-in-the-kernel-log", "hvmod/hypercall.rs",
             '"hvcore died and its partitions', '"its partitions',
             PANIC, "the kernel's log tells"),
    of_death("death-sleepers-unwoken", "hvmod/hypercall.rs",
             "    mshv::wake_all();\n", "    let _ = mshv::wake_all;\n",
             "a child sleeps, #GP", "the child's RUN_VP ends"),
    of_death("death-nmi-not-ours", "hvmod/sys/gather.c",
             "\n\treturn NMI_HANDLED;", "\n\treturn NMI_DONE;",
             PANIC, "the kernel complains of nothing else"),
    of_death("death-alone", "hvmod/sys/gather.c",
             "\tif (!dead)\n\t\treturn;", "\tif (dead || !dead)\n\t\treturn;",
             "EPT violation of the root, LP 0, #PF", "no LP is in VMX operation"),
    of_death("death-leaves-secrets", "hvmod/sys/gather.c",
             "\t\thvmod_deposit_scrub();\n", "",
             "private memory", "is cleared before the root can read it"),
    of_death("launch-keeps-the-idt", "arch/lp.rs",
             "        tables::lgdt(&gdtr);\n        tables::lidt(&idtr);\n        image::launch_failed",
             "        tables::lgdt(&gdtr);\n        let _ = idtr;\n        image::launch_failed",
             "launch, LP 0, VMX, failure", "every LP works"),
    of_death("odd-exit-ends-hvcore", "child_exit.rs",
             "Answer::Init | Answer::Unexpected => unexpected(lp, run),",
             'Answer::Init | Answer::Unexpected => panic!("exit {}", { let _ = unexpected; lp.index }),',
             "an exit that cannot be", "hvcore lives"),
]
