//! The result of a comparison: plain data, schema 1.
//!
//! Sizes are bytes, times seconds since 1970, modes and owners numbers as the tar
//! has them. Paths have no leading slash and are as [`store::canonical_tar::display`]
//! writes them. Every list is sorted.

use std::collections::BTreeMap;

use serde::Serialize;
use store::Manifest;
use store::manifest::{Run, User};

/// The version of the JSON form.
pub const SCHEMA: u32 = 1;

/// What differs between two images.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whether they are the same image, byte for byte.
    pub equal: bool,
    /// The first image.
    pub old: Summary,
    /// The second.
    pub new: Summary,
    /// Figures.
    pub totals: Totals,
    /// Debian packages that came, went or have another version.
    pub packages: Vec<PackageChange>,
    /// Python distributions of virtualenvs that came, went or have another version.
    pub wheels: Vec<WheelChange>,
    /// Accounts that came, went or changed.
    pub users: Vec<UserChange>,
    /// How a session is run, if that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Pair<Option<Run>>>,
    /// Setuid and setgid files and extended attributes, capabilities among them,
    /// that came, went or changed.
    pub privileged: Vec<PrivilegeChange>,
    /// Files, directories and links that came, went or changed.
    pub files: Vec<FileChange>,
}

/// An image in short.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What its recipe calls it.
    pub name: String,
    /// Its digest.
    pub image: String,
    /// Suite.
    pub suite: String,
    /// Debian architecture.
    pub architecture: String,
    /// No file in it is younger.
    pub epoch: u64,
    /// Digest of its recipe.
    pub recipe: String,
    /// Digest of its lock.
    pub lock: String,
}

/// A figure of each of the two images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pair<T> {
    /// Of the first.
    pub old: T,
    /// Of the second.
    pub new: T,
}

/// Figures of a comparison.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Entries of the tar.
    pub entries: Pair<u64>,
    /// Bytes of the tar.
    pub size: Pair<u64>,
    /// Bytes of the files' content.
    pub content: Pair<u64>,
    /// Entries only in the second.
    pub added: u64,
    /// Entries only in the first.
    pub removed: u64,
    /// Entries that changed.
    pub changed: u64,
    /// Entries that did not.
    pub same: u64,
    /// Entries of which only the time changed, and that only because it is the
    /// epoch in both images. They are not in the list.
    pub retimed: u64,
    /// Changed entries beyond the most that a report names.
    pub unnamed: u64,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is only in the second image.
    Added,
    /// It is only in the first.
    Removed,
    /// It is in both and not the same.
    Changed,
}

/// In what an entry changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file became a link, a directory a file, ...
    Type,
    /// The bytes of a file.
    Content,
    /// The bytes, and they are the same lines in another order.
    Order,
    /// How many bytes.
    Size,
    /// Permissions.
    Mode,
    /// Owner or group.
    Owner,
    /// Time of the last change.
    Mtime,
    /// Extended attributes.
    Xattr,
    /// Where a link leads.
    LinkTarget,
}

/// One entry that is not the same.
#[derive(Clone, Debug, Serialize)]
pub struct FileChange {
    /// Its path.
    pub path: String,
    /// What happened.
    pub change: Change,
    /// In what it changed; empty when it came or went.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
    /// Whose it is: in the second image, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// What it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Looks>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Looks>,
    /// The changed lines of a short text, as diff(1) writes them with `-u`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Who brought a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// A Debian package.
    Package(String),
    /// A Python distribution of a virtualenv.
    Distribution {
        /// The virtualenv's path.
        virtualenv: String,
        /// The distribution's name.
        name: String,
    },
}

/// An entry without its content.
#[derive(Clone, Debug, Serialize)]
pub struct Looks {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileType,
    /// Twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: u64,
    /// Bytes of content; 0 for all but files.
    pub size: u64,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Extended attributes in lower-case hexadecimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A further name of a file.
    Hardlink,
}

/// A Debian package that is not the same.
#[derive(Clone, Debug, Serialize)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Version in the first image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// Version in the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// How many of its files are not the same.
    pub files: u64,
    /// By how many bytes its files grew.
    pub growth: i64,
}

/// A distribution of a virtualenv that is not the same.
#[derive(Clone, Debug, Serialize)]
pub struct WheelChange {
    /// Path of the virtualenv.
    pub virtualenv: String,
    /// Its name.
    pub name: String,
    /// Version in the first image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// Version in the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// How many of its files are not the same.
    pub files: u64,
    /// By how many bytes its files grew.
    pub growth: i64,
}

/// An account that is not the same.
#[derive(Clone, Debug, Serialize)]
pub struct UserChange {
    /// Its name.
    pub name: String,
    /// In the first image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<User>,
    /// In the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<User>,
}

/// What a file may do beyond what its reader may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Privilege {
    /// Twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes in lower-case hexadecimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// A privilege that is not the same.
#[derive(Clone, Debug, Serialize)]
pub struct PrivilegeChange {
    /// The file.
    pub path: String,
    /// In the first image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Privilege>,
    /// In the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Privilege>,
}

impl Summary {
    /// The image of a manifest in short.
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            name: manifest.name.to_string(),
            image: manifest.image.to_string(),
            suite: manifest.suite.clone(),
            architecture: manifest.arch.clone(),
            epoch: manifest.epoch,
            recipe: manifest.recipe.to_string(),
            lock: manifest.lock.to_string(),
        }
    }
}

impl<T> Pair<T> {
    /// Both.
    pub(super) fn of(old: T, new: T) -> Self {
        Self { old, new }
    }
}

impl Totals {
    /// How many entries are not the same, whatever the reason.
    pub fn found(&self) -> u64 {
        self.added + self.removed + self.changed + self.retimed
    }
}

impl FileChange {
    /// By how many bytes the content grew.
    pub fn growth(&self) -> i64 {
        let size = |looks: &Option<Looks>| looks.as_ref().map_or(0, |l| l.size.cast_signed());
        size(&self.new) - size(&self.old)
    }
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Content => "content",
            Self::Order => "order",
            Self::Size => "size",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "mtime",
            Self::Xattr => "xattr",
            Self::LinkTarget => "link-target",
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Package(name) => f.write_str(name),
            Self::Distribution { virtualenv, name } => write!(f, "{name} in {virtualenv}"),
        }
    }
}
