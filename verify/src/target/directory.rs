//! Where generations live.
//!
//! `dir:PATH` keeps them as plain directories side by side:
//!
//! ```text
//! PATH/                 root's, nobody else may write; made if its parent is there
//!   SYSTEM/             0700: old generations may hold setuid programs with known holes
//!     .imgnode.json     says whose directory this is
//!     .staging/         the generation under construction
//!     1/ 2/ ...         finished generations, each the root of a tree
//! ```
//! A directory without our mark is foreign and is never written to or removed. The path may not
//! lead through symbolic links or directories that others can change: whoever can swap a component
//! of the path decides what root runs.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::error::{Context, Error, Result};
use crate::ground::{self, Unfit};
use crate::state::{SCHEMA, check_schema};
use crate::system::SystemName;

const MARK: &str = ".imgnode.json";
const STAGING: &str = ".staging";

/// A place for generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// Plain directories; sessions get an overlay.
    Directory(PathBuf),
}

/// The mark in a system's directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    schema: u32,
    system: SystemName,
    state: PathBuf,
}

impl Target {
    /// The directory of a system.
    pub fn home(&self, system: &SystemName) -> PathBuf {
        let Self::Directory(path) = self;
        path.join(system.as_str())
    }

    /// The root of a generation's tree.
    pub fn generation(&self, system: &SystemName, number: u64) -> PathBuf {
        self.home(system).join(number.to_string())
    }

    /// Where the next generation is built.
    pub fn staging(&self, system: &SystemName) -> PathBuf {
        self.home(system).join(STAGING)
    }

    /// Whether `install` would have to make PATH itself; refuses a place we must not write to.
    pub fn inspect(&self, system: &SystemName, state: &Path) -> Result<bool> {
        let Self::Directory(path) = self;
        match ground::check(path) {
            Ok(()) => {
                self.check_home(system, state)?;
                Ok(false)
            }
            Err(Unfit::Missing(missing)) if missing == *path => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                ground::check(parent).map_err(|why| why.into_error(parent))?;
                Ok(true)
            }
            Err(why) => Err(why.into_error(path)),
        }
    }

    fn check_home(&self, system: &SystemName, state: &Path) -> Result<()> {
        let home = self.home(system);
        match ground::check(&home) {
            Err(Unfit::Missing(_)) => return Ok(()),
            other => other.map_err(|why| why.into_error(&home))?,
        }
        let foreign = |why: String| {
            Error::refused(format!(
                "{} is not a directory of this imgnode",
                home.display()
            ))
            .cause(why)
            .hint("choose another name with --as or another --target")
        };
        match durable::read_json::<Mark>(&home.join(MARK))? {
            None if is_empty(&home)? => Ok(()),
            None => Err(foreign(format!("it has no {MARK} and is not empty"))),
            Some(mark) => {
                check_schema(&home.join(MARK), mark.schema)?;
                if mark.system != *system || mark.state != state {
                    return Err(foreign(format!(
                        "it belongs to the system {} of the state directory {}",
                        mark.system,
                        mark.state.display()
                    )));
                }
                Ok(())
            }
        }
    }

    /// Makes the system's directory and its mark, and an empty staging directory in it.
    pub fn prepare(&self, system: &SystemName, state: &Path) -> Result<OwnedFd> {
        let Self::Directory(path) = self;
        if self.inspect(system, state)? {
            make(path, 0o755)?;
        }
        let home = self.home(system);
        make(&home, 0o700)?;
        let mark = Mark {
            schema: SCHEMA,
            system: system.clone(),
            state: state.to_owned(),
        };
        durable::write_json(&home.join(MARK), &mark)?;
        let staging = self.staging(system);
        durable::remove_tree(&staging)?;
        make(&staging, 0o700)?;
        rustix::fs::openat2(
            CWD,
            &staging,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS,
        )
        .context(|| format!("cannot open {}", staging.display()))
    }

    /// Gives the finished staging directory its number, in one rename.
    pub fn place(&self, system: &SystemName, number: u64) -> Result<()> {
        let (from, to) = (self.staging(system), self.generation(system, number));
        rustix::fs::renameat_with(CWD, &from, CWD, &to, rustix::fs::RenameFlags::NOREPLACE)
            .context(|| format!("cannot rename {} to {}", from.display(), to.display()))?;
        durable::sync_directory(&self.home(system))
    }

    /// Takes away one generation.
    pub fn remove(&self, system: &SystemName, number: u64) -> Result<()> {
        durable::remove_tree(&self.generation(system, number))
    }

    /// Takes away the staging directory.
    pub fn clear_staging(&self, system: &SystemName) -> Result<()> {
        durable::remove_tree(&self.staging(system))
    }

    /// Takes away a system's directory once it holds nothing but our mark, and PATH too if
    /// `install` made it and it is empty.
    pub fn close(&self, system: &SystemName, made_path: bool) -> Result<()> {
        let Self::Directory(path) = self;
        let home = self.home(system);
        if home.is_dir() {
            durable::remove(&home.join(MARK))?;
        }
        remove_empty(&home)?;
        if made_path {
            remove_empty(path)
        } else {
            Ok(())
        }
    }

    /// Refuses when the file system has not `bytes` and `inodes` left.
    pub fn check_space(&self, bytes: u64, inodes: u64) -> Result<()> {
        let Self::Directory(path) = self;
        // PATH may not be there yet; its parent is on the file system it will be on.
        let place = if path.exists() {
            path.as_path()
        } else {
            path.parent().unwrap_or(Path::new("/"))
        };
        let found = rustix::fs::statvfs(place)
            .context(|| format!("cannot ask for free space in {}", place.display()))?;
        let available = found.f_bavail.saturating_mul(found.f_frsize);
        if available < bytes {
            return Err(Error::failed(format!(
                "not enough space in {}: {bytes} bytes needed, {available} available",
                place.display()
            ))
            .hint("make room, or choose another --target"));
        }
        // File systems without a fixed number of inodes report none at all.
        if found.f_files > 0 && found.f_favail < inodes {
            return Err(Error::failed(format!(
                "not enough inodes in {}: {inodes} needed, {} available",
                place.display(),
                found.f_favail
            ))
            .hint("make room, or choose another --target"));
        }
        Ok(())
    }
}

fn make(path: &Path, mode: u32) -> Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done.context(|| format!("cannot create the directory {}", path.display())),
    }
}

fn is_empty(path: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(path).context(|| format!("cannot list {}", path.display()))?;
    Ok(entries.next().is_none())
}

fn remove_empty(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        done => done.context(|| format!("cannot remove {}", path.display())),
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, path) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "dir" => {}
            "lvm" | "lvm-thin" | "btrfs" => {
                return Err(
                    Error::usage(format!("this imgnode cannot install to {kind} targets"))
                        .hint("use --target dir:PATH"),
                );
            }
            _ => {
                return Err(
                    Error::usage(format!("`{text}` is not a target")).hint("use --target dir:PATH")
                );
            }
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let normal = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        // The path becomes a value in schroot's configuration, one line, `#` begins a comment.
        let plain = path
            .chars()
            .all(|c| !c.is_whitespace() && !c.is_control() && c != '#');
        if !path.starts_with('/')
            || path.contains("//")
            || path.contains("/./")
            || !normal
            || !plain
        {
            return Err(Error::usage(format!(
                "`{}` is not a usable target directory",
                path.escape_debug()
            ))
            .hint("give an absolute path without `..`, spaces or `#`, as in dir:/srv/images"));
        }
        Ok(Self::Directory(PathBuf::from(path)))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Directory(path) = self;
        write!(f, "dir:{}", path.display())
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn web() -> SystemName {
        "web".parse().unwrap()
    }

    fn target(path: &Path) -> Target {
        format!("dir:{}", path.display()).parse().unwrap()
    }

    #[test]
    fn texts_that_are_targets_and_texts_that_are_not() {
        assert_eq!(
            "dir:/srv/images/".parse::<Target>().unwrap().to_string(),
            "dir:/srv/images"
        );
        for text in [
            "",
            "dir:",
            "dir:/",
            "dir:rel",
            "dir:/a/../b",
            "dir:/a b",
            "dir:/a#b",
            "dir://a",
            "lvm:vg/lv:1G",
            "x:/y",
        ] {
            assert_eq!(text.parse::<Target>().unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn a_fresh_place_is_prepared_placed_and_closed_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("images");
        let target = target(&path);
        let state = Path::new("/state");
        assert!(target.inspect(&web(), state).unwrap());
        target.prepare(&web(), state).unwrap();
        assert_eq!(
            fs::metadata(target.home(&web()))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        target.place(&web(), 1).unwrap();
        assert!(!target.inspect(&web(), state).unwrap());
        target.prepare(&web(), state).unwrap();
        assert!(
            target.place(&web(), 1).is_err(),
            "a generation is never replaced"
        );
        target.clear_staging(&web()).unwrap();
        target.remove(&web(), 1).unwrap();
        target.close(&web(), true).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn hostile_places_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let state = Path::new("/state");
        let refused = |path: &Path, word: &str| {
            let error = target(path).inspect(&web(), state).unwrap_err();
            assert_eq!(error.exit_code(), 3, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        };
        fs::create_dir(root.join("real")).unwrap();
        symlink(root.join("real"), root.join("link")).unwrap();
        refused(&root.join("link"), "symbolic link");
        fs::create_dir(root.join("real/below")).unwrap();
        refused(&root.join("link/below"), "symbolic link");
        fs::create_dir(root.join("open")).unwrap();
        fs::set_permissions(root.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
        refused(&root.join("open"), "others than root");
        fs::create_dir(root.join("theirs")).unwrap();
        if std::os::unix::fs::chown(root.join("theirs"), Some(1234), None).is_ok() {
            refused(&root.join("theirs"), "belongs to user 1234");
        }
        fs::write(root.join("file"), b"").unwrap();
        refused(&root.join("file"), "not a directory");
    }

    #[test]
    fn foreign_directories_of_the_systems_name_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("web");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("precious"), b"x").unwrap();
        let target = target(directory.path());
        assert_eq!(
            target
                .inspect(&web(), Path::new("/state"))
                .unwrap_err()
                .exit_code(),
            3
        );
        fs::remove_file(home.join("precious")).unwrap();
        target.prepare(&web(), Path::new("/state")).unwrap();
        let error = target.inspect(&web(), Path::new("/elsewhere")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("belongs to the system web of the state directory /state"),
            "{error}"
        );
    }

    #[test]
    fn missing_space_is_told_in_figures() {
        let directory = tempfile::tempdir().unwrap();
        let error = target(directory.path())
            .check_space(u64::MAX, 1)
            .unwrap_err();
        assert!(error.what().contains("bytes needed"), "{error}");
        let error = target(directory.path()).check_space(1, u64::MAX);
        assert!(error.is_ok() || error.unwrap_err().what().contains("inodes"));
    }
}
