//! What a package brings to the tree, decompressed and listed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::deb::{self, wrong};

/// The files of a package.
pub(super) struct Files {
    /// `data.tar`, decompressed: a file without a name.
    pub(super) tar: File,
    /// Its entries, in its order, without the root directory.
    pub(super) entries: Vec<Entry>,
}

/// An entry of `data.tar`.
pub(super) struct Entry {
    /// Below the root, without a slash before or behind it.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The names of its owner and group.
    pub(super) owner: String,
    pub(super) group: String,
    /// Seconds since 1970.
    pub(super) mtime: u64,
}

pub(super) enum Kind {
    Directory,
    /// Where its content begins in the tar, and how many bytes it has.
    File {
        offset: u64,
        size: u64,
    },
    SymbolicLink(PathBuf),
    /// To a path below the root.
    HardLink(PathBuf),
}

/// Decompresses the package at `path` into a file of `scratch`, and lists it.
pub(super) fn read(path: &Path, scratch: &Path) -> io::Result<Files> {
    let mut data = deb::member(path, deb::DATA)?;
    let mut tar = tempfile::tempfile_in(scratch)?;
    io::copy(&mut data, &mut tar)?;
    tar.rewind()?;
    let mut entries = Vec::new();
    let mut archive = tar::Archive::new(BufReader::new(&tar));
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = below_root(&entry.path_bytes());
        if path.as_os_str().is_empty() {
            continue;
        }
        let header = entry.header();
        let kind = header.entry_type();
        let link = || {
            let target = entry.link_name_bytes();
            target.ok_or_else(|| wrong(&format!("the link {} leads nowhere", path.display())))
        };
        let kind = if kind.is_dir() {
            Kind::Directory
        } else if kind.is_file() || kind.is_contiguous() {
            Kind::File {
                offset: entry.raw_file_position(),
                size: entry.size(),
            }
        } else if kind.is_symlink() {
            Kind::SymbolicLink(OsStr::from_bytes(&link()?).into())
        } else if kind.is_hard_link() {
            Kind::HardLink(below_root(&link()?))
        } else {
            let what = format!(
                "{} is neither a file, a directory nor a link",
                path.display()
            );
            return Err(wrong(&what));
        };
        let id = |id: io::Result<u64>| u32::try_from(id?).map_err(|_| wrong("an owner has no id"));
        let name = |name: Option<&[u8]>| String::from_utf8_lossy(name.unwrap_or_default()).into();
        entries.push(Entry {
            kind,
            mode: header.mode()? & 0o7777,
            uid: id(header.uid())?,
            gid: id(header.gid())?,
            owner: name(header.username_bytes()),
            group: name(header.groupname_bytes()),
            mtime: header.mtime()?,
            path,
        });
    }
    Ok(Files { tar, entries })
}

/// A name of a tar archive as a path below the root.
fn below_root(name: &[u8]) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(name));
    let parts = path.components();
    parts
        .filter(|part| {
            !matches!(
                part,
                std::path::Component::CurDir | std::path::Component::RootDir
            )
        })
        .collect()
}
