//! Who signs an export: those who sign the environment's releases, and as many of them.
//!
//! The statement beside an exported file collects signatures. Whoever adds one has their
//! own imgbuild make the same file from the store once more, and compares: nobody signs
//! for bytes that somebody else chose.

use std::path::Path;

use store::Store;
use store::dsse::Envelope;
use store::export::Export;
use store::tuf::{Environment, RequiredSignatures};

use super::{Format, describe, write};
use crate::atomic_file;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::inspect::compare;
use crate::release::ceremony::{self, Consent};
use crate::release::keyring::{self, Keyring, Opened};
use crate::release::shared_files;
use crate::settings::Settings;
use crate::stores;
use crate::stores::find;
use crate::stores::released::Released;
use crate::ui::Ui;

/// How somebody signs.
pub struct Signing {
    /// With which keys.
    pub keyring: Keyring,
    /// Whether they have to be asked.
    pub consent: Consent,
}

/// What was signed, and what is still missing.
#[derive(Debug)]
pub struct Signed {
    /// The statement.
    pub export: Export,
    /// The signatures that a node asks for.
    pub needs: RequiredSignatures,
}

/// Shows a release that is to be signed as a file, asks, and opens the keys in hand that
/// count. `None` if it was only to be shown.
pub(super) fn open_keys(
    released: &Released,
    env: &Environment<'_>,
    file: &str,
    envelope: Option<&Envelope>,
    signing: &Signing,
    ui: &Ui,
) -> Result<Option<Opened>> {
    let (keyring, consent) = (&signing.keyring, signing.consent);
    let manifest = &released.manifest;
    ui.note(&format!(
        "{file} is the release {}/{}/{}, {}",
        env.name(),
        released.name,
        released.seq,
        manifest.image
    ));
    if let Some(run) = &manifest.run {
        let start = run.start.join(" ");
        ui.note(&format!("  starts as {}: {start}", run.user));
        for line in compare::run_details(run) {
            ui.note(&format!("    {line}"));
        }
    }
    let names = keyring.names(env.policy())?;
    let needs = needs(env, envelope)?;
    ceremony::show_needs(std::slice::from_ref(&needs), &names, ui);
    if consent.show_only {
        ui.note("nothing was signed");
        return Ok(None);
    }
    let wanted: Vec<_> = needs.keys.iter().map(|(key, _)| *key).collect();
    let mut here = Vec::new();
    for key in &wanted {
        if keyring.would_open(key)? && !here.contains(key) {
            here.push(*key);
        }
    }
    if here.is_empty() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("cannot sign for the environment {}", env.name()),
        )
        .detail(match keyring.chosen() {
            Some(chosen) => format!("the key {chosen} does not sign its releases"),
            None => "none of the keys that sign its releases is here".to_owned(),
        })
        .hint(format!(
            "the environment's keys belong in {}; name another place with --keys DIR, \
                     or leave -o out: standard output is not signed",
            keyring.dir().display()
        )));
    }
    keyring.vouches_for(env)?;
    ceremony::check_clock(env)?;
    let with: Vec<_> = here.iter().map(|key| names.short(key)).collect();
    ceremony::ask(&format!("sign this with {}?", with.join(", ")), consent, ui)?;
    keyring.open(&wanted).map(Some)
}

/// Signs with each key.
pub(super) fn add(envelope: &mut Envelope, keys: &Opened) -> Result<()> {
    for key in keys.all() {
        envelope.sign(key).map_err(|e| keyring::failed(&e))?;
    }
    Ok(())
}

/// The signatures that a node asks for.
pub(super) fn needs(
    env: &Environment<'_>,
    envelope: Option<&Envelope>,
) -> Result<RequiredSignatures> {
    let (keys, threshold) = env
        .targets_keys()
        .map_err(|e| ceremony::unreadable(env.name(), &e))?;
    let good = envelope.map_or_else(Vec::new, |envelope| envelope.signers(&keys));
    let keys = keys.into_iter();
    Ok(RequiredSignatures {
        role: "targets",
        keys: keys.map(|key| (key, good.contains(&key))).collect(),
        threshold,
    })
}

/// Opens an environment to sign for it.
pub(super) fn environment<'s>(store: &'s Store, env: &store::EnvName) -> Result<Environment<'s>> {
    ceremony::open(store, env)
}

/// Makes sure that an environment goes on from what was seen of it, before anything is taken from
/// it. Whether somebody vouches for it is asked before anybody signs.
pub(super) fn admit(env: &mut Environment<'_>, keyring: &Keyring) -> Result<()> {
    if keyring.vouches_for(env).is_err() {
        return Ok(());
    }
    keyring.goes_on(env)
}

/// Takes over what others signed in the file since it was read.
pub(super) fn keep_signatures(path: &Path, envelope: &mut Envelope) -> Result<()> {
    let shown = path.display();
    let bytes = std::fs::read(path).context(|| format!("cannot read {shown}"))?;
    let there = Envelope::from_json(&bytes).ok();
    if there.is_some_and(|there| envelope.merge(&there)) {
        return Ok(());
    }
    let what = format!("{shown} is another statement than the one that was shown");
    Err(Error::new(ErrorKind::Refused, what).hint("somebody replaced it meanwhile: sign it again"))
}

/// Refuses to replace the statement about another file, if others than who is here signed it.
pub(super) fn keeps_others(
    path: &Path,
    released: &Released,
    env: &Environment<'_>,
    format: Format,
    keyring: &Keyring,
) -> Result<()> {
    let there = std::fs::read(path).ok();
    let Some(there) = there.and_then(|bytes| Envelope::from_json(&bytes).ok()) else {
        return Ok(());
    };
    let about = Export::read(&there).map(|export| export.about);
    if about.is_ok_and(|about| {
        let same = (env.name(), &released.name, released.seq);
        (&about.environment, &about.name, about.seq) == same
            && (about.format == format.as_str() && about.encoder == format.encoder())
    }) {
        return Ok(());
    }
    let names = keyring.names(env.policy())?;
    let mut others = Vec::new();
    for (key, signed) in needs(env, Some(&there))?.keys {
        if signed && !keyring.has(&key)? {
            others.push(names.short(&key));
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    let what = format!("{} is there already", path.display());
    Err(Error::new(ErrorKind::Refused, what)
        .detail(format!(
            "{} signed it for another file",
            others.join(" and ")
        ))
        .hint("name another file with -o, or move this one away"))
}

/// Adds signatures to the statement that lies beside an exported file.
pub fn sign(
    path: &Path,
    signing: &Signing,
    settings: &Settings,
    ui: &mut Ui,
) -> Result<Option<Signed>> {
    let shown = path.display();
    let refused =
        |why: String| Error::new(ErrorKind::Refused, format!("{shown} is not signed")).detail(why);
    let bytes = std::fs::read(path).context(|| format!("cannot read {shown}"))?;
    let mut envelope = Envelope::from_json(&bytes).map_err(|e| {
        Error::usage(format!("{shown} is not what `imgbuild export` signed"))
            .because(&e)
            .hint("name FILE.dsse.json")
    })?;
    let theirs = Export::read(&envelope).map_err(|e| refused(e.to_string()))?;
    let about = &theirs.about;
    let store = stores::open(settings)?;
    let mut env = environment(&store, &about.environment)?;
    admit(&mut env, &signing.keyring)?;
    let released = find::released_as(&store, &env, &about.name, about.seq)?;
    let format = Format::named(&about.format)
        .ok_or_else(|| refused(format!("`{}` is no format", about.format.escape_default())))?;
    if format.encoder() != about.encoder {
        let encoder = |one: &Option<store::export::Encoder>| {
            one.as_ref().map_or_else(
                || "none".into(),
                |one| format!("{} {}", one.name, one.version),
            )
        };
        let why = format!(
            "it was compressed by {}, and this imgbuild has {}",
            encoder(&about.encoder),
            encoder(&format.encoder())
        );
        return Err(refused(why).hint(
            "the same file cannot be made here to compare: sign with the version of imgbuild \
             that made it",
        ));
    }
    let Some(keys) = open_keys(&released, &env, &theirs.file, Some(&envelope), signing, ui)? else {
        return Ok(None);
    };
    let written = write(
        &store,
        &released.manifest,
        format,
        &mut std::io::sink(),
        "nowhere",
        ui,
    )?;
    let ours = describe(theirs.file.clone(), env.name(), &released, format, &written);
    if ours != theirs {
        return Err(
            refused("exporting that release again gives another file".into())
                .hint("ask who made it; `imgbuild export` makes a file of your own"),
        );
    }
    add(&mut envelope, &keys)?;
    let _alone = shared_files::lock(path)?;
    keep_signatures(path, &mut envelope)?;
    atomic_file::write(path, &envelope.to_json())?;
    Ok(Some(Signed {
        needs: needs(&env, Some(&envelope))?,
        export: ours,
    }))
}
