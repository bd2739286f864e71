//! Step results as stacked overlayfs layers in the work directory.
//!
//! ```text
//! WORK/layers/KEY/done   written last: the step succeeded, its result is whole
//!                 fs     what the step changed
//!                 log    what it printed
//!                 lock   held (flock) while somebody builds or uses the layer
//! ```
//!
//! A layer's key is the digest of everything that can influence it, the key
//! below it included; so a finished layer is never built again and a changed
//! step drops exactly itself and what follows. The running step writes to an
//! overlay mounted `volatile`: the kernel then ignores every fsync in it, and a
//! layer is trusted only by the boot that wrote it, or after one syncfs.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde::{Deserialize, Serialize};

use crate::atomic_file::{self, remove};
use crate::error::{Context, Error, Result};
use crate::interrupt;
use crate::sandbox::SPEC;

/// How often a build looks whether another one has finished a layer.
const POLL: Duration = Duration::from_millis(200);

/// Attributes in which Linux keeps ACLs; the first is inherited.
pub(crate) const ACLS: [&str; 2] = ["system.posix_acl_default", "system.posix_acl_access"];

/// The name of a layer: hex digits of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// The key of a step: a digest over what it builds on and what it is.
    pub fn derive(below: Option<&Key>, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("imgbuild step 1");
        for part in
            std::iter::once(below.map_or("", |k| &k.0).as_bytes()).chain(parts.iter().copied())
        {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        // 20 bytes: short enough for mount options, long enough for ever.
        Self(hasher.finalize().to_hex()[..40].to_owned())
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Serialize, Deserialize)]
struct Done {
    boot: String,
    synced: bool,
    step: String,
}

/// The layers below one work directory.
#[derive(Debug)]
pub struct Layers {
    dir: PathBuf,
    boot: String,
}

/// A layer that is being built; dropped without [`Building::finish`], it keeps
/// its tree and log for a look, and the next build starts it afresh.
#[derive(Debug)]
pub struct Building {
    dir: PathBuf,
    mounted: Mounted,
    _lock: File,
}

/// A mounted tree; unmounted when dropped. The layers below it stay as long.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    held: Vec<File>,
}

impl Layers {
    /// Opens `WORK/layers` to build in it.
    pub fn open(work: &Path) -> Result<Self> {
        let layers = Self::look(work)?;
        let dir = &layers.dir;
        fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
        forget_acl(dir)?;
        Ok(layers)
    }

    /// Opens `WORK/layers`, which may not be there, to see what is in it.
    pub fn look(work: &Path) -> Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .context(|| "cannot read the kernel's boot id".into())?;
        Ok(Self {
            dir: work.join("layers"),
            boot: boot.trim().to_owned(),
        })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(&key.0)
    }

    /// The log of a layer, finished or not.
    pub fn log(&self, key: &Key) -> PathBuf {
        self.path(key).join("log")
    }

    /// The directory with what a step wrote, finished or not.
    pub fn changes(&self, key: &Key) -> PathBuf {
        self.path(key).join("fs")
    }

    /// Whether the step of this key has succeeded and its layer can be used.
    pub fn is_done(&self, key: &Key) -> bool {
        let Ok(json) = fs::read(self.path(key).join("done")) else {
            return false;
        };
        let Ok(done) = serde_json::from_slice::<Done>(&json) else {
            return false;
        };
        done.synced || done.boot == self.boot
    }

    /// Whether a failed or interrupted attempt of this key is there to look at.
    pub fn is_started(&self, key: &Key) -> bool {
        self.changes(key).is_dir()
    }

    /// Locks a layer against removal while it is used.
    fn hold(&self, key: &Key) -> Result<File> {
        let lock = self.lock_file(key)?;
        lock.lock_shared()
            .context(|| format!("cannot lock the layer {}", key.0))?;
        Ok(lock)
    }

    fn lock_file(&self, key: &Key) -> Result<File> {
        let dir = self.path(key);
        fs::create_dir_all(&dir).context(|| format!("cannot make {}", dir.display()))?;
        let path = dir.join("lock");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .context(|| format!("cannot open {}", path.display()))
    }

    /// Starts the layer `key` on top of `below` (lowest first), from nothing.
    /// When another build is making the same layer, waits for it; `None` when
    /// that build has finished it.
    pub fn begin(
        &self,
        key: &Key,
        below: &[Key],
        waiting: &mut dyn FnMut(),
    ) -> Result<Option<Building>> {
        let dir = self.path(key);
        let lock = self.lock_for_building(key, waiting)?;
        if self.is_done(key) {
            return Ok(None);
        }
        for name in ["done", "fs", "work", "root", SPEC] {
            remove(&dir.join(name))?;
        }
        make_top(&dir.join("fs"))?;
        let mounted = if below.is_empty() {
            // The first layer is a plain directory: overlayfs needs a lower one.
            let empty = dir.join("work/empty");
            fs::create_dir_all(&empty).context(|| format!("cannot make {}", empty.display()))?;
            self.mount(&dir, &[], Some(&empty))?
        } else {
            self.mount(&dir, below, None)?
        };
        Ok(Some(Building {
            dir,
            mounted,
            _lock: lock,
        }))
    }

    fn lock_for_building(&self, key: &Key, waiting: &mut dyn FnMut()) -> Result<File> {
        let path = self.path(key).join("lock");
        let mut told = false;
        loop {
            let lock = self.lock_file(key)?;
            if lock.try_lock().is_ok() {
                // Unless it was removed with its layer in between.
                let same = |meta: fs::Metadata| {
                    let ours = lock.metadata().map(|m| m.ino());
                    ours.is_ok_and(|ino| ino == meta.ino())
                };
                if fs::metadata(&path).is_ok_and(same) {
                    return Ok(lock);
                }
                continue;
            }
            if !told {
                told = true;
                waiting();
            }
            interrupt::check()?;
            std::thread::sleep(POLL);
        }
    }

    /// Mounts the given layers read-write with a throw-away top at `scratch`.
    pub fn scratch(&self, scratch: &Path, layers: &[Key]) -> Result<Mounted> {
        remove(scratch)?;
        make_top(&scratch.join("fs"))?;
        self.mount(scratch, layers, None)
    }

    fn mount(&self, dir: &Path, lower: &[Key], base: Option<&Path>) -> Result<Mounted> {
        let (root, work) = (dir.join("root"), dir.join("work/overlay"));
        for path in [&root, &work] {
            fs::create_dir_all(path).context(|| format!("cannot make {}", path.display()))?;
        }
        // Upper layers come first in overlayfs' list.
        let mut lowers: Vec<PathBuf> = lower.iter().rev().map(|key| self.changes(key)).collect();
        lowers.extend(base.map(Path::to_path_buf));
        let lowers: Vec<String> = lowers.iter().map(|p| escape(p)).collect();
        let upper = escape(&dir.join("fs"));
        let options = format!(
            "lowerdir={},upperdir={upper},workdir={},volatile,redirect_dir=on,index=off,metacopy=off,xino=off",
            lowers.join(":"),
            escape(&work)
        );
        let failed = || format!("cannot mount an overlay in {}", dir.display());
        if options.len() > 4000 {
            return Err(Error::failed(failed())
                .detail("the recipe has more steps than one mount can take")
                .hint("join some [[run]] steps, or choose a shorter --work path"));
        }
        let options = std::ffi::CString::new(options).context(failed)?;
        let held = lower
            .iter()
            .map(|key| self.hold(key))
            .collect::<Result<_>>()?;
        mount(
            "imgbuild",
            &root,
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .map_err(|e| {
            Error::failed(failed())
                .because(&std::io::Error::from(e))
                .hint(
                    "the work directory needs a local file system such as ext4, xfs or btrfs: \
                     choose one with --work DIR",
                )
        })?;
        Ok(Mounted { path: root, held })
    }

    /// Makes finished layers survive a power cut: one syncfs for all of them.
    pub fn sync(&self, keys: &[Key]) -> Result<()> {
        let open: Vec<(PathBuf, Done)> = keys
            .iter()
            .filter_map(|key| {
                let path = self.path(key).join("done");
                let done: Done = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
                (!done.synced).then_some((path, done))
            })
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let dir =
            File::open(&self.dir).context(|| format!("cannot open {}", self.dir.display()))?;
        rustix::fs::syncfs(&dir).context(|| format!("cannot sync {}", self.dir.display()))?;
        for (path, mut done) in open {
            done.synced = true;
            write_done(&path, &done)?;
        }
        Ok(())
    }

    /// Removes layers that nobody uses, except those to keep.
    pub fn prune(&self, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        let unreadable = || format!("cannot read {}", self.dir.display());
        for entry in fs::read_dir(&self.dir).context(unreadable)? {
            let entry = entry.context(unreadable)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            if keep(&name) {
                continue;
            }
            let Ok(lock) = File::open(entry.path().join("lock")) else {
                continue;
            };
            if lock.try_lock().is_ok() {
                let _ = fs::remove_file(entry.path().join("done"));
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl Building {
    /// Where the tree is mounted.
    pub fn root(&self) -> &Path {
        &self.mounted.path
    }

    /// The step's log file.
    pub fn create_log(&self) -> Result<File> {
        let path = self.dir.join("log");
        File::create(&path).context(|| format!("cannot write {}", path.display()))
    }

    /// Declares the layer whole.
    pub fn finish(self, layers: &Layers, step: &str) -> Result<()> {
        let Self {
            dir,
            mounted,
            _lock,
        } = self;
        mounted.unmount()?;
        remove(&dir.join("work"))?;
        remove(&dir.join("root"))?;
        let done = Done {
            boot: layers.boot.clone(),
            synced: false,
            step: step.to_owned(),
        };
        write_done(&dir.join("done"), &done)
    }
}

impl Mounted {
    /// Where the tree is mounted.
    pub fn root(&self) -> &Path {
        &self.path
    }

    fn unmount(mut self) -> Result<()> {
        unmount(&self.path, UnmountFlags::empty())
            .context(|| format!("cannot unmount {}", self.path.display()))?;
        self.held.clear();
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// Makes a layer's directory. It is the root of the tree as well: whatever the
/// caller's umask, and whatever a directory gives to what is made in it (ACL,
/// group, setgid bit).
fn make_top(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let failed = || format!("cannot make {}", path.display());
    fs::create_dir_all(path).context(failed)?;
    forget_acl(path)?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(0), Some(0)).context(failed)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context(failed)
}

/// Removes a directory's ACLs (acl(5)), so that nothing made in it inherits one.
pub(crate) fn forget_acl(path: &Path) -> Result<()> {
    use rustix::io::Errno;
    for name in ACLS {
        match rustix::fs::removexattr(path, name) {
            // OPNOTSUPP: a file system without ACLs.
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => {
                return Err(
                    Error::failed(format!("cannot remove the ACL of {}", path.display()))
                        .because(&std::io::Error::from(e)),
                );
            }
        }
    }
    Ok(())
}

fn write_done(path: &Path, done: &Done) -> Result<()> {
    let json = serde_json::to_vec(done).context(|| "cannot describe a layer".into())?;
    atomic_file::replace(path, json).context(|| format!("cannot write {}", path.display()))
}

/// Colons, commas and backslashes separate things in mount options.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        if matches!(c, ':' | ',' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_each_part_and_their_borders() {
        let base = Key::derive(None, &[b"a", b"bc"]);
        assert_ne!(base, Key::derive(None, &[b"ab", b"c"]));
        assert_ne!(base, Key::derive(Some(&base), &[b"a", b"bc"]));
        assert_eq!(base, Key::derive(None, &[b"a", b"bc"]));
        assert_eq!(base.as_str().len(), 40);
    }

    #[test]
    fn mount_options_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c\\d")), "/a\\:b\\,c\\\\d");
    }

    /// `user::rwx user:1234:rwx group::r-x mask::rwx other::r-x` (acl(5), version 2).
    fn acl() -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        let none = u32::MAX;
        for (tag, rights, id) in [
            (1u16, 7u16, none),
            (2, 7, 1234),
            (4, 5, none),
            (16, 7, none),
            (32, 5, none),
        ] {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(rights.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_layer_inherits_nothing_from_the_work_directory() {
        use rustix::fs::{XattrFlags, lgetxattr, setxattr};
        use std::os::unix::fs::PermissionsExt;
        let work = tempfile::tempdir().unwrap();
        let work = work.path();
        fs::set_permissions(work, fs::Permissions::from_mode(0o2775)).unwrap();
        match setxattr(work, ACLS[0], &acl(), XattrFlags::empty()) {
            // A file system without ACLs: nothing to inherit.
            Err(rustix::io::Errno::OPNOTSUPP) => return,
            other => other.unwrap(),
        }
        let inherits = |path: &Path| {
            let mut bytes = [0; 256];
            ACLS.iter()
                .any(|name| lgetxattr(path, *name, &mut bytes[..]).is_ok())
        };
        let plain = work.join("plain");
        fs::create_dir(&plain).unwrap();
        assert!(inherits(&plain));
        // A work directory of an earlier version has layers that inherited it.
        fs::create_dir_all(work.join("layers/old/fs")).unwrap();
        Layers::open(work).unwrap();
        for name in ["old", "new"] {
            let top = work.join("layers").join(name).join("fs");
            make_top(&top).unwrap();
            fs::write(top.join("file"), "").unwrap();
            fs::create_dir(top.join("dir")).unwrap();
            for path in [&top, &top.join("file"), &top.join("dir")] {
                assert!(!inherits(path), "{}", path.display());
                assert_eq!(fs::metadata(path).unwrap().mode() & 0o7000, 0);
            }
        }
    }
}
