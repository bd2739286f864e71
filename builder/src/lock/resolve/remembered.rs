//! Digests of large files beside the recipe, remembered in the work directory, so that a
//! file that nobody touched is not read at each command.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use store::digest::Sha256;

/// Files below this are read each time.
const LARGE: u64 = 16 << 20;
/// A change within the same tick of the clock could not be seen.
const SETTLED_SECONDS: i64 = 2;

/// Where digests are remembered. What cannot be read or written there is not remembered.
pub struct Remembered {
    dir: PathBuf,
}

impl Remembered {
    /// Those of a work directory.
    pub fn below(work: &Path) -> Self {
        Self {
            dir: work.join("digests"),
        }
    }

    /// The digest of a file that is as it was when it was read.
    pub(super) fn digest(&self, meta: &Metadata) -> Option<Sha256> {
        let text = fs::read_to_string(self.path(meta)?).ok()?;
        Sha256::from_hex(text.trim()).ok()
    }

    /// Remembers the digest of a file, `meta` being from before it was read.
    pub(super) fn remember(&self, meta: &Metadata, digest: &Sha256, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let settled = i64::try_from(now).unwrap_or(i64::MAX) - SETTLED_SECONDS;
        let Some(path) = self.path(meta).filter(|_| meta.ctime() < settled) else {
            return;
        };
        let written = fs::create_dir_all(&self.dir).and_then(|()| fs::write(&path, digest.hex()));
        // Half a digest is none.
        drop(written);
    }

    /// One file for each state of a file: its inode, size and times.
    fn path(&self, meta: &Metadata) -> Option<PathBuf> {
        let state = format!(
            "{} {} {} {}.{:09} {}.{:09}",
            meta.dev(),
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec()
        );
        (meta.len() >= LARGE).then(|| self.dir.join(Sha256::of(state.as_bytes()).hex()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_large_file_is_read_again_once_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let remembered = Remembered::below(dir.path());
        let path = dir.path().join("large");
        let file = fs::File::create(&path).unwrap();
        file.set_len(LARGE).unwrap();
        let before = fs::metadata(&path).unwrap();
        let digest = Sha256::of(b"x");
        assert_eq!(remembered.digest(&before), None);
        // Just written: another change might look the same.
        let changed = before.modified().unwrap();
        remembered.remember(&before, &digest, changed);
        assert_eq!(remembered.digest(&before), None);
        remembered.remember(&before, &digest, changed + Duration::from_secs(10));
        assert_eq!(remembered.digest(&before), Some(digest));
        file.set_modified(changed + Duration::from_secs(1)).unwrap();
        assert_eq!(remembered.digest(&fs::metadata(&path).unwrap()), None);
        // Small ones are not remembered.
        file.set_len(1).unwrap();
        let small = fs::metadata(&path).unwrap();
        remembered.remember(&small, &digest, changed + Duration::from_secs(10));
        assert_eq!(remembered.digest(&small), None);
    }
}
