//! A store that is a directory, written.
//!
//! ```text
//! imgbuild-store          the marker: what this is, which version of the format
//! packs/HEX.pack          chunks; immutable
//! packs/HEX.index         what is in the pack; immutable
//! images/HEX.json         manifests; immutable
//! hints/HEX.json          in which packs an image is; may change
//! logs/HEX.json.zst       what the builds of images printed; may change
//! catalogue.json          which images there are, for readers who cannot list; may change
//! inputs/sha256/HEX       retained inputs; immutable
//! env/NAME/...            environments
//! pins/HEX.json           images that are kept whatever happens; may change
//! quarantine/KEY          what `fsck --quarantine` moved away
//! locks/NAME              locks; empty files
//! tmp/N/...               a living writer's lease, and files it has not finished
//! ```
//!
//! Everything but `locks` and `tmp` is meant to be served by a static web server.
//!
//! Nothing is ever written in place. A file is written under `tmp`, made durable,
//! and renamed to its name, so a name always leads to whole bytes; and names come
//! in the order packs, indexes, manifest, so whatever a name leads to is there as
//! well. A writer that is killed leaves files under `tmp` and packs that no
//! manifest needs, nothing else.

mod inputs;
mod lock;
mod place;
mod publish;
mod staging;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::inputs::Inputs;
pub use self::lock::Lock;
use self::place::DirPlace;
pub use self::publish::{Progress, Published};
use self::staging::Staging;
use crate::backend::{Backend, DirBackend, check_key};
use crate::canon;
use crate::catalogue::{self, Catalogue};
use crate::digest::ImageId;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::Hint;
use crate::log::BuildLog;
use crate::loose::{Changes, Input, Loose};
use crate::manifest::Manifest;
use crate::store::{MARKER, Store, manifest_key, marker};
use crate::writable::Writable;

/// A directory store, open for writing.
///
/// While it is open, nothing is collected that was published, inserted or found
/// through it: see [`crate::format::care`].
pub struct DirStore {
    root: PathBuf,
    read: Store,
    staging: Arc<Staging>,
    place: Arc<DirPlace>,
}

impl DirStore {
    /// Opens the store at `root`, or makes one in a directory that is empty or
    /// does not exist.
    pub fn open_or_create(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        std::fs::create_dir_all(root).map_err(|error| Error::io("create", root, error))?;
        // Threads of this process may change directory; the store does not move.
        let root = root
            .canonicalize()
            .map_err(|error| Error::io("find", root, error))?;
        let backend = DirBackend::open(&root)?;
        if backend.get(MARKER, 64)?.is_none() {
            // Another process may have made the store since.
            if let Err(error) = check_unused(&root)
                && backend.get(MARKER, 64)?.is_none()
            {
                return Err(error);
            }
            let staging = Staging::open(&root)?;
            staging.put(MARKER, marker().as_bytes())?;
        }
        let read = Store::open(Box::new(backend.clone()))?;
        let staging = Arc::new(Staging::open(&root)?);
        let place = Arc::new(DirPlace::new(backend, Arc::clone(&staging)));
        Ok(Self {
            root,
            read,
            staging,
            place,
        })
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The read side.
    pub fn read(&self) -> &Store {
        &self.read
    }

    /// The retained inputs.
    pub fn inputs(&self) -> Inputs {
        Inputs::new(Arc::clone(&self.staging), Arc::clone(&self.place))
    }

    /// The directory as a place that can be written.
    pub fn place(&self) -> &dyn Writable {
        &*self.place
    }

    /// Keeps an image from being collected until this store is closed, and says
    /// whether it is there.
    pub fn hold_image(&self, image: &ImageId) -> Result<bool> {
        let keys = [manifest_key(image), Hint::key(image), BuildLog::key(image)];
        Ok(self.place.hold(&keys)?[0])
    }

    /// Waits for the exclusive lock called `name` (for example an environment's)
    /// and holds it until the guard is dropped.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        Lock::exclusive(&self.root, name)
    }

    /// Writes an object durably: whoever looks finds the old bytes or the new
    /// ones, also after a power cut.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        check_key(key)?;
        self.staging.put(key, bytes)
    }

    /// Publishes a manifest; the image must be here. This is the last step of a
    /// publication, and what makes the image visible.
    ///
    /// A manifest is never replaced by a different one: what was said about an
    /// image may already have been signed.
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<()> {
        let key = manifest_key(&manifest.image);
        let json = manifest.to_json();
        // What cannot be read back must not be written.
        Manifest::from_json(&json)?;
        self.hold_image(&manifest.image)?;
        let _lock = self.lock("images")?;
        match self.read.backend().get(&key, crate::manifest::MAX_BYTES)? {
            Some(there) if there == json => {
                return self.write_catalogue(Some(&manifest.image));
            }
            // A damaged one helps nobody; a different one is still somebody's.
            Some(there) if Manifest::from_json(&there).is_ok() => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("the image {} has another manifest already", manifest.image),
                ));
            }
            _ => {}
        }
        let chunks = self.read.image(manifest)?;
        for chunk in &manifest.layout.chunks {
            chunks.fetch(chunk)?;
        }
        self.put(&key, &json)?;
        self.write_catalogue(Some(&manifest.image))
    }

    /// Renews the catalogue after images were deleted.
    pub fn renew_catalogue(&self) -> Result<()> {
        let _lock = self.lock("images")?;
        self.write_catalogue(None)
    }

    /// Writes the catalogue if it changed; the lock on images is held.
    fn write_catalogue(&self, changed: Option<&ImageId>) -> Result<()> {
        let json = Catalogue::to_json(self.read.current_catalogue(changed)?);
        let there = self
            .read
            .backend()
            .get(catalogue::KEY, catalogue::MAX_BYTES);
        if there.is_ok_and(|there| there.as_ref() == Some(&json)) {
            return Ok(());
        }
        self.put(catalogue::KEY, &json)
    }

    /// Keeps what the build of an image printed, in place of what an earlier build
    /// of the same image did.
    pub fn put_log(&self, image: &ImageId, log: &BuildLog) -> Result<()> {
        let key = BuildLog::key(image);
        self.place.hold(std::slice::from_ref(&key))?;
        self.put(&key, &log.encode()?)
    }

    /// Stores the tree at `tree` as an image.
    ///
    /// The tree is read once. Chunks that the store lacks are written, durably, and
    /// at the end the image is read back from the store, expanded, and compared
    /// with the digest of the tar that the tree was hashed to. The image becomes
    /// visible only with its manifest ([`DirStore::put_manifest`]).
    ///
    /// Nothing else may be mounted inside the tree, and nobody may write to it.
    pub fn publish_tree(
        &self,
        tree: &Path,
        epoch: u64,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Published> {
        let scanned = canon::scan(tree, epoch)?;
        publish::publish(self, &publish::Files { tree, scanned }, progress)
    }

    /// The same for a tree that comes from elsewhere: what no image can have is
    /// left out and noted. Times later than `epoch`, if there is one, become it.
    pub fn publish_foreign_tree(
        &self,
        tree: &Path,
        epoch: Option<u64>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Published, Changes)> {
        let mut changes = Changes::default();
        let scanned = canon::scan_loosely(tree, epoch, &mut changes)?;
        let published = publish::publish(self, &publish::Files { tree, scanned }, progress)?;
        Ok((published, changes))
    }

    /// Reads a tar of any dialect, so that it can be published. Its content is kept
    /// on the store's disk until then, in a file without a name, unless the tar is
    /// a plain file itself.
    pub fn read_tar(&self, tar: Input<'_>, epoch: Option<u64>) -> Result<Loose> {
        Loose::read(tar, self.staging.nameless()?, epoch)
    }

    /// Stores a tar as an image, as [`DirStore::publish_tree`] does a tree.
    pub fn publish_tar(
        &self,
        tar: &Loose,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Published> {
        publish::publish(self, tar, progress)
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
