//! From a recipe to an image.
//!
//! The modules read like the flow of a build:
//!
//! ```text
//! recipe ─▶ locking ─▶ lock ─▶ steps ─▶ runner ─▶ tree ─▶ image
//!           │ resolve                   │ layers          │ leak
//!           │ fetch                     │ sandbox         └ store
//!           └ host                      └ mirror
//! ```
//!
//! [`recipe`] is what a person writes. [`locking`] brings the [`lock`], which
//! names every input, up to date: [`resolve`] asks real apt, pip and git,
//! [`fetch`] brings the bytes. [`steps`] turns both into units of work with
//! content keys; the [`runner`] runs them in a [`sandbox`] and keeps their
//! results as [`layers`]. [`image`] packs the finished tree into the store and
//! releases it. [`mod@build`] is the whole of it.
//!
//! [`cache`] is what builders share: inputs and finished images are taken from other
//! stores before a mirror is asked or anything is built.
//!
//! [`mod@import`] takes in what other tools made, [`mod@export`] makes files that they
//! understand.
//!
//! [`find`] knows what a person means by an image, [`compare`] what two of them
//! do not have in common, [`sbom`] what one is made of, [`logs`]
//! what its steps printed.
//!
//! [`keyring`] has the keys of people and machines, [`mod@attest`] what they say about
//! an image, [`promote`] the way from one environment to the next, and [`ceremony`] how
//! several people sign one change.
//!
//! The library prints only through [`ui`] and reads the environment only
//! through [`settings`].

pub mod acquire;
pub mod args;
pub mod attest;
pub mod build;
pub mod cache;
pub mod ceremony;
pub mod commands;
pub mod compare;
pub mod error;
pub mod export;
pub mod fetch;
pub mod find;
pub mod host;
pub mod image;
pub mod import;
pub mod interrupt;
pub mod keyring;
pub mod layers;
pub mod leak;
pub mod lock;
pub mod locking;
pub mod logs;
pub mod mirror;
pub mod process;
pub mod promote;
pub mod rebuild;
pub mod recipe;
pub mod resolve;
pub mod runner;
pub mod sandbox;
pub mod sbom;
pub mod settings;
pub mod steps;
pub mod tree;
pub mod ui;
pub mod watch;
pub mod whole;
