//! Cryptography for the verification core: ed25519 the strict way, and SHA-2.
//!
//! The core asks one provider per process. Ours knows ed25519 and nothing else,
//! so a root that names an RSA key has a key here that never verifies.
//! Signatures go through [`PublicKey`], which turns away points of small order
//! and every second encoding of a signature.

use std::sync::OnceLock;

use sha2::Digest;
use sigstore_crypto::{
    CryptoProvider, Error as CryptoError, HashContext, SigningScheme, install_default_provider,
};
use sigstore_types::HashAlgorithm;
use store::key::PublicKey;

use super::error::{Error, ErrorKind, Result};

#[derive(Debug)]
struct Strict;

/// Makes sure that the process verifies with [`Strict`]. If another provider
/// came first we cannot know what it accepts, and stop.
pub(super) fn install() -> Result<()> {
    static OURS: OnceLock<bool> = OnceLock::new();
    if *OURS.get_or_init(|| install_default_provider(&Strict).is_ok()) {
        return Ok(());
    }
    let text = "another cryptography provider was installed in this process before this one";
    Err(Error::new(ErrorKind::Io, text))
}

struct Sha2<D>(D);

impl<D: Digest + Send> HashContext for Sha2<D> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

impl CryptoProvider for Strict {
    fn hash(&self, algorithm: HashAlgorithm) -> sigstore_crypto::Result<Box<dyn HashContext>> {
        Ok(match algorithm {
            HashAlgorithm::Sha2256 => Box::new(Sha2(sha2::Sha256::new())),
            HashAlgorithm::Sha2384 => Box::new(Sha2(sha2::Sha384::new())),
            HashAlgorithm::Sha2512 => Box::new(Sha2(sha2::Sha512::new())),
            other => {
                let text = format!("no hash function {other:?}");
                return Err(CryptoError::UnsupportedAlgorithm(text));
            }
        })
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> sigstore_crypto::Result<()> {
        if !matches!(scheme, SigningScheme::Ed25519) {
            return Err(CryptoError::UnsupportedAlgorithm(
                "only ed25519 is accepted".into(),
            ));
        }
        let verified = PublicKey::from_bytes(key).and_then(|key| key.verify(data, signature));
        verified.map_err(|e| CryptoError::Verification(e.to_string()))
    }

    fn verify_prehashed(
        &self,
        _: SigningScheme,
        _: &[u8],
        _: &[u8],
        _: &[u8],
    ) -> sigstore_crypto::Result<()> {
        Err(CryptoError::UnsupportedAlgorithm(
            "only pure ed25519 is accepted".into(),
        ))
    }
}
