//! A change of an environment, from a proposal to what is published: shown, signed
//! with the keys in hand, published if that is enough, else left in a file for others.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use store::WritableStore;
use store::keys::PublicKey;
use store::tuf::{Environment, KeyGroup, Proposal, RequiredSignatures, Review};

use crate::atomic_file;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::release::keyring::Keyring;
use crate::ui::Ui;

/// What became of a change.
#[derive(Debug)]
pub enum Outcome {
    /// It is published.
    Published,
    /// It was before.
    AlreadyPublished,
    /// It waits in a file for more signatures, or for somebody with the online key.
    Waiting {
        /// The file.
        file: PathBuf,
        /// Whether all signatures are there.
        complete: bool,
    },
}

/// An error of an environment, with its exit code and hint.
pub fn failed(what: impl Into<String>, e: &store::tuf::Error) -> Error {
    use store::tuf::ErrorKind as Env;
    let kind = match e.kind() {
        Env::Untrusted | Env::WrongKey | Env::Threshold | Env::Malformed => ErrorKind::Refused,
        Env::Range => ErrorKind::Usage,
        _ => ErrorKind::Failed,
    };
    let error = Error::new(kind, what).because(e);
    match e.hint() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Reads a file that waits for signatures.
pub fn read(path: &Path) -> Result<Proposal> {
    let what = || format!("cannot read {}", path.display());
    let bytes = fs::read(path).context(what)?;
    Proposal::from_json(&bytes).map_err(|e| failed(what(), &e))
}

/// Writes such a file: whoever is interrupted has the old one or the new one.
pub fn write(path: &Path, proposal: &Proposal) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let bytes = proposal.to_json().map_err(|e| failed(what(), &e))?;
    atomic_file::write(path, &bytes)
}

/// Shows what a change would change, to whoever is to sign it.
pub fn show(proposal: &Proposal, review: &Review, keyring: &Keyring, ui: &Ui) {
    ui.note(&format!(
        "changes of the environment {}:",
        proposal.environment
    ));
    for line in &review.changes {
        ui.note(&format!("  {line}"));
    }
    for line in &review.warnings {
        ui.note(&format!("  warning: {line}"));
    }
    for need in &review.needs {
        ui.note(&format!("  {}", sentence(need, keyring)));
    }
}

fn sentence(need: &RequiredSignatures, keyring: &Keyring) -> String {
    let called = |key: &PublicKey| match keyring.name_of(key) {
        Some(name) => format!("{name} ({})", short(key)),
        None => short(key),
    };
    let names = |signed: bool| {
        let keys = need.keys.iter().filter(|(_, has)| *has == signed);
        keys.map(|(key, _)| called(key))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let have = need.keys.iter().filter(|(_, signed)| *signed).count();
    let mut text = format!("signed as {}: {have} of {}", need.role, need.threshold);
    if have > 0 {
        let _ = write!(text, ", by {}", names(true));
    }
    if need.missing() > 0 {
        let _ = write!(text, "; could sign: {}", names(false));
    }
    text
}

/// Enough of a key's id to tell it from others.
pub fn short(key: &PublicKey) -> String {
    key.id()[..16].to_owned()
}

/// Everybody who could sign a change.
fn signers(review: &Review) -> Vec<PublicKey> {
    let keys = review.needs.iter().flat_map(|need| &need.keys);
    keys.map(|(key, _)| *key).collect()
}

/// Signs with the keys in hand that count. Where there is none, that is an error only
/// if somebody `must` sign.
pub fn sign(
    proposal: &mut Proposal,
    env: Option<&Environment<'_>>,
    keyring: &Keyring,
    must: bool,
) -> Result<Review> {
    let what = || format!("cannot sign the change of {}", proposal.environment);
    let before = match env {
        Some(env) => env.review(proposal),
        None => Environment::review_init(proposal),
    };
    let before = before.map_err(|e| failed(what(), &e))?;
    let opened = keyring.open(&signers(&before))?;
    let keys = opened.all();
    if keys.is_empty() && !must {
        return Ok(before);
    }
    let what = what();
    let after = match env {
        Some(env) => env.sign(proposal, &keys),
        None => Environment::sign_init(proposal, &keys),
    };
    after.map_err(|e| failed(what, &e))
}

/// Publishes a change if it is complete and the online key is here, else leaves it in
/// a file.
pub fn settle(
    proposal: &Proposal,
    review: &Review,
    env: Option<&mut Environment<'_>>,
    store: &WritableStore,
    keyring: &Keyring,
    file: &Path,
) -> Result<Outcome> {
    let complete = review.complete();
    let online = online_keys(proposal, env.as_deref())?;
    let here = online.iter().any(|key| keyring.has(key).unwrap_or(false));
    if !complete || !here {
        write(file, proposal)?;
        return Ok(Outcome::Waiting {
            file: file.to_owned(),
            complete,
        });
    }
    publish(proposal, &online, env, store, keyring)
}

/// The keys that sign snapshot and timestamp once the change is published.
pub fn online_keys(proposal: &Proposal, env: Option<&Environment<'_>>) -> Result<Vec<PublicKey>> {
    let what = || format!("cannot read the change of {}", proposal.environment);
    let own = proposal.online_keys().map_err(|e| failed(what(), &e))?;
    match (own, env) {
        (Some(keys), _) => Ok(keys),
        (None, Some(env)) => {
            let holders = env
                .key_set(KeyGroup::Online)
                .map_err(|e| failed(what(), &e))?;
            Ok(holders.keys)
        }
        (None, None) => Ok(Vec::new()),
    }
}

/// Publishes a change.
pub fn publish(
    proposal: &Proposal,
    online: &[PublicKey],
    env: Option<&mut Environment<'_>>,
    store: &WritableStore,
    keyring: &Keyring,
) -> Result<Outcome> {
    let what = || format!("cannot publish the change of {}", proposal.environment);
    // One key chosen by name signs the change; the online key is another one.
    let opened = keyring.without_choice().open(online)?;
    let (keys, now) = (opened.all(), Timestamp::now());
    let new = match env {
        Some(env) if !proposal.changes_root() => env
            .publish(proposal, &keys, now)
            .map_err(|e| failed(what(), &e))?,
        _ => {
            let env = Environment::publish_root(store, proposal, &keys, now);
            let env = env.map_err(|e| failed(what(), &e))?;
            if env.role_keys().is_ok_and(|roles| roles[0].1 == 1) {
                keyring.vouch(env.name(), &env.fingerprint())?;
            }
            true
        }
    };
    Ok(if new {
        Outcome::Published
    } else {
        Outcome::AlreadyPublished
    })
}
