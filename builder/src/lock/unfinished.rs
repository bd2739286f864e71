//! Packages that were resolved by a lock that then failed: what came after them need not wait
//! for them again.

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
    /// Resolves packages, or takes what the last try resolved from the same recipe and lock.
    pub(super) fn resolve_packages_once(
        &self,
        packages_from: Sha256,
        old: Option<&Lock>,
        ui: &mut Ui,
    ) -> Result<Lock> {
        let dir = self.unfinished();
        let old_digest = old.map(Lock::digest).transpose()?;
        let key = format!("{packages_from} {old_digest:?} {:?}", self.upgrade);
        let file = dir.join(Sha256::of(key.as_bytes()).hex());
        let age = fs::metadata(&file).and_then(|meta| meta.modified());
        let age = age.ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age < LIFETIME)
            && let Ok(Some(lock)) = Lock::load(&file)
        {
            ui.note("packages: as the last try resolved them");
            return Ok(lock);
        }
        let lock = self.resolve_packages(packages_from, old, ui)?;
        fs::create_dir_all(&dir).context(|| format!("cannot make {}", dir.display()))?;
        lock.save(&file)?;
        Ok(lock)
    }

    /// Forgets what earlier tries of this recipe left.
    pub(super) fn forget_unfinished(&self) -> Result<()> {
        crate::layers::remove(&self.unfinished())
    }

    /// One directory for each recipe.
    fn unfinished(&self) -> PathBuf {
        let path = fs::canonicalize(self.path).unwrap_or_else(|_| self.path.to_owned());
        let name = Sha256::of(path.as_os_str().as_encoded_bytes()).hex();
        self.settings.work.join("unfinished").join(name)
    }
}
