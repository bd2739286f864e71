//! Files that go from hand to hand: what somebody signed in one is not lost by another command.

use std::fs::{self, File};
use std::io::ErrorKind::NotFound;
use std::path::Path;

use store::WritableStore;
use store::tuf::{Environment, Proposal, Review};

use super::ceremony::{self, Consent, Outcome, failed};
use super::keyring::Keyring;
use crate::atomic_file;
use crate::error::{Context, Error, ErrorKind, Result};

/// Where else a file could go.
const ELSEWHERE: &str = "name another file with --output, or move it away";

/// Reads a change that waits for signatures.
pub fn read(path: &Path) -> Result<Proposal> {
    let what = || format!("cannot read {}", path.display());
    let bytes = fs::read(path).context(what)?;
    Proposal::from_json(&bytes).map_err(|e| {
        let error = failed(what(), &e);
        match kind(&bytes) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })
}

/// Reads one to which signatures go: where none can be put, nobody types a passphrase.
pub fn read_to_sign(path: &Path, consent: Consent) -> Result<Proposal> {
    if !consent.show_only {
        atomic_file::check(path)?;
    }
    read(path)
}

/// What to do with a file that was taken for another kind.
pub fn kind(bytes: &[u8]) -> Option<&'static str> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let has = |name: &str| value.get(name).is_some();
    Some(if has("payload") {
        "this is a signed statement: what a witness signed goes in with imgbuild env witness ENV \
         --add FILE, FILE.dsse.json of an export gets signatures by imgbuild export --sign FILE"
    } else if has("metadata") || has("approvals") {
        "this is an exported log: imgbuild env log ENV --from FILE, env witness ENV --from FILE"
    } else if has("signed") {
        "this is published metadata, and no file that waits for signatures"
    } else if has("environment") && (has("root") || has("targets")) {
        "this is a change that waits for signatures: imgbuild env root sign FILE, or imgbuild \
         promote --sign FILE for a release"
    } else {
        return None;
    })
}

/// Begins a file, where [`check`] allows it; returns what it holds then.
pub fn begin(
    path: &Path,
    proposal: &Proposal,
    env: Option<&Environment<'_>>,
    keyring: &Keyring,
) -> Result<Proposal> {
    let _alone = lock(path)?;
    let whole = if let Some(whole) = merged(path, proposal) {
        whole
    } else {
        check(path, env, keyring)?;
        proposal.clone()
    };
    put(path, &whole)?;
    Ok(whole)
}

/// Puts signatures into a file that was read before. Those that others gave meanwhile stay.
pub fn add(path: &Path, proposal: &Proposal) -> Result<()> {
    let _alone = lock(path)?;
    let whole = merged(path, proposal).ok_or_else(|| {
        let what = format!(
            "{} is another change than the one that was shown",
            path.display()
        );
        Error::new(ErrorKind::Refused, what)
            .hint("somebody replaced it meanwhile: look at it again")
    })?;
    put(path, &whole)
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
    let online = ceremony::online_keys(proposal, env.as_deref())?;
    let here = online.iter().any(|key| keyring.has(key).unwrap_or(false));
    if review.complete() && here {
        // A change of root that is half published is finished from its file; what begins an
        // environment, by the same command again.
        let kept = proposal.changes_root()
            && match begin(file, proposal, env.as_deref(), keyring) {
                Ok(_) => true,
                Err(_) if env.is_none() => false,
                Err(error) => {
                    return Err(error.hint(
                        "a change of root is kept in a file until it is published: --output FILE",
                    ));
                }
            };
        let outcome = ceremony::publish(proposal, &online, env, store, keyring)?;
        if kept {
            match fs::remove_file(file) {
                // Somebody else began the same, and was faster.
                Err(e) if e.kind() == NotFound => {}
                removed => removed.context(|| format!("cannot remove {}", file.display()))?,
            }
        }
        return Ok(outcome);
    }
    let whole = begin(file, proposal, env.as_deref(), keyring)?;
    // Somebody else may have signed the same meanwhile.
    let reviewed = match &env {
        Some(env) => env.review(&whole),
        None => Environment::review_init(&whole),
    };
    let reviewed = reviewed.map_err(|e| failed(format!("cannot read {}", file.display()), &e))?;
    Ok(Outcome::Waiting {
        file: file.to_owned(),
        complete: reviewed.complete(),
    })
}

/// A change with the signatures that a file has for it; none if the file has another change.
fn merged(path: &Path, proposal: &Proposal) -> Option<Proposal> {
    let there = read(path).ok()?;
    let mut whole = proposal.clone();
    whole.merge(&there).ok()?;
    Some(whole)
}

/// Whoever is interrupted has the old file or the new one.
fn put(path: &Path, proposal: &Proposal) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let bytes = proposal.to_json().map_err(|e| failed(what(), &e))?;
    atomic_file::write(path, &bytes)
}

/// Keeps other commands from files of the same directory, until it is dropped. They hold it for
/// as long as a file takes to be written.
pub fn lock(path: &Path) -> Result<File> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let failed = || format!("cannot lock {}", folder.display());
    atomic_file::lock(File::open(folder).context(failed)?, failed)
}

/// Refuses to begin a change anew in a file that holds signatures of others for an earlier one.
/// What they signed can still be published.
pub fn check(path: &Path, env: Option<&Environment<'_>>, keyring: &Keyring) -> Result<()> {
    atomic_file::check(path)?;
    if !path.exists() {
        return Ok(());
    }
    let shown = path.display();
    let taken = |why: String| {
        Error::new(ErrorKind::Refused, format!("{shown} is there already")).detail(why)
    };
    let Ok(old) = read(path) else {
        let why = "it is no change that waits for signatures".to_owned();
        return Err(taken(why).hint(ELSEWHERE));
    };
    let reviewed = match env {
        Some(env) => env.review(&old),
        None => Environment::review_init(&old),
    };
    let review = match reviewed {
        Ok(review) => review,
        // Nobody can publish that any more.
        Err(_) if env.is_some_and(|env| env.is_overtaken(&old).unwrap_or(false)) => return Ok(()),
        Err(e) => return Err(taken(e.to_string()).hint(ELSEWHERE)),
    };
    let names = keyring.names(env.and_then(Environment::policy))?;
    let others = others(&review, keyring)?;
    if others.is_empty() {
        return Ok(());
    }
    let others: Vec<_> = others.iter().map(|key| names.short(key)).collect();
    let why = format!("it holds a change that {} signed", others.join(" and "));
    Err(taken(why).hint(format!(
        "sign that one: {} {shown}; or {ELSEWHERE}",
        ceremony::command(&old)
    )))
}

/// Those who have signed and whose keys are not here.
fn others(review: &Review, keyring: &Keyring) -> Result<Vec<store::keys::PublicKey>> {
    let mut others = Vec::new();
    let keys = review.needs.iter().flat_map(|need| &need.keys);
    for (key, _) in keys.filter(|(_, signed)| *signed) {
        if !keyring.has(key)? && !others.contains(key) {
            others.push(*key);
        }
    }
    Ok(others)
}

/// Writes a file that people are handed, over one of the same kind or where there is none.
pub fn write_over(path: &Path, bytes: &[u8], is_kind: &dyn Fn(&[u8]) -> bool) -> Result<()> {
    let _alone = lock(path)?;
    atomic_file::check(path)?;
    match fs::read(path) {
        Ok(there) if there != bytes && !is_kind(&there) => {
            let shown = path.display();
            let why = "it is something else than what would be written";
            return Err(
                Error::new(ErrorKind::Refused, format!("{shown} is there already"))
                    .detail(why)
                    .hint(ELSEWHERE),
            );
        }
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).context(|| format!("cannot read {}", path.display())),
    }
    atomic_file::write(path, bytes)
}
