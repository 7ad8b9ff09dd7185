# SPDX-License-Identifier: GPL-2.0
"""Debian's archive: from where, and which packages.

No address is written here: the machine's own apt says where its Debian comes
from, and the suites of Debian 13 lie beside it on every mirror.
"""

import os
import pathlib
import subprocess

from .cache import LabError

SUITE = "trixie"
# What builds the kernel, a Rust module, hvctl, Bochs and a bootable image.
PACKAGES = """
    acpica-tools bc bindgen bison busybox-static bzip2 ca-certificates cargo clang
    cpio dwarves e2fsprogs flex g++-14 gcc-14 gcc g++ grub-common grub-pc-bin kmod
    libc6-dev libclang-dev libdw-dev libelf-dev libssl-dev lld llvm make mtools
    patch perl pkg-config python3 rsync rust-clippy rust-src rustc rustfmt
    xorriso xz-utils zlib1g-dev zstd bochsbios vgabios
""".split()


def machine_sources():
    """(address, suite, label) of each Debian source of this machine."""
    fields = "$(REPO_URI)|$(RELEASE)|$(ORIGIN)|$(LABEL)"
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"],
        capture_output=True, text=True, check=False).stdout
    for line in dict.fromkeys(listing.splitlines()):
        address, suite, origin, label = line.split("|")
        if origin == "Debian":
            yield mirror(address).rstrip("/"), suite, label


def mirror(address):
    """Where `address` leads: cloud images name a file with the mirrors in it."""
    for scheme in ("mirror+file:", "mirror://file:"):
        if address.startswith(scheme):
            listed = pathlib.Path("/" + address[len(scheme):].strip("/"))
            if listed.is_file():
                return listed.read_text().split()[0]
    return address


def sources_list():
    """The sources.list of the lab's Debian 13, derived from this machine's."""
    known = list(machine_sources())
    if not known:
        subprocess.run(["apt-get", "update"], capture_output=True, check=False)
        known = list(machine_sources())
    plain = [address for address, suite, label in known
             if label == "Debian" and "backports" not in suite] or \
            [address for address, suite, label in known if label == "Debian"]
    if not plain:
        raise LabError(
            "this machine's apt names no Debian source, so there is nowhere to take "
            "Debian 13 from.\n  tried: 'apt-get update' and 'apt-get indextargets'; "
            "see /etc/apt/sources.list and /etc/apt/sources.list.d/")
    main = plain[0]
    lines = [f"deb {main} {SUITE} main", f"deb-src {main} {SUITE} main",
             f"deb {main} {SUITE}-updates main", f"deb {main} {SUITE}-backports main"]
    lines += [f"deb {address} {SUITE}-security main"
              for address, _, label in known if label == "Debian-Security"][:1]
    return "\n".join(lines) + "\n"


def proxies():
    """This machine's settings for reaching the archive, as apt's options."""
    dump = subprocess.run(["apt-config", "dump", "--format", '%f "%v";%n'],
                          capture_output=True, text=True, check=False).stdout
    wanted = ("Acquire::http::", "Acquire::https::", "Acquire::Retries", "Acquire::ForceIPv")
    return [line for line in dump.splitlines() if line.startswith(wanted)
            and not line.endswith('"";') and "::Pipeline" not in line]


def install_on_host(stage, programs):
    """Install what this machine lacks; `programs` maps a program to its package."""
    def found(program):
        folders = os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/sbin"]
        return any(os.access(f"{folder}/{program}", os.X_OK) for folder in folders)

    missing = sorted({package for program, package in programs.items() if not found(program)})
    if not missing:
        return
    if os.geteuid():
        raise LabError(f"root is needed to install {' '.join(missing)}")
    stage.say(f"installing {' '.join(missing)} on this machine")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    failure = f"could not install {' '.join(missing)} from this machine's Debian archive"
    try:
        stage.execute(install, failure, env=environment)
    except LabError:
        # An old package list names files that the archive no longer has.
        stage.execute(["apt-get", "update"], "could not refresh apt's package lists",
                      env=environment)
        stage.execute(install, failure, env=environment)
