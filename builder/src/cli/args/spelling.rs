//! The ways in which a line may be typed, brought to the one that clap reads.
//!
//! - Flags of every command also stand before the command, or between `store` and `gc`.
//!   clap's own global flags cannot do that beside `imgbuild RECIPE`, and drop the first of
//!   two `--archive` that stand on both sides.
//! - `lock RECIPE --upgrade PACKAGE` is `--upgrade=PACKAGE`; what ends in `.toml` is the recipe.

use std::ffi::{OsStr, OsString};

use clap::{Args, Command as Clap};

use super::Common;

/// The line as clap reads it; `words` begins with the program's name.
pub(super) fn in_order(program: &Clap, words: Vec<OsString>) -> Vec<OsString> {
    let common = Common::augment_args(Clap::new("common"));
    let mut words = words.into_iter().peekable();
    let mut line: Vec<OsString> = words.next().into_iter().collect();
    let mut flags = Vec::new();
    let mut command = program;
    let mut path = Vec::new();
    while let Some(word) = words.peek() {
        if let Some(takes_value) = flag(&common, word) {
            flags.extend(words.by_ref().take(if takes_value { 2 } else { 1 }));
        } else if let Some(found) = command.find_subcommand(word) {
            command = found;
            path.extend(words.next());
        } else {
            break;
        }
    }
    let locks = path.iter().map(OsString::as_os_str).eq(["lock"]);
    // `store --json`: clap asks for the rest of the command.
    let whole = path.is_empty() || !command.has_subcommands();
    line.extend(path);
    line.extend(flags.into_iter().filter(|_| whole));
    while let Some(word) = words.next() {
        let package = |next: &OsString| {
            let text = next.to_string_lossy();
            !text.starts_with('-') && !text.ends_with(".toml")
        };
        match words.next_if(|next| locks && word == "--upgrade" && package(next)) {
            Some(package) => {
                let mut joined = OsString::from("--upgrade=");
                joined.push(package);
                line.push(joined);
            }
            None => line.push(word),
        }
    }
    line
}

/// Whether the word is a flag of every command, and whether its value is the next word.
fn flag(common: &Clap, word: &OsStr) -> Option<bool> {
    let word = word.to_str()?;
    common.get_arguments().find_map(|arg| {
        let takes = arg.get_action().takes_values();
        let long = arg.get_long().map(|name| format!("--{name}"))?;
        let short = arg.get_short().map(|name| format!("-{name}"));
        if word == long || short.is_some_and(|short| word == short) {
            Some(takes)
        } else {
            let value = word.strip_prefix(&long)?.starts_with('=');
            (value && takes).then_some(false)
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::LowArgs;

    #[track_caller]
    fn reads(typed: &str, read: &str) {
        let words = typed.split(' ').map(OsString::from).collect();
        let line = in_order(&LowArgs::command(), words);
        assert_eq!(line, read.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn flags_of_every_command_stand_where_one_likes() {
        reads("imgbuild -v lock r.toml", "imgbuild lock -v r.toml");
        reads("imgbuild --store list list", "imgbuild list --store list");
        reads(
            "imgbuild --store=S --json store -v gc --dry-run",
            "imgbuild store gc --store=S --json -v --dry-run",
        );
        reads(
            "imgbuild --archive a=1 lock r.toml --archive b=2",
            "imgbuild lock --archive a=1 r.toml --archive b=2",
        );
        reads("imgbuild -v r.toml lock", "imgbuild -v r.toml lock");
        reads("imgbuild -v -- lock", "imgbuild -v -- lock");
        reads(
            "imgbuild --json env root --help",
            "imgbuild env root --help",
        );
        // These are for one command, and stay for clap to refuse.
        reads("imgbuild --frozen plan r", "imgbuild --frozen plan r");
        reads("imgbuild --json=1 list", "imgbuild --json=1 list");
        reads("imgbuild --store", "imgbuild --store");
    }

    #[test]
    fn upgrade_takes_the_next_word_unless_it_is_the_recipe() {
        reads(
            "imgbuild lock r.toml --upgrade curl --upgrade -v",
            "imgbuild lock r.toml --upgrade=curl --upgrade -v",
        );
        reads(
            "imgbuild lock --upgrade r.toml",
            "imgbuild lock --upgrade r.toml",
        );
        reads(
            "imgbuild -v lock --upgrade curl r.toml",
            "imgbuild lock -v --upgrade=curl r.toml",
        );
        reads("imgbuild plan --upgrade x", "imgbuild plan --upgrade x");
    }
}
