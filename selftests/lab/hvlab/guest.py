# SPDX-License-Identifier: GPL-2.0
"""A disk with a Debian 13 on it, for guests: systemd, Debian's own kernel and its initrd.

It is built when somebody first asks for it, and there is nothing of ours on it but a
password that is none.
"""

import shutil

from . import archive, cache, debian
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
    with cache.fresh(final) as scratch:
        tree = scratch / "tree"
        settings = [
            'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"',
            # The drivers of this machine instead of all there are: a smaller initrd.
            'echo MODULES=list >"$1/etc/initramfs-tools/conf.d/lab"',
            f'printf "%s\\n" {INITRD_MODULES} >"$1/usr/share/initramfs-tools/modules.d/lab"',
        ]
        sources = "".join(line + "\n" for line in archive.sources_list().splitlines()
                          if "backports" not in line)
        debian.install(stage, tree, PACKAGES, LEFT_OUT, sources,
                       "a Debian 13 with systemd and its kernel",
                       [*(f"--essential-hook={setting}" for setting in settings),
                        '--customize-hook=chroot "$1" passwd -d root'])
        for name, text in FILES.items():
            (tree / name).write_text(text)
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
            found = sorted((tree / "boot").glob(pattern))
            if not found:
                raise LabError(f"Debian's kernel package left no {pattern} in /boot")
            shutil.copy(found[-1], scratch / name)
        stage.say("making its disk")
        debian.make_image(tree, scratch / "guest.img", SIZE)
        shutil.rmtree(tree)
    return final


def main():
    progress = cache.Progress(1)
    with cache.lock("guest"):
        place = build(cache.Stage(progress, 1, "guest"))
    progress.say(1, f"the guest's disk is {place / 'guest.img'}")


if __name__ == "__main__":
    cache.run_main(main)
