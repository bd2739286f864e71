//! Folders of small objects that are put once, beside a store or elsewhere: receipts.
//!
//! Nothing here asks for a store: no marker, no lock, no lease. Whoever puts an object needs
//! the right to put new ones and no other. A directory gets a file by link(2), a web server and a
//! bucket by PUT with `If-None-Match: *`, which the server has to keep to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::client::{ClientOptions, ObjectClient};
#[cfg(feature = "s3")]
use super::s3;
use super::{StoreUrl, check_key};
use crate::error::{Error, ErrorKind, Result};

/// A folder of small objects: a directory, a folder of a web server, a part of a bucket.
pub struct ObjectFolder(Place);

enum Place {
    Directory(PathBuf),
    Server(Box<ObjectClient>),
    #[cfg(all(feature = "s3", feature = "write"))]
    Bucket(Box<s3::BucketFolder>),
}

/// An object as it is listed.
#[cfg(feature = "write")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name, without the folder's.
    pub name: String,
    /// When it was written, in seconds since 1970 by the clock of where it is.
    pub modified: Option<u64>,
}

impl ObjectFolder {
    /// Prepares to work with the folder at `url`. Nothing is asked yet.
    pub fn open(url: &StoreUrl, access: &ClientOptions) -> Result<Self> {
        Ok(Self(match url {
            StoreUrl::Directory(path) => Place::Directory(path.clone()),
            StoreUrl::Web(address) => Place::Server(Box::new(ObjectClient::web(address, access)?)),
            #[cfg(all(feature = "s3", feature = "write"))]
            StoreUrl::Bucket(location) => {
                Place::Bucket(Box::new(s3::BucketFolder::open(location, access)?))
            }
            #[cfg(all(feature = "s3", not(feature = "write")))]
            StoreUrl::Bucket(location) => Place::Server(Box::new(s3::client(location, access)?)),
        }))
    }

    /// Names the folder in words, without a password.
    pub fn describe(&self) -> String {
        match &self.0 {
            Place::Directory(path) => path.display().to_string(),
            Place::Server(client) => client.describe(),
            #[cfg(all(feature = "s3", feature = "write"))]
            Place::Bucket(bucket) => bucket.client().describe(),
        }
    }

    /// Puts an object where there is none; false if there is one, of whatever content.
    pub fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        check_key(key)?;
        match &self.0 {
            Place::Directory(root) => put_file(root, key, bytes, false),
            Place::Server(client) => client.put_new(key, bytes),
            #[cfg(all(feature = "s3", feature = "write"))]
            Place::Bucket(bucket) => bucket.client().put_new(key, bytes),
        }
    }

    /// An object of at most `limit` bytes; `None` if there is none. No cache on the way answers.
    pub fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        match &self.0 {
            Place::Directory(root) => get_file(&root.join(key), limit),
            Place::Server(client) => client.whole(key, limit, true),
            #[cfg(all(feature = "s3", feature = "write"))]
            Place::Bucket(bucket) => bucket.client().whole(key, limit, true),
        }
    }
}

#[cfg(feature = "write")]
impl ObjectFolder {
    /// The objects directly below a folder, sorted by name; `None` where there is no list. One that
    /// is not there has none.
    pub fn list(&self, folder: &str) -> Result<Option<Vec<Listed>>> {
        check_key(folder)?;
        let mut found = match &self.0 {
            Place::Directory(root) => list_files(&root.join(folder), false)?,
            Place::Server(_) => return Ok(None),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.list(folder)?,
        };
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(found))
    }

    /// The folders directly below a folder, sorted; `None` where there is no list.
    pub fn folders(&self, folder: &str) -> Result<Option<Vec<String>>> {
        check_key(folder)?;
        let mut found: Vec<String> = match &self.0 {
            Place::Directory(root) => list_files(&root.join(folder), true)?
                .into_iter()
                .map(|one| one.name)
                .collect(),
            Place::Server(_) => return Ok(None),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.folders(folder)?,
        };
        found.sort_unstable();
        Ok(Some(found))
    }

    /// Puts an object where there may be another. Readers see the old or the new.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        check_key(key)?;
        match &self.0 {
            Place::Directory(root) => put_file(root, key, bytes, true).map(|_| ()),
            Place::Server(_) => Err(read_only(&self.describe())),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.put(key, bytes),
        }
    }

    /// Removes an object; it is no error if there is none.
    pub fn remove(&self, key: &str) -> Result<()> {
        check_key(key)?;
        match &self.0 {
            Place::Directory(root) => {
                let path = root.join(key);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        Err(Error::io("remove", path, e))
                    }
                    _ => Ok(()),
                }
            }
            Place::Server(_) => Err(read_only(&self.describe())),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.remove(key),
        }
    }
}

#[cfg(feature = "write")]
fn read_only(folder: &str) -> Error {
    let text = format!("nothing of {folder} can be replaced or removed: it is on a web server");
    Error::new(ErrorKind::ReadOnly, text)
        .with_hint("name the directory that is served, or a bucket")
}

/// Writes a file whole, under its name only when it is on the disk. The directory `root` has to be
/// there: a file system that is not mounted is no empty one.
fn put_file(root: &Path, key: &str, bytes: &[u8], replaces: bool) -> Result<bool> {
    if !root.is_dir() {
        let text = format!("there is no directory {}", root.display());
        return Err(Error::new(ErrorKind::Missing, text).with_hint("make it, or mount it"));
    }
    let path = root.join(key);
    let parent = path.parent().unwrap_or(root);
    fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
    let failed = |e: io::Error| Error::io("write", &path, e);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A name that is no key: no reader takes it for an object.
    let unfinished = parent.join(format!(".{name}.{}.new", std::process::id()));
    match fs::remove_file(&unfinished) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let placed = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| {
            if replaces {
                fs::rename(&unfinished, &path)
            } else {
                fs::hard_link(&unfinished, &path)
            }
        });
    let _ = fs::remove_file(&unfinished);
    match placed {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !replaces => return Ok(false),
        placed => placed.map_err(failed)?,
    }
    let synced = File::open(parent).and_then(|folder| folder.sync_all());
    synced.map_err(failed)?;
    Ok(true)
}

fn get_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > limit {
        let why = format_args!("it is longer than {limit} bytes");
        return Err(Error::corrupt(path.display(), why));
    }
    Ok(Some(bytes))
}

#[cfg(feature = "write")]
fn list_files(folder: &Path, folders: bool) -> Result<Vec<Listed>> {
    let failed = |e: io::Error| Error::io("list", folder, e);
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| super::is_key(name)) else {
            continue;
        };
        // What goes away meanwhile was not there.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() != folders {
            continue;
        }
        let since = meta.modified().ok();
        let since = since.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        found.push(Listed {
            name: name.to_owned(),
            modified: since.map(|since| since.as_secs()),
        });
    }
    Ok(found)
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_put_once() {
        let dir = tempfile::tempdir().unwrap();
        let url = StoreUrl::Directory(dir.path().to_owned());
        let folder = ObjectFolder::open(&url, &ClientOptions::default()).unwrap();
        assert!(folder.put_new("receipts/web01/1.json", b"one").unwrap());
        assert!(!folder.put_new("receipts/web01/1.json", b"two").unwrap());
        let read = |key| folder.get(key, 3).unwrap();
        assert_eq!(read("receipts/web01/1.json").unwrap(), b"one");
        assert_eq!(read("receipts/web01/2.json"), None);
        assert!(folder.get("receipts/web01/1.json", 2).is_err());
        assert_eq!(folder.folders("receipts").unwrap().unwrap(), ["web01"]);
        let listed = folder.list("receipts/web01").unwrap().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].name, "1.json");
        assert!(listed[0].modified.unwrap().abs_diff(common::clock::now()) < 3600);
        folder.put("fleet/prod.json", b"a").unwrap();
        folder.put("fleet/prod.json", b"b").unwrap();
        assert_eq!(read("fleet/prod.json").unwrap(), b"b");
        folder.remove("receipts/web01/1.json").unwrap();
        folder.remove("receipts/web01/1.json").unwrap();
        assert!(folder.list("receipts/web01").unwrap().unwrap().is_empty());
        assert!(folder.put_new("../x", b"").is_err());
        // A directory that is not there, as of a file system that is not mounted, is not made.
        let nowhere = StoreUrl::Directory(dir.path().join("none"));
        let nowhere = ObjectFolder::open(&nowhere, &ClientOptions::default()).unwrap();
        let error = nowhere
            .put_new("receipts/web01/1.json", b"one")
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert!(!dir.path().join("none").exists());
    }
}
