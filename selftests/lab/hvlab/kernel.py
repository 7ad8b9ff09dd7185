# SPDX-License-Identifier: GPL-2.0
"""Debian's stock kernel, and a build tree that makes Rust modules for it.

Debian's headers package leaves out the Rust metadata (core, alloc, kernel and
bindings as the compiler wants them). Compiler, source, patches and
configuration are all in the archive, and the same inputs give the same mangled
names, so the metadata is made again and the modules load into the image that
Debian built.
"""

import os
import re
import shutil
import subprocess

from . import cache, root
from .cache import LabError

RECIPE = 1


def series_offered():
    """Series of 7.x kernels with source and configuration, newest first."""
    found = query("apt-cache", "search", "--names-only", r"^linux-source-[0-9.]+$")
    series = [line.split()[0].removeprefix("linux-source-") for line in found.splitlines()]
    modern = [name for name in series if int(name.split(".")[0]) >= 7]
    return sorted(modern, key=lambda name: [int(part) for part in name.split(".")], reverse=True)


def query(*argv):
    answer = subprocess.run(root.command(*argv), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise LabError(f"'{' '.join(argv)}' failed in the Debian 13 root:\n  {answer.stderr}")
    return answer.stdout


def version_offered(series):
    """The package version of `series`, and the release name of its kernel."""
    shown = query("apt-cache", "show", "--no-all-versions", f"linux-source-{series}")
    version = re.search(r"^Version: (\S+)", shown, re.M).group(1)
    upstream = re.match(r"[0-9.]+", version).group(0)
    names = query("apt-cache", "search", "--names-only", rf"^linux-headers-{re.escape(upstream)}[^-]*-amd64$")
    for line in names.splitlines():
        release = line.split()[0].removeprefix("linux-headers-")
        if f"\nVersion: {version}\n" in "\n" + query("apt-cache", "show", f"linux-headers-{release}"):
            return version, release
    raise LabError(f"the archive has linux-source-{series} {version} and no headers package of "
                   f"that version\n  it offers: {', '.join(names.split()[::1][:6]) or 'none'}")


def directory(series=None):
    """Where the kernel of `series` (default: the newest built) lies."""
    listed = cache.directory() / "kernels"
    built = sorted((path.name for path in listed.glob("*")),
                   key=lambda name: [int(part) for part in name.split(".")])
    if series is None and built:
        series = built[-1]
    if series not in built:
        raise LabError(f"kernel series {series or '7.x'} is not built; there is: "
                       f"{', '.join(built) or 'none'}\n  run {cache.LAB}/build"
                       + (f" --kernel {series}" if series else ""))
    return cache.directory() / (listed / series).read_text().strip()


def build_directory(series=None):
    """KDIR, or None while no kernel has been built and none was asked for."""
    try:
        return directory(series) / "build"
    except LabError:
        if series:
            raise
        return None


def build(stage, series):
    """Fetch the kernel of `series` and prepare its build tree."""
    version, release = version_offered(series)
    if not directory_of(version, release).is_dir() and root.refresh(stage):
        version, release = version_offered(series)
    final = directory_of(version, release)
    if not final.is_dir():
        # The tree is made where it stays: make writes its own path into files.
        work = final
        try:
            work.mkdir()
            fetch(stage, work, series, version, release)
            prepare(stage, work, series, release)
        except BaseException:
            cache.remove(work)
            raise
    pointer = cache.directory() / "kernels" / series
    pointer.parent.mkdir(exist_ok=True)
    pointer.write_text(final.name + "\n")
    return final


def directory_of(version, release):
    return cache.directory() / (f"kernel-{release}-"
                                + cache.key(RECIPE, version, root.directory().name))


def fetch(stage, work, series, version, release):
    """Download and unpack; nothing is installed, so no package script runs."""
    stage.say(f"downloading Debian's kernel {release}")
    wanted = [f"linux-source-{series}", f"linux-headers-{release}", f"linux-image-{release}"]
    known = query("apt-cache", "pkgnames", "linux-").split()
    # Newer packaging splits the image, its modules and its configuration out
    # of linux-image.
    wanted += [f"linux-{part}-{release}" for part in ("binary", "modules", "base")
               if f"linux-{part}-{release}" in known]
    packages = work / "packages"
    packages.mkdir()
    stage.execute(root.command("sh", "-c", 'cd "$0" && shift 0 && exec apt-get -o '
                               'APT::Sandbox::User=root download "$@"', packages,
                               *(f"{name}={version}" for name in wanted)),
                  f"the archive did not give Debian's kernel {release}")
    for package in packages.glob("*.deb"):
        place = "parts" if package.name.startswith(("linux-source", "linux-headers")) else "image"
        stage.execute(root.command("dpkg-deb", "-x", package, work / place),
                      f"could not unpack {package.name}")
    shutil.rmtree(packages)
    vmlinuz(work), modules(work), config(work)


def found(work, what, *patterns):
    """The first of `patterns` below the unpacked image; packagings differ."""
    for pattern in patterns:
        for path in sorted((work / "image").glob(pattern)):
            return path
    raise LabError(f"Debian's packages of this kernel hold no {what}\n  tried: "
                   f"{', '.join(patterns)} in {work / 'image'}")


def vmlinuz(work):
    return found(work, "kernel image", "usr/lib/modules/*/vmlinuz", "boot/vmlinuz-*")


def modules(work):
    """The directory of the kernel's modules; its name is the release."""
    return found(work, "modules", "usr/lib/modules/*/kernel", "lib/modules/*/kernel").parent


def config(work):
    return found(work, "configuration", "usr/lib/modules/*/config", "boot/config-*")


def prepare(stage, work, series, release):
    """Make the build tree: the source as patched by Debian, with its metadata."""
    parts = work / "parts"
    stage.say("unpacking the kernel's source")
    tree = work / "build"
    tree.mkdir()
    archive, = parts.glob("usr/src/linux-source-*.tar.*")
    stage.execute(root.command("tar", "-xf", archive, "-C", tree, "--strip-components=1"),
                  "could not unpack the kernel's source")
    shutil.copy(config(work), tree / ".config")
    # Kbuild appends such a file to the version: the module's vermagic is then
    # the stock kernel's.
    version = re.match(r"[0-9.]+", release).group(0)
    (tree / "localversion").write_text(release.removeprefix(version) + "\n")
    make = root.command("make", "-C", tree, f"-j{len(os.sched_getaffinity(0))}")
    stage.say("configuring; making the Rust metadata (some minutes)")
    stage.execute([*make, "olddefconfig"], "the kernel's configuration failed")
    if "CONFIG_RUST=y" not in (tree / ".config").read_text():
        raise LabError(f"Debian's configuration of {release} lost CONFIG_RUST with this toolchain; "
                       "'make rustavailable' in the root says why")
    stage.execute([*make, "prepare", "modules_prepare"], "making the Rust metadata failed")
    made = (tree / "include/config/kernel.release").read_text().strip()
    if made != release:
        raise LabError(f"the prepared tree calls itself {made}, the stock kernel {release}: "
                       "its modules would not load")
    symbols, = parts.glob(f"usr/src/linux-headers-{release}/Module.symvers")
    shutil.copy(symbols, tree / "Module.symvers")
    shutil.rmtree(parts)
