# SPDX-License-Identifier: GPL-2.0
"""Bochs 3.0, the emulator that has VMX, built from Debian's source.

Older ones will not do: the 7.3 kernel crashes in Debian 12's 2.7. The binaries
are static, so what Debian 13 built runs on Debian 12.
"""

import hashlib
import os
import pathlib
import shutil

from . import cache, root
from .cache import LabError

RECIPE = 3
VERSION = "3.0+dfsg"
SHA256 = "78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b"
TARBALL = f"bochs_{VERSION}.orig.tar.xz"
PATCH = cache.LAB / "bochs.patch"
SEED = "HVMOD_LAB_SEED"

COMMON = """
    --with-nogui --enable-x86-64 --enable-smp --enable-cpu-level=6 --enable-vmx=2
    --enable-svm --enable-avx --enable-evex --enable-cet --enable-protection-keys
    --enable-memtype --enable-pci --enable-e1000 --enable-monitor-mwait
    --enable-perfmon --enable-long-phy-address --disable-plugins --disable-docbook
""".split()
# The debugger excludes the fast paths, hence two builds.
FLAVOURS = {
    "bochs": ["--enable-all-optimizations", "--enable-repeat-speedups",
              "--enable-fast-function-calls", "--enable-handlers-chaining",
              "--enable-trace-linking"],
    "bochs-debugger": ["--enable-debugger", "--enable-x86-debugger"],
}
COMPILE = "-O2 -fomit-frame-pointer"
LINK = "LDFLAGS=-all-static"  # libtool's word for it, which configure would not take


def directory():
    name = cache.key(RECIPE, SHA256, PATCH.read_bytes(), COMPILE, LINK, COMMON, FLAVOURS, root.directory().name)
    return cache.directory() / f"bochs-{name}"


def build(stage):
    """Make the emulator's two builds unless they are there."""
    final = directory()
    if final.is_dir():
        return final
    with cache.fresh(final) as scratch:
        tarball = source(stage, scratch)
        for flavour, flags in FLAVOURS.items():
            stage.say(f"compiling {flavour}")
            tree = scratch / f"{flavour}.tree"
            tree.mkdir()
            stage.execute(root.command("tar", "-xf", tarball, "-C", tree, "--strip-components=1"),
                          "could not unpack Bochs's source")
            with open(PATCH, "rb") as patch:
                stage.execute(root.command("patch", "-d", tree, "-p1"),
                              "could not patch Bochs's source", stdin=patch)
            script = 'cd "$0" && ./configure "$@" && make -s -j"$(nproc)" ' + LINK + " bochs"
            stage.execute(["nice", *root.command(
                "env", f"CXXFLAGS={COMPILE}", f"CFLAGS={COMPILE}", "sh", "-c", script, tree,
                *COMMON, *flags)], f"could not compile {flavour}")
            shutil.copy(tree / "bochs", scratch / flavour)
            shutil.rmtree(tree)
        for leftover in scratch.glob("bochs_*"):
            leftover.unlink()
        share = root.directory() / "usr/share"
        shutil.copy(share / "bochs/BIOS-bochs-latest", scratch / "bios")
        shutil.copy((share / "vgabios/vgabios.bin").resolve(), scratch / "vgabios")
    return final


def source(stage, place):
    """The pinned tarball: from the seed directory, else from the archive."""
    tried = []
    seed = os.environ.get(SEED)
    if seed:
        seeded = pathlib.Path(seed) / TARBALL
        tried.append(f"{seeded}: {verdict(seeded)}")
        if verdict(seeded) == "good":
            shutil.copy(seeded, place)
            return place / TARBALL
    stage.say(f"fetching the source of Bochs {VERSION}")
    # The archive may lack the .dsc and still hold the tarball, and apt leaves
    # what it did get: so its exit status says nothing, the checksum does.
    for wanted in (f"bochs={VERSION}-1", "bochs"):
        try:
            stage.execute(root.command("sh", "-c", 'cd "$0" && apt-get -o APT::Sandbox::User=root '
                                       'source --download-only "$1"', place, wanted), "not complete")
        except LabError:
            pass
        found = place / TARBALL
        tried.append(f"apt-get source {wanted}: {verdict(found)}")
        if verdict(found) == "good":
            return found
    raise LabError(
        f"could not get {TARBALL} with SHA-256 {SHA256}\n  tried: " + "\n         ".join(tried)
        + f"\n  put the file into a directory and name that in the environment variable {SEED}")


def verdict(path):
    if not path.is_file():
        return "not there"
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        return "wrong checksum"
    return "good"
