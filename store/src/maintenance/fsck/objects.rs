//! Everything but packs: manifests, environments, pins, hints, logs, inputs.

use std::collections::{BTreeMap, BTreeSet};

use sha2::Digest as _;

use super::super::references::PackReferences;
use super::super::roots::{environments, released};
use super::super::{deltas, pins};
use super::report::{AffectedImage, Damage, Meter, Report};
use crate::attest;
use crate::backend::{ListableBackend, ObjectMeta};
use crate::build_log::{self, BuildLog};
use crate::catalogue::{self, Catalogue, ListedImage};
use crate::delta;
use crate::digest::{Blake3, ImageId, Sha256};
use crate::dsse;
use crate::error::{Error, ErrorKind, Result};
use crate::hint::{self, Hint};
use crate::inventory;
use crate::manifest::{self, LayoutRef, MAX_LOCK, Manifest};
use crate::name::{EnvName, ImageName};
use crate::pack;
use crate::parallel;
use crate::store::{IMAGES, INPUTS, PINS, Store};
use crate::tuf::{self, paths};

/// Bytes that are hashed at once.
const PIECE: u64 = 1 << 20;

/// What to do about a pin: whether an image stays is for people to say.
pub(super) const PIN_AGAIN: &str = "`imgbuild store pin` or `unpin` puts it in order";

/// An image to be checked.
pub(super) struct CheckedImage {
    pub(super) name: ImageName,
    pub(super) size: u64,
    pub(super) released: Vec<String>,
    /// The keys of its manifests, with the layout that each names.
    pub(super) manifests: Vec<(LayoutRef, String)>,
    locks: BTreeSet<(Sha256, Sha256)>,
}

/// Reads manifests and environments. Those that are damaged are reported.
pub(super) fn subjects(
    store: &Store,
    backend: &dyn ListableBackend,
    report: &mut Report,
) -> Result<BTreeMap<ImageId, CheckedImage>> {
    let mut subjects = BTreeMap::new();
    for object in backend.list_all(IMAGES)? {
        let hex = object.key[IMAGES.len()..].strip_suffix(".json");
        let Some(Ok(image)) = hex.map(ImageId::from_hex) else {
            continue;
        };
        match store.manifest(&image) {
            Ok(manifest) => add(&mut subjects, &manifest, object.key),
            // Removed since it was listed.
            Err(error) if error.kind() == ErrorKind::Missing => {}
            Err(error) => {
                let why = error.to_string();
                report.affected.push(AffectedImage {
                    image,
                    name: None,
                    released: Vec::new(),
                    why: "its manifest is damaged".into(),
                    entries: Vec::new(),
                    more: 0,
                    whole: false,
                });
                damaged(report, object.key, why);
            }
        }
    }
    for env in environments(backend)? {
        report.environments += 1;
        let keys = backend.list_all(&paths::home(&env))?;
        let keys = keys.into_iter().map(|object| object.key).collect();
        let found = tuf::check(store, &env, &keys);
        for (key, why) in found.damage {
            damaged(report, key, why);
        }
        report.strays.extend(found.strays);
        report.foreign.extend(found.foreign);
        let metadata = paths::metadata(&env, "");
        let said = |report: &Report| {
            let mut damage = report.damage.iter();
            damage.any(|damage| damage.key.starts_with(&metadata))
        };
        let releases = match released(store, &env) {
            Ok(releases) => releases,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let why = cause.unwrap_or_else(|| error.to_string());
                if !said(report) {
                    damaged(report, format!("env/{env}"), why);
                }
                continue;
            }
        };
        for release in releases {
            let name = format!("{env}/{} {}", release.name, release.seq);
            let key = release.target_path;
            let json = backend.get(&key, manifest::MAX_BYTES);
            let signed = |json: &[u8]| key.contains(&Sha256::of(json).hex());
            let manifest = match &json {
                Ok(Some(json)) if signed(json) => Manifest::from_json(json).ok(),
                _ => None,
            };
            let ours = manifest.filter(|manifest| manifest.image == release.image);
            if let Some(manifest) = ours {
                add(&mut subjects, &manifest, key);
            } else {
                let why = match json {
                    Ok(None) => format!("it is missing, and {name} is released"),
                    _ => format!("it is not what was signed as {name}"),
                };
                report.damage.retain(|damage| damage.key != key);
                damaged(report, key, why);
            }
            if let Some(subject) = subjects.get_mut(&release.image) {
                subject.released.push(name);
            }
        }
    }
    unnamed(backend, report)?;
    for hurt in &mut report.affected {
        if let Some(subject) = subjects.get(&hurt.image) {
            hurt.name = Some(subject.name.clone());
            hurt.released.clone_from(&subject.released);
        }
    }
    Ok(subjects)
}

/// Looks for folders of environments without the file that makes them one, and for what
/// is no environment.
fn unnamed(backend: &dyn ListableBackend, report: &mut Report) -> Result<()> {
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for object in backend.list_all("env/")? {
        match object.key.split('/').nth(1).map(str::parse::<EnvName>) {
            Some(Ok(name)) if object.key.starts_with(&paths::home(&name)) => {
                folders
                    .entry(name.to_string())
                    .or_default()
                    .push(object.key);
            }
            _ => report.foreign.push(object.key),
        }
    }
    for (name, keys) in folders {
        let Ok(env) = name.parse::<EnvName>() else {
            continue;
        };
        let timestamp = paths::metadata(&env, "timestamp.json");
        if keys.contains(&timestamp) {
            continue;
        }
        // An attempt at making an environment that was killed has left no more than these.
        let first = ["1.root.json", "1.targets.json", "1.snapshot.json"]
            .map(|file| paths::metadata(&env, file));
        if keys.iter().any(|key| !first.contains(key)) {
            damaged(report, timestamp, "it is missing".into());
        } else {
            report.strays.extend(keys);
        }
    }
    Ok(())
}

/// The packs that hints name, by image.
pub(super) type Hinted = BTreeMap<ImageId, BTreeSet<Blake3>>;

/// Compares hints, logs and the catalogue with the images that they are about. Returns
/// the hints that can be read.
pub(super) fn about_images(
    store: &Store,
    backend: &dyn ListableBackend,
    subjects: &BTreeMap<ImageId, CheckedImage>,
    references: &PackReferences,
    inventoried: &BTreeSet<ImageId>,
    report: &mut Report,
) -> Result<Hinted> {
    let bad: BTreeSet<String> = report.damage.iter().map(|one| one.key.clone()).collect();
    let of = |key: &str, folder: &str, end: &str| {
        let hex = key.strip_prefix(folder)?.strip_suffix(end)?;
        ImageId::from_hex(hex).ok()
    };
    let packs = references.names();
    let (mut hinted, mut hints) = (BTreeSet::new(), Hinted::new());
    for object in backend.list_all("hints/")? {
        let Some(image) = of(&object.key, "hints/", ".json") else {
            report.foreign.push(object.key);
            continue;
        };
        hinted.insert(image);
        if !subjects.contains_key(&image) {
            report.strays.push(object.key);
            continue;
        }
        if bad.contains(&object.key) {
            continue;
        }
        let hint = backend.get(&object.key, hint::MAX_BYTES)?;
        let Some(Ok(hint)) = hint.map(|json| Hint::from_json(&json)) else {
            continue;
        };
        if hint.packs.iter().any(|pack| !packs.contains(pack)) {
            // A reader passes over what is not there.
            report.strays.push(object.key);
        }
        hints.insert(image, hint.packs.into_iter().collect());
    }
    // Elsewhere an inventory says whether a manifest is the one that was published.
    for (_, subject) in subjects.iter().filter(|(id, _)| !inventoried.contains(id)) {
        let keys = subject.manifests.iter().map(|(_, key)| key);
        let (ours, signed): (Vec<_>, Vec<_>) = keys.partition(|key| key.starts_with(IMAGES));
        for key in ours.into_iter().filter(|_| !signed.is_empty()) {
            let Some(json) = backend.get(key, manifest::MAX_BYTES)? else {
                continue;
            };
            let digest = Sha256::of(&json).hex();
            if !signed.iter().any(|key| key.contains(&digest)) {
                // Another build of the same bytes may say other things about them.
                report.strays.push(key.clone());
            }
        }
    }
    for object in backend.list_all(IMAGES)? {
        match of(&object.key, IMAGES, ".json") {
            // Readers that cannot list need it; publishing the image again writes it.
            Some(image) if !hinted.contains(&image) => report.strays.push(Hint::key(&image)),
            Some(_) => {}
            None => report.foreign.push(object.key),
        }
    }
    for object in backend.list_all("logs/")? {
        let Some(image) = of(&object.key, "logs/", ".json.zst") else {
            report.foreign.push(object.key);
            continue;
        };
        let Some(subject) = subjects.get(&image) else {
            report.strays.push(object.key);
            continue;
        };
        if bad.contains(&object.key) {
            continue;
        }
        let log = backend.get(&object.key, build_log::MAX_BYTES)?;
        if let Some(Ok(log)) = log.map(|bytes| BuildLog::decode(&bytes))
            && log.name != subject.name.as_str()
        {
            let why = format!(
                "it is the log of {}, and the image is {}",
                log.name, subject.name
            );
            damaged(report, object.key, why);
        }
    }
    // Of a writer that was killed, or of an older version: the next one renews it.
    let lists = attest::stale(backend)?;
    let lists = lists.iter().map(attest::list_key);
    report.strays.extend(lists.filter(|key| !bad.contains(key)));
    listed(store, backend, report)?;
    Ok(hints)
}

/// Compares the catalogue with the images that are there.
fn listed(store: &Store, backend: &dyn ListableBackend, report: &mut Report) -> Result<()> {
    let rows = |images: Vec<ListedImage>| -> BTreeMap<ImageId, (ImageName, u64)> {
        let rows = images.into_iter();
        rows.map(|row| (row.image, (row.name, row.published)))
            .collect()
    };
    let right = rows(store.current_catalogue(None, None)?);
    let key = catalogue::KEY.to_owned();
    let there = match backend.get(catalogue::KEY, catalogue::MAX_BYTES) {
        Ok(Some(json)) => match Catalogue::from_json(&json) {
            Ok(there) => rows(there),
            Err(error) => {
                damaged(report, key, error.to_string());
                return Ok(());
            }
        },
        Ok(None) => BTreeMap::new(),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            damaged(report, key, error.to_string());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    // One of the two is wrong about the time, and neither is signed.
    let other_time = |(image, (_, time)): &(&ImageId, &(ImageName, u64))| {
        there.get(image).is_some_and(|(_, there)| there != time)
    };
    let times = right.iter().filter(other_time);
    report
        .strays
        .extend(times.map(|(image, _)| Hint::key(image)));
    if there != right {
        // Of a writer or collector that was killed, or is at work: the next one renews it.
        report.strays.push(key);
    }
    Ok(())
}

/// Whether a key is one of a folder's own.
type IsOurs<'f> = &'f dyn Fn(&str) -> bool;

/// Looks in the folders of packs, pins, inputs, deltas and inventories for what is none.
pub(super) fn foreign(backend: &dyn ListableBackend, report: &mut Report) -> Result<()> {
    let is_pack =
        |key: &str| pack::parse_pack_key(key).is_some() || pack::parse_index_key(key).is_some();
    let is_input = |key: &str| Sha256::from_hex(&key[INPUTS.len()..]).is_ok();
    let is_pin = |key: &str| pins::parse_key(key).is_some();
    let is_delta =
        |key: &str| delta::parse_delta_key(key).is_some() || delta::parse_pair_key(key).is_some();
    let is_inventory = |key: &str| inventory::parse_key(key).is_some();
    let folders: [(&str, IsOurs<'_>); 5] = [
        (pack::FOLDER, &is_pack),
        (INPUTS, &is_input),
        (PINS, &is_pin),
        (delta::FOLDER, &is_delta),
        (inventory::FOLDER, &is_inventory),
    ];
    for (folder, is_ours) in folders {
        let keys = backend.list_all(folder)?.into_iter().map(|one| one.key);
        report.foreign.extend(keys.filter(|key| !is_ours(key)));
    }
    Ok(())
}

fn add(subjects: &mut BTreeMap<ImageId, CheckedImage>, manifest: &Manifest, key: String) {
    let subject = subjects
        .entry(manifest.image)
        .or_insert_with(|| CheckedImage {
            name: manifest.name.clone(),
            size: manifest.size,
            released: Vec::new(),
            manifests: Vec::new(),
            locks: BTreeSet::new(),
        });
    subject.manifests.push((manifest.layout.clone(), key));
    subject.locks.insert((manifest.recipe, manifest.lock));
}

pub(super) fn damaged(report: &mut Report, key: String, why: String) {
    report.damage.push(Damage { key, why });
}

/// Reads pins, hints, logs, attestations and deltas: no image depends on them.
pub(super) fn beside(
    backend: &dyn ListableBackend,
    quick: bool,
    report: &mut Report,
) -> Result<()> {
    for object in backend.list_all(PINS)? {
        let Some(image) = pins::parse_key(&object.key) else {
            continue;
        };
        if let Err(error) = pins::read(backend, &image) {
            if error.kind() != ErrorKind::Corrupt {
                return Err(error);
            }
            let why = format!("{error}; {PIN_AGAIN}");
            damaged(report, object.key, why);
        }
    }
    for object in backend.list_all("hints/")? {
        let parse = |json: Vec<u8>| Hint::from_json(&json).map(drop);
        read(backend, object, hint::MAX_BYTES, parse, report)?;
    }
    for object in backend.list_all("logs/")? {
        let parse = |bytes: Vec<u8>| BuildLog::decode(&bytes).map(drop);
        read(backend, object, build_log::MAX_BYTES, parse, report)?;
    }
    for object in backend.list_all(attest::FOLDER)? {
        let key = object.key.clone();
        if let Some(image) = attest::parse_list_key(&key) {
            let parse = |json: Vec<u8>| attest::from_json(&image, &json).map(drop);
            read(backend, object, attest::MAX_BYTES, parse, report)?;
            continue;
        }
        let named = |bytes: Vec<u8>| {
            let digest = Sha256::of(&bytes).hex();
            if key.ends_with(&format!("/{digest}.json")) {
                return dsse::Envelope::from_json(&bytes).map(drop);
            }
            Err(Error::corrupt(&key, "its digest is not its name"))
        };
        read(backend, object, dsse::MAX_BYTES, named, report)?;
    }
    let found = deltas::list(backend)?;
    let mut good: BTreeMap<&str, u64> = BTreeMap::new();
    let mut bad = BTreeSet::new();
    for one in &found {
        let key = one.object.key.as_str();
        if let Some(why) = deltas::check(backend, &one.object, quick) {
            damaged(report, key.to_owned(), why);
            bad.insert(key);
        } else if one.pairs.is_empty() {
            // Made before its description, by somebody who was killed.
            report.strays.push(key.to_owned());
        } else {
            good.insert(key, one.object.size);
        }
    }
    for one in &found {
        let Some(description) = &one.description else {
            continue;
        };
        let key = description.delta_key();
        let size = good.get(key.as_str()).copied();
        if !bad.contains(key.as_str())
            && let Some(why) = deltas::check_description(backend, description, size)?
        {
            damaged(report, one.object.key.clone(), why);
        }
    }
    Ok(())
}

fn read(
    backend: &dyn ListableBackend,
    object: ObjectMeta,
    limit: u64,
    parse: impl Fn(Vec<u8>) -> Result<()>,
    report: &mut Report,
) -> Result<()> {
    let parsed = match backend.get(&object.key, limit) {
        Ok(Some(bytes)) => parse(bytes),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match parsed {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            damaged(report, object.key, error.to_string());
            Ok(())
        }
        parsed => parsed,
    }
}

/// Hashes all inputs. Returns those that are damaged.
pub(super) fn inputs(
    backend: &dyn ListableBackend,
    inputs: &[ObjectMeta],
    quick: bool,
    meter: &Meter<'_>,
    report: &mut Report,
) -> BTreeSet<Sha256> {
    let named: Vec<(Sha256, &ObjectMeta)> = inputs
        .iter()
        .filter_map(|object| Some((Sha256::from_hex(&object.key[INPUTS.len()..]).ok()?, object)))
        .collect();
    report.inputs.count = named.len() as u64;
    report.inputs.bytes = named.iter().map(|(_, object)| object.size).sum();
    let mut bad = BTreeSet::new();
    if quick {
        return bad;
    }
    let found = parallel::each(
        &named,
        backend.is_remote(),
        |(_, object)| -> Result<Sha256> {
            let (mut hasher, mut offset) = (sha2::Sha256::new(), 0);
            while offset < object.size {
                let len = (object.size - offset).min(PIECE);
                hasher.update(backend.get_range(&object.key, offset, len)?);
                offset += len;
                meter.add(len);
            }
            Ok(Sha256::finish(hasher))
        },
    );
    for ((digest, object), found) in named.into_iter().zip(found) {
        let why = match found {
            Ok(found) if found == digest => continue,
            Ok(found) => format!("its digest is {found}"),
            Err(error) => error.to_string(),
        };
        damaged(report, object.key.clone(), why);
        bad.insert(digest);
    }
    bad
}

/// Says which images could not be built again.
pub(super) fn builds(
    store: &Store,
    subjects: &BTreeMap<ImageId, CheckedImage>,
    inputs: &[ObjectMeta],
    bad: &BTreeSet<Sha256>,
    locks: super::LockReader<'_>,
    report: &mut Report,
) {
    let here: BTreeSet<Sha256> = inputs
        .iter()
        .filter_map(|object| Sha256::from_hex(&object.key[INPUTS.len()..]).ok())
        .collect();
    for (image, subject) in subjects {
        let mut needed = BTreeSet::new();
        for (recipe, lock) in &subject.locks {
            needed.extend([*recipe, *lock]);
            if let Ok(Some(text)) = store.input(lock, MAX_LOCK) {
                needed.extend(locks(&text).unwrap_or_default());
            }
        }
        let missing = needed.iter().filter(|input| !here.contains(input)).count();
        if missing > 0 {
            report.unbuildable.push((*image, missing as u64));
        }
        let damaged: Vec<_> = needed.intersection(bad).collect();
        if let Some(first) = damaged.first() {
            report.affected.push(AffectedImage {
                image: *image,
                name: Some(subject.name.clone()),
                released: subject.released.clone(),
                why: format!(
                    "{} inputs of its build are damaged, the first is {first}",
                    damaged.len()
                ),
                entries: Vec::new(),
                more: 0,
                whole: true,
            });
        }
    }
}
