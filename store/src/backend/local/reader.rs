//! A directory as a backend that is only read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::backend::{Backend, check_key, is_key};
use crate::error::{Error, ErrorKind, Result};

/// A store that is a directory.
#[derive(Clone, Debug)]
pub struct LocalReader {
    root: PathBuf,
}

impl LocalReader {
    /// A directory by path, or by a `file://` URL with an absolute path.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let root = match directory
            .to_str()
            .and_then(|text| text.strip_prefix("file://"))
        {
            Some(path) if path.starts_with('/') => PathBuf::from(path),
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!(
                        "{} names a host; expected file:///PATH",
                        directory.display()
                    ),
                ));
            }
            None => directory.to_owned(),
        };
        match root.metadata() {
            Ok(meta) if meta.is_dir() => Ok(Self { root }),
            Ok(_) => Err(Error::new(
                ErrorKind::Foreign,
                format!(
                    "{} is not a directory, so it is not a store",
                    root.display()
                ),
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::new(
                ErrorKind::Missing,
                format!("there is no store at {}", root.display()),
            )),
            Err(error) => Err(Error::io("open the store", &root, error)),
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of an object, and the object if there is one.
    fn find(&self, key: &str) -> Result<(PathBuf, Option<File>)> {
        check_key(key)?;
        let path = self.root.join(key);
        match File::open(&path) {
            Ok(file) => Ok((path, Some(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((path, None)),
            Err(error) => Err(Error::io("open", path, error)),
        }
    }
}

impl Backend for LocalReader {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let (path, Some(file)) = self.find(key)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("read", &path, error))?;
        if bytes.len() as u64 > limit {
            return Err(Error::corrupt(
                path.display(),
                format_args!("it is longer than {limit} bytes"),
            ));
        }
        Ok(Some(bytes))
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        let (path, file) = self.find(key)?;
        let file = file.ok_or_else(|| Error::missing(key, self.describe()))?;
        let size = file
            .metadata()
            .map_err(|error| Error::io("examine", &path, error))?
            .len();
        // Compared before the buffer is made: a length is only a claim.
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(Error::corrupt(
                path.display(),
                format_args!("it has {size} bytes, but {len} from byte {offset} are needed"),
            ));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, offset)
            .map_err(|error| Error::io("read", &path, error))?;
        Ok(bytes)
    }

    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        let folder = prefix.strip_suffix('/').unwrap_or(prefix);
        check_key(folder)?;
        let path = self.root.join(folder);
        let entries = match path.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Vec::new())),
            Err(error) => return Err(Error::io("list", path, error)),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("list", &path, error))?;
            // A foreign file whose name is no key cannot be one of ours.
            if let Some(name) = entry.file_name().to_str().filter(|name| is_key(name)) {
                keys.push(format!("{folder}/{name}"));
            }
        }
        keys.sort_unstable();
        Ok(Some(keys))
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (tempfile::TempDir, LocalReader) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("packs")).unwrap();
        std::fs::write(dir.path().join("packs/b"), b"0123456789").unwrap();
        std::fs::write(dir.path().join("packs/a"), b"").unwrap();
        std::fs::write(dir.path().join("packs/ not a key"), b"").unwrap();
        let backend = LocalReader::open(dir.path()).unwrap();
        (dir, backend)
    }

    #[test]
    fn gets_and_ranges() {
        let (_dir, backend) = example();
        assert_eq!(backend.get("packs/b", 10).unwrap().unwrap(), b"0123456789");
        assert_eq!(
            backend.get("packs/b", 9).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        assert_eq!(backend.get("packs/c", 9).unwrap(), None);
        assert_eq!(backend.get_range("packs/b", 2, 3).unwrap(), b"234");
        assert_eq!(backend.get_range("packs/b", 10, 0).unwrap(), b"");
        for (offset, len) in [(0, 11), (10, 1), (u64::MAX, 2), (0, u64::MAX)] {
            let error = backend.get_range("packs/b", offset, len).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{offset}+{len}");
        }
        assert_eq!(
            backend.get_range("packs/c", 0, 1).unwrap_err().kind(),
            ErrorKind::Missing
        );
    }

    #[test]
    fn lists_keys_only() {
        let (_dir, backend) = example();
        assert_eq!(
            backend.list("packs/").unwrap().unwrap(),
            ["packs/a", "packs/b"]
        );
        assert!(backend.list("images/").unwrap().unwrap().is_empty());
    }

    #[test]
    fn keys_stay_inside() {
        let (_dir, backend) = example();
        for key in [
            "",
            "/etc/passwd",
            "../x",
            "packs/../../x",
            "packs//a",
            "packs/",
            "a\\b",
            "a\0",
            "./a",
        ] {
            assert_eq!(
                backend.get(key, 1).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{key:?}"
            );
        }
    }

    #[test]
    fn places() {
        let (dir, _) = example();
        let url = format!("file://{}", dir.path().display());
        assert_eq!(LocalReader::open(&url).unwrap().root(), dir.path());
        assert!(LocalReader::open("file://host/path").is_err());
        assert!(LocalReader::open(dir.path().join("none")).is_err());
        assert!(LocalReader::open(dir.path().join("packs/b")).is_err());
    }
}
