//! Publishing a change that enough have signed.
//!
//! Everything but root and timestamp lies under new names that nothing leads to yet,
//! so it comes first; then the root, if that changes, and the timestamp. Killed
//! anywhere, publishing the same file again finishes it.

use jiff::Timestamp as Time;
use serde_json::Value;

use super::compare_and_swap::CompareAndSwap;
use super::draft::RootDraft;
use super::environment::{Current, read, write};
use super::error::{Error, ErrorKind, Result};
use super::lifetimes::{expiry, forward};
use super::metadata::{DraftFile, MetaFile, Root, Targets};
use super::metadata_store::LIMIT;
use super::online::{Changed, online_keys};
use super::proposal::Proposal;
use super::review::{Review, review};
use super::roles::{KeySet, RoleKeys};
use super::{Checkpoint, Environment, Lifetimes, MetadataStore, paths};
use crate::digest::Sha256;
use crate::keys::Signer;
use crate::name::EnvName;

impl<'s> Environment<'s> {
    /// Makes an environment with the default [`Lifetimes`].
    pub fn init(
        store: &'s dyn MetadataStore,
        name: &EnvName,
        keys: &RoleKeys,
        now: Time,
    ) -> Result<Self> {
        Self::init_with(store, name, keys, Lifetimes::default(), now)
    }

    /// Makes an environment: one key and one signature per role.
    ///
    /// It exists once its `timestamp.json` does. An attempt that was killed before that is
    /// finished, if its root was there.
    pub fn init_with(
        store: &'s dyn MetadataStore,
        name: &EnvName,
        keys: &RoleKeys,
        lifetimes: Lifetimes,
        now: Time,
    ) -> Result<Self> {
        let Some(root_key) = keys.root.as_deref() else {
            let text = format!("the environment {name} cannot be made without its root key");
            return Err(Error::new(ErrorKind::WrongKey, text));
        };
        let single = |key: &dyn Signer| KeySet {
            keys: vec![key.public()],
            threshold: 1,
        };
        let draft = RootDraft {
            root: single(root_key),
            targets: single(&*keys.targets),
            online: single(&*keys.online),
            lifetimes,
            policy: None,
        };
        let mut proposal = Self::draft_init(name, &draft, now)?;
        Self::sign_init(&mut proposal, &[root_key, &*keys.targets])?;
        let _lock = lock(store)?;
        // Somebody may have been told of a root already.
        if let Some(begun) = Self::interrupted_init(store, &proposal)? {
            proposal = begun;
        }
        if read(store, name, "timestamp.json")?.is_some() {
            let text = format!("there is an environment {name} in this store already");
            return Err(Error::new(ErrorKind::Exists, text));
        }
        publish(store, name, None, &proposal, &[&*keys.online], now)?;
        Self::open(store, name)
    }

    /// Publishes a change; true if that was new. Snapshot and timestamp are signed
    /// with `online`.
    pub fn publish(
        &mut self,
        proposal: &Proposal,
        online: &[&dyn Signer],
        now: Time,
    ) -> Result<bool> {
        let _lock = lock(self.store)?;
        if !proposal.changes_root() {
            // Whoever compared the change with a policy read it in this root.
            let root = Current::read(self.store, &self.name)?.root_bytes;
            if root != self.current.root_bytes {
                let text = format!("the root of {} has changed meanwhile", self.name);
                return Err(Error::new(ErrorKind::Stale, text)
                    .with_hint("nothing of this change counts: run the command again"));
            }
        }
        let known = self.checkpoint(now);
        let written = publish(self.store, &self.name, Some(&known), proposal, online, now)?;
        self.current = Current::read(self.store, &self.name)?;
        let new = written.is_some();
        self.written = written.or(self.written.take());
        Ok(new)
    }

    /// Publishes the first version of an environment, or a change of root
    /// that was interrupted: the environment cannot be opened in between. True if that was new.
    ///
    /// `known` is the state at which the environment was reviewed that changes; none if this
    /// begins one. Another one under that name is refused, and an earlier state.
    pub fn publish_root(
        store: &'s dyn MetadataStore,
        known: Option<&Checkpoint>,
        proposal: &Proposal,
        online: &[&dyn Signer],
        now: Time,
    ) -> Result<(Self, bool)> {
        let _lock = lock(store)?;
        let written = publish(store, &proposal.environment, known, proposal, online, now)?;
        let new = written.is_some();
        let env = Self::open(store, &proposal.environment)?;
        Ok((Self { written, ..env }, new))
    }

    /// Whether a change has been published here, by whichever signatures.
    pub fn has_published(&self, proposal: &Proposal) -> Result<bool> {
        is_published(self.store, &self.name, &self.current, proposal)
    }

    /// Whether a change comes too late: another one of its version is published.
    pub fn is_overtaken(&self, proposal: &Proposal) -> Result<bool> {
        let root = proposal.next_root()?.map(|next| next.signed.head.version);
        let targets = proposal
            .next_targets()?
            .map(|next| next.signed.head.version);
        let (in_force, listed) = (
            self.current.root.signed.head.version,
            self.current.targets.signed.head.version,
        );
        Ok(root.is_some_and(|version| version <= in_force)
            || targets.is_some_and(|version| version <= listed))
    }

    /// What publishing a change would do to what is in a store, whether that is new, goes on or was
    /// interrupted; `None` if it was published before.
    pub fn review_publication(
        store: &'s dyn MetadataStore,
        proposal: &Proposal,
        now: Time,
    ) -> Result<Option<Publication<'s>>> {
        let name = &proposal.environment;
        let before = match base(store, name, proposal, now)? {
            Base::Published => return Ok(None),
            Base::None => None,
            Base::Before(current) => Some(Self {
                store,
                name: name.clone(),
                current: *current,
                written: None,
            }),
        };
        let current = before.as_ref().map(|before| &before.current);
        let review = review(name, current, proposal)?;
        Ok(Some(Publication { review, before }))
    }

    /// The beginning of an environment that was interrupted when all had signed it, and before
    /// anybody could follow it. Refused where it says something else than `draft`, which begins the
    /// same environment now.
    pub fn interrupted_init(
        store: &dyn MetadataStore,
        draft: &Proposal,
    ) -> Result<Option<Proposal>> {
        let name = &draft.environment;
        if read(store, name, "timestamp.json")?.is_some() {
            return Ok(None);
        }
        nothing_follows(store, name)?;
        let part = |file: &str| -> Result<Option<DraftFile>> {
            let bytes = read(store, name, file)?;
            let part = bytes
                .map(|bytes| serde_json::from_slice(&bytes))
                .transpose();
            part.map_err(|e| {
                let text = format!("the metadata file {file} of {name} cannot be read: {e}");
                Error::new(ErrorKind::Malformed, text)
            })
        };
        let Some(root) = part("1.root.json")? else {
            return Ok(None);
        };
        let mut begun = Proposal::new(name.clone());
        begun.root = Some(root);
        begun.targets = part("1.targets.json")?;
        let whole = review(name, None, &begun).is_ok_and(|review| review.complete());
        if whole && says_without_dates(&begun) == says_without_dates(draft) {
            return Ok(Some(begun));
        }
        let text = format!("another environment {name} was begun in this store, and not finished");
        Err(Error::new(ErrorKind::Exists, text).with_hint(format!(
            "repeat the command that began it; if nobody was told of its root, remove env/{name}"
        )))
    }
}

/// What the parts of a change say, whenever they were drafted.
fn says_without_dates(proposal: &Proposal) -> Vec<Value> {
    let parts = [&proposal.root, &proposal.targets].into_iter().flatten();
    let bare = parts.map(|part| {
        let mut signed = part.signed.clone();
        if let Some(fields) = signed.as_object_mut() {
            fields.remove("expires");
        }
        signed
    });
    bare.collect()
}

/// Refuses to begin where files lie that only follow a beginning: one of them is missing, and the
/// environment is not new.
fn nothing_follows(store: &dyn MetadataStore, name: &EnvName) -> Result<()> {
    let has = |file: &str| Ok::<_, Error>(read(store, name, file)?.is_some());
    let follows = has("2.root.json")? || has("2.targets.json")? || has("2.snapshot.json")?;
    let log = store.read(&paths::log(name, 1), LIMIT);
    let log = log.map_err(|e| Error::store(format!("cannot read the log of {name}"), e))?;
    let begun = has("1.targets.json")? && has("1.snapshot.json")?;
    if follows || log.is_some() || (has("1.root.json")? && !begun) {
        let text = format!(
            "there are files of an environment {name} in this store, and no timestamp.json"
        );
        return Err(Error::new(ErrorKind::Malformed, text).with_hint(format!(
            "put it back from another copy of the store; nothing is begun over env/{name}"
        )));
    }
    Ok(())
}

/// What publishing a change would do.
pub struct Publication<'s> {
    /// What it changes, and who has signed it.
    pub review: Review,
    /// The environment that it changes, as it was before; none if it begins one.
    pub before: Option<Environment<'s>>,
}

/// What a change is published on.
enum Base {
    /// It is there already.
    Published,
    /// Nothing: it begins an environment.
    None,
    /// The environment as it was before it.
    Before(Box<Current>),
}

/// An interrupted change of root may have left its root there: the environment as it was before
/// is below that. Any other root of that version is in force, or will be.
fn base(store: &dyn MetadataStore, name: &EnvName, proposal: &Proposal, now: Time) -> Result<Base> {
    let next = proposal.next_root()?;
    let version = next.as_ref().map(|next| next.signed.head.version);
    let another = |what: String| {
        Error::new(ErrorKind::Stale, what)
            .with_hint("the environment has moved on since it was proposed: propose it again")
    };
    if let (Some(part), Some(version)) = (&proposal.root, version)
        && let Some(there) = read(store, name, &format!("{version}.root.json"))?
        && !part.says_the_same(&there)
    {
        if version == 1 {
            let text = format!("there is an environment {name} in this store already");
            return Err(Error::new(ErrorKind::Exists, text));
        }
        return Err(another(format!("root {version} of {name} is another one")));
    }
    if version == Some(1) && read(store, name, "timestamp.json")?.is_none() {
        nothing_follows(store, name)?;
        return Ok(Base::None);
    }
    if let Ok(current) = Current::read(store, name) {
        let in_force = current.root.signed.head.version;
        // Lifetimes that became shorter hold for the timestamp too, which comes last.
        let timestamp = current.timestamp.signed.head.expires;
        let days = current.root.signed.lifetimes.timestamp;
        let whole = version != Some(in_force)
            || forward("timestamp", timestamp, expiry(now, days)?, now).is_ok();
        if whole && is_published(store, name, &current, proposal)? {
            return Ok(Base::Published);
        }
        if version.is_some_and(|version| version < in_force) {
            return Err(another(format!("root {in_force} of {name} is in force")));
        }
    }
    let before = Current::read_below(store, name, version)?;
    Ok(Base::Before(Box::new(before)))
}

/// Whether the environment says, or once said, all that the change says.
fn is_published(
    store: &dyn MetadataStore,
    name: &EnvName,
    current: &Current,
    proposal: &Proposal,
) -> Result<bool> {
    let has = |part: &Option<DraftFile>, role: &str, version: Option<u64>, in_force: u64| {
        let (Some(part), Some(version)) = (part, version) else {
            return Ok(true);
        };
        // A file that is newer than what is in force was never published.
        if version > in_force {
            return Ok(false);
        }
        let published = read(store, name, &format!("{version}.{role}.json"))?;
        Ok::<_, Error>(published.is_some_and(|bytes| part.says_the_same(&bytes)))
    };
    let next = proposal.next_root()?.map(|next| next.signed.head.version);
    let in_force = current.root.signed.head.version;
    let root = has(&proposal.root, "root", next, in_force)?;
    let next = proposal
        .next_targets()?
        .map(|next| next.signed.head.version);
    let in_force = current.targets.signed.head.version;
    let targets = has(&proposal.targets, "targets", next, in_force)?;
    Ok(root && targets)
}

pub(super) fn lock(store: &dyn MetadataStore) -> Result<super::Guard> {
    store
        .lock()
        .map_err(|e| Error::store("cannot lock the environments", e))
}

/// Writes a change, and returns the state that the environment is then at; none if that was there.
/// The environment is locked. `known` is a state that it goes on from, if it does not begin.
pub(super) fn publish(
    store: &dyn MetadataStore,
    name: &EnvName,
    known: Option<&Checkpoint>,
    proposal: &Proposal,
    online: &[&dyn Signer],
    now: Time,
) -> Result<Option<Checkpoint>> {
    let base = match base(store, name, proposal, now)? {
        Base::Published => return Ok(None),
        Base::None => None,
        Base::Before(current) => Some(*current),
    };
    let base = match (base, known) {
        (Some(current), Some(known)) => {
            let name = name.clone();
            let base = Environment {
                store,
                name,
                current,
                written: None,
            };
            base.since(Some(known))?;
            Some(base.current)
        }
        (None, None) => None,
        _ => {
            let text = format!("the environment {name} in this store is another one than before");
            return Err(Error::new(ErrorKind::Untrusted, text).with_hint(
                "somebody changes the store: do not sign anything before you know why",
            ));
        }
    };
    let next = proposal.next_root()?;
    let review = review(name, base.as_ref(), proposal)?;
    for need in &review.needs {
        if need.missing() > 0 {
            let waiting = need.keys.iter().filter(|(_, signed)| !signed);
            let waiting: Vec<_> = waiting.map(|(key, _)| key.hex()).collect();
            let text = format!(
                "the change has {} of {} signatures as {}",
                need.threshold - need.missing(),
                need.threshold,
                need.role
            );
            return Err(Error::new(ErrorKind::Threshold, text).with_hint(format!(
                "these keys have not signed: {}",
                waiting.join(", ")
            )));
        }
    }
    let old_root = base.as_ref().map(|base| &base.root.signed);
    let Some(root) = next.as_ref().map(|next| &next.signed).or(old_root) else {
        return Err(Error::new(
            ErrorKind::Malformed,
            "an environment begins with a root",
        ));
    };
    let online = online_keys(root, name, online)?;
    let careful = CompareAndSwap::new(store);
    let store: &dyn MetadataStore = &careful;

    for (target, text) in &proposal.manifests {
        let Some((image, seq)) = paths::parse_target_name(target) else {
            continue;
        };
        let sha256 = Sha256::of(text.as_bytes()).hex();
        put(
            store,
            &paths::target(name, &image, seq, &sha256),
            text.as_bytes(),
        )?;
    }
    for (entry, text) in review.entries.iter().zip(&proposal.log) {
        put(store, &paths::log(name, entry.number), text.as_bytes())?;
    }
    let targets = match &proposal.targets {
        Some(part) => {
            let part = part.with_good_signatures::<Targets>(&[root])?;
            let bytes = part.bytes::<Targets>()?;
            let version = part
                .signed_file::<Targets>("the proposed targets")?
                .signed
                .head
                .version;
            write(store, name, &format!("{version}.targets.json"), &bytes)?;
            Some((MetaFile::of(version, &bytes), bytes))
        }
        None => None,
    };
    let (targets, targets_bytes) = targets.unzip();
    let changed = Changed {
        root,
        targets,
        now,
        must: next.is_some(),
    };
    let snapshot = changed.snapshot(store, name, base.as_ref(), &online)?;
    let mut root_bytes = None;
    if let Some(part) = &proposal.root {
        let file = format!("{}.root.json", root.head.version);
        let by: Vec<&Root> = old_root.into_iter().chain([root]).collect();
        let part = part.with_good_signatures::<Root>(&by)?;
        let bytes = part.bytes::<Root>()?;
        write(store, name, &file, &bytes)?;
        root_bytes = Some(bytes);
    }
    changed.timestamp(store, name, base.as_ref(), snapshot, &online)?;
    let listed = proposal.next_targets()?.map(|next| next.signed);
    let base = base.as_ref();
    let listed = listed.as_ref().or(base.map(|base| &base.targets.signed));
    let targets_bytes = targets_bytes
        .as_ref()
        .or(base.map(|base| &base.targets_bytes));
    let root_bytes = root_bytes.as_ref().or(base.map(|base| &base.root_bytes));
    let (Some(listed), Some(targets_bytes), Some(root_bytes)) = (listed, targets_bytes, root_bytes)
    else {
        return Err(Error::new(
            ErrorKind::Malformed,
            "an environment begins with a root and targets",
        ));
    };
    let first = base.map_or_else(|| Sha256::of(root_bytes), |base| base.fingerprint);
    Ok(Some(Checkpoint::of(
        name,
        first,
        (root, root_bytes),
        (listed, targets_bytes),
        now,
    )))
}

fn put(store: &dyn MetadataStore, key: &str, bytes: &[u8]) -> Result<()> {
    store
        .replace(key, bytes)
        .map_err(|e| Error::store(format!("cannot write {key}"), e))
}
