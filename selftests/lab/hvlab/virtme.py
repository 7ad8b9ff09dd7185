# SPDX-License-Identifier: GPL-2.0
"""virtme-ng, installed into the Debian 13 root: the lab's kernel on the root's own files."""

from . import kernel, root

PACKAGES = "virtme-ng mount iproute2 udev".split()


def build(stage, series):
    """Install it unless it is there, and show it the kernel of that series: its release name."""
    debian = root.directory()
    if not (debian / "usr/bin/vng").exists():
        stage.say("installing virtme-ng")
        stage.execute(root.command(
            "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q", "install",
            "--no-install-recommends", *PACKAGES),
            "could not install virtme-ng into the Debian 13 root")
    # Its init ends the machine by this, which belongs to a Debian that has another init.
    poweroff = debian / "usr/local/sbin/poweroff"
    if not poweroff.is_symlink():
        poweroff.symlink_to("/bin/busybox")
    modules = kernel.modules(kernel.directory(series))
    place = debian / "usr/lib/modules" / modules.name
    if not place.is_symlink():
        stage.execute(root.command("depmod", "-b", modules.parents[2], modules.name), "depmod failed")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(modules)
    return modules.name
