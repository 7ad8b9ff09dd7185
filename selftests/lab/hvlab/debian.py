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
BLOCK = 4096

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
        install(stage, tree, packages, LEFT_OUT, archive.sources_list(), purpose)
        # What tests in shell expect, where Debian itself has nothing of that name.
        (tree / "system/bin").mkdir(parents=True)
        stage.execute(["chroot", tree, "/bin/busybox", "--install", "-s", "/system/bin"],
                      "could not install busybox's commands")
        stage.say("making its disk image")
        make_image(tree, scratch / "root.img", CYLINDERS * disk.CYLINDER, ["-O", "^has_journal"])
        shutil.rmtree(tree)


def install(stage, tree, packages, left_out, sources, what, more=()):
    """Install a Debian 13 with `packages` into the directory `tree`, but for `left_out`.

    `sources` says where they are, as apt's sources.list does; `more` is for mmdebstrap.
    """
    archive.install_on_host(stage, {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"})
    with tempfile.NamedTemporaryFile("w") as listed:
        listed.write(sources)
        listed.flush()
        stage.say(f"installing {what}")
        stage.execute(
            ["mmdebstrap", "--mode=root", "--variant=minbase",
             '--aptopt=APT::Install-Recommends "false"',
             *(f"--dpkgopt=path-exclude={path}" for path in left_out),
             *(f"--aptopt={setting}" for setting in archive.proxies()),
             "--include=" + ",".join(packages), *more, archive.SUITE, tree, listed.name],
            f"could not install {what} from this machine's mirror")


def make_image(tree, path, size, options=()):
    """An ext4 file system of `size` bytes with the files of `tree`, made without mounting any."""
    made = subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "0", *options,
         "-E", "root_owner=0:0", "-d", tree, path, str(size // BLOCK)],
        capture_output=True, text=True, check=False,
        env=dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"))
    if made.returncode:
        raise LabError(f"could not make the disk image {path}: {made.stderr.strip()}")
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
