//! A store in a directory.
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
//! receipts/..., fleet/... what nodes say, where they put it here
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

#[cfg(feature = "write")]
mod backend;
#[cfg(feature = "write")]
pub(super) mod lock;
mod reader;
#[cfg(feature = "write")]
mod staging;

#[cfg(feature = "write")]
pub(crate) use self::backend::LocalBackend;
pub use self::reader::LocalReader;
