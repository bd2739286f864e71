//! `imgbuild env init ENV`

use std::path::PathBuf;

use jiff::Timestamp;
use store::keys::{KeyFile, KeyPair, PublicKey, Signer as _};
use store::tuf::{Environment, KeyGroup, KeySet, Lifetimes, Policy, Proposal, RootDraft};
use store::{EnvName, WritableStore};

use super::{environment, report, warn_of_sources};
use crate::cli::args::{Days, EnvInitArgs};
use crate::cli::commands::promote::{consent, keyring};
use crate::error::{Context, Error, Result};
use crate::release::attest;
use crate::release::ceremony::{self, Outcome, failed};
use crate::release::keyring::{self, Keyring, Names, Passphrase, new_passphrase};
use crate::release::shared_files;
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

pub(super) fn run(args: &EnvInitArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let name = environment(&args.env)?;
    // Before a store or any key is made.
    check_threshold("root", &args.root, args.root_threshold)?;
    check_threshold("targets", &args.targets, args.targets_threshold)?;
    let policy = args.policy.as_deref().map(attest::policy).transpose()?;
    let store = stores::open_to_write(settings)?;
    let what = || format!("cannot make the environment {name}");
    if Environment::exists(&store, &name).context(what)? {
        return Err(Error::failed(format!(
            "there is an environment {name} in this store already"
        ))
        .hint(format!("imgbuild env status {name}")));
    }
    let keyring = keyring(&args.signing, settings)?;
    let file = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{name}-root-1.json")));
    shared_files::check(&file, None, &keyring)?;
    let mut made = Vec::new();
    let all = (&store, &keyring, settings);
    let mut proposal = draft(args, &name, policy, all, &mut made, ui)?;
    let begun = Environment::interrupted_init(&store, &proposal);
    if let Some(begun) = begun.map_err(|e| failed(what(), &e))? {
        ui.note(&format!("an interrupted `env init` of {name} is finished"));
        proposal = begun;
    }
    let consent = consent(args.consenting);
    let signed = ceremony::sign(&mut proposal, None, &keyring, false, consent, ui);
    let signed = signed.map_err(|error| match &made[..] {
        [] => error,
        made => error.detail(format!(
            "the keys that were made for it stay in {}, for the next time: {}",
            settings.keys.display(),
            made.join(", ")
        )),
    })?;
    let Some(review) = signed else {
        return Ok(());
    };
    let outcome = shared_files::settle(&proposal, &review, None, &store, &keyring, &file)?;
    report(
        &outcome,
        &format!("the environment {name}"),
        "imgbuild env root sign",
        ui,
    );
    // What was signed here, whatever lies there by now.
    let root = match outcome {
        Outcome::Published => proposal.first_root().map_err(|e| failed(what(), &e))?,
        _ => None,
    };
    if let Some(root) = root {
        if ui.is_json() {
            ui.result_json(&serde_json::json!({
                "schema": ui::SCHEMA, "event": "made", "environment": name,
                "root": root.to_string(),
            }));
        } else {
            ui.result(&root.to_string());
        }
    }
    Ok(())
}

/// Drafts the first root, with keys that are made where none are named.
fn draft(
    args: &EnvInitArgs,
    name: &EnvName,
    policy: Option<Policy>,
    (store, keyring, settings): (&WritableStore, &Keyring, &Settings),
    made: &mut Vec<String>,
    ui: &Ui,
) -> Result<Proposal> {
    let mut set = |group: KeyGroup, typed: &[String], threshold: u64| -> Result<KeySet> {
        let keys = if typed.is_empty() {
            vec![own_key(name, group, args, settings, made, ui)?]
        } else {
            typed
                .iter()
                .map(|text| keyring.public(text))
                .collect::<Result<_>>()?
        };
        Ok(KeySet { keys, threshold })
    };
    let draft = RootDraft {
        root: set(KeyGroup::Root, &args.root, args.root_threshold)?,
        targets: set(KeyGroup::Targets, &args.targets, args.targets_threshold)?,
        online: set(KeyGroup::Online, &args.online, 1)?,
        lifetimes: lifetimes(&args.days, Lifetimes::default()),
        policy,
    };
    let begin = keyring.time_to_begin(name, Timestamp::now());
    let proposal = Environment::draft_init(name, &draft, begin)
        .map_err(|e| failed(format!("cannot make the environment {name}"), &e))?;
    warn_of_sources(draft.policy.as_ref(), store, ui)?;
    summary(&draft, &keyring.names(draft.policy.as_ref())?, ui);
    Ok(proposal)
}

/// Refuses a threshold that no set of the keys meets, or every one.
fn check_threshold(group: &str, keys: &[String], threshold: u64) -> Result<()> {
    // One is made where none is named.
    let count = keys.len().max(1) as u64;
    if (1..=count).contains(&threshold) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "--{group}-threshold {threshold} does not fit {count} {group} keys"
    ))
    .hint(format!(
        "name as many keys with --{group}, and ask for 1 to {count} of them"
    )))
}

/// Two lines: who decides, who releases.
fn summary(draft: &RootDraft, called: &Names, ui: &Ui) {
    let names = |holders: &KeySet| {
        let names = holders.keys.iter().map(|key| called.short(key));
        format!(
            "{} of {}: {}",
            holders.threshold,
            holders.keys.len(),
            names.collect::<Vec<_>>().join(", ")
        )
    };
    let days = draft.lifetimes;
    ui.note(&format!(
        "keys and policy are decided by {} (every {} days at the latest; keep these keys elsewhere)",
        names(&draft.root),
        days.root
    ));
    ui.note(&format!(
        "releases are signed by {} (every {} days), snapshots and timestamps by {} (a timer: \
         imgbuild env refresh)",
        names(&draft.targets),
        days.targets,
        names(&draft.online)
    ));
}

/// The key that a group gets which was named none.
fn own_key(
    name: &EnvName,
    group: KeyGroup,
    args: &EnvInitArgs,
    settings: &Settings,
    made: &mut Vec<String>,
    ui: &Ui,
) -> Result<PublicKey> {
    let called = format!("{name}.{}", group.name());
    let file = KeyFile::at(settings.keys.join(format!("{called}.pem")));
    if file.exists() {
        return file.public().map_err(|e| keyring::failed(&e));
    }
    if args.consenting.show {
        ui.note(&format!(
            "the key {called} would be made; other digits stand for it below"
        ));
        let stand_in = KeyPair::generate().map_err(|e| keyring::failed(&e))?;
        return Ok(stand_in.public());
    }
    let pair = if args.plain || group == KeyGroup::Online {
        file.create()
    } else {
        let from = Passphrase::find(args.signing.secret.passphrase_file.as_ref(), settings)?;
        file.create_encrypted(&new_passphrase(&from, &called)?)
    };
    let pair = pair.map_err(|e| keyring::failed(&e))?;
    ui.note(&format!(
        "made the key {called} in {}",
        settings.keys.display()
    ));
    made.push(called);
    Ok(pair.public())
}

/// What was typed, on top of what there is.
pub(super) fn lifetimes(days: &Days, present: Lifetimes) -> Lifetimes {
    Lifetimes {
        root: days.root_days.unwrap_or(present.root),
        targets: days.targets_days.unwrap_or(present.targets),
        snapshot: days.snapshot_days.unwrap_or(present.snapshot),
        timestamp: days.timestamp_days.unwrap_or(present.timestamp),
    }
}
