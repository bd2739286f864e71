//! `imgbuild promote` and `imgbuild revoke`

use std::path::{Path, PathBuf};

use serde::Serialize;
use store::tuf::waves::{Rule, Waves};
use store::tuf::{Environment, LogEntry, Proposal, Release, WavePlan, revoked_images};
use store::{EnvName, ImageId, Store, WritableStore};

use super::env::{environment, open, report};
use super::waves;
use crate::cli::args::{Consenting, PromoteArgs, RevokeArgs, Signing, WaveArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::compare::Report;
use crate::release::ceremony::{self, Consent, Outcome};
use crate::release::keyring::{Keyring, Passphrase};
use crate::release::promote;
use crate::release::shared_files;
use crate::settings::{Given, Settings};
use crate::stores;
use crate::stores::FIRST_ENVIRONMENT;
use crate::stores::find;
use crate::ui::{self, Ui};

/// How the next person signs a release or a revocation.
pub(super) const SIGN: &str = "imgbuild promote --sign";

/// What `--json` says at the end.
#[derive(Serialize)]
struct Promoted<'a> {
    schema: u32,
    event: &'static str,
    environment: String,
    name: String,
    image: String,
    seq: u64,
    /// Whether nodes see it.
    published: bool,
    /// The file that waits for signatures.
    file: Option<String>,
    differences: Option<&'a Report>,
}

pub(super) fn keyring(signing: &Signing, settings: &Settings) -> Result<Keyring> {
    let passphrase = Passphrase::find(signing.secret.passphrase_file.as_ref(), settings)?;
    Ok(Keyring::new(settings, passphrase, signing.key.clone()))
}

pub(super) fn consent(args: Consenting) -> Consent {
    Consent {
        given: args.yes,
        show_only: args.show,
    }
}

pub(super) fn run(args: &PromoteArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let keyring = keyring(&args.signing, settings)?;
    if let Some(file) = &args.sign {
        return sign(file, consent(args.consenting), &store, &keyring, ui);
    }
    let (Some(image), Some(to)) = (&args.image, &args.to) else {
        return Err(Error::usage("IMAGE and --to ENV are missing"));
    };
    let to = environment(to)?;
    if let Some(step) = waves::step(&args.waves) {
        return waves::run(args, image, &to, &step, settings, ui);
    }
    let plan = plan(&args.waves)?;
    let of_image = image.split_once('/').map(|(env, _)| env);
    let from = args
        .from
        .as_deref()
        .or(of_image)
        .unwrap_or(FIRST_ENVIRONMENT);
    let from = environment(from)?;
    if from == to {
        return Err(Error::usage(format!("{image} is in {to} already"))
            .hint("--to names another environment; nodes `switch` to an older release of theirs"));
    }
    let mut env = open(&store, &to)?;
    let elsewhere = source_store(args, settings)?;
    let source = elsewhere.as_ref().unwrap_or(store.store());
    let origin = ceremony::admitted(source, &from, &keyring)?;
    if let Some((role, time)) = promote::ran_out(&origin) {
        ui.note(&format!(
            "warning: the {role} of {from} ran out at {time}: what it revoked since may be missing"
        ));
    }
    let found = promote::source(source, image, &origin)?;
    keyring.admit(&mut env)?;
    ceremony::check_clock(&env)?;
    let manifest = &found.manifest;
    ui.note(&format!(
        "{} {} of {from} is {}",
        manifest.name, found.source.seq, manifest.image
    ));
    not_revoked(&env, &manifest.image, "promote")?;
    if let Some(policy) = env.policy() {
        let mut stores = vec![store.store()];
        stores.extend(elsewhere.as_ref());
        let checked = promote::check(manifest, &env, policy, &stores, &keyring, ui)?;
        checked.refuse(manifest, &to)?;
        ui.note(&format!("the policy of {to} is met"));
    }
    let Some((mut proposal, release)) = promote::draft(&found, &env, args.min_seq, plan)? else {
        ui.note(&format!(
            "{} is the newest release of {to} already",
            manifest.name
        ));
        if ui.is_json() {
            ui.result_json(&serde_json::json!({
                "schema": ui::SCHEMA, "event": "released-before", "environment": to,
                "name": manifest.name, "image": manifest.image.to_string(),
            }));
        } else {
            ui.result(&manifest.image.to_string());
        }
        return Ok(());
    };
    let file = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{to}-{}-{}.json", release.name, release.seq)));
    shared_files::check(&file, Some(&env), &keyring)?;
    let compared = match &elsewhere {
        Some(_) if args.consenting.show => true,
        Some(source) => promote::copy(manifest, source, &store, ui)?,
        None => false,
    };
    if !compared {
        promote::verify(manifest, &store, ui)?;
    }
    let differences = promote::differences(manifest, source, &env, &store, ui)?;
    let consent = consent(args.consenting);
    let signed = ceremony::sign(&mut proposal, Some(&env), &keyring, false, consent, ui)?;
    let Some(review) = signed else {
        return Ok(());
    };
    promote::deltas(manifest, &env, &store, args.deltas, ui)?;
    let outcome =
        shared_files::settle(&proposal, &review, Some(&mut env), &store, &keyring, &file)?;
    if ui.is_json() {
        let (published, file) = match &outcome {
            Outcome::Waiting { file, .. } => (false, Some(file.display().to_string())),
            _ => (true, None),
        };
        ui.result_json(&Promoted {
            schema: ui::SCHEMA,
            event: "promoted",
            environment: to.to_string(),
            name: release.name.to_string(),
            image: release.image.to_string(),
            seq: release.seq,
            published,
            file,
            differences: differences.as_ref(),
        });
        return Ok(());
    }
    let what = format!("release {to}/{}/{}", release.name, release.seq);
    report(&outcome, &what, SIGN, ui);
    ui.result(&release.image.to_string());
    Ok(())
}

/// The waves of a new release.
fn plan(args: &WaveArgs) -> Result<Option<WavePlan>> {
    if args.stages.is_empty() {
        return Ok(None);
    }
    let (minutes, nodes) = (args.widen_after, args.widen_nodes);
    let is_stated = minutes.is_some() || nodes.is_some();
    let rule = is_stated.then(|| Rule {
        minutes: minutes.unwrap_or_default(),
        nodes: nodes.unwrap_or(1),
    });
    let stages = args.stages.clone();
    Waves::begin(stages.clone(), rule, jiff::Timestamp::now())
        .map_err(|why| Error::usage("a release cannot have these waves").detail(why))?;
    Ok(Some(WavePlan { stages, rule }))
}

/// The store that an image comes from, if that is not the destination.
fn source_store(args: &PromoteArgs, settings: &Settings) -> Result<Option<Store>> {
    let variable = settings.variable("IMGBUILD_STORE").map(PathBuf::from);
    let source = args.source.clone().or(variable);
    let Some(source) = source else {
        return Ok(None);
    };
    let given = Given {
        store: Some(source),
        work: Some(settings.work.clone()),
        keys: Some(settings.keys.clone()),
        archives: Vec::new(),
        environment: settings.environment().clone(),
    };
    let other = Settings::resolve(given, rustix::process::geteuid().is_root())?;
    if other.store_url == settings.store_url {
        return Ok(None);
    }
    stores::open(&other).map(Some)
}

/// Signs what somebody else has proposed, after the same checks.
fn sign(
    file: &Path,
    consent: Consent,
    store: &WritableStore,
    keyring: &Keyring,
    ui: &mut Ui,
) -> Result<()> {
    let mut proposal = shared_files::read_to_sign(file, consent)?;
    if proposal.changes_root() {
        return Err(Error::usage(format!("{} changes a root", file.display()))
            .hint(format!("imgbuild env root sign {}", file.display())));
    }
    let mut env = open(store, &proposal.environment)?;
    keyring.admit(&mut env)?;
    ceremony::check_clock(&env)?;
    let name = env.name().clone();
    let what = format!("the change of {name}");
    if published(&env, &proposal)? {
        report(&Outcome::AlreadyPublished, &what, SIGN, ui);
        return Ok(());
    }
    let review = env
        .review(&proposal)
        .map_err(|e| ceremony::failed(format!("{} is refused", file.display()), &e))?;
    for manifest in &review.releases {
        let made = |entry: &&LogEntry| entry.name == manifest.name && entry.from.is_some();
        if let Some(entry) = review.entries.iter().find(made) {
            promote::came_from(entry, manifest, store, keyring, ui);
        }
        promote::meets(manifest, &env, store, keyring, ui)?;
        promote::verify(manifest, store, ui)?;
        promote::differences(manifest, store.store(), &env, store, ui)?;
    }
    let must = !review.complete();
    let signed = ceremony::sign(&mut proposal, Some(&env), keyring, must, consent, ui)?;
    let Some(review) = signed else {
        return Ok(());
    };
    let outcome = shared_files::settle(&proposal, &review, Some(&mut env), store, keyring, file)?;
    report(&outcome, &what, SIGN, ui);
    Ok(())
}

/// Whether a change has been published before.
pub(super) fn published(env: &Environment<'_>, proposal: &Proposal) -> Result<bool> {
    env.has_published(proposal)
        .map_err(|e| ceremony::unreadable(env.name(), &e))
}

/// Refuses an image that an environment has revoked.
pub(super) fn not_revoked(env: &Environment<'_>, image: &ImageId, act: &str) -> Result<()> {
    let what = || format!("cannot read the releases of {}", env.name());
    let releases = env.releases().map_err(|e| ceremony::failed(what(), &e))?;
    if !revoked_images(&releases).contains(image) {
        return Ok(());
    }
    let what = format!("{image} was revoked in {}", env.name());
    let hint = format!("{act} an image that mends what the revocation was for");
    Err(Error::new(ErrorKind::Refused, what).hint(hint))
}

pub(super) fn revoke(args: &RevokeArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let keyring = keyring(&args.signing, settings)?;
    let name = environment(&args.env)?;
    let mut env = open(&store, &name)?;
    keyring.admit(&mut env)?;
    let image = revoked_image(&args.image, &name, &env, &store)?;
    let file = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{name}-revoke-{}.json", &image.hex()[..16])));
    shared_files::check(&file, Some(&env), &keyring)?;
    let mut proposal: Proposal = env
        .draft_revocation(&image, &args.reason, args.min_seq, jiff::Timestamp::now())
        .map_err(|e| ceremony::failed(format!("cannot revoke {image} in {name}"), &e))?;
    let consent = consent(args.consenting);
    let signed = ceremony::sign(&mut proposal, Some(&env), &keyring, false, consent, ui)?;
    let Some(review) = signed else {
        return Ok(());
    };
    let outcome =
        shared_files::settle(&proposal, &review, Some(&mut env), &store, &keyring, &file)?;
    report(&outcome, "the revocation", SIGN, ui);
    let mut keys = review.needs.iter().flat_map(|need| &need.keys);
    let unsigned = keys.all(|(_, signed)| !signed);
    if let Outcome::Waiting { .. } = outcome {
        ui.note(&format!(
            "warning: {image} may still run until that is published"
        ));
    }
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "revoked", "environment": name,
            "image": image.to_string(),
            "published": !matches!(outcome, Outcome::Waiting { .. }),
        }));
    } else {
        ui.result(&image.to_string());
    }
    if unsigned {
        let what = format!("nobody has signed the revocation of {image}");
        return Err(Error::failed(what).hint(format!(
            "who may sign it does: imgbuild promote --sign {}",
            file.display()
        )));
    }
    Ok(())
}

/// The image to be revoked: one that is released there, whether or not the store
/// still has it.
fn revoked_image(
    text: &str,
    name: &EnvName,
    env: &Environment<'_>,
    store: &WritableStore,
) -> Result<store::ImageId> {
    let releases = env
        .releases()
        .map_err(|e| ceremony::failed(format!("cannot read the releases of {name}"), &e))?;
    let bare = text.strip_prefix(&format!("{name}/")).unwrap_or(text);
    // The newest of that name, or that number.
    let means = |r: &&Release| r.name.as_str() == bare || format!("{}/{}", r.name, r.seq) == bare;
    if let Some(release) = releases.iter().filter(means).max_by_key(|r| r.seq) {
        return Ok(release.image);
    }
    let digits = bare.strip_prefix("blake3:").unwrap_or(bare);
    let mut found: Vec<_> = releases
        .iter()
        .filter(|r| digits.len() >= 8 && r.image.hex().starts_with(digits))
        .map(|r| r.image)
        .collect();
    found.sort_unstable();
    found.dedup();
    match &*found {
        [image] => Ok(*image),
        [] => Ok(find::image(store.store(), text)?.image),
        _ => Err(Error::usage(format!(
            "more than one image of {name} begins with {digits}"
        ))),
    }
}
