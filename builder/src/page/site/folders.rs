//! Folders and plain files, where links lead nowhere.

use std::fs;
use std::path::Path;

use store::Sha256;

use super::OWN;
use crate::error::{Context, Error, Result};

/// No page is larger.
const MAX_PAGE: u64 = 256 << 20;

/// Whether there is nothing but what this program makes before it writes its first list.
pub(super) fn is_begun(dir: &Path) -> Result<bool> {
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
pub(super) fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// Makes a folder, if it is not there.
pub(super) fn make_folder(path: &Path) -> Result<()> {
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
pub(super) fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    let found = path.symlink_metadata().ok()?;
    (found.is_file() && found.len() <= most).then_some(())?;
    fs::read(path).ok()
}

/// The digest of a page; none where no page is.
pub(super) fn digest_of(path: &Path) -> Option<Sha256> {
    read(path, MAX_PAGE).map(|bytes| Sha256::of(&bytes))
}
