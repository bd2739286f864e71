//! Environments: which images are released where, and who says so.
//!
//! An environment (dev, staging, prod) is a repository of The Update Framework
//! (TUF 1.0) inside a store, and a release is one of its targets. Nothing here
//! is a dialect: python-tuf's `ngclient`, pointed at the two folders of
//! [`paths`], follows an environment and downloads its releases. Ours are only
//! the fields that TUF leaves to its users: [`ReleaseCustom`] in each target, and the
//! environment's own name ([`ENVIRONMENT_FIELD`]) in root and targets.
//!
//! Four roles sign four kinds of file, each saying which version of the next is
//! current, and for how long:
//!
//! | file | says | signed by | lasts |
//! |---|---|---|---|
//! | root | which keys count for the four roles | root, kept offline | 365 days |
//! | targets | which releases there are | the people who release | 90 days |
//! | snapshot | which targets file is current | a key that is online | 14 days |
//! | timestamp | which snapshot is current | the same | 7 days |
//!
//! Reading side and writing side share the format and little else. A node uses
//! [`json`](crate::json), [`paths`] and [`ReleaseCustom`] from here and brings its own verification
//! (`verify::trust::tuf`). The writing side (feature `write`) is [`Environment`]: it
//! makes an environment, releases images into it, and renews signatures before
//! they run out. It never reads a clock; the time is an argument.
//!
//! # Order of writing
//! A client enters through `timestamp.json`, the only file that ever changes;
//! all else is written beside what is there, under new names. So a release
//! writes the manifest, then targets, snapshot, timestamp, each durable before
//! the next. Killed anywhere before the last rename, the old release stands as
//! it stood, and the files of the unfinished one are referenced by nothing: the
//! next attempt counts from what `timestamp.json` leads to and overwrites them.
//!
//! `timestamp.json` itself is replaced only while it is the one that the change was
//! made for. On a directory the lock alone would do; in a bucket, where a lock ends by
//! time, it is what makes one of two writers win and the other hear of it.
//!
//! # What is where
//! In the order of the flow, in which a file uses only what stands after it:
//!
//! ```text
//! releases        an image is released with the keys at hand; releases are listed
//! publish         a change that enough have signed becomes the environment's newest state
//! online          snapshot and timestamp, signed after every change and before they run out
//! review          a change in sentences, for whoever is to sign it
//! draft           the next root and the next targets, with what is to change in them
//! consistency     refuses a change that says what no sentence tells
//! proposal        a change in a file that several people sign
//! audited         what a policy asks of audits
//! check           every file compared with what vouches for it, for fsck
//! exported        the log with all that it rests on, in one file
//! history         old versions of targets, kept as differences
//! witness         how far others have seen the log
//! environment     an environment made, and read with suspicion
//! compare_and_swap  a store that notices when somebody else writes the same environment
//! log             what was done, one signed entry for each act
//! metadata        the four kinds of file
//! policy          what an image must show before it is released
//! lifetimes       how long signatures last
//! metadata_store  what an environment asks of a store
//! roles           which keys sign for what
//! error           what can go wrong
//! paths           where the files lie
//! release         what a release says beside its manifest
//! waves           the stages in which a release reaches nodes
//! ```

#[cfg(feature = "write")]
mod releases;

#[cfg(feature = "write")]
mod publish;

#[cfg(feature = "write")]
mod online;

#[cfg(feature = "write")]
mod review;

#[cfg(feature = "write")]
mod draft;

#[cfg(feature = "write")]
mod consistency;

#[cfg(feature = "write")]
mod proposal;

#[cfg(feature = "write")]
mod audited;

#[cfg(feature = "write")]
mod check;

#[cfg(feature = "write")]
mod exported;

#[cfg(feature = "write")]
mod history;

#[cfg(feature = "write")]
mod witness;

#[cfg(feature = "write")]
mod environment;

#[cfg(feature = "write")]
mod compare_and_swap;

#[cfg(feature = "write")]
mod log;

#[cfg(feature = "write")]
mod metadata;

#[cfg(feature = "write")]
mod policy;

#[cfg(feature = "write")]
mod lifetimes;

#[cfg(feature = "write")]
mod metadata_store;

#[cfg(feature = "write")]
mod roles;

#[cfg(feature = "write")]
mod error;

pub mod paths;

mod release;

pub mod waves;

#[cfg(all(test, feature = "write"))]
mod tests;

#[cfg(feature = "write")]
pub use self::audited::{AuditFault, Audited, Exception};
#[cfg(feature = "write")]
pub(crate) use self::check::check;
#[cfg(feature = "write")]
pub use self::draft::{ReleaseOrigin, RootChange, RootDraft, WavePlan};
#[cfg(feature = "write")]
pub use self::environment::Environment;
#[cfg(feature = "write")]
pub use self::error::{Error, ErrorKind, Result};
#[cfg(feature = "write")]
pub use self::exported::{ExportedEnvironment, MAX_BYTES as MAX_EXPORTED};
#[cfg(feature = "write")]
pub(crate) use self::history::{Retirable, retirable, retire};
#[cfg(feature = "write")]
pub use self::lifetimes::Lifetimes;
#[cfg(feature = "write")]
pub use self::log::{Action, LogEntry, PromotedFrom};
#[cfg(feature = "write")]
pub(crate) use self::metadata_store::LOCK;
#[cfg(feature = "write")]
pub use self::metadata_store::{Guard, MetadataStore};
#[cfg(feature = "write")]
pub use self::policy::{BaseFact, Claim, Facts, Policy, Quorum, Violation};
#[cfg(feature = "write")]
pub use self::proposal::{Proposal, RequiredSignatures};
#[cfg(feature = "write")]
pub use self::publish::Publication;
pub use self::release::{ENVIRONMENT_FIELD, ReleaseCustom, Verdict};
#[cfg(feature = "write")]
pub use self::release::{Release, revoked_images};
#[cfg(feature = "write")]
pub use self::releases::Renewed;
#[cfg(feature = "write")]
pub use self::review::Review;
#[cfg(feature = "write")]
pub use self::roles::{KeyGroup, KeySet, RoleKeys, Signers};
#[cfg(feature = "write")]
pub use self::witness::{Checkpoint, Testimony};
