//! Is the tree on disk the image that was signed?
//!
//! Two questions, two answers. [`digest`] asks only *whether*: it reads the tree back from disk as
//! the canonical tar that it would be and compares the tar's digest with the image's name. One
//! number covers every type, mode, owner, time, size, byte, attribute, link target and hard link,
//! and that nothing is missing and nothing is there in addition. It reads on one core and hashes on
//! the other. An install is not registered before this answer is yes.
//!
//! [`differences`] asks *what*: it walks the tree beside the signed layout and says for each path
//! how it differs. It needs no content from the store, because the layout has the digest of every
//! chunk.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use serde::Serialize;
use store::canonical_tar::{self, Entry, Kind};
use store::chunk::ChunkRef;
use store::digest::Blake3;

pub use super::merge::SignedEntry;
use super::merge::{Match, Merge, Step};
use super::walk::{TreeEntry, TreeWalk};
use crate::error::{Error, Result, check_cancelled};

const BLOCK: usize = 512;
/// Bytes handed from the reading to the hashing core at a time, and how many such blocks there are.
const PIECE: usize = 1 << 20;
const PIECES: usize = 8;

/// The image that the tree at `root` is: the digest of its canonical tar.
pub fn digest(root: OwnedFd, cancel: &AtomicBool) -> Result<Blake3> {
    let (full_in, full) = sync_channel::<Vec<u8>>(PIECES);
    let (empty_in, empty) = sync_channel::<Vec<u8>>(PIECES);
    for _ in 0..PIECES {
        // The channel has room for all of them.
        let _ = empty_in.send(Vec::with_capacity(PIECE));
    }
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            read_as_tar(
                root,
                &mut Pieces {
                    full: full_in,
                    empty,
                    piece: Vec::new(),
                },
                cancel,
            )
        });
        let mut hasher = blake3::Hasher::new();
        while let Ok(mut piece) = full.recv() {
            hasher.update(&piece);
            piece.clear();
            let _ = empty_in.send(piece);
        }
        reader
            .join()
            .map_err(|_| Error::failed("the tree could not be read: a thread died"))??;
        Ok(hasher.finalize().into())
    })
}

/// A stream of bytes cut into pieces for another thread.
struct Pieces {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    piece: Vec<u8>,
}

impl Pieces {
    fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.piece.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Reads exactly `size` bytes of `file`.
    fn put_file(&mut self, file: &mut File, size: u64, path: &[u8]) -> Result<()> {
        let mut missing = size;
        while missing > 0 {
            let room = self.room()?;
            let want = usize::try_from(missing).unwrap_or(usize::MAX).min(room);
            let start = self.piece.len();
            self.piece.resize(start + want, 0);
            let got = file
                .read(&mut self.piece[start..])
                .map_err(|error| unreadable(path).source(&error))?;
            self.piece.truncate(start + got);
            if got == 0 {
                return Err(unreadable(path).cause("it became shorter while it was read"));
            }
            missing -= got as u64;
        }
        Ok(())
    }

    /// How many bytes fit; hands a full piece over.
    fn room(&mut self) -> Result<usize> {
        if self.piece.len() >= PIECE || self.piece.capacity() == 0 {
            self.flush()?;
            self.piece = self.empty.recv().map_err(|_| stopped())?;
        }
        Ok(PIECE - self.piece.len())
    }

    fn flush(&mut self) -> Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            Ok(())
        } else {
            self.full.send(piece).map_err(|_| stopped())
        }
    }
}

fn stopped() -> Error {
    Error::failed("the tree could not be hashed: a thread died")
}

fn unreadable(path: &[u8]) -> Error {
    Error::failed(format!(
        "cannot read {} of the installed tree",
        canonical_tar::display(path)
    ))
}

fn read_as_tar(root: OwnedFd, out: &mut Pieces, cancel: &AtomicBool) -> Result<()> {
    let mut walk = TreeWalk::new(root);
    while let Some(found) = walk.step()? {
        check_cancelled(cancel)?;
        let entry = found.what.map_err(|what| {
            Error::refused(format!(
                "{} is {what}, which no image contains",
                canonical_tar::display(&found.path)
            ))
        })?;
        let header = canonical_tar::encode(&entry).map_err(|error| {
            Error::refused("the installed tree is not the signed image").source(&error)
        })?;
        out.put(&header)?;
        if let (Kind::File { size }, Some(file)) = (&entry.kind, found.file) {
            out.put_file(&mut file.into(), *size, &entry.path)?;
            let padding = (size.wrapping_neg() % BLOCK as u64) as usize;
            out.put(&[0; BLOCK][..padding])?;
        }
    }
    out.put(&[0; 2 * BLOCK])?;
    out.flush()
}

/// One path that is not as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path, absolute in the image.
    pub path: String,
    /// How it differs, one phrase each.
    pub how: Vec<String>,
    /// The Debian package it belongs to, when the image says so.
    pub package: Option<String>,
}

/// Compares the tree at `root` with the signed entries: every path that differs, sorted.
pub fn differences(
    root: OwnedFd,
    signed: impl Iterator<Item = SignedEntry>,
    cancel: &AtomicBool,
) -> Result<Vec<Difference>> {
    let mut merge = Merge::new(root, signed, Match::Path);
    let mut out = Vec::new();
    let mut links: HashMap<Vec<u8>, (u64, u64)> = HashMap::new();
    let mut buffer = vec![0; store::chunk::MAX];
    while let Some(step) = merge.step()? {
        check_cancelled(cancel)?;
        match step {
            Step::OnDisk(found) => out.push(difference(
                &found.path,
                vec!["is not part of the image".to_owned()],
            )),
            Step::Signed(entry) => {
                out.push(difference(&entry.path, vec!["is missing".to_owned()]));
            }
            Step::Both(mut found, entry, chunks) => {
                let how = compare(&mut found, &entry, &chunks, &mut buffer)?;
                if !how.is_empty() {
                    out.push(difference(&entry.path, how));
                }
                count_links(&mut links, &found, &entry);
            }
        }
    }
    // A name more than the image has: somebody outside the tree holds the same file.
    let extra = links
        .into_iter()
        .filter(|(_, (found, signed))| found > signed);
    out.extend(extra.map(|(path, (found, signed))| {
        difference(
            &path,
            vec![format!("has {found} names, {signed} of them in the image")],
        )
    }));
    out.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(out)
}

fn count_links(links: &mut HashMap<Vec<u8>, (u64, u64)>, found: &TreeEntry, entry: &Entry) {
    match &entry.kind {
        Kind::File { .. } if found.links > 1 => {
            links.insert(entry.path.clone(), (found.links, 1));
        }
        Kind::Hardlink { target } => {
            if let Some((_, signed)) = links.get_mut(target) {
                *signed += 1;
            }
        }
        _ => {}
    }
}

/// A path as the operator knows it, absolute in the image.
pub(crate) fn shown(path: &[u8]) -> String {
    let shown = canonical_tar::display(path);
    if shown.starts_with('/') {
        shown
    } else {
        format!("/{}", shown.trim_start_matches("./"))
    }
}

fn difference(path: &[u8], how: Vec<String>) -> Difference {
    Difference {
        path: shown(path),
        how,
        package: None,
    }
}

/// The ways in which one path on disk differs from its signed entry.
pub(crate) fn compare(
    found: &mut TreeEntry,
    signed: &Entry,
    chunks: &[ChunkRef],
    buffer: &mut [u8],
) -> Result<Vec<String>> {
    let entry = match &found.what {
        Ok(entry) => entry,
        Err(what) => return Ok(vec![format!("is {what}, signed is {}", noun(&signed.kind))]),
    };
    let mut how = Vec::new();
    match (&entry.kind, &signed.kind) {
        (Kind::File { size }, Kind::File { size: wanted }) => {
            if size != wanted {
                how.push(format!("has {size} bytes, signed are {wanted}"));
            } else if let Some(file) = found.file.take()
                && !same_content(file.into(), chunks, buffer, &entry.path)?
            {
                how.push("has other content".to_owned());
            }
        }
        (Kind::Symlink { target }, Kind::Symlink { target: wanted }) if target != wanted => {
            how.push(format!(
                "points to {}, signed is {}",
                lossy(target),
                lossy(wanted)
            ));
        }
        (Kind::Hardlink { target }, Kind::Hardlink { target: wanted }) if target != wanted => {
            how.push(format!(
                "is another name of {}, signed is {}",
                lossy(target),
                lossy(wanted)
            ));
        }
        (Kind::Directory, Kind::Directory)
        | (Kind::Symlink { .. }, Kind::Symlink { .. })
        | (Kind::Hardlink { .. }, Kind::Hardlink { .. }) => {}
        (kind, wanted) => {
            return Ok(vec![format!(
                "is {}, signed is {}",
                noun(kind),
                noun(wanted)
            )]);
        }
    }
    if entry.mode != signed.mode {
        how.push(format!(
            "has mode {:04o}, signed is {:04o}",
            entry.mode, signed.mode
        ));
    }
    if (entry.uid, entry.gid) != (signed.uid, signed.gid) {
        how.push(format!(
            "belongs to {}:{}, signed is {}:{}",
            entry.uid, entry.gid, signed.uid, signed.gid
        ));
    }
    if entry.mtime != signed.mtime {
        how.push(format!(
            "is from second {}, signed is {}",
            entry.mtime, signed.mtime
        ));
    }
    if entry.xattrs != signed.xattrs {
        how.push("has other extended attributes".to_owned());
    }
    Ok(how)
}

fn same_content(
    mut file: File,
    chunks: &[ChunkRef],
    buffer: &mut [u8],
    path: &[u8],
) -> Result<bool> {
    for chunk in chunks {
        let part = &mut buffer[..chunk.len() as usize];
        match file.read_exact(part) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read.map_err(|error| unreadable(path).source(&error))?,
        }
        if !chunk.names(part) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn noun(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "a directory",
        Kind::File { .. } => "a file",
        Kind::Symlink { .. } => "a symbolic link",
        Kind::Hardlink { .. } => "a hard link",
    }
}

fn lossy(bytes: &[u8]) -> String {
    canonical_tar::display(bytes)
}

#[cfg(test)]
mod tests;
