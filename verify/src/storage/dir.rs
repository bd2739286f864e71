//! `dir:PATH`: generations as plain directories side by side.
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

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use super::driver::{Driver, Staging, SystemContext};
use super::safe_path::{self, UnsafePath};
use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::{Context, Error, Result};
use crate::system::SystemName;
use crate::tree::open::OpenTree;

const MARK: &str = ".imgnode.json";
const STAGING: &str = ".staging";
/// What a directory is for.
const GENERATIONS: &str = "hold generations";

/// A directory that holds directories of generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir(PathBuf);

/// The mark in a system's directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    schema: u32,
    system: SystemName,
    state: PathBuf,
}

impl Dir {
    /// Reads the part of a target behind `dir:`.
    pub(super) fn parse(path: &str) -> Result<Self> {
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
        Ok(Self(PathBuf::from(path)))
    }

    /// The path of the target directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of a system.
    pub(super) fn home(&self, system: &SystemName) -> PathBuf {
        self.0.join(system.as_str())
    }

    /// The directory in which the next generation is built.
    pub(super) fn staging(&self, system: &SystemName) -> PathBuf {
        self.home(system).join(STAGING)
    }

    fn check_home(&self, context: &SystemContext<'_>) -> Result<()> {
        let home = self.home(context.system);
        match safe_path::check(&home) {
            Err(UnsafePath::Missing(_)) => return Ok(()),
            other => other.map_err(|why| why.into_error(&home, GENERATIONS))?,
        }
        let foreign = |why: String| {
            Error::refused(format!(
                "{} is not a directory of this imgnode",
                home.display()
            ))
            .cause(why)
            .hint("choose another name with --as or another --target")
        };
        match atomic_file::read_json::<Mark>(&home.join(MARK))? {
            None if is_empty(&home)? => Ok(()),
            None => Err(foreign(format!("it has no {MARK} and is not empty"))),
            Some(mark) => {
                check_schema(&home.join(MARK), mark.schema)?;
                if mark.system != *context.system || mark.state != context.state {
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

    /// Refuses the number of a generation whose directory is there already.
    fn refuse_taken(&self, system: &SystemName, number: u64) -> Result<()> {
        let place = self.location(system, number);
        if fs::symlink_metadata(&place).is_err() {
            return Ok(());
        }
        Err(
            Error::failed(format!("{} is there already", place.display())).hint(
                "it is one of this system that its record does not name; move it away, or choose \
                 another name with --as",
            ),
        )
    }

    /// Makes the directory of a system, with its mark.
    pub(super) fn open_home(&self, context: &SystemContext<'_>) -> Result<()> {
        if self.inspect(context, 0)? {
            make(&self.0, 0o755)?;
        }
        let home = self.home(context.system);
        make(&home, 0o700)?;
        let mark = Mark {
            schema: SCHEMA,
            system: context.system.clone(),
            state: context.state.to_owned(),
        };
        atomic_file::write_json(&home.join(MARK), &mark)
    }
}

impl Driver for Dir {
    fn inspect(&self, context: &SystemContext<'_>, number: u64) -> Result<bool> {
        let path = self.path();
        match safe_path::check(path) {
            Ok(()) => {
                self.check_home(context)?;
                if number > 0 {
                    self.refuse_taken(context.system, number)?;
                }
                Ok(false)
            }
            Err(UnsafePath::Missing(missing)) if missing == *path => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                safe_path::check(parent).map_err(|why| why.into_error(parent, GENERATIONS))?;
                Ok(true)
            }
            Err(why) => Err(why.into_error(path, GENERATIONS)),
        }
    }

    fn check_space(&self, _: &SystemContext<'_>, bytes: u64, inodes: u64) -> Result<()> {
        let place = existing(self.path());
        let found = statvfs(place)?;
        let available = found.f_bavail.saturating_mul(found.f_frsize);
        if available < bytes {
            return Err(Error::failed(format!(
                "not enough space in {}: {bytes} bytes needed, {available} available",
                place.display()
            ))
            .hint("make room: imgnode gc removes old generations; a system that is not installed yet can have another --target"));
        }
        // File systems without a fixed number of inodes report none at all.
        if found.f_files > 0 && found.f_favail < inodes {
            return Err(Error::failed(format!(
                "not enough inodes in {}: {inodes} needed, {} available",
                place.display(),
                found.f_favail
            ))
            .hint("make room: imgnode gc removes old generations; a system that is not installed yet can have another --target"));
        }
        Ok(())
    }

    fn free(&self, _: &SystemContext<'_>) -> Result<u64> {
        let found = statvfs(existing(self.path()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn begin_staging(
        &self,
        context: &SystemContext<'_>,
        _: u64,
        _: Option<u64>,
    ) -> Result<Staging> {
        self.open_home(context)?;
        let staging = self.staging(context.system);
        atomic_file::remove_tree(&staging)?;
        make(&staging, 0o700)?;
        Ok(Staging {
            tree: OpenTree::plain(open_directory(&staging)?),
            copied: false,
        })
    }

    fn publish(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        let (from, to) = (
            self.staging(context.system),
            self.location(context.system, number),
        );
        rustix::fs::renameat_with(CWD, &from, CWD, &to, rustix::fs::RenameFlags::NOREPLACE)
            .context(|| format!("cannot rename {} to {}", from.display(), to.display()))?;
        atomic_file::sync_directory(&self.home(context.system))
    }

    fn exists(&self, context: &SystemContext<'_>, number: u64) -> Result<bool> {
        Ok(self.location(context.system, number).is_dir())
    }

    fn open(&self, context: &SystemContext<'_>, number: u64) -> Result<OpenTree> {
        open_directory(&self.location(context.system, number)).map(OpenTree::plain)
    }

    fn remove(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        atomic_file::remove_tree(&self.location(context.system, number))
    }

    fn clear_staging(&self, context: &SystemContext<'_>, _: u64) -> Result<()> {
        atomic_file::remove_tree(&self.staging(context.system))
    }

    fn close(&self, context: &SystemContext<'_>, made: bool) -> Result<()> {
        let home = self.home(context.system);
        if home.is_dir() {
            atomic_file::remove(&home.join(MARK))?;
        }
        remove_empty(&home)?;
        if made { remove_empty(&self.0) } else { Ok(()) }
    }

    fn clean_session(&self, _: &SystemContext<'_>, _: &str) -> Result<()> {
        // The overlay of a session is schroot's own, and goes with the session.
        Ok(())
    }

    fn location(&self, system: &SystemName, number: u64) -> PathBuf {
        self.home(system).join(number.to_string())
    }

    fn chroot(&self, system: &SystemName, number: u64) -> Vec<(&'static str, String)> {
        vec![
            ("type", "directory".to_owned()),
            ("union-type", "overlay".to_owned()),
            (
                "directory",
                self.location(system, number).display().to_string(),
            ),
        ]
    }
}

/// Opens a directory of ours, not through links.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat2(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )
    .context(|| format!("cannot open {}", path.display()))
}

/// The path, or its parent when it is still to be made: that is the file system it will be on.
pub(super) fn existing(path: &Path) -> &Path {
    if path.exists() {
        path
    } else {
        path.parent().unwrap_or(Path::new("/"))
    }
}

fn statvfs(place: &Path) -> Result<rustix::fs::StatVfs> {
    rustix::fs::statvfs(place)
        .context(|| format!("cannot ask for free space in {}", place.display()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn web() -> SystemName {
        "web".parse().unwrap()
    }

    fn target(path: &Path) -> Dir {
        Dir::parse(path.to_str().unwrap()).unwrap()
    }

    fn context<'a>(system: &'a SystemName, state: &'a str) -> SystemContext<'a> {
        SystemContext {
            system,
            state: Path::new(state),
            observer: &crate::event::Silent,
        }
    }

    #[test]
    fn a_fresh_place_is_prepared_placed_and_closed_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("images");
        let target = target(&path);
        let web = web();
        let context = context(&web, "/state");
        assert!(target.inspect(&context, 1).unwrap());
        target.begin_staging(&context, 1, None).unwrap();
        assert_eq!(
            fs::metadata(target.home(&web))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        target.publish(&context, 1).unwrap();
        assert!(!target.inspect(&context, 2).unwrap());
        let taken = target.inspect(&context, 1).unwrap_err();
        assert!(taken.what().ends_with("is there already"), "{taken}");
        target.begin_staging(&context, 2, Some(1)).unwrap();
        assert!(
            target.publish(&context, 1).is_err(),
            "a generation is never replaced"
        );
        target.clear_staging(&context, 2).unwrap();
        target.remove(&context, 1).unwrap();
        target.close(&context, true).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn hostile_places_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let web = web();
        let refused = |path: &Path, word: &str| {
            let error = target(path)
                .inspect(&context(&web, "/state"), 1)
                .unwrap_err();
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
        let web = web();
        let ours = context(&web, "/state");
        assert_eq!(target.inspect(&ours, 1).unwrap_err().exit_code(), 3);
        fs::remove_file(home.join("precious")).unwrap();
        target.begin_staging(&ours, 1, None).unwrap();
        let error = target.inspect(&context(&web, "/elsewhere"), 1).unwrap_err();
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
            .check_space(&context(&web(), "/state"), u64::MAX, 1)
            .unwrap_err();
        assert!(error.what().contains("bytes needed"), "{error}");
        let error = target(directory.path()).check_space(&context(&web(), "/state"), 1, u64::MAX);
        assert!(error.is_ok() || error.unwrap_err().what().contains("inodes"));
    }
}
