//! `imgbuild env ...`: making, watching and changing environments

mod init;
mod root;
mod status;
mod witness;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use store::attest::{self, Kind};
use store::tuf::{
    Action, Environment, ExportedEnvironment, KeyGroup, LogEntry, MAX_EXPORTED, MetadataStore,
    Policy, Proposal, Renewed,
};
use store::{EnvName, ImageId, Sha256, Store, WritableStore};

pub(super) use self::status::all_warnings;
use super::promote::{consent, keyring};
use crate::cli::args::{
    EnvArgs, EnvCommand, EnvLogArgs, EnvRefreshArgs, EnvRootCommand, EnvTrustArgs,
};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::release::ceremony::{self, Outcome, failed};
use crate::release::keyring::{Keyring, Passphrase};
use crate::release::shared_files;
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

pub(super) fn run(args: &EnvArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    match &args.command {
        EnvCommand::Init(args) => init::run(args, settings, ui),
        EnvCommand::Status(args) => status::run(args.env.as_deref(), settings, ui),
        EnvCommand::Refresh(args) => refresh(args, settings, ui),
        EnvCommand::RotateKey(args) => root::rotate(args, settings, ui),
        EnvCommand::Log(args) => log(args, settings, ui),
        EnvCommand::Witness(args) => witness::run(args, settings, ui),
        EnvCommand::Trust(args) => trust(args, settings, ui),
        EnvCommand::Root(args) => match &args.command {
            EnvRootCommand::Propose(args) => root::propose(args, settings, ui),
            EnvRootCommand::Sign(args) => root::sign(args, settings, ui),
            EnvRootCommand::Publish(args) => root::publish(args, settings, ui),
            EnvRootCommand::Save(args) => root::save(args, settings, ui),
        },
    }
}

/// A name that a person typed.
pub(super) fn environment(name: &str) -> Result<EnvName> {
    name.parse().map_err(|e| {
        Error::usage(format!("`{}` is not an environment", name.escape_default())).because(&e)
    })
}

/// An environment of a store.
pub(super) fn open<'s>(store: &'s WritableStore, name: &EnvName) -> Result<Environment<'s>> {
    ceremony::open(store, name)
}

/// Says which environments of a policy's `from` the store does not have: a name may be mistyped.
fn warn_of_sources(policy: Option<&Policy>, store: &WritableStore, ui: &Ui) -> Result<()> {
    for name in policy.iter().flat_map(|policy| &policy.from) {
        let failed = || format!("cannot look for the environment {name}");
        if !Environment::exists(store, name).context(failed)? {
            ui.note(&format!(
                "warning: `from` of the policy names {name}, and this store has no such environment"
            ));
        }
    }
    Ok(())
}

/// Says what became of a change, and what is next.
pub(super) fn report(outcome: &Outcome, what: &str, sign: &str, ui: &Ui) {
    match outcome {
        Outcome::Published => ui.note(&format!("{what}: published")),
        Outcome::AlreadyPublished => ui.note(&format!("{what}: was published already")),
        Outcome::Waiting { file, complete } => {
            let shown = file.display();
            ui.note(&if *complete {
                format!(
                    "{what} has all signatures; where the online key is: \
                     imgbuild env root publish {shown}"
                )
            } else {
                format!("{what} waits for more signatures; next: {sign} {shown}")
            });
        }
    }
}

fn refresh(args: &EnvRefreshArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let keyring = keyring(&args.signing, settings)?;
    // A mistyped name is said before anything is signed.
    let mut envs = Vec::new();
    for name in &args.envs {
        let mut env = open(&store, &environment(name)?)?;
        keyring.admit(&mut env)?;
        envs.push(env);
    }
    for mut env in envs {
        let name = env.name().clone();
        let what = || format!("cannot renew the signatures of {name}");
        let now = Timestamp::now();
        for (role, time) in env.expiries() {
            if time < now {
                ui.note(&format!(
                    "warning: {role} of {name} ran out at {time}: if somebody kept it from being \
                     renewed, look at imgbuild env log {name} first"
                ));
            }
        }
        let draft = if args.all && !can_sign(&env, KeyGroup::Targets, &keyring)? {
            env.draft_renewal(now).map_err(|e| failed(what(), &e))?
        } else {
            None
        };
        if args.consenting.show {
            for line in status::warnings(&env, now) {
                ui.note(&line);
            }
            match draft {
                Some(draft) => collect(draft, &mut env, &store, &keyring, args, ui)?,
                None => ui.note("nothing was signed"),
            }
            continue;
        }
        if let Some(draft) = draft {
            // What the timer is for comes first.
            if can_sign(&env, KeyGroup::Online, &keyring)? {
                let renewed = renew_online(&mut env, &keyring, now)?;
                ui.note(&format!("{name}: {}", sentence(&signed(renewed))));
            }
            collect(draft, &mut env, &store, &keyring, args, ui)?;
            continue;
        }
        let renewed = if args.all && can_sign(&env, KeyGroup::Targets, &keyring)? {
            let opened = keyring
                .of_environment(&env, &[KeyGroup::Root, KeyGroup::Targets, KeyGroup::Online])?;
            let signers = opened.signers(&env)?;
            env.refresh_all(signers, now)
                .map_err(|e| failed(what(), &e))?
        } else {
            renew_online(&mut env, &keyring, now)?
        };
        keyring.goes_on(&mut env)?;
        let signed = signed(renewed);
        ui.note(&format!("{name}: {}", sentence(&signed)));
        for line in status::warnings(&env, now) {
            ui.note(&format!("warning: {line}"));
        }
        if ui.is_json() {
            ui.result_json(&serde_json::json!({
                "schema": ui::SCHEMA, "event": "refreshed", "environment": name, "signed": signed,
            }));
        }
    }
    Ok(())
}

/// The roles that were signed anew.
fn signed(renewed: Renewed) -> Vec<&'static str> {
    let roles = [
        ("root", renewed.root),
        ("targets", renewed.targets),
        ("snapshot", renewed.snapshot),
        ("timestamp", renewed.timestamp),
    ];
    let new = roles.into_iter().filter(|(_, new)| *new);
    new.map(|(role, _)| role).collect()
}

fn sentence(signed: &[&str]) -> String {
    if signed.is_empty() {
        return "nothing is due".to_owned();
    }
    format!("signed {} anew", signed.join(" and "))
}

fn renew_online(env: &mut Environment<'_>, keyring: &Keyring, now: Timestamp) -> Result<Renewed> {
    let what = format!("cannot renew the signatures of {}", env.name());
    let online = env
        .key_set(KeyGroup::Online)
        .map_err(|e| failed(&*what, &e))?;
    if !can_sign(env, KeyGroup::Online, keyring)? {
        let names = keyring.names(env.policy())?;
        let keys: Vec<_> = online.keys.iter().map(|key| names.full(key)).collect();
        return Err(Error::new(ErrorKind::Refused, what)
            .detail(format!(
                "snapshot and timestamp are signed by {}",
                keys.join(", ")
            ))
            .hint("renew them where that key is, on the builder as a rule"));
    }
    let opened = keyring.of_environment(env, &[KeyGroup::Online])?;
    let renewed = env.refresh_online(&opened.all(), now);
    renewed.map_err(|e| failed(what, &e))
}

/// Whether the keys here are as many as a group's signatures take.
fn can_sign(env: &Environment<'_>, group: KeyGroup, keyring: &Keyring) -> Result<bool> {
    let holders = env
        .key_set(group)
        .map_err(|e| ceremony::unreadable(env.name(), &e))?;
    let mut here = 0;
    for key in &holders.keys {
        here += u64::from(keyring.would_open(key)?);
    }
    Ok(here >= holders.threshold)
}

/// Renews targets that take more signatures than there are keys here: in a file that goes from
/// hand to hand. One that is there already gets the signatures of this machine.
fn collect(
    draft: Proposal,
    env: &mut Environment<'_>,
    store: &WritableStore,
    keyring: &Keyring,
    args: &EnvRefreshArgs,
    ui: &Ui,
) -> Result<()> {
    let name = env.name().clone();
    let what = || format!("cannot read the environment {name}");
    let [_, (_, version, _), ..] = env.role_keys().map_err(|e| failed(what(), &e))?;
    let file = PathBuf::from(format!("{name}-targets-{}.json", version + 1));
    let mut proposal = draft;
    if file.exists() {
        proposal = shared_files::read(&file)?;
        let is_renewal = env.is_renewal(&proposal);
        if !is_renewal.map_err(|e| failed(what(), &e))? {
            let text = format!("{} is no renewal of {name}", file.display());
            return Err(Error::new(ErrorKind::Refused, text).hint(format!(
                "look at it with {} {} --show, or move it away",
                root::SIGN,
                file.display()
            )));
        }
    }
    let consent = consent(args.consenting);
    let signed = ceremony::sign(&mut proposal, Some(env), keyring, false, consent, ui)?;
    let Some(review) = signed else {
        return Ok(());
    };
    let outcome = shared_files::settle(&proposal, &review, Some(env), store, keyring, &file)?;
    report(&outcome, &format!("the renewal of {name}"), root::SIGN, ui);
    Ok(())
}

fn trust(args: &EnvTrustArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let name = environment(&args.env)?;
    let wanted: Sha256 = args.fingerprint.parse().map_err(|e| {
        Error::usage("this is not the digest of a root")
            .because(&e)
            .hint("`sha256:` and 64 digits, as imgbuild env init, status and root save print it")
    })?;
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    if let Some(file) = &args.from {
        // What is not published yet can be vouched for, too.
        if let Ok(begun) = shared_files::read(file)
            && begun.environment == name
            && let Some(root) = begun
                .first_root()
                .map_err(|e| ceremony::unreadable(&name, &e))?
        {
            is_wanted(&name, root, wanted)?;
            return vouch(args, &name, wanted, &keyring, settings, ui);
        }
        let exported = witness::read_exported(file)?;
        let mut env = ceremony::open(&exported, &name)?;
        is_wanted(&name, env.fingerprint(), wanted)?;
        // A file may be old: it does not say where the environment stands.
        keyring.goes_on(&mut env)?;
        return vouch(args, &name, wanted, &keyring, settings, ui);
    }
    let store = stores::open(settings)?;
    let store: &dyn MetadataStore = &store;
    let env = ceremony::open(store, &name)?;
    is_wanted(&name, env.fingerprint(), wanted)?;
    if keyring.begin_anew(&env)? {
        ui.note(&format!(
            "warning: more was seen of {name} than this store has, or something else; from now on \
             this state counts: imgbuild env log {name}"
        ));
    }
    vouch(args, &name, wanted, &keyring, settings, ui)
}

/// Refuses another first root than the one that a person typed.
fn is_wanted(name: &EnvName, found: Sha256, wanted: Sha256) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    let text = format!("{name} there is another environment");
    Err(Error::new(ErrorKind::Refused, text)
        .detail(format!("its first root is {found}"))
        .hint("do not sign anything for it before you know why"))
}

fn vouch(
    args: &EnvTrustArgs,
    name: &EnvName,
    wanted: Sha256,
    keyring: &Keyring,
    settings: &Settings,
    ui: &Ui,
) -> Result<()> {
    if args.only {
        keyring.vouch_only(name, &wanted)?;
    } else {
        keyring.vouch(name, &wanted)?;
    }
    ui.note(&format!(
        "{name} is vouched for in {}",
        settings.keys.display()
    ));
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "trusted", "environment": name,
            "root": wanted.to_string(),
        }));
    }
    Ok(())
}

fn log(args: &EnvLogArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let name = environment(&args.env)?;
    if let Some(file) = &args.from {
        return show_log(args, &name, &witness::read_exported(file)?, settings, ui);
    }
    let store = stores::open(settings)?;
    if let Some(file) = &args.export {
        return export(&store, &name, file, ui);
    }
    show_log(args, &name, &store, settings, ui)
}

/// Writes all that the log of an environment rests on into one file.
fn export(store: &Store, name: &EnvName, file: &Path, ui: &Ui) -> Result<()> {
    let what = || format!("cannot export the log of {name}");
    let env = Environment::open(store, name).map_err(|e| failed(what(), &e))?;
    let entries = env.log(usize::MAX).map_err(|e| failed(what(), &e))?;
    let images: BTreeSet<ImageId> = entries.iter().map(|entry| entry.image).collect();
    let mut approvals = Vec::new();
    for image in images {
        let manifest = match store.manifest(&image) {
            Ok(manifest) => manifest,
            // Of an image that was collected nobody asks who approved it here.
            Err(e) if e.kind() == store::ErrorKind::Missing => continue,
            Err(e) => return Err(stores::failed(what(), &e)),
        };
        let mut odd = |key: &str, e: &store::Error| {
            ui.note(&format!(
                "warning: the attestation {key} is passed over: {e}"
            ));
        };
        let said = attest::of_image(store.backend(), &manifest, &mut odd).context(what)?;
        let approved = said.iter().filter(|one| {
            one.kind == Some(Kind::Approval) && one.applies_to(name, &env.fingerprint())
        });
        let envelopes = approved.map(|one| one.envelope().to_json());
        approvals.extend(envelopes.map(|json| String::from_utf8_lossy(&json).into_owned()));
    }
    let exported = ExportedEnvironment::of(store, name, approvals);
    let json = exported.and_then(|exported| exported.to_json());
    let json = json.map_err(|e| failed(what(), &e))?;
    if json.len() as u64 > MAX_EXPORTED {
        return Err(Error::failed(what())
            .detail(format!(
                "it would take {}, and files are read to {}",
                ui::size(json.len() as u64),
                ui::size(MAX_EXPORTED)
            ))
            .hint("whoever checks it elsewhere reads the store itself: --store URL"));
    }
    let is_log = |bytes: &[u8]| ExportedEnvironment::from_json(bytes).is_ok();
    shared_files::write_over(file, &json, &is_log)?;
    if ui.is_json() {
        ui.result_json(&serde_json::json!({
            "schema": ui::SCHEMA, "event": "exported", "environment": name,
            "entries": entries.len(), "file": file.display().to_string(),
        }));
    } else {
        ui.result(&format!("{} entries: {}", entries.len(), file.display()));
    }
    Ok(())
}

fn show_log(
    args: &EnvLogArgs,
    name: &EnvName,
    store: &dyn MetadataStore,
    settings: &Settings,
    ui: &Ui,
) -> Result<()> {
    let what = || format!("cannot read the log of {name}");
    let env = Environment::open(store, name).map_err(|e| failed(what(), &e))?;
    let entries = env.log(args.most).map_err(|e| failed(what(), &e))?;
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    // Everybody may read a log; whoever sends one could have written it.
    if args.from.is_some() && keyring.vouches_for(&env).is_err() {
        ui.note(&format!(
            "warning: nobody here has vouched for this {name}, whose first root is {}",
            env.fingerprint()
        ));
    }
    let names = keyring.names(env.policy())?;
    let signers = env.log_signers(&entries).map_err(|e| failed(what(), &e))?;
    for (entry, signers) in entries.iter().zip(signers) {
        if ui.is_json() {
            let ids: Vec<_> = signers.iter().map(store::keys::PublicKey::id).collect();
            let public: Vec<_> = signers.iter().map(store::keys::PublicKey::hex).collect();
            ui.result_json(&serde_json::json!({
                "schema": ui::SCHEMA, "entry": entry, "signers": ids, "public": public,
            }));
            continue;
        }
        let signers: Vec<_> = signers.iter().map(|key| names.short(key)).collect();
        ui.result(&line(entry, &signers.join(", ")));
    }
    Ok(())
}

fn line(entry: &LogEntry, signers: &str) -> String {
    let act = match entry.act {
        Action::Release => "release",
        Action::Promote => "promote",
        Action::Revoke => "revoke",
        Action::MinSeq => "min-seq",
        Action::Widen => "widen",
        Action::Halt => "halt",
        Action::Resume => "resume",
    };
    let mut text = format!(
        "{:>4}  {}  {act:<8} {}/{}  {}",
        entry.number, entry.time, entry.name, entry.seq, entry.image
    );
    if let Some(from) = &entry.from {
        let _ = write!(text, "  from {}/{}", from.env, from.seq);
    }
    if let Some(seq) = entry.min_seq {
        let _ = write!(text, "  not below {seq}");
    }
    if let Some(waves) = &entry.waves {
        let _ = write!(text, "  {}", waves.standing());
    }
    if let Some(reason) = &entry.reason {
        let _ = write!(text, "  \"{}\"", reason.escape_default());
    }
    if !signers.is_empty() {
        let _ = write!(text, "  by {signers}");
    }
    text
}
