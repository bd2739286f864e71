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

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::name::NodeName;
use store::{EnvName, ImageId, Sha256};

use crate::atomic_file;
use crate::error::{Context, Error, Result};
use crate::inspect::survey::{self, Survey};
use crate::interrupt;

/// The version of the list.
const SCHEMA: u32 = 1;

/// The longest list that is read.
const MAX_LIST: u64 = 64 << 20;

/// No page is larger.
const MAX_PAGE: u64 = 256 << 20;

/// The folder of what is no page.
const OWN: &str = ".imgbuild";

/// The first page.
pub(super) const INDEX: &str = "index.html";

/// The first page about nodes.
pub(super) const FLEET: &str = "fleet.html";

/// Folders that are made when something is put there.
const OF_NODES: [&str; 2] = ["fleet", "node"];

/// The list of pages.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    schema: u32,
    pages: BTreeMap<String, Listed>,
}

/// A page that this program has written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Its digest; two while it is replaced.
    sha256: Vec<Sha256>,
    /// What it was made from and by, of a page that is not made twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edition: Option<String>,
    /// What other pages say of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    summary: String,
}

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

/// Whether there is nothing but what this program makes before it writes its first list.
fn is_begun(dir: &Path) -> Result<bool> {
    let failed = || format!("cannot list {}", dir.display());
    for entry in fs::read_dir(dir).context(failed)? {
        let entry = entry.context(failed)?;
        let name = entry.file_name();
        let ours = match name.to_str() {
            Some(OWN) => true,
            Some("image" | "diff" | "fleet" | "node") => {
                fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none())
            }
            _ => false,
        };
        if !ours || !is_folder(&entry.path()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A folder, and no link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

fn make_folder(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && is_folder(path) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let what = format!("{} is no directory", path.display());
            Err(Error::usage(what).hint("move it away, or name another directory"))
        }
        made => made.context(|| format!("cannot make {}", path.display())),
    }
}

/// A plain file of at most so many bytes.
fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    let found = path.symlink_metadata().ok()?;
    (found.is_file() && found.len() <= most).then_some(())?;
    fs::read(path).ok()
}

fn digest_of(path: &Path) -> Option<Sha256> {
    read(path, MAX_PAGE).map(|bytes| Sha256::of(&bytes))
}

fn read_list(path: &Path) -> Result<Option<List>> {
    let wrong = |why: String| {
        Error::failed(format!("{} is not the list of pages", path.display()))
            .detail(why)
            .hint("name another directory, or remove this one with its pages")
    };
    match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(e.to_string())),
        Ok(_) => {}
    }
    let json = read(path, MAX_LIST).ok_or_else(|| wrong("it cannot be read".to_owned()))?;
    let list: List = serde_json::from_slice(&json).map_err(|e| wrong(e.to_string()))?;
    if list.schema != SCHEMA {
        return Err(wrong(format!("its schema is {}", list.schema)));
    }
    if let Some(path) = list.pages.keys().find(|path| !is_page(path)) {
        return Err(wrong(format!("`{}` is no page", path.escape_default())));
    }
    if to_json(&list) != json {
        return Err(wrong("it is written in another way".to_owned()));
    }
    Ok(Some(list))
}

fn write_list(path: &Path, list: &List) -> Result<()> {
    atomic_file::write(path, &to_json(list))
}

fn to_json(list: &List) -> Vec<u8> {
    let mut json = serde_json::to_vec(list).expect("a list has a JSON form");
    json.push(b'\n');
    json
}

/// Whether that is the path of a page: nothing else is replaced or removed, whatever a list says.
fn is_page(path: &str) -> bool {
    let is_digest = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let Some((folder, file)) = path.split_once('/') else {
        return path == INDEX || path == FLEET;
    };
    let Some(name) = file.strip_suffix(".html") else {
        return false;
    };
    match folder {
        "image" => is_digest(name),
        "diff" => name
            .split_once('-')
            .is_some_and(|(old, new)| is_digest(old) && is_digest(new)),
        "fleet" => match name.split('~').collect::<Vec<_>>()[..] {
            [env, group, number] => {
                let number = number.parse::<u32>().map(|read| read.to_string() == number);
                is_node(env, group) && number == Ok(true)
            }
            _ => false,
        },
        "node" => name
            .split_once('~')
            .is_some_and(|(env, node)| is_node(env, node)),
        _ => false,
    }
}

/// Whether these name an environment and a node, or a group of them.
fn is_node(env: &str, node: &str) -> bool {
    env.parse::<EnvName>().is_ok() && node.parse::<NodeName>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str =
        "image/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.html";

    fn put(dir: &Path, pages: &[(&str, &str)]) -> Result<Outcome> {
        let mut site = Site::open(dir)?;
        for (path, text) in pages {
            site.put(path, text, None)?;
        }
        site.finish(&mut |_| {})
    }

    #[test]
    fn what_did_not_change_stays_and_what_is_gone_goes() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path().join("made/for/it");
        let counts = |pages, written, removed| Outcome {
            pages,
            written,
            removed,
        };
        let both = [(INDEX, "one"), (IMAGE, "two")];
        assert_eq!(put(&dir, &both).unwrap(), counts(2, 2, 0));
        let before = dir.join(IMAGE).metadata().unwrap();
        let changed = [(INDEX, "other"), (IMAGE, "two")];
        assert_eq!(put(&dir, &changed).unwrap(), counts(2, 1, 0));
        let after = dir.join(IMAGE).metadata().unwrap();
        assert_eq!(before.modified().unwrap(), after.modified().unwrap());
        // What somebody else put beside the pages stays.
        fs::write(dir.join("robots.txt"), "ours").unwrap();
        assert_eq!(put(&dir, &changed[..1]).unwrap(), counts(1, 0, 1));
        assert!(!dir.join(IMAGE).exists() && dir.join("robots.txt").exists());
        // And so does a page that is not as it was written.
        put(&dir, &both).unwrap();
        fs::write(dir.join(IMAGE), "changed by hand").unwrap();
        let mut notes = Vec::new();
        let mut site = Site::open(&dir).unwrap();
        site.put(INDEX, "one", None).unwrap();
        site.finish(&mut |note| notes.push(note)).unwrap();
        assert!(
            notes[0].contains("is not as imgbuild wrote it"),
            "{notes:?}"
        );
        assert_eq!(fs::read(dir.join(IMAGE)).unwrap(), b"changed by hand");
        // It is a page of ours by its name, and written again when there is one.
        put(&dir, &both).unwrap();
        assert_eq!(fs::read(dir.join(IMAGE)).unwrap(), b"two");
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        fs::write(dir.join(INDEX), "mine").unwrap();
        let error = put(dir, &[(INDEX, "ours")]).unwrap_err();
        assert!(error.to_string().contains("did not write"), "{error}");
        fs::remove_file(dir.join(INDEX)).unwrap();
        put(dir, &[(INDEX, "ours")]).unwrap();
        fs::write(dir.join(IMAGE), "mine").unwrap();
        let error = put(dir, &[(INDEX, "new"), (IMAGE, "ours")]).unwrap_err();
        assert!(error.to_string().contains("did not write it"), "{error}");
        assert_eq!(fs::read(dir.join(INDEX)).unwrap(), b"ours");
        assert_eq!(fs::read(dir.join(IMAGE)).unwrap(), b"mine");
        // A link could lead anywhere.
        fs::remove_file(dir.join(IMAGE)).unwrap();
        fs::remove_dir(dir.join("image")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("image")).unwrap();
        let error = put(dir, &[(INDEX, "new")]).unwrap_err();
        assert!(error.to_string().ends_with("is no directory"), "{error}");
    }

    #[test]
    fn a_list_names_pages_and_nothing_else() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        put(dir, &[(INDEX, "one")]).unwrap();
        let list = dir.join(OWN).join("pages.json");
        let good = fs::read_to_string(&list).unwrap();
        for wrong in [
            good.replace(INDEX, "../victim"),
            good.replace(INDEX, "image/../../victim.html"),
            good.replace(INDEX, "node/prod~..html"),
            good.replace(INDEX, "node/prod.html"),
            good.replace(INDEX, "fleet/prod~eu.html"),
            good.replace(INDEX, "fleet/prod~eu~01.html"),
            good.replace(INDEX, "fleet/prod~eu~1/x.html"),
            good.replace("\"schema\":1", "\"schema\":2"),
            good.replace("\"pages\"", "\"more\":1,\"pages\""),
            good.replace(':', ": "),
            String::new(),
        ] {
            fs::write(&list, &wrong).unwrap();
            let error = put(dir, &[(INDEX, "two")]).unwrap_err();
            let said = error.to_string();
            assert!(
                said.ends_with("is not the list of pages"),
                "{wrong}: {said}"
            );
        }
        fs::write(&list, good).unwrap();
        put(dir, &[(INDEX, "two")]).unwrap();
    }

    #[test]
    fn whoever_is_killed_leaves_the_old_pages_and_can_go_on() {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path();
        // Before the first list was written.
        let mut site = Site::open(dir).unwrap();
        site.put(IMAGE, "half of the pages", None).unwrap();
        drop(site);
        assert!(!dir.join(IMAGE).exists());
        put(dir, &[(INDEX, "one")]).unwrap();
        let mut site = Site::open(dir).unwrap();
        site.put(INDEX, "two", None).unwrap();
        drop(site);
        assert_eq!(fs::read(dir.join(INDEX)).unwrap(), b"one");
        // What is not made twice is kept, and so is the first page as it was.
        let mut site = Site::open(dir).unwrap();
        site.put(INDEX, "two", None).unwrap();
        site.put(IMAGE, "compared", Some(("edition", "said")))
            .unwrap();
        site.keep_finished().unwrap();
        assert_eq!(fs::read(dir.join(INDEX)).unwrap(), b"one");
        let mut site = Site::open(dir).unwrap();
        assert_eq!(site.reuse(IMAGE, "edition").as_deref(), Some("said"));
        drop(site);
        // Between the list and the last page.
        let mut site = Site::open(dir).unwrap();
        site.put(INDEX, "three", Some(("edition", "said"))).unwrap();
        let both = List {
            schema: SCHEMA,
            pages: site.after.pages.clone(),
        };
        site.write_list(&both).unwrap();
        drop(site);
        let mut site = Site::open(dir).unwrap();
        assert_eq!(
            site.reuse(INDEX, "edition"),
            None,
            "its bytes are not those"
        );
        site.put(INDEX, "three", Some(("edition", "said"))).unwrap();
        site.finish(&mut |_| {}).unwrap();
        let mut site = Site::open(dir).unwrap();
        assert_eq!(site.reuse(INDEX, "edition").as_deref(), Some("said"));
        assert_eq!(site.reuse(INDEX, "another"), None);
    }
}
