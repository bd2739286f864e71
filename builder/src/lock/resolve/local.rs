//! What lies beside the recipe: files as they are, directories as one tar.
//!
//! Of a directory is left out what the recipe says. Python packages are read by their
//! virtualenv's owner: they are taken without what running and building them leaves behind,
//! and readable.

mod archive;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use store::Inputs;
use store::digest::Sha256;

use self::archive::{Archive, Taken};
use super::remembered::Remembered;
use crate::error::{Context, Error, Result};
use crate::lock::resolve::scheme::{self, Scheme};
use crate::lockfile::{Described, LocalFile, LocalKind, Lock};
use crate::recipe::debris::DEBRIS;
use crate::recipe::{Beside, Recipe, User};
use crate::steps;

/// Everything that a recipe names beside itself.
pub struct Found {
    /// One entry for each path.
    pub files: Vec<LocalFile>,
    /// What was left out, and what should perhaps be: sentences for people.
    pub notes: Vec<String>,
}

/// Reads everything that the recipe names beside itself. With `retain` it is
/// kept in the store as well.
pub fn read(
    recipe: &Recipe,
    beside: &Path,
    remembered: &Remembered,
    retain: Option<&Inputs>,
) -> Result<Found> {
    let mut found = Found {
        files: Vec::new(),
        notes: Vec::new(),
    };
    check_places(recipe)?;
    for path in recipe.besides() {
        let path = path.as_str();
        for taken in uses(recipe, path) {
            let place = Place {
                beside,
                remembered,
                retain,
            };
            let (file, inside) = place.read_one(path, &taken, &mut found.notes)?;
            found.files.push(file);
            if taken != Taken::Package {
                check_content(recipe, path, &inside)?;
            }
        }
    }
    found.files.sort();
    found.files.dedup();
    found.notes.sort();
    found.notes.dedup();
    match found
        .files
        .windows(2)
        .find(|two| two[0].path == two[1].path)
    {
        None => Ok(found),
        Some(two) => Err(Error::usage(format!(
            "`{}` is used twice, and each use leaves out something else",
            two[0].path
        ))
        .hint(format!(
            "give every [[file]] of it the same `exclude`; a Python package is taken without {}, \
             virtualenvs and caches",
            DEBRIS.join(", ")
        ))),
    }
}

/// The same as a lock has it, with what Git says of packages whose version comes from it.
/// What a lock has stays while the package is the same, also when other commits follow,
/// unless a tag is on this one now, or it was said of a part of the history that is there now.
pub fn read_described(
    recipe: &Recipe,
    beside: &Path,
    remembered: &Remembered,
    old: Option<&Lock>,
) -> Result<Found> {
    let mut found = read(recipe, beside, remembered, None)?;
    for local in recipe.virtualenvs.iter().flat_map(|v| &v.local) {
        let mut files = found.files.iter_mut();
        let Some(file) = files.find(|f| f.path == local.as_str()) else {
            continue;
        };
        let dir = beside.join(local.as_path());
        let scheme = Scheme::of_directory(&dir);
        let locked = old.into_iter().flat_map(|old| &old.files);
        let mut locked = locked.filter(|f| f.path == file.path && f.sha256 == file.sha256);
        let locked = locked.next().and_then(|f| f.described.clone());
        if !scheme.is_git() {
            // Older locks have it for some whose version is stated: they still fit.
            file.described = locked;
            continue;
        }
        let now = scheme::of_checkout(&dir, &scheme);
        let is_newer = |now: &Described| {
            let is_completed = locked.as_ref().is_some_and(|locked| now.completes(locked));
            now.tag().is_some() || is_completed
        };
        file.described = if now.as_ref().is_some_and(is_newer) {
            now
        } else {
            locked.or(now)
        };
    }
    Ok(found)
}

/// How the recipe takes a path, each way once.
fn uses<'r>(recipe: &'r Recipe, path: &str) -> BTreeSet<Taken<'r>> {
    let files = recipe.files.iter().filter(|file| {
        let source = file.source.as_ref();
        source.is_some_and(|source| source.as_str() == path)
    });
    let copied = files.map(|file| file.exclude.iter().map(AsRef::as_ref).collect());
    let mut uses: BTreeSet<_> = copied.map(Taken::Copied).collect();
    let mut packages = recipe.virtualenvs.iter().flat_map(|v| &v.local);
    if packages.any(|local| local.as_str() == path) {
        uses.insert(Taken::Package);
    }
    let mut skeletons = recipe
        .users
        .iter()
        .filter_map(|user| user.skeleton.as_ref());
    if uses.is_empty() || skeletons.any(|skeleton| skeleton.as_str() == path) {
        uses.insert(Taken::Copied(Vec::new()));
    }
    uses
}

/// The recipe's directory, and what becomes of what is read there.
struct Place<'a> {
    beside: &'a Path,
    remembered: &'a Remembered,
    retain: Option<&'a Inputs>,
}

impl Place<'_> {
    /// Reads a file, or a directory with what is in it.
    fn read_one(
        &self,
        name: &str,
        taken: &Taken<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(LocalFile, Vec<PathBuf>)> {
        let path = self.beside.join(name);
        let unreadable = || format!("cannot read {}", path.display());
        let meta = fs::metadata(&path).context(unreadable)?;
        let kind = match meta.permissions().mode() {
            _ if meta.is_dir() => LocalKind::Directory,
            mode if mode & 0o100 != 0 => LocalKind::Executable,
            _ => LocalKind::File,
        };
        let mut inside = Vec::new();
        let (sha256, size) = if meta.is_dir() {
            let mut spool =
                tempfile::tempfile().context(|| "cannot make a temporary file".into())?;
            let archive = Archive::of(&path, self.beside, &meta, taken, &mut spool)?;
            notes.extend(archive.notes(name));
            inside = archive.entries;
            std::io::Seek::rewind(&mut spool).context(unreadable)?;
            self.take(&mut spool, &path)?
        } else if let Some(known) = self.remembered.digest(&meta).filter(|d| self.has(d)) {
            (known, meta.len())
        } else {
            let file = File::open(&path).context(unreadable)?;
            let (sha256, size) = self.take(&mut BufReader::new(file), &path)?;
            if size == meta.len() {
                self.remembered.remember(&meta, &sha256, SystemTime::now());
            }
            (sha256, size)
        };
        let file = LocalFile {
            path: name.to_owned(),
            kind,
            described: None,
            size,
            sha256,
        };
        Ok((file, inside))
    }

    /// Whether it is retained, if it is to be.
    fn has(&self, digest: &Sha256) -> bool {
        self.retain.is_none_or(|inputs| inputs.has(digest))
    }

    fn take(&self, reader: &mut dyn std::io::Read, path: &Path) -> Result<(Sha256, u64)> {
        let unreadable = || format!("cannot read {}", path.display());
        if let Some(inputs) = self.retain {
            return inputs.insert(reader, None).context(unreadable);
        }
        Sha256::of_reader(reader).context(unreadable)
    }
}

/// Refuses what the image would lack although the recipe puts it there.
fn check_reaches(recipe: &Recipe, section: &str, path: &str) -> Result<()> {
    let Some((reason, can_be_kept)) = steps::loses(recipe, path) else {
        return Ok(());
    };
    let error = Error::usage(format!(
        "{section}: `{path}` is not part of an image: {reason}"
    ));
    Err(if can_be_kept {
        error.hint(format!(
            "`keep = [\"{path}\"]` under [clean] keeps it as it is"
        ))
    } else {
        error.hint("make it when the service starts")
    })
}

/// Looks at what is in a source directory or skeleton.
fn check_content(recipe: &Recipe, path: &str, inside: &[PathBuf]) -> Result<()> {
    let is_it = |beside: &Option<Beside>| beside.as_ref().is_some_and(|b| b.as_str() == path);
    let files = recipe.files.iter().filter(|file| is_it(&file.source));
    let users = recipe.users.iter().filter(|user| is_it(&user.skeleton));
    let section = format!("the directory `{path}`");
    for to in files
        .map(|file| file.path.clone())
        .chain(users.map(User::home))
    {
        for name in inside {
            let to = to.as_path().join(name);
            check_reaches(recipe, &section, &to.to_string_lossy())?;
        }
    }
    Ok(())
}

/// Looks at every place in the tree that the recipe names to put something there.
fn check_places(recipe: &Recipe) -> Result<()> {
    for user in &recipe.users {
        check_reaches(recipe, "the home in [[user]]", user.home().as_str())?;
    }
    for file in &recipe.files {
        check_reaches(recipe, "[[file]]", file.path.as_str())?;
    }
    for download in &recipe.downloads {
        check_reaches(recipe, "[[download]]", download.path.as_str())?;
    }
    for virtualenv in &recipe.virtualenvs {
        check_reaches(recipe, "[[virtualenv]]", virtualenv.path.as_str())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
