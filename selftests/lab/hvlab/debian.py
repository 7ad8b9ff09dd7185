# SPDX-License-Identifier: GPL-2.0
"""Disk images with a Debian 13 in them.

`full` is a user space for the root partition, for programs that need more than
the small initramfs has: QEMU above all. It is built when somebody first asks
for it.
"""

import os
import shutil
import subprocess
import tempfile

from . import archive, cache, disk
from .cache import LabError

RECIPE = 1
# The machine's description of the disk is part of its saved state.
CYLINDERS = 4096
MODEL = "LABROOT"

QEMU = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "qemu-utils", "seabios"]
# Name: (what it is for, packages; a slash names another suite of the archive).
ROOTS = {
    "full": ("a Debian 13 user space with QEMU and virtiofsd",
             [*(f"{name}/{archive.SUITE}-backports" for name in QEMU),
              *"ovmf iproute2 kmod procps busybox-static virtiofsd".split()]),
}
LEFT_OUT = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"]


def directory(name):
    """Where the image called `name` lies, built or not."""
    made = cache.key(RECIPE, archive.SUITE, CYLINDERS, LEFT_OUT, *ROOTS[name])
    return cache.directory() / f"{name}-{made}"


def image(name):
    """The image called `name`, which must have been built."""
    path = directory(name) / "root.img"
    if not path.is_file():
        raise LabError(f"the root '{name}' is not built: run {cache.LAB}/build --root {name}")
    return path


def build(stage, name):
    """Make the image unless it is there."""
    final = directory(name)
    if final.is_dir():
        return
    purpose, packages = ROOTS[name]
    with cache.fresh(final) as scratch:
        tree = scratch / "tree"
        install(stage, purpose, packages, tree)
        # What tests in shell expect, where Debian itself has nothing of that name.
        (tree / "system/bin").mkdir(parents=True)
        stage.execute(["chroot", tree, "/bin/busybox", "--install", "-s", "/system/bin"],
                      "could not install busybox's commands")
        stage.say("making its disk image")
        make_image(tree, scratch / "root.img")
        shutil.rmtree(tree)


def install(stage, purpose, packages, tree):
    """Install a Debian 13 with `packages` into the directory `tree`."""
    archive.install_on_host(stage, {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"})
    with tempfile.NamedTemporaryFile("w") as sources:
        sources.write(archive.sources_list())
        sources.flush()
        stage.say(f"installing {purpose}")
        stage.execute(
            ["mmdebstrap", "--mode=root", "--variant=minbase",
             '--aptopt=APT::Install-Recommends "false"',
             *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
             *(f"--aptopt={setting}" for setting in archive.proxies()),
             "--include=" + ",".join(packages), archive.SUITE, tree, sources.name],
            "could not install a Debian 13 from this machine's mirror")


def make_image(tree, path, size=CYLINDERS * disk.CYLINDER):
    """An ext4 file system with the files of `tree`, made without mounting anything."""
    made = subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-b", "4096", "-m", "0",
         "-E", "root_owner=0:0", "-d", tree, path, str(size // 4096)],
        capture_output=True, text=True, check=False,
        env=dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"))
    if made.returncode:
        raise LabError(f"could not make the disk image: {made.stderr.strip()}")
    os.truncate(path, size)


# Run in the small user space: changes to that of the disk, with the machine's /put, /tmp and
# kernel modules, and goes on there. What it writes to its disk is forgotten.
ENTER = f"""#!/bin/sh
for model in /sys/block/*/device/model; do
	case $(cat "$model") in
	*{MODEL}*) node=${{model%/device/model}} ;;
	esac
done
mkdir -p /full
mount -t ext4 -o noatime "/dev/${{node##*/}}" /full || exit 2
for place in proc sys dev tmp run put mnt; do
	mkdir -p /full/$place
	mount -o rbind /$place /full/$place || exit 2
done
mkdir -p /full/usr/lib/modules
mount -o bind /system/lib/modules /full/usr/lib/modules || exit 2
[ ! -d /mnt/dest ] || cp -a /mnt/dest/. /full/
exec chroot /full /bin/sh -c 'cd /put && exec /mnt/lab/inside'
"""
