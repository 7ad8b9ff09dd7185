# SPDX-License-Identifier: GPL-2.0
"""The Debian 13 root: the toolchain of the kernel, on a machine with another."""

import ctypes
import os
import pathlib
import sys
import tempfile
import time

from . import archive, cache
from .cache import LabError

RECIPE = 1
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000


def directory():
    """Where this recipe's root lies, built or not."""
    name = cache.key(RECIPE, archive.SUITE, *archive.PACKAGES)
    return cache.directory() / f"root-{name}"


def build(stage):
    """Make the root unless it is there."""
    root = directory()
    if root.is_dir():
        return root
    archive.install_on_host(stage, {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"})
    keys = pathlib.Path("/usr/share/keyrings")
    if not any(keys.glob(f"*{archive.SUITE}*")):
        stage.execute(["apt-get", "install", "-y", "--only-upgrade", "debian-archive-keyring"],
                      "could not get the signing keys of Debian 13")
    with cache.fresh(root) as scratch, tempfile.NamedTemporaryFile("w") as sources:
        sources.write(archive.sources_list())
        sources.flush()
        stage.say(f"installing Debian 13 ({archive.SUITE}) with the kernel's toolchain")
        stage.execute(
            ["mmdebstrap", "--mode=root", "--variant=apt", "--skip=cleanup/apt/lists",
             '--aptopt=APT::Install-Recommends "false"',
             "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
             *(f"--aptopt={setting}" for setting in archive.proxies()),
             "--include=" + ",".join(archive.PACKAGES), archive.SUITE, scratch, sources.name],
            "could not install a Debian 13 root from this machine's mirror")
    return root


def refresh(stage, older_than=86400):
    """Fetch the archive's lists if they are old; say whether that was done."""
    lists = directory() / "var/lib/apt/lists"
    if time.time() - lists.stat().st_mtime < older_than:
        return False
    stage.say("refreshing the archive's lists")
    stage.execute(command("apt-get", "-o", "APT::Sandbox::User=root", "update"),
                  "could not refresh the lists of Debian's archive")
    os.utime(lists)
    return True


def command(*argv):
    """What runs `argv` in the root, for a caller that starts processes."""
    return [sys.executable, str(cache.LAB / "enter"), "--", *map(str, argv)]


def mount(source, target, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None):
        number = ctypes.get_errno()
        raise LabError(f"could not mount {source} on {target}: {os.strerror(number)}")


def enter(binds):
    """Change into the root, for this process and those it starts.

    The mounts live in a namespace of this process, so the kernel takes them
    away with its last member, however that ends.
    """
    root = directory()
    if not root.is_dir():
        raise LabError(f"there is no Debian 13 root yet: run {cache.LAB}/build first")
    if os.geteuid():
        raise LabError("root is needed to enter the Debian 13 root")
    here = pathlib.Path.cwd().resolve()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise LabError(f"no private mount namespace: {os.strerror(ctypes.get_errno())}")
    mount("none", "/", MS_REC | MS_PRIVATE)
    for path in ("/proc", "/sys", "/dev", "/tmp"):
        mount(path, f"{root}{path}", MS_BIND | MS_REC)
    for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"):
        if os.path.exists(path):
            target = pathlib.Path(f"{root}{path}")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            mount(os.path.realpath(path), target, MS_BIND)
    shown = [pathlib.Path("/tmp")]
    for path in [cache.TREE, cache.directory(), *binds, here]:
        path = pathlib.Path(path).resolve()
        if str(path) == "/" or any(path == known or known in path.parents for known in shown):
            continue
        if not path.is_dir():
            raise LabError(f"{path} is no directory that the root could show")
        target = pathlib.Path(f"{root}{path}")
        target.mkdir(parents=True, exist_ok=True)
        mount(path, target, MS_BIND | MS_REC)
        shown.append(path)
    os.chroot(root)
    os.chdir(here)


def environment(kdir):
    """The caller's environment, less what speaks of the machine's own tools."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("LD_", "RUSTUP_", "RUSTC", "CARGO_HOME", "PYTHON", "PYENV"))}
    kept["PATH"] = PATH
    kept["LC_ALL"] = "C.UTF-8"
    kept["CARGO_HOME"] = str(cargo_home())
    if kdir:
        kept["KDIR"] = str(kdir)
    return kept


def cargo_home():
    """Cargo's cache for the root, with the user's own registry settings."""
    home = cache.directory() / "cargo"
    home.mkdir(exist_ok=True)
    own = pathlib.Path(os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo"))
    for name in ("config.toml", "config"):
        if own != home and (own / name).is_file():
            text = (own / name).read_bytes()
            if not (home / name).is_file() or (home / name).read_bytes() != text:
                (home / name).write_bytes(text)
    return home
