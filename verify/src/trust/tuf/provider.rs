//! Cryptography for the verification core: ed25519 the strict way, ECDSA on P-256,
//! RSA-PSS, and SHA-2.
//!
//! The core asks one provider per process. Our environments have ed25519 keys only;
//! their signatures go through [`PublicKey`], which turns away points of small order
//! and every second encoding of a signature. The other two kinds are those that the
//! specification of TUF names beside it (4.2.2): an environment may have a key in a
//! security module that knows no other. They are verified by *ring*, which TLS
//! brought along already.

use std::sync::OnceLock;

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use sha2::Digest;
use sigstore_crypto::{
    CryptoProvider, Error as CryptoError, HashContext, SigningScheme, VerificationKey,
    install_default_provider,
};
use sigstore_types::{DerPublicKey, HashAlgorithm};
use store::keys::PublicKey;

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

/// The key of a PEM text, in the one form in which a signature is verified with it:
/// two texts of the same key come out the same.
pub(super) fn from_pem(pem: &str) -> Option<Vec<u8>> {
    let der = DerPublicKey::from_pem(pem).ok()?;
    let key = VerificationKey::from_spki(&der).ok()?;
    Some(key.as_bytes().to_vec())
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
        let algorithm: &'static dyn VerificationAlgorithm = match scheme {
            SigningScheme::Ed25519 => {
                let key = PublicKey::from_bytes(key);
                let verified = key.and_then(|key| key.verify(data, signature));
                return verified.map_err(|e| CryptoError::Verification(e.to_string()));
            }
            SigningScheme::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
            SigningScheme::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
            _ => {
                return Err(CryptoError::UnsupportedAlgorithm(
                    "no such signatures are accepted".into(),
                ));
            }
        };
        UnparsedPublicKey::new(algorithm, key)
            .verify(data, signature)
            .map_err(|_| CryptoError::Verification("a signature does not verify".into()))
    }

    fn verify_prehashed(
        &self,
        _: SigningScheme,
        _: &[u8],
        _: &[u8],
        _: &[u8],
    ) -> sigstore_crypto::Result<()> {
        Err(CryptoError::UnsupportedAlgorithm(
            "no prehashed signatures are accepted".into(),
        ))
    }
}
