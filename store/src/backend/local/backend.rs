//! A directory as a [`WritableBackend`].
//!
//! The kernel does the coordination: every lock is an `flock`, so none is stale.
//! A writer's folder under `tmp` is its lease; what it holds is a list in there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use common::clock;

use super::lock::Lock;
use super::reader::LocalReader;
use super::staging::{self, Staged, Staging};
use crate::backend::{
    Backend, ETag, Guard, ListableBackend, MARKER, ObjectMeta, ObjectWriter, WritableBackend,
    Writers, check_key, is_key,
};
use crate::error::{Error, ErrorKind, Result};

/// Folder of what is damaged, as a prefix of keys.
const QUARANTINE: &str = "quarantine/";

/// The lock behind which a collector removes.
const GATE: &str = "gate";

/// The lock under which versions are compared.
const REPLACE: &str = "replace";

/// A directory, open for writing.
#[derive(Debug)]
pub(crate) struct LocalBackend {
    read: LocalReader,
    staging: Arc<Staging>,
}

impl LocalBackend {
    /// Opens a directory for writing, and makes it if it does not exist. A directory
    /// with files other than a store's is refused.
    pub(crate) fn open(root: &Path) -> Result<Arc<Self>> {
        std::fs::create_dir_all(root).map_err(|error| Error::io("create", root, error))?;
        // Threads of this process may change directory; the store does not move.
        let root = root
            .canonicalize()
            .map_err(|error| Error::io("find", root, error))?;
        let backend = LocalReader::open(&root)?;
        if backend.get(MARKER, 64)?.is_none() {
            // Another process may have made the store since.
            if let Err(error) = check_unused(&root)
                && backend.get(MARKER, 64)?.is_none()
            {
                return Err(error);
            }
        }
        let staging = Arc::new(Staging::open(&root)?);
        Ok(Arc::new(Self {
            read: backend,
            staging,
        }))
    }

    pub(crate) fn root(&self) -> &Path {
        self.read.root()
    }
}

/// Refuses to make a store among somebody's files.
fn check_unused(root: &Path) -> Result<()> {
    // What is left when the very first writer was killed, and what a new file
    // system has.
    const HARMLESS: [&str; 3] = ["locks", "tmp", "lost+found"];
    let list = |error: io::Error| Error::io("list", root, error);
    for entry in root.read_dir().map_err(list)? {
        let name = entry.map_err(list)?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            return Err(Error::new(
                ErrorKind::Foreign,
                format!(
                    "{} is not a store, and it is not empty: it has `{}`",
                    root.display(),
                    name.display()
                ),
            ));
        }
    }
    Ok(())
}

impl ListableBackend for LocalReader {
    fn list_all(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        let folder = prefix.strip_suffix('/').unwrap_or(prefix);
        check_key(folder)?;
        let mut objects = Vec::new();
        walk(&self.root().join(folder), folder, &mut objects)?;
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    fn now(&self) -> Result<u64> {
        Ok(clock::now())
    }

    fn seal(&self, object: &ObjectMeta) -> Option<String> {
        let found = fs::symlink_metadata(self.root().join(&object.key)).ok()?;
        let is_it = found.is_file() && found.len() == object.size;
        is_it.then(|| {
            let (device, inode, size) = (found.dev(), found.ino(), found.len());
            let (seconds, nanoseconds) = (found.ctime(), found.ctime_nsec());
            format!("{device}-{inode}-{size}-{seconds}.{nanoseconds:09}")
        })
    }

    fn try_share(&self, name: &str) -> Result<Option<Guard>> {
        check_key(name)?;
        Lock::try_shared(&self.root().join("locks").join(name))
    }

    fn writers(&self) -> Result<Writers> {
        staging::writers(self.root())
    }
}

/// Lists files below a folder. What comes or goes meanwhile may be missed.
fn walk(folder: &Path, key: &str, objects: &mut Vec<ObjectMeta>) -> Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(Error::io("list", folder, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("list", folder, error))?;
        let name = entry.file_name();
        // A foreign file whose name is no key cannot be one of ours.
        let Some(name) = name.to_str().filter(|name| is_key(name)) else {
            continue;
        };
        let key = format!("{key}/{name}");
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(Error::io("examine", entry.path(), error)),
        };
        if meta.is_dir() {
            walk(&entry.path(), &key, objects)?;
        } else if meta.is_file() {
            objects.push(ObjectMeta {
                key,
                size: meta.len(),
                modified: u64::try_from(meta.mtime()).unwrap_or(0),
                version: version(&meta),
            });
        }
    }
    Ok(())
}

fn version(meta: &fs::Metadata) -> ETag {
    ETag(format!(
        "{}.{:09}-{}-{}",
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ino(),
        meta.len()
    ))
}

impl Backend for LocalBackend {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.read.get(key, limit)
    }

    fn get_range(&self, key: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.read.get_range(key, offset, len)
    }

    fn list(&self, prefix: &str) -> Result<Option<Vec<String>>> {
        self.read.list(prefix)
    }

    fn describe(&self) -> String {
        self.read.describe()
    }
}

impl ListableBackend for LocalBackend {
    fn list_all(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.read.list_all(prefix)
    }

    fn now(&self) -> Result<u64> {
        self.read.now()
    }

    fn seal(&self, object: &ObjectMeta) -> Option<String> {
        self.read.seal(object)
    }

    fn try_share(&self, name: &str) -> Result<Option<Guard>> {
        self.read.try_share(name)
    }

    fn writers(&self) -> Result<Writers> {
        self.read.writers()
    }
}

impl WritableBackend for LocalBackend {
    fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        check_key(key)?;
        self.staging.put(key, bytes)
    }

    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        check_key(key)?;
        let mut staged = self.staging.create()?;
        staged.write(bytes)?;
        staged.sync()?;
        staged.link(key)
    }

    fn get_versioned(&self, key: &str, limit: u64) -> Result<Option<(Vec<u8>, ETag)>> {
        check_key(key)?;
        // Between the two, it may be replaced: then it is read again.
        loop {
            let Some(before) = self.version(key)? else {
                return Ok(None);
            };
            let Some(bytes) = self.get(key, limit)? else {
                return Ok(None);
            };
            if self.version(key)?.as_ref() == Some(&before) {
                return Ok(Some((bytes, before)));
            }
        }
    }

    fn replace(&self, key: &str, bytes: &[u8], seen: &ETag) -> Result<bool> {
        check_key(key)?;
        let _lock = Lock::exclusive(self.root(), REPLACE)?;
        if self.version(key)?.as_ref() != Some(seen) {
            return Ok(false);
        }
        self.staging.put(key, bytes)?;
        Ok(true)
    }

    fn create(&self) -> Result<Box<dyn ObjectWriter + '_>> {
        Ok(Box::new(self.staging.create()?))
    }

    fn sync(&self) -> Result<()> {
        self.staging.settle()
    }

    fn remove(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.staging.remove(key)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        check_key(key)?;
        self.staging.shift(key, &format!("{QUARANTINE}{key}"))
    }

    fn hold(&self, keys: &[String]) -> Result<Vec<bool>> {
        for key in keys {
            check_key(key)?;
        }
        let new = self.staging.not_held(keys);
        if !new.is_empty() {
            let _gate = Lock::shared(self.root(), GATE)?;
            self.staging.hold(&new)?;
        }
        // Held now, so what is there stays there.
        let present = |key: &String| Ok(self.version(key)?.is_some());
        keys.iter().map(present).collect()
    }

    fn scratch(&self) -> Result<File> {
        self.staging.nameless()
    }

    fn gate(&self) -> Result<Guard> {
        Ok(Box::new(Lock::exclusive(self.root(), GATE)?))
    }

    fn lock(&self, name: &str) -> Result<Guard> {
        Ok(Box::new(Lock::exclusive(self.root(), name)?))
    }

    fn try_lock(&self, name: &str) -> Result<Option<Guard>> {
        check_key(name)?;
        let path = self.root().join("locks").join(name);
        let folder = self.root().join("locks");
        fs::create_dir_all(&folder).map_err(|error| Error::io("create", &folder, error))?;
        let lock = Lock::try_exclusive(&path)?;
        Ok(lock.map(|lock| Box::new(lock) as Guard))
    }
}

impl LocalBackend {
    fn version(&self, key: &str) -> Result<Option<ETag>> {
        let path = self.root().join(key);
        match path.metadata() {
            Ok(meta) => Ok(meta.is_file().then(|| version(&meta))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("examine", path, error)),
        }
    }
}

impl ObjectWriter for Staged<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Staged::write(self, bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.sync()
    }

    fn finish(self: Box<Self>, key: &str) -> Result<()> {
        check_key(key)?;
        self.sync()?;
        self.rename_later(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(root: &Path) -> LocalBackend {
        let staging = Arc::new(Staging::open(root).unwrap());
        LocalBackend {
            read: LocalReader::open(root).unwrap(),
            staging,
        }
    }

    #[test]
    fn only_where_nothing_is_and_only_what_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let backend = backend(dir.path());
        assert!(backend.put_new("pins/a", b"one").unwrap());
        assert!(!backend.put_new("pins/a", b"two").unwrap());
        let (bytes, seen) = backend.get_versioned("pins/a", 9).unwrap().unwrap();
        assert_eq!(bytes, b"one");
        assert!(backend.replace("pins/a", b"three", &seen).unwrap());
        assert!(!backend.replace("pins/a", b"four", &seen).unwrap());
        assert_eq!(backend.get("pins/a", 9).unwrap().unwrap(), b"three");
        backend.remove("pins/a").unwrap();
        backend.remove("pins/a").unwrap();
        assert_eq!(backend.get_versioned("pins/a", 9).unwrap(), None);
        assert!(!backend.replace("pins/a", b"five", &seen).unwrap());
        assert!(backend.put("../a", b"").is_err());
    }

    #[test]
    fn one_of_many_puts_it_first() {
        let dir = tempfile::tempdir().unwrap();
        let wins = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8_u8)
                .map(|number| {
                    let root = dir.path();
                    scope.spawn(move || backend(root).put_new("x/y", &[number]).unwrap())
                })
                .collect();
            let won = threads.into_iter().map(|thread| thread.join().unwrap());
            won.filter(|won| *won).count()
        });
        assert_eq!(wins, 1);
    }

    #[test]
    fn what_is_held_is_known_until_the_writer_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, other) = (backend(dir.path()), backend(dir.path()));
        writer.put("packs/a", b"one").unwrap();
        let keys = ["packs/a".to_owned(), "packs/b".to_owned()];
        assert_eq!(writer.hold(&keys).unwrap(), [true, false]);
        assert_eq!(writer.hold(&keys[..1]).unwrap(), [true]);
        let writers = other.writers().unwrap();
        assert_eq!(writers.alive, 2);
        assert!(writers.held.iter().eq(&keys));
        drop(writer);
        let writers = other.writers().unwrap();
        assert_eq!((writers.alive, writers.held.len()), (1, 0));
    }

    #[test]
    fn a_shut_gate_keeps_holds_out() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, collector) = (backend(dir.path()), backend(dir.path()));
        let gate = collector.gate().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.hold(&["packs/a".to_owned()]).unwrap();
                sender.send(()).unwrap();
            });
            let early = receiver.recv_timeout(std::time::Duration::from_millis(100));
            assert!(early.is_err(), "something was held behind a shut gate");
            assert!(collector.writers().unwrap().held.is_empty());
            drop(gate);
            receiver.recv().unwrap();
        });
        assert_eq!(collector.writers().unwrap().held.len(), 1);
    }

    #[test]
    fn drafts_quarantine_and_surveys() {
        let dir = tempfile::tempdir().unwrap();
        let backend = backend(dir.path());
        let mut draft = backend.create().unwrap();
        draft.write(b"0123").unwrap();
        draft.flush().unwrap();
        draft.finish("packs/p").unwrap();
        backend.sync().unwrap();
        drop(backend.create().unwrap());
        backend.put("env/dev/metadata/x", b"12").unwrap();
        let keys = |prefix| -> Vec<(String, u64)> {
            let objects = backend.list_all(prefix).unwrap().into_iter();
            objects.map(|object| (object.key, object.size)).collect()
        };
        assert_eq!(keys("env/"), [("env/dev/metadata/x".to_owned(), 2)]);
        assert!(keys("images/").is_empty());
        backend.quarantine("packs/p").unwrap();
        assert!(keys("packs/").is_empty());
        assert_eq!(keys("quarantine/"), [("quarantine/packs/p".to_owned(), 4)]);
        let now = backend.now().unwrap();
        let modified = backend.list_all("quarantine/").unwrap()[0].modified;
        assert!(now.abs_diff(modified) < 3600);
    }

    #[test]
    fn locks_are_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (backend(dir.path()), backend(dir.path()));
        let held = one.try_lock("gc").unwrap().unwrap();
        assert!(two.try_lock("gc").unwrap().is_none());
        assert!(two.try_lock("other").unwrap().is_some());
        assert!(two.try_share("gc").unwrap().is_none());
        drop(held);
        let shared = two.try_share("gc").unwrap().unwrap();
        assert!(one.try_share("gc").unwrap().is_some());
        assert!(one.try_lock("gc").unwrap().is_none());
        drop(shared);
        drop(two.lock("gc").unwrap());
        assert!(two.try_lock("../gc").is_err());
    }
}
