//! `imgbuild store ...`: what is in a store, what nobody needs, what is damaged.

pub(crate) mod copy;
mod fsck;
mod gc;
mod pin;
mod stats;

use std::collections::BTreeMap;
use std::sync::Arc;

use store::maintenance::KeepReason;
use store::{ImageId, ListableBackend, Store};

use crate::cli::args::{StoreArgs, StoreCommand};
use crate::error::Result;
use crate::settings::Settings;
use crate::stores;
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

/// The store, to be looked over without writing.
fn survey(settings: &Settings) -> Result<(Store, Arc<dyn ListableBackend>)> {
    // Opened as every reading command opens it, with the same words.
    let store = stores::open(settings)?;
    let what = || format!("cannot read the store {}", settings.store_url);
    let place = settings.store_url.open_listable(&settings.access);
    Ok((store, place.map_err(|e| stores::failed(what(), &e))?))
}

/// Why images are kept, by image: releases and pins.
pub(super) fn wanted(settings: &Settings) -> Result<BTreeMap<ImageId, Vec<KeepReason>>> {
    if settings.is_web() {
        // On a web server, folders cannot be looked over.
        return Ok(BTreeMap::new());
    }
    let (store, place) = survey(settings)?;
    let what = || format!("cannot read the store {}", settings.store_url);
    store::maintenance::keep_reasons(&store, &*place).map_err(|e| stores::failed(what(), &e))
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
        KeepReason::Base(image) => format!("base of {:.12}", image.hex()),
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
