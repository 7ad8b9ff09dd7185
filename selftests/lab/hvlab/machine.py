# SPDX-License-Identifier: GPL-2.0
"""The emulated machines: Bochs, which has VMX, and QEMU's TCG, which has not.

Both get the same kernel, initramfs and disks, and two serial lines: the
kernel's console, and the command's output.
"""

import ctypes
import os
import signal
import subprocess

from . import bochs, cache, checkpoint, debian, image, root
from . import disk as disks
from .cache import LabError

# Instructions in one emulated second. Higher makes Linux's ticks rarer, lower
# makes its waits shorter for the host; see the README.
IPS = 50_000_000
MODELS = ["corei7_skylake_x", "tigerlake", "corei7_icelake_u", "corei7_haswell_4770",
          "broadwell_ult", "corei7_ivy_bridge_3770k", "corei7_sandy_bridge_2600k"]
PR_SET_PDEATHSIG = 1
# An oops ends a run at once; nothing is probed that is not there, and nothing
# watched that has no fault to find in an emulator. Idle processors halt, for
# Bochs does not see every write to a line that MWAIT waits for.
COMMAND_LINE = ("console=ttyS0,115200 loglevel=7 panic=-1 oops=panic nowatchdog idle=halt "
                "i8042.noaux i8042.nokbd i8042.nopnp audit=0 apparmor=0 "
                "random.trust_cpu=on cryptomgr.notests net.ifnames=0 libata.force=nolpm")


class Machine:
    """What a machine is made of; `start` runs its emulator."""

    def __init__(self, place, arguments, series):
        self.place = place
        self.cpus = arguments.cpus
        self.model = arguments.model
        self.memory = arguments.memory
        self.append = " ".join(arguments.append)
        self.images = image.directory(series)
        if not self.images.is_dir():
            raise LabError(f"the boot image is not built: run {cache.LAB}/build")
        self.console = place / "console.log"
        self.output = place / "output.log"
        self.log = place / "emulator.log"
        self.e9 = place / "e9.log"
        for path in (self.console, self.output):
            path.touch()
        self.terminal = None  # the command's line, when somebody types at it
        self.root = debian.image(arguments.root) if arguments.root else None

    def command_line(self):
        return f"{COMMAND_LINE} {self.timing()} {self.append}".strip()

    def grub(self):
        return (f"linux /boot/vmlinuz {self.command_line()}\n"
                "initrd /boot/initramfs\nboot\n")

    def command_begun(self):
        """The command was reached."""

    def ended(self):
        """The emulator is gone."""

    def discard(self):
        """The emulator gave up: distrust what it was restored from."""

    def spawn(self, argv, stdin=subprocess.DEVNULL, stdout=None, **options):
        """Start the emulator so that it dies with this process."""
        libc = ctypes.CDLL(None)

        def die_with_parent():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        with open(self.e9, "wb") as e9:
            try:
                return subprocess.Popen(argv, cwd=self.place, stdin=stdin,
                                        stdout=stdout or e9, stderr=e9,
                                        preexec_fn=die_with_parent, **options)
            except OSError as error:
                raise LabError(f"{argv[0]}: {error.strerror}") from error


class Bochs(Machine):
    """The machine with VMX."""

    def __init__(self, place, arguments, series):
        super().__init__(place, arguments, series)
        self.home = bochs.directory()
        self.debugger = arguments.debugger
        self.fresh = arguments.fresh
        self.reboots = arguments.reboots
        self.saved = checkpoint.Checkpoint(self.home.name, self.images.name, self.model, self.cpus,
                                           self.memory, self.command_line(),
                                           *([self.root.parent.name] if self.root else []))
        if not self.home.is_dir():
            raise LabError(f"Bochs is not built: run {cache.LAB}/build")
        if self.model not in MODELS and self.model not in self.offered():
            raise LabError(f"Bochs has no processor {self.model}; known to work: "
                           f"{', '.join(MODELS)}")

    def offered(self):
        """The names of all processors that Bochs can be."""
        return subprocess.run([str(self.home / "bochs"), "--help", "cpu"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False).stdout.split()

    def timing(self):
        # Linux cannot measure this clock: it comes out at 3.5 GHz, and every
        # sleep 70 times too long.
        return f"tsc_early_khz={IPS // 1000}"

    def configuration(self):
        line = self.terminal
        output = f"mode=term, dev={line}" if line else f"mode=file, dev={self.output}"
        # A link of this run's own, since Bochs keeps its lock beside the image.
        boot = self.place / "boot.img"
        boot.symlink_to(self.images / "boot.iso")
        root_disk = []
        if self.root:
            shown = self.place / "root.img"
            shown.symlink_to(self.root)
            root_disk = [disk("ata1-slave", shown, debian.MODEL, "volatile")]
        lines = [
            # A restored machine must hear of the parts before their settings.
            "plugin_ctrl: unmapped=true, biosdev=true, speaker=false, extfpuirq=true, "
            "parallel=true, serial=true, e1000=false",
            "config_interface: textconfig",
            "display_library: nogui",
            f"romimage: file={self.home}/bios, options=fastboot",
            f"vgaromimage: file={self.home}/vgabios",
            f"cpu: model={self.model}, count={self.cpus}, ips={IPS}, quantum=32, "
            "reset_on_triple_fault=0, ignore_bad_msrs=1",
            f"memory: guest={self.memory}, host={self.memory}",
            "clock: sync=none, time0=utc, rtc_sync=0",
            "pci: enabled=1, chipset=i440fx",
            "boot: disk",
            "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
            "ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15",
            disk("ata0-master", boot, "LABBOOT", "volatile"),
            disk("ata0-slave", self.place / "put.img", "LABPUT", "flat"),
            disk("ata1-master", self.place / "out.img", "LABOUT", "flat"),
            *root_disk,
            f"com1: enabled=1, mode=file, dev={self.console}",
            f"com2: enabled=1, {output}",
            "port_e9_hack: enabled=1",
            f"log: {self.log}",
            "logprefix: %t%e%d",
            "panic: action=fatal",
            "error: action=report",
            "info: action=ignore",
            "debug: action=ignore",
        ]
        if self.debugger:
            lines.append("magic_break: enabled=1")
        return "\n".join(lines) + "\n"

    def start(self):
        written = self.place / "bochsrc"
        written.write_text(self.configuration())
        if self.debugger:
            return self.spawn([str(self.home / "bochs-debugger"), "-q", "-f", str(written)],
                              stdin=None, stdout=1)
        argv = [str(self.home / "bochs"), "-q"]
        if self.fresh:
            return self.spawn([*argv, "-f", str(written)])
        if self.saved.directory.is_dir():
            return self.spawn([*argv, "-r", str(self.saved.prepare(self.place, written))])
        if self.reboots:
            # It may come by the place where it would be saved more than once.
            return self.spawn([*argv, "-f", str(written)])
        return self.spawn([*argv, "-f", str(written)],
                          env=dict(os.environ, BOCHS_CHECKPOINT=str(self.saved.scratch())))

    def command_begun(self):
        self.saved.keep()

    def ended(self):
        self.saved.abandon()

    def discard(self):
        if not self.console.stat().st_size:
            self.saved.remove()


def disk(channel, path, model, mode):
    cylinders = path.stat().st_size // disks.CYLINDER
    return (f"{channel}: type=disk, path={path}, mode={mode}, model=\"{model}\", "
            f"cylinders={cylinders}, heads=16, spt=63")


class Qemu(Machine):
    """The machine without VMX; also the quicker one."""

    def timing(self):
        return ""

    def start(self):
        line = self.terminal
        output = f"serial,path={line}" if line else f"file,path={self.output}"
        argv = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", str(self.cpus),
                "-m", str(self.memory), "-nodefaults", "-display", "none", "-no-reboot",
                "-kernel", self.images / "vmlinuz", "-initrd", self.images / "initramfs",
                "-append", self.command_line(),
                "-chardev", f"file,id=console,path={self.console}", "-serial", "chardev:console",
                "-chardev", output.replace(",", ",id=output,", 1), "-serial", "chardev:output",
                "-debugcon", f"file:{self.place}/debug.log"]
        for index, (name, path, options) in enumerate((
                ("LABBOOT", self.images / "boot.iso", ",snapshot=on"),
                ("LABPUT", self.place / "put.img", ""), ("LABOUT", self.place / "out.img", ""),
                *([(debian.MODEL, self.root, ",snapshot=on")] if self.root else []))):
            argv += ["-drive", f"if=none,id=disk{index},format=raw,file={path}{options}",
                     "-device", f"ide-hd,drive=disk{index},model={name},bus=ide.{index // 2},"
                     f"unit={index % 2}"]
        return self.spawn(root.command(*argv))
