# SPDX-License-Identifier: GPL-2.0
"""The disks that carry files into an emulated machine and out of it.

In goes an ext file system, made without mounting anything; out comes a tar
archive on a bare disk, which needs no file system to be whole when the machine
is stopped hard.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import tarfile
import time

from .cache import LabError

# Bochs describes a disk by its geometry: a size between cylinders is cut off.
CYLINDER = 16 * 63 * 512
OUT_SIZE = 8192 * CYLINDER  # sparse
# Always the same, since a restored kernel remembers the disk's size.
PUT_SIZE = 32768 * CYLINDER
SLACK = 64 << 20    # what a command may write beside its files


def fill_cylinder(path):
    """Make the image end where a cylinder does."""
    os.truncate(path, -(-path.stat().st_size // CYLINDER) * CYLINDER)


def link_or_copy(source, target, follow_symlinks=True):
    try:
        os.link(source, target, follow_symlinks=follow_symlinks)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=follow_symlinks)
    return target


def place(source, target):
    source = pathlib.Path(source)
    if not source.exists():
        raise LabError(f"--put {source}: no such file or directory")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=link_or_copy,
                        dirs_exist_ok=True)
    else:
        # A link of the file's own would be put as a dangling one.
        link_or_copy(source.resolve(), target)


class Disks:
    """The put and the out disk of one run, in its own directory."""

    def __init__(self, directory):
        self.put = directory / "put.img"
        self.out = directory / "out.img"
        self.tree = directory / "put.tree"

    def make(self, command, puts, gets, grub, terminal=None, enter=None):
        """`enter` is a script that runs the command, in another user space."""
        lab = self.tree / "lab"
        lab.mkdir(parents=True)
        (self.tree / "put").mkdir()
        for spec in puts:
            source, _, destination = spec.partition(":")
            name = pathlib.Path(source).resolve().name
            if destination.startswith("/"):
                place(source, self.tree / "dest" / destination.lstrip("/"))
            else:
                place(source, self.tree / "put" / (destination or name))
        if len(command) == 1:
            body = command[0]
        else:
            body = "exec " + shlex.join(command)
        scripts = {"command": f"#!/bin/sh\n{body}\n"}
        if enter:
            scripts = {"command": enter, "inside": scripts["command"]}
        for name, text in scripts.items():
            (lab / name).write_text(text)
            (lab / name).chmod(0o755)
        (lab / "get").write_text("".join(f"{path}\n" for path in gets))
        (lab / "grub.cfg").write_text(grub)
        (lab / "seed").write_bytes(os.urandom(512))
        (lab / "now").write_text(f"{int(time.time())}\n")
        if terminal:
            (lab / "shell").write_text(terminal)
        self.format()
        shutil.rmtree(self.tree)
        with open(self.out, "wb") as out:
            out.truncate(OUT_SIZE)

    def format(self):
        size, files = 0, 0
        for folder, folders, names in os.walk(self.tree):
            files += len(names) + len(folders)
            size += sum(os.lstat(os.path.join(folder, name)).st_size + 4096 for name in names)
        blocks = (size + size // 20 + SLACK) // 4096
        if blocks * 4096 > PUT_SIZE:
            raise LabError(f"--put: {size >> 20} MiB is more than the disk holds "
                           f"({PUT_SIZE >> 20} MiB)")
        # GRUB reads its configuration from here too: no features it lacks.
        made = subprocess.run(
            ["mke2fs", "-q", "-F", "-t", "ext2", "-O", "extent,^resize_inode", "-b", "4096", "-m", "0",
             "-N", str(files + 2048), "-E", "root_owner=0:0", "-d", str(self.tree), str(self.put),
             str(blocks)],
            capture_output=True, text=True, check=False,
            env=dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"))
        if made.returncode:
            raise LabError(f"could not make the disk with the files: {made.stderr.strip()}")
        os.truncate(self.put, PUT_SIZE)

    def extract(self, directory):
        """Unpack what the machine left; it is data from a test, hence the filter."""
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with tarfile.open(self.out, "r:") as archive:
                if hasattr(tarfile, "tar_filter"):
                    archive.extractall(directory, filter="tar")
                else:
                    archive.extractall(directory)
        except (tarfile.TarError, OSError) as error:
            raise LabError(f"the machine's result disk cannot be read: {error}") from error
