//! The half of a key that everybody may know.

use std::fmt;
use std::str::FromStr;

use common::hex;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use super::{Error, ErrorKind, Result};

/// An ed25519 signature is this many bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// An ed25519 public key that is safe to verify with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key of these 32 bytes. Points that are not on the curve and points
    /// of small order are refused: for the latter a signature that verifies
    /// proves nothing.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes: &[u8; 32] = bytes.try_into().map_err(|_| {
            let text = format!(
                "an ed25519 public key has 32 bytes, this one {}",
                bytes.len()
            );
            Error::new(ErrorKind::Malformed, text)
        })?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| {
            Error::new(
                ErrorKind::Malformed,
                "the ed25519 public key is not a point of the curve",
            )
        })?;
        Self::checked(key)
    }

    pub(super) fn checked(key: VerifyingKey) -> Result<Self> {
        if key.is_weak() {
            return Err(Error::new(
                ErrorKind::Weak,
                "the ed25519 public key is a point of small order: anybody can sign as it",
            ));
        }
        Ok(Self(key))
    }

    /// The key of an SPKI PEM text (RFC 8410), as `openssl pkey -pubout` writes it.
    #[cfg(feature = "put")]
    pub fn from_pem(pem: &str) -> Result<Self> {
        use ed25519_dalek::pkcs8::DecodePublicKey as _;
        let key = VerifyingKey::from_public_key_pem(pem.trim()).map_err(|_| {
            Error::new(
                ErrorKind::Malformed,
                "it is not an ed25519 public key in SPKI PEM form",
            )
        })?;
        Self::checked(key)
    }

    /// The SPKI PEM text of the key, which openssl reads.
    ///
    /// # Panics
    /// Never: a key has a PEM form.
    #[cfg(feature = "put")]
    pub fn to_pem(&self) -> String {
        use ed25519_dalek::pkcs8::EncodePublicKey as _;
        use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
        self.0
            .to_public_key_pem(LineEnding::LF)
            .expect("a key has a PEM form")
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The key as 64 lower-case hex digits: TUF's `keyval.public`.
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// The TUF key id: sha256 of the canonical JSON of the key, as python-tuf
    /// and securesystemslib compute it. To a client it is an opaque name (TUF
    /// 4.2); computing it from the key is what keeps two keys from sharing one.
    pub fn id(&self) -> String {
        let canonical = format!(
            r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#,
            self.hex()
        );
        hex::encode(&Sha256::digest(canonical.as_bytes()))
    }

    /// Checks `signature` over `message`, the strict way: only one encoding of
    /// a signature is accepted, and no component of small order.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        let bad = || {
            let text = format!("a signature is not by key {}", self.id());
            Error::new(ErrorKind::BadSignature, text)
        };
        let bytes: &[u8; SIGNATURE_BYTES] = signature.try_into().map_err(|_| bad())?;
        self.0
            .verify_strict(message, &Signature::from_bytes(bytes))
            .map_err(|_| bad())
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = hex::decode(text).ok_or_else(|| {
            Error::new(
                ErrorKind::Malformed,
                "an ed25519 public key is 64 hex digits",
            )
        })?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test vector of RFC 8032, 7.1.
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    const SIGNATURE: &str = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                             5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

    #[test]
    fn verifies_the_vector_of_the_rfc_and_nothing_else() {
        let key: PublicKey = PUBLIC.parse().unwrap();
        let signature = hex::decode(SIGNATURE).unwrap();
        key.verify(b"", &signature).unwrap();
        assert_eq!(
            key.verify(b"x", &signature).unwrap_err().kind(),
            ErrorKind::BadSignature
        );
        assert_eq!(
            key.verify(b"", &signature[..63]).unwrap_err().kind(),
            ErrorKind::BadSignature
        );
    }

    /// Computed with securesystemslib 1.6
    /// (`compute_default_keyid`).
    #[test]
    fn the_key_id_is_the_one_of_securesystemslib() {
        let key: PublicKey = PUBLIC.parse().unwrap();
        assert_eq!(
            key.id(),
            "74c181c7ad8a0855d4b55e44d2ba87aabdddb196832571f15f92fece332e4916"
        );
    }

    #[test]
    fn unusable_keys_are_refused() {
        let kind = |text: &str| text.parse::<PublicKey>().unwrap_err().kind();
        assert_eq!(kind(&"0".repeat(62)), ErrorKind::Malformed);
        assert_eq!(kind("zz"), ErrorKind::Malformed);
        assert_eq!(kind("abc"), ErrorKind::Malformed);
        // y = 2 is on no point; y = 1 is the neutral element; y = 0 has order 4.
        assert_eq!(kind(&format!("02{}", "0".repeat(62))), ErrorKind::Malformed);
        assert_eq!(kind(&format!("01{}", "0".repeat(62))), ErrorKind::Weak);
        assert_eq!(kind(&"0".repeat(64)), ErrorKind::Weak);
    }
}
