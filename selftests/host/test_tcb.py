# SPDX-License-Identifier: GPL-2.0
"""What `make tcb` counts."""

import importlib.machinery
import importlib.util
import pathlib
import tempfile
import unittest

PATH = pathlib.Path(__file__).resolve().parent.parent.parent / "rust/hvcore/tcb"
LOADER = importlib.machinery.SourceFileLoader("tcb", str(PATH))
tcb = importlib.util.module_from_spec(importlib.util.spec_from_loader("tcb", LOADER))
LOADER.exec_module(tcb)

SOURCE = """\
// A comment.
/* unsafe {
   } */
fn one() -> &'static str {
    // SAFETY: none is needed.
    unsafe { two("unsafe { // no") }
}

fn two(text: &str) -> char {
    let bad = unsafe { three() };
    '{'
}

// SAFETY: as it
// is.
unsafe impl Send for Thing {}

#[cfg(test)]
mod tests {
    fn not() { unsafe { counted() } }
}

#[cfg(not(hvcore_image))]
use elsewhere::nothing;

struct Thing {
    #[cfg(test)]
    absent: u8,
}
"""


class Count(unittest.TestCase):
    def size(self, source):
        with tempfile.NamedTemporaryFile("w", suffix=".rs", dir=tcb.TREE / "selftests/host") as file:
            file.write(source)
            file.flush()
            size = tcb.Size()
            size.add(pathlib.Path(file.name))
            return size

    def test_what_is_counted(self):
        size = self.size(SOURCE)
        self.assertEqual((size.lines, size.functions, size.unsafe), (10, 2, 3))
        self.assertEqual([place.rsplit(":", 1)[1] for place in size.undocumented], ["10"])

    def test_the_comment_belongs_to_its_statement(self):
        late = "fn f() {\n    // SAFETY: of another.\n    a();\n    unsafe { b() };\n}\n"
        self.assertEqual(len(self.size(late).undocumented), 1)
        long = "fn f() {\n    // SAFETY: x.\n    let a =\n        unsafe { b() };\n}\n"
        self.assertEqual(self.size(long).undocumented, [])


if __name__ == "__main__":
    unittest.main()
