# SPDX-License-Identifier: GPL-2.0
"""Build the lab: Debian 13, its kernel, Bochs, and an image that boots."""

import argparse
import concurrent.futures
import os
import shutil

from . import bochs, cache, debian, image, kernel, qemu, root
from .cache import LabError


# Bytes that all stages take together, with room to run machines.
DISK_SPACE = 7 * 10**9


def check_machine():
    """Say at once what would otherwise be found out after minutes."""
    if os.geteuid():
        raise LabError("root is needed to build the lab, which makes a Debian 13 and enters it: "
                       "run this as root")
    if os.uname().machine != "x86_64":
        raise LabError(f"the lab emulates an x86-64 machine on one, and this is {os.uname().machine}")
    if not shutil.which("apt-get"):
        raise LabError("the lab takes Debian 13 from the archive that this machine's apt is set up with, "
                       "and there is no apt-get here: use a Debian 12 or 13")
    place = cache.directory()
    free = shutil.disk_usage(place).free
    if not root.directory().is_dir() and free < DISK_SPACE:
        raise LabError(f"there are {free / 10**9:.1f} GB free in {place}, and the lab needs "
                       f"{DISK_SPACE // 10**9}: make room, or name another place in XDG_CACHE_HOME")


def main():
    parser = argparse.ArgumentParser(prog="build", description=__doc__)
    parser.add_argument("--kernel", metavar="SERIES", action="append",
                        help="kernel series to build, such as 7.2; may be given again "
                        "(default: the newest that the archive offers)")
    parser.add_argument("--root", choices=sorted(debian.ROOTS), action="append", default=[],
                        help="also a larger user space for the machines, on a disk of its own")
    parser.add_argument("--update", action="store_true",
                        help="look for newer packages in the archive")
    arguments = parser.parse_args()
    check_machine()
    progress = cache.Progress(5)
    with cache.lock("build"):
        stage = cache.Stage(progress, 1, "debian")
        root.build(stage)
        if arguments.update:
            root.refresh(stage, older_than=0)
        offered = kernel.series_offered()
        wanted = arguments.kernel or offered[:1]
        for series in wanted:
            if series not in offered:
                raise LabError(f"the archive offers no kernel series {series}, but "
                               f"{', '.join(offered) or 'none of 7.x'}")
        # Neither needs the other, and each has long stretches on one processor.
        with concurrent.futures.ThreadPoolExecutor() as pool:
            emulator = pool.submit(bochs.build, cache.Stage(progress, 3, "bochs"))
            for series in wanted:
                kernel.build(cache.Stage(progress, 2, "kernel"), series)
            emulator.result()
        for series in wanted:
            image.build(cache.Stage(progress, 4, "image"), series)
        qemu.build(cache.Stage(progress, 5, "qemu"))
    # Beside other builds: nothing else needs it, and it takes minutes.
    with cache.lock("debian"):
        for name in arguments.root:
            debian.build(cache.Stage(progress, 5, name), name)
    progress.say(progress.total, f"the lab is ready, with kernel {', '.join(wanted)}")


if __name__ == "__main__":
    cache.run_main(main)
