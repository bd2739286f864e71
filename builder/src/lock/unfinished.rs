//! Packages of a lock that failed later: the next try need not wait for them again.
//!
//! They are kept once all of them are in the store. What an archive no longer has is resolved
//! again.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use store::Sha256;

use super::LockRequest;
use crate::error::{Context, Result};
use crate::lockfile::Lock;
use crate::ui::Ui;

/// For how long archives are taken to be as they were.
const LIFETIME: Duration = Duration::from_secs(6 * 3600);

impl LockRequest<'_> {
    /// What the last try resolved from the same recipe and lock, if it went no further.
    pub(super) fn packages_of_last_try(
        &self,
        packages_from: Sha256,
        old: Option<&Lock>,
        ui: &Ui,
    ) -> Result<Option<Lock>> {
        let file = self.unfinished_file(packages_from, old)?;
        let age = fs::metadata(&file).and_then(|meta| meta.modified());
        let age = age.ok().and_then(|time| time.elapsed().ok());
        if age.is_none_or(|age| age >= LIFETIME) {
            return Ok(None);
        }
        // One that cannot be read is as good as none.
        let lock = Lock::load(&file).ok().flatten();
        if lock.is_some() {
            ui.note("packages: as the last try resolved them; --upgrade resolves them afresh");
        }
        Ok(lock)
    }

    /// Keeps the packages of a lock, all of which are in the store.
    pub(super) fn keep_for_next_try(&self, lock: &Lock, old: Option<&Lock>) -> Result<()> {
        let dir = self.unfinished();
        fs::create_dir_all(&dir).context(|| format!("cannot make {}", dir.display()))?;
        lock.save(&self.unfinished_file(lock.packages_from, old)?)
    }

    /// Forgets what earlier tries of this recipe left.
    pub(super) fn forget_last_try(&self) -> Result<()> {
        crate::atomic_file::remove(&self.unfinished())
    }

    /// One file for what decides which packages these are.
    fn unfinished_file(&self, packages_from: Sha256, old: Option<&Lock>) -> Result<PathBuf> {
        let old = old.map(Lock::digest).transpose()?;
        let key = format!("{packages_from} {old:?} {:?}", self.upgrade);
        Ok(self.unfinished().join(Sha256::of(key.as_bytes()).hex()))
    }

    /// One directory for each recipe.
    fn unfinished(&self) -> PathBuf {
        let path = fs::canonicalize(self.path).unwrap_or_else(|_| self.path.to_owned());
        let name = Sha256::of(path.as_os_str().as_encoded_bytes()).hex();
        self.settings.work.join("unfinished").join(name)
    }
}
