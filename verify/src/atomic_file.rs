//! Files that survive a power cut.
//!
//! Everything the node remembers is one small JSON file each. It is written whole: a temporary file
//! beside it, fsync, rename, fsync of the directory. A reader therefore finds the old content or the
//! new, never a mixture. What cannot be read as exactly what we write is an error that names the
//! file: the node stops rather than guess.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};

/// The version of every file of imgnode, as its field `schema` says.
pub const SCHEMA: u32 = 1;

/// The longest file that is read, in bytes: our own files are small.
const LIMIT: u64 = 16 << 20;

/// Replaces the file at `path` by `bytes`, durably. A new file has the mode `mode`.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, bytes, mode).context(|| format!("cannot write {}", path.display()))
}

/// Does what [`write()`] does, for modules with errors of their own.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (directory, temporary) = places(path)?;
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let attempt = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    if let Err(error) = attempt() {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync(directory)
}

/// Writes `value` as JSON with [`write()`].
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut bytes =
        serde_json::to_vec_pretty(value).context(|| format!("cannot encode {}", path.display()))?;
    bytes.push(b'\n');
    write(path, &bytes, 0o600)
}

/// Reads a whole small file; `None` when there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(|| format!("cannot read {}", path.display())),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::failed(format!(
            "{} is larger than any file imgnode writes there",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

/// Reads a file of [`write_json`]; `None` when there is none, an error when it is damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Error::failed(format!("{} is damaged", path.display()))
            .source(&error)
            .hint("nothing was changed; put the file back from a backup, or move it away to forget what it says")
    })
}

/// Removes a file durably, and what a killed [`write()`] left of it; a missing file is no error.
pub fn remove(path: &Path) -> Result<()> {
    delete(path).context(|| format!("cannot remove {}", path.display()))
}

/// Does what [`remove`] does, for modules with errors of their own.
pub(crate) fn delete(path: &Path) -> io::Result<()> {
    let (directory, temporary) = places(path)?;
    let mut removed = false;
    for file in [temporary.as_path(), path] {
        match fs::remove_file(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => {
                done?;
                removed = true;
            }
        }
    }
    if removed { sync(directory) } else { Ok(()) }
}

/// Creates a directory and its parents; those that are new get `mode`.
pub fn create_directory(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .context(|| format!("cannot create the directory {}", path.display()))
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<()> {
    sync(path).context(|| format!("cannot sync {}", path.display()))
}

/// Does what [`sync_directory`] does, for modules with errors of their own.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Refuses a file whose field `schema` is of another version.
pub fn check_schema(path: &Path, found: u32) -> Result<()> {
    if found == SCHEMA {
        return Ok(());
    }
    Err(Error::failed(format!(
        "{} has version {found}; this imgnode reads version {SCHEMA}",
        path.display()
    ))
    .hint("use the imgnode that wrote it"))
}

/// Removes a whole tree of ours without following links; no tree is no error.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.context(|| format!("cannot remove {}", path.display())),
    }
}

/// The name of the file that one of this name was to become, when it is a temporary one.
pub fn meant(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(".new")
}

/// The directory of a file, and where its next content is written.
fn places(path: &Path) -> io::Result<(&Path, PathBuf)> {
    match (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) {
        // A leading dot: schroot and run-parts look past such files.
        (Some(directory), Some(name)) => Ok((directory, directory.join(format!(".{name}.new")))),
        _ => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "the path has no file name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_value_reads_back_and_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        write_json(&path, &vec![1, 2, 3]).unwrap();
        write_json(&path, &vec![4]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), Some(vec![4]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        fs::write(directory.path().join(".a.json.new"), b"torn").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), None);
    }

    #[test]
    fn a_torn_temporary_file_of_a_dead_process_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        fs::write(directory.path().join(".a.json.new"), b"[1,").unwrap();
        write_json(&path, &vec![7]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), Some(vec![7]));
    }

    #[test]
    fn what_cannot_be_written_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        fs::create_dir(&path).unwrap();
        let error = write(&path, b"[1]", 0o600).unwrap_err();
        assert!(error.what().starts_with("cannot write "), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_another_version_is_left_alone() {
        assert!(check_schema(Path::new("/x"), 2).is_err());
    }

    #[test]
    fn damage_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        fs::write(&path, b"[1, 2").unwrap();
        let error = read_json::<Vec<u32>>(&path).unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}
