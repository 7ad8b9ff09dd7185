# SPDX-License-Identifier: GPL-2.0
"""A disk with a Debian 13 on it, for guests: systemd, Debian's own kernel and its initrd.

It is built when somebody first asks for it, and there is nothing of ours on it but a
password that is none.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile

from . import archive, cache
from .cache import LabError

RECIPE = 1
PACKAGES = "systemd-sysv udev dbus kmod linux-image-amd64 initramfs-tools".split()
SIZE = 768 << 20
# What a guest on an emulated machine has no time to carry.
LEFT_OUT = """
    /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /usr/share/info/*
    /usr/lib/modules/*/kernel/sound/* /usr/lib/modules/*/kernel/drivers/gpu/*
    /usr/lib/modules/*/kernel/drivers/media/* /usr/lib/modules/*/kernel/drivers/infiniband/*
    /usr/lib/modules/*/kernel/drivers/net/wireless/* /usr/lib/modules/*/kernel/drivers/staging/*
    /usr/lib/modules/*/kernel/drivers/net/ethernet/* /usr/lib/modules/*/kernel/drivers/usb/*
    /usr/lib/modules/*/kernel/drivers/scsi/* /usr/lib/modules/*/kernel/drivers/iio/*
""".split()
FILES = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/hostname": "guest\n",
}
INITRD_MODULES = "virtio_pci virtio_blk ext4"


def directory():
    """Where the disk lies, built or not: guest.img, vmlinuz, initrd.img."""
    made = cache.key(RECIPE, archive.SUITE, SIZE, PACKAGES, LEFT_OUT, INITRD_MODULES,
                     *FILES.items())
    return cache.directory() / f"guest-{made}"


def build(stage):
    """Make the disk unless it is there."""
    final = directory()
    if final.is_dir():
        return final
    archive.install_on_host(stage, {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"})
    with cache.fresh(final) as scratch, tempfile.NamedTemporaryFile("w") as sources:
        sources.write("\n".join(line for line in archive.sources_list().splitlines()
                                if "backports" not in line) + "\n")
        sources.flush()
        stage.say("installing a Debian 13 with systemd and its kernel")
        tree = scratch / "tree"
        settings = [
            'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"',
            # The drivers of this machine instead of all there are: a smaller initrd.
            'echo MODULES=list >"$1/etc/initramfs-tools/conf.d/lab"',
            f'printf "%s\\n" {INITRD_MODULES} >"$1/usr/share/initramfs-tools/modules.d/lab"',
        ]
        stage.execute(
            ["mmdebstrap", "--mode=root", "--variant=minbase",
             '--aptopt=APT::Install-Recommends "false"',
             *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
             *(f"--aptopt={setting}" for setting in archive.proxies()),
             "--include=" + ",".join(PACKAGES),
             *(f"--essential-hook={setting}" for setting in settings),
             '--customize-hook=chroot "$1" passwd -d root',
             archive.SUITE, tree, sources.name],
            "could not install a Debian 13 with systemd from this machine's mirror")
        for name, text in FILES.items():
            (tree / name).write_text(text)
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
            found = sorted((tree / "boot").glob(pattern))
            if not found:
                raise LabError(f"Debian's kernel package left no {pattern} in /boot")
            shutil.copy(found[-1], scratch / name)
        stage.say("making its disk")
        make_image(tree, scratch / "guest.img")
        shutil.rmtree(tree)
    return final


def make_image(tree, path):
    """An ext4 file system with the files of `tree`, made without mounting anything."""
    made = subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", "root_owner=0:0",
         "-d", str(tree), str(path), str(SIZE >> 10)],
        capture_output=True, text=True, check=False,
        env=dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"))
    if made.returncode:
        raise LabError(f"could not make the guest's disk: {made.stderr.strip()}")


def main():
    progress = cache.Progress(1)
    with cache.lock("guest"):
        place = build(cache.Stage(progress, 1, "guest"))
    progress.say(1, f"the guest's disk is {place / 'guest.img'}")


if __name__ == "__main__":
    cache.run_main(main)
