//! The cache of a store that is elsewhere: chunks of layouts and indexes of packs.
//!
//! ```text
//! STATE/kept/HEX.chunk   a chunk of a layout
//! STATE/kept/HEX.index   the index of a pack
//! ```
//! The next version shares most of them. It is a cache: each is compared with what was signed when
//! it is used, losing one costs a few bytes of network, and the directory may be removed at any time.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use store::Cache;

/// The most bytes that are kept: what was used longest ago goes first.
const MOST: u64 = 256 << 20;

/// The longest object that is kept, in bytes.
const LONGEST: u64 = 64 << 20;

/// The beginning of the names of files that are being written.
const UNFINISHED: &str = "unfinished-";

/// The cache directory; see [`self`].
pub struct StoreCache {
    directory: PathBuf,
    number: AtomicU64,
}

impl StoreCache {
    /// The cache in `directory`, which is made when something is kept.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            number: AtomicU64::new(0),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let own = format!("{UNFINISHED}{}-{number}", std::process::id());
        let temporary = self.directory.join(own);
        let open = || {
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&temporary)
        };
        let file = match open() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.directory)?;
                open()
            }
            other => other,
        };
        let written = file.and_then(|mut file| file.write_all(bytes));
        // After a power cut it may be there and not whole; then it is not believed.
        let placed = written.and_then(|()| fs::rename(&temporary, self.directory.join(name)));
        if placed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        placed
    }

    /// Removes what was used longest ago, until not too much is left.
    pub fn trim(&self) {
        trim(&self.directory, MOST);
    }
}

impl Cache for StoreCache {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.directory.join(name);
        let file = File::open(path).ok()?;
        let found = file.metadata().ok()?;
        if !found.is_file() || found.len() > LONGEST {
            return None;
        }
        let mut bytes = Vec::with_capacity(found.len() as usize);
        (&file).take(LONGEST).read_to_end(&mut bytes).ok()?;
        // Only the order in which things go depends on it.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        if bytes.len() as u64 <= LONGEST {
            // On a full disk there is more important work.
            let _ = self.write(name, bytes);
        }
    }

    fn size(&self, name: &str) -> Option<u64> {
        let found = fs::symlink_metadata(self.directory.join(name)).ok()?;
        found.is_file().then_some(found.len())
    }
}

fn trim(directory: &Path, most: u64) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let seen = |entry: fs::DirEntry| {
        let found = entry.metadata().ok()?;
        Some((found.modified().ok()?, found.len(), entry.path()))
    };
    let mut files: Vec<_> = entries.flatten().filter_map(seen).collect();
    files.sort_unstable_by(|one, other| other.cmp(one));
    let mut sum: u64 = 0;
    for (_, size, path) in files {
        sum = sum.saturating_add(size);
        let name = path.file_name().unwrap_or_default();
        if sum > most || name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("kept");
        let kept = StoreCache::new(place.clone());
        assert_eq!(kept.get("a.chunk"), None);
        let names = ["a.chunk", "b.chunk", "c.index"];
        for (age, name) in (10..).zip(names) {
            kept.put(name, &[7; 1000]);
            let then = SystemTime::now() - Duration::from_secs(age);
            let file = File::options().write(true).open(place.join(name)).unwrap();
            file.set_modified(then).unwrap();
        }
        assert_eq!(kept.size("c.index"), Some(1000));
        // Used now, so no longer the oldest.
        assert_eq!(kept.get("c.index").unwrap(), [7; 1000]);
        fs::write(place.join("unfinished-1-0"), b"").unwrap();
        trim(&place, 2500);
        assert!(!place.join("unfinished-1-0").exists());
        assert_eq!(
            names.map(|name| kept.size(name).is_some()),
            [true, false, true]
        );
        trim(&place, 0);
        assert_eq!(fs::read_dir(place).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_kept_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let kept = StoreCache::new(directory.path().to_owned());
        fs::create_dir(directory.path().join("a.chunk")).unwrap();
        kept.put("a.chunk", b"x");
        assert_eq!(kept.get("a.chunk"), None);
        assert_eq!(kept.size("a.chunk"), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
