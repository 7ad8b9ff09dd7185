// SPDX-License-Identifier: GPL-2.0

//! The inputs that are kept: a small corpus of each target, and what was once found.

use std::fs;
use std::path::Path;

use fuzz::TARGETS;

#[test]
fn kept_inputs() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for target in TARGETS {
        let folder = seeds.join(target.name);
        let mut count = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            let input = fs::read(&path).expect("an input");
            println!("{}", path.display());
            (target.run)(&input);
            count += 1;
        }
        assert!(count > 0, "{}: there is none", folder.display());
    }
    let folders = fs::read_dir(&seeds).expect("seeds").count();
    assert_eq!(folders, TARGETS.len(), "folders in {}", seeds.display());
}
