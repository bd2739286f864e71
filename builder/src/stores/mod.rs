//! Stores, opened and copied with the words of the command line.
//!
//! ```text
//! copy          images from one store to another, shown as one phase
//! find          what a person means by IMAGE
//! ancestry      what an image was built from, and what it stands on
//! released      releases as they were signed, with their manifests
//! environments  the environments of a store: releases, revocations, policies
//! ```

pub mod ancestry;
pub mod copy;
pub mod environments;
pub mod find;
pub mod released;

use std::fs;
use std::path::Path;

use store::{Store, StoreUrl, Verified, WritableStore};

use crate::error::{Context, Error, ErrorKind, Result};
use crate::settings::Settings;

/// The environment that a build releases into.
pub const FIRST_ENVIRONMENT: &str = "dev";

/// Opens the store to read it.
pub fn open(settings: &Settings) -> Result<Store> {
    open_at(&settings.store_url, settings)
}

/// Opens another store to read it.
pub fn open_at(url: &StoreUrl, settings: &Settings) -> Result<Store> {
    let failed = |e: store::Error| {
        Error::failed(format!("cannot read the store {url}"))
            .because(&e)
            .hint(e.own_hint().unwrap_or(
                "name the store with --store PATH or --store URL, or build an image first",
            ))
    };
    let backend = url.open(&settings.access).map_err(failed)?;
    Store::open(backend).map_err(failed)
}

/// Opens the store to read it, if there is one.
pub fn open_if_made(settings: &Settings) -> Result<Option<Store>> {
    let url = &settings.store_url;
    match url.directory() {
        Some(directory) if is_unused(directory) => Ok(None),
        Some(_) => open(settings).map(Some),
        None => (url.open(&settings.access).and_then(Store::open_if_made))
            .map_err(|error| failed(format!("cannot read the store {url}"), &error)),
    }
}

/// Whether nothing is in a directory, or no directory there.
pub(crate) fn is_unused(path: &Path) -> bool {
    fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none())
}

/// Opens the store, or makes it.
pub fn open_to_write(settings: &Settings) -> Result<WritableStore> {
    let cache = settings.work.join("inputs");
    let opened = WritableStore::open(&settings.store_url, &settings.access, &cache);
    let opened = opened.map(|store| store.trusting(verified(settings)));
    opened.map_err(|e| {
        Error::failed(format!("cannot open the store {}", settings.store_url))
            .because(&e)
            .hint(
                e.own_hint()
                    .unwrap_or("choose another one with --store PATH"),
            )
    })
}

/// What this machine verified before.
pub(crate) fn verified(settings: &Settings) -> Verified {
    Verified::open(&settings.work)
}

/// The store of this machine in which inputs are files, if `store` is elsewhere.
pub fn open_nearby(store: &WritableStore) -> Result<Option<WritableStore>> {
    store
        .local_inputs()
        .context(|| "cannot keep the store's inputs here".into())
}

/// A store as it was typed.
pub(crate) fn parse_url(text: &str) -> Result<StoreUrl> {
    let url: StoreUrl = text.parse().map_err(|error: store::Error| {
        let usage = Error::usage("the store cannot be used").because(&error);
        match error.own_hint() {
            Some(hint) => usage.hint(hint),
            None => usage,
        }
    })?;
    match url.directory() {
        // Two spellings of one directory are one store.
        Some(path) => Ok(StoreUrl::Directory(
            path.canonicalize()
                .or_else(|_| std::path::absolute(path))
                .context(|| format!("{} is not a usable path", path.display()))?,
        )),
        None => Ok(url),
    }
}

/// The destination, made if it is not there.
pub(crate) fn destination(url: &StoreUrl, settings: &Settings) -> Result<WritableStore> {
    if matches!(url, StoreUrl::Web(_)) {
        return Err(Error::usage(format!("{url} can only be read"))
            .hint("name a directory or a bucket: a web server is read only"));
    }
    let cache = settings.work.join("inputs");
    WritableStore::open(url, &settings.access, &cache)
        .map_err(|error| failed(format!("cannot open the store {url}"), &error))
}

/// An error of the store, with the exit code that it deserves.
pub(crate) fn failed(what: impl Into<String>, error: &store::Error) -> Error {
    let kind = match error.kind() {
        store::ErrorKind::Busy => ErrorKind::Busy,
        store::ErrorKind::Corrupt | store::ErrorKind::Missing => ErrorKind::Refused,
        _ => ErrorKind::Failed,
    };
    let failed = Error::new(kind, what).because(error);
    match error.hint() {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}
