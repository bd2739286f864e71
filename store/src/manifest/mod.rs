//! The manifest: all that is known about an image, as JSON.
//!
//! The manifest is what an environment signs, so there is one rule above all: a
//! reader and a signer must see the same thing. Unknown keys, duplicate keys,
//! floats, other schema versions, oversized documents and optional fields that say
//! nothing (an empty list, `null`, `false`) are refused, and [`Manifest::to_json`]
//! has one output for one value: keys in the order of the fields below, maps sorted,
//! two spaces of indentation, one newline at the end.
//! Nothing in it depends on when or where the image was packed.

mod fences;
mod needs;
mod process;
mod strict;

pub use self::fences::{Fences, bytes_of, in_units, percent_of};
pub use self::needs::{DirectoryKind, Needs, Resolver, is_plain_path, is_secret_name};
pub use self::process::{
    MAX_COUNT, Process, SIGNALS, Timer, duration, is_process_name, time_of_day,
};
pub use self::strict::SCHEMA;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::canonical_tar::{self, Entry, Kind};
use crate::chunk::ChunkRef;
use crate::digest::{Blake3, Sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::name::ImageName;

/// The most entries of an image; see [`crate::canonical_tar`].
const MAX_LIST: usize = crate::canonical_tar::MAX_ENTRIES as usize;

/// The longest document that is read at all.
pub const MAX_BYTES: u64 = 32 << 20;

/// The longest recipe or lock that is read of those that manifests name.
pub const MAX_LOCK: u64 = 64 << 20;

/// What is known about one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What the recipe calls the image.
    pub name: ImageName,
    /// The image: the digest of its canonical tar.
    pub image: Blake3,
    /// The sha256 of the same bytes.
    pub sha256: Sha256,
    /// Bytes of the canonical tar.
    pub size: u64,
    /// Entries of the canonical tar, the root included.
    pub entries: u64,
    /// How to rebuild the tar from chunks.
    pub layout: LayoutRef,
    /// The Debian architecture.
    pub arch: String,
    /// The Debian suite.
    pub suite: String,
    /// The lock's epoch: no mtime in the image is later.
    pub epoch: u64,
    /// Installed Debian packages.
    pub packages: Vec<Package>,
    /// Installed Python distributions.
    pub wheels: Vec<Wheel>,
    /// Accounts of the image.
    pub users: Vec<User>,
    /// Every setuid or setgid file.
    pub setuid: Vec<SpecialFile>,
    /// Every extended attribute.
    pub xattrs: Vec<XattrEntry>,
    /// The recipe that the image was built from.
    pub recipe: Sha256,
    /// The lock that the image was built from.
    pub lock: Sha256,
    /// Name and version of the builder.
    pub builder: String,
    /// How a session of the image is run, if it is meant to be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
}

/// Names a layout and where its bytes are. The layout itself is a stream of
/// headers and chunk references; [`crate::Image`] reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutRef {
    /// The digest of the layout's bytes.
    pub digest: Blake3,
    /// How many bytes it has.
    pub size: u64,
    /// The chunks that make it up, in order.
    pub chunks: Vec<ChunkRef>,
}

/// An installed Debian package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, `all` included.
    pub arch: String,
}

/// A Python distribution installed in a virtualenv.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    /// Path of the virtualenv in the image.
    pub virtualenv: String,
    /// The distribution's name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// An account of the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its primary group's number.
    pub gid: u32,
    /// Its home directory.
    pub home: String,
    /// Its login shell.
    pub shell: String,
}

/// A setuid or setgid file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialFile {
    /// Its path, as [`canonical_tar::display`] writes it.
    pub path: String,
    /// Its mode, all twelve bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// An extended attribute of one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XattrEntry {
    /// The file's path, as [`canonical_tar::display`] writes it.
    pub path: String,
    /// The attribute's name.
    pub name: String,
    /// Its value in lower-case hexadecimal.
    pub value_hex: String,
}

/// How a session of the image is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The user that it runs as.
    pub user: String,
    /// Where.
    pub directory: String,
    /// The command that starts it.
    pub start: Vec<String>,
    /// The command that stops it.
    pub stop: Vec<String>,
    /// The command that makes it reload.
    pub reload: Vec<String>,
    /// Its environment.
    #[serde(deserialize_with = "strict::unique_map")]
    pub environment: BTreeMap<String, String>,
    /// How a node finds out that it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What runs once in a generation before its service starts there; nothing when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_switch: Vec<String>,
    /// What runs beside the start command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// What runs from time to time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
    /// What the node must give.
    #[serde(default, skip_serializing_if = "Needs::is_default")]
    pub needs: Needs,
    /// What bounds its processes.
    #[serde(default, skip_serializing_if = "Fences::is_default")]
    pub fences: Fences,
}

/// How a node finds out that a session that was started works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The path of a page that answers with 200 to 399; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub http: String,
    /// Further headers of the request for that page, `Name: value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// A command in the session that succeeds; empty where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// After how many seconds without success it does not work.
    pub within: u64,
    /// How many seconds one attempt may take.
    pub timeout: u64,
    /// For how many seconds after a switch it is asked again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<u64>,
}

impl Manifest {
    /// Reads a manifest, strictly.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        if json.len() as u64 > MAX_BYTES {
            return Err(Error::corrupt(
                "the manifest",
                format_args!("it is longer than {MAX_BYTES} bytes"),
            ));
        }
        // Another version may have other fields: look at the number before them.
        strict::check_schema(json)?;
        let manifest: Self = serde_json::from_slice(json)
            .map_err(|error| Error::corrupt("the manifest", &error).with_source(error))?;
        check(&manifest).map_err(|why| Error::corrupt("the manifest", why))?;
        // What says no more than nothing does, such as an empty list, is left out: one manifest, one
        // value, to every reader.
        if strict::parts(json) != strict::parts(&manifest.to_json()) {
            return Err(Error::corrupt(
                "the manifest",
                "it spells out an empty list or another value that is left out",
            ));
        }
        Ok(manifest)
    }

    /// The one JSON form of this manifest.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("a manifest has a JSON form");
        json.push(b'\n');
        json
    }

    /// The privilege that entries of the image may carry.
    pub fn privileges(&self) -> Privileges<'_> {
        Privileges {
            setuid: self.setuid.iter().collect(),
            xattrs: self.xattrs.iter().collect(),
        }
    }
}

/// The privilege that a manifest lists, ready to be looked up for each entry.
#[derive(Debug)]
pub struct Privileges<'a> {
    setuid: HashSet<&'a SpecialFile>,
    xattrs: HashSet<&'a XattrEntry>,
}

impl Privileges<'_> {
    /// Refuses an entry that carries privilege which the manifest does not list:
    /// a setuid or setgid file, or an extended attribute.
    pub fn check(&self, entry: &Entry) -> Result<()> {
        let refuse = |what: String| {
            let path = canonical_tar::display(&entry.path);
            let message = format!("{path} has {what}, which the manifest does not list");
            Err(Error::new(ErrorKind::Corrupt, message))
        };
        if let Some(special) = SpecialFile::of(entry)
            && !self.setuid.contains(&special)
        {
            return refuse(format!("the privileged mode {:04o}", entry.mode));
        }
        for xattr in XattrEntry::all_of(entry) {
            if !self.xattrs.contains(&xattr) {
                return refuse(format!("the extended attribute {}", xattr.name));
            }
        }
        Ok(())
    }
}

impl SpecialFile {
    /// What the manifest must say about `entry`: `None` for most files. A further
    /// hard link adds nothing to what its first path says.
    pub fn of(entry: &Entry) -> Option<Self> {
        let privileged = matches!(entry.kind, Kind::File { .. }) && entry.mode & 0o6000 != 0;
        privileged.then(|| Self {
            path: canonical_tar::display(&entry.path),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
        })
    }
}

impl XattrEntry {
    /// What the manifest must say about the extended attributes of `entry`.
    pub fn all_of(entry: &Entry) -> impl Iterator<Item = Self> + '_ {
        entry.xattrs.iter().map(|(name, value)| Self {
            path: canonical_tar::display(&entry.path),
            name: String::from_utf8_lossy(name).into_owned(),
            value_hex: common::hex::encode(value),
        })
    }
}

/// Checks what the types cannot express: values that are well-formed but cannot be
/// true. The error says why.
fn check(manifest: &Manifest) -> Result<(), String> {
    let layout = &manifest.layout;
    let total: u64 = layout
        .chunks
        .iter()
        .map(|chunk| u64::from(chunk.len()))
        .sum();
    if total != layout.size {
        return Err(format!(
            "the layout has {} bytes, but its chunks have {total}",
            layout.size
        ));
    }
    if manifest.entries == 0 || manifest.entries > crate::canonical_tar::MAX_ENTRIES {
        return Err(format!(
            "an image of {} entries cannot be",
            manifest.entries
        ));
    }
    // One header block for each entry and two blocks at the end.
    if !manifest.size.is_multiple_of(512) || manifest.size / 512 < manifest.entries + 2 {
        return Err(format!("a tar of {} bytes cannot be", manifest.size));
    }
    let lists = [
        ("packages", manifest.packages.len()),
        ("wheels", manifest.wheels.len()),
        ("users", manifest.users.len()),
        ("setuid", manifest.setuid.len()),
        ("xattrs", manifest.xattrs.len()),
    ];
    if let Some((name, _)) = lists.iter().find(|(_, len)| *len > MAX_LIST) {
        return Err(format!("`{name}` has more than {MAX_LIST} items"));
    }
    let Some(run) = &manifest.run else {
        return Ok(());
    };
    run.needs.check()?;
    run.fences.check()?;
    process::check(&run.processes)?;
    process::check_timers(&run.timers)
}

#[cfg(test)]
pub(crate) mod tests;
