//! Signing: who says what about an image, and which images an environment releases.
//!
//! ```text
//! promote   a release of one environment -> a release of the next one, if the policy is met
//! publish   an image -> a release of the first environment
//! attest    what builders, rebuilders and approvers say about an image
//! shared_files  changes that wait for signatures in a file, which several people sign
//! ceremony  a change of an environment, signed by one or several people
//! keyring   private keys: files, encrypted files, keys in other programs
//! ```

pub mod attest;
pub mod ceremony;
pub mod keyring;
pub mod promote;
pub mod publish;
pub mod shared_files;
