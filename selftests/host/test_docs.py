# SPDX-License-Identifier: GPL-2.0
"""What the documents name exists: files, make's targets, tests, hvctl's options."""

import pathlib
import re
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "selftests"))

from runner import groups, host, listing  # noqa: E402

PAGES = [path for place in (".", "docs", "selftests/lab", "selftests/payloads", "rust/fuzz")
         for path in sorted((TOP / place).glob("*.md"))]
MAKEFILE = (TOP / "Makefile").read_text()
TARGETS = {name for line in re.findall(r"^([a-z][a-z -]*):(?!=)", MAKEFILE, re.M) for name in line.split()}
MANUAL = (TOP / "hvctl-user/hvctl/man/hvctl.1").read_text().replace("\\-", "-")
TESTS = {group.name for group in groups.ALL} | set(host.TESTS) | set(host.SOAK_TESTS)


def code(page):
    """Commands and names: indented lines, and what is between backquotes."""
    # Without drawings.
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    return re.findall(r"^    (\S.*)", text, re.M) + [
        " ".join(found.split()) for found in re.findall(r"`([^`]+)`", text)]


class Docs(unittest.TestCase):
    def each(self, expression, missing):
        """No match of an expression in the code of a page misses anything."""
        found = [(page, match) for page in PAGES for line in code(page)
                 for match in re.finditer(expression, line)]
        self.assertTrue(found, expression)
        for page, match in found:
            with self.subTest(page=str(page.relative_to(TOP)), code=match.group(0)):
                self.assertFalse(missing(match))

    def test_links(self):
        for page in PAGES:
            for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
                if not link.startswith("http"):
                    with self.subTest(page=page.name, link=link):
                        self.assertTrue((page.parent / link).exists())

    def test_files(self):
        self.each(r"(?<![\w./-])(?:selftests|rust|hvmod|hvctl-user|docs|include/uapi)/[\w./-]*\w",
                  lambda match: not (TOP / match.group(0)).exists())

    def test_targets_of_make(self):
        self.each(r"^make(?: [A-Z_]+=(?:\"[^\"]*\"|\S+))*((?: [a-z][a-z-]*)+)",
                  lambda match: set(match.group(1).split()) - TARGETS)

    def test_names_of_tests(self):
        options = r"(?: --?\S+(?: \d+| virtme| here)?)*"
        self.each(rf"selftests/test{options}((?: (?!here|virtme)[a-z][a-z0-9-]*)+)",
                  lambda match: set(match.group(1).split()) - TESTS)

    def test_options_of_hvctl(self):
        def missing(match):
            section = re.search(rf'^\.SH "HVCTL {match.group(1).upper()}"\n(.*?)(?=^\.SH |\Z)', MANUAL,
                                re.M | re.S)
            return not section or set(re.findall(r"(?<= )--[a-z-]+", match.group(2))) - set(
                re.findall(r"--[a-z-]+", section.group(1)))

        self.each(r"^hvctl (?!help)(\w+)(.*)", missing)


class Listing(unittest.TestCase):
    def test_each_program_says_what_it_shows(self):
        for group in groups.ALL:
            for name, command in group.programs:
                with self.subTest(program=name):
                    self.assertGreater(len(listing.about(command)), 20)


if __name__ == "__main__":
    unittest.main()
