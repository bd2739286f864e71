//! What a person means by IMAGE: a digest, `NAME`, `ENV/NAME`, or `ENV/NAME/SEQ`.
//!
//! A name means its newest release, and where nothing was released the newest
//! image of that name. That is not the same: when two recipes make the same tree,
//! it is one image with the first one's manifest, and only its releases know the
//! second name.

use std::collections::BTreeMap;
use std::path::Path;

use store::tuf::{Environment, Guard, MetadataStore, Policy, Release, revoked_images};
use store::{EnvName, ImageId, ImageName, Manifest, Sha256, Store};

use super::FIRST_ENVIRONMENT;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lockfile::{self, Base, ImportRecord, Lock};
use crate::recipe::Recipe;

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
        return released(store, &release(store, &env, name)?);
    }
    if let Ok(name) = text.parse::<ImageName>()
        && let Some(release) = newest(store, &name)
    {
        return released(store, &release);
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

/// The same in an environment that is open.
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
        return released(store, &release_of(&opened, name)?);
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
    for env in environments(store)? {
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
        return released(store, first);
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
    for env in environments(store)? {
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

/// In which environments each image was revoked. Those that cannot be read are left out, and a
/// web server lists none: what `text` names is looked at in any case.
pub fn revocations(store: &Store, text: &str) -> BTreeMap<ImageId, Vec<EnvName>> {
    let mut envs = environments(store).unwrap_or_default();
    let named = text.split_once('/').and_then(|(env, _)| env.parse().ok());
    envs.extend(named.filter(|env| !envs.contains(env)));
    let mut found: BTreeMap<ImageId, Vec<EnvName>> = BTreeMap::new();
    for env in envs {
        for image in revoked_images(&releases(store, &env).unwrap_or_default()) {
            found.entry(image).or_default().push(env.clone());
        }
    }
    found
}

/// The policies of the environments of a store, for the names that they give to keys.
/// Environments that cannot be read have none.
pub fn policies(store: &Store) -> Vec<Policy> {
    let metadata = ReadOnly(store);
    let opened = environments(store).unwrap_or_default().into_iter();
    let opened = opened.filter_map(|name| Environment::open(&metadata, &name).ok());
    opened.filter_map(|env| env.policy().cloned()).collect()
}

/// The environments of a store; none where it cannot list them.
fn environments(store: &Store) -> Result<Vec<EnvName>> {
    Ok(listed_environments(store)?.unwrap_or_default())
}

/// The environments of a store; `None` where it cannot list them.
pub fn listed_environments(store: &Store) -> Result<Option<Vec<EnvName>>> {
    let failed = || "cannot list the environments".to_owned();
    let Some(listed) = store.backend().list("env/").context(failed)? else {
        return Ok(None);
    };
    let mut names = Vec::new();
    for key in listed {
        let name = key.trim_start_matches("env/").trim_end_matches('/');
        if let Ok(name) = name.parse::<EnvName>()
            && Environment::exists(&ReadOnly(store), &name).context(failed)?
        {
            names.push(name);
        }
    }
    Ok(Some(names))
}

/// The lock that an image was built from. None when it was imported, or when the store no
/// longer has the lock.
pub fn lock(store: &Store, manifest: &Manifest) -> Result<Option<Lock>> {
    let failed = || format!("cannot read the lock of {}", manifest.image);
    let found = store.input(&manifest.lock, lockfile::MAX_SIZE);
    match found.context(failed)? {
        Some(text) if !ImportRecord::is(&text) => parse(text, manifest).map(Some),
        _ => Ok(None),
    }
}

/// What an image was built from.
pub struct BuiltFrom {
    /// None where the store no longer has it, or has it as another version writes it.
    pub recipe: Option<Recipe>,
    /// The lock.
    pub lock: Lock,
}

/// What an image was built from, then what those were built from that it stands on, as far as the
/// store has it: nothing of an image that was imported.
pub fn built_from(store: &Store, manifest: &Manifest) -> Result<Vec<BuiltFrom>> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    let mut next = Some(manifest.clone());
    while let Some(manifest) = next.take() {
        let Some(lock) = lock(store, &manifest)? else {
            break;
        };
        let failed = || format!("cannot read the recipe of {}", manifest.image);
        let json = store.input(&manifest.recipe, lockfile::MAX_SIZE);
        let json = json.context(failed)?;
        let recipe =
            json.and_then(|json| Recipe::from_canonical_json(&json, Path::new("recipe")).ok());
        seen.push(manifest.image);
        // Its manifest may be gone, and a chain that a stranger made has an end.
        let base = lock.base.as_ref().map(|base| base.image);
        next = base
            .filter(|base| !seen.contains(base))
            .and_then(|base| store.manifest(&base).ok());
        found.push(BuiltFrom { recipe, lock });
    }
    Ok(found)
}

/// The image that an image begins with, as its lock has it.
pub fn base(store: &Store, manifest: &Manifest) -> Result<Option<Base>> {
    let failed = || format!("cannot read the lock of {}", manifest.image);
    let text = store
        .input(&manifest.lock, lockfile::MAX_SIZE)
        .context(failed)?;
    // Most have none, and reading a whole lock takes its time.
    let has_base = |text: &Vec<u8>| text.windows(8).any(|part| part == b"\n[base]\n");
    match text.filter(has_base) {
        Some(text) => Ok(parse(text, manifest)?.base),
        None => Ok(None),
    }
}

/// What became of the release that an image stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The newest release of that name, where it is another image.
    pub newer: Option<String>,
    /// Whether the image was revoked in that environment.
    pub revoked: bool,
}

/// What became of a base: in the environment of which it was locked, or, of one that was locked by its
/// digest, in any of this store. Nothing is known where that cannot be read.
pub fn standing(store: &Store, base: &Base) -> Standing {
    let named = base.release.as_deref().and_then(|release| {
        let (env, rest) = release.split_once('/')?;
        let (name, seq) = rest.rsplit_once('/')?;
        Some((env.parse::<EnvName>().ok()?, name, seq.parse::<u64>().ok()?))
    });
    let Some((env, name, seq)) = named else {
        return Standing {
            newer: None,
            revoked: revocations(store, "").contains_key(&base.image),
        };
    };
    let all = releases(store, &env).unwrap_or_default();
    let revoked = revoked_images(&all);
    let newer = all
        .iter()
        .filter(|release| release.name.as_str() == name && release.seq > seq)
        .filter(|release| release.image != base.image && !revoked.contains(&release.image))
        .max_by_key(|release| release.seq);
    Standing {
        newer: newer.map(|newest| format!("{env}/{name}/{}", newest.seq)),
        revoked: revoked.contains(&base.image),
    }
}

/// The images that an image stands on: its base, what that stands on, and so on.
pub fn bases(store: &Store, manifest: &Manifest) -> Result<Vec<ImageId>> {
    let mut found = Vec::new();
    let mut next = base(store, manifest)?;
    while let Some(image) = next.map(|base| base.image) {
        // Its own manifest may be gone, and a chain that a stranger made has an end.
        if found.contains(&image) {
            break;
        }
        found.push(image);
        let of = store.manifest(&image).ok();
        next = match of {
            Some(of) => base(store, &of)?,
            None => None,
        };
    }
    Ok(found)
}

fn parse(text: Vec<u8>, manifest: &Manifest) -> Result<Lock> {
    let failed = || format!("cannot read the lock of {}", manifest.image);
    let text = String::from_utf8(text).context(failed)?;
    Lock::parse(&text).map_err(|e| Error::failed(failed()).because(&e))
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
    newest.map(|release| released(store, release)).collect()
}

/// Every name and image of the first environment's releases, oldest first. None
/// when there is no such environment, or none that can be believed: the images
/// are there all the same.
pub fn released_names(store: &Store) -> Vec<Release> {
    let env = FIRST_ENVIRONMENT.parse().ok();
    env.and_then(|env| releases(store, &env).ok())
        .unwrap_or_default()
}

fn newest(store: &Store, name: &ImageName) -> Option<Release> {
    let all = released_names(store).into_iter();
    all.filter(|r| r.name == *name).max_by_key(|r| r.seq)
}

/// The manifest as it was released: a later one may tell another start command
/// of the same image.
pub fn released(store: &Store, release: &Release) -> Result<Manifest> {
    released_json(store, release).map(|(manifest, _)| manifest)
}

fn released_json(store: &Store, release: &Release) -> Result<(Manifest, Vec<u8>)> {
    let failed = || format!("cannot read release {} of {}", release.seq, release.name);
    let json = store
        .backend()
        .get(&release.target_path, store::manifest::MAX_BYTES)
        .context(failed)?
        .ok_or_else(|| {
            Error::failed(failed()).detail(format!(
                "{} is missing from {}",
                release.target_path,
                store.backend().describe()
            ))
        })?;
    // Its name says its digest, and that is signed.
    if !release.target_path.contains(&Sha256::of(&json).hex()) {
        let other = format!("{} is not what was signed", release.target_path);
        return Err(Error::new(ErrorKind::Refused, failed())
            .detail(other)
            .hint("`imgbuild store fsck` says what is damaged"));
    }
    let manifest = Manifest::from_json(&json).context(failed)?;
    if manifest.image != release.image {
        let other = format!("{} describes {}", release.target_path, manifest.image);
        return Err(Error::failed(failed()).detail(other));
    }
    Ok((manifest, json))
}

/// A release of an image, byte for byte.
pub struct Released {
    /// What the image is called there.
    pub name: ImageName,
    /// The number of the release.
    pub seq: u64,
    /// Its manifest.
    pub manifest: Manifest,
    /// The same, as it was signed.
    pub json: Vec<u8>,
}

/// The newest release of an image in an environment, under the manifest's name if
/// there is one. An image that was revoked there is refused.
pub fn released_in(store: &Store, env: &Environment<'_>, manifest: &Manifest) -> Result<Released> {
    let all = releases_in(env)?;
    let of_image = all.iter().filter(|r| r.image == manifest.image);
    let release = of_image
        .max_by_key(|r| (r.name == manifest.name, r.seq))
        .ok_or_else(|| {
            let (image, env) = (manifest.image, env.name());
            Error::failed(format!("{image} is not released in {env}")).hint(
                "name the environment with --env ENV, or leave -o out: standard output is \
                 not signed",
            )
        })?;
    not_revoked(store, env.name(), &all, release)
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

fn not_revoked(
    store: &Store,
    env: &EnvName,
    all: &[Release],
    release: &Release,
) -> Result<Released> {
    let revoked = revoked_images(all);
    if revoked.contains(&release.image) {
        let (name, seq) = (&release.name, release.seq);
        let what = format!(
            "{} was revoked in {env}, where it is {name}/{seq}",
            release.image
        );
        let older = all
            .iter()
            .filter(|one| one.name == *name && one.seq < seq && !revoked.contains(&one.image))
            .max_by_key(|one| one.seq);
        let older = older.map_or(String::new(), |one| {
            format!("; until then {env}/{name}/{} is there", one.seq)
        });
        return Err(Error::new(ErrorKind::Refused, what).hint(format!(
            "release an image that mends what the revocation was for{older}"
        )));
    }
    let (manifest, json) = released_json(store, release)?;
    Ok(Released {
        name: release.name.clone(),
        seq: release.seq,
        manifest,
        json,
    })
}

fn releases(store: &Store, env: &EnvName) -> Result<Vec<Release>> {
    releases_in(&open(&ReadOnly(store), env)?)
}

fn open<'s>(store: &'s ReadOnly<'_>, env: &EnvName) -> Result<Environment<'s>> {
    Environment::open(store, env).map_err(|e| unreadable(env, &e))
}

fn releases_in(env: &Environment<'_>) -> Result<Vec<Release>> {
    env.releases().map_err(|e| unreadable(env.name(), &e))
}

fn unreadable(env: &EnvName, e: &store::tuf::Error) -> Error {
    let error = Error::failed(format!("cannot read the environment {env}")).because(e);
    match e.hint() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// A store of which environments are only read.
struct ReadOnly<'s>(&'s Store);

impl MetadataStore for ReadOnly<'_> {
    fn read(&self, key: &str, limit: u64) -> store::Result<Option<Vec<u8>>> {
        self.0.backend().get(key, limit)
    }

    fn invalidate(&self, key: &str) -> bool {
        self.0.backend().invalidate(key, 0..u64::MAX)
    }

    fn replace(&self, key: &str, _: &[u8]) -> store::Result<()> {
        Err(read_only(key))
    }

    fn lock(&self) -> store::Result<Guard> {
        Err(read_only("environments"))
    }
}

fn read_only(what: &str) -> store::Error {
    let text = format!("{what} cannot be written: the store was opened to read it");
    store::Error::new(store::ErrorKind::ReadOnly, text)
}
