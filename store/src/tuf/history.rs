//! History: what old versions of targets said, and who signed it.
//!
//! Every version of targets lists all releases, so a thousand versions take a thousand times
//! a thousand lines. No client asks for one that is not current; the log does, for each
//! entry was signed with the version that brought it. The history keeps of each what
//! differs from the version after it, and its signatures: from the oldest version that is a
//! file, every older one can be made again, to the byte that was signed.
//!
//! A collector retires versions into the history, the oldest first, once it has made each
//! again and found it signed. See [`crate::format::environment`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::environment::{Current, expect, read, roots};
use super::error::{Error, ErrorKind, Result};
use super::log::LogEntry;
use super::metadata::{PastTargets, Root, SignedFile, Snapshot, Targets};
use super::{Environment, MetadataStore, paths};
use crate::backend::{ObjectMeta, WritableBackend};
use crate::digest::Sha256;
use crate::json;
use crate::keys::PublicKey;
use crate::name::EnvName;

/// The version of the format.
const SCHEMA: u32 = 1;

/// The longest history that is read: some hundred thousand versions.
pub(super) const LIMIT: u64 = 64 << 20;

/// The versions that were retired.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Snapshots up to this version were removed.
    pub(super) snapshots: u64,
    /// What targets 1, 2, 3, ... were.
    targets: Vec<Retired>,
}

/// A version of targets as it differs from the one after it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retired {
    signatures: Value,
    /// What was signed, without the targets.
    signed: Map<String, Value>,
    /// Targets of the version after it that it did not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    without: Vec<String>,
    /// Targets that it had and the version after it has not, or has otherwise.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    with: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: u32,
    snapshots: u64,
    targets: Vec<Retired>,
    check: Sha256,
}

/// The targets of a version, each in its canonical form.
type CanonicalTargets = BTreeMap<String, Vec<u8>>;

impl History {
    /// How many versions of targets were retired: these, counted from 1.
    pub(super) fn targets(&self) -> u64 {
        self.targets.len() as u64
    }

    /// The history of an environment, if it has one.
    pub(super) fn read(store: &dyn MetadataStore, name: &EnvName) -> Result<Option<Self>> {
        let what = || format!("cannot read the history of the environment {name}");
        let json = store
            .read(&paths::history(name), LIMIT)
            .map_err(|e| Error::store(what(), e))?;
        let Some(json) = json else {
            return Ok(None);
        };
        let wrong = |why: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Malformed, format!("{}: {why}", what()))
        };
        let written: Written = serde_json::from_slice(&json).map_err(|e| wrong(&e))?;
        if written.schema != SCHEMA {
            return Err(wrong(&format_args!("its schema is {}", written.schema)));
        }
        let history = Self {
            snapshots: written.snapshots,
            targets: written.targets,
        };
        if history.check()? != written.check {
            return Err(wrong(&"its digest is not the one that it names"));
        }
        Ok(Some(history))
    }

    fn check(&self) -> Result<Sha256> {
        let bytes = serde_json::to_vec(&(self.snapshots, &self.targets));
        Ok(Sha256::of(&bytes.map_err(|e| unwritable(&e))?))
    }

    fn into_json(self) -> Result<Vec<u8>> {
        let written = Written {
            schema: SCHEMA,
            check: self.check()?,
            snapshots: self.snapshots,
            targets: self.targets,
        };
        let mut json = serde_json::to_vec(&written).map_err(|e| unwritable(&e))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Makes the retired versions again, the newest first and none below `until`. Nothing
    /// where the version after them is not there.
    pub(super) fn walk(
        &self,
        store: &dyn MetadataStore,
        name: &EnvName,
        until: u64,
        each: &mut dyn FnMut(u64, &SignedFile<PastTargets>) -> Result<()>,
    ) -> Result<()> {
        let file = format!("{}.targets.json", self.targets() + 1);
        let Some(bytes) = read(store, name, &file)? else {
            return Ok(());
        };
        let mut targets = canonical_targets(&parse(&bytes, &file)?.signed)?;
        for (index, retired) in self.targets.iter().enumerate().rev() {
            let version = index as u64 + 1;
            if version < until {
                break;
            }
            retired.step(&mut targets)?;
            each(version, &retired.signed_file(version, &targets)?)?;
        }
        Ok(())
    }
}

impl Retired {
    /// A version by its file and the targets of the version after it.
    fn of(file: File, after: &Map<String, Value>) -> Self {
        let File {
            signatures,
            mut signed,
        } = file;
        let had = match signed.remove("targets") {
            Some(Value::Object(had)) => had,
            _ => Map::new(),
        };
        let without = after.keys().filter(|path| !had.contains_key(*path));
        Self {
            without: without.cloned().collect(),
            with: had
                .into_iter()
                .filter(|(path, target)| after.get(path) != Some(target))
                .collect(),
            signatures,
            signed,
        }
    }

    /// From the targets of the version after it to its own.
    fn step(&self, targets: &mut CanonicalTargets) -> Result<()> {
        for path in &self.without {
            targets.remove(path);
        }
        for (path, target) in &self.with {
            targets.insert(path.clone(), canonical(target)?);
        }
        Ok(())
    }

    /// What was signed, and by whom.
    fn signed_file(
        &self,
        version: u64,
        targets: &CanonicalTargets,
    ) -> Result<SignedFile<PastTargets>> {
        let mut fields: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for (name, value) in &self.signed {
            fields.insert(name, canonical(value)?);
        }
        let targets = targets.iter().map(|(path, target)| (&**path, &target[..]));
        fields.insert("targets", object(targets)?);
        let message = object(fields.iter().map(|(name, value)| (*name, &value[..])))?;
        let file = format!("{version}.targets.json");
        let signed = Value::Object(self.signed.clone());
        SignedFile::of_parts(signed, self.signatures.clone(), message, &file)?
            .expect_version(version)
    }
}

/// The canonical form of an object whose values have theirs; the names are sorted.
fn object<'v>(fields: impl Iterator<Item = (&'v str, &'v [u8])>) -> Result<Vec<u8>> {
    let mut out = vec![b'{'];
    for (name, value) in fields {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend(canonical(&Value::from(name))?);
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
    Ok(out)
}

fn canonical(value: &Value) -> Result<Vec<u8>> {
    json::canonical(value).map_err(|e| unwritable(&e))
}

fn unwritable(why: &dyn std::fmt::Display) -> Error {
    let text = format!("cannot write the history of an environment: {why}");
    Error::new(ErrorKind::Malformed, text)
}

/// A file of targets, as far as it has to be understood here.
struct File {
    signatures: Value,
    signed: Map<String, Value>,
}

fn parse(bytes: &[u8], name: &str) -> Result<File> {
    let wrong = |why: &dyn std::fmt::Display| {
        let text = format!("the metadata file {name} cannot be read: {why}");
        Error::new(ErrorKind::Malformed, text)
    };
    let mut value = json::parse(bytes).map_err(|e| wrong(&e))?;
    match (value["signatures"].take(), value["signed"].take()) {
        (signatures, Value::Object(signed)) => Ok(File { signatures, signed }),
        _ => Err(wrong(&"it is not signed metadata")),
    }
}

fn targets_of(signed: &Map<String, Value>) -> Map<String, Value> {
    match signed.get("targets") {
        Some(Value::Object(targets)) => targets.clone(),
        _ => Map::new(),
    }
}

fn canonical_targets(signed: &Map<String, Value>) -> Result<CanonicalTargets> {
    let targets = targets_of(signed).into_iter();
    targets
        .map(|(path, target)| Ok((path, canonical(&target)?)))
        .collect()
}

impl Environment<'_> {
    /// The keys that signed for each of these entries of the log: each is judged by the
    /// newest root whose keys make its targets good, for keys come and go. None where its
    /// targets are gone or are not those that brought the entry.
    pub fn log_signers(&self, entries: &[LogEntry]) -> Result<Vec<Vec<PublicKey>>> {
        let roots = roots(self.store, &self.name)?;
        let mut signers = vec![Vec::new(); entries.len()];
        let mut wanted: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (number, entry) in entries.iter().enumerate() {
            wanted.entry(entry.targets).or_default().push(number);
        }
        let mut judge = |version: u64, targets: &SignedFile<PastTargets>| -> Result<()> {
            let good = |root: &&Root| targets.check(root).is_ok();
            let numbers = wanted.get(&version).into_iter().flatten();
            let end = targets.signed.log.map_or(0, |end| end.length);
            let brought: Vec<_> = numbers
                .filter(|number| end >= entries[**number].number)
                .collect();
            if !brought.is_empty()
                && let Some(root) = roots.iter().rev().find(good)
            {
                let good = targets.signers(root)?;
                for number in brought {
                    signers[*number].clone_from(&good);
                }
            }
            Ok(())
        };
        let mut oldest = None;
        for version in wanted.keys().rev() {
            let file = format!("{version}.targets.json");
            match read(self.store, &self.name, &file)? {
                Some(bytes) => judge(*version, &SignedFile::read(&bytes, &file)?)?,
                None => oldest = Some(*version),
            }
        }
        if let Some(oldest) = oldest
            && let Some(history) = History::read(self.store, &self.name)?
        {
            history.walk(self.store, &self.name, oldest, &mut judge)?;
        }
        Ok(signers)
    }
}

/// Old versions of an environment's metadata that can go.
#[derive(Debug, Default)]
pub(crate) struct Retirable {
    /// Up to which version.
    snapshots: u64,
    targets: u64,
    /// Their objects, the oldest first.
    pub(crate) objects: Vec<ObjectMeta>,
    /// Manifests of releases that no version which stays names.
    pub(crate) manifests: Vec<ObjectMeta>,
}

/// Versions of snapshot and targets that had a successor by `before`, and that no snapshot which
/// stays leads to; and manifests of releases that no such version names. `objects` are all of the
/// environment. Where a version is missing, those after
/// it stay.
pub(crate) fn retirable(
    store: &dyn MetadataStore,
    name: &EnvName,
    objects: &[ObjectMeta],
    before: u64,
) -> Result<Retirable> {
    let current = Current::read(store, name)?;
    let history = History::read(store, name)?.unwrap_or_default();
    let folder = paths::metadata(name, "");
    let versions = |role: &str| -> BTreeMap<u64, &ObjectMeta> {
        let version = |object: &ObjectMeta| {
            let file = object.key.strip_prefix(&folder)?;
            let (number, rest) = file.split_once('.')?;
            number.parse().ok().filter(|_| rest == role)
        };
        let found = objects.iter();
        found.filter_map(|one| Some((version(one)?, one))).collect()
    };
    let (snapshots, targets) = (versions("snapshot.json"), versions("targets.json"));
    let upto = |there: &BTreeMap<u64, &ObjectMeta>, gone: u64, last: u64| {
        let old = |version: &u64| {
            let next = there.get(&(version + 1));
            there.contains_key(version) && next.is_some_and(|next| next.modified <= before)
        };
        (gone + 1..last).take_while(old).last().unwrap_or(gone)
    };
    let last = current.snapshot.signed.head.version;
    let mut found = Retirable {
        snapshots: upto(&snapshots, history.snapshots, last),
        targets: upto(
            &targets,
            history.targets(),
            current.targets.signed.head.version,
        ),
        objects: Vec::new(),
        manifests: Vec::new(),
    };
    for version in (found.snapshots + 1..=last).filter(|version| snapshots.contains_key(version)) {
        let file = format!("{version}.snapshot.json");
        let kept = SignedFile::<Snapshot>::read(&expect(store, name, &file)?, &file)?;
        if let Some(pin) = kept.signed.meta.get("targets.json") {
            found.targets = found.targets.min(pin.version.saturating_sub(1));
        }
    }
    found.targets = found.targets.max(history.targets());
    let old = |there: &BTreeMap<u64, &ObjectMeta>, last: u64| {
        let old = there.iter().filter(|(version, _)| **version <= last);
        old.map(|(_, object)| (*object).clone()).collect::<Vec<_>>()
    };
    let mut named = BTreeSet::new();
    for version in targets.keys().filter(|version| **version > found.targets) {
        let file = format!("{version}.targets.json");
        let kept = SignedFile::<Targets>::read(&expect(store, name, &file)?, &file)?;
        for (path, target) in &kept.signed.targets {
            if let Some((image, seq)) = paths::parse_target_name(path) {
                named.insert(paths::target(name, &image, seq, &target.hashes.sha256));
            }
        }
    }
    let folder = paths::targets(name);
    let unnamed = objects.iter().filter(|object| {
        object.key.starts_with(&folder) && object.modified <= before && !named.contains(&object.key)
    });
    found.manifests.extend(unnamed.cloned());
    found.objects.extend(old(&snapshots, found.snapshots));
    found.objects.extend(old(&targets, found.targets));
    Ok(found)
}

/// Writes the history of what can go; whoever calls has the environments locked. That is
/// durable then, and each version can be made again, as it was signed. Returns the bytes that the
/// history grew by; `None` if a version was not signed, and nothing is changed.
pub(crate) fn retire(
    store: &dyn MetadataStore,
    backend: &dyn WritableBackend,
    name: &EnvName,
    plan: &Retirable,
) -> Result<Option<u64>> {
    let mut history = History::read(store, name)?.unwrap_or_default();
    let done = history.targets();
    if (history.snapshots, done) == (plan.snapshots, plan.targets) {
        return Ok(Some(0));
    }
    let load = |version: u64| {
        let file = format!("{version}.targets.json");
        parse(&expect(store, name, &file)?, &file)
    };
    let mut file = if plan.targets > done {
        Some(load(done + 1)?)
    } else {
        None
    };
    for version in done + 1..=plan.targets {
        let after = load(version + 1)?;
        let targets = targets_of(&after.signed);
        if let Some(file) = file.replace(after) {
            history.targets.push(Retired::of(file, &targets));
        }
    }
    history.snapshots = plan.snapshots;
    let roots = roots(store, name)?;
    let mut good = true;
    history.walk(store, name, done + 1, &mut |_, targets| {
        good &= roots.iter().any(|root: &Root| targets.check(root).is_ok());
        Ok(())
    })?;
    if !good {
        return Ok(None);
    }
    let failed = |e| Error::store(format!("cannot write the history of {name}"), e);
    let (key, json) = (paths::history(name), history.into_json()?);
    let before = backend.get(&key, LIMIT).map_err(failed)?;
    backend.put(&key, &json).map_err(failed)?;
    let before = before.map_or(0, |before| before.len());
    Ok(Some(json.len().saturating_sub(before) as u64))
}
