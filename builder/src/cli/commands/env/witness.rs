//! `imgbuild env witness ENV`

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;
use store::EnvName;
use store::keys::PublicKey;
use store::tuf::{
    Claim, Environment, ExportedEnvironment, LogEntry, MAX_EXPORTED, MetadataStore, Testimony,
};

use super::{environment, line, open};
use crate::atomic_file;
use crate::cli::args::EnvWitnessArgs;
use crate::cli::commands::promote::consent;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::release::ceremony::{self, failed};
use crate::release::keyring::{Keyring, Passphrase};
use crate::release::shared_files;
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

pub(super) fn run(args: &EnvWitnessArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let name = environment(&args.env)?;
    if let Some(file) = &args.add {
        return add(file, &name, settings, ui);
    }
    let passphrase = Passphrase::find(args.secret.passphrase_file.as_ref(), settings)?;
    let keyring = Keyring::new(settings, passphrase, None);
    // A store that only reads takes a file.
    let reads_only = args.output.is_some() || args.consenting.show;
    if args.from.is_some() && !reads_only {
        return Err(
            Error::usage("--from reads no store: where does what is signed go?")
                .hint("add --output FILE"),
        );
    }
    if let Some(file) = &args.from {
        let exported = read_exported(file)?;
        return witness(args, &name, &exported, &keyring, settings, ui);
    }
    if reads_only {
        let store = stores::open(settings)?;
        return witness(args, &name, &store, &keyring, settings, ui);
    }
    settings.require_writable().map_err(|error| {
        error.hint(format!(
            "write what is signed to a file: --output FILE; where the store can be written: \
             imgbuild env witness {name} --add FILE"
        ))
    })?;
    let store = stores::open_to_write(settings)?;
    witness(args, &name, &store, &keyring, settings, ui)
}

/// Reads an environment, compares it with what this witness saw, and signs.
fn witness(
    args: &EnvWitnessArgs,
    name: &EnvName,
    store: &dyn MetadataStore,
    keyring: &Keyring,
    settings: &Settings,
    ui: &Ui,
) -> Result<()> {
    let what = || format!("{name} is not witnessed");
    let mut env = Environment::open(store, name).map_err(|e| failed(what(), &e))?;
    keyring.vouches_for(&env)?;
    let memory = memory_path(settings, &env);
    // Who only looks leaves nothing behind.
    let _alone = if args.consenting.show {
        None
    } else {
        Some(lock(&memory)?)
    };
    let seen = remembered(&memory, name)?;
    let new = env
        .since(seen.as_ref().map(|seen| &seen.checkpoint))
        .map_err(|e| failed(what(), &e))?;
    env.log_tells_all().map_err(|e| failed(what(), &e))?;
    // Beside the witness's own memory, that of everybody who signs here.
    if !args.consenting.show {
        keyring.goes_on(&mut env)?;
    }
    ceremony::check_clock(&env)?;
    show(&env, &new, seen.as_ref(), keyring, ui)?;
    let consent = consent(args.consenting);
    let Some(key) = args.key.as_ref().filter(|_| !consent.show_only) else {
        ui.note("nothing was signed");
        return Ok(());
    };
    let entry = keyring.entry(key)?;
    counts(&env, key, &entry.public, ui)?;
    let checkpoint = env.checkpoint(Timestamp::now());
    let mut said = seen.filter(|seen| {
        let (old, new) = (&seen.checkpoint, &checkpoint);
        let same = |of: &store::tuf::Checkpoint| (of.root, of.targets, of.length);
        same(old) == same(new) && entry.public.as_ref() == Ok(&seen.key)
    });
    if said.is_none() {
        let question = format!("sign as {key} that the log of {name} ends there?");
        ceremony::ask(&question, consent, ui)?;
        let key = keyring.open_entry(&entry)?;
        if entry.public.is_err() {
            counts(&env, &entry.name, &Ok(key.public()), ui)?;
        }
        let signed = checkpoint.sign(&*key).map_err(|e| failed(what(), &e))?;
        // Remembered before anybody else sees it.
        atomic_file::write(&memory, &signed.to_json())?;
        said = Some(signed);
    }
    let Some(said) = said else { return Ok(()) };
    match &args.output {
        Some(file) => {
            let is_own = |bytes: &[u8]| {
                Testimony::from_json(bytes, name).is_ok_and(|there| there.key == said.key)
            };
            shared_files::write_over(file, &said.to_json(), &is_own)?;
            ui.note(&format!(
                "wrote {0}; where the store can be written: imgbuild env witness {name} --add {0}",
                file.display()
            ));
        }
        None => env.put_testimony(&said).map_err(|e| failed(what(), &e))?,
    }
    tell(&said, ui);
    Ok(())
}

/// Refuses a testimony that nobody would listen to; without a rule it is for people alone.
fn counts(
    env: &Environment<'_>,
    name: &str,
    key: &std::result::Result<PublicKey, String>,
    ui: &Ui,
) -> Result<()> {
    let (Some(policy), Ok(key)) = (env.policy(), key) else {
        return Ok(());
    };
    match policy.listens_to(Claim::Witnessed, key) {
        Some(true) => Ok(()),
        Some(false) => {
            let what = format!("{name} is no witness of {}", env.name());
            let names = policy.names_of(Claim::Witnessed).join(", ");
            Err(Error::new(ErrorKind::Refused, what).hint(format!("its policy listens to {names}")))
        }
        None => {
            ui.note(&format!(
                "the policy of {} asks for no witness: releases do not wait for this",
                env.name()
            ));
            Ok(())
        }
    }
}

/// Puts what a witness signed elsewhere into the store.
fn add(file: &Path, name: &EnvName, settings: &Settings, ui: &Ui) -> Result<()> {
    settings.require_writable()?;
    let store = stores::open_to_write(settings)?;
    let what = || format!("{} is not put into the store", file.display());
    let said = read_testimony(file, name)?;
    let env = open(&store, name)?;
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    let names = keyring.names(env.policy())?;
    counts(&env, &names.short(&said.key), &Ok(said.key), ui)?;
    env.put_testimony(&said).map_err(|e| failed(what(), &e))?;
    tell(&said, ui);
    Ok(())
}

/// An environment's history in a file.
pub(super) fn read_exported(file: &Path) -> Result<ExportedEnvironment> {
    let what = || format!("cannot read {}", file.display());
    let mut bytes = Vec::new();
    let opened = File::open(file).context(what)?;
    opened
        .take(MAX_EXPORTED + 1)
        .read_to_end(&mut bytes)
        .context(what)?;
    if bytes.len() as u64 > MAX_EXPORTED {
        return Err(
            Error::failed(what()).detail(format!("it is longer than {}", ui::size(MAX_EXPORTED)))
        );
    }
    ExportedEnvironment::from_json(&bytes).map_err(|e| of_kind(failed(what(), &e), &bytes))
}

/// What this machine remembers of an environment: what it signed last.
fn memory_path(settings: &Settings, env: &Environment<'_>) -> PathBuf {
    let fingerprint = env.fingerprint().hex();
    let file = format!("{}-{}.witness", env.name(), &fingerprint[..16]);
    settings.keys.join(file)
}

/// Keeps others of this machine away from the memory, until it is dropped: two that compared with
/// the same memory could sign two histories.
fn lock(memory: &Path) -> Result<File> {
    let path = memory.with_extension("lock");
    let failed = || format!("cannot lock {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).context(failed)?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .context(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let text = "another `env witness` of this environment runs here";
            Err(Error::new(ErrorKind::Busy, text).hint("it may wait for an answer at its terminal"))
        }
        Err(TryLockError::Error(error)) => Err(error).context(failed),
    }
}

fn remembered(path: &Path, name: &EnvName) -> Result<Option<Testimony>> {
    if !path.exists() {
        return Ok(None);
    }
    let hint = "this file says what was seen before: put it back from a backup; without it \
                nobody here notices another history";
    read_testimony(path, name)
        .map(Some)
        .map_err(|error| error.hint(hint))
}

fn read_testimony(path: &Path, name: &EnvName) -> Result<Testimony> {
    let what = || format!("cannot read {}", path.display());
    let bytes = fs::read(path).context(what)?;
    Testimony::from_json(&bytes, name).map_err(|e| of_kind(failed(what(), &e), &bytes))
}

/// The error of a file, with what to do where it is of another kind.
fn of_kind(error: Error, bytes: &[u8]) -> Error {
    match shared_files::kind(bytes) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Shows all that would be signed.
fn show(
    env: &Environment<'_>,
    new: &[LogEntry],
    seen: Option<&Testimony>,
    keyring: &Keyring,
    ui: &Ui,
) -> Result<()> {
    let name = env.name();
    ui.note(&match seen {
        Some(seen) => format!(
            "{name} goes on from entry {}, which was seen on {}; since then:",
            seen.checkpoint.length, seen.checkpoint.time
        ),
        None => format!("{name} is seen for the first time; all of its log:"),
    });
    let signers = env
        .log_signers(new)
        .map_err(|e| failed(format!("cannot read the log of {name}"), &e))?;
    let names = keyring.names(env.policy())?;
    for (entry, signers) in new.iter().zip(signers) {
        let signers: Vec<_> = signers.iter().map(|key| names.short(key)).collect();
        ui.note(&format!("  {}", line(entry, &signers.join(", "))));
    }
    if new.is_empty() {
        ui.note("  nothing");
    }
    Ok(())
}

fn tell(said: &Testimony, ui: &Ui) {
    let seen = &said.checkpoint;
    if ui.is_json() {
        ui.result_json(&json!({
            "schema": ui::SCHEMA, "event": "witnessed", "checkpoint": seen,
        }));
        return;
    }
    ui.result(&format!(
        "witnessed: the log of {} has {} entries, the last of them {}",
        seen.environment, seen.length, seen.sha256
    ));
}
