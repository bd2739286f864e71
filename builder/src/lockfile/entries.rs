//! The entries of a lock: one for each input.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use store::ImageId;
use store::digest::Sha256;

use super::Described;

/// A Release file whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The archive as the recipe names it.
    pub archive: String,
    /// The suite as the recipe names it.
    pub suite: String,
    /// Its `Date`, seconds since 1970.
    pub date: u64,
    /// Digest of the signed file.
    pub sha256: Sha256,
}

/// The image that a tree begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The image: all that a build needs.
    pub image: ImageId,
    /// The sha256 of the same bytes.
    pub sha256: Sha256,
    /// The release that it was when it was locked, `ENVIRONMENT/NAME/NUMBER`; none where the
    /// recipe names the image itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The lock that it was built from.
    pub lock: Sha256,
    /// Its own virtualenvs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtualenvs: Vec<String>,
}

impl fmt::Display for Base {
    /// As people call it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.release {
            Some(release) => f.write_str(release),
            None => write!(f, "blake3:{:.12}", self.image.hex()),
        }
    }
}

/// When in the build a Debian package is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstallStage {
    /// Unpacked first, before dpkg itself works.
    Required,
    /// The rest of the bootstrap.
    Base,
    /// With the n-th `[[packages]]` of the recipe, from 1.
    #[serde(untagged)]
    Packages(u32),
}

impl fmt::Display for InstallStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required => f.write_str("required"),
            Self::Base => f.write_str("base"),
            Self::Packages(number) => write!(f, "packages {number}"),
        }
    }
}

/// A Debian package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deb {
    /// Package name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// Architecture or `all`.
    pub architecture: String,
    /// When it is installed.
    pub stage: InstallStage,
    /// The archive that has it; none for a file beside the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<String>,
    /// Path in the archive, or beside the recipe.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Sha256,
}

/// The archive of security updates, as machines and recipes name it.
pub const SECURITY_ARCHIVE: &str = "debian-security";

/// Whether an archive, as a lock names it, is the one of security updates: with a date behind it,
/// it is a snapshot of it.
pub fn is_security_archive(archive: &str) -> bool {
    archive.split('@').next() == Some(SECURITY_ARCHIVE)
}

/// Whether a package is of the archive of security updates.
pub fn is_security(deb: &Deb) -> bool {
    deb.archive.as_deref().is_some_and(is_security_archive)
}

/// A wheel or source distribution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// The virtualenv that it is for.
    pub virtualenv: String,
    /// Normalised project name.
    pub name: String,
    /// Version.
    pub version: String,
    /// File name.
    pub file: String,
    /// Needed only to build others; not installed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub build_only: bool,
    /// Its address, where it is no index's: a requirement named that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Sha256,
}

impl Python {
    /// Whether it is installed as it is; what is not must be built.
    pub fn is_wheel(&self) -> bool {
        Path::new(&self.file).extension() == Some("whl".as_ref())
    }
}

/// A commit of a Git repository, retained as a tar archive of its tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// The virtualenv that it is for.
    pub virtualenv: String,
    /// Position among that virtualenv's Git sources, from 0.
    pub index: usize,
    /// The repository; locks of older versions lack it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Tag or commit as the recipe has it.
    pub reference: String,
    /// The commit, 40 hex digits.
    pub commit: String,
    /// The directory in it that holds the package, where a requirement of another package names
    /// the repository, and not the recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<String>,
    /// What Git says of it, where its version comes from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub described: Option<Described>,
    /// Bytes of the tar archive.
    pub size: u64,
    /// Digest of the tar archive.
    pub sha256: Sha256,
}

impl Git {
    /// What `--upgrade` calls it: the last part of its address, as the name of a
    /// distribution is written; empty in locks of older versions.
    pub fn name(&self) -> String {
        let last = self.url.trim_end_matches('/').rsplit('/').next();
        let last = last.unwrap_or_default();
        let last = last.strip_suffix(".git").unwrap_or(last);
        last.to_lowercase().replace(['_', '.'], "-")
    }
}

/// A file from the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Its address, as the recipe has it.
    pub url: String,
    /// Bytes.
    pub size: u64,
    /// Digest, as the recipe has it.
    pub sha256: Sha256,
}

/// A file or directory beside the recipe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalFile {
    /// Path relative to the recipe.
    pub path: String,
    /// What it is.
    pub kind: LocalKind,
    /// What Git says of the checkout that a package is part of, where its version
    /// comes from there; of the moment when the package last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub described: Option<Described>,
    /// Bytes of the file, or of the directory's tar archive.
    pub size: u64,
    /// Digest of the file, or of the directory's tar archive.
    pub sha256: Sha256,
}

/// What lies at a path beside the recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalKind {
    /// A plain file.
    File,
    /// A file that its owner may execute.
    Executable,
    /// A directory.
    Directory,
}
