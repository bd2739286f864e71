//! Signing.

use std::fmt;
use std::ops::Deref;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signer as _, SigningKey};

use super::{Error, ErrorKind, PublicKey, Result, SIGNATURE_BYTES};
use crate::random;

/// Anything that can sign as one ed25519 key.
///
/// Callers verify what comes back before they publish it, so a signer that
/// answers with rubbish costs an error and never a broken environment.
pub trait Signer: Send + Sync {
    /// The key that the signatures verify with.
    fn public(&self) -> PublicKey;

    /// Signs `message` (pure ed25519, nothing prehashed).
    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES]>;
}

/// A key whose secret half is in memory; it is wiped when dropped.
pub struct KeyPair {
    signing: SigningKey,
    public: PublicKey,
}

impl KeyPair {
    /// A new key, from the kernel's random numbers.
    pub fn generate() -> Result<Self> {
        let mut secret = [0; 32];
        random::fill(&mut secret)
            .map_err(|e| Error::io("cannot get random numbers for a key", e.into()))?;
        Self::from_signing(SigningKey::from_bytes(&secret))
    }

    /// The key of a PKCS#8 PEM text.
    pub(crate) fn from_pem(pem: &str) -> Result<Self> {
        let signing = SigningKey::from_pkcs8_pem(pem).map_err(|_| {
            // The cause is not repeated: it could quote what it could not read.
            Error::new(
                ErrorKind::Malformed,
                "it is not an ed25519 key in PKCS#8 PEM form",
            )
        })?;
        Self::from_signing(signing)
    }

    /// The PKCS#8 PEM text of the key, in version 1 of the format: version 2
    /// adds the public half, and openssl refuses to read that.
    pub(crate) fn to_pem(&self) -> Result<impl Deref<Target = String> + use<>> {
        let bytes = KeypairBytes {
            secret_key: self.signing.to_bytes(),
            public_key: None,
        };
        bytes
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| Error::new(ErrorKind::Malformed, "a key cannot be written as PEM"))
    }

    /// The key of an encrypted PKCS#8 PEM text.
    #[cfg(feature = "write")]
    pub(crate) fn from_encrypted_pem(pem: &str, passphrase: &str) -> Result<Self> {
        let signing = SigningKey::from_pkcs8_encrypted_pem(pem, passphrase).map_err(|_| {
            // The cause is not repeated: it could say something about the passphrase.
            Error::new(
                ErrorKind::Passphrase,
                "the passphrase does not open it, or it is not an ed25519 key in PKCS#8 PEM form",
            )
        })?;
        Self::from_signing(signing)
    }

    /// The encrypted PKCS#8 PEM text of the key, in version 1 of the format.
    #[cfg(feature = "write")]
    pub(crate) fn to_encrypted_pem(
        &self,
        passphrase: &str,
    ) -> Result<impl Deref<Target = String> + use<>> {
        let bytes = KeypairBytes {
            secret_key: self.signing.to_bytes(),
            public_key: None,
        };
        bytes
            .to_pkcs8_encrypted_pem(passphrase, LineEnding::LF)
            .map_err(|_| Error::new(ErrorKind::Malformed, "a key cannot be encrypted"))
    }

    fn from_signing(signing: SigningKey) -> Result<Self> {
        let public = PublicKey::checked(signing.verifying_key())?;
        Ok(Self { signing, public })
    }
}

impl Signer for KeyPair {
    fn public(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES]> {
        Ok(self.signing.sign(message).to_bytes())
    }
}

/// Only the public half: secrets have no way into a log.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_what_its_public_half_verifies() {
        let key = KeyPair::generate().unwrap();
        let signature = key.sign(b"message").unwrap();
        key.public().verify(b"message", &signature).unwrap();
        assert!(key.public().verify(b"massage", &signature).is_err());
        assert_ne!(KeyPair::generate().unwrap().public(), key.public());
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = KeyPair::generate().unwrap();
        let secret = common::hex::encode(&key.signing.to_bytes());
        let shown = format!("{key:?} {key:#?}");
        assert!(shown.contains(&key.public().hex()));
        assert!(!shown.contains(&secret) && !shown.contains("signing"));
    }

    #[test]
    fn survives_its_pem_form() {
        let key = KeyPair::generate().unwrap();
        let pem = key.to_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(KeyPair::from_pem(&pem).unwrap().public(), key.public());
    }
}
