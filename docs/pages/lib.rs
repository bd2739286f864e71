//! Manual pages and shell completions of a command, made from the types that parse it.
//!
//! Names, options and their texts come from clap, through `clap_mangen` and `clap_complete`; what a
//! command line cannot know (files, exit codes, where to read on) is a [`Manual`]. Each command gets
//! a page of its own, as Git's do: `imgnode(8)`, `imgnode-install(8)`.
//!
//! The examples `pages` of `verify` and `builder` call [`run`]. Examples, because those link what
//! the programs themselves must not grow by.
//!
//! ```text
//! OUT/man/NAME-COMMAND.SECTION      man(7)
//! OUT/bash/NAME  OUT/zsh/_NAME  OUT/fish/NAME.fish
//! ```

mod page;

use std::ffi::OsString;
use std::fs;
use std::io::{Error, Result};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// What the pages of a command have to say besides its options.
#[derive(Clone, Copy, Debug)]
pub struct Manual {
    /// Section of the manual: 1 for everybody, 8 for administrators.
    pub section: &'static str,
    /// What every page ends with as exit code, and what it means.
    pub exit_status: Items,
    /// What the program reads from its environment. Variables that replace an option are added.
    pub environment: Items,
    /// What lies where.
    pub files: Items,
    /// Other pages, as `schroot(1)`.
    pub see_also: &'static [&'static str],
}

/// Terms and what they mean.
pub type Items = &'static [(&'static str, &'static str)];

/// Does what the command line of such an example says: `OUT DATE`, with the date that
/// the pages bear.
pub fn run(
    command: Command,
    manual: &Manual,
    words: impl IntoIterator<Item = OsString>,
) -> Result<()> {
    let words: Vec<OsString> = words.into_iter().skip(1).collect();
    let [out, date] = &words[..] else {
        return Err(Error::other("expected two words: OUT DATE"));
    };
    let date = date
        .to_str()
        .ok_or_else(|| Error::other("DATE is no text"))?;
    write(command, manual, date, out.as_ref())
}

/// Writes pages and completions below `out`.
pub fn write(command: Command, manual: &Manual, date: &str, out: &Path) -> Result<()> {
    completions(command.clone(), out)?;
    let man = out.join("man");
    fs::create_dir_all(&man)?;
    for (name, text) in page::all(command, manual, date)? {
        fs::write(man.join(name), text)?;
    }
    Ok(())
}

fn completions(mut command: Command, out: &Path) -> Result<()> {
    let name = command.get_name().to_owned();
    for (shell, file) in [
        (Shell::Bash, name.clone()),
        (Shell::Zsh, format!("_{name}")),
        (Shell::Fish, format!("{name}.fish")),
    ] {
        let directory = out.join(shell.to_string());
        fs::create_dir_all(&directory)?;
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, &name, &mut script);
        fs::write(directory.join(file), script)?;
    }
    Ok(())
}
