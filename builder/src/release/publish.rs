//! An image, released into an environment.
//!
//! The first environment, `dev`, is made with its keys on first use.

use store::tuf::{Environment, ErrorKind, KeyGroup, RoleKeys, revoked_images};
use store::{EnvName, Manifest, Sha256, Store, WritableStore};

use super::ceremony;
use super::keyring::{Keyring, Passphrase};
use crate::error::{Context, Error, Result};
use crate::settings::Settings;
use crate::stores::FIRST_ENVIRONMENT;
use crate::ui::Ui;

/// Signs an image into the first environment; returns the release's number.
pub fn release(
    manifest: &Manifest,
    store: &WritableStore,
    settings: &Settings,
    ui: &Ui,
) -> Result<u64> {
    let env: EnvName = FIRST_ENVIRONMENT
        .parse()
        .context(|| "bad name of an environment".into())?;
    release_into(&env, manifest, store, settings, ui)
}

/// Signs an image into an environment; returns the release's number. Only the
/// first environment is made when it is not there.
pub fn release_into(
    env: &EnvName,
    manifest: &Manifest,
    store: &WritableStore,
    settings: &Settings,
    ui: &Ui,
) -> Result<u64> {
    let now = jiff::Timestamp::now();
    let failed = || format!("cannot release into the environment {env}");
    let exists = Environment::exists(store, env).context(failed)?;
    let mut groups = vec![KeyGroup::Targets, KeyGroup::Online];
    if env.as_str() == FIRST_ENVIRONMENT {
        // Nobody is asked for a passphrase here, and its root may be renewed as well.
        groups.push(KeyGroup::Root);
        if !exists {
            let keys = RoleKeys::load_or_generate(&settings.keys, env).context(failed)?;
            match Environment::init(store, env, &keys, now) {
                Ok(_) => ui.note(&format!(
                    "made the environment `{env}` in {} and its keys in {}",
                    store.backend().describe(),
                    settings.keys.display()
                )),
                // Another first release of the store was faster.
                Err(error)
                    if error.kind() == ErrorKind::Exists
                        && Environment::exists(store, env).context(failed)? => {}
                Err(error) => return Err(ceremony::failed(failed(), &error)),
            }
        }
    }
    let mut environment = Environment::open(store, env).context(failed)?;
    let keyring = Keyring::new(settings, Passphrase::find(None, settings)?, None);
    // What our root key has signed is ours, also when that key is kept elsewhere one day.
    if env.as_str() == FIRST_ENVIRONMENT && keyring.knows(&environment)? {
        keyring.vouch(env, &environment.fingerprint())?;
    }
    keyring.admit(&mut environment)?;
    super::promote::meets(manifest, &environment, store, &keyring, ui)?;
    let opened = keyring.of_environment(&environment, &groups)?;
    let signers = opened.signers(&environment)?;
    if signers.targets.is_empty() || signers.online.is_empty() {
        return Err(Error::failed(failed())
            .detail("the keys that sign its releases are not here")
            .hint(format!(
                "the environment's keys belong in {}; name another place with --keys DIR",
                settings.keys.display()
            )));
    }
    let release = environment
        .release(manifest, signers, now)
        .map_err(|e| ceremony::failed(failed(), &e))?;
    ceremony::remember(&keyring, &environment)?;
    Ok(release.seq)
}

/// The environment that builds release into, if it was made already.
pub fn first_environment(store: &Store) -> Result<Option<Environment<'_>>> {
    let env: EnvName = FIRST_ENVIRONMENT
        .parse()
        .context(|| "bad name of an environment".into())?;
    let failed = || format!("cannot read the environment {env}");
    if !Environment::exists(store, &env).context(failed)? {
        return Ok(None);
    }
    ceremony::open(store, &env).map(Some)
}

/// The number of the newest release of the name, if that is this manifest and was not revoked:
/// releasing it once more says so.
pub fn is_released(manifest: &Manifest, store: &Store) -> Result<Option<u64>> {
    let Some(environment) = first_environment(store)? else {
        return Ok(None);
    };
    let failed = || format!("cannot read the environment {}", environment.name());
    let releases = environment.releases().context(failed)?;
    if revoked_images(&releases).contains(&manifest.image) {
        return Ok(None);
    }
    let newest = releases
        .iter()
        .filter(|r| r.name == manifest.name)
        .max_by_key(|r| r.seq);
    // Targets are named by the digest of the manifest (consistent snapshots).
    let digest = Sha256::of(&manifest.to_json()).hex();
    let same = newest.filter(|r| r.image == manifest.image && r.target_path.contains(&digest));
    Ok(same.map(|r| r.seq))
}
