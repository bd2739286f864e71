//! Why Python packages cannot be had, from what the indexes answered and what builds called.
//!
//! What pip says is evidence for people; what to do follows from facts alone.

mod fact;
mod unbuildable;

use std::path::Path;

pub(super) use self::fact::{Fact, Told, UNNAMED_HINT, confused, unnamed_host};
pub(super) use self::unbuildable::Unbuildable;

use super::Sources;
use super::run::{LENT, SOURCES};
use crate::error::Error;
use crate::lock::acquire::decoded;
use crate::recipe::Virtualenv;

/// What is known about a run that failed.
pub(super) struct Evidence<'a> {
    pub(super) virtualenv: &'a Virtualenv,
    pub(super) sources: Option<&'a Sources>,
    pub(super) facts: Vec<Told>,
    pub(super) unbuildable: Option<Unbuildable>,
    /// Whom it tried to reach besides the gateway.
    pub(super) reached: Vec<String>,
    /// The tool's own words.
    pub(super) output: Error,
}

impl Evidence<'_> {
    pub(super) fn into_error(self) -> Error {
        let path = &self.virtualenv.path;
        let explained: Vec<(String, String)> =
            self.facts.iter().filter_map(Told::explain).collect();
        let lost = self
            .facts
            .iter()
            .any(|told| matches!(told.fact, Fact::Lost { .. }));
        if lost && let [.., (what, hint)] = &explained[..] {
            let hint = explained.first().map_or(hint, |first| &first.1);
            let others = explained[..explained.len() - 1].iter();
            let error = Error::failed(what.clone());
            return others.fold(error, |e, (what, _)| e.detail(what)).hint(hint);
        }
        let mut error = Error::failed(format!("pip cannot resolve the virtualenv {path}"));
        for (what, _) in &explained {
            error = error.detail(what);
        }
        if let Some(unbuildable) = &self.unbuildable {
            return self.about_source(unbuildable, &error, explained.first().map(|e| &e.1));
        }
        error = error.detail(self.output.to_string());
        // pip names the gateway where it looks, which is nobody's address.
        let named = |line: &&String| !line.starts_with("Looking in ");
        for line in self.output.causes().iter().filter(named) {
            error = error.detail(self.readable(line));
        }
        match explained.first() {
            Some((_, hint)) => error.hint(hint),
            None => error.hint(
                "read pip's last lines above; the index comes from this machine's pip \
                 configuration",
            ),
        }
    }

    fn about_source(&self, source: &Unbuildable, before: &Error, hint: Option<&String>) -> Error {
        let (path, name) = (&self.virtualenv.path, source.name(self.sources));
        if !source.lines.is_empty() {
            let what = format!(
                "the virtualenv {path}: no index has what building {name} needs: {}",
                source.lines.join(", ")
            );
            let error = before
                .causes()
                .iter()
                .fold(Error::failed(what), Error::detail);
            let plain = if source.lines.iter().any(|line| line.contains("://")) {
                "what builds a package comes from an index, no address is followed there: name a \
                 version in place of the address, in its pyproject.toml"
            } else {
                "these are wheels, for this Python and platform, of the versions that its \
                 pyproject.toml and its build backend name"
            };
            return error.hint(hint.map_or(plain, |hint| hint));
        }
        let mut error = Error::failed(format!("the virtualenv {path}: {name} does not build"));
        for line in &source.tail {
            error = error.detail(format!("| {}", self.readable(line)));
        }
        if !source.programs.is_empty() {
            let programs = source.programs.join(", ");
            error = error.detail(format!("it calls {programs}, which the tree does not have"));
        }
        if !source.headers.is_empty() {
            let headers = source.headers.join(", ");
            error = error.detail(format!("its compiler does not find {headers}"));
        }
        if !self.reached.is_empty() {
            error = error.detail(format!("it tried to reach {}", self.reached.join(", ")));
        }
        error.hint(source.advice(&self.reached))
    }

    /// A line of pip's with the names that people gave, in place of those of the sandbox.
    fn readable(&self, line: &str) -> String {
        let mut line = line.to_owned();
        let trees = self.sources.into_iter().flat_map(|sources| &sources.trees);
        // The longest first: 10 begins like 1.
        for tree in trees.collect::<Vec<_>>().into_iter().rev() {
            let place = Path::new(SOURCES).join(&tree.path);
            line = line.replace(&*place.to_string_lossy(), &tree.origin);
        }
        for (file, words) in [
            (format!("{LENT}/requirements.txt"), "what is required"),
            (format!("{LENT}/constraints.txt"), "the constraints"),
        ] {
            line = line.replace(&file, words);
        }
        without_gateway(&line)
    }
}

/// An address as it stands in a path of the gateway, without who asks.
fn shown(path: &str) -> String {
    let address = decoded(path.split('/').next().unwrap_or_default());
    let login = address.split_once("://").and_then(|(_, rest)| {
        let authority = rest.split('/').next()?;
        Some(authority.rsplit_once('@')?.0.to_owned() + "@")
    });
    login.map_or(address.clone(), |login| address.replacen(&login, "", 1))
}

/// A line without the address of the gateway, under which pip knows the indexes.
fn without_gateway(line: &str) -> String {
    const BEGINS: &str = "http://127.0.0.1:";
    let mut rest = line;
    let mut readable = String::with_capacity(line.len());
    while let Some((before, after)) = rest.split_once(BEGINS) {
        readable.push_str(before);
        // PORT/file/NUMBER/ or PORT/index/NUMBER/, or PORT/direct/ADDRESS/NAME
        rest = after.splitn(4, '/').nth(3).unwrap_or_default();
        if let Some(("direct", address)) = after
            .split_once('/')
            .and_then(|(_, path)| path.split_once('/'))
        {
            readable += &shown(address);
            let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"._-%".contains(c));
            rest = name.map_or("", |end| &rest[end..]);
        }
    }
    readable + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_says_has_no_address_of_the_gateway() {
        for (line, readable) in [
            (
                "idna from http://127.0.0.1:47119/file/69/idna-3-py3-none-any.whl#sha256=ab",
                "idna from idna-3-py3-none-any.whl#sha256=ab",
            ),
            (
                "link: http://127.0.0.1:1/index/0/idna/ (of http://127.0.0.1:1/index/1/x/)",
                "link: idna/ (of x/)",
            ),
            ("http://127.0.0.1:47119/none", ""),
            (
                "from http://127.0.0.1:1/direct/https%3A%2F%2Fh.example%2Fv1.zip/0f3a.zip (of a)",
                "from https://h.example/v1.zip (of a)",
            ),
            (
                "http://127.0.0.1:1/direct/https%3A%2F%2Fme%3Apw%40h.example%2Fv1/0f3a",
                "https://h.example/v1",
            ),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(without_gateway(line), readable);
        }
    }
}
