//! `imgbuild store ...`: the care of a store

pub(crate) mod copy;
mod fsck;
mod gc;
mod pin;
mod stats;

use std::collections::BTreeMap;
use std::sync::Arc;

use store::maintenance::KeepReason;
use store::{ImageId, ListableBackend, Sha256, Store};

use crate::args::{StoreArgs, StoreCommand};
use crate::error::{Error, ErrorKind, Result};
use crate::find;
use crate::import;
use crate::lock::Lock;
use crate::settings::Settings;
use crate::ui::Ui;

pub(super) fn run(args: &StoreArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    match &args.command {
        StoreCommand::Gc(args) => gc::run(args, settings, ui),
        StoreCommand::Fsck(args) => fsck::run(args, settings, ui),
        StoreCommand::Copy(args) => copy::run(args, settings, ui),
        StoreCommand::Stats(_) => stats::run(settings, ui),
        StoreCommand::Pin(args) => pin::pin(args, settings, ui),
        StoreCommand::Unpin(args) => pin::unpin(args, settings, ui),
    }
}

/// An error of the store, with the exit code that it deserves.
fn failed(what: impl Into<String>, error: &store::Error) -> Error {
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

/// The store, to be looked over without writing.
fn survey(settings: &Settings) -> Result<(Store, Arc<dyn ListableBackend>)> {
    // Opened as every reading command opens it, with the same words.
    let store = find::open(settings)?;
    let what = || format!("cannot read the store {}", settings.place);
    let place = settings.place.open_listable(&settings.access);
    Ok((store, place.map_err(|e| failed(what(), &e))?))
}

/// Why images are kept, by image: releases and pins.
pub(super) fn wanted(settings: &Settings) -> Result<BTreeMap<ImageId, Vec<KeepReason>>> {
    if settings.is_web() {
        // On a web server, folders cannot be looked over.
        return Ok(BTreeMap::new());
    }
    let (store, place) = survey(settings)?;
    let what = || format!("cannot read the store {}", settings.place);
    store::maintenance::keep_reasons(&store, &*place).map_err(|e| failed(what(), &e))
}

/// The releases among the reasons, as `ENV/NAME SEQ`.
pub(super) fn releases(why: Option<&Vec<KeepReason>>) -> Vec<String> {
    let all = why.into_iter().flatten();
    let found = all.filter_map(|why| match why {
        KeepReason::Released(releases) => Some(released(releases)),
        _ => None,
    });
    found.flatten().collect()
}

/// The reason for a pin among the reasons.
pub(super) fn pinned(why: Option<&Vec<KeepReason>>) -> Option<String> {
    why.into_iter().flatten().find_map(|why| match why {
        KeepReason::Pinned(reason) => Some(reason.clone()),
        _ => None,
    })
}

/// The inputs that a retained lock names.
fn inputs_of(lock: &[u8]) -> std::result::Result<Vec<Sha256>, String> {
    // An imported image has a record in place of a lock, and no inputs.
    if import::Record::is(lock) {
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(lock).map_err(|error| error.to_string())?;
    let lock = Lock::parse(text).map_err(|error| error.to_string())?;
    Ok(lock.inputs().copied().collect())
}

/// The same, with their sizes.
pub(crate) fn sized_inputs_of(lock: &[u8]) -> std::result::Result<Vec<(Sha256, u64)>, String> {
    if import::Record::is(lock) {
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(lock).map_err(|error| error.to_string())?;
    let lock = Lock::parse(text).map_err(|error| error.to_string())?;
    Ok(lock.sized_inputs().collect())
}

/// Why an image is kept, in a few words.
fn reasons(why: &[KeepReason]) -> String {
    let one = |why: &KeepReason| match why {
        KeepReason::Released(releases) => released(releases).join(", "),
        KeepReason::Releasing => "being released".to_owned(),
        KeepReason::Pinned(reason) if reason.is_empty() => "pinned".to_owned(),
        KeepReason::Pinned(reason) => format!("pinned: {reason}"),
        KeepReason::Held => "in use".to_owned(),
        KeepReason::Young => "young".to_owned(),
        KeepReason::Newest => "newest".to_owned(),
    };
    why.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Releases as `ENV/NAME SEQ`, the last of each.
fn released(releases: &BTreeMap<String, Vec<u64>>) -> Vec<String> {
    let last = |(name, numbers): (&String, &Vec<u64>)| {
        let last = numbers.iter().max().copied().unwrap_or_default();
        format!("{name} {last}")
    };
    releases.iter().map(last).collect()
}
