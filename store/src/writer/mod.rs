//! Writing a store: publishing images and whatever belongs to them, on any backend
//! that can be written.
//!
//! Nothing is ever written in place, so a name always leads to whole bytes; and
//! names come in the order packs, indexes, manifest, so whatever a name leads to is
//! there as well. A writer that is killed leaves files that it has not finished and
//! packs that no manifest needs, nothing else.
//!
//! What several writers change is changed by compare and swap, not under a lock: the
//! loser looks again and repeats itself.

mod inputs;
mod publish;

use std::path::Path;
use std::sync::Arc;

pub use self::inputs::Inputs;
pub use self::publish::{Progress, Published};
use crate::backend::Backend;
#[cfg(feature = "s3")]
use crate::backend::ClientOptions;
use crate::backend::MARKER;
#[cfg(feature = "s3")]
use crate::backend::StoreUrl;
use crate::backend::local::LocalBackend;
#[cfg(feature = "s3")]
use crate::backend::s3::S3Backend;
use crate::backend::{Guard, WritableBackend};
use crate::build_log::BuildLog;
use crate::catalogue::{self, Catalogue};
use crate::digest::{ImageId, Sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::foreign_tar::{ForeignTar, TarInput};
use crate::hint::Hint;
use crate::inventory;
use crate::manifest::Manifest;
use crate::store::{Store, manifest_key, marker};
use crate::verified::Verified;

/// A store, open for writing.
///
/// While it is open, nothing is collected that was published, inserted or found
/// through it: see [`crate::format::maintenance`].
pub struct WritableStore {
    read: Store,
    backend: Arc<dyn WritableBackend>,
    /// Where inputs are files of this machine.
    local: Arc<LocalBackend>,
    verified: Option<Verified>,
}

impl WritableStore {
    /// Opens the store in a directory, or makes one in a directory that is empty or
    /// does not exist.
    pub fn open_or_create(root: impl AsRef<Path>) -> Result<Self> {
        let local = LocalBackend::open(root.as_ref())?;
        let backend: Arc<dyn WritableBackend> = local.clone();
        Self::on(backend, local)
    }

    /// Opens the store at a URL, or makes one where nothing is. `cache` is a
    /// directory of this machine in which inputs of a store elsewhere are files.
    #[cfg(feature = "s3")]
    pub fn open(url: &StoreUrl, access: &ClientOptions, cache: &Path) -> Result<Self> {
        match url {
            StoreUrl::Directory(root) => Self::open_or_create(root),
            StoreUrl::Bucket(location) => {
                let backend = S3Backend::open(location, access)?;
                Self::on(backend, LocalBackend::open(cache)?)
            }
            StoreUrl::Web(_) => Err(Error::new(
                ErrorKind::ReadOnly,
                format!("{url} can only be read: it is on a web server"),
            )
            .with_hint(
                "write to the directory that it serves, or to a bucket (s3://BUCKET/PREFIX)",
            )),
        }
    }

    /// Opens a store on a backend that is empty, or already holds one.
    fn on(backend: Arc<dyn WritableBackend>, local: Arc<LocalBackend>) -> Result<Self> {
        if backend.get(MARKER, 64)?.is_none() {
            // Another process may make the store at the same time.
            backend.put_new(MARKER, marker().as_bytes())?;
        }
        let read: Arc<dyn Backend> = backend.clone();
        let read = Store::open_shared(read)?;
        Ok(Self {
            read,
            backend,
            local,
            verified: None,
        })
    }

    /// The same store, whose packs need not be read back when this machine has verified them
    /// and they are what they were.
    #[must_use]
    pub fn trusting(self, verified: Verified) -> Self {
        Self {
            verified: Some(verified),
            ..self
        }
    }

    /// The store's directory, if it is in one.
    pub fn directory(&self) -> Option<&Path> {
        let here = self.local.root();
        (self.backend.describe() == here.display().to_string()).then_some(here)
    }

    /// Where inputs of a store elsewhere are files while something is built from them:
    /// the store in the cache directory that the store was opened with. `None` if this store
    /// is in a directory itself.
    pub fn local_inputs(&self) -> Result<Option<Self>> {
        if self.directory().is_some() {
            return Ok(None);
        }
        let backend: Arc<dyn WritableBackend> = self.local.clone();
        Self::on(backend, Arc::clone(&self.local)).map(Some)
    }

    /// The read side.
    pub fn store(&self) -> &Store {
        &self.read
    }

    /// The retained inputs.
    pub fn inputs(&self) -> Inputs {
        Inputs::new(Arc::clone(&self.backend), self.local.root().to_owned())
    }

    /// The backend that the store is in.
    pub fn backend(&self) -> &dyn WritableBackend {
        &*self.backend
    }

    /// What this machine verified before, if that counts.
    pub(crate) fn verified(&self) -> Option<&Verified> {
        self.verified.as_ref()
    }

    /// Keeps an image from being collected until this store is closed, and says
    /// whether it is there.
    pub fn hold_image(&self, image: &ImageId) -> Result<bool> {
        let keys = [manifest_key(image), Hint::key(image), BuildLog::key(image)];
        Ok(self.backend.hold(&keys)?[0])
    }

    /// Waits for the exclusive lock called `name` (for example an environment's)
    /// and holds it until the guard is dropped.
    pub fn lock(&self, name: &str) -> Result<Guard> {
        self.backend.lock(name)
    }

    /// Writes an object durably: whoever looks finds the old bytes or the new
    /// ones, also after a power cut.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.backend.put(key, bytes)
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
        let mut checked = false;
        loop {
            let there = self
                .backend
                .get_versioned(&key, crate::manifest::MAX_BYTES)?;
            let there = match there {
                Some((there, _)) if there == json => break,
                // A damaged one helps nobody; a different one is still somebody's.
                Some((there, _)) if Manifest::from_json(&there).is_ok() => {
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        format!("the image {} has another manifest already", manifest.image),
                    ));
                }
                other => other,
            };
            if !checked {
                let image = self.read.image(manifest)?;
                for chunk in &manifest.layout.chunks {
                    image.fetch(chunk)?;
                }
                checked = true;
            }
            let written = match there {
                Some((_, seen)) => self.backend.replace(&key, &json, &seen)?,
                None => self.backend.put_new(&key, &json)?,
            };
            if written {
                self.check_lease(manifest)?;
                break;
            }
        }
        self.write_catalogue(Some(&manifest.image))?;
        let recorded = [(key, Some(Sha256::of(&json)))];
        inventory::record(&*self.backend, &manifest.image, &recorded)
    }

    /// Takes a manifest back whose image was collected before it was written. That
    /// can happen only where locks have no kernel, to a writer that stood still for
    /// longer than others wait.
    fn check_lease(&self, manifest: &Manifest) -> Result<()> {
        let lost = match self.backend.check_lease() {
            Ok(()) => return Ok(()),
            Err(lost) => lost,
        };
        if lost.kind() == ErrorKind::Busy && !self.read.has_image_objects(manifest)? {
            self.backend.withdraw(&manifest_key(&manifest.image))?;
        }
        Err(lost)
    }

    /// Renews the catalogue after images were deleted.
    pub fn renew_catalogue(&self) -> Result<()> {
        self.write_catalogue(None)
    }

    /// Renews what the catalogue says about an image that was published once more.
    pub fn renew_catalogue_row(&self, image: &ImageId) -> Result<()> {
        self.write_catalogue(Some(image))
    }

    /// Writes the catalogue if it changed. Whoever writes it has listed the images
    /// after it read the catalogue that it replaces, so none is forgotten.
    fn write_catalogue(&self, changed: Option<&ImageId>) -> Result<()> {
        loop {
            // A damaged one is replaced, however long it is.
            let there = match self
                .backend
                .get_versioned(catalogue::KEY, catalogue::MAX_BYTES)
            {
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let json = Catalogue::to_json(self.read.current_catalogue(changed, None)?);
                    return self.put(catalogue::KEY, &json);
                }
                there => there?,
            };
            // After a collection each row is looked at: hints may have other times by now.
            let before = there.as_ref().map(|(json, _)| &json[..]);
            let before = changed.and(before);
            let json = Catalogue::to_json(self.read.current_catalogue(changed, before)?);
            let written = match &there {
                Some((before, _)) if *before == json => true,
                Some((_, seen)) => self.backend.replace(catalogue::KEY, &json, seen)?,
                None => self.backend.put_new(catalogue::KEY, &json)?,
            };
            if written {
                return Ok(());
            }
        }
    }

    /// Keeps what the build of an image printed, in place of what an earlier build
    /// of the same image did.
    pub fn put_log(&self, image: &ImageId, log: &BuildLog) -> Result<()> {
        let key = BuildLog::key(image);
        self.backend.hold(std::slice::from_ref(&key))?;
        inventory::put(&*self.backend, image, &key, &log.encode()?)
    }

    /// Reads a tar of any dialect, so that it can be published. Its content is kept
    /// on a disk until then, in a file without a name, unless the tar is a plain
    /// file itself.
    pub fn read_tar(&self, tar: TarInput<'_>, epoch: Option<u64>) -> Result<ForeignTar> {
        ForeignTar::read(tar, self.backend.scratch()?, epoch)
    }
}
