# SPDX-License-Identifier: GPL-2.0
"""docs/abi.md names every call, hypercall and property, each with a test that there is."""

import pathlib
import re
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "selftests"))

from runner import groups  # noqa: E402

PAGE = (TOP / "docs/abi.md").read_text()
TLFS = TOP / "rust/tlfs"
# Programs that are run as they are, by tests of these names.
OTHERS = {"mshv-ioctls": "mshv_ioctls", "qemu": "qemu"}


def constants(file, module=None):
    """Constants of a Rust source, or of a module in it, by name."""
    text = (TLFS / "src" / file).read_text()
    if module:
        text = re.search(rf"^pub mod {module} \{{\n(.*?)^\}}", text, re.M | re.S).group(1)
    found = re.findall(r"^ *pub const (\w+): u\d+ = (0x[0-9a-f_]+);", text, re.M)
    return {name: int(value.replace("_", ""), 16) for name, value in found}


def section(title):
    return re.search(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", PAGE, re.M | re.S).group(1)


def rows(text):
    """Cells of each row of the tables, without their heads."""
    table = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return [row for at, row in enumerate(cells) if not set("".join(row)) <= set("- ")
            and not (at + 1 < len(cells) and set("".join(cells[at + 1])) <= set("- "))]


def numbers(cell):
    """Numbers that a cell names; `03` after a longer one changes its end, `06 to 0b` is a range."""
    found, last = [], ""
    for whole, word, until in re.findall(r"\b(0x)?([0-9a-f]{2,8})\b(?: to ([0-9a-f]{2}))?", cell):
        last = word if whole else last[: len(last) - len(word)] + word
        end = int(last[: len(last) - len(until)] + until, 16) if until else int(last, 16)
        found.extend(range(int(last, 16), end + 1))
    return found


class Tables(unittest.TestCase):
    def missing(self, cell):
        """Tests that a cell names and that do not exist, or that there is none."""
        names = [name.strip() for name in cell.split(",")]
        programs = {program for group in groups.ALL for program, _ in group.programs}
        return [name or "no test" for name in names if not self.exists(name, programs)]

    @staticmethod
    def exists(name, programs):
        if "::" in name:
            file, test = name.split("::")
            source = TLFS / "tests" / f"{file}.rs"
            return source.exists() and (test == "*" or f"fn {test}(" in source.read_text())
        return OTHERS.get(name, name) in programs

    def test_each_row_has_a_test_that_exists(self):
        mshv = re.search(r"^## linux/mshv.h.*?(?=^## )", PAGE, re.M | re.S).group(0)
        found = rows(mshv)
        self.assertGreater(len(found), 60)
        for row in found:
            with self.subTest(row=row[0]):
                if row[1:] == ["see below", ""]:
                    continue
                self.assertEqual(self.missing(row[-1]), [])

    def test_calls(self):
        text = (TLFS / "src/mshv.rs").read_text()
        calls = re.findall(r"^pub const (\w+): u32 = io[rw]*\(", text, re.M)
        self.assertGreater(len(calls), 10)
        named = re.findall(r"\bMSHV_(\w+)\b", " ".join(row[0] for row in rows(PAGE)))
        self.assertEqual(set(calls) - set(named), set())

    def test_hypercalls(self):
        table = rows(section("Hypercalls of MSHV_ROOT_HVCALL"))
        listed = {number for row in table for number in numbers(row[0])}
        self.assertEqual(listed, set(constants("hvcall.rs", "code").values()))

    def test_properties(self):
        table = rows(section("Properties"))
        listed = {number for row in table for number in numbers(row[0])}
        self.assertEqual(listed, set(constants("property.rs", "code").values()))

    def test_registers(self):
        """Each register that has a name is in the tables of abi_registers."""
        source = (TOP / "selftests/hvmod/abi_registers.c").read_text()
        tested = set()
        for first, count in re.findall(r'^\t\{ "[^"]+", (0x[0-9a-f]+|\d+), (\w+)', source, re.M):
            tested.update(range(int(first, 0), int(first, 0) + (int(count) or 1 if count.isdigit() else 1)))
        names = constants("register.rs", "name")
        # More than a number, and what changes by itself: in abi_processor.
        elsewhere = re.compile("[C-GS]S|TR|LDTR|GDTR|IDTR|TSC")
        self.assertEqual([name for name, value in names.items()
                          if value not in tested and not elsewhere.fullmatch(name)], [])


class Numbers(unittest.TestCase):
    def test_numbers(self):
        self.assertEqual(numbers("0x44, 0x101"), [0x44, 0x101])
        self.assertEqual(numbers("0x00060000, 02, 06 to 08"),
                         [0x60000, 0x60002, 0x60006, 0x60007, 0x60008])
        self.assertEqual(numbers("EX 0x00090007, 0x00090009"), [0x90007, 0x90009])
        self.assertEqual(numbers("any other"), [])


if __name__ == "__main__":
    unittest.main()
