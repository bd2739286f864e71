//! What a proposed change may say: what the commands of this version make, and nothing beside.
//!
//! Whoever signs sees sentences, and not the file. So each part of it either has a sentence, or
//! follows from one, or is refused: a field that nobody knows, a log that tells another story
//! than the list of releases, a release that turns into another.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{Error, ErrorKind, Result};
use super::lifetimes::{Lifetimes, expiry};
use super::log::{Action, LogEntry};
use super::metadata::{DraftFile, Key, Role, Root, Target, Targets};
use super::waves::{Step, Waves};
use super::{ReleaseCustom, paths};
use crate::digest::ImageId;
use crate::name::ImageName;

/// The error of a change whose parts do not fit.
pub(super) fn contradicts(why: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Untrusted,
        format!("the proposed change contradicts itself: {why}"),
    )
}

fn unknown(what: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Untrusted,
        format!("the proposed change has {what}, which nobody would be shown"),
    )
}

fn json(of: &impl Serialize) -> Result<Value> {
    serde_json::to_value(of).map_err(contradicts)
}

/// Refuses fields that are neither ours nor were there before.
pub(super) fn only_known_fields<T: Role>(
    part: &DraftFile,
    next: &T,
    extra: &Map<String, Value>,
    before: Option<(&T, &Map<String, Value>)>,
) -> Result<()> {
    let head = before.map(|(before, _)| before.head());
    if !next.head().is_of_our_specification(head) {
        return Err(unknown(format_args!(
            "another spec_version in its {}",
            T::TYPE
        )));
    }
    let none = Map::new();
    let before = before.map_or(&none, |(_, extra)| extra);
    let odd = extra
        .iter()
        .find(|(name, value)| before.get(*name) != Some(*value));
    if let Some((name, _)) = odd {
        return Err(unknown(format_args!(
            "a field {:?} in its {}",
            name,
            T::TYPE
        )));
    }
    if json(next)? != part.signed {
        let what = format_args!("fields in its {} that this version does not know", T::TYPE);
        return Err(unknown(what));
    }
    Ok(())
}

/// Refuses a root that counts a key twice, or that says what no sentence tells.
pub(super) fn root_is_plain(old: Option<&Root>, next: &Root) -> Result<()> {
    if !next.consistent_snapshot {
        return Err(unknown("a root without consistent snapshots"));
    }
    let known = [Root::TYPE, Targets::TYPE, "snapshot", "timestamp"];
    for (role, entry) in &next.roles {
        let before = old.and_then(|old| old.roles.get(role));
        if before.is_none() && !known.contains(&role.as_str()) {
            return Err(unknown(format_args!("a role {role:?} in its root")));
        }
        let ids: BTreeSet<_> = entry.keyids.iter().collect();
        if ids.len() != entry.keyids.len() {
            return Err(contradicts(format_args!("{role} lists a key twice")));
        }
        if !entry.is_plain() && !before.is_some_and(|before| before.has_extra_of(entry)) {
            return Err(unknown(format_args!("fields of the role {role}")));
        }
    }
    for (id, key) in &next.keys {
        if old
            .and_then(|old| old.keys.get(id))
            .is_some_and(|was| was == key)
        {
            continue;
        }
        let plain = key.public().filter(|public| public.id() == *id);
        if plain.is_none_or(|public| *key != Key::from(public)) {
            return Err(unknown(format_args!("a key {id} under another id or form")));
        }
    }
    let used: BTreeSet<_> = next
        .roles
        .values()
        .flat_map(|entry| &entry.keyids)
        .collect();
    if let Some(id) = next.keys.keys().find(|id| !used.contains(id)) {
        return Err(unknown(format_args!("a key {id} that signs for nothing")));
    }
    next.lifetimes.check()?;
    one_id_each(next)
}

/// Clients that count ids would count such a key twice.
fn one_id_each(root: &Root) -> Result<()> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (id, key) in &root.keys {
        if let Some(public) = key.public()
            && let Some(other) = seen.insert(public.hex(), id)
        {
            let text = format!("the key {} has two ids, {other} and {id}", public.hex());
            return Err(contradicts(text));
        }
    }
    Ok(())
}

/// What changes in the list of releases, as it is read from the list alone.
#[derive(Default)]
pub(super) struct Acts {
    /// New releases, and the oldest that nodes may go back to if that was raised.
    pub(super) released: BTreeMap<(ImageName, u64), ImageId>,
    /// What must not run any more, by name.
    pub(super) revoked: BTreeSet<(ImageName, ImageId)>,
    /// Of each name the oldest release that nodes may go back to, before and after.
    pub(super) floors: BTreeMap<ImageName, (u64, u64)>,
    /// Waves that begin with a new release, or that went on by a step.
    pub(super) waves: BTreeMap<(ImageName, u64), (Option<Step>, Waves)>,
}

/// Refuses a release that turns into another one. Of what is signed, the newest release of a name
/// may revoke more, raise what nodes may go back to, and take its waves on by a step.
pub(super) fn only_revokes(path: &str, was: &Target, is: &Target) -> Result<ReleaseCustom> {
    let read = |target: &Target| -> Result<ReleaseCustom> {
        let custom = serde_json::from_value(target.custom.clone());
        custom.map_err(|e| contradicts(format_args!("{path}: {e}")))
    };
    let (before, after) = (read(was)?, read(is)?);
    let kept = ReleaseCustom {
        min_seq: after.min_seq,
        revoked: after.revoked.clone(),
        waves: after.waves.clone(),
        ..before.clone()
    };
    if was.hashes != is.hashes || was.length != is.length || kept != after {
        let what = format_args!("{path}, which was released, is another image or manifest in it");
        return Err(contradicts(what));
    }
    Ok(before)
}

/// Refuses a log that tells another story than the list of releases: each act has its entry.
pub(super) fn log_tells(
    acts: &Acts,
    entries: &[LogEntry],
    (before, targets): (&BTreeMap<String, Target>, &Targets),
) -> Result<()> {
    let (mut released, mut revoked) = (acts.released.clone(), acts.revoked.clone());
    let mut waves = acts.waves.clone();
    let mut floors: BTreeMap<_, _> = acts.floors.iter().collect();
    floors.retain(|_, (was, is)| was != is);
    let custom = |name: &ImageName, seq: u64| -> Option<ReleaseCustom> {
        let path = paths::target_name(name, seq);
        let target = targets.targets.get(&path).or_else(|| before.get(&path))?;
        serde_json::from_value(target.custom.clone()).ok()
    };
    let is_image = |entry: &LogEntry| {
        custom(&entry.name, entry.seq).is_some_and(|custom| custom.image == entry.image)
    };
    let newest = |name: &ImageName| {
        let all = targets.targets.keys();
        let of_name = all.filter_map(|path| paths::parse_target_name(path));
        of_name
            .filter(|(found, _)| found == name)
            .map(|(_, seq)| seq)
            .max()
    };
    // Beside a revocation that another name has already, one that only raises what may run.
    let mut raised = BTreeSet::new();
    for entry in entries {
        let name = &entry.name;
        let stepped = waves.remove(&(name.clone(), entry.seq));
        let (step, is) = stepped.unzip();
        // Waves begin at the time of the entry, and halts have its reason.
        let mut is_told = entry.waves == is
            && entry.waves.as_ref().is_none_or(|waves| {
                let halted = waves.halted();
                entry.act == Action::Halt || (waves.since() == entry.time && halted.is_none())
            });
        let step = step.flatten();
        is_told &= match entry.act {
            Action::Release | Action::Promote => {
                let origin = entry.from.is_some() == (entry.act == Action::Promote);
                origin
                    && step.is_none()
                    && released.remove(&(name.clone(), entry.seq)) == Some(entry.image)
            }
            Action::Widen => is_image(entry) && step == Some(Step::Widen) && is_only_step(entry),
            Action::Resume => is_image(entry) && step == Some(Step::Resume) && is_only_step(entry),
            Action::Halt => {
                let reason = entry.reason.clone().map(|reason| Step::Halt { reason });
                is_image(entry) && step.is_some() && step == reason && entry.from.is_none()
            }
            Action::Revoke => is_image(entry) && revoked.remove(&(name.clone(), entry.image)),
            Action::MinSeq => {
                let last = newest(name).filter(|last| *last == entry.seq);
                let last = last.and_then(|last| custom(name, last));
                entry.min_seq.is_some()
                    && last.is_some_and(|last| last.revoked.contains(&entry.image))
                    && raised.insert(name.clone())
            }
        };
        let floor = acts.floors.get(name).map(|(_, is)| *is);
        let fits = entry.min_seq.is_none_or(|told| Some(told) == floor);
        if !is_told || !fits {
            let act = serde_json::to_string(&entry.act).unwrap_or_default();
            return Err(contradicts(format_args!(
                "its log has {act} of {name} {}, and its list of releases does not",
                entry.seq
            )));
        }
        if entry.min_seq.is_some() {
            floors.remove(name);
        }
    }
    let untold = released.keys().map(|(name, seq)| format!("{name} {seq}"));
    let untold = untold.chain(
        revoked
            .iter()
            .map(|(name, image)| format!("{name} {image}")),
    );
    let untold = untold.chain(floors.keys().map(|name| format!("{name}")));
    let steps = waves.keys();
    let mut untold = untold.chain(steps.map(|(name, seq)| format!("the waves of {name} {seq}")));
    match untold.next() {
        Some(what) => Err(contradicts(format_args!("its log says nothing of {what}"))),
        None => Ok(()),
    }
}

/// Whether an entry says nothing beside a step of waves.
fn is_only_step(entry: &LogEntry) -> bool {
    entry.reason.is_none() && entry.from.is_none()
}

/// Where a list of releases and its whole log contradict each other, if they do: whoever signs lists
/// could leave out of the log what nobody is to see, or take back what it tells.
pub(super) fn contradiction(targets: &Targets, entries: &[LogEntry]) -> Result<Option<String>> {
    let (mut told, mut revoked) = (BTreeMap::new(), BTreeSet::new());
    let mut floors: BTreeMap<&ImageName, u64> = BTreeMap::new();
    // The newest entry about the waves of a release counts.
    let mut waves: BTreeMap<(&ImageName, u64), &LogEntry> = BTreeMap::new();
    for entry in entries {
        if entry.waves.is_some() {
            let last = waves.entry((&entry.name, entry.seq)).or_insert(entry);
            if last.number < entry.number {
                *last = entry;
            }
        }
        match entry.act {
            Action::Release | Action::Promote => {
                if told.insert((&entry.name, entry.seq), entry.image).is_some() {
                    let (name, seq) = (&entry.name, entry.seq);
                    let what = format!("its log tells of the release {name} {seq} twice");
                    return Ok(Some(what));
                }
            }
            Action::Revoke | Action::MinSeq => {
                revoked.insert(entry.image);
            }
            Action::Widen | Action::Halt | Action::Resume => {}
        }
        if let Some(floor) = entry.min_seq {
            let known = floors.entry(&entry.name).or_default();
            *known = floor.max(*known);
        }
    }
    let mut newest: BTreeMap<ImageName, ReleaseCustom> = BTreeMap::new();
    for (path, target) in &targets.targets {
        // Others may list what is no image.
        let Some((name, seq)) = paths::parse_target_name(path) else {
            continue;
        };
        let custom: ReleaseCustom = serde_json::from_value(target.custom.clone())
            .map_err(|e| contradicts(format_args!("{path}: {e}")))?;
        if custom.seq != seq || custom.env != targets.environment {
            let what = format!("{name} {seq} calls itself {} of {}", custom.seq, custom.env);
            return Ok(Some(what));
        }
        if told.get(&(&name, seq)) != Some(&custom.image) {
            let what = format!(
                "its log says nothing of the release {name} {seq}, {}",
                custom.image
            );
            return Ok(Some(what));
        }
        let told_waves = waves
            .get(&(&name, seq))
            .and_then(|entry| entry.waves.as_ref());
        if told_waves != custom.waves.as_ref() {
            let at = |waves: Option<&Waves>| waves.map_or("everywhere".to_owned(), Waves::standing);
            let (told, is) = (at(told_waves), at(custom.waves.as_ref()));
            let what = if told == is {
                format!("its log tells other waves of {name} {seq} than the list")
            } else {
                format!("its log tells that {name} {seq} is {told}, and the list that it is {is}")
            };
            return Ok(Some(what));
        }
        if newest.get(&name).is_none_or(|known| known.seq < seq) {
            newest.insert(name, custom);
        }
    }
    let floor_of = |name: &ImageName| floors.get(name).copied().unwrap_or_default().max(1);
    let listed: BTreeSet<ImageId> = newest
        .values()
        .flat_map(|one| one.revoked.clone())
        .collect();
    if let Some(image) = listed.difference(&revoked).next() {
        return Ok(Some(format!(
            "its log says nothing of the revocation of {image}"
        )));
    }
    if let Some(image) = revoked.difference(&listed).next() {
        return Ok(Some(format!(
            "its log tells that {image} was revoked, and the list does not"
        )));
    }
    for (name, custom) in &newest {
        let floor = floor_of(name);
        if custom.min_seq.max(1) != floor {
            let listed = custom.min_seq;
            let what = format!("its log tells the floor {floor} of {name}, and the list {listed}");
            return Ok(Some(what));
        }
    }
    let is_listed =
        |name: &ImageName, seq: u64| targets.targets.contains_key(&paths::target_name(name, seq));
    let mut all = told.keys();
    if let Some((name, seq)) =
        all.find(|(name, seq)| *seq >= floor_of(name) && !is_listed(name, *seq))
    {
        return Ok(Some(format!(
            "its log tells of the release {name} {seq}, and the list does not"
        )));
    }
    Ok(None)
}

/// An entry that was not written when the targets were drafted that it comes with.
pub(super) fn of_another_time<'e>(
    entries: &'e [LogEntry],
    targets: &Targets,
    days: Lifetimes,
) -> Option<&'e LogEntry> {
    let fits = |entry: &&LogEntry| {
        expiry(entry.time, days.targets).is_ok_and(|end| end == targets.head.expires)
    };
    entries.iter().find(|entry| !fits(entry))
}
