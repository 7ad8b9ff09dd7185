# SPDX-License-Identifier: GPL-2.0
"""What the emulated machine boots from: one image, a disk and a file system.

Bochs reads disks through a BIOS at first and loads no kernel by itself. A
small initramfs keeps that part short; modules and libraries stay on the disk
and are read through Linux's own driver.
"""

import os
import shutil

from . import cache, disk, kernel, root

RECIPE = 1
# Needed before the boot disk can be read.
EARLY = ["ata_piix", "sd_mod", "isofs", "ext4", "libcrc32c", "crc32c_generic"]
# Hardware that no emulated machine of the lab has, and much of the space.
LEFT_OUT = """
    sound drivers/gpu drivers/media drivers/net/wireless drivers/net/ethernet
    drivers/staging drivers/infiniband drivers/iio drivers/usb drivers/hid
    drivers/input drivers/hwmon drivers/i2c drivers/video drivers/isdn
    drivers/bluetooth net/bluetooth net/wireless net/mac80211 drivers/mtd
    drivers/accel drivers/comedi drivers/platform drivers/power drivers/leds
    drivers/regulator drivers/firewire drivers/mmc drivers/memstick drivers/mfd
    drivers/scsi/qla2xxx drivers/scsi/lpfc drivers/scsi/mpt3sas drivers/atm
    drivers/net/can drivers/net/usb drivers/net/phy drivers/spi drivers/thunderbolt
""".split()


def directory(series=None):
    source = kernel.directory(series)
    made = cache.key(RECIPE, source.name, EARLY, LEFT_OUT,
                     (cache.LAB / "init").read_bytes())
    return cache.directory() / f"image-{source.name.split('-')[1]}-{made}"


def build(stage, series):
    """Make the boot image of the kernel of `series` unless it is there."""
    final = directory(series)
    if final.is_dir():
        return final
    source = kernel.directory(series)
    release = kernel.modules(source).name
    with cache.fresh(final) as scratch:
        tree = scratch / "tree"
        stage.say("unpacking the kernel's modules")
        collect_modules(stage, source, tree / "lib/modules" / release)
        stage.execute(root.command("depmod", "-b", tree, release), "depmod failed")
        collect_libraries(tree / "usr")
        stage.say("packing the initramfs")
        initramfs(stage, tree, release, scratch)
        stage.say("packing the boot image")
        boot = tree / "boot"
        (boot / "grub").mkdir(parents=True)
        shutil.copy(kernel.vmlinuz(source), boot / "vmlinuz")
        shutil.copy(boot / "vmlinuz", scratch / "vmlinuz")
        shutil.copy(scratch / "initramfs", boot / "initramfs")
        (boot / "grub/grub.cfg").write_text(grub_config())
        stage.execute(root.command(
            "grub-mkrescue", "-o", scratch / "boot.iso", "--locales=", "--fonts=", "--themes=",
            "--install-modules=normal linux biosdisk iso9660 part_msdos ext2 configfile test echo serial terminal", tree), "could not make the boot image")
        disk.fill_cylinder(scratch / "boot.iso")
        shutil.rmtree(tree)
    return final


def grub_config():
    """Each run says its command line on the disk that carries its files."""
    return "set timeout=0\nset gfxpayload=text\nsource (hd1)/lab/grub.cfg\n"


def collect_modules(stage, source, target):
    """The stock modules, uncompressed: the emulator is slow at decompressing."""
    origin = kernel.modules(source)
    left_out = tuple(f"kernel/{name}/" for name in LEFT_OUT)
    for folder, _, files in os.walk(origin):
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), origin)
            if path.startswith(left_out) or name in ("vmlinuz", "config"):
                continue
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin / path, target / path)
    stage.execute(root.command("sh", "-c", 'find "$0" -name "*.ko.xz" -print0 | '
                               'xargs -0 -r -P"$(nproc)" -n64 xz -d', target),
                  "could not unpack the modules")


def collect_libraries(target):
    """What a dynamically linked program from the Debian root needs."""
    libraries = root.directory() / "usr/lib/x86_64-linux-gnu"
    place = target / "lib/x86_64-linux-gnu"
    place.mkdir(parents=True)
    for name in ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libgcc_s.so.1",
                 "libstdc++.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"):
        shutil.copy((libraries / name).resolve(), place / name)
    (target / "lib64").mkdir()
    shutil.copy((libraries / "ld-linux-x86-64.so.2").resolve(), target / "lib64")


def initramfs(stage, tree, release, scratch):
    early = scratch / "early"
    (early / "bin").mkdir(parents=True)
    shutil.copy(root.directory() / "usr/bin/busybox", early / "bin/busybox")
    shutil.copy(cache.LAB / "init", early / "init")
    script = ('cd "$0" && for name in $2; do modprobe -d "$0" -S "$1" -q --show-depends "$name"; done '
              '| sed -n "s/^insmod //p" | sort -u | while read -r path; do '
              'path=${path#"$0/"}; mkdir -p "$3/${path%/*}"; cp "$path" "$3/$path"; done; '
              'cp lib/modules/"$1"/modules.builtin* lib/modules/"$1"/modules.order "$3/lib/modules/$1/"; '
              'depmod -b "$3" "$1" && cd "$3" && find . | cpio -o -H newc --quiet | zstd -3 -q > "$4"')
    stage.execute(root.command("sh", "-c", script, tree, release, " ".join(EARLY), early,
                               scratch / "initramfs"), "could not pack the initramfs")
    shutil.rmtree(early)
