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

mod lock;
mod place;
mod staging;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub(crate) use self::place::LocalBackend;
use self::staging::Staging;
use crate::backend::{Backend, LocalReader};
use crate::error::{Error, ErrorKind, Result};
use crate::store::MARKER;

/// Begins to write in a directory, which is made if it does not exist. Somebody
/// else's files are refused.
pub(crate) fn open(root: &Path) -> Result<Arc<LocalBackend>> {
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
    Ok(Arc::new(LocalBackend::new(backend, staging)))
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
