//! The node's half of trust: following an environment.
//!
//! An environment is a TUF repository (see [`store::tuf`]). A node is given one
//! root file by hand, once, and from then on believes only what follows from
//! it: the roots that this root has signed for, and what the newest of them
//! says about timestamp, snapshot and targets. [`Client`] is the whole of it:
//!
//! ```text
//! Client::init     a root file and the environment's name become local state
//! Client::open     local state, read back; anything odd is refused
//! Client::refresh  the client workflow of the specification, step by step
//! Client::release  the newest release of an image: fetched, checked, parsed
//! ```
//!
//! [`GenericClient`] follows any other TUF repository, on the same workflow and without what is
//! ours; the public conformance suite tests us through it.
//!
//! Time is an argument throughout. The latest time at which a refresh succeeded
//! is kept as a floor, so a clock that falls back cannot make expired metadata
//! look fresh again; a clock that runs ahead finds everything expired, fails,
//! and leaves no trace.
//!
//! ```text
//! client          follows an environment
//! generic_client  follows any repository
//! release         from trusted metadata to one manifest
//! remembered      the list of releases that was trusted last
//! workflow        section 5 of the specification: which file is fetched when, what it is held
//!                 against, and when it is written down
//! refusal         how a refusal reads
//! precheck        refuses what nobody should have to interpret (ambiguous JSON, one key under two
//!                 ids, keys anybody can sign with) before it is interpreted
//! core            verifies signatures, versions and expiry: another project's code behind a trait
//!                 of ours
//! provider        the cryptography of that code
//! repository      where metadata and releases come from
//! state           what must survive: a kill at any point leaves either the old state or the new
//!                 one, and damage is refused instead of forgotten, because to forget is to accept
//!                 a rollback
//! limits          how much is taken before anything is known
//! error           why an environment was not followed
//! ```

mod client;
mod core;
mod error;
mod generic_client;
mod limits;
mod precheck;
mod provider;
mod refusal;
mod release;
mod remembered;
mod repository;
mod state;
#[cfg(test)]
mod tests;
mod workflow;

pub use self::client::Client;
pub use self::error::{Error, ErrorKind, Result};
pub use self::generic_client::GenericClient;
pub use self::release::{Asker, Held, VerifiedRelease};
pub use self::repository::{HttpRepository, Repository};
