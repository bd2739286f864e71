//! From trusted metadata to one manifest.

use std::collections::BTreeMap;

use store::digest::{ImageId, Sha256};
use store::manifest::{MAX_BYTES, Manifest};
use store::name::{EnvName, ImageName};
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

/// Finds release `seq` of `name`, or the newest, and asks the newest release of
/// that name whether it may run.
pub(super) fn find(
    (core, floor): (&dyn Listing, &Floor),
    env: &EnvName,
    name: &ImageName,
    seq: Option<u64>,
) -> Result<(u64, Target, ReleaseCustom)> {
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
    (seq, target, custom): (u64, Target, ReleaseCustom),
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
