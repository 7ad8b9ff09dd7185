# SPDX-License-Identifier: GPL-2.0
"""docs/threat-model.md names, for each attack, results of tests that there are."""

import functools
import pathlib
import re
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "selftests"))

from runner import groups  # noqa: E402

PAGE = (TOP / "docs/threat-model.md").read_text()
ANYTHING = "…"
# What a result's name has at another place each time: of shell, of printf, of the assembler.
VARIABLE = re.compile(r"\$\{?\w+\}?|\$\([^)]*\)|%[#\d.]*l*[a-z]|\\\w+")


def literals():
    """Texts in quotes in the tests' sources, with `ANYTHING` for what varies."""
    sources = [path for place in ("hvmod", "payloads", "attack")
               for path in (TOP / "selftests" / place).iterdir() if path.suffix in (".sh", ".c", ".S")]
    found = {VARIABLE.sub(ANYTHING, text) for path in sources
             for text in re.findall(r'"((?:[^"\\\n]|\\.)*)"', path.read_text())}
    return [text for text in found if text.replace(ANYTHING, "").strip()]


@functools.cache
def pattern(text):
    return re.compile(".+".join(map(re.escape, text.split(ANYTHING))))


def agree(name, literal):
    """Whether both can be the same, when each may leave parts out. What is mostly variable is not."""
    if pattern(name).fullmatch(literal):
        return True
    said = len(literal.replace(ANYTHING, ""))
    return 2 * said > len(name) and bool(pattern(literal).fullmatch(name.replace(ANYTHING, "x")))


LITERALS = literals()
GROUPS = {group.name for group in groups.ALL} | {name for group in groups.ALL for name, _ in group.programs}
RUST = "\n".join(path.read_text() for crate in ("hvcore", "tlfs") for path in (TOP / "rust" / crate).rglob("*.rs"))


def rows():
    """The last cell of each row of the tables of attacks, by the row's number."""
    attacks = PAGE[PAGE.index("## Attacks, and what shows that they fail"):]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in attacks.splitlines()
             if re.match(r"\| \d", line)]
    return {row[0]: row[-1] for row in cells}


def without_group(name):
    """A name without the group or program in front of it; nothing if it is only that."""
    group, _, rest = name.partition(": ")
    return rest if group in GROUPS else name


def is_there(name, before):
    """Whether there is such a test; `before` is the name that it follows, whose begin it may share."""
    if code := re.findall(r"`([^`]+)`", name):
        return all(f"fn {word.split('::')[-1]}(" in RUST or (TOP / "rust/hvcore/src" / word).exists()
                   for word in code)
    name, before = without_group(name), without_group(before)
    if name in ("", ANYTHING):
        return True
    names = [name, before.partition(": ")[0] + ": " + name]
    return any(agree(name, literal) or name.removesuffix(f": {ANYTHING}") == literal
               for name in names for literal in LITERALS)


class ThreatModel(unittest.TestCase):
    def test_each_attack_has_tests_that_exist(self):
        found = rows()
        self.assertGreater(len(found), 70)
        for number, cell in found.items():
            # As many results as the number says have this name.
            names = [re.sub(r" \(\d+\)$", "", name) for name in cell.split("; ")]
            for name in names:
                with self.subTest(attack=number, name=name):
                    self.assertTrue(name == "the same" or is_there(name, names[0]))


class Names(unittest.TestCase):
    def test_agree(self):
        self.assertTrue(agree("MSR: RDMSR of … is #GP", "MSR: RDMSR of … is #GP"))
        self.assertTrue(agree("deposit …", "deposit of nothing"))
        self.assertTrue(agree("MSR: WRMSR of 0x3a is #GP", "MSR: WRMSR of … is #GP"))
        self.assertFalse(agree("MSR: WRMSR of 0x3a is #UD", "MSR: WRMSR of … is #GP"))
        self.assertFalse(is_there("hidden: a test that is not there", ""))
        self.assertFalse(is_there("`stage::tests::not_there`", ""))


if __name__ == "__main__":
    unittest.main()
