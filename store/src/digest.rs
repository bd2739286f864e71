//! Digests: 32 bytes that know which function made them.
//!
//! Both are written `function:hex`, lower case, and read back only in exactly
//! that form, so that two spellings of one digest cannot exist in a signed file.
//! Inside the store the function is always blake3; sha256 is for what the rest
//! of the world names by sha256 (inputs, locks, recorded tar digests).

use std::fmt;
use std::io;
use std::str::FromStr;

use common::hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;

/// Number of bytes in every digest here.
pub const LEN: usize = 32;

/// The text is not a digest of the expected function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseDigestError {
    function: &'static str,
    text: String,
}

impl fmt::Display for ParseDigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a digest: expected `{}:` and 64 lower-case hexadecimal digits",
            self.text.escape_default(),
            self.function
        )
    }
}

impl std::error::Error for ParseDigestError {}

macro_rules! digest {
    ($(#[$meta:meta])* $name:ident, $function:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; LEN]);

        impl $name {
            /// Wraps bytes that a hash function has produced.
            pub const fn new(bytes: [u8; LEN]) -> Self {
                Self(bytes)
            }

            /// The raw digest.
            pub const fn bytes(&self) -> &[u8; LEN] {
                &self.0
            }

            /// 64 lower-case hexadecimal digits, without the function's name.
            pub fn hex(&self) -> String {
                hex::encode(&self.0)
            }

            /// Reads the form that [`Self::hex`] writes.
            pub fn from_hex(text: &str) -> Result<Self, ParseDigestError> {
                decode(text)
                    .map(Self)
                    .ok_or_else(|| Self::refuse(text))
            }

            fn refuse(text: &str) -> ParseDigestError {
                // The text may be anything of any length; name only its beginning.
                let text = text.chars().take(80).collect();
                ParseDigestError { function: $function, text }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}:{}", $function, self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, ParseDigestError> {
                text.strip_prefix(concat!($function, ":"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or_else(|| Self::refuse(text))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

digest! {
    /// A blake3 digest: names images, chunks, packs and layouts.
    Blake3, "blake3"
}

digest! {
    /// A sha256 digest: names inputs, recipes and locks.
    Sha256, "sha256"
}

/// An image is named by the digest of its canonical tar.
pub type ImageId = Blake3;

impl Blake3 {
    /// Hashes `bytes` at once.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl From<blake3::Hash> for Blake3 {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl Sha256 {
    /// Hashes `bytes` at once.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(sha2::Sha256::new_with_prefix(bytes))
    }

    /// Hashes what `content` yields, and counts it.
    pub fn of_reader(content: &mut dyn io::Read) -> io::Result<(Self, u64)> {
        struct Hasher(sha2::Sha256);
        impl io::Write for Hasher {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.update(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut hasher = Hasher(sha2::Sha256::new());
        let size = io::copy(content, &mut hasher)?;
        Ok((Self::finish(hasher.0), size))
    }

    /// The digest of everything that `hasher` was fed.
    pub fn finish(hasher: sha2::Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

/// Only lower case: one digest has one form.
fn decode(digits: &str) -> Option<[u8; LEN]> {
    let fits = digits.len() == 2 * LEN && !digits.bytes().any(|digit| digit.is_ascii_uppercase());
    let bytes = fits.then(|| hex::decode(digits)).flatten()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_the_only_form() {
        let digest = Blake3::of(b"");
        let text = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(Blake3::from_hex(&digest.hex()), Ok(digest));

        for wrong in [
            "",
            "blake3:",
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            "sha256:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            "blake3:AF1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32620",
            " blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        ] {
            assert!(wrong.parse::<Blake3>().is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn sha256_of_nothing() {
        assert_eq!(
            Sha256::of(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
