//! Verification and running of node images: what is behind `imgnode`.
//!
//! A node follows one environment. It believes what the environment's root keys have signed and
//! nothing else, and it changes what runs only after every byte of the new tree was verified. The
//! modules in the order in which a release passes through them:
//!
//! ```text
//! tuf, trust     signed metadata -> a release and its manifest
//! target         where generations live; is the place ours (ground: is it safe to build on)
//! reuse, mend    what the previous generation has already: its content, or all of its tree
//! extract        verified content -> a tree, whatever the image tries (beneath: names in a tree)
//! kept           what the node has of its store: layouts and indexes
//! recheck        the tree on disk -> is it the image (walk: reading it; packages: whose file)
//! drift          was a generation changed in place since
//! schroot        the generation -> a chroot of the system's name
//! generation     which generations a system has and which is active (switch, collect: changing it;
//!                bars: which of them may run)
//! session        the chroot -> running processes (process: finding and ending them)
//! ```
//! Around them: [`install`] is the flow ([`hand`]: the same for a tarball), [`journal`] undoes or finishes what a kill interrupted,
//! [`state`] is all that is remembered, [`hooks`] and [`command`] run programs of the host. Nothing
//! here prints, reads environment variables or knows a home directory; [`event`] is how the command
//! line hears what happens.

pub mod atomic_file;
pub mod error;
pub mod event;
pub mod host;
pub mod install;
pub mod node;
pub mod session;
pub mod state;
pub mod storage;
pub mod system;
pub mod tree;
pub mod trust;
