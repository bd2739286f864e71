//! Lines that name what is wanted: a requirement, an address, a path, a Git repository.

use std::ops::Range;

use super::{BadLine, Line, Purpose};
use crate::recipe::Unfit;
use crate::recipe::marker;
use crate::recipe::python::Git;
use crate::recipe::requirement::{Extra, PipGit, Requirement, is_archive};

/// What to do instead of an option for the build of one package.
pub(super) const FOR_BUILDS: &str = "a build sees the variables under `environment` of the virtualenv, such as \
     CFLAGS; or put the source beside the recipe with what it needs, under `local`";

/// What a line wants that is no option. A limit names no extras.
pub(super) fn read_wanted(
    line: &str,
    span: &Range<usize>,
    purpose: Purpose,
) -> Result<Line, BadLine> {
    let bad = |message: &str, hint: &str| Err(BadLine::new(span.clone(), message, hint));
    if let Some(git) = PipGit::of(line) {
        return read_git(line, &git, span);
    }
    // As pip separates them.
    let options = line.find(" -").unwrap_or(line.len());
    let (wanted, hashes) = line.split_at(options);
    if wanted.contains("file://") {
        return bad(
            "the address of a file or directory of one machine",
            "name a directory beside the recipe (./DIRECTORY), or a release by its version",
        );
    }
    if wanted.contains("://") {
        check_address(line, span)?;
        let condition = wanted.split_once(" ;").or_else(|| wanted.split_once("; "));
        if let Some((_, condition)) = condition {
            marker::check(condition)
                .map_err(|advice| BadLine::new(span.clone(), advice.why, advice.hint))?;
        }
        check_hashes(hashes, span.start + options)?;
        return Ok(Line::Address(line.to_owned()));
    }
    let (before_marker, marker) = match wanted.split_once(';') {
        Some((wanted, marker)) => (wanted.trim(), Some(marker)),
        None => (wanted.trim(), None),
    };
    let (path, extras) = split_extras(before_marker);
    let path = path.strip_prefix("file:").unwrap_or(path);
    if path.starts_with('.') || path.contains('/') {
        if marker.is_some() || !hashes.is_empty() {
            return bad(
                "a directory is installed in any case: it takes no condition and no digest",
                "leave out what follows the path",
            );
        }
        if path.starts_with(['/', '~']) {
            return bad(
                "a file or directory of one machine",
                "a recipe uses only what lies beside it: put a copy there and name it ./DIRECTORY",
            );
        }
        if path.rsplit('/').next().is_some_and(is_archive) {
            return match extras {
                "" => Ok(Line::Distribution(path.to_owned())),
                _ => bad(
                    "a file beside the recipe takes no extras here",
                    "add a line with the project's name and the extras: NAME[EXTRA]",
                ),
            };
        }
        let extras = read_extras(extras, span)?;
        return Ok(Line::Directory(path.to_owned(), extras));
    }
    if is_archive(path) {
        return bad(
            "the name of a file, and not of a project",
            &format!("if it lies beside this file, write ./{path}"),
        );
    }
    let read = wanted.trim().parse::<Requirement>();
    let checked = read.and_then(|read| read.check_new().map(|()| read));
    let read = checked.map_err(|unfit| {
        let span = span.start..span.start + wanted.trim().len();
        let message = unfit.to_string();
        BadLine {
            span,
            message,
            hint: unfit.hint,
        }
    })?;
    if purpose == Purpose::Constraints {
        read.check_limit()
            .map_err(|advice| BadLine::new(span.clone(), advice.why, advice.hint))?;
    }
    check_hashes(hashes, span.start + options)?;
    Ok(Line::Requirement(line.to_owned()))
}

fn read_git(line: &str, git: &PipGit<'_>, span: &Range<usize>) -> Result<Line, BadLine> {
    let bad = |message: String, hint: String| BadLine::new(span.clone(), message, hint);
    let as_key = || git.as_key();
    if git.has_credentials {
        return Err(bad(
            "the address carries credentials, which would end up in the lock".to_owned(),
            as_key(),
        ));
    }
    if git.reference.is_none() {
        return Err(bad(
            "a branch moves: a tag or a commit must follow the address, as @v1".to_owned(),
            as_key(),
        ));
    }
    if let Some((_, condition)) = line.split_once(';') {
        marker::check(condition).map_err(|advice| bad(advice.why, advice.hint))?;
    }
    let unfit = |unfit: Unfit| bad(unfit.to_string(), unfit.hint.unwrap_or_default());
    let source = source_of(git).map_err(unfit)?;
    if line.contains(';') {
        return Ok(Line::Address(line.to_owned()));
    }
    let (name, _) = line.split_once("git+").unwrap_or_default();
    let (_, before) = split_extras(name.trim_end_matches(['@', ' ', '\t']));
    let (_, behind) = split_extras(git.egg);
    let mut extras = read_extras(before, span)?;
    extras.extend(read_extras(behind, span)?);
    Ok(Line::Git(source, extras))
}

/// The repository, at what stands behind its address; else at its head.
fn source_of(git: &PipGit<'_>) -> Result<Git, Unfit> {
    let commit = git.reference.and_then(|reference| reference.parse().ok());
    let tag = git.reference.filter(|_| commit.is_none());
    Ok(Git {
        url: git.url.parse()?,
        tag: tag.map(str::parse).transpose()?,
        commit,
        subdirectory: git.subdirectory.map(str::parse).transpose()?,
    })
}

/// The repository of an address that a package requires, as pip writes it; a branch stands where
/// a tag does. Without one, the error says why.
pub(crate) fn repository(address: &str) -> Result<Git, String> {
    let git = PipGit::of(address).ok_or("it is no repository")?;
    if git.has_credentials {
        return Err("it carries credentials, which would end up in the lock".to_owned());
    }
    source_of(&git).map_err(|unfit| unfit.to_string())
}

/// `PATH[EXTRAS]`.
pub(super) fn split_extras(text: &str) -> (&str, &str) {
    match text
        .strip_suffix(']')
        .and_then(|text| text.rsplit_once('['))
    {
        Some((path, extras)) => (path.trim(), extras),
        None => (text, ""),
    }
}

fn read_extras(extras: &str, span: &Range<usize>) -> Result<Vec<Extra>, BadLine> {
    let names = extras.split(',').map(str::trim);
    let read = names.filter(|name| !name.is_empty()).map(|name| {
        name.parse::<Extra>().map_err(|unfit| {
            let message = unfit.to_string();
            BadLine::new(span.clone(), message, unfit.hint.unwrap_or_default())
        })
    });
    read.collect()
}

/// Looks at the address of a file. Without a digest in its line the lock has that of what is
/// there when it is made.
fn check_address(line: &str, span: &Range<usize>) -> Result<(), BadLine> {
    let bad = |message: &str, hint: &str| Err(BadLine::new(span.clone(), message, hint));
    let url = line.find("://").map_or("", |at| &line[at + 3..]);
    let authority = url.split(['/', ' ', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return bad(
            "the address carries credentials",
            "leave them out: they belong into ~/.netrc of the machine that locks",
        );
    }
    if !line.contains("https://") && !line.contains("http://") {
        return bad(
            "only addresses of http and https are fetched",
            "a directory beside the recipe is named by its path: ./DIRECTORY",
        );
    }
    if line.contains("subdirectory=") {
        return bad(
            "a directory inside an archive, which the build could not name",
            "name the repository instead: git+https://HOST/PATH@TAG#subdirectory=DIRECTORY",
        );
    }
    Ok(())
}

fn check_hashes(text: &str, start: usize) -> Result<(), BadLine> {
    let mut at = start;
    for word in text.split_inclusive(char::is_whitespace) {
        let option = word.trim_end();
        let digest = option.strip_prefix("--hash=sha256:").unwrap_or_default();
        let fits = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        if !option.is_empty() && !fits {
            let message = format!(
                "`{option}` cannot stand here: expected `--hash=sha256:` and 64 hexadecimal digits"
            );
            let span = at..at + option.len();
            return Err(BadLine::new(span, message, no_hash_hint(option)));
        }
        at += word.len();
    }
    Ok(())
}

/// What to write instead of an option behind a requirement.
fn no_hash_hint(option: &str) -> &'static str {
    let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    match name {
        "--hash" if value.is_empty() => "write it as one word: --hash=sha256:DIGEST",
        "--hash" if !value.starts_with("sha256:") => {
            "the lock has sha256 of each file: let the tool that wrote the file write that, or \
             take it with `sha256sum FILE`"
        }
        "--hash" => "`sha256sum FILE` prints it",
        "--config-settings" | "--config-setting" | "--global-option" | "--install-option"
        | "--build-option" => FOR_BUILDS,
        _ if name.starts_with("-C") => FOR_BUILDS,
        _ => "another option takes a line of its own",
    }
}
