//! `imgbuild approve`

use store::tuf::{Claim, Environment};
use store::{EnvName, WritableStore};

use super::env::{environment, open};
use super::promote::{consent, not_revoked};
use crate::cli::args::ApproveArgs;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::release::attest;
use crate::release::ceremony;
use crate::release::keyring::{Keyring, Passphrase};
use crate::release::promote;
use crate::settings::Settings;
use crate::stores;
use crate::stores::{environments, find};
use crate::ui::{self, Ui};

pub(super) fn run(args: &ApproveArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let env = environment(&args.env)?;
    let passphrase = Passphrase::find(args.secret.passphrase_file.as_ref(), settings)?;
    let keyring = Keyring::new(settings, passphrase, None);
    let asking = environment_of(args, &env, &store, &keyring)?;
    let admits = |env: &mut Environment<'_>| keyring.admit(env);
    let vouches = |env: &Environment<'_>| keyring.vouches_for(env);
    let manifest = find::the_one(store.store(), &args.image, &admits, &vouches)?;
    let entry = keyring.entry(&args.key)?;
    if let Some(asking) = &asking {
        ceremony::check_clock(asking)?;
        not_revoked(asking, &manifest.image, "approve of")?;
        counts(asking, &args.key, &entry.public)?;
    }
    ui.note(&format!("{} {}", manifest.name, manifest.image));
    let revoked = environments::revocations(store.store(), &args.image);
    for other in revoked.get(&manifest.image).into_iter().flatten() {
        ui.note(&format!("  warning: it was revoked in {other}"));
    }
    for release in find::releases_of(store.store(), &manifest, &vouches)? {
        ui.note(&format!("  released as {release}"));
    }
    if let Some(asking) = &asking {
        promote::differences(&manifest, store.store(), asking, &store, ui)?;
    } else {
        promote::started(&manifest, ui);
        ui.note(&format!(
            "warning: {env} is in another store: what changes there is not known here"
        ));
    }
    let consent = consent(args.consenting);
    if consent.show_only {
        ui.note("nothing was signed");
        return Ok(());
    }
    let public = entry.public.as_ref().map(store::keys::PublicKey::hex);
    let with = format!("{} {}", args.key, public.unwrap_or_default());
    ceremony::ask(
        &format!("approve of this for {env} with {with}?"),
        consent,
        ui,
    )?;
    let key = keyring.open_entry(&entry)?;
    if let Some(asking) = &asking {
        // Where the public half was not known before.
        counts(asking, &args.key, &Ok(key.public()))?;
    }
    store
        .hold_image(&manifest.image)
        .context(|| format!("cannot hold {}", manifest.image))?;
    let root = asking.as_ref().map(Environment::fingerprint);
    let at = attest::approval(
        &manifest,
        (&env, root),
        args.comment.as_deref(),
        &*key,
        &store,
    )?;
    ui.note(&format!(
        "{} approves of {} for {env}",
        args.key, manifest.name
    ));
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "approved", "environment": env,
            "name": manifest.name, "image": manifest.image.to_string(), "attestation": at,
        }));
    } else {
        ui.result(&at);
    }
    Ok(())
}

/// The environment that an approval is for, which somebody here has vouched for; `None` where a
/// person says that it is in another store.
fn environment_of<'s>(
    args: &ApproveArgs,
    name: &EnvName,
    store: &'s WritableStore,
    keyring: &Keyring,
) -> Result<Option<Environment<'s>>> {
    let exists = Environment::exists(store, name)
        .context(|| format!("cannot look for the environment {name}"))?;
    match (exists, args.elsewhere) {
        // Another one, also where this store has one of that name.
        (_, true) => Ok(None),
        (true, false) => {
            let mut env = open(store, name)?;
            keyring.admit(&mut env)?;
            Ok(Some(env))
        }
        (false, false) => Err(Error::failed(format!(
            "there is no environment {name} in {}",
            store.backend().describe()
        ))
        .hint(format!(
            "`imgbuild env status` lists them; where {name} is in another store, to which the \
             image goes with its approvals, add --elsewhere"
        ))),
    }
}

/// Refuses an approval that nobody would listen to.
fn counts(
    env: &Environment<'_>,
    name: &str,
    key: &Result<store::keys::PublicKey, String>,
) -> Result<()> {
    let Ok(key) = key else { return Ok(()) };
    let policy = env.policy();
    if policy.and_then(|policy| policy.listens_to(Claim::Approved, key)) == Some(true) {
        return Ok(());
    }
    let who = policy.map_or_else(Vec::new, |policy| policy.names_of(Claim::Approved));
    let (what, hint) = if who.is_empty() {
        (
            format!("the policy of {} asks for no approvals", env.name()),
            "`approvals` of a policy says whose count: imgbuild env root propose --policy FILE"
                .to_owned(),
        )
    } else {
        (
            format!("an approval by {name} does not count in {}", env.name()),
            format!("its policy listens to {}", who.join(", ")),
        )
    };
    Err(Error::new(ErrorKind::Refused, what).hint(hint))
}
