//! What a person means by IMAGE: a digest, `NAME`, `ENV/NAME`, or `ENV/NAME/SEQ`.
//!
//! A name means its newest release, and where nothing was released the newest
//! image of that name. That is not the same: when two recipes make the same tree,
//! it is one image with the first one's manifest, and only its releases know the
//! second name.

use std::collections::BTreeMap;

use store::tuf::{Environment, Release, revoked_images};
use store::{EnvName, ImageName, Manifest, Store};

use super::environments::{self, ReadOnly, open, releases_in};
use super::released::{Released, manifest, not_revoked};
use crate::error::{Context, Error, ErrorKind, Result};

/// The manifest of the image that `text` means.
pub fn image(store: &Store, text: &str) -> Result<Manifest> {
    let missing = |e: &(dyn std::error::Error + 'static)| {
        let hint = e
            .downcast_ref::<store::Error>()
            .and_then(store::Error::own_hint);
        Error::failed(format!(
            "the store has no image `{}`",
            text.escape_default()
        ))
        .because(e)
        .hint(hint.unwrap_or("`imgbuild list` shows them"))
    };
    if let Some((env, name)) = text.split_once('/') {
        let env: EnvName = env.parse().map_err(|e| missing(&e))?;
        return manifest(store, &release(store, &env, name)?);
    }
    if let Ok(name) = text.parse::<ImageName>()
        && let Some(release) = newest(store, &name)
    {
        return manifest(store, &release);
    }
    let image = store.resolve(text).map_err(|e| missing(&e))?;
    store
        .manifest(&image)
        .context(|| "cannot read the image's manifest".into())
}

/// The release that `NAME` or `NAME/SEQ` means in an environment.
pub fn release(store: &Store, env: &EnvName, text: &str) -> Result<Release> {
    release_of(&open(&ReadOnly(store), env)?, text)
}

/// The release that `NAME` or `NAME/SEQ` means in an environment that is open.
pub fn release_of(env: &Environment<'_>, text: &str) -> Result<Release> {
    let shown = text.escape_default();
    let (name, seq) = match text.split_once('/') {
        Some((name, seq)) => (name, Some(seq)),
        None => (text, None),
    };
    let name: ImageName = name
        .parse()
        .map_err(|e| Error::usage(format!("`{shown}` is not the name of a release")).because(&e))?;
    let number = |text: &str| {
        let wrong = || Error::usage(format!("`{shown}` is not NAME/SEQ")).hint("as in dev/web/7");
        text.parse::<u64>().map_err(|_| wrong())
    };
    let seq = seq.map(number).transpose()?;
    let all = releases_in(env)?;
    let fits = |r: &&Release| r.name == name && seq.is_none_or(|seq| r.seq == seq);
    let found = all.iter().filter(fits).max_by_key(|r| r.seq).cloned();
    found.ok_or_else(|| {
        Error::failed(format!(
            "nothing called `{shown}` is released in {}",
            env.name()
        ))
        .hint("`imgbuild list` shows the images")
    })
}

/// Refuses an environment that nobody here has vouched for, or that stands at an earlier state.
pub type Admits<'a> = &'a dyn Fn(&mut Environment<'_>) -> Result<()>;

/// Refuses an environment that nobody here has vouched for.
pub type Vouches<'a> = &'a dyn Fn(&Environment<'_>) -> Result<()>;

/// The image that `text` means, for somebody who signs for it: a name that means
/// different things in different environments is refused, and one whose meaning an environment
/// says that nobody has vouched for.
pub fn the_one(
    store: &Store,
    text: &str,
    admits: Admits<'_>,
    vouches: Vouches<'_>,
) -> Result<Manifest> {
    if let Some((env, name)) = text.split_once('/') {
        let env: EnvName = env.parse().map_err(|e| {
            let shown = env.escape_default();
            Error::usage(format!("`{shown}` is not an environment")).because(&e)
        })?;
        let metadata = ReadOnly(store);
        let mut opened = open(&metadata, &env)?;
        admits(&mut opened)?;
        return manifest(store, &release_of(&opened, name)?);
    }
    let by_digest = |store: &Store| {
        let found = image(store, text)?;
        let digits = text.strip_prefix("blake3:").unwrap_or(text);
        if found.image.hex().starts_with(digits) {
            return Ok(found);
        }
        let text = format!(
            "no environment here has released `{}`",
            text.escape_default()
        );
        Err(Error::failed(text).hint("name it by its digest: `imgbuild list` shows them"))
    };
    let Ok(name) = text.parse::<ImageName>() else {
        return by_digest(store);
    };
    let mut choices = Vec::new();
    for env in environments::all(store)? {
        let metadata = ReadOnly(store);
        let mut opened = open(&metadata, &env)?;
        // One that is vouched for may have been put back to before it had the name.
        if let Err(error) = admits(&mut opened)
            && (vouches(&opened).is_ok() || releases_in(&opened)?.iter().any(|r| r.name == name))
        {
            return Err(error);
        }
        let all = releases_in(&opened)?;
        let of_name = all.into_iter().filter(|r| r.name == name);
        if let Some(release) = of_name.max_by_key(|r| r.seq) {
            choices.push((format!("{env}/{name}/{}", release.seq), release));
        }
    }
    let target = |release: &Release| {
        let path = &release.target_path;
        // The file is called by the digest of the manifest.
        path.rsplit('/')
            .next()
            .unwrap_or(path)
            .split('.')
            .next()
            .map(str::to_owned)
    };
    let Some((_, first)) = choices.first() else {
        return by_digest(store);
    };
    if choices
        .iter()
        .all(|(_, other)| target(other) == target(first))
    {
        return manifest(store, first);
    }
    let mut error = Error::usage(format!(
        "`{name}` is not the same image in every environment"
    ));
    for (shown, release) in &choices {
        error = error.detail(format!("{shown} is {}", release.image));
    }
    Err(error.hint(format!("name the one that you mean, as {}", choices[0].0)))
}

/// Where an image is released with this manifest, as `ENV/NAME/SEQ`.
pub fn releases_of(
    store: &Store,
    manifest: &Manifest,
    vouches: Vouches<'_>,
) -> Result<Vec<String>> {
    let digest = store::Sha256::of(&manifest.to_json()).hex();
    let mut found = Vec::new();
    for env in environments::all(store)? {
        let metadata = ReadOnly(store);
        let opened = open(&metadata, &env)?;
        let all = releases_in(&opened)?;
        let mut same = all.iter().filter(|r| r.image == manifest.image).peekable();
        let stranger = match same.peek() {
            Some(_) if vouches(&opened).is_err() => ", which nobody here has vouched for",
            _ => "",
        };
        found.extend(same.map(|r| {
            let other = if r.target_path.contains(&digest) {
                ""
            } else {
                ", with another manifest"
            };
            format!("{env}/{}/{}{other}{stranger}", r.name, r.seq)
        }));
    }
    Ok(found)
}

/// The manifests of the newest releases in an environment, one of each name, without images that
/// were revoked there.
pub fn newest_in(store: &Store, env: &EnvName) -> Result<Vec<Manifest>> {
    let metadata = ReadOnly(store);
    let all = releases_in(&open(&metadata, env)?)?;
    let revoked = revoked_images(&all);
    let mut newest: BTreeMap<&ImageName, &Release> = BTreeMap::new();
    for release in all
        .iter()
        .filter(|release| !revoked.contains(&release.image))
    {
        let known = newest.entry(&release.name).or_insert(release);
        if release.seq > known.seq {
            *known = release;
        }
    }
    let newest = newest.into_values();
    newest.map(|release| manifest(store, release)).collect()
}

fn newest(store: &Store, name: &ImageName) -> Option<Release> {
    let all = environments::released_names(store).into_iter();
    all.filter(|r| r.name == *name).max_by_key(|r| r.seq)
}

/// The release that `ENV/NAME` or `ENV/NAME/SEQ` means, for somebody who builds on it: its
/// environment is admitted, nothing of it has run out, and it is not revoked there.
pub fn admitted(
    store: &Store,
    text: &str,
    admits: Admits<'_>,
    now: jiff::Timestamp,
) -> Result<Released> {
    let (name, release) = text.split_once('/').unwrap_or((text, ""));
    let name: EnvName = name.parse().map_err(|e| {
        let shown = name.escape_default();
        Error::usage(format!("`{shown}` is not an environment")).because(&e)
    })?;
    let metadata = ReadOnly(store);
    let mut env = open(&metadata, &name)?;
    admits(&mut env)?;
    if let Some((role, end)) = env.expiries().into_iter().find(|(_, end)| *end <= now) {
        let what = format!("the {role} of {name} has run out at {end}");
        return Err(Error::new(ErrorKind::Refused, what).hint(format!(
            "whoever keeps {name} renews it: imgbuild env refresh {name}"
        )));
    }
    let found = release_of(&env, release)?;
    not_revoked(store, &name, &releases_in(&env)?, &found)
}

/// The release of this name and number in an environment. An image that was revoked there
/// is refused.
pub fn released_as(
    store: &Store,
    env: &Environment<'_>,
    name: &ImageName,
    seq: u64,
) -> Result<Released> {
    let found = release_of(env, &format!("{name}/{seq}"))?;
    not_revoked(store, env.name(), &releases_in(env)?, &found)
}
