//! The environments of a store, as they are read: their releases, revocations and policies.

use std::collections::BTreeMap;

use store::tuf::{Environment, Guard, MetadataStore, Policy, Release, revoked_images};
use store::{EnvName, ImageId, Store};

use super::FIRST_ENVIRONMENT;
use crate::error::{Context, Error, Result};

/// In which environments each image was revoked. Those that cannot be read are left out, and a
/// web server lists none: what `text` names is looked at in any case.
pub fn revocations(store: &Store, text: &str) -> BTreeMap<ImageId, Vec<EnvName>> {
    let mut envs = all(store).unwrap_or_default();
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
    let opened = all(store).unwrap_or_default().into_iter();
    let opened = opened.filter_map(|name| Environment::open(&metadata, &name).ok());
    opened.filter_map(|env| env.policy().cloned()).collect()
}

/// The environments of a store; none where it cannot list them.
pub(super) fn all(store: &Store) -> Result<Vec<EnvName>> {
    Ok(listed(store)?.unwrap_or_default())
}

/// The environments of a store; `None` where it cannot list them.
pub fn listed(store: &Store) -> Result<Option<Vec<EnvName>>> {
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

/// Every name and image of the first environment's releases, oldest first. None
/// when there is no such environment, or none that can be believed: the images
/// are there all the same.
pub fn released_names(store: &Store) -> Vec<Release> {
    let env = FIRST_ENVIRONMENT.parse().ok();
    env.and_then(|env| releases(store, &env).ok())
        .unwrap_or_default()
}

/// The releases of an environment.
pub(super) fn releases(store: &Store, env: &EnvName) -> Result<Vec<Release>> {
    releases_in(&open(&ReadOnly(store), env)?)
}

/// Opens an environment to read it.
pub(super) fn open<'s>(store: &'s ReadOnly<'_>, env: &EnvName) -> Result<Environment<'s>> {
    Environment::open(store, env).map_err(|e| unreadable(env, &e))
}

/// The releases of an environment that is open.
pub(super) fn releases_in(env: &Environment<'_>) -> Result<Vec<Release>> {
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
pub(super) struct ReadOnly<'s>(pub(super) &'s Store);

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
