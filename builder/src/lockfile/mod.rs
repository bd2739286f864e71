//! The lock: every input of a build, by name, version, size and digest.
//!
//! `NAME.lock` lies beside the recipe and is committed with it. It is TOML,
//! sorted, one table an input, so that an upgrade of one package is a diff of a
//! few lines. It names no host, path or credential of any machine.
//!
//! Each part of it carries the digest of the recipe's sections it was resolved
//! from; when those change, that part alone is resolved again.
//!
//! ```text
//! entries        one entry for each input
//! names          the names of all entries, beside them
//! stages         which packages are there at which stage
//! changes        what differs between two locks
//! check          whether what a lock says can become paths and arguments
//! conflict       what a merge of two locks leaves behind
//! described      what Git says of a commit, where a version comes from it
//! retained       the inputs of a retained lock
//! import_record  what an imported image has in place of a lock
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::digest::Sha256;

use crate::atomic_file;
use crate::error::{Context, Error, Result};

mod changes;
mod check;
mod conflict;
mod described;
mod entries;
mod import_record;
mod names;
mod retained;
mod stages;

pub use changes::{Change, Changes};
pub(crate) use check::{is_relative, is_word};
pub use described::{Described, NO_TAG};
pub use entries::{
    Base, Deb, Download, Git, InstallStage, LocalFile, LocalKind, Python, Release,
    SECURITY_ARCHIVE, is_security, is_security_archive,
};
pub use import_record::ImportRecord;
pub(crate) use import_record::{ImportKind, SCHEMA as IMPORT_SCHEMA};
pub(crate) use retained::{base_of, inputs_of, sized_inputs_of};

/// The format's version; another one is refused.
pub const VERSION: u32 = 1;
/// How each lock begins, by which one is known wherever it lies.
pub(crate) const BEGINS: &str = "# Every input of the image; written by imgbuild";
/// The `bootstrapper` of a lock whose tree begins with another image.
pub(crate) const BASE: &str = "base";
/// No lock is larger; a bound before work.
pub const MAX_SIZE: u64 = store::manifest::MAX_LOCK;

/// All inputs of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`VERSION`].
    pub version: u32,
    /// `SOURCE_DATE_EPOCH` of the build, seconds since 1970: the newest Release
    /// when everything was last resolved afresh.
    pub epoch: u64,
    /// Debian architecture.
    pub architecture: String,
    /// Program and version that bootstraps.
    pub bootstrapper: String,
    /// Digest of the recipe's sections that name Debian packages.
    pub packages_from: Sha256,
    /// Digest of what ranks versions: the suite and apt's preferences. While it
    /// stands, locked versions stay when packages come or go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferences_from: Option<Sha256>,
    /// Digest of the packages in which system users and groups were looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids_from: Option<Sha256>,
    /// Digest of each virtualenv's sections, by path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub virtualenvs_from: BTreeMap<String, Sha256>,
    /// The names of all packages by stage, and of all distributions by
    /// virtualenv: an entry below that got lost is noticed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
    /// What each stage removes of the stages before it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub removed: BTreeMap<String, String>,
    /// Ids of the system users that packages make or once made, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub system_users: BTreeMap<String, u32>,
    /// Ids of the system groups that packages make or once made, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub system_groups: BTreeMap<String, u32>,
    /// The image that the tree begins with, where it is no bootstrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// The verified Release files.
    #[serde(default, rename = "release")]
    pub releases: Vec<Release>,
    /// Debian packages.
    #[serde(default, rename = "deb")]
    pub debs: Vec<Deb>,
    /// Python distributions.
    #[serde(default, rename = "python", skip_serializing_if = "Vec::is_empty")]
    pub python: Vec<Python>,
    /// Git commits.
    #[serde(default, rename = "git", skip_serializing_if = "Vec::is_empty")]
    pub git: Vec<Git>,
    /// Files from the network.
    #[serde(default, rename = "download", skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<Download>,
    /// Files and directories beside the recipe.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<LocalFile>,
}

impl Lock {
    /// Where the lock of a recipe lies: `fanery.toml` has `fanery.lock`.
    pub fn path_for(recipe: &Path) -> PathBuf {
        recipe.with_extension("lock")
    }

    /// A lock of a base and nothing else, of which its layer can be made.
    pub(crate) fn on(base: &Base, architecture: &str) -> Self {
        Self {
            version: VERSION,
            epoch: 0,
            architecture: architecture.to_owned(),
            bootstrapper: BASE.to_owned(),
            packages_from: Sha256::of(b""),
            preferences_from: None,
            ids_from: None,
            virtualenvs_from: BTreeMap::new(),
            names: BTreeMap::new(),
            removed: BTreeMap::new(),
            system_users: BTreeMap::new(),
            system_groups: BTreeMap::new(),
            base: Some(base.clone()),
            releases: Vec::new(),
            debs: Vec::new(),
            python: Vec::new(),
            git: Vec::new(),
            downloads: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Reads a lock; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let text = match fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(meta) if meta.len() > MAX_SIZE => {
                return Err(Error::failed(format!(
                    "{} is too large for a lock",
                    path.display()
                )));
            }
            _ => fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?,
        };
        Self::parse(&text).map(Some).map_err(|e| {
            let first = e.to_string();
            Error::usage(format!("{} is not a valid lock", path.display()))
                .detail(first)
                .hint("restore it from version control, or remove it to resolve afresh")
        })
    }

    /// Parses the text of a lock.
    pub fn parse(text: &str) -> Result<Self> {
        conflict::check_markers(text)?;
        let lock: Self = toml::from_str(text).map_err(|e| {
            let line = e
                .span()
                .map_or(0, |s| text[..s.start].matches('\n').count() + 1);
            Error::usage(format!("line {line}: {}", e.message()))
        })?;
        if lock.version != VERSION {
            return Err(Error::usage(format!(
                "it has version {}, this imgbuild knows version {VERSION}",
                lock.version
            )));
        }
        lock.check()?;
        conflict::check_entries(&lock, text)?;
        lock.check_names()?;
        Ok(lock)
    }

    /// What all Debian packages together are.
    pub fn packages_digest(&self) -> Sha256 {
        let debs = self.debs.iter();
        let lines = debs.map(|deb| format!("{} {}\n", deb.stage, deb.sha256));
        let base = self.base.iter().map(|base| format!("{}\n", base.image));
        Sha256::of(base.chain(lines).collect::<String>().as_bytes())
    }

    /// Sorts every list; the text depends on the content alone.
    pub fn sort(&mut self) {
        self.releases.sort();
        self.debs.sort_by(|a, b| {
            let key = |deb: &Deb| (deb.name.clone(), deb.architecture.clone(), deb.stage);
            key(a).cmp(&key(b))
        });
        self.python.sort();
        self.git.sort();
        self.downloads.sort();
        self.files.sort();
    }

    /// The text of the lock.
    pub fn to_text(&self) -> Result<String> {
        let body = toml::to_string(self).context(|| "cannot write the lock".into())?;
        Ok(format!("{BEGINS}, committed by you.\n{body}"))
    }

    /// The digest that manifests record.
    pub fn digest(&self) -> Result<Sha256> {
        Ok(Sha256::of(self.to_text()?.as_bytes()))
    }

    /// Writes the lock whole or not at all, and only one that can be read again.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = self.to_text()?;
        Self::parse(&text).map_err(|error| {
            Error::failed(format!(
                "what would be written to {} could not be read again",
                path.display()
            ))
            .detail(error.to_string())
            .hint("this should not happen: please report it with the recipe")
        })?;
        atomic_file::write(path, text.as_bytes())
    }

    /// All inputs that the store retains for this lock.
    pub fn inputs(&self) -> impl Iterator<Item = &Sha256> {
        let debs = self.debs.iter().map(|deb| &deb.sha256);
        let python = self.python.iter().map(|python| &python.sha256);
        let git = self.git.iter().map(|git| &git.sha256);
        let downloads = self.downloads.iter().map(|download| &download.sha256);
        let files = self.files.iter().map(|file| &file.sha256);
        debs.chain(python).chain(git).chain(downloads).chain(files)
    }

    /// The digests of all inputs, with their sizes in bytes.
    pub fn sized_inputs(&self) -> impl Iterator<Item = (Sha256, u64)> {
        let debs = self.debs.iter().map(|deb| (deb.sha256, deb.size));
        let python = self.python.iter().map(|file| (file.sha256, file.size));
        let git = self.git.iter().map(|git| (git.sha256, git.size));
        let downloads = self.downloads.iter().map(|one| (one.sha256, one.size));
        let files = self.files.iter().map(|file| (file.sha256, file.size));
        debs.chain(python).chain(git).chain(downloads).chain(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn sample() -> Lock {
        let deb = |name: &str, stage| Deb {
            name: name.into(),
            version: "1:2.3-4+deb11u1".into(),
            architecture: "amd64".into(),
            stage,
            archive: Some("debian".into()),
            path: format!("pool/main/{name}_2.3.deb"),
            size: 7,
            sha256: Sha256::of(name.as_bytes()),
        };
        Lock {
            version: VERSION,
            epoch: 1_700_000_000,
            architecture: "amd64".into(),
            bootstrapper: "debootstrap 1".into(),
            packages_from: Sha256::of(b"x"),
            preferences_from: None,
            ids_from: None,
            virtualenvs_from: BTreeMap::new(),
            names: BTreeMap::new(),
            removed: BTreeMap::new(),
            system_users: BTreeMap::new(),
            system_groups: BTreeMap::new(),
            base: None,
            releases: Vec::new(),
            debs: vec![
                deb("zlib1g", InstallStage::Packages(1)),
                deb("apt", InstallStage::Base),
                deb("dpkg", InstallStage::Required),
            ],
            python: Vec::new(),
            git: Vec::new(),
            downloads: Vec::new(),
            files: Vec::new(),
        }
    }

    #[test]
    fn text_round_trips_and_is_sorted() {
        let mut lock = sample();
        // As Debian's packages call theirs.
        for (id, name) in (100..).zip(["_ssh", "Debian-exim", "systemd-network"]) {
            lock.system_users.insert(name.into(), id);
            lock.system_groups.insert(name.into(), id);
        }
        // As people call theirs.
        lock.files = vec![LocalFile {
            path: "my app/it's \"ours\"".into(),
            kind: LocalKind::Directory,
            described: None,
            size: 1,
            sha256: Sha256::of(b"files"),
        }];
        lock.sort();
        let text = lock.to_text().unwrap();
        assert!(text.find("\"apt\"").unwrap() < text.find("\"zlib1g\"").unwrap());
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        let until = lock.debs_at(InstallStage::Base);
        let until: Vec<_> = until.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(until, ["apt", "dpkg"]);
    }

    #[test]
    fn an_entry_that_got_lost_is_named() {
        let mut lock = sample();
        lock.seal();
        let refusal = |lock: &Lock| Lock::parse(&lock.to_text().unwrap()).unwrap_err();
        assert_eq!(Lock::parse(&lock.to_text().unwrap()).unwrap(), lock);
        let mut less = lock.clone();
        less.debs.remove(1);
        let error = refusal(&less).to_string();
        assert_eq!(error, "the entry of `apt` is missing from `base`");
        let mut moved = lock.clone();
        moved.debs[0].stage = InstallStage::Base;
        let error = refusal(&moved).to_string();
        assert_eq!(
            error,
            "the entry of `zlib1g` belongs to `packages 1`, not to `base`"
        );
        let mut more = lock.clone();
        more.debs[2].name = "gpkd".into();
        more.debs.push(lock.debs[2].clone());
        let error = refusal(&more).to_string();
        assert_eq!(
            error,
            "the entry of `gpkd` in `required` was not written by imgbuild"
        );
    }

    #[test]
    fn what_a_merge_leaves_is_named_with_its_lines() {
        let mut lock = sample();
        lock.debs[1].stage = InstallStage::Packages(1);
        lock.debs.push(Deb {
            version: "3".into(),
            ..lock.debs[0].clone()
        });
        lock.sort();
        let text = lock.to_text().unwrap();
        let of = |version: &str| {
            let own = format!("name = \"zlib1g\"\nversion = \"{version}\"");
            text[..text.find(&own).unwrap()].matches('\n').count()
        };
        let (one, two) = (of("1:2.3-4+deb11u1"), of("3"));
        assert_eq!(
            Lock::parse(&text).unwrap_err().to_string(),
            format!(
                "it has two entries for the package `zlib1g` in `packages 1`: 1:2.3-4+deb11u1 \
                 (line {one}) and 3 (line {two})"
            )
        );
        let other = lock.debs.iter_mut().find(|d| d.version == "3").unwrap();
        other.stage = InstallStage::Packages(2);
        let text = lock.to_text().unwrap();
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        for marker in ["<<<<<<< ours", "=======", ">>>>>>> theirs"] {
            let marked = text.replacen("[[deb]]", &format!("{marker}\n[[deb]]"), 1);
            let error = Lock::parse(&marked).unwrap_err().to_string();
            assert!(error.contains("a merge was not finished here"), "{error}");
            assert!(error.contains(marker), "{error}");
        }
    }

    #[test]
    fn injected_names_and_foreign_versions_are_refused() {
        for (from, to, what) in [
            ("name = \"apt\"", "name = \"../apt\"", "package name"),
            ("name = \"apt\"", "name = \"a b\"", "package name"),
            ("name = \"apt\"", "name = \"-o\"", "package name"),
            ("pool/main/apt_2.3.deb", "pool/../../apt", "relative path"),
            ("version = 1\n", "version = 2\n", "version 2"),
            ("epoch", "apoch", "unknown field"),
        ] {
            let text = sample().to_text().unwrap();
            assert!(text.contains(from), "{text}");
            let error = Lock::parse(&text.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
