//! From a recipe to a lock, with the real tools.
//!
//! [`apt`] lets apt-get decide which packages, [`python`] lets the tree's own
//! pip decide which distributions, [`git`] asks the repository which commit,
//! [`local`] reads what lies beside the recipe, [`remembered`] knows what of it is as it
//! was; `ignored` knows what backends leave out by Git's word, `scheme` what takes its version from
//! Git. This is the only part of a
//! build that reaches the network to decide something; `fetch` reaches it for
//! bytes whose digest is already known.

pub mod apt;
pub mod git;
pub mod local;
pub mod python;
pub mod remembered;

mod ignored;
pub(crate) mod scheme;
