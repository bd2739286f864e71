//! `imgbuild env rotate-key` and `imgbuild env root propose|sign|publish`

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use store::keys::PublicKey;
use store::tuf::{Environment, KeyGroup, Proposal, Publication, RootChange, paths};
use store::{EnvName, Sha256, WritableStore};

use super::{environment, init, open, report, warn_of_sources};
use crate::cli::args::{EnvProposeArgs, EnvRotateArgs, FileArgs, PublishArgs, SaveArgs};
use crate::cli::commands::promote::{consent, keyring, published};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::release::attest;
use crate::release::ceremony::{self, Outcome, failed};
use crate::release::keyring::{Keyring, Names};
use crate::release::promote;
use crate::release::shared_files;
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

pub(super) const SIGN: &str = "imgbuild env root sign";

pub(super) fn rotate(args: &EnvRotateArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let keyring = keyring(&args.signing, settings)?;
    let mut env = admitted(&args.env, &store, &keyring)?;
    let (old, new) = (
        known(&args.old, &env, &keyring)?,
        keyring.public(&args.new)?,
    );
    if old == new {
        let what = format!("{} and {} are the same key", args.old, args.new);
        return Err(Error::usage(what).hint("make the new one with `imgbuild key new NAME`"));
    }
    let mut change = RootChange::default();
    for group in [KeyGroup::Root, KeyGroup::Targets, KeyGroup::Online] {
        let holders = env
            .key_set(group)
            .map_err(|e| ceremony::unreadable(env.name(), &e))?;
        if holders.keys.contains(&old) {
            change.add.push((Some(group), new));
            change.remove.push((Some(group), old.id()));
        }
    }
    // What the old key says about images, the new one says from now on, under its own name.
    let names = keyring.names(None)?;
    let file = Path::new(&args.new).file_stem().and_then(OsStr::to_str);
    let typed = file.filter(|_| args.new.parse::<PublicKey>().is_err());
    if let Some(mut policy) = env.policy().cloned()
        && policy.replace_key(&old, &new, names.of(&new).or(typed))
    {
        change.policy = Some(Some(policy));
    }
    if change.add.is_empty() && change.policy.is_none() {
        return Err(
            Error::usage(format!("{} is not a key of {}", args.old, args.env))
                .hint(format!("imgbuild env status {} lists them", args.env)),
        );
    }
    let file = args.output.clone().unwrap_or(file_name(&env)?);
    shared_files::check(&file, Some(&env), &keyring)?;
    let mut proposal = draft(&env, &change)?;
    let consent = consent(args.consenting);
    let signed = ceremony::sign(&mut proposal, Some(&env), &keyring, false, consent, ui)?;
    let Some(review) = signed else {
        return Ok(());
    };
    let outcome =
        shared_files::settle(&proposal, &review, Some(&mut env), &store, &keyring, &file)?;
    report(&outcome, &format!("the new root of {}", args.env), SIGN, ui);
    Ok(())
}

pub(super) fn propose(args: &EnvProposeArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let keyring = keyring(&args.signing, settings)?;
    let env = admitted(&args.env, &store, &keyring)?;
    let mut change = RootChange::default();
    for text in &args.add {
        let (group, key) = grouped(text)?;
        change.add.push((Some(group), keyring.public(key)?));
    }
    for text in &args.remove {
        let (group, key) = grouped(text)?;
        change
            .remove
            .push((Some(group), known(key, &env, &keyring)?.id()));
    }
    for (group, key) in &change.add {
        if change.remove.contains(&(*group, key.id())) {
            return Err(Error::usage(format!("{} is to come and to go", key.hex())));
        }
    }
    for text in &args.threshold {
        let (group, number) = grouped(text)?;
        if change.thresholds.iter().any(|(known, _)| *known == group) {
            let what = format!("--threshold is given twice for {}", group.name());
            return Err(Error::usage(what));
        }
        let number = number
            .parse()
            .map_err(|_| Error::usage(format!("`{number}` is not a number of signatures")))?;
        change.thresholds.push((group, number));
    }
    let days = init::lifetimes(&args.days, env.lifetimes());
    change.lifetimes = (days != env.lifetimes()).then_some(days);
    change.policy = match &args.policy {
        Some(file) => Some(Some(attest::policy(file)?)),
        None => args.no_policy.then_some(None),
    };
    let file = args.output.clone().unwrap_or(file_name(&env)?);
    shared_files::check(&file, Some(&env), &keyring)?;
    let policy = change.policy.as_ref().and_then(Option::as_ref);
    warn_of_sources(policy, &store, ui)?;
    let mut proposal = draft(&env, &change)?;
    let consent = consent(args.consenting);
    let signed = ceremony::sign(&mut proposal, Some(&env), &keyring, false, consent, ui)?;
    let Some(review) = signed else {
        return Ok(());
    };
    shared_files::begin(&file, &proposal, Some(&env), &keyring)?;
    ui.note(&if review.complete() {
        format!("next: imgbuild env root publish {}", file.display())
    } else {
        format!("next, whoever signs: {SIGN} {}", file.display())
    });
    let shown = file.display().to_string();
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "proposed", "environment": env.name(),
            "file": shown, "complete": review.complete(),
        }));
    } else {
        ui.result(&shown);
    }
    Ok(())
}

pub(super) fn sign(args: &FileArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let keyring = keyring(&args.signing, settings)?;
    let consent = consent(args.consenting);
    let mut proposal = shared_files::read_to_sign(&args.file, consent)?;
    let env = current(&proposal, &store, &keyring)?;
    let file = args.file.display();
    if let Some(env) = &env
        && published(env, &proposal)?
    {
        let what = format!("the change of {}", env.name());
        report(&Outcome::AlreadyPublished, &what, SIGN, ui);
        return Ok(());
    }
    if proposal.changes_releases() && !consent.show_only {
        let text = format!("{file} releases or revokes images");
        return Err(Error::new(ErrorKind::Refused, text).hint(format!(
            "with the store at hand, which is asked whether the image meets the policy: \
             imgbuild promote --sign {file}"
        )));
    }
    let signed = ceremony::sign(&mut proposal, env.as_ref(), &keyring, true, consent, ui)?;
    let Some(review) = signed else {
        return Ok(());
    };
    shared_files::add(&args.file, &proposal)?;
    ui.note(&if review.complete() {
        format!("it has all signatures; next: imgbuild env root publish {file}")
    } else {
        format!("next, whoever signs: {SIGN} {file}")
    });
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "signed", "complete": review.complete(),
        }));
    }
    Ok(())
}

/// Saves what nodes and builders are given to trust.
pub(super) fn save(args: &SaveArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let name = environment(&args.env)?;
    let what = || format!("cannot read the first root of {name}");
    let env = Environment::open(&store, &name).map_err(|e| failed(what(), &e))?;
    let file = match &args.output {
        Some(file) => file.clone(),
        None => PathBuf::from(format!("{name}.root.json")),
    };
    let key = paths::metadata(&name, "1.root.json");
    let bytes = store.backend().get(&key, 1 << 20).context(what)?;
    let bytes = bytes.filter(|bytes| Sha256::of(bytes) == env.fingerprint());
    let bytes = bytes
        .ok_or_else(|| Error::new(ErrorKind::Refused, what()).detail(format!("{key} changed")))?;
    shared_files::write_over(&file, &bytes, &is_root)?;
    let fingerprint = env.fingerprint().to_string();
    let shown = file.display().to_string();
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "saved", "environment": name,
            "file": shown, "root": fingerprint,
        }));
        return Ok(());
    }
    ui.note(&format!("{shown}: the first root of {name}, {fingerprint}"));
    ui.result(&shown);
    Ok(())
}

/// Whether a file is such an anchor.
fn is_root(bytes: &[u8]) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    value.is_some_and(|value| value["signed"]["_type"] == "root")
}

pub(super) fn publish(args: &PublishArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let keyring = keyring(&args.signing, settings)?;
    let mut files = args.files.iter();
    let first = files.next().map_or(Path::new(""), PathBuf::as_path);
    let mut proposal = shared_files::read(first)?;
    for other in files {
        proposal
            .merge(&shared_files::read(other)?)
            .map_err(|e| failed(format!("cannot take over {}", other.display()), &e))?;
    }
    let name = proposal.environment.clone();
    let consent = consent(args.consenting);
    let what = format!("the change of {name}");
    // An interrupted publication of a root leaves what cannot be opened: what it changes is the
    // environment below that root.
    let reviewed = Environment::review_publication(&store, &proposal, Timestamp::now());
    let reviewed = reviewed.map_err(|e| failed(format!("cannot publish {what}"), &e))?;
    let Some(Publication {
        review,
        before: mut env,
    }) = reviewed
    else {
        if !consent.show_only {
            ceremony::vouch_for_first(&proposal, &store, &keyring)?;
        }
        report(&Outcome::AlreadyPublished, &what, SIGN, ui);
        tell(&name, false, ui);
        return Ok(());
    };
    match &mut env {
        Some(before) => {
            let reviewed = before.checkpoint(Timestamp::UNIX_EPOCH);
            keyring.admit(before)?;
            let admitted = before.checkpoint(Timestamp::UNIX_EPOCH);
            // Of a change of root that was interrupted the root may be there; it is finished on the
            // state below. Anything else must be what was reviewed.
            if admitted != reviewed {
                let finishes = proposal.changes_root() && admitted.lists_the_same(&reviewed);
                env = below(&proposal, &store, &what)?
                    .filter(|env| finishes && env.checkpoint(Timestamp::UNIX_EPOCH) == reviewed);
                if env.is_none() {
                    let text = format!("the environment {name} has changed meanwhile");
                    return Err(Error::new(ErrorKind::Busy, text).hint("run the command again"));
                }
            }
        }
        None => ceremony::may_begin(&proposal, &review, &keyring, first)?,
    }
    let own = proposal.policy();
    let names = keyring.names(env.as_ref().and_then(Environment::policy).or(own.as_ref()))?;
    ceremony::show(&proposal, &review, &names, ui);
    ceremony::signed_by_enough(&review, &names, &proposal, first)?;
    if let Some(env) = &env {
        for manifest in &review.releases {
            promote::meets(manifest, env, &store, &keyring, ui)?;
        }
    }
    if consent.show_only {
        ui.note("nothing was signed");
        return Ok(());
    }
    let online = ceremony::online_keys(&proposal, env.as_ref())?;
    check_online(&online, &name, &keyring, &names)?;
    ceremony::ask("publish this?", consent, ui)?;
    let outcome = ceremony::publish(&proposal, &online, env.as_mut(), &store, &keyring)?;
    report(&outcome, &what, SIGN, ui);
    tell(&name, matches!(outcome, Outcome::Published), ui);
    Ok(())
}

/// The environment that a change is published on.
fn below<'s>(
    proposal: &Proposal,
    store: &'s WritableStore,
    what: &str,
) -> Result<Option<Environment<'s>>> {
    let reviewed = Environment::review_publication(store, proposal, Timestamp::now());
    let reviewed = reviewed.map_err(|e| failed(format!("cannot publish {what}"), &e))?;
    Ok(reviewed.and_then(|publication| publication.before))
}

fn tell(name: &EnvName, new: bool, ui: &Ui) {
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "published", "environment": name, "new": new,
        }));
    }
}

/// Refuses to publish without the online key, or with another one that a person chose.
fn check_online(
    online: &[PublicKey],
    name: &EnvName,
    keyring: &Keyring,
    names: &Names,
) -> Result<()> {
    for key in online {
        if keyring.would_open(key)? {
            return Ok(());
        }
    }
    let online: Vec<_> = online.iter().map(|key| names.full(key)).collect();
    let what = match keyring.chosen() {
        Some(chosen) => format!("{chosen} is no online key of {name}"),
        None => format!("no online key of {name} is here"),
    };
    Err(Error::new(ErrorKind::Refused, what)
        .detail(format!(
            "snapshot and timestamp are signed by {}",
            online.join(", ")
        ))
        .hint("publish where that key is, on the builder as a rule"))
}

/// The environment that a file would change; none if it makes one.
fn current<'s>(
    proposal: &Proposal,
    store: &'s WritableStore,
    keyring: &Keyring,
) -> Result<Option<Environment<'s>>> {
    let name = &proposal.environment;
    if !Environment::exists(store, name).context(|| format!("cannot look for {name}"))? {
        return Ok(None);
    }
    let mut env = open(store, name)?;
    keyring.admit(&mut env)?;
    Ok(Some(env))
}

fn admitted<'s>(
    name: &str,
    store: &'s WritableStore,
    keyring: &Keyring,
) -> Result<Environment<'s>> {
    let mut env = open(store, &environment(name)?)?;
    keyring.admit(&mut env)?;
    Ok(env)
}

/// A key of an environment, also by the name that its policy gives it.
fn known(text: &str, env: &Environment<'_>, keyring: &Keyring) -> Result<PublicKey> {
    let listed = env.policy().and_then(|policy| policy.keys.get(text));
    match (
        keyring.public(text),
        listed.and_then(|hex| hex.parse().ok()),
    ) {
        (Err(_), Some(key)) => Ok(key),
        (found, _) => found,
    }
}

fn draft(env: &Environment<'_>, change: &RootChange) -> Result<Proposal> {
    env.draft_root(change, Timestamp::now()).map_err(|e| {
        failed(
            format!("the root of {} cannot change like this", env.name()),
            &e,
        )
    })
}

fn file_name(env: &Environment<'_>) -> Result<PathBuf> {
    let roles = env
        .role_keys()
        .map_err(|e| ceremony::unreadable(env.name(), &e))?;
    Ok(PathBuf::from(format!(
        "{}-root-{}.json",
        env.name(),
        roles[0].1 + 1
    )))
}

/// `GROUP=WHAT`
fn grouped(text: &str) -> Result<(KeyGroup, &str)> {
    let wrong = || {
        Error::usage(format!("`{}` is not GROUP=VALUE", text.escape_default()))
            .hint("GROUP is root, targets or online")
    };
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let groups = [KeyGroup::Root, KeyGroup::Targets, KeyGroup::Online];
    let group = groups
        .into_iter()
        .find(|group| group.name() == name)
        .ok_or_else(wrong)?;
    Ok((group, value))
}
