//! The directory with the pages, which this program alone has written.
//!
//! ```text
//! DIR/index.html, DIR/image/*.html, DIR/diff/*.html   what people read
//! DIR/fleet.html, DIR/fleet/*.html, DIR/node/*.html   the same, where receipts are read
//! DIR/.imgbuild/pages.json                            the list of those, with digests
//! DIR/.imgbuild/new/                                  pages on their way
//! DIR/.imgbuild/surveys/                              what reading an image has brought
//! ```
//!
//! A page is written below `new` and durable there; then the list names what is and what will be;
//! then pages are renamed, the first page last; what is gone is removed; and the list names what is.
//! So a reader never sees half a page, and whoever is killed leaves a directory that the list still
//! describes. Only what the list names, with a digest that it has there, is ever replaced or removed.

mod folders;
mod list;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use store::{ImageId, Sha256};

use self::folders::{digest_of, is_begun, is_folder, make_folder, read};
use self::list::{List, Listed, SCHEMA, read_list, write_list};
use crate::atomic_file;
use crate::error::{Context, Error, Result};
use crate::inspect::survey::{self, Survey};
use crate::interrupt;

/// The folder of what is no page.
const OWN: &str = ".imgbuild";

/// The first page.
pub(super) const INDEX: &str = "index.html";

/// The first page about nodes.
pub(super) const FLEET: &str = "fleet.html";

/// Folders that are made when something is put there.
const OF_NODES: [&str; 2] = ["fleet", "node"];

/// What became of the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Pages that are there.
    pub pages: usize,
    /// Pages that were written, because they are new or not what they were.
    pub written: usize,
    /// Pages that were removed.
    pub removed: usize,
}

/// The directory while it is written.
#[derive(Debug)]
pub(super) struct Site {
    dir: PathBuf,
    before: List,
    after: List,
    staged: BTreeSet<String>,
    surveys: BTreeSet<String>,
    _lock: File,
}

impl Site {
    /// Opens the directory, or makes it. One with files that this program did not write is refused.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        let failed = || format!("cannot use {shown}");
        fs::create_dir_all(dir).context(failed)?;
        let lock = File::open(dir).context(failed)?;
        let lock = atomic_file::lock(lock, || format!("another program writes to {shown}"))?;
        let own = dir.join(OWN);
        let before = match read_list(&own.join("pages.json"))? {
            Some(list) => list,
            None if is_begun(dir)? => List::default(),
            None => {
                return Err(
                    Error::usage(format!("{shown} has files that imgbuild did not write"))
                        .hint("name a directory that is empty, or not there yet"),
                );
            }
        };
        for folder in [
            own.clone(),
            own.join("surveys"),
            dir.join("image"),
            dir.join("diff"),
        ] {
            make_folder(&folder)?;
        }
        let new = own.join("new");
        if is_folder(&new) {
            fs::remove_dir_all(&new).context(failed)?;
        }
        for folder in [new.clone(), new.join("image"), new.join("diff")] {
            make_folder(&folder)?;
        }
        let after = List {
            schema: SCHEMA,
            pages: BTreeMap::new(),
        };
        Ok(Self {
            dir: dir.to_owned(),
            before,
            after,
            staged: BTreeSet::new(),
            surveys: BTreeSet::new(),
            _lock: lock,
        })
    }

    /// Keeps a page of an earlier run that was made from the same and is there as it was written;
    /// returns what other pages say of it.
    pub(super) fn reuse(&mut self, path: &str, edition: &str) -> Option<String> {
        let listed = self.before.pages.get(path)?;
        if listed.edition.as_deref() != Some(edition) {
            return None;
        }
        let there = digest_of(&self.dir.join(path))?;
        if !listed.sha256.contains(&there) {
            return None;
        }
        let kept = Listed {
            sha256: vec![there],
            ..listed.clone()
        };
        let summary = kept.summary.clone();
        self.after.pages.insert(path.to_owned(), kept);
        Some(summary)
    }

    /// Adds a page. One that is there with these bytes is left as it is.
    pub(super) fn put(&mut self, path: &str, page: &str, made: Option<(&str, &str)>) -> Result<()> {
        interrupt::check()?;
        let digest = Sha256::of(page.as_bytes());
        let target = self.dir.join(path);
        let there = target.symlink_metadata().is_ok();
        let found = digest_of(&target);
        let listed = self.before.pages.get(path);
        // Half a page may be there, after the power went: it is on the list by its name alone.
        if there && listed.is_none() {
            return Err(Error::usage(format!(
                "{} is there, and imgbuild did not write it",
                target.display()
            ))
            .hint("move it away, or name another directory"));
        }
        if found != Some(digest) {
            let new = self.dir.join(OWN).join("new");
            let folder = path.split_once('/').map(|(folder, _)| folder);
            if let Some(folder) = folder.filter(|folder| OF_NODES.contains(folder)) {
                make_folder(&self.dir.join(folder))?;
                make_folder(&new.join(folder))?;
            }
            let staged = new.join(path);
            let failed = || format!("cannot write {}", staged.display());
            let mut file = File::create_new(&staged).context(failed)?;
            file.write_all(page.as_bytes()).context(failed)?;
            file.sync_all().context(failed)?;
            self.staged.insert(path.to_owned());
        }
        let (edition, summary) = made.unzip();
        let listed = Listed {
            sha256: vec![digest],
            edition: edition.map(str::to_owned),
            summary: summary.unwrap_or_default().to_owned(),
        };
        self.after.pages.insert(path.to_owned(), listed);
        Ok(())
    }

    /// What an earlier run has read of an image.
    pub(super) fn survey(&mut self, image: &ImageId) -> Option<Survey> {
        let name = format!("{}.json", image.hex());
        let json = read(&self.surveys_dir().join(&name), survey::MAX_BYTES)?;
        self.surveys.insert(name);
        let survey = Survey::from_json(&json).ok();
        survey.filter(|survey| survey.image == *image)
    }

    /// Keeps what was read of an image for later runs.
    pub(super) fn keep_survey(&mut self, survey: &Survey) -> Result<()> {
        let json = survey.to_json();
        if json.len() as u64 > survey::MAX_BYTES {
            return Ok(());
        }
        let name = format!("{}.json", survey.image.hex());
        let path = self.surveys_dir().join(&name);
        atomic_file::replace(&path, json).context(|| format!("cannot write {}", path.display()))?;
        self.surveys.insert(name);
        Ok(())
    }

    fn surveys_dir(&self) -> PathBuf {
        self.dir.join(OWN).join("surveys")
    }

    /// Puts the pages in their places, and removes those that are gone. `note` is told what stays
    /// because it was changed by somebody else.
    pub(super) fn finish(self, note: &mut dyn FnMut(String)) -> Result<Outcome> {
        interrupt::check()?;
        let mut both = List {
            schema: SCHEMA,
            pages: self.before.pages.clone(),
        };
        for (path, listed) in &self.after.pages {
            let known = both.pages.entry(path.clone()).or_default();
            known.edition.clone_from(&listed.edition);
            known.summary.clone_from(&listed.summary);
            known.sha256.extend(&listed.sha256);
            known.sha256.sort_unstable();
            known.sha256.dedup();
            if self.staged.contains(path) {
                // An older page must not pass for one that is made from the same.
                known.edition = None;
            }
        }
        self.write_list(&both)?;
        let new = self.dir.join(OWN).join("new");
        let is_first = |path: &&String| *path == INDEX;
        let (first_page, others): (Vec<_>, Vec<_>) = self.staged.iter().partition(is_first);
        for path in others.into_iter().chain(first_page) {
            let target = self.dir.join(path);
            fs::rename(new.join(path), &target)
                .context(|| format!("cannot write {}", target.display()))?;
        }
        let mut removed = 0;
        let mut after = self.after;
        let gone = self.before.pages.iter();
        let gone: Vec<_> = gone
            .filter(|(path, _)| !after.pages.contains_key(*path))
            .collect();
        for (path, listed) in gone {
            let target = self.dir.join(path);
            if target.symlink_metadata().is_err() {
                continue;
            }
            if !digest_of(&target).is_some_and(|there| listed.sha256.contains(&there)) {
                note(format!(
                    "warning: {} stays: it is not as imgbuild wrote it",
                    target.display()
                ));
                // It could not be written there again otherwise.
                after.pages.insert(path.clone(), listed.clone());
                continue;
            }
            fs::remove_file(&target).context(|| format!("cannot remove {}", target.display()))?;
            removed += 1;
        }
        write_list(&self.dir.join(OWN).join("pages.json"), &after)?;
        let surveys = self.dir.join(OWN).join("surveys");
        for entry in fs::read_dir(&surveys).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !self.surveys.contains(&name) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_dir_all(&new);
        Ok(Outcome {
            pages: after.pages.len(),
            written: self.staged.len(),
            removed,
        })
    }

    /// Puts those new pages in their places that are not made twice, after a run that ends before
    /// its time: the next one goes on from there. Nothing leads to them yet.
    pub(super) fn keep_finished(self) -> Result<()> {
        let mut list = List {
            schema: SCHEMA,
            pages: self.before.pages.clone(),
        };
        let is_finished = |path: &&String| self.after.pages[*path].edition.is_some();
        let finished: Vec<&String> = self.staged.iter().filter(is_finished).collect();
        for path in &finished {
            let mut listed = self.after.pages[*path].clone();
            if let Some(before) = self.before.pages.get(*path) {
                // The older page must not pass for the one that replaces it.
                listed.edition = None;
                listed.sha256.extend(&before.sha256);
            }
            list.pages.insert((*path).clone(), listed);
        }
        self.write_list(&list)?;
        for path in finished {
            let staged = self.dir.join(OWN).join("new").join(path);
            let target = self.dir.join(path);
            fs::rename(staged, &target).context(|| format!("cannot write {}", target.display()))?;
        }
        Ok(())
    }

    fn write_list(&self, list: &List) -> Result<()> {
        write_list(&self.dir.join(OWN).join("pages.json"), list)
    }
}

/// The pages of a directory that this program has written.
pub(super) fn pages(dir: &Path) -> Result<BTreeSet<String>> {
    let list = read_list(&dir.join(OWN).join("pages.json"))?;
    let pages = list.unwrap_or_default().pages;
    Ok(pages.into_keys().collect())
}
