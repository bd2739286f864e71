//! What a change says of releases: new ones, those that nodes may not run, and waves.

use std::collections::BTreeMap;

use super::Review;
use crate::digest::{ImageId, Sha256};
use crate::manifest::Manifest;
use crate::name::{EnvName, ImageName};
use crate::tuf::consistency::{Acts, contradicts, log_tells, only_revokes};
use crate::tuf::draft::floors;
use crate::tuf::error::Result;
use crate::tuf::log::{LogEntry, LogHead};
use crate::tuf::metadata::{Hashes, SignedFile, Target, Targets, next_version};
use crate::tuf::proposal::Proposal;
use crate::tuf::waves::{Step, Waves};
use crate::tuf::{ReleaseCustom, paths};

/// Adds to a review what becomes of the list of releases and of the log.
pub(super) fn targets(
    old: Option<&SignedFile<Targets>>,
    next: &SignedFile<Targets>,
    proposal: &Proposal,
    review: &mut Review,
) -> Result<()> {
    let new = &next.signed;
    read_log(old.and_then(|old| old.signed.log), new, proposal, review)?;
    let none = BTreeMap::new();
    let before = old.map_or(&none, |old| &old.signed.targets);
    let mut acts = Acts::default();
    let was = old.map(|old| floors(&old.signed)).unwrap_or_default();
    for (name, is) in floors(new) {
        let was = was.get(&name).copied().unwrap_or(1);
        acts.floors.insert(name, (was, is));
    }
    let mut comparison = Comparison {
        environment: &proposal.environment,
        before,
        new,
        manifests: proposal.manifests.clone(),
        acts,
        review,
    };
    for (path, target) in &new.targets {
        comparison.release(path, target)?;
    }
    let Comparison {
        manifests, acts, ..
    } = comparison;
    if let Some(path) = manifests.keys().next() {
        return Err(contradicts(format!(
            "it has a manifest of {path}, which it does not release"
        )));
    }
    retired(before, new, review)?;
    log_tells(&acts, &review.entries, (before, new))?;
    for entry in &review.entries {
        if let Some(reason) = &entry.reason {
            review
                .changes
                .push(format!("reason: {}", reason.escape_default()));
        }
        if let Some(from) = &entry.from {
            review.changes.push(format!(
                "{} comes from {} {}",
                entry.name, from.env, from.seq
            ));
        }
    }
    review.changes.push(format!(
        "targets {} run out at {}",
        new.head.version, new.head.expires
    ));
    Ok(())
}

/// Reads the new entries of the log, which goes on where it ended.
fn read_log(
    mut end: Option<LogHead>,
    new: &Targets,
    proposal: &Proposal,
    review: &mut Review,
) -> Result<()> {
    for text in &proposal.log {
        let head = LogHead {
            length: end.map_or(0, |end| end.length) + 1,
            sha256: Sha256::of(text.as_bytes()),
        };
        let entry = LogEntry::read(text.as_bytes(), head)?;
        if !entry.is_written_as(text) {
            return Err(contradicts(
                "an entry of its log is longer than what it says",
            ));
        }
        if entry.previous != end.map(|end| end.sha256) || entry.targets != new.head.version {
            return Err(contradicts("its log does not go on where the log ends"));
        }
        end = Some(head);
        review.entries.push(entry);
    }
    if new.log != end {
        return Err(contradicts("its targets do not name the end of the log"));
    }
    Ok(())
}

/// The list of releases, compared one release after the other.
struct Comparison<'a> {
    environment: &'a EnvName,
    before: &'a BTreeMap<String, Target>,
    new: &'a Targets,
    /// Manifests of the change that belong to no release yet.
    manifests: BTreeMap<String, String>,
    acts: Acts,
    review: &'a mut Review,
}

impl Comparison<'_> {
    /// Says what becomes of a release, if anything.
    fn release(&mut self, path: &str, target: &Target) -> Result<()> {
        let was = self.before.get(path);
        if was.is_some_and(|was| {
            was.length == target.length
                && was.hashes == target.hashes
                && was.custom == target.custom
        }) {
            return Ok(());
        }
        let (name, custom) = self.read(path, target)?;
        let seq = custom.seq;
        let newest = self.of_name(&name).map(|(seq, _)| seq).max();
        let newest = newest.unwrap_or_default();
        let past = if let Some(was) = was {
            let before = only_revokes(path, was, target)?;
            self.waves(path, &name, before.waves.as_ref(), &custom)?;
            if seq != newest {
                return Err(contradicts(format_args!(
                    "{path} changes, and release {newest} is the one that is asked"
                )));
            }
            Some(before)
        } else if seq != next_version(newest)? {
            return Err(contradicts(format_args!(
                "release {seq} of {name} follows {newest}"
            )));
        } else {
            self.added(path, target, &name, &custom)?;
            // What the newest release before this one said.
            let last = self.of_name(&name).max_by_key(|(seq, _)| *seq);
            last.and_then(|(_, last)| serde_json::from_value(last.custom.clone()).ok())
        };
        self.revoked(&name, past.as_ref(), &custom)?;
        self.floor(&name, past.as_ref(), &custom)
    }

    /// The releases of a name that were there before, with their numbers.
    fn of_name(&self, name: &ImageName) -> impl Iterator<Item = (u64, &Target)> {
        self.before.iter().filter_map(move |(path, target)| {
            let (found, seq) = paths::parse_target_name(path)?;
            (found == *name).then_some((seq, target))
        })
    }

    /// The name and the facts of a release that is new or changed.
    fn read(&self, path: &str, target: &Target) -> Result<(ImageName, ReleaseCustom)> {
        let (Some((name, seq)), Ok(custom)) = (
            paths::parse_target_name(path),
            serde_json::from_value::<ReleaseCustom>(target.custom.clone()),
        ) else {
            return Err(contradicts(format_args!(
                "the target {path}, which is no release, is new or changed"
            )));
        };
        if custom.env != *self.environment || custom.seq != seq {
            return Err(contradicts(format!(
                "{path} calls itself {} of {}",
                custom.seq, custom.env
            )));
        }
        if serde_json::to_value(&custom).ok().as_ref() != Some(&target.custom) {
            return Err(contradicts(format_args!(
                "{path} has fields that this version does not know"
            )));
        }
        Ok((name, custom))
    }

    /// Says what is released anew, whose manifest the change must have.
    fn added(
        &mut self,
        path: &str,
        target: &Target,
        name: &ImageName,
        custom: &ReleaseCustom,
    ) -> Result<()> {
        let text = self
            .manifests
            .remove(path)
            .ok_or_else(|| contradicts(format!("it does not have the manifest of {path}")))?;
        if Hashes::of(text.as_bytes()) != target.hashes || text.len() as u64 != target.length {
            return Err(contradicts(format!(
                "{path} is not the manifest that it has"
            )));
        }
        let manifest = Manifest::from_json(text.as_bytes())
            .map_err(|e| contradicts(format!("the manifest of {path}: {e}")))?;
        if manifest.to_json() != text.as_bytes() {
            return Err(contradicts(format_args!(
                "the manifest of {path} is longer than what it says"
            )));
        }
        let described = (&manifest.image, &manifest.arch, manifest.size);
        if described != (&custom.image, &custom.arch, custom.size) || manifest.name != *name {
            return Err(contradicts(format!(
                "{path} and its manifest are of different images"
            )));
        }
        let seq = custom.seq;
        self.acts.released.insert((name.clone(), seq), custom.image);
        self.review
            .changes
            .push(format!("release {seq} of {name} is {}", custom.image));
        if let Some(begun) = &custom.waves {
            self.begin_waves(path, (name, seq), begun)?;
        }
        self.review.releases.push(manifest);
        Ok(())
    }

    /// Says which images must not run any more.
    fn revoked(
        &mut self,
        name: &ImageName,
        past: Option<&ReleaseCustom>,
        custom: &ReleaseCustom,
    ) -> Result<()> {
        let revoked = past.map_or(&[][..], |past| &past.revoked);
        let is_new = |image: &&ImageId| !revoked.contains(image);
        for image in custom.revoked.iter().filter(is_new) {
            self.acts.revoked.insert((name.clone(), *image));
            let which = numbers(self.new, name, image);
            self.review
                .changes
                .push(format!("{name}{which}: {image} must not run any more"));
        }
        if let Some(image) = revoked.iter().find(|image| !custom.revoked.contains(image)) {
            return Err(contradicts(format_args!(
                "{image} would not be revoked any more"
            )));
        }
        Ok(())
    }

    /// Says which release is the oldest that nodes may go back to, if that was raised.
    fn floor(
        &mut self,
        name: &ImageName,
        past: Option<&ReleaseCustom>,
        custom: &ReleaseCustom,
    ) -> Result<()> {
        let (seq, min_seq) = (custom.seq, custom.min_seq);
        let floor = past.map_or(1, |past| past.min_seq);
        if min_seq > seq {
            return Err(contradicts(format_args!(
                "nodes could not run release {seq} of {name}, the newest one"
            )));
        }
        if custom.waves.as_ref().is_some_and(|waves| !waves.is_last()) && min_seq == seq {
            self.review.warnings.push(format!(
                "{name}: nodes that its waves have not reached can install no release at all"
            ));
        }
        if min_seq > floor {
            self.review.changes.push(format!(
                "{name}: nodes may not go back below release {min_seq}"
            ));
        } else if min_seq < floor {
            return Err(contradicts(format_args!(
                "nodes could go back below release {floor} of {name} again"
            )));
        }
        Ok(())
    }

    /// Says what the waves of a new release are.
    fn begin_waves(
        &mut self,
        path: &str,
        (name, seq): (&ImageName, u64),
        begun: &Waves,
    ) -> Result<()> {
        if begun.reached() != 1 || begun.halted().is_some() {
            let standing = begun.standing();
            return Err(contradicts(format_args!(
                "{path} is new, and its waves do not begin: they are {standing}"
            )));
        }
        let changes = &mut self.review.changes;
        changes.push(format!(
            "{name} {seq} reaches nodes in waves: {begun}; now the first of them"
        ));
        changes.push(match begun.rule() {
            Some(rule) => format!("{name} {seq}: a stage is clean when {rule}"),
            None => format!("{name} {seq}: a person decides about each stage"),
        });
        let release = (name.clone(), seq);
        self.acts.waves.insert(release, (None, begun.clone()));
        Ok(())
    }

    /// Says what becomes of the waves of a release: one step at a time, and nothing beside.
    fn waves(
        &mut self,
        path: &str,
        name: &ImageName,
        was: Option<&Waves>,
        custom: &ReleaseCustom,
    ) -> Result<()> {
        let is = custom.waves.as_ref();
        if was == is {
            return Ok(());
        }
        let step = was
            .zip(is)
            .and_then(|(was, is)| Some((was.step_to(is)?, is)));
        let Some((step, is)) = step else {
            return Err(contradicts(format_args!(
                "the waves of {path} change, and not by one stage, a halt or its end"
            )));
        };
        let (seq, standing) = (custom.seq, is.standing());
        self.review.changes.push(match &step {
            Step::Widen => format!("{name} {seq}: its waves go on, now {standing}"),
            Step::Halt { .. } => {
                format!("{name} {seq} is {standing}: nobody gets it who does not have it")
            }
            Step::Resume => format!("{name} {seq}: the halt is over, {standing}"),
        });
        let release = (name.clone(), seq);
        self.acts.waves.insert(release, (Some(step), is.clone()));
        Ok(())
    }
}

/// Says which releases are retired: only those may go that nodes cannot go back to.
fn retired(before: &BTreeMap<String, Target>, new: &Targets, review: &mut Review) -> Result<()> {
    let (floors, mut retired) = (floors(new), BTreeMap::new());
    for path in before
        .keys()
        .filter(|path| !new.targets.contains_key(*path))
    {
        let release = paths::parse_target_name(path);
        let floor = |name| floors.get(name).copied().unwrap_or_default();
        match release {
            Some((name, seq)) if seq < floor(&name) => *retired.entry(name).or_insert(0) += 1,
            _ => {
                return Err(contradicts(format_args!(
                    "{path} would be released no more, and nodes may go back to it"
                )));
            }
        }
    }
    for (name, count) in retired {
        let floor = floors[&name];
        review.changes.push(format!(
            "{name}: {count} releases below {floor} are retired, and kept no longer"
        ));
    }
    Ok(())
}

/// The numbers of the releases of an image under a name, and whether the newest is among them.
fn numbers(targets: &Targets, name: &ImageName, image: &ImageId) -> String {
    let mut of_name = Vec::new();
    for (path, target) in &targets.targets {
        let custom = serde_json::from_value::<ReleaseCustom>(target.custom.clone());
        if let (Some((found, seq)), Ok(custom)) = (paths::parse_target_name(path), custom)
            && found == *name
        {
            of_name.push((seq, custom.image == *image));
        }
    }
    of_name.sort_unstable();
    let newest = of_name.last().is_some_and(|(_, is)| *is);
    let mut which: Vec<_> = of_name.into_iter().filter(|(_, is)| *is).collect();
    let said = if newest { ", its newest release" } else { "" };
    let last = which.pop().map(|(seq, _)| format!(" {seq}{said}"));
    let others = which.into_iter().map(|(seq, _)| format!(" {seq} and"));
    others.chain(last).collect()
}
