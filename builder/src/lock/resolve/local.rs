//! What lies beside the recipe: files as they are, directories as one tar.
//!
//! A directory becomes a tar archive that depends on names, contents and the
//! executable bit alone, so that a checkout by another user with another umask
//! gives the same digest. Version control data and byte code stay out.

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use store::Inputs;
use store::digest::Sha256;

use crate::error::{Context, Error, Result};
use crate::lock::resolve::scheme::{self, Scheme};
use crate::lockfile::{LocalFile, LocalKind, Lock};
use crate::recipe::Recipe;

/// Reads everything that the recipe names beside itself. With `retain` it is
/// kept in the store as well.
pub fn read(recipe: &Recipe, beside: &Path, retain: Option<&Inputs>) -> Result<Vec<LocalFile>> {
    let mut files = Vec::new();
    for path in recipe.besides() {
        files.push(read_one(beside, path.as_str(), retain)?);
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// The same as a lock has it, with what Git says of packages whose version comes from it.
/// What a lock has stays while the package is the same, also when other commits follow,
/// unless a tag is on this one now.
pub fn read_described(
    recipe: &Recipe,
    beside: &Path,
    old: Option<&Lock>,
) -> Result<Vec<LocalFile>> {
    let mut files = read(recipe, beside, None)?;
    for local in recipe.virtualenvs.iter().flat_map(|v| &v.local) {
        let Some(file) = files.iter_mut().find(|f| f.path == local.as_str()) else {
            continue;
        };
        let dir = beside.join(local.as_path());
        let scheme = Scheme::of_directory(&dir);
        if !scheme.is_git {
            continue;
        }
        let locked = old.into_iter().flat_map(|old| &old.files);
        let mut locked = locked.filter(|f| f.path == file.path && f.sha256 == file.sha256);
        let locked = locked.next().and_then(|f| f.described.clone());
        let now = scheme::of_checkout(&dir, &scheme);
        let is_tagged = now.as_ref().is_some_and(|now| now.tag().is_some());
        file.described = if is_tagged { now } else { locked.or(now) };
    }
    Ok(files)
}

fn read_one(beside: &Path, name: &str, retain: Option<&Inputs>) -> Result<LocalFile> {
    let path = beside.join(name);
    let unreadable = || format!("cannot read {}", path.display());
    let meta = fs::metadata(&path).context(unreadable)?;
    let kind = match meta.permissions().mode() {
        _ if meta.is_dir() => LocalKind::Directory,
        mode if mode & 0o100 != 0 => LocalKind::Executable,
        _ => LocalKind::File,
    };
    let (sha256, size) = if meta.is_dir() {
        let mut spool = tempfile::tempfile().context(|| "cannot make a temporary file".into())?;
        archive(&path, &mut spool)?;
        std::io::Seek::rewind(&mut spool).context(unreadable)?;
        take(&mut spool, retain, &path)?
    } else {
        take(
            &mut BufReader::new(File::open(&path).context(unreadable)?),
            retain,
            &path,
        )?
    };
    Ok(LocalFile {
        path: name.to_owned(),
        kind,
        described: None,
        size,
        sha256,
    })
}

fn take(
    reader: &mut dyn std::io::Read,
    retain: Option<&Inputs>,
    path: &Path,
) -> Result<(Sha256, u64)> {
    let unreadable = || format!("cannot read {}", path.display());
    if let Some(inputs) = retain {
        return inputs.insert(reader, None).context(unreadable);
    }
    let mut hasher = sha2::Sha256::default();
    let size = std::io::copy(reader, &mut HashWriter(&mut hasher)).context(unreadable)?;
    Ok((Sha256::finish(hasher), size))
}

struct HashWriter<'a>(&'a mut sha2::Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        sha2::Digest::update(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes a directory as a tar archive.
fn archive(dir: &Path, out: &mut File) -> Result<()> {
    let mut builder = tar::Builder::new(std::io::BufWriter::new(out));
    append(&mut builder, dir, Path::new(""))?;
    builder
        .into_inner()
        .and_then(|mut out| out.flush())
        .context(|| format!("cannot archive {}", dir.display()))
}

fn append<W: Write>(builder: &mut tar::Builder<W>, dir: &Path, inside: &Path) -> Result<()> {
    let unreadable = || format!("cannot read {}", dir.display());
    let mut entries = fs::read_dir(dir)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .context(unreadable)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if is_debris(&name.to_string_lossy()) {
            continue;
        }
        let (path, inside) = (entry.path(), inside.join(&name));
        let failed = || format!("cannot archive {}", path.display());
        let meta = fs::symlink_metadata(&path).context(failed)?;
        let mut header = tar::Header::new_ustar();
        header.set_mtime(0);
        if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            builder
                .append_data(&mut header, &inside, std::io::empty())
                .context(failed)?;
            append(builder, &path, &inside)?;
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).context(failed)?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            builder
                .append_link(&mut header, &inside, target)
                .context(failed)?;
        } else if meta.is_file() {
            let executable = meta.permissions().mode() & 0o100 != 0;
            header.set_mode(if executable { 0o755 } else { 0o644 });
            header.set_size(meta.len());
            let file = File::open(&path).context(failed)?;
            builder
                .append_data(&mut header, &inside, BufReader::new(file))
                .context(failed)?;
        } else {
            return Err(
                Error::usage(format!("{} is neither file nor directory", path.display()))
                    .hint("an image takes files, directories and symbolic links"),
            );
        }
    }
    Ok(())
}

/// What never belongs to a source directory.
fn is_debris(name: &str) -> bool {
    let ending = Path::new(name).extension();
    matches!(name, ".git" | ".hg" | ".svn" | "__pycache__" | ".DS_Store")
        || ending.is_some_and(|e| e == "pyc" || e == "egg-info" || e == "swp")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(dir: &Path) -> Sha256 {
        let parent = dir.parent().unwrap();
        let name = dir.file_name().unwrap().to_str().unwrap();
        read_one(parent, name, None).unwrap().sha256
    }

    #[test]
    fn a_directory_is_its_names_contents_and_executable_bits() {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path().join("app");
        fs::create_dir_all(app.join("sub")).unwrap();
        fs::write(app.join("sub/a.py"), "a").unwrap();
        fs::write(app.join("run"), "#!/bin/sh\n").unwrap();
        let first = digest(&app);
        fs::create_dir(app.join(".git")).unwrap();
        fs::create_dir(app.join("__pycache__")).unwrap();
        fs::write(app.join("sub/a.pyc"), "x").unwrap();
        fs::set_permissions(app.join("sub/a.py"), PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(digest(&app), first);
        fs::set_permissions(app.join("run"), PermissionsExt::from_mode(0o755)).unwrap();
        let executable = digest(&app);
        assert_ne!(executable, first);
        fs::write(app.join("sub/a.py"), "b").unwrap();
        assert_ne!(digest(&app), executable);
    }
}
