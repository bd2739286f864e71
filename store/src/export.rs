//! What is signed about an exported image. The format has its page at
//! [`crate::format::export`].

use serde::{Deserialize, Serialize};

use crate::digest::{Blake3, ImageId, Sha256};
use crate::dsse::Envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::keys::PublicKey;
use crate::manifest::Manifest;
use crate::name::{EnvName, ImageName};

/// The type of the envelope's payload.
pub const PAYLOAD: &str = "application/vnd.in-toto+json";

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "urn:imgbuild:export:1";

/// What follows the file's name in that of its manifest.
pub const MANIFEST_SUFFIX: &str = ".manifest.json";

/// What follows the file's name in that of the signed statement.
pub const SIGNATURE_SUFFIX: &str = ".dsse.json";

/// What follows the file's name in that of the checksum for sha256sum(1).
pub const CHECKSUM_SUFFIX: &str = ".sha256";

/// One exported file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name, without a directory.
    pub file: String,
    /// The sha256 of its bytes.
    pub file_sha256: Sha256,
    /// The blake3 of its bytes.
    pub file_blake3: Blake3,
    /// The sha256 of the manifest beside it.
    pub manifest_sha256: Sha256,
    /// Which image, and in which form.
    pub about: ExportInfo,
}

/// The release that was exported, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExportInfo {
    /// Where it is released.
    pub environment: EnvName,
    /// Under which name.
    pub name: ImageName,
    /// The number of the release of that name.
    pub seq: u64,
    /// The Debian architecture.
    pub arch: String,
    /// The image: the digest of the tar.
    pub image: ImageId,
    /// The sha256 of the tar.
    pub sha256: Sha256,
    /// Bytes of the tar.
    pub size: u64,
    /// `tar`, `tar.zst` or `tar.xz`.
    pub format: String,
    /// Bytes of the file.
    pub file_size: u64,
    /// What compressed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Encoder>,
}

/// What compressed a file: the same version and settings give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    /// `zstd` or `liblzma`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// All that decides about the bytes.
    pub settings: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<Subject>,
    predicate: ExportInfo,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: Digests,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Digests {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
    sha256: String,
}

impl Export {
    /// The statement, ready to be signed.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn envelope(&self) -> Envelope {
        let statement = Statement {
            kind: STATEMENT.into(),
            predicate_type: PREDICATE.into(),
            subject: vec![
                Subject {
                    name: self.file.clone(),
                    digest: Digests {
                        blake3: Some(self.file_blake3.hex()),
                        sha256: self.file_sha256.hex(),
                    },
                },
                Subject {
                    name: format!("{}{MANIFEST_SUFFIX}", self.file),
                    digest: Digests {
                        blake3: None,
                        sha256: self.manifest_sha256.hex(),
                    },
                },
            ],
            predicate: self.about.clone(),
        };
        let value = serde_json::to_value(statement).expect("a statement has a JSON form");
        let payload = json::canonical(&value).expect("a statement has no fractions");
        Envelope::new(PAYLOAD, payload)
    }

    /// What a signed envelope says, if at least `threshold` of the keys have signed
    /// it. The keys are those that the root of `env` lists for targets.
    pub fn verify(
        envelope: &Envelope,
        env: &EnvName,
        keys: &[PublicKey],
        threshold: u64,
    ) -> Result<Self> {
        envelope.verify(keys, threshold)?;
        let export = Self::read(envelope)?;
        if export.about.environment != *env {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "{} was exported from the environment {}, not from {env}",
                    export.file, export.about.environment
                ),
            ));
        }
        Ok(export)
    }

    /// What an envelope says, whoever signed it.
    pub fn read(envelope: &Envelope) -> Result<Self> {
        let wrong = |why: &dyn std::fmt::Display| Error::corrupt("the statement of an export", why);
        let value = json::parse(envelope.payload()).map_err(|e| wrong(&e))?;
        let statement: Statement = serde_json::from_value(value).map_err(|e| wrong(&e))?;
        if (
            envelope.kind(),
            &*statement.kind,
            &*statement.predicate_type,
        ) != (PAYLOAD, STATEMENT, PREDICATE)
        {
            return Err(wrong(&"it is about something else"));
        }
        let [file, manifest] = &statement.subject[..] else {
            return Err(wrong(&"it is not about a file and its manifest"));
        };
        if manifest.name != format!("{}{MANIFEST_SUFFIX}", file.name) || file.name.contains('/') {
            return Err(wrong(&"it is not about a file and its manifest"));
        }
        let sha256 = |text: &str| Sha256::from_hex(text).map_err(|e| wrong(&e));
        let blake3 = file.digest.blake3.as_deref().unwrap_or_default();
        Ok(Self {
            file: file.name.clone(),
            file_sha256: sha256(&file.digest.sha256)?,
            file_blake3: Blake3::from_hex(blake3).map_err(|e| wrong(&e))?,
            manifest_sha256: sha256(&manifest.digest.sha256)?,
            about: statement.predicate,
        })
    }

    /// The manifest that lies beside the file, if it is the one that was signed for.
    pub fn manifest(&self, json: &[u8]) -> Result<Manifest> {
        let wrong = |why: &dyn std::fmt::Display| {
            Error::corrupt(format_args!("the manifest of {}", self.file), why)
        };
        if Sha256::of(json) != self.manifest_sha256 {
            return Err(wrong(&"it is not the one that was signed for"));
        }
        let manifest = Manifest::from_json(json)?;
        let about = &self.about;
        if (manifest.image, manifest.sha256, manifest.size)
            != (about.image, about.sha256, about.size)
        {
            return Err(wrong(&"it is the manifest of another image"));
        }
        Ok(manifest)
    }

    /// Refuses a file whose size and sha256 are not those that were signed for.
    pub fn check_file(&self, size: u64, sha256: &Sha256) -> Result<()> {
        if (size, sha256) == (self.about.file_size, &self.file_sha256) {
            return Ok(());
        }
        Err(Error::corrupt(
            &self.file,
            "it is not the file that was signed for",
        ))
    }
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;
    use crate::keys::{KeyPair, Signer as _};

    fn export() -> Export {
        Export {
            file: "web.tar.zst".into(),
            file_sha256: Sha256::of(b"file"),
            file_blake3: Blake3::of(b"file"),
            manifest_sha256: Sha256::of(b"manifest"),
            about: ExportInfo {
                environment: "dev".parse().unwrap(),
                name: "web".parse().unwrap(),
                seq: 7,
                arch: "amd64".into(),
                image: Blake3::of(b"tar"),
                sha256: Sha256::of(b"tar"),
                size: 10240,
                format: "tar.zst".into(),
                file_size: 4,
                encoder: Some(Encoder {
                    name: "zstd".into(),
                    version: "1.5.7".into(),
                    settings: "level 9".into(),
                }),
            },
        }
    }

    #[test]
    fn what_is_signed_is_what_is_read() {
        let key = KeyPair::generate().unwrap();
        let mut envelope = export().envelope();
        assert_eq!(envelope, export().envelope());
        let dev = "dev".parse().unwrap();
        assert!(Export::verify(&envelope, &dev, &[key.public()], 1).is_err());
        envelope.sign(&key).unwrap();
        let envelope = Envelope::from_json(&envelope.to_json()).unwrap();
        let read = Export::verify(&envelope, &dev, &[key.public()], 1).unwrap();
        assert_eq!(read, export());
        read.check_file(4, &Sha256::of(b"file")).unwrap();
        assert!(read.check_file(5, &Sha256::of(b"file")).is_err());
        assert!(read.check_file(4, &Sha256::of(b"flie")).is_err());
        assert!(read.manifest(b"other").is_err());
        let prod = "prod".parse().unwrap();
        let error = Export::verify(&envelope, &prod, &[key.public()], 1).unwrap_err();
        assert!(
            error.to_string().contains("environment dev, not from prod"),
            "{error}"
        );
    }

    #[test]
    fn statements_about_something_else() {
        let text = String::from_utf8(export().envelope().payload().to_vec()).unwrap();
        Export::read(&Envelope::new(PAYLOAD, text.clone().into())).unwrap();
        for (from, to) in [
            (PREDICATE, "urn:imgbuild:export:2"),
            (STATEMENT, "https://in-toto.io/Statement/v2"),
            ("\"name\":\"web.tar.zst\"", "\"name\":\"x/web.tar.zst\""),
            ("\"name\":\"web.tar.zst\"", "\"name\":\"other\""),
            ("\"seq\":7", "\"seq\":7,\"seq\":8"),
            ("\"seq\":7", "\"seq\":7,\"more\":8"),
            ("\"seq\":7", "\"seq\":7.5"),
        ] {
            let other = text.replace(from, to);
            assert_ne!(other, text);
            assert!(
                Export::read(&Envelope::new(PAYLOAD, other.into())).is_err(),
                "{to}"
            );
        }
        assert!(Export::read(&Envelope::new("text/plain", text.into())).is_err());
    }
}
