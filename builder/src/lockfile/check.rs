//! Whether what a lock says can become paths and arguments.

use std::collections::BTreeMap;

use super::{InstallStage, Lock};
use crate::error::{Error, Result};

impl Lock {
    /// Names that become paths or arguments must look like names.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |what: &str, name: &str| {
            Err(Error::usage(format!(
                "`{}` is no {what}",
                name.escape_default()
            )))
        };
        for deb in &self.debs {
            if !is_word(&deb.name) {
                return refuse("package name", &deb.name);
            }
            if !is_word(&deb.version) || !is_word(&deb.architecture) {
                return refuse("version or architecture", &deb.version);
            }
            if !is_relative(&deb.path) {
                return refuse("relative path", &deb.path);
            }
        }
        if let Some(base) = &self.base {
            let mut release = base.release.iter();
            let names = |text: &&String| text.split('/').all(is_word);
            if let Some(bad) = release.find(|text| !names(text) || text.split('/').count() != 3) {
                return refuse("release of a base", bad);
            }
            let mut paths = base.virtualenvs.iter();
            if let Some(bad) = paths.find(|path| !path.strip_prefix('/').is_some_and(stays_below)) {
                return refuse("path of a virtualenv", bad);
            }
            if let Some(deb) = self.debs.iter().find(|deb| deb.stage <= InstallStage::Base) {
                let what = format!(
                    "`{}` is of the bootstrap, and the lock has a base",
                    deb.name
                );
                return Err(Error::usage(what));
            }
        }
        for python in &self.python {
            if !is_word(&python.file) || !is_word(&python.name) || !is_word(&python.version) {
                return refuse("file of a Python distribution", &python.file);
            }
            let mut url = python.url.iter();
            if let Some(url) = url.find(|url| !url.bytes().all(|b| b.is_ascii_graphic())) {
                return refuse("address of a file", url);
            }
        }
        let mut below = self.git.iter().filter_map(|git| git.subdirectory.as_ref());
        if let Some(bad) = below.find(|path| !stays_below(path)) {
            return refuse("relative path", bad);
        }
        let described = self.git.iter().filter_map(|git| git.described.as_ref());
        let mut described = described.chain(self.files.iter().filter_map(|f| f.described.as_ref()));
        if let Some(bad) = described.find(|one| !one.is_sound()) {
            return refuse("description by git", &bad.to_string());
        }
        for download in &self.downloads {
            if !download.url.bytes().all(|byte| byte.is_ascii_graphic()) {
                return refuse("address of a file", &download.url);
            }
        }
        for file in &self.files {
            if file.path != "." && !stays_below(&file.path) {
                return refuse("relative path", &file.path);
            }
        }
        for (what, ids) in [("user", &self.system_users), ("group", &self.system_groups)] {
            let mut names = BTreeMap::new();
            for (name, id) in ids {
                // `_ssh` is one of Debian's.
                if !is_word(name.trim_start_matches('_')) {
                    return refuse("user name", name);
                }
                if let Some(other) = names.insert(id, name) {
                    return Err(Error::usage(format!(
                        "the {what}s `{other}` and `{name}` have one id, {id}"
                    )));
                }
            }
        }
        for (place, names) in &self.removed {
            let number = place.strip_prefix("packages ").map(str::parse::<u32>);
            if !matches!(number, Some(Ok(1..))) {
                return refuse("stage that removes", place);
            }
            if let Some(name) = names.split(' ').find(|name| !is_word(name)) {
                return refuse("package name", name);
            }
        }
        Ok(())
    }
}

/// Letters, digits and the punctuation of Debian and Python names; nothing that
/// could be an option, a directory or a second word.
pub(crate) fn is_word(text: &str) -> bool {
    let first = text.as_bytes().first();
    first.is_some_and(u8::is_ascii_alphanumeric)
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.:~_!%".contains(&b))
}

/// A path below something, without words that a shell or a list would split.
pub(crate) fn is_relative(text: &str) -> bool {
    stays_below(text) && !text.contains([' ', '\'', '"'])
}

/// A path below something: what people call their files.
fn stays_below(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('/')
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !text.contains(char::is_control)
}
