//! Lines that are options, such as `-r FILE`.

use std::ops::Range;

use super::wanted::{FOR_BUILDS, read_wanted, split_extras};
use super::{BadLine, Line, Purpose};
use crate::recipe::requirement::PipGit;

/// Options that say where packages come from, or how pip gets there.
const OF_THE_MACHINE: [&str; 7] = [
    "-i",
    "--index-url",
    "--pypi-url",
    "--extra-index-url",
    "--no-index",
    "--trusted-host",
    "--use-feature",
];

/// Whether a line is an option that is a matter of the machine.
pub(super) fn is_of_the_machine(line: &str) -> bool {
    line.starts_with('-') && OF_THE_MACHINE.contains(&split_option(line).0)
}

/// A line that is an option, with its value.
pub(super) fn read_option(line: &str, span: &Range<usize>) -> Result<Line, BadLine> {
    let (option, value) = split_option(line);
    let bad = |message: String, hint: &str| Err(BadLine::new(span.clone(), message, hint));
    let path = |key: &str| {
        if value.is_empty() || value.contains("://") {
            Err(BadLine::new(
                span.clone(),
                format!("`{option}` names no file beside the recipe"),
                format!("put a copy beside the recipe and name it: {key}"),
            ))
        } else {
            Ok(value.to_owned())
        }
    };
    match option {
        "-r" | "--requirement" => path("-r FILE").map(Line::Requirements),
        "-c" | "--constraint" => path("-c FILE").map(Line::Constraints),
        "-e" | "--editable" => match read_wanted(value, span, Purpose::Requirements) {
            Ok(line @ (Line::Directory(..) | Line::Git(..))) => Ok(line),
            Ok(line @ Line::Address(_)) if PipGit::of(value).is_some() => Ok(line),
            // A name alone is most likely a directory. An index may have a stranger's project
            // of that name, so that nothing advises to ask one for it.
            Ok(Line::Requirement(_)) => bad(
                format!("`{option}` names neither a directory nor a Git repository"),
                &match split_extras(value).0 {
                    name if is_list_of_names(name) && !name.contains([',', ':']) => format!(
                        "if it is a directory of yours, write {option} ./{value}; \
                         of the packages of an index none is editable"
                    ),
                    _ => "a directory of yours is written as -e ./DIRECTORY; \
                          of the packages of an index none is editable"
                        .to_owned(),
                },
            ),
            Ok(_) => bad(
                format!("`{option}` names neither a directory nor a Git repository"),
                "write the address without it",
            ),
            Err(wrong) => Err(wrong),
        },
        _ if OF_THE_MACHINE.contains(&option) => bad(
            format!("`{option}` is a matter of the machine that locks"),
            "leave the line out, and put it into pip's configuration there (pip config set)",
        ),
        "-f" | "--find-links" => bad(
            format!("`{option}` is a matter of the machine that locks"),
            "leave the line out; a source beside the recipe is named by its directory: ./DIRECTORY",
        ),
        "-C" | "--config-settings" | "--config-setting" | "--global-option"
        | "--install-option" | "--build-option" => bad(
            format!("`{option}` cannot stand in a requirements file here"),
            FOR_BUILDS,
        ),
        _ => bad(
            format!("`{option}` cannot stand in a requirements file here"),
            "those that can are -r, -c, -e, --hash, --require-hashes, --pre, --prefer-binary, \
             --no-binary and --only-binary",
        ),
    }
}

/// An option and its value: `-r FILE`, `-rFILE`, `--option VALUE`, `--option=VALUE`.
fn split_option(line: &str) -> (&str, &str) {
    let end = if line.starts_with("--") {
        line.find([' ', '\t', '=']).unwrap_or(line.len())
    } else {
        line.len().min(2)
    };
    // Not in the middle of a character.
    let (option, value) = line.split_at_checked(end).unwrap_or((line, ""));
    let value = value.trim_start_matches([' ', '\t', '=']).trim();
    (option, unquoted(value))
}

/// The value without quotes around it.
pub(super) fn unquoted(value: &str) -> &str {
    let inside = ['"', '\''].into_iter().find_map(|mark| {
        let inside = value.strip_prefix(mark)?.strip_suffix(mark)?;
        (!inside.contains(mark)).then_some(inside)
    });
    inside.unwrap_or(value)
}

/// `:all:`, `:none:` or names of projects, with commas.
pub(super) fn is_list_of_names(value: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b":._-".contains(&byte);
    let mut names = value.split(',');
    names.all(|name| !name.is_empty() && name.bytes().all(is_name))
}
