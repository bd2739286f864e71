//! The four kinds of metadata file, signed and read back.
//!
//! ```text
//! { "signatures": [ { "keyid": HEX, "sig": HEX }, ... ], "signed": { ... } }
//! ```
//!
//! The signatures cover the canonical form of `signed` (see [`json`]); the file
//! itself is indented, because people read these files when something is wrong.
//! Fields that this version does not know are kept when a file is signed again.

use std::collections::BTreeMap;
use std::fmt;

use common::hex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Policy;
use super::error::{Error, ErrorKind, Result};
use super::lifetimes::{Expires, Lifetimes};
use super::log::LogHead;
use super::metadata_store::LIMIT;
use crate::digest::Sha256;
use crate::json;
use crate::keys::{PublicKey, Signer};
use crate::name::EnvName;

/// The version of the specification that these files follow.
const SPEC_VERSION: &str = "1.0.31";

/// What every role's file begins with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CommonFields {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
    pub(super) version: u64,
    pub(super) expires: Expires,
}

impl CommonFields {
    pub(super) fn new<T: Role>(version: u64, expires: Expires) -> Self {
        Self {
            kind: T::TYPE.into(),
            spec_version: SPEC_VERSION.into(),
            version,
            expires,
        }
    }

    /// Whether it follows the specification that these files follow, or the same as another one.
    pub(super) fn is_of_our_specification(&self, before: Option<&Self>) -> bool {
        let before = before.map(|before| &before.spec_version);
        self.spec_version == SPEC_VERSION || before == Some(&self.spec_version)
    }
}

/// The number after a version or a release's. A number from a file can be anything.
pub(super) fn next_version(last: u64) -> Result<u64> {
    last.checked_add(1).ok_or_else(|| {
        let text = format!("no number comes after {last}, which somebody has signed");
        Error::new(ErrorKind::Range, text)
            .with_hint("whose key signed that can be asked: imgbuild env status, env log")
    })
}

/// One of the four kinds of file.
pub(super) trait Role: Serialize + DeserializeOwned {
    const TYPE: &'static str;
    fn head(&self) -> &CommonFields;
}

macro_rules! role {
    ($name:ident, $type:literal) => {
        impl Role for $name {
            const TYPE: &'static str = $type;
            fn head(&self) -> &CommonFields {
                &self.head
            }
        }
    };
}

/// TUF 4.3.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Root {
    #[serde(flatten)]
    pub(super) head: CommonFields,
    pub(super) consistent_snapshot: bool,
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) roles: BTreeMap<String, RoleEntry>,
    #[serde(rename = "x-imgbuild-environment")]
    pub(super) environment: EnvName,
    #[serde(rename = "x-imgbuild-lifetimes-days")]
    pub(super) lifetimes: Lifetimes,
    #[serde(
        rename = "x-imgbuild-policy",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) policy: Option<Policy>,
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}
role!(Root, "root");

/// TUF 4.5.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the format")]
pub(super) struct Targets {
    #[serde(flatten)]
    pub(super) head: CommonFields,
    pub(super) targets: BTreeMap<String, Target>,
    #[serde(rename = "x-imgbuild-environment")]
    pub(super) environment: EnvName,
    /// The end of the log; see [`log`](super::log).
    #[serde(
        rename = "x-imgbuild-log",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) log: Option<LogHead>,
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}
role!(Targets, "targets");

/// Targets of which only this is asked: which version they are, and where the log ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PastTargets {
    #[serde(flatten)]
    pub(super) head: CommonFields,
    #[serde(rename = "x-imgbuild-log", default)]
    pub(super) log: Option<LogHead>,
}
role!(PastTargets, "targets");

/// TUF 4.4.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    #[serde(flatten)]
    pub(super) head: CommonFields,
    pub(super) meta: BTreeMap<String, MetaFile>,
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}
role!(Snapshot, "snapshot");

/// TUF 4.6.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Timestamp {
    #[serde(flatten)]
    pub(super) head: CommonFields,
    pub(super) meta: BTreeMap<String, MetaFile>,
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}
role!(Timestamp, "timestamp");

/// A key as root lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Key {
    keytype: String,
    scheme: String,
    keyval: KeyValue,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KeyValue {
    public: String,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl Key {
    /// The key, if it is one that can be used.
    pub(super) fn public(&self) -> Option<PublicKey> {
        self.keyval.public.parse().ok()
    }
}

impl From<PublicKey> for Key {
    fn from(key: PublicKey) -> Self {
        let keyval = KeyValue {
            public: key.hex(),
            extra: Map::new(),
        };
        Self {
            keytype: "ed25519".into(),
            scheme: "ed25519".into(),
            keyval,
            extra: Map::new(),
        }
    }
}

/// The keys of a role and its threshold (TUF 4.3).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RoleEntry {
    pub(super) keyids: Vec<String>,
    pub(super) threshold: u64,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl RoleEntry {
    /// These keys, and so many signatures of theirs.
    pub(super) fn new<'k>(keys: impl IntoIterator<Item = &'k PublicKey>, threshold: u64) -> Self {
        let mut keyids: Vec<_> = keys.into_iter().map(PublicKey::id).collect();
        keyids.sort();
        keyids.dedup();
        Self {
            keyids,
            threshold,
            extra: Map::new(),
        }
    }

    /// Whether it has the fields of another one that this version does not know.
    pub(super) fn has_extra_of(&self, other: &Self) -> bool {
        self.extra == other.extra
    }

    /// Whether it has no fields that this version does not know.
    pub(super) fn is_plain(&self) -> bool {
        self.extra.is_empty()
    }
}

/// A file that another one vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MetaFile {
    pub(super) version: u64,
    length: u64,
    hashes: Hashes,
}

impl MetaFile {
    pub(super) fn of(version: u64, bytes: &[u8]) -> Self {
        Self {
            version,
            length: bytes.len() as u64,
            hashes: Hashes::of(bytes),
        }
    }

    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        *self == Self::of(self.version, bytes)
    }
}

/// One release as targets lists it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) length: u64,
    pub(super) hashes: Hashes,
    pub(super) custom: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hashes {
    pub(super) sha256: String,
}

impl Hashes {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: Sha256::of(bytes).hex(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signature {
    pub(super) keyid: String,
    sig: String,
}

/// A file that some, all or none of its signers have signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DraftFile {
    pub(super) signatures: Vec<Signature>,
    pub(super) signed: Value,
}

impl DraftFile {
    /// A role's content, not signed yet.
    pub(super) fn of<T: Role>(content: &T) -> Result<Self> {
        let signed = serde_json::to_value(content).map_err(|e| unwritable::<T>(&e))?;
        Ok(Self {
            signatures: Vec::new(),
            signed,
        })
    }

    /// Signs, in place of an earlier signature by the same key. It is verified
    /// before it is used: a signer that errs must not reach a published file.
    pub(super) fn sign(&mut self, key: &dyn Signer) -> Result<()> {
        let message = json::canonical(&self.signed).map_err(|e| {
            let text = format!("the metadata to be signed has no canonical form: {e}");
            Error::new(ErrorKind::Malformed, text)
        })?;
        let signature = key.sign(&message)?;
        key.public().verify(&message, &signature)?;
        let keyid = key.public().id();
        self.signatures.retain(|present| present.keyid != keyid);
        self.signatures.push(Signature {
            keyid,
            sig: hex::encode(&signature),
        });
        self.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        Ok(())
    }

    /// The file with those signatures alone that count by one of these roots, each key's once: readers
    /// refuse a file with others.
    pub(super) fn with_good_signatures<T: Role>(&self, roots: &[&Root]) -> Result<Self> {
        let file = self.signed_file::<T>("the proposed file")?;
        let mut good: Vec<Signature> = Vec::new();
        for signature in &self.signatures {
            let counts = roots.iter().any(|root| {
                let listed = root
                    .role(T::TYPE)
                    .is_ok_and(|entry| entry.keyids.contains(&signature.keyid));
                let key = root.key(&signature.keyid).filter(|_| listed);
                key.is_some_and(|key| {
                    hex::decode(&signature.sig)
                        .is_some_and(|bytes| key.verify(&file.message, &bytes).is_ok())
                })
            });
            if counts && good.iter().all(|one| one.keyid != signature.keyid) {
                good.push(signature.clone());
            }
        }
        Ok(Self {
            signatures: good,
            signed: self.signed.clone(),
        })
    }

    /// Whether a file has the same content, whoever signed it.
    pub(super) fn says_the_same(&self, file: &[u8]) -> bool {
        json::parse(file).is_ok_and(|file| file.get("signed") == Some(&self.signed))
    }

    /// The file.
    pub(super) fn bytes<T: Role>(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| unwritable::<T>(&e))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > LIMIT {
            let text = format!(
                "the {} metadata would be {} bytes; readers stop at {LIMIT}",
                T::TYPE,
                bytes.len()
            );
            return Err(Error::new(ErrorKind::Range, text));
        }
        Ok(bytes)
    }

    /// Returns the file with its signatures, parsed.
    pub(super) fn signed_file<T: Role>(&self, file: &str) -> Result<SignedFile<T>> {
        SignedFile::read(&self.bytes::<T>()?, file)
    }
}

fn unwritable<T: Role>(why: &dyn fmt::Display) -> Error {
    let text = format!("cannot write {} metadata: {why}", T::TYPE);
    Error::new(ErrorKind::Malformed, text)
}

/// Signs a role's content and writes the file.
pub(super) fn seal<T: Role>(content: &T, keys: &[&dyn Signer]) -> Result<Vec<u8>> {
    let mut part = DraftFile::of(content)?;
    for key in keys {
        part.sign(*key)?;
    }
    part.bytes::<T>()
}

#[derive(Deserialize)]
struct Foreign {
    keyid: String,
    sig: String,
}

/// A file as it was read: its content, and what its signatures cover.
#[derive(Clone, Debug)]
pub(super) struct SignedFile<T> {
    pub(super) signed: T,
    signatures: Vec<(String, Vec<u8>)>,
    message: Vec<u8>,
    file: String,
}

impl<T: Role> SignedFile<T> {
    /// Reads a file without believing it yet: see [`check`](Self::check).
    pub(super) fn read(bytes: &[u8], file: &str) -> Result<Self> {
        let wrong = |e: &dyn fmt::Display| {
            Error::new(
                ErrorKind::Malformed,
                format!("the metadata file {file} cannot be read: {e}"),
            )
        };
        let mut value = json::parse(bytes).map_err(|e| wrong(&e))?;
        let mut part = |name: &str| {
            let part = value.get_mut(name).map(Value::take);
            part.ok_or_else(|| wrong(&format_args!("it has no {name:?}")))
        };
        let (signed, signatures) = (part("signed")?, part("signatures")?);
        let message = json::canonical(&signed).map_err(|e| wrong(&e))?;
        Self::of_parts(signed, signatures, message, file)
    }

    /// A file by its parts; `message` is what the signatures should cover.
    pub(super) fn of_parts(
        signed: Value,
        signatures: Value,
        message: Vec<u8>,
        file: &str,
    ) -> Result<Self> {
        let wrong = |e: &dyn fmt::Display| {
            Error::new(
                ErrorKind::Malformed,
                format!("the metadata file {file} cannot be read: {e}"),
            )
        };
        // Others may say more about a signature than we do.
        let signatures: Vec<Foreign> = serde_json::from_value(signatures).map_err(|e| wrong(&e))?;
        let signed: T = serde_json::from_value(signed).map_err(|e| wrong(&e))?;
        if signed.head().kind != T::TYPE {
            let text = format!(
                "it is {:?} metadata and should be {:?}",
                signed.head().kind,
                T::TYPE
            );
            return Err(wrong(&text));
        }
        let signatures = signatures
            .into_iter()
            .map(|s| (s.keyid, hex::decode(&s.sig).unwrap_or_default()))
            .collect();
        Ok(Self {
            signed,
            signatures,
            message,
            file: file.into(),
        })
    }

    /// Refuses the file unless enough of the keys that `root` lists for the
    /// role have signed it, each key counted once.
    pub(super) fn check(&self, root: &Root) -> Result<()> {
        let role = root.role(T::TYPE)?;
        let good = self.signers(root)?;
        if role.threshold == 0 || (good.len() as u64) < role.threshold {
            let text = format!(
                "the metadata file {} has {} of {} signatures that its root asks for",
                self.file,
                good.len(),
                role.threshold.max(1)
            );
            return Err(Error::new(ErrorKind::Untrusted, text).with_hint(
                "somebody changed the store: compare it with another copy before signing",
            ));
        }
        Ok(())
    }

    /// The keys that `root` lists for the role and that have signed, each once.
    pub(super) fn signers(&self, root: &Root) -> Result<Vec<PublicKey>> {
        let mut good: Vec<PublicKey> = Vec::new();
        for id in &root.role(T::TYPE)?.keyids {
            if let Some(key) = root.key(id)
                && !good.contains(&key)
                && self.signed_by(id, &key)
            {
                good.push(key);
            }
        }
        Ok(good)
    }

    /// Whether one of the signatures is by `key` under the name `id`.
    pub(super) fn signed_by(&self, id: &str, key: &PublicKey) -> bool {
        let mut by_id = self.signatures.iter().filter(|(keyid, _)| keyid == id);
        by_id.any(|(_, signature)| key.verify(&self.message, signature).is_ok())
    }

    /// Refuses the file if it is not the version that it was asked for.
    pub(super) fn expect_version(self, version: u64) -> Result<Self> {
        let found = self.signed.head().version;
        if found != version {
            let text = format!(
                "the metadata file {} says version {found}, not {version}",
                self.file
            );
            return Err(Error::new(ErrorKind::Malformed, text));
        }
        Ok(self)
    }
}

impl Root {
    /// A key that the root lists, if it is one that can be used.
    pub(super) fn key(&self, id: &str) -> Option<PublicKey> {
        self.keys.get(id)?.public()
    }

    /// The keys of a role that can be used, each once.
    pub(super) fn keys_of(&self, role: &str) -> Result<Vec<PublicKey>> {
        let mut keys = Vec::new();
        for id in &self.role(role)?.keyids {
            if let Some(key) = self.key(id)
                && !keys.contains(&key)
            {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// What the root says about a role.
    pub(super) fn role(&self, role: &str) -> Result<&RoleEntry> {
        self.roles.get(role).ok_or_else(|| {
            let text = format!("root {} does not say who signs {role}", self.head.version);
            Error::new(ErrorKind::Malformed, text)
        })
    }
}
