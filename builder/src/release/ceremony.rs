//! A change of an environment, from a proposal to what is published: shown, signed
//! with the keys in hand, published if that is enough, else left in a file for others.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use store::keys::PublicKey;
use store::tuf::{
    Environment, KeyGroup, MetadataStore, Proposal, Release, RequiredSignatures, Review,
};
use store::{EnvName, WritableStore};

use crate::error::{Error, ErrorKind, Result};
use crate::release::keyring::{self, Keyring, Names};
use crate::ui::{self, Ui};

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

/// Opens an environment to read it.
pub fn open<'s>(store: &'s dyn MetadataStore, name: &EnvName) -> Result<Environment<'s>> {
    Environment::open(store, name).map_err(|e| unreadable(name, &e))
}

/// Opens an environment that somebody here has vouched for, as it stands.
pub fn admitted<'s>(
    store: &'s dyn MetadataStore,
    name: &EnvName,
    keyring: &Keyring,
) -> Result<Environment<'s>> {
    let mut env = open(store, name)?;
    keyring.admit(&mut env)?;
    Ok(env)
}

/// The releases of an environment.
pub fn releases(env: &Environment<'_>) -> Result<Vec<Release>> {
    env.releases().map_err(|e| unreadable(env.name(), &e))
}

/// The error of an environment that cannot be read.
pub fn unreadable(name: &EnvName, e: &store::tuf::Error) -> Error {
    failed(format!("cannot read the environment {name}"), e)
}

/// An error of an environment, with its exit code and hint.
pub fn failed(what: impl Into<String>, e: &store::tuf::Error) -> Error {
    use store::tuf::ErrorKind as Env;
    let kind = match e.kind() {
        Env::Untrusted
        | Env::WrongKey
        | Env::Threshold
        | Env::Malformed
        | Env::Clock
        | Env::Stale => ErrorKind::Refused,
        Env::Range => ErrorKind::Usage,
        Env::Store if is_busy(e) => ErrorKind::Busy,
        _ => ErrorKind::Failed,
    };
    let error = Error::new(kind, what).because(e);
    match e.hint() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn is_busy(e: &store::tuf::Error) -> bool {
    std::error::Error::source(e)
        .and_then(|source| source.downcast_ref::<store::Error>())
        .is_some_and(|source| source.kind() == store::ErrorKind::Busy)
}

/// The error of a change that somebody else's overtook: it fitted the environment as it was
/// opened.
fn not_published(
    proposal: &Proposal,
    env: Option<&Environment<'_>>,
    e: &store::tuf::Error,
) -> Error {
    let what = format!("cannot publish the change of {}", proposal.environment);
    let stale = e.kind() == store::tuf::ErrorKind::Stale;
    if stale && env.is_some_and(|env| env.review(proposal).is_ok()) {
        return Error::new(ErrorKind::Busy, what)
            .because(e)
            .hint("somebody else was faster: run the command again");
    }
    failed(what, e)
}

/// How a person consents to a change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Consent {
    /// They have, on the command line.
    pub given: bool,
    /// They only look.
    pub show_only: bool,
}

/// Shows all that a change would change, and who has signed it.
pub fn show(proposal: &Proposal, review: &Review, names: &Names, ui: &Ui) {
    ui.note(&format!(
        "changes of the environment {}:",
        proposal.environment
    ));
    for line in &review.changes {
        ui.note(&format!("  {}", names.sentence(line)));
    }
    for line in &review.warnings {
        ui.note(&format!("  warning: {}", names.sentence(line)));
    }
    show_needs(&review.needs, names, ui);
}

/// Shows which signatures are there, and which could be added.
pub fn show_needs(needs: &[RequiredSignatures], names: &Names, ui: &Ui) {
    for need in needs {
        ui.note(&format!("  {}", sentence(need, names)));
    }
}

fn sentence(need: &RequiredSignatures, names: &Names) -> String {
    let who = |signed: bool| {
        let keys = need.keys.iter().filter(|(_, has)| *has == signed);
        keys.map(|(key, _)| names.full(key))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let have = need.keys.iter().filter(|(_, signed)| *signed).count();
    let mut text = format!("signed as {}: {have} of {}", need.role, need.threshold);
    if have > 0 {
        let _ = write!(text, ", by {}", who(true));
    }
    if need.missing() > 0 {
        let _ = write!(text, "; could sign: {}", who(false));
    }
    text
}

/// Everybody who could sign a change.
fn signers(review: &Review) -> Vec<PublicKey> {
    let keys = review.needs.iter().flat_map(|need| &need.keys);
    keys.map(|(key, _)| *key).collect()
}

/// Compares a change with the environment, as it is before anybody here signs.
fn review(proposal: &Proposal, env: Option<&Environment<'_>>) -> Result<Review> {
    let what = || format!("cannot sign the change of {}", proposal.environment);
    let review = match env {
        Some(env) => env.review(proposal),
        None => Environment::review_init(proposal),
    };
    review.map_err(|e| failed(what(), &e))
}

/// Refuses to sign with a clock that stands before what was signed last.
pub fn check_clock(env: &Environment<'_>) -> Result<()> {
    let checked = env.check_clock(Timestamp::now());
    checked.map_err(|e| failed(format!("nothing is signed for {}", env.name()), &e))
}

/// Shows a change, asks the person at the terminal, and only then opens the keys in hand
/// that count and signs with them. Where there is no such key, that is an error only if
/// somebody `must` sign. `None` if the change was only to be shown.
pub fn sign(
    proposal: &mut Proposal,
    env: Option<&Environment<'_>>,
    keyring: &Keyring,
    must: bool,
    consent: Consent,
    ui: &Ui,
) -> Result<Option<Review>> {
    let before = review(proposal, env)?;
    let own = proposal.policy();
    let names = keyring.names(env.and_then(Environment::policy).or(own.as_ref()))?;
    show(proposal, &before, &names, ui);
    if consent.show_only {
        ui.note("nothing was signed");
        return Ok(None);
    }
    let wanted = signers(&before);
    let mut here = Vec::new();
    for key in &wanted {
        if keyring.would_open(key)? && !here.contains(key) {
            here.push(*key);
        }
    }
    if let Some(env) = env {
        check_clock(env)?;
    }
    if here.is_empty() {
        // A key that somebody chose is to sign, whether or not somebody must.
        return match keyring.chosen() {
            None if !must => Ok(Some(before)),
            _ => Err(no_say(proposal, keyring, &before, &names)),
        };
    }
    let with: Vec<_> = here.iter().map(|key| names.short(key)).collect();
    ask(&format!("sign this with {}?", with.join(", ")), consent, ui)?;
    let what = format!("cannot sign the change of {}", proposal.environment);
    let opened = keyring.open(&wanted)?;
    let keys = opened.all();
    let after = match env {
        Some(env) => env.sign(proposal, &keys),
        None => Environment::sign_init(proposal, &keys),
    };
    let after = after.map_err(|e| failed(what, &e))?;
    show_needs(&after.needs, &names, ui);
    Ok(Some(after))
}

/// The error of whoever has no key that counts for a change.
fn no_say(proposal: &Proposal, keyring: &Keyring, review: &Review, names: &Names) -> Error {
    let chosen = keyring.chosen();
    let what = format!("cannot sign the change of {}", proposal.environment);
    let mut error = Error::new(ErrorKind::Refused, what).detail(match chosen {
        Some(name) => format!("the key {name} does not count for it"),
        None => "there is no key in hand to sign it with".to_owned(),
    });
    for need in &review.needs {
        error = error.detail(sentence(need, names));
    }
    let wanted = signers(review);
    if wanted.iter().any(|key| keyring.has(key).unwrap_or(false)) {
        return error.hint("leave --key out, or name one of those that could sign it");
    }
    error.hint("a key that could sign it belongs into the directory of keys: --keys DIR")
}

/// Refuses to publish what too few have signed, and names those who could.
pub fn signed_by_enough(
    review: &Review,
    names: &Names,
    proposal: &Proposal,
    file: &Path,
) -> Result<()> {
    if review.complete() {
        return Ok(());
    }
    let what = format!("cannot publish the change of {}", proposal.environment);
    let mut error = Error::new(ErrorKind::Refused, what);
    for need in review.needs.iter().filter(|need| need.missing() > 0) {
        error = error.detail(sentence(need, names));
    }
    Err(error.hint(format!(
        "who signs: {} {}",
        command(proposal),
        file.display()
    )))
}

/// The command with which the next person signs a change.
pub fn command(proposal: &Proposal) -> &'static str {
    if proposal.changes_root() || !proposal.changes_releases() {
        "imgbuild env root sign"
    } else {
        "imgbuild promote --sign"
    }
}

/// Asks the person at the terminal, if there is one and they have not consented yet.
pub fn ask(question: &str, consent: Consent, ui: &Ui) -> Result<()> {
    if consent.given || ui.is_json() || !ui::somebody_is_there() {
        return Ok(());
    }
    if keyring::confirm(question)? {
        return Ok(());
    }
    Err(Error::failed("nothing was signed: the answer was not yes"))
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

/// Refuses to begin an environment under a name that another one was vouched for with: whoever
/// drafted it could mean to take its place. One that a root key here has signed is ours.
pub fn may_begin(
    proposal: &Proposal,
    review: &Review,
    keyring: &Keyring,
    file: &Path,
) -> Result<()> {
    let what = || format!("cannot read the change of {}", proposal.environment);
    let Some(root) = proposal.first_root().map_err(|e| failed(what(), &e))? else {
        return Ok(());
    };
    let name = &proposal.environment;
    let vouched = keyring.vouched(name)?;
    if vouched.is_empty() || vouched.contains(&root.to_string()) {
        return Ok(());
    }
    let root_keys = review.needs.iter().filter(|need| need.role == "root");
    for (key, signed) in root_keys.flat_map(|need| &need.keys) {
        if *signed && keyring.has(key)? {
            return Ok(());
        }
    }
    let text = format!("this begins another environment {name} than the one that was vouched for");
    Err(Error::new(ErrorKind::Refused, text)
        .detail(format!(
            "its first root is {root}, and it should be {}",
            vouched.join(" or ")
        ))
        .hint(format!(
            "ask those who made it; if it is to be another one of that name: imgbuild env trust \
             {name} {root} --from {}",
            file.display()
        )))
}

/// Vouches for an environment that this change began and that a root key here has signed, if whoever
/// published it was interrupted before that, and nobody has vouched for another one.
pub fn vouch_for_first(
    proposal: &Proposal,
    store: &WritableStore,
    keyring: &Keyring,
) -> Result<()> {
    let name = &proposal.environment;
    let what = || format!("cannot read the change of {name}");
    let begins = proposal
        .first_root()
        .map_err(|e| failed(what(), &e))?
        .is_some();
    if begins && keyring.vouched(name)?.is_empty() {
        let env = Environment::open(store, name).map_err(|e| failed(what(), &e))?;
        if keyring.knows(&env)? {
            keyring.vouch(name, &env.fingerprint())?;
        }
    }
    Ok(())
}

/// Remembers what was published here, and refuses a store that shows something else by now.
pub fn remember(keyring: &Keyring, env: &Environment<'_>) -> Result<()> {
    let Some(written) = env.written() else {
        return Ok(());
    };
    keyring.wrote(written)?;
    let shown = env.since(Some(written)).or_else(|_| {
        let now = env.reopen()?;
        now.since(Some(written))
    });
    shown.map(|_| ()).map_err(|e| {
        failed(
            format!(
                "the change of {} was published, and the store shows another state",
                env.name()
            ),
            &e,
        )
        .hint("somebody puts earlier files back: look at the store before you go on")
    })
}

/// Publishes a change.
pub fn publish(
    proposal: &Proposal,
    online: &[PublicKey],
    env: Option<&mut Environment<'_>>,
    store: &WritableStore,
    keyring: &Keyring,
) -> Result<Outcome> {
    // One key chosen by name signs the change; the online key is another one.
    let opened = keyring.without_choice().open(online)?;
    let (keys, now) = (opened.all(), Timestamp::now());
    let new = match env {
        Some(env) if !proposal.changes_root() => match env.publish(proposal, &keys, now) {
            Ok(new) => {
                remember(keyring, env)?;
                new
            }
            Err(e) => return Err(not_published(proposal, Some(env), &e)),
        },
        before => {
            let known = before.as_ref().map(|env| env.checkpoint(now));
            let published = Environment::publish_root(store, known.as_ref(), proposal, &keys, now);
            let published = published.map_err(|e| not_published(proposal, before.as_deref(), &e));
            let (env, new) = published?;
            // What was written, whatever lies there by now.
            if let Some(written) = env.written().filter(|_| known.is_none()) {
                keyring.vouch(env.name(), &written.fingerprint)?;
            }
            remember(keyring, &env)?;
            new
        }
    };
    Ok(if new {
        Outcome::Published
    } else {
        Outcome::AlreadyPublished
    })
}
