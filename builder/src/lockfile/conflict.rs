//! What a merge of two people's locks leaves behind: markers of version control,
//! and entries of which only one can be meant.

use std::collections::HashMap;
use std::hash::Hash;

use super::Lock;
use crate::error::{Error, Result};

/// Refuses a text in which a merge has not been finished.
pub(super) fn check_markers(text: &str) -> Result<()> {
    let is_marker = |line: &str| {
        let marks = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"];
        let word = line.split(' ').next().unwrap_or(line);
        marks.contains(&word)
    };
    match text.lines().position(|line| is_marker(line.trim_end())) {
        None => Ok(()),
        Some(at) => Err(Error::usage(format!(
            "line {}: a merge was not finished here: `{}`",
            at + 1,
            text.lines().nth(at).unwrap_or_default().trim_end()
        ))),
    }
}

/// Refuses two entries for what there can be only one of.
pub(super) fn check_entries(lock: &Lock, text: &str) -> Result<()> {
    let debs = lock.debs.iter().map(|deb| {
        let what = format!("the package `{}` in `{}`", deb.name, deb.stage);
        ((&deb.name, deb.stage), what, deb.version.clone())
    });
    once(text, "deb", debs)?;
    let releases = lock.releases.iter().map(|release| {
        let key = (&release.archive, &release.suite);
        let what = format!("the suite `{}` of the archive `{}`", key.1, key.0);
        (key, what, release.sha256.to_string())
    });
    once(text, "release", releases)?;
    let files = lock.files.iter().map(|file| {
        let what = format!("the file `{}`", file.path);
        (&file.path, what, file.sha256.to_string())
    });
    once(text, "file", files)
}

/// Keys must differ; the entries are in the order of the text.
fn once<K: Eq + Hash>(
    text: &str,
    table: &str,
    entries: impl Iterator<Item = (K, String, String)>,
) -> Result<()> {
    let mut seen: HashMap<K, (usize, String)> = HashMap::new();
    for (index, (key, what, value)) in entries.enumerate() {
        // Two sources of one suite have one Release file.
        let same = |other: &String| table == "release" && *other == value;
        if let Some((first, other)) = seen.get(&key).filter(|seen| !same(&seen.1)) {
            let at = |index| line(text, table, index);
            let (one, two) = (at(*first), at(index));
            return Err(Error::usage(format!(
                "it has two entries for {what}: {other} (line {one}) and {value} (line {two})"
            )));
        }
        seen.insert(key, (index, value));
    }
    Ok(())
}

/// The line on which an entry begins, from 1.
fn line(text: &str, table: &str, index: usize) -> usize {
    let head = format!("[[{table}]]");
    let lines = text.lines().enumerate();
    let mut heads = lines.filter(|(_, line)| line.trim() == head);
    heads.nth(index).map_or(0, |(at, _)| at + 1)
}
