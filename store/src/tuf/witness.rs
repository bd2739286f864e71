//! Witnesses: others say how far they have seen the log of an environment.
//!
//! Who signs releases could show one history to one node and another to the rest. A witness
//! reads the log from a machine of its own, compares it with what it saw before, and signs where
//! it ends. A policy can ask for that before anything more is released. The page of the format
//! is [`crate::format::environment`].

use jiff::Timestamp as Time;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::environment::{Environment, expect};
use super::error::{Error, ErrorKind, Result};
use super::lifetimes::Expires;
use super::log::{LogEntry, LogHead};
use super::metadata::{Root, Targets};
use super::{MetadataStore, consistency, paths};
use crate::digest::Sha256;
use crate::dsse::{self, Envelope, PAYLOAD_TYPE, STATEMENT_TYPE};
use crate::keys::{PublicKey, Signer};
use crate::name::EnvName;

/// The type of the predicate.
const PREDICATE_TYPE: &str = "urn:imgbuild:witness:1";

/// What a witness saw of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The environment.
    pub environment: EnvName,
    /// The digest of its first root.
    pub fingerprint: Sha256,
    /// The version of its root.
    pub root: u64,
    /// The digest of that root.
    pub root_sha256: Sha256,
    /// The version of its targets.
    pub targets: u64,
    /// The digest of those targets, which list the releases.
    pub targets_sha256: Sha256,
    /// How many entries its log had.
    pub length: u64,
    /// The digest of the last of them; of nothing where there was none.
    pub sha256: Sha256,
    /// When that was, by the clock of the witness.
    pub time: Time,
    /// The key of the witness, in hexadecimal.
    key: String,
}

/// What a witness signed.
#[derive(Clone, Debug)]
pub struct Testimony {
    /// What it saw.
    pub checkpoint: Checkpoint,
    /// The key that has signed it.
    pub key: PublicKey,
    envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: serde_json::Value,
    predicate_type: String,
    predicate: Checkpoint,
}

impl Checkpoint {
    /// The state of an environment whose first root has this digest.
    pub(super) fn of(
        name: &EnvName,
        first_root: Sha256,
        (root, root_bytes): (&Root, &[u8]),
        (targets, targets_bytes): (&Targets, &[u8]),
        now: Time,
    ) -> Self {
        let end = targets.log;
        Self {
            environment: name.clone(),
            fingerprint: first_root,
            root: root.head.version,
            root_sha256: Sha256::of(root_bytes),
            targets: targets.head.version,
            targets_sha256: Sha256::of(targets_bytes),
            length: end.map_or(0, |end| end.length),
            sha256: end.map_or_else(|| Sha256::of(b""), |end| end.sha256),
            time: Expires::at(now).time(),
            key: String::new(),
        }
    }

    /// Whether this is further than another state of the environment, or as far.
    pub fn is_as_far_as(&self, other: &Self) -> bool {
        (self.root >= other.root) && self.targets >= other.targets && self.length >= other.length
    }

    /// Whether two states have the same list of releases and log, whatever their roots are.
    pub fn lists_the_same(&self, other: &Self) -> bool {
        let list = |one: &Self| {
            (
                one.fingerprint,
                one.targets,
                one.targets_sha256,
                one.length,
                one.sha256,
            )
        };
        list(self) == list(other)
    }

    /// The name and digest that the statement is about.
    fn subject(&self) -> serde_json::Value {
        json!([{ "name": format!("log of {}", self.environment),
                 "digest": { "sha256": self.sha256.hex() } }])
    }

    /// Signs what was seen.
    pub fn sign(mut self, key: &dyn Signer) -> Result<Testimony> {
        self.key = key.public().hex();
        let statement = Statement {
            kind: STATEMENT_TYPE.to_owned(),
            subject: self.subject(),
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: self.clone(),
        };
        let payload = serde_json::to_value(&statement)
            .and_then(|value| serde_json::to_vec(&value))
            .map_err(|e| wrong(&self.environment, &e))?;
        let mut envelope = Envelope::new(PAYLOAD_TYPE, payload);
        envelope.sign(key)?;
        Ok(Testimony {
            checkpoint: self,
            key: key.public(),
            envelope,
        })
    }
}

impl Testimony {
    /// Reads what a witness signed, with its signature.
    pub fn from_json(bytes: &[u8], env: &EnvName) -> Result<Self> {
        let envelope = Envelope::from_json(bytes).map_err(|e| wrong(env, &e))?;
        if envelope.kind() != PAYLOAD_TYPE {
            return Err(wrong(env, &"it is no in-toto statement"));
        }
        let value = crate::json::parse(envelope.payload()).map_err(|e| wrong(env, &e))?;
        let statement: Statement = serde_json::from_value(value).map_err(|e| wrong(env, &e))?;
        let checkpoint = statement.predicate;
        if statement.kind != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
            return Err(wrong(env, &"it is another kind of statement"));
        }
        if statement.subject != checkpoint.subject() {
            return Err(wrong(env, &"it is about something else than it says"));
        }
        if checkpoint.environment != *env {
            let other = format_args!("it is about the environment {}", checkpoint.environment);
            return Err(wrong(env, &other));
        }
        let key: PublicKey = checkpoint.key.parse().map_err(|e| wrong(env, &e))?;
        envelope.verify(&[key], 1).map_err(|e| wrong(env, &e))?;
        Ok(Self {
            checkpoint,
            key,
            envelope,
        })
    }

    /// The form in which it is kept.
    pub fn to_json(&self) -> Vec<u8> {
        self.envelope.to_json()
    }
}

fn wrong(env: &EnvName, why: &dyn std::fmt::Display) -> Error {
    let text = format!("what a witness of {env} signed cannot be believed: {why}");
    Error::new(ErrorKind::Untrusted, text)
}

impl Environment<'_> {
    /// Refuses a list of releases that says something else than the log, which is what people read.
    pub fn log_tells_all(&self) -> Result<()> {
        let entries = self.log(usize::MAX)?;
        let Some(what) = consistency::contradiction(&self.current.targets.signed, &entries)? else {
            return Ok(());
        };
        let text = format!(
            "the list of releases of {} contradicts its log: {what}",
            self.name
        );
        Err(Error::new(ErrorKind::Untrusted, text).with_hint(
            "ask those who sign its releases, and do not install it before you know why",
        ))
    }

    /// What there is to see of it, for a witness to sign.
    pub fn checkpoint(&self, now: Time) -> Checkpoint {
        let current = &self.current;
        Checkpoint::of(
            &self.name,
            self.fingerprint(),
            (&current.root.signed, &current.root_bytes),
            (&current.targets.signed, &current.targets_bytes),
            now,
        )
    }

    /// What was done since a witness looked, the oldest first. Refuses an environment whose
    /// history does not go on from there: another one, an older state, entries that were changed.
    pub fn since(&self, seen: Option<&Checkpoint>) -> Result<Vec<LogEntry>> {
        let end = self.current.targets.signed.log;
        let Some(seen) = seen else {
            let mut entries = self.log(usize::MAX)?;
            entries.reverse();
            return Ok(entries);
        };
        let refused = |why: String| {
            let text = format!("{} is not what was seen on {}", self.name, seen.time);
            Err(
                Error::new(ErrorKind::Untrusted, format!("{text}: {why}")).with_hint(
                    "this store shows another history than before: compare it with another copy, \
                     and with `imgnode status --json` of some nodes, before anybody signs more",
                ),
            )
        };
        let now = self.checkpoint(seen.time);
        if now.fingerprint != seen.fingerprint {
            let (was, is) = (seen.fingerprint, now.fingerprint);
            return refused(format!("its first root was {was}, and is {is}"));
        }
        for (what, was, is) in [
            ("root", seen.root, now.root),
            ("targets", seen.targets, now.targets),
            ("log", seen.length, now.length),
        ] {
            if is < was {
                return refused(format!("its {what} was at {was}, and is at {is}"));
            }
        }
        let file = format!("{}.root.json", seen.root);
        let is = Sha256::of(&expect(self.store, &self.name, &file)?);
        if is != seen.root_sha256 {
            let (version, was) = (seen.root, seen.root_sha256);
            return refused(format!("root {version} was {was}, and is {is}"));
        }
        if now.targets == seen.targets && now.targets_sha256 != seen.targets_sha256 {
            let (version, was, is) = (seen.targets, seen.targets_sha256, now.targets_sha256);
            return refused(format!("targets {version} was {was}, and is {is}"));
        }
        let new = usize::try_from(now.length - seen.length).unwrap_or(usize::MAX);
        let mut entries = self.log(new)?;
        let before = match entries.last() {
            Some(oldest) => oldest.previous,
            None => end.map(|end| end.sha256),
        };
        let before = before.unwrap_or_else(|| Sha256::of(b""));
        if before != seen.sha256 {
            let (number, was) = (seen.length, seen.sha256);
            return refused(format!(
                "entry {number} of its log was {was}, and is {before}"
            ));
        }
        entries.reverse();
        Ok(entries)
    }

    /// What the witness with this key signed last, if that is in the store. It is of this
    /// environment and has its signature; what it saw may be of any time.
    pub fn testimony(&self, key: &PublicKey) -> Result<Option<Testimony>> {
        let said = read(self.store, &self.name, &paths::witness(&self.name, key))?;
        match said {
            Some(said) if said.key != *key => Err(wrong(
                &self.name,
                &format_args!("under the name of {} lies another's", key.id()),
            )),
            said => Ok(said),
        }
    }

    /// Which of these keys have signed the log as it stands. What cannot be believed does not
    /// count, and is passed to `odd`.
    pub fn witnesses(
        &self,
        keys: &[PublicKey],
        odd: &mut dyn FnMut(&Error),
    ) -> Result<Vec<PublicKey>> {
        let end = self.checkpoint(Time::UNIX_EPOCH);
        let mut witnesses = Vec::new();
        for key in keys {
            match self.testimony(key) {
                Ok(Some(said)) => {
                    let seen = &said.checkpoint;
                    let is_current = (seen.fingerprint, seen.length, seen.sha256)
                        == (end.fingerprint, end.length, end.sha256);
                    witnesses.extend(is_current.then_some(*key));
                    if seen.length > end.length || seen.fingerprint != end.fingerprint {
                        odd(&wrong(&self.name, &"it is about another history"));
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Untrusted => odd(&error),
                Err(error) => return Err(error),
            }
        }
        Ok(witnesses)
    }

    /// Puts what a witness signed into the store, in place of what it signed before. Refuses what
    /// is not of this environment and its history as it is here.
    pub fn put_testimony(&self, said: &Testimony) -> Result<()> {
        self.since(Some(&said.checkpoint))?;
        let what = || format!("cannot keep what a witness of {} signed", self.name);
        let key = paths::witness(&self.name, &said.key);
        let _guard = self.store.lock().map_err(|e| Error::store(what(), e))?;
        if let Ok(Some(there)) = read(self.store, &self.name, &key)
            && there.checkpoint.length > said.checkpoint.length
        {
            let text = format!("{}: it has signed a longer log since", what());
            return Err(Error::new(ErrorKind::Stale, text));
        }
        let put = self.store.replace(&key, &said.to_json());
        put.map_err(|e| Error::store(what(), e))
    }
}

/// Reads what a witness signed.
pub(super) fn read(
    store: &dyn MetadataStore,
    env: &EnvName,
    key: &str,
) -> Result<Option<Testimony>> {
    let what = || format!("cannot read what a witness of {env} signed");
    let bytes = store
        .read(key, dsse::MAX_BYTES)
        .map_err(|e| Error::store(what(), e))?;
    bytes
        .map(|bytes| Testimony::from_json(&bytes, env))
        .transpose()
}

/// Whether what a witness signed is of a log: its entry there has this digest.
pub(super) fn fits(seen: &Checkpoint, entry: Option<LogHead>) -> bool {
    match entry {
        Some(head) => (head.length, head.sha256) == (seen.length, seen.sha256),
        None => seen.length == 0,
    }
}
