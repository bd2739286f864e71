//! Packages decompressed while the steps before theirs run.
//!
//! A step of packages is dpkg for most of its time, which unpacks one after the
//! other on one processor. The others decompress what comes next.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use store::Inputs;
use store::digest::Sha256;

use super::plain;
use crate::error::{Context, Result};
use crate::steps::{Form, Mirror};

/// Of the packages of a step, the first with so many bytes together are decompressed.
const MAX_PACKED: u64 = 256 << 20;

/// A directory for decompressed packages, each named by the digest of what it was.
#[derive(Clone, Debug)]
pub struct Ahead {
    dir: PathBuf,
}

impl Ahead {
    /// Makes the directory.
    pub fn new(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// The packages of an archive that are decompressed for it: what its step installs, within
    /// limits.
    pub(super) fn wanted(mirror: &Mirror, inputs: &Inputs) -> Vec<Sha256> {
        let own = mirror
            .debs
            .iter()
            .filter(|(_, stage)| *stage == mirror.stage);
        let mut left = MAX_PACKED;
        let fits = own.filter(|(digest, _)| {
            let size = fs::metadata(inputs.path(digest)).map_or(u64::MAX, |found| found.len());
            let fits = size <= left;
            left = left.saturating_sub(if fits { size } else { 0 });
            fits && mirror.form == Form::Archive
        });
        fits.map(|(digest, _)| *digest).collect()
    }

    /// Decompresses the packages of these archives, until it is told to stop. What cannot be
    /// decompressed shows when it is needed.
    pub fn work<'m>(
        &self,
        mirrors: impl Iterator<Item = &'m Mirror>,
        inputs: &Inputs,
        stop: &AtomicBool,
    ) {
        for digest in mirrors.flat_map(|mirror| Self::wanted(mirror, inputs)) {
            if stop.load(Ordering::Relaxed) || self.package(&digest, inputs).is_err() {
                return;
            }
        }
    }

    /// The decompressed package; decompresses it now where that was not yet done.
    pub(super) fn package(&self, digest: &Sha256, inputs: &Inputs) -> Result<PathBuf> {
        let path = self.dir.join(format!("{}.deb", digest.hex()));
        if path.exists() {
            return Ok(path);
        }
        let new = tempfile::NamedTempFile::new_in(&self.dir)
            .context(|| format!("cannot write to {}", self.dir.display()))?;
        plain::write(&inputs.path(digest), new.path())?;
        // Readable, as all that the step gets.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(new.path(), mode)
            .and_then(|()| Ok(new.persist(&path)?))
            .context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Removes packages that their step has installed.
    pub fn forget(&self, mirror: &Mirror, inputs: &Inputs) {
        for digest in Self::wanted(mirror, inputs) {
            let _ = fs::remove_file(self.dir.join(format!("{}.deb", digest.hex())));
        }
    }
}
