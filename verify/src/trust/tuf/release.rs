//! From trusted metadata to one manifest.

use std::collections::BTreeMap;

use store::digest::{ImageId, Sha256};
use store::manifest::{MAX_BYTES, Manifest};
use store::name::{EnvName, ImageName};
use store::tuf::waves::{Member, Waves};
use store::tuf::{ReleaseCustom, Verdict, paths};

use super::core::{Listing, Target};
use super::error::{Error, ErrorKind, Result};
use super::repository::Repository;
use super::state::Floor;
use crate::error::INCOMPLETE;

/// A release whose manifest is what the environment signed for.
#[derive(Clone, Debug)]
pub struct VerifiedRelease {
    /// The manifest.
    pub manifest: Manifest,
    /// The number of the release.
    pub seq: u64,
    /// The image.
    pub image: ImageId,
    /// The oldest release that a node may go back to.
    pub min_seq: u64,
    /// The manifest as it was signed, byte for byte.
    pub json: Vec<u8>,
}

/// Who asks for a release.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// This node.
    pub node: Member<'a>,
    /// The release that is active on it: it has that one, whatever its waves say.
    pub has: Option<(u64, ImageId)>,
    /// Whether an operator takes a release ahead of its waves; one that is halted is nobody's.
    pub ahead: bool,
}

/// The newest release of an image, where it has not reached this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The name of the image.
    pub name: ImageName,
    /// The number of the release.
    pub seq: u64,
    /// Its waves.
    pub waves: Waves,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, seq, waves } = self;
        write!(f, "release {seq} of {name} is {}", waves.standing())?;
        match waves.halted() {
            Some(reason) => write!(f, ": {reason}"),
            None => f.write_str(" and has not reached this node"),
        }
    }
}

/// A release as the metadata has it: its number, the file of its manifest, and what was signed
/// beside that.
pub(super) type Found = (u64, Target, ReleaseCustom);

/// Finds the newest release of `name` that reaches a node, or that it has, and that may run; and the
/// newest of all, where that is another one.
pub(super) fn reached(
    (core, floor): (&dyn Listing, &Floor),
    env: &EnvName,
    name: &ImageName,
    asker: Asker<'_>,
) -> Result<(Found, Option<Held>)> {
    let mut seqs: Vec<u64> = core
        .target_names()
        .into_iter()
        .filter_map(paths::parse_target_name)
        .filter_map(|(found, seq)| (found == *name).then_some(seq))
        .collect();
    seqs.sort_unstable();
    let mut held = None;
    for seq in seqs.into_iter().rev() {
        let (_, custom) = read(core, env, name, seq)?;
        let has = asker.has == Some((seq, custom.image));
        if let Some(waves) = custom.waves.filter(|_| !has) {
            let reaches = if asker.ahead {
                waves.halted().is_none()
            } else {
                waves.reaches(env, name, seq, asker.node)
            };
            if !reaches {
                let name = name.clone();
                held.get_or_insert(Held { name, seq, waves });
                continue;
            }
        }
        match find((core, floor), env, name, Some(seq)) {
            Ok(found) => return Ok((found, held)),
            // What replaces it is still on its way to this node.
            Err(error) if error.kind() == ErrorKind::Revoked && held.is_some() && !has => {}
            Err(error) if error.kind() == ErrorKind::TooOld && held.is_some() => break,
            Err(error) => return Err(error),
        }
    }
    let Some(held) = held else {
        // There is none: the words for that are those of any other question.
        return find((core, floor), env, name, None).map(|found| (found, None));
    };
    Err(not_reached(&held))
}

fn not_reached(held: &Held) -> Error {
    let text = format!("no release of {} is for this node yet: {held}", held.name);
    let hint = match held.waves.halted() {
        Some(_) => "it takes the next release, or the end of the halt",
        None => "wait for its stage, or take it now with --ahead",
    };
    Error::new(ErrorKind::NotReached, text).with_hint(hint)
}

/// Refuses a release that is halted.
pub(super) fn is_not_halted(name: &ImageName, seq: u64, custom: &ReleaseCustom) -> Result<()> {
    let waves = custom.waves.clone();
    let Some(waves) = waves.filter(|waves| waves.halted().is_some()) else {
        return Ok(());
    };
    let name = name.clone();
    let held = Held { name, seq, waves };
    Err(Error::new(ErrorKind::NotReached, held.to_string()))
}

/// Finds release `seq` of `name`, or the newest, and asks the newest release of
/// that name whether it may run.
pub(super) fn find(
    (core, floor): (&dyn Listing, &Floor),
    env: &EnvName,
    name: &ImageName,
    seq: Option<u64>,
) -> Result<Found> {
    let seqs = core.target_names().into_iter().filter_map(|target| {
        let (found, seq) = paths::parse_target_name(target)?;
        (found == *name).then_some(seq)
    });
    let newest = seqs.max().ok_or_else(|| {
        Error::new(
            ErrorKind::NoRelease,
            format!("no image called {name} is released in {env}"),
        )
    })?;
    // The versions of TUF guard the files; this guards the meaning: whoever
    // holds a targets key cannot take a name back to an earlier release.
    let seen = floor.seq.get(name.as_str()).copied().unwrap_or_default();
    if newest < seen {
        let text = format!(
            "the newest release of {name} in {env} is {newest}, and {seen} was seen before"
        );
        return Err(Error::new(ErrorKind::Rollback, text));
    }
    let (_, governing) = read(core, env, name, newest)?;
    let seq = seq.unwrap_or(newest);
    let too_old = || {
        let text = format!(
            "release {seq} of {name} is older than {env} allows: {} is the oldest",
            governing.min_seq
        );
        Error::new(ErrorKind::TooOld, text)
    };
    // An environment does not list for ever what nobody may run.
    if seq < governing.min_seq && core.target(&paths::target_name(name, seq)).is_none() {
        return Err(too_old());
    }
    let (target, custom) = read(core, env, name, seq)?;
    let mut verdict = governing.allows(&custom.image, seq);
    if verdict == Verdict::Allowed && is_revoked(core, env, &custom.image)? {
        verdict = Verdict::Revoked;
    }
    match verdict {
        Verdict::Allowed => Ok((seq, target, custom)),
        Verdict::Revoked => {
            let text = format!(
                "release {seq} of {name} ({}) was revoked in {env}",
                custom.image
            );
            Err(Error::new(ErrorKind::Revoked, text).with_hint(
                "it takes a newer release, or one that is on the node and was not revoked",
            ))
        }
        Verdict::TooOld => Err(too_old()),
    }
}

/// Whether the newest release of any name revokes the image: bytes that must not run must not
/// run under another name.
pub(super) fn is_revoked(core: &dyn Listing, env: &EnvName, image: &ImageId) -> Result<bool> {
    let mut newest: BTreeMap<ImageName, u64> = BTreeMap::new();
    for target in core.target_names() {
        if let Some((name, seq)) = paths::parse_target_name(target) {
            let known = newest.entry(name).or_default();
            *known = seq.max(*known);
        }
    }
    for (name, seq) in newest {
        let (_, custom) = read(core, env, &name, seq)?;
        if custom.revoked.contains(image) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read(
    core: &dyn Listing,
    env: &EnvName,
    name: &ImageName,
    seq: u64,
) -> Result<(Target, ReleaseCustom)> {
    let target = core.target(&paths::target_name(name, seq)).ok_or_else(|| {
        let text = format!("there is no release {seq} of {name} in {env}");
        Error::new(ErrorKind::NoRelease, text)
    })?;
    let wrong = |why: &dyn std::fmt::Display| contradiction(name, seq, why);
    let custom: ReleaseCustom =
        serde_json::from_value(target.custom.clone()).map_err(|e| wrong(&e))?;
    if custom.env != *env {
        let text = format!(
            "release {seq} of {name} was signed for {}, not for {env}",
            custom.env
        );
        return Err(Error::new(ErrorKind::Environment, text));
    }
    if custom.seq != seq {
        return Err(wrong(&format_args!(
            "it calls itself release {}",
            custom.seq
        )));
    }
    Ok((target, custom))
}

/// TUF 5.7: fetches the manifest of a release, no byte more than was signed
/// for, and believes it once length, hash and content agree.
pub(super) fn fetch(
    repository: &dyn Repository,
    name: &ImageName,
    (seq, target, custom): Found,
) -> Result<VerifiedRelease> {
    let what = format!("the manifest of release {seq} of {name}");
    if target.length > MAX_BYTES {
        let text = format!("{what} has more than the {MAX_BYTES} bytes that it may have");
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    let expected = expected(&target);
    let expected = expected.ok_or_else(|| contradiction(name, seq, &"it has no sha256"))?;
    // 5.7.3: consistent snapshots put the hash before the file's name.
    let path = format!("{name}/{}.{seq}.json", expected.hex());
    let json = repository.target(&path, target.length)?.ok_or_else(|| {
        Error::new(
            ErrorKind::Incomplete,
            format!("{what} is missing from the store"),
        )
        .with_hint(INCOMPLETE)
    })?;
    if !is_signed(&target, &json) {
        let text = format!("{what} is not the file that was signed for");
        return Err(Error::new(ErrorKind::Mismatch, text)
            .with_hint("the store is damaged or was changed; fetch from another copy of it"));
    }
    believe(name, seq, &custom, json)
}

fn expected(target: &Target) -> Option<Sha256> {
    let hex = target.sha256.as_deref()?;
    Sha256::from_hex(hex).ok()
}

/// Whether these bytes are the ones that were signed for.
pub(super) fn is_signed(target: &Target, json: &[u8]) -> bool {
    json.len() as u64 == target.length && expected(target) == Some(Sha256::of(json))
}

/// A manifest that was signed for, if it says the same as the signed metadata.
pub(super) fn believe(
    name: &ImageName,
    seq: u64,
    custom: &ReleaseCustom,
    json: Vec<u8>,
) -> Result<VerifiedRelease> {
    let wrong = |why: &dyn std::fmt::Display| contradiction(name, seq, why);
    let what = format!("the manifest of release {seq} of {name}");
    let manifest = Manifest::from_json(&json).map_err(|e| {
        Error::new(ErrorKind::Release, format!("{what} cannot be read")).with_source(e)
    })?;
    if manifest.name != *name {
        return Err(wrong(&format_args!("its manifest is of {}", manifest.name)));
    }
    if manifest.image != custom.image {
        return Err(wrong(&format_args!(
            "its manifest names {}, not {}",
            manifest.image, custom.image
        )));
    }
    if manifest.arch != custom.arch || manifest.size != custom.size {
        return Err(wrong(&"its manifest has another architecture or size"));
    }
    Ok(VerifiedRelease {
        image: manifest.image,
        manifest,
        seq,
        min_seq: custom.min_seq,
        json,
    })
}

fn contradiction(name: &ImageName, seq: u64, why: &dyn std::fmt::Display) -> Error {
    let text = format!("release {seq} of {name} contradicts itself: {why}");
    Error::new(ErrorKind::Release, text)
}
