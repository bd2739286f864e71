//! Files that are there whole or not at all, locked while they are written, and removed with all that
//! is below them.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context, Error, ErrorKind, Result};

/// How long others may take to write a file.
const PATIENCE: Duration = Duration::from_secs(60);

/// Refuses a path where something else than a plain file is: a device, a symbolic link, a
/// socket or a directory is not replaced.
pub fn check(path: &Path) -> Result<()> {
    let is = match path.symlink_metadata() {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(found) if found.is_symlink() => "a symbolic link",
        Ok(found) if found.is_dir() => "a directory",
        Ok(_) => "a device, pipe or socket",
        // Whatever is wrong, writing says it.
        Err(_) => return Ok(()),
    };
    Err(
        Error::usage(format!("{} is {is}, not a plain file", path.display()))
            .hint("name a file that is not there yet, or the file itself"),
    )
}

/// Writes a file that everybody may read: whoever is interrupted has the old one or the
/// new one. Only a plain file is replaced.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    check(path)?;
    let failed = || format!("cannot write {}", path.display());
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".imgbuild-")
        .permissions(PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .context(failed)?;
    file.write_all(bytes).context(failed)?;
    file.as_file().sync_all().context(failed)?;
    file.persist(path).map_err(|e| e.error).context(failed)?;
    Ok(())
}

/// Replaces a file that can be made again: whoever is killed leaves the old one or the new one,
/// a power cut may leave half of it.
pub fn replace(path: &Path, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

/// Removes a file or a whole directory; it is fine when nothing is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    result.context(|| format!("cannot remove {}", path.display()))
}

/// Locks a file that others lock for as long as they write one, until it is dropped.
pub fn lock(file: File, failed: impl Fn() -> String) -> Result<File> {
    let until = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error).context(failed),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(ErrorKind::Busy, failed())
                    .detail("another program holds it")
                    .hint("end that program, and run this again"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        write(&file, b"one").unwrap();
        write(&file, b"two").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        let socket = directory.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for other in [&link, &socket, directory.path(), Path::new("/dev/null")] {
            let before = other.symlink_metadata().unwrap().file_type();
            let error = write(other, b"three").unwrap_err();
            assert!(error.to_string().contains("not a plain file"), "{error}");
            assert_eq!(other.symlink_metadata().unwrap().file_type(), before);
        }
        assert_eq!(fs::read(&file).unwrap(), b"two");
    }
}
