//! `imgbuild promote --widen`, `--halt` and `--resume`: the waves of a release go on or stand still.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use store::tuf::Environment;
use store::tuf::waves::{Step, Waves};
use store::{EnvName, ImageName, WritableStore};

use super::env::{open, report};
use super::fleet;
use super::promote::{SIGN, consent, keyring};
use crate::cli::args::{PromoteArgs, WaveArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::fleet::Place;
use crate::fleet::rollout::Rollout;
use crate::release::ceremony::{self, Outcome};
use crate::release::keyring::Keyring;
use crate::release::shared_files;
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

/// What `--json` says at the end.
#[derive(Serialize)]
struct Stepped<'a> {
    schema: u32,
    event: &'static str,
    environment: &'a EnvName,
    name: &'a ImageName,
    seq: u64,
    /// The waves as they then stand.
    waves: &'a Waves,
    /// Whether nodes see it.
    published: bool,
    /// The file that waits for signatures.
    file: Option<String>,
}

/// The step that was asked for, if any was.
pub(super) fn step(args: &WaveArgs) -> Option<Step> {
    if args.widen {
        return Some(Step::Widen);
    }
    if args.halt {
        let reason = args.reason.clone().unwrap_or_default();
        return Some(Step::Halt { reason });
    }
    args.resume.then_some(Step::Resume)
}

/// Signs a step of the waves of the newest release of a name.
pub(super) fn run(
    args: &PromoteArgs,
    image: &str,
    to: &EnvName,
    step: &Step,
    settings: &Settings,
    ui: &mut Ui,
) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let keyring = keyring(&args.signing, settings)?;
    let name = name(image, to)?;
    let mut env = open(&store, to)?;
    keyring.admit(&mut env)?;
    if args.waves.if_clean && !is_clean(&args.waves, &name, &env, settings, ui)? {
        return Ok(());
    }
    take(args, (&name, step), env, &store, &keyring, ui)
}

fn take(
    args: &PromoteArgs,
    (name, step): (&ImageName, &Step),
    mut env: Environment<'_>,
    store: &WritableStore,
    keyring: &Keyring,
    ui: &mut Ui,
) -> Result<()> {
    ceremony::check_clock(&env)?;
    let to = env.name().clone();
    let drafted = env.draft_waves(name, step, Timestamp::now());
    let (mut proposal, release) =
        drafted.map_err(|e| ceremony::failed(format!("cannot change the waves of {name}"), &e))?;
    let Some(waves) = release.custom.waves else {
        return Err(Error::failed("a step of waves without waves"));
    };
    let seq = release.seq;
    let (event, part) = match step {
        Step::Widen => ("widened", format!("stage-{}", waves.reached())),
        Step::Halt { .. } => ("halted", "halt".to_owned()),
        Step::Resume => ("resumed", "resume".to_owned()),
    };
    let file = args.output.clone();
    let file = file.unwrap_or_else(|| PathBuf::from(format!("{to}-{name}-{seq}-{part}.json")));
    shared_files::check(&file, Some(&env), keyring)?;
    let consent = consent(args.consenting);
    let signed = ceremony::sign(&mut proposal, Some(&env), keyring, false, consent, ui)?;
    let Some(review) = signed else {
        return Ok(());
    };
    let outcome = shared_files::settle(&proposal, &review, Some(&mut env), store, keyring, &file)?;
    if let (Step::Halt { .. }, Outcome::Waiting { .. }) = (step, &outcome) {
        ui.note(&format!(
            "warning: {name} {seq} goes on to reach nodes until that is published"
        ));
    }
    if ui.is_json() {
        let file = match &outcome {
            Outcome::Waiting { file, .. } => Some(file.display().to_string()),
            _ => None,
        };
        ui.result_json(&Stepped {
            schema: ui::SCHEMA,
            event,
            environment: &to,
            name,
            seq,
            waves: &waves,
            published: file.is_none(),
            file,
        });
        return Ok(());
    }
    report(&outcome, &format!("{to}/{name}/{seq}"), SIGN, ui);
    ui.result(&format!("{to}/{name}/{seq}  {}", waves.standing()));
    Ok(())
}

/// The name of the image that is meant: its newest release is.
fn name(image: &str, to: &EnvName) -> Result<ImageName> {
    let bare = image.strip_prefix(&format!("{to}/")).unwrap_or(image);
    bare.parse().map_err(|e| {
        Error::usage(format!("`{}` names no image of {to}", image.escape_debug()))
            .because(&e)
            .hint("waves are those of the newest release of a name: imgbuild promote NAME --to ENV")
    })
}

/// Whether the receipts of its nodes meet the rule of the release; false where nothing is left to
/// widen, and an error with the reasons where they do not.
fn is_clean(
    args: &WaveArgs,
    name: &ImageName,
    env: &Environment<'_>,
    settings: &Settings,
    ui: &Ui,
) -> Result<bool> {
    let to = env.name();
    let releases = ceremony::releases(env)?;
    let newest = releases.iter().rev().find(|release| release.name == *name);
    let waves = newest.and_then(|release| release.custom.waves.as_ref());
    let (Some(newest), Some(waves)) = (newest, waves) else {
        let what = format!("the newest release of {name} in {to} has no waves");
        return Err(Error::usage(what));
    };
    if waves.is_last() && waves.halted().is_none() {
        let seq = newest.seq;
        ui.note(&format!("{to}/{name}/{seq} reaches all nodes already"));
        if ui.is_json() {
            ui.result_json(&serde_json::json!({
                "schema": ui::SCHEMA, "event": "widened-before", "environment": to,
                "name": name, "seq": seq, "waves": waves,
            }));
        } else {
            ui.result(&format!("{to}/{name}/{seq}  {}", waves.standing()));
        }
        return Ok(false);
    }
    let Some(rule) = waves.rule() else {
        let what = format!("release {} of {name} in {to} states no rule", newest.seq);
        return Err(Error::usage(what).hint(
            "it was promoted without --widen-after and --widen-nodes: \
             a person decides, without --if-clean",
        ));
    };
    let place = Place::open(args.from.receipts.as_deref(), settings)?;
    let observed = fleet::observe(
        env,
        &place,
        (fleet::OVERDUE, Timestamp::now()),
        settings,
        ui,
    )?;
    let Some(rollout) = Rollout::of(to, newest, &observed.nodes) else {
        return Err(Error::failed("a release with waves has no rollout"));
    };
    ui.note(&rollout.line());
    let reasons = rollout.in_the_way(rule, Timestamp::now());
    if reasons.is_empty() {
        ui.note(&format!("clean: {rule}"));
        return Ok(true);
    }
    let what = format!("release {} of {name} in {to} is not widened", newest.seq);
    let error = Error::new(ErrorKind::Found, what);
    let error = reasons.into_iter().fold(error, Error::detail);
    Err(error.hint("imgbuild fleet status says more of each node"))
}
