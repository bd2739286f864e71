//! The work directory: step results and scratch space, for one build of a recipe at a time.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::atomic_file::{self, remove};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::layers::{Key, Layers, forget_acl};
use crate::recipe::debris::CACHE_SIGNATURE;

/// A work directory in which one recipe is built by one build at a time.
#[derive(Debug)]
pub struct WorkDir {
    /// Step results.
    pub layers: Layers,
    /// Scratch space of this build alone.
    pub scratch: PathBuf,
    builds: PathBuf,
    dir: PathBuf,
    _lock: File,
}

impl WorkDir {
    /// Takes the recipe's place in the work directory.
    pub fn take(work: &Path, name: &str) -> Result<Self> {
        check_path(work)?;
        let builds = work.join("builds");
        let dir = builds.join(name);
        fs::create_dir_all(&dir).map_err(|e| unwritable(work, &e))?;
        // For backups, and for packages in whose directory it lies.
        let tag = work.join("CACHEDIR.TAG");
        if !tag.exists() {
            fs::write(&tag, format!("{CACHE_SIGNATURE}\n")).map_err(|e| unwritable(work, &e))?;
        }
        let path = dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| unwritable(work, &e))?;
        if lock.try_lock().is_err() {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("another build of {name} is running"),
            )
            .hint("wait for it to end, or give this one its own --work DIR"));
        }
        let scratch = dir.join("scratch");
        // What a killed build left.
        remove(&scratch)?;
        fs::create_dir_all(&scratch).map_err(|e| unwritable(work, &e))?;
        // `cp` in a step takes modes along, and ACLs with them.
        forget_acl(&scratch)?;
        Ok(Self {
            layers: Layers::open(work)?,
            scratch,
            builds,
            dir,
            _lock: lock,
        })
    }

    /// Names layers that this recipe uses, so that no other build removes them:
    /// those of a running or failed build and of the last one that succeeded.
    pub fn keep_layers(&self, keys: &[Key]) -> Result<()> {
        let _guard = self.guard()?;
        let mut names = self.kept()?;
        names.extend(keys.iter().map(|k| k.as_str().to_owned()));
        self.write_kept(&names)
    }

    /// After a success: names exactly its layers and removes what no recipe
    /// uses any more.
    pub(crate) fn prune_layers(&self, keys: &[Key]) -> Result<()> {
        let _guard = self.guard()?;
        self.write_kept(&keys.iter().map(|k| k.as_str().to_owned()).collect())?;
        let unreadable = || format!("cannot read {}", self.builds.display());
        let mut used = BTreeSet::new();
        for entry in fs::read_dir(&self.builds).context(unreadable)? {
            let list = entry.context(unreadable)?.path().join("layers");
            let text = fs::read_to_string(list).unwrap_or_default();
            used.extend(text.lines().map(str::to_owned));
        }
        self.layers.prune(&|name| used.contains(name))
    }

    /// Removes every layer: a varied build starts from nothing.
    pub(crate) fn clear(&self) -> Result<()> {
        let _guard = self.guard()?;
        self.write_kept(&BTreeSet::new())?;
        self.layers.prune(&|_| false)
    }

    /// Held while lists of layers are written or relied on.
    fn guard(&self) -> Result<File> {
        let path = self.builds.join(".lists");
        let failed = || format!("cannot lock {}", path.display());
        let guard = File::create(&path).context(failed)?;
        guard.lock().context(failed)?;
        Ok(guard)
    }

    fn kept(&self) -> Result<BTreeSet<String>> {
        let path = self.dir.join("layers");
        match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            other => {
                let text = other.context(|| format!("cannot read {}", path.display()))?;
                Ok(text.lines().map(str::to_owned).collect())
            }
        }
    }

    fn write_kept(&self, names: &BTreeSet<String>) -> Result<()> {
        let path = self.dir.join("layers");
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        atomic_file::replace(&path, text).context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // Everything there is of no use after the build.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Refuses places where debootstrap or the sandbox cannot work.
fn check_path(work: &Path) -> Result<()> {
    let text = work.to_string_lossy();
    let why = if text.contains(char::is_whitespace) || text.contains(['\'', '"', '\\', '#', '$']) {
        "debootstrap and schroot need a path without blanks, quotes, `#` and `$`"
    } else if work.starts_with("/run") || work.starts_with("/proc") || work.starts_with("/dev") {
        "a sandbox has its own /run, /proc and /dev"
    } else {
        return Ok(());
    };
    Err(
        Error::usage(format!("the work directory cannot be {}", work.display()))
            .detail(why)
            .hint("choose another one with --work DIR"),
    )
}

pub(crate) fn unwritable(work: &Path, error: &std::io::Error) -> Error {
    Error::failed(format!(
        "cannot write to the work directory {}",
        work.display()
    ))
    .because(error)
    .hint("choose another one with --work DIR")
}
