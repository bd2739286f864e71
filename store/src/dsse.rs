//! Signed envelopes: DSSE 1.0 (the Dead Simple Signing Envelope of in-toto).
//!
//! ```text
//! { "payload": BASE64, "payloadType": TYPE, "signatures": [ { "keyid": ID, "sig": BASE64 }, ... ] }
//! signed bytes = "DSSEv1" SP length(TYPE) SP TYPE SP length(PAYLOAD) SP PAYLOAD
//! ```
//!
//! What is signed are the payload's own bytes together with their type, so nothing
//! has to be brought into a canonical form before it can be verified, and no
//! payload can be taken for one of another type. The key id is a hint: a reader
//! tries the keys that it trusts, and counts each once.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::keys::PublicKey;
#[cfg(feature = "put")]
use crate::keys::Signer;

/// The type of a payload that is an in-toto statement, as in-toto names it.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The type that every in-toto statement says it is.
#[cfg(feature = "write")]
pub(crate) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The longest envelope that is read.
pub const MAX_BYTES: u64 = 1 << 20;

/// A payload with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    kind: String,
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    keyid: String,
    bytes: Vec<u8>,
}

/// The envelope as it is written. Unknown fields are ignored, as DSSE says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    payload: String,
    payload_type: String,
    signatures: Vec<WrittenSignature>,
}

#[derive(Serialize, Deserialize)]
struct WrittenSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl Envelope {
    /// An envelope that nobody has signed yet.
    pub fn new(kind: impl Into<String>, payload: Vec<u8>) -> Self {
        Self {
            kind: kind.into(),
            payload,
            signatures: Vec::new(),
        }
    }

    /// The type of the payload.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The payload, believed or not: see [`verify`](Self::verify).
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The same signatures with another payload.
    #[cfg(feature = "fuzz")]
    pub(crate) fn with_payload(self, payload: Vec<u8>) -> Self {
        Self { payload, ..self }
    }

    /// Reads an envelope. No signature is looked at.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Self::from_json_up_to(bytes, MAX_BYTES)
    }

    /// Reads an envelope that may be as long as this.
    pub(crate) fn from_json_up_to(bytes: &[u8], most: u64) -> Result<Self> {
        let wrong = |why: &dyn std::fmt::Display| Error::corrupt("the signature file", why);
        if bytes.len() as u64 > most {
            return Err(wrong(&format_args!("it is longer than {most} bytes")));
        }
        let value = json::parse(bytes).map_err(|e| wrong(&e))?;
        let written: Written = serde_json::from_value(value).map_err(|e| wrong(&e))?;
        let decode = |text: &str| {
            Base64::decode_vec(text).map_err(|_| wrong(&"it has something that is not base64"))
        };
        let signatures = written.signatures.iter().map(|signature| {
            Ok(Signature {
                keyid: signature.keyid.clone(),
                bytes: decode(&signature.sig)?,
            })
        });
        Ok(Self {
            payload: decode(&written.payload)?,
            signatures: signatures.collect::<Result<_>>()?,
            kind: written.payload_type,
        })
    }

    /// The one form in which this crate writes an envelope.
    ///
    /// # Panics
    /// Never: an envelope has a JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        let signatures = self.signatures.iter().map(|signature| WrittenSignature {
            keyid: signature.keyid.clone(),
            sig: Base64::encode_string(&signature.bytes),
        });
        let written = Written {
            payload: Base64::encode_string(&self.payload),
            payload_type: self.kind.clone(),
            signatures: signatures.collect(),
        };
        let mut json = serde_json::to_vec_pretty(&written).expect("an envelope has a JSON form");
        json.push(b'\n');
        json
    }

    /// Refuses the envelope unless at least `threshold` of the keys have signed it,
    /// each counted once.
    pub fn verify(&self, keys: &[PublicKey], threshold: u64) -> Result<()> {
        let good = self.signers(keys);
        if threshold == 0 || (good.len() as u64) < threshold {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the envelope has {} of {} signatures that count",
                    good.len(),
                    threshold.max(1)
                ),
            ));
        }
        Ok(())
    }

    /// Which of the keys have signed it, each once.
    pub fn signers(&self, keys: &[PublicKey]) -> Vec<PublicKey> {
        let message = self.message();
        let mut good: Vec<PublicKey> = Vec::new();
        for key in keys {
            let signed = |s: &Signature| key.verify(&message, &s.bytes).is_ok();
            if !good.contains(key) && self.signatures.iter().any(signed) {
                good.push(*key);
            }
        }
        good
    }

    /// The ids of the keys that the signatures say they are by.
    pub fn keyids(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|signature| &*signature.keyid)
    }

    /// Takes over signatures of keys that have none here, from a copy of the same statement. False
    /// if it is another one.
    #[cfg(feature = "write")]
    pub fn merge(&mut self, other: &Self) -> bool {
        if (self.kind(), self.payload()) != (other.kind(), other.payload()) {
            return false;
        }
        let known: Vec<_> = self.keyids().map(str::to_owned).collect();
        let new = other.signatures.iter().cloned();
        self.signatures
            .extend(new.filter(|signature| !known.contains(&signature.keyid)));
        true
    }

    /// Adds a signature, in place of an earlier one by the same key. It is verified
    /// before it is added: a signer that errs must not reach a file.
    #[cfg(feature = "put")]
    pub fn sign(&mut self, key: &dyn Signer) -> crate::keys::Result<()> {
        let message = self.message();
        let (public, bytes) = (key.public(), key.sign(&message)?);
        public.verify(&message, &bytes)?;
        let keyid = public.id();
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature {
            keyid,
            bytes: bytes.to_vec(),
        });
        self.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        Ok(())
    }

    /// DSSE's pre-authentication encoding: what is signed.
    fn message(&self) -> Vec<u8> {
        let mut message = format!(
            "DSSEv1 {} {} {} ",
            self.kind.len(),
            self.kind,
            self.payload.len()
        )
        .into_bytes();
        message.extend_from_slice(&self.payload);
        message
    }
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;
    use crate::keys::KeyPair;

    /// The example of the DSSE specification, "protocol.md".
    #[test]
    fn the_encoding_is_that_of_the_specification() {
        let envelope = Envelope::new("http://example.com/HelloWorld", b"hello world".to_vec());
        assert_eq!(
            envelope.message(),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn each_key_counts_once() {
        let (one, two) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut envelope = Envelope::new("type", b"payload".to_vec());
        envelope.sign(&one).unwrap();
        envelope.sign(&one).unwrap();
        assert_eq!(envelope.signatures.len(), 1);
        let read = Envelope::from_json(&envelope.to_json()).unwrap();
        assert_eq!(read, envelope);
        let (a, b) = (one.public(), two.public());
        read.verify(&[a], 1).unwrap();
        for (keys, threshold) in [(vec![a, b], 2), (vec![a, a], 2), (vec![b], 1), (vec![a], 0)] {
            let error = read.verify(&keys, threshold).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        let mut both = read.clone();
        both.sign(&two).unwrap();
        both.verify(&[a, b], 2).unwrap();
        // Neither payload nor type can be another one.
        for other in [
            Envelope {
                payload: b"payloae".to_vec(),
                ..both.clone()
            },
            Envelope {
                kind: "tipe".into(),
                ..both.clone()
            },
        ] {
            assert!(other.verify(&[a, b], 1).is_err());
        }
    }

    #[test]
    fn malformed_envelopes() {
        for text in [
            "",
            "{}",
            r#"{"payload":"YQ==","payload":"YQ==","payloadType":"t","signatures":[]}"#,
            r#"{"payload":"Y","payloadType":"t","signatures":[]}"#,
            r#"{"payload":"YQ==","payloadType":"t","signatures":[{"sig":"?"}]}"#,
            r#"{"payload":"YQ==","payloadType":"t","signatures":{}}"#,
        ] {
            assert!(Envelope::from_json(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Envelope::from_json(&vec![b' '; MAX_BYTES as usize + 1]).is_err());
    }
}
