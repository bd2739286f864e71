//! Keys: who may say what.
//!
//! Everything an environment promises rests on a handful of ed25519 keys. This
//! module knows three nouns and keeps them apart:
//!
//! - [`PublicKey`] is what others know us by. It cannot be built from a point
//!   of small order, so whoever holds one may verify with it blindly. Its
//!   [`id`](PublicKey::id) is the key id that TUF metadata uses.
//! - [`Signer`] is anything that can sign as such a key. The rest of the crate
//!   asks for nothing more, so that a token or a remote service can stand where
//!   a file stands today.
//! - [`KeyPair`] is the signer that holds its secret in memory, and [`KeyFile`]
//!   is where such a pair rests on disk: a PKCS#8 PEM file that `openssl` reads
//!   too, mode 0600 in a directory of mode 0700, never overwritten.
//!
//! A secret never leaves through `Debug`, `Display` or an error.

mod error;
#[cfg(feature = "put")]
mod file;
#[cfg(feature = "put")]
mod pair;
mod public;

pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "put")]
pub use file::KeyFile;
#[cfg(feature = "put")]
pub use pair::{KeyPair, Signer};
pub use public::{PublicKey, SIGNATURE_BYTES};
