# SPDX-License-Identifier: GPL-2.0
"""Which tests run on which emulated machine."""

import dataclasses

DEFAULT_MODEL = "corei7_skylake_x"


@dataclasses.dataclass(frozen=True)
class Group:
    """Programs that share one boot of a machine, in this order."""

    name: str
    programs: list
    cpus: int = 2
    model: str = DEFAULT_MODEL
    memory: int = 2048
    # "bochs", "qemu" without VMX, "virtme" or "here": see here.py.
    machine: str = "bochs"
    # A larger user space of the lab, for programs that the small one cannot run.
    root: str = ""
    # Seconds of processor time; on a machine that nobody else uses, of any time.
    timeout: int = 420
    needs: tuple = ("hvmod.ko", "programs")
    # On the second newest kernel series that the archive has.
    older_kernel: bool = False
    kernel: str | None = None
    # Has the disk of a Debian guest in ../guest.
    guest_disk: bool = False
    # Why it cannot run for now.
    skip: str = ""
    # Takes too long for each day: runs in a soak, and when it is asked for by its name.
    long: bool = False
    # More for the kernel's command line.
    append: str = ""
    # The machine restarts on purpose, and then runs the programs again.
    reboots: bool = False
    # The model can run partitions, so that a test that says it cannot has failed.
    children: bool = True

    def on(self, kernel):
        return dataclasses.replace(self, kernel=kernel)

    def at(self, machine):
        return dataclasses.replace(self, machine=machine)


WITH_HVCTL = ("hvmod.ko", "programs", "hvctl")

ABI = [(name, f"./with_hvmod ./{name}")
       for name in ("abi_ports", "abi_memory", "abi_interrupts", "abi_processor", "abi_smp",
                    "abi_hypercalls", "abi_intercepts", "abi_tracking", "abi_guest", "abi_synic",
                    "abi_registers", "abi_discard")]

ALL = [
    Group("root", [("identity", "./identity.sh"), ("load", "./load.sh 20"),
                   ("hotplug", "./hotplug.sh"), ("speculation", "./speculation.sh"),
                   ("open_files", "./open_files.sh")],
          needs=WITH_HVCTL),
    Group("root-1lp", [("identity", "./identity.sh"), ("load", "./load.sh 3")], cpus=1, needs=WITH_HVCTL),
    Group("refusals", [("second", "./second_load.sh"), ("kvm", "./kvm_holds_vmx.sh")], needs=WITH_HVCTL),
    Group("no-vmx", [("no_vmx", "./no_vmx.sh")], machine="qemu", needs=WITH_HVCTL),
    # The way of people with VMX; where there is none, each test is to say that it was skipped.
    Group("virtme-ng", [("no_vmx", "./no_vmx.sh"), ("identity", "./identity.sh"), ABI[0]],
          machine="virtme", cpus=1, needs=WITH_HVCTL),
    Group("abi", [*ABI, ("abi_errors", "./with_hvmod ./abi_errors"),
                  ("abi_sharing", "./with_hvmod ./abi_sharing")]),
    Group("death", [("death", "./death.sh")], needs=(*WITH_HVCTL, "hvmod-debug.ko"), timeout=900),
    Group("launch", [("launch", "./launch.sh")], needs=(*WITH_HVCTL, "hvmod-debug.ko")),
    Group("launch-lost", [("launch", "./launch.sh lost")], needs=(*WITH_HVCTL, "hvmod-debug.ko")),
    Group("rounds", [("rounds", "./rounds.sh"), ("oom", "./oom.sh")], needs=WITH_HVCTL),
    Group("child-attacks", [("child_attacks", "./child_attacks.sh")], needs=WITH_HVCTL, timeout=600),
    Group("ioctl-fuzz", [("ioctl_fuzz", "./ioctl_fuzz.sh")], needs=WITH_HVCTL, timeout=600),
    Group("root-attacks", [("root_attacks", "./root_attacks.sh")], needs=WITH_HVCTL, timeout=600),
    Group("life", [("life", "./life.sh here")], needs=WITH_HVCTL),
    Group("reboot", [("life", "./life.sh reboot")], needs=WITH_HVCTL, reboots=True),
    Group("kexec", [("life", "./life.sh kexec")], needs=WITH_HVCTL, reboots=True),
    Group("kexec-offline", [("life", "./life.sh kexec-offline")], needs=WITH_HVCTL, reboots=True),
    # Little memory, all of which the crash kernel reads.
    Group("crash", [("life", "./life.sh crash")], needs=WITH_HVCTL, reboots=True,
          memory=1024, append="crashkernel=384M"),
    Group("payloads", [("payloads", "./payloads.sh")], needs=WITH_HVCTL),
    Group("run-refusals", [("refusals", "./run_refusals.sh")], needs=WITH_HVCTL),
    Group("device-refusals", [("devices", "./device_refusals.sh")], needs=WITH_HVCTL),
    Group("run-stopped", [("stopped", "./run_stopped.sh")], needs=WITH_HVCTL),
    Group("terminal", [("terminal", "./with_hvmod ./terminal")], cpus=1, needs=WITH_HVCTL),
    # Little memory, all of which is looked through.
    Group("private", [("abi_private", "./with_hvmod ./abi_private"), ("private", "./private.sh")],
          memory=512, timeout=900, needs=WITH_HVCTL),
    Group("guest", [("guest", "./guest.sh")], cpus=1, needs=WITH_HVCTL, timeout=900),
    Group("guest-2lp", [("guest", "./guest.sh together")], needs=WITH_HVCTL, timeout=900),
    # Other people's VMMs.
    Group("qemu", [("mshv_ioctls", "./mshv_ioctls.sh"),
                   ("cloud_hypervisor", "./with_hvmod ./cloud_hypervisor"), ("qemu", "./qemu.sh")],
          root="full", cpus=1, needs=WITH_HVCTL, timeout=1800),
    Group("qemu-debian", [("qemu_debian", "./qemu_debian.sh")], root="full", cpus=1,
          needs=WITH_HVCTL, timeout=3600, guest_disk=True, long=True),
    Group("devices", [("disks", "./disks.sh"), ("stop", "./stop.sh")], cpus=1, needs=WITH_HVCTL,
          timeout=900),
    Group("devices-more", [("vhost", "./vhost.sh"), ("disk_io", "./disk_io.sh"),
                           ("hostile", "./hostile.sh")], cpus=1, needs=WITH_HVCTL, timeout=900),
    Group("queues", [("queues", "./queues.sh")], cpus=1, needs=WITH_HVCTL, timeout=600),
    Group("balloon", [("balloon", "./balloon.sh")], cpus=1, needs=WITH_HVCTL, timeout=600),
    # Devices that processes of others serve.
    Group("qcow2", [("qcow2", "./qcow2.sh")], root="full", cpus=1, needs=WITH_HVCTL, timeout=600),
    Group("share", [("share", "./share.sh")], root="full", cpus=1, needs=WITH_HVCTL, timeout=600),
    # systemd takes minutes in an emulated machine's guest.
    Group("debian-guest", [("debian", "./debian.sh")], cpus=1, needs=WITH_HVCTL, timeout=1200,
          guest_disk=True),
    # As many VPs as LPs, and more.
    Group("guest-smp-1lp", [("guest-smp", "./guest_smp.sh 2:poweroff")], cpus=1, needs=WITH_HVCTL, timeout=900),
    Group("guest-smp", [("guest-smp", "./guest_smp.sh 4:reboot 2:busy")],
          needs=WITH_HVCTL, timeout=900),
    # Another generation of processors: with IBT and shadow stacks in the root.
    Group("tigerlake", [("identity", "./identity.sh"), ("load", "./load.sh 3"), *ABI],
          model="tigerlake", needs=WITH_HVCTL),
    Group("tigerlake-guest", [("guest", "./guest.sh short")], cpus=1, model="tigerlake", needs=WITH_HVCTL),
    # An older one, without posted interrupts and much else.
    Group("haswell", [("identity", "./identity.sh"), ("load", "./load.sh 3"), *ABI],
          model="corei7_haswell_4770", needs=WITH_HVCTL),
    Group("older-kernel", [("identity", "./identity.sh"), ("load", "./load.sh 3"),
                           ("open_files", "./open_files.sh"), ("guest", "./guest.sh short")],
          cpus=1, needs=WITH_HVCTL, older_kernel=True),
]
