// SPDX-License-Identifier: GPL-2.0
//! man/hvctl.1 is what the command line's definition says. To write it anew:
//! `HVCTL_WRITE_MANUAL=1 cargo test --test manual`.

use clap::CommandFactory;
use clap_mangen::Man;
use hvctl::args::Args;

fn manual() -> String {
    let mut command = Args::command();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone())
        .manual("hvmod")
        .date("")
        .source("hvctl");
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    for subcommand in command
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
    {
        let name = format!("hvctl {}", subcommand.get_name());
        page.extend_from_slice(format!(".SH \"{}\"\n", name.to_uppercase()).as_bytes());
        let man = Man::new(subcommand.clone());
        for (title, section) in [
            ("Synopsis", section(|to| man.render_synopsis_section(to))),
            (
                "Description",
                section(|to| man.render_description_section(to)),
            ),
            ("Options", section(|to| man.render_options_section(to))),
            ("Notes", section(|to| man.render_extra_section(to))),
        ] {
            if let Some(body) = section {
                page.extend_from_slice(format!(".SS {title}\n{body}").as_bytes());
            }
        }
    }
    String::from_utf8(page).unwrap()
}

/// A section without its own title; `None` where there is nothing in it.
fn section(render: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Option<String> {
    let mut text = Vec::new();
    render(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let body = text.split_once(".SH ")?.1.split_once('\n')?.1.to_owned();
    Some(body)
}

#[test]
fn the_manual_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/man/hvctl.1");
    let wanted = manual();
    if std::env::var_os("HVCTL_WRITE_MANUAL").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let present = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        present == wanted,
        "man/hvctl.1 is out of date: see the head of this file"
    );
}
