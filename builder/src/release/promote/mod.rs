//! From one environment to the next: the same bytes, signed once more.
//!
//! ```text
//! source release ─▶ policy ─▶ every byte at the destination ─▶ what changes ─▶ proposal
//!                   │ attestations, age, suite, setuid
//! ```
//!
//! Nothing is rebuilt, compressed or renamed.

mod facts;

use std::sync::{Mutex, PoisonError};

use common::clock::rfc3339;
use store::copy::Copier;
use store::delta_writer::{self, Progress};
use store::tuf::{Environment, LogEntry, PromotedFrom, Proposal, Release, ReleaseOrigin, WavePlan};
use store::{ImageId, Manifest, Store, WritableStore};

pub use self::facts::{Checked, check};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::inspect::compare::{self, How, Side, compare};
use crate::release::ceremony::failed;
use crate::release::keyring::Keyring;
use crate::stores::{find, released};
use crate::ui::{self, Ui, Unit};

/// Where an image comes from.
pub struct From {
    /// The manifest as it was released there.
    pub manifest: Manifest,
    /// The release.
    pub source: PromotedFrom,
}

/// Refuses what does not meet the policy in force of an environment, by what its store
/// has.
pub fn meets(
    manifest: &Manifest,
    env: &Environment<'_>,
    store: &WritableStore,
    keyring: &Keyring,
    ui: &Ui,
) -> Result<()> {
    let Some(policy) = env.policy() else {
        return Ok(());
    };
    let checked = check(manifest, env, policy, &[store.store()], keyring, ui)?;
    checked.refuse(manifest, env.name())
}

/// Finds the release that `text` means in an environment.
pub fn source(store: &Store, text: &str, from: &Environment<'_>) -> Result<From> {
    let name = from.name();
    // A name means the newest release there, a digest the image.
    let own = match text.split_once('/') {
        Some((env, text)) => (env == name.as_str()).then_some(text),
        None => find::release_of(from, text).is_ok().then_some(text),
    };
    let own = own.map(|text| find::release_of(from, text)).transpose()?;
    let manifest = match &own {
        Some(release) => released::manifest(store, release)?,
        None => find::image(store, text)?,
    };
    // What is revoked is refused here, whichever release is meant.
    let mut released = released::released_in(store, from, &manifest)?;
    if let Some(own) = own {
        released.seq = own.seq;
        released.manifest = manifest;
    }
    Ok(From {
        source: PromotedFrom {
            env: name.clone(),
            seq: released.seq,
        },
        manifest: released.manifest,
    })
}

/// Says where the origin of a release, as its log entry tells it, is not what this store has: then
/// it is the word of whoever drafted the release. The policy's `from` is asked by itself.
pub fn came_from(
    entry: &LogEntry,
    manifest: &Manifest,
    store: &WritableStore,
    keyring: &Keyring,
    ui: &Ui,
) {
    let Some(from) = &entry.from else { return };
    let Err(why) = has_released_as(from, manifest, store, keyring) else {
        return;
    };
    ui.note(&format!(
        "warning: that {} comes from {} {} is what the file says: {why}",
        entry.name, from.env, from.seq
    ));
}

fn has_released_as(
    from: &PromotedFrom,
    manifest: &Manifest,
    store: &WritableStore,
    keyring: &Keyring,
) -> std::result::Result<(), String> {
    let mut origin = Environment::open(store, &from.env).map_err(|e| e.to_string())?;
    if keyring.admit(&mut origin).is_err() {
        return Err(format!("nobody here has vouched for {}", from.env));
    }
    let releases = origin.releases().map_err(|e| e.to_string())?;
    let same = |release: &&Release| release.name == manifest.name && release.seq == from.seq;
    let digest = store::Sha256::of(&manifest.to_json()).hex();
    match releases.iter().find(same) {
        Some(release) if release.image != manifest.image => {
            Err(format!("there it is {}", release.image))
        }
        Some(release) if !release.target_path.contains(&digest) => {
            Err(format!("{} released it with another manifest", from.env))
        }
        Some(_) => Ok(()),
        // It may have been, and be retired.
        None => {
            let log = origin.log(usize::MAX).map_err(|e| e.to_string())?;
            let same = |entry: &LogEntry| {
                (&entry.name, entry.seq, entry.image) == (&manifest.name, from.seq, manifest.image)
            };
            let was = log.iter().any(same);
            was.then_some(())
                .ok_or_else(|| format!("{} has no such release", from.env))
        }
    }
}

/// What of an environment has run out first, and when.
pub fn ran_out(env: &Environment<'_>) -> Option<(&'static str, jiff::Timestamp)> {
    let now = jiff::Timestamp::now();
    let past = env.expiries().into_iter().filter(|(_, time)| *time < now);
    past.min_by_key(|(_, time)| *time)
}

/// Shows what an image is, what is started in it, and as whom.
pub fn started(manifest: &Manifest, ui: &Ui) {
    let dated = rfc3339(manifest.epoch).unwrap_or_else(|| manifest.epoch.to_string());
    ui.note(&format!(
        "  {} {}, dated {dated}",
        manifest.suite, manifest.arch
    ));
    let Some(run) = &manifest.run else { return };
    ui.note(&format!(
        "  starts as {}: {}",
        run.user,
        run.start.join(" ")
    ));
    for line in compare::run_details(run) {
        ui.note(&format!("    {line}"));
    }
}

/// Brings an image, and what is said about it, along to the destination. True if its
/// bytes came just now: they were compared on arrival.
pub fn copy(
    manifest: &Manifest,
    source: &Store,
    store: &WritableStore,
    ui: &mut Ui,
) -> Result<bool> {
    let (from, to) = (source.backend().describe(), store.backend().describe());
    let what = || format!("cannot copy {} from {from} to {to}", manifest.image);
    let mut phase = ui.phase("copy");
    let copied = Copier::new(source)
        .with_manifest(manifest.clone())
        .run(&[manifest.image], store, &mut |progress| {
            phase.copying(progress);
        })
        .context(what)?;
    if let Some((_, why)) = copied.failed.first() {
        return Err(Error::new(ErrorKind::Refused, what()).hint(format!(
            "{why}; `imgbuild store fsck` there says what is damaged"
        )));
    }
    phase.finish(&format!(
        "{} moved from {from}, the destination had the rest",
        ui::size(copied.moved)
    ));
    Ok(!copied.images.is_empty())
}

fn missing(manifest: &Manifest) -> Error {
    Error::failed(format!("the destination does not have {}", manifest.image))
}

/// Compares every byte of an image at the destination with its manifest.
pub fn verify(manifest: &Manifest, store: &WritableStore, ui: &mut Ui) -> Result<()> {
    let phase = ui.phase("verify");
    // From here on no collector takes it away.
    let here = store
        .hold_image(&manifest.image)
        .context(|| format!("cannot hold {}", manifest.image))?;
    if !here {
        return Err(missing(manifest).hint("copy it there first: imgbuild store copy --help"));
    }
    store.store().verify_image(manifest).map_err(|e| {
        let what = format!("the destination's copy of {} is damaged", manifest.image);
        Error::new(crate::error::ErrorKind::Refused, what)
            .because(&e)
            .hint("nothing was signed; `imgbuild store fsck` says what is damaged")
    })?;
    phase.finish(&format!(
        "{} compared with every digest",
        ui::size(manifest.size)
    ));
    Ok(())
}

/// Shows what is different from what the destination runs now. `new` has the image,
/// `store` what runs.
pub fn differences(
    manifest: &Manifest,
    new: &Store,
    env: &Environment<'_>,
    store: &WritableStore,
    ui: &Ui,
) -> Result<Option<compare::Report>> {
    started(manifest, ui);
    let releases = env
        .releases()
        .map_err(|e| failed(format!("cannot read the releases of {}", env.name()), &e))?;
    let present = releases
        .iter()
        .rev()
        .find(|release| release.name == manifest.name);
    let Some(present) = present else {
        ui.note(&format!("{} is new in {}", manifest.name, env.name()));
        return Ok(None);
    };
    // What is gone cannot be compared, and must not be in the way of what comes.
    if store.store().manifest(&present.image).is_err() {
        ui.note(&format!(
            "{} runs {}, which this store does not have",
            env.name(),
            present.image
        ));
        return Ok(None);
    }
    // As it was released: the same bytes may be described otherwise elsewhere.
    let name = format!("{}/{}/{}", env.name(), present.name, present.seq);
    let old = find::image(store.store(), &name)?;
    let side = |store, manifest| Side { store, manifest };
    let report = compare(side(store.store(), &old), side(new, manifest), false)?;
    ui.note(&format!(
        "what changes in {}, from release {}:",
        env.name(),
        present.seq
    ));
    compare::show(&report, How::default(), &mut |line| {
        ui.note(&format!("  {line}"));
    });
    Ok(Some(report))
}

/// Makes deltas to an image from the newest `count` releases of its name, for the nodes
/// that run them. They are an extra: what goes wrong is a warning.
pub fn deltas(
    manifest: &Manifest,
    env: &Environment<'_>,
    store: &WritableStore,
    count: usize,
    ui: &mut Ui,
) -> Result<()> {
    let releases = env
        .releases()
        .map_err(|e| failed(format!("cannot read the releases of {}", env.name()), &e))?;
    let mut olds: Vec<ImageId> = Vec::new();
    for release in releases.iter().rev() {
        let other = release.name == manifest.name && release.image != manifest.image;
        if other && olds.len() < count && !olds.contains(&release.image) {
            olds.push(release.image);
        }
    }
    for old in olds {
        // Gone, or made by an earlier attempt.
        let Ok(old) = find::image(store.store(), &old.to_string()) else {
            continue;
        };
        if matches!(
            store.store().delta(&old.image, &manifest.image),
            Ok(Some(_))
        ) {
            continue;
        }
        let phase = Mutex::new(ui.phase("delta"));
        let progress = |progress: Progress| {
            if let Ok(mut phase) = phase.lock() {
                phase.progress(progress.done, progress.total, Unit::Bytes);
            }
        };
        let made = delta_writer::publish(store.store(), store.backend(), &old, manifest, &progress);
        let phase = phase.into_inner().unwrap_or_else(PoisonError::into_inner);
        match made {
            Ok(made) => phase.finish(&format!(
                "{} from {}, in place of {} of packs",
                ui::size(made.pair.size),
                &old.image.hex()[..16],
                ui::size(made.pair.packs)
            )),
            Err(e) => {
                phase.finish("none");
                ui.note(&format!(
                    "warning: no delta from {}: {e}; nodes take packs",
                    old.image
                ));
            }
        }
    }
    Ok(())
}

/// Drafts the release. `None` if it is the newest one already.
pub fn draft(
    from: &From,
    env: &Environment<'_>,
    min_seq: Option<u64>,
    waves: Option<WavePlan>,
) -> Result<Option<(Proposal, Release)>> {
    let origin = ReleaseOrigin {
        from: Some(from.source.clone()),
        min_seq,
        waves,
    };
    env.draft_release(&from.manifest, &origin, jiff::Timestamp::now())
        .map_err(|e| {
            failed(
                format!("cannot release {} in {}", from.manifest.name, env.name()),
                &e,
            )
        })
}
