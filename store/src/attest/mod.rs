//! Attestations: what people and machines say about an image, signed.
//!
//! An attestation is an in-toto Statement 1.0 in a [`dsse`] envelope. It
//! lies beside the image, under its own digest: nobody replaces another's word, and
//! whoever can write to the store can add one. None is believed for being there; a
//! reader asks which of the keys that it trusts have signed it. The kinds, and what
//! each says, are on the page [`crate::format::attestation`].

mod list;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::list::renew_lists;
pub(crate) use self::list::{MAX_BYTES, from_json, keys, list_key, parse_list_key, renew, stale};

use crate::audit::Audit;
use crate::backend::Backend;
use crate::backend::WritableBackend;
use crate::digest::{ImageId, Sha256};
pub use crate::dsse::PAYLOAD_TYPE;
use crate::dsse::{self, Envelope, STATEMENT_TYPE};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory;
use crate::json;
use crate::keys::PublicKey;
use crate::manifest::Manifest;
use crate::name::EnvName;

/// Folder of attestations, as a prefix of keys.
pub(crate) const FOLDER: &str = crate::store::ATTESTATIONS;

/// The subject that is the manifest. No image has that name: it has a blank.
const MANIFEST: &str = "imgbuild manifest";

/// More attestations of one image are not read.
const MOST: usize = 1000;

/// What an attestation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// How the image was built, and from what.
    Provenance,
    /// What its tests came to.
    TestResult,
    /// Another build came to the same bytes.
    Rebuild,
    /// Somebody approves of it for an environment.
    Approval,
    /// What is known against what is installed in it.
    Audit,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Provenance,
        Self::TestResult,
        Self::Rebuild,
        Self::Approval,
        Self::Audit,
    ];

    /// The type of the predicate.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::Provenance => "https://slsa.dev/provenance/v1",
            Self::TestResult => "https://in-toto.io/attestation/test-result/v0.1",
            Self::Rebuild => "urn:imgbuild:rebuild:1",
            Self::Approval => "urn:imgbuild:approval:1",
            Self::Audit => "urn:imgbuild:audit:1",
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Provenance => "built",
            Self::TestResult => "tested",
            Self::Rebuild => "rebuilt",
            Self::Approval => "approved",
            Self::Audit => "audited",
        }
    }
}

/// An in-toto Statement. Fields that others add are ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Value,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: Digests,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Digests {
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
    sha256: Option<String>,
}

/// An attestation of an image, as a store has it. Not believed: see
/// [`signers`](Self::signers).
#[derive(Clone, Debug)]
pub struct Attestation {
    /// Its key in the store.
    pub key: String,
    /// What it is about; `None` for a kind that this version does not know.
    pub kind: Option<Kind>,
    /// The type of its predicate.
    pub predicate_type: String,
    /// What it says.
    pub predicate: Value,
    /// The manifests that it is about, besides the image's bytes.
    manifests: Vec<Sha256>,
    envelope: Envelope,
}

impl Attestation {
    /// Which of these keys have signed it.
    pub fn signers(&self, keys: &[PublicKey]) -> Vec<PublicKey> {
        self.envelope.signers(keys)
    }

    /// The ids of the keys that it says have signed it.
    pub fn claimed_key_ids(&self) -> impl Iterator<Item = &str> {
        self.envelope.keyids()
    }

    /// The envelope, as it was signed.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Whether it is about this manifest, and not about the bytes alone: a manifest says what
    /// is started in them, and as whom.
    pub fn covers(&self, manifest: &Manifest) -> bool {
        self.manifests.contains(&Sha256::of(&manifest.to_json()))
    }

    /// When it was signed, as it says, in seconds since 1970: the image was there by then.
    pub fn time(&self) -> Option<u64> {
        let text = match self.kind {
            Some(Kind::Provenance) => self.predicate.pointer("/runDetails/metadata/finishedOn"),
            _ => self.predicate.get("time"),
        };
        let time: jiff::Timestamp = text?.as_str()?.parse().ok()?;
        u64::try_from(time.as_second()).ok()
    }

    /// What it found, if it is an audit that says all that one must.
    pub fn audit(&self) -> Option<Audit> {
        (self.kind == Some(Kind::Audit))
            .then(|| Audit::read(&self.predicate))
            .flatten()
    }

    /// Whether it counts for an environment: a test that passed, an approval of this environment. An
    /// environment is known by its
    /// name and its first root; an approval of an older version names no root.
    pub fn applies_to(&self, env: &EnvName, first_root: &Sha256) -> bool {
        let text = |name: &str| self.predicate.get(name).and_then(Value::as_str);
        match self.kind {
            Some(Kind::TestResult) => text("result") == Some("PASSED"),
            Some(Kind::Approval) => {
                let root = self.predicate.get("root");
                let fits = |root: &Value| root.as_str() == Some(&*first_root.to_string());
                text("environment") == Some(env.as_str()) && root.is_none_or(fits)
            }
            Some(Kind::Provenance | Kind::Rebuild | Kind::Audit) => true,
            None => false,
        }
    }
}

/// A statement about an image, to be signed. The same statement is the
/// same bytes.
pub fn statement(kind: Kind, manifest: &Manifest, predicate: Value) -> Result<Envelope> {
    statement_of_type(kind.predicate_type(), manifest, predicate)
}

/// A statement of a type that a store does not keep, such as a bill of materials, to be signed.
pub fn statement_of_type(
    predicate_type: &str,
    manifest: &Manifest,
    predicate: Value,
) -> Result<Envelope> {
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject: vec![
            Subject {
                name: manifest.name.to_string(),
                digest: Digests {
                    blake3: Some(manifest.image.hex()),
                    sha256: Some(manifest.sha256.hex()),
                },
            },
            Subject {
                name: MANIFEST.to_owned(),
                digest: Digests {
                    blake3: None,
                    sha256: Some(Sha256::of(&manifest.to_json()).hex()),
                },
            },
        ],
        predicate_type: predicate_type.to_owned(),
        predicate,
    };
    let unwritable = |why: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Invalid,
            format!("an attestation cannot be written: {why}"),
        )
    };
    let value = serde_json::to_value(&statement).map_err(|e| unwritable(&e))?;
    // Not the canonical form that TUF signs: that one leaves control characters as
    // they are, and whoever reads a payload reads JSON. Maps of `Value` are sorted.
    let payload = serde_json::to_vec(&value).map_err(|e| unwritable(&e))?;
    Ok(Envelope::new(PAYLOAD_TYPE, payload))
}

/// Reads an attestation that should be of an image.
fn read(key: String, bytes: &[u8], manifest: &Manifest) -> Result<Attestation> {
    let envelope = Envelope::from_json(bytes)?;
    let wrong = |why: &dyn std::fmt::Display| Error::corrupt(format_args!("{key}"), why);
    if envelope.kind() != PAYLOAD_TYPE {
        return Err(wrong(&"its payload is not an in-toto statement"));
    }
    let value = json::parse(envelope.payload()).map_err(|e| wrong(&e))?;
    let statement: Statement = serde_json::from_value(value).map_err(|e| wrong(&e))?;
    if statement.kind != STATEMENT_TYPE {
        return Err(wrong(&"it is another kind of statement"));
    }
    let about = |subject: &Subject| {
        let Digests { blake3, sha256 } = &subject.digest;
        let blake3 = blake3
            .as_ref()
            .is_none_or(|hex| *hex == manifest.image.hex());
        // The one that every reader of statements knows.
        blake3 && *sha256 == Some(manifest.sha256.hex())
    };
    let (manifests, images): (Vec<&Subject>, Vec<&Subject>) = statement
        .subject
        .iter()
        .partition(|subject| subject.name == MANIFEST);
    if images.is_empty() || !images.into_iter().all(about) {
        return Err(wrong(&"it is about something else than this image"));
    }
    let manifests = manifests
        .into_iter()
        .filter_map(|subject| Sha256::from_hex(subject.digest.sha256.as_deref()?).ok())
        .collect();
    Ok(Attestation {
        kind: Kind::ALL
            .into_iter()
            .find(|kind| kind.predicate_type() == statement.predicate_type),
        predicate_type: statement.predicate_type,
        predicate: statement.predicate,
        manifests,
        key,
        envelope,
    })
}

/// The attestations of an image, by kind. What cannot be read is passed to `odd`:
/// whoever can write to a store can put anything there, and that must not take away
/// what others said.
pub fn of_image(
    backend: &dyn Backend,
    manifest: &Manifest,
    odd: &mut dyn FnMut(&str, &Error),
) -> Result<Vec<Attestation>> {
    let keys = keys(backend, &manifest.image)?.ok_or_else(|| {
        let text = format!(
            "there is no list of what is attested of {} at {}",
            manifest.image,
            backend.describe()
        );
        Error::new(ErrorKind::Missing, text).with_hint(
            "a web server does not list its files; if something is attested, `imgbuild store gc \
             --delete` on the store itself writes the list",
        )
    })?;
    let mut found = Vec::new();
    for key in keys {
        let read = backend.get(&key, dsse::MAX_BYTES).and_then(|bytes| {
            bytes
                .map(|bytes| read(key.clone(), &bytes, manifest))
                .transpose()
        });
        match read {
            Ok(attestation) => found.extend(attestation),
            Err(error) => odd(&key, &error),
        }
    }
    found.sort_by(|a, b| (a.kind, &a.key).cmp(&(b.kind, &b.key)));
    Ok(found)
}

/// The folder of an image's attestations.
fn folder(image: &ImageId) -> String {
    format!("{FOLDER}{}/", image.hex())
}

/// The key of an envelope about an image.
fn key(image: &ImageId, bytes: &[u8]) -> String {
    format!("{}{}.json", folder(image), Sha256::of(bytes).hex())
}

/// Puts a signed statement beside its image; the key that it has there.
pub fn put(
    place: &dyn WritableBackend,
    manifest: &Manifest,
    envelope: &Envelope,
) -> Result<String> {
    let bytes = envelope.to_json();
    if bytes.len() as u64 > dsse::MAX_BYTES {
        let text = format!(
            "the attestation has {} bytes, and no more than {} are read",
            bytes.len(),
            dsse::MAX_BYTES
        );
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    let key = key(&manifest.image, &bytes);
    // What cannot be read back must not be written.
    read(key.clone(), &bytes, manifest)?;
    let image = crate::store::manifest_key(&manifest.image);
    if !place.hold(&[image, key.clone()])?[0] {
        return Err(Error::missing(
            format_args!("the image {}", manifest.image),
            place.describe(),
        ));
    }
    // The same bytes under the same name are there already, if they are.
    place.put_new(&key, &bytes)?;
    renew(place, &manifest.image)?;
    let digest = Sha256::of(&bytes);
    inventory::record(place, &manifest.image, &[(key.clone(), Some(digest))])?;
    Ok(key)
}

/// The image whose attestation has this key.
pub(crate) fn parse_key(key: &str) -> Option<ImageId> {
    let (image, file) = key.strip_prefix(FOLDER)?.split_once('/')?;
    Sha256::from_hex(file.strip_suffix(".json")?).ok()?;
    ImageId::from_hex(image).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::WritableStore;
    use crate::keys::{KeyPair, Signer};
    use crate::manifest::tests::manifest;
    use crate::store::manifest_key;

    #[test]
    fn said_of_one_image_by_whoever_signed() {
        let dir = tempfile::tempdir().unwrap();
        let store = WritableStore::open_or_create(dir.path()).unwrap();
        let (web, other) = (manifest("web", "web"), manifest("web", "other"));
        let (ann, bob) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let predicate = json!({ "environment": "prod", "comment": "two\nlines" });
        let mut approval = statement(Kind::Approval, &web, predicate).unwrap();
        approval.sign(&ann).unwrap();
        // Of an image that is not there, nothing is said.
        let e = put(store.backend(), &web, &approval).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Missing);
        for image in [&web, &other] {
            store.put(&manifest_key(&image.image), b"{}").unwrap();
        }
        let key = put(store.backend(), &web, &approval).unwrap();
        assert_eq!(put(store.backend(), &web, &approval).unwrap(), key);
        assert_eq!(parse_key(&key), Some(web.image));
        // Nor under the name of another one.
        assert!(put(store.backend(), &other, &approval).is_err());
        let mut failed = statement(Kind::TestResult, &web, json!({ "result": "FAILED" })).unwrap();
        failed.sign(&bob).unwrap();
        put(store.backend(), &web, &failed).unwrap();
        // What cannot be believed does not silence the others.
        let folder = format!("{FOLDER}{}", web.image.hex());
        let junk = format!("{folder}/{}.json", Sha256::of(b"junk").hex());
        store.put(&junk, b"junk").unwrap();
        let mut odd = Vec::new();
        let backend = store.store().backend();
        let found = of_image(backend, &web, &mut |key, _| odd.push(key.to_owned())).unwrap();
        assert_eq!(odd, [junk]);
        let kinds: Vec<_> = found.iter().map(|one| one.kind.unwrap()).collect();
        assert_eq!(kinds, [Kind::TestResult, Kind::Approval]);
        let (prod, dev) = ("prod".parse().unwrap(), "dev".parse().unwrap());
        let root = Sha256::of(b"root");
        assert!(!found[0].applies_to(&prod, &root), "the tests failed");
        assert!(found[1].applies_to(&prod, &root) && !found[1].applies_to(&dev, &root));
        let keys = [ann.public(), bob.public()];
        assert_eq!(found[1].signers(&keys), [ann.public()]);
        assert_eq!(found[1].signers(&keys[1..]), []);
        assert_eq!(
            found[1].claimed_key_ids().collect::<Vec<_>>(),
            [ann.public().id()]
        );
    }
}
