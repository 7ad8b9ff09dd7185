# SPDX-License-Identifier: GPL-2.0
"""What `make` says of a kernel that hvmod cannot be built for: one sentence."""

import pathlib
import subprocess
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
RUSTC = "rustc 1.85.1 (4eb161250 2025-03-15) (built from a source tarball)"
METADATA = ("libcore.rmeta", "libkernel.rmeta", "libbindings.rmeta", "libmacros.so")


class Kdir(unittest.TestCase):
    """A kernel's build tree in form, and a rustc that says what it is told."""

    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = pathlib.Path(place.name)
        self.kdir = self.place / "a kernel"
        self.write("Makefile", "")
        self.configure()
        for name in METADATA:
            self.write(f"rust/{name}", "")
        self.write("Module.symvers", "")
        library = self.place / "sysroot/lib/rustlib/src/rust/library/core/src"
        library.mkdir(parents=True)
        (library / "lib.rs").touch()
        self.rustc = self.place / "rustc"
        self.install_rustc(RUSTC)

    def write(self, name, text):
        path = self.kdir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def configure(self, rust="CONFIG_RUST=y\n"):
        self.write("include/config/auto.conf",
                   f'CONFIG_64BIT=y\n{rust}CONFIG_RUSTC_VERSION_TEXT="{RUSTC}"\n')

    def install_rustc(self, version):
        self.rustc.write_text(f'#!/bin/sh\ncase $1 in\n--version) echo "{version}" ;;\n'
                              f'*) echo "{self.place}/sysroot" ;;\nesac\n')
        self.rustc.chmod(0o755)

    def check(self, kdir=None, rustc=None):
        return subprocess.run([str(TOP / "hvmod/check-kdir"), str(kdir or self.kdir),
                               str(rustc or self.rustc)],
                              capture_output=True, text=True, check=False)

    def refused(self, *words, **arguments):
        done = self.check(**arguments)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("hvmod: "), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        return done.stderr

    def test_a_good_one(self):
        done = self.check()
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_no_kernel(self):
        for kdir in ("/nonexistent", "/dev/null", str(self.place)):
            self.refused(kdir, "no kernel", "KDIR=", "LAB=1", kdir=kdir)

    def test_not_configured(self):
        self.write("include/config/auto.conf", "")
        self.refused("not configured", "modules_prepare")

    def test_without_rust(self):
        for rust in ("", "# CONFIG_RUST is not set\n"):
            self.configure(rust)
            self.refused("without Rust", "CONFIG_RUST=y")

    def test_without_metadata(self):
        for name in METADATA:
            with self.subTest(name):
                (self.kdir / "rust" / name).unlink()
                said = self.refused("Rust metadata", f"rust/{name}", "modules_prepare")
                self.assertNotIn("RUSTC=", said)
                self.write(f"rust/{name}", "")

    def test_another_rustc(self):
        self.install_rustc("rustc 1.63.0")
        self.refused(RUSTC, "rustc 1.63.0", "RUSTC=")

    def test_no_rustc(self):
        self.refused(RUSTC, "no /nonexistent/rustc", "RUSTC=", rustc="/nonexistent/rustc")

    def test_neither_metadata_nor_the_right_rustc(self):
        (self.kdir / "rust/libcore.rmeta").unlink()
        self.install_rustc("rustc 1.63.0")
        self.refused("Rust metadata", RUSTC, "rustc 1.63.0", "RUSTC=")

    def test_without_symvers(self):
        (self.kdir / "Module.symvers").unlink()
        self.refused("Module.symvers")

    def test_without_the_library_source(self):
        (self.place / "sysroot/lib/rustlib/src/rust/library/core/src/lib.rs").unlink()
        self.refused("rust-src")

    def test_make_says_it(self):
        for target, setting, sentence in (
                ("module", "KDIR=/nonexistent", "no kernel to build for in /nonexistent"),
                ("hvctl", "CARGO=/nonexistent/cargo", "there is no /nonexistent/cargo")):
            done = subprocess.run(["make", "-s", "-C", str(TOP), target, setting],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2)
            said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
            self.assertEqual(len(said), 1, done.stderr)
            self.assertIn(sentence, said[0])


if __name__ == "__main__":
    unittest.main()
