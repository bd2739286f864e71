//! From a recipe to an image: the library behind `imgbuild`.
//!
//! Each module uses only those that stand below it:
//!
//! ```text
//! cli          what was typed -> requests; results -> what is shown
//! rebuild      an image -> built again from what the store retained, and compared
//! build        a recipe -> a released image
//! plan         what a build will do: nothing, take an image from a cache, or run these steps
//! transfer     images from and for other tools: import, export
//! page         what runs where, as static HTML
//! fleet        nodes: which are enrolled, and what their receipts say
//! release      signing: attestations, approvals, promotion from environment to environment
//! inspect      what images are made of and how they differ
//! lock         a recipe -> a lock that fits it, with every input retained
//! caches       other builders' stores: inputs and finished images from there
//! pack         a finished tree -> an image in the store
//! run          steps -> layers
//! mirror       a Debian archive of retained packages, for debootstrap and apt in the sandbox
//! steps        a recipe and its lock -> units of work, as plain data
//! work_dir     the work directory, taken by one build of a recipe at a time
//! layers       results of steps, as stacked overlayfs layers
//! unpack       what takes debootstrap longest: unpacking, done on all processors
//! sandbox      one command in namespaces of its own, without network
//! stores       stores opened, copied, and searched: what IMAGE means, what an image was built from
//! recipe       what a person writes about an image
//! lockfile     the file that names every input of an image by its digest
//! tree         a finished tree, read from outside
//! dpkg_status  the status file of dpkg: which packages are installed
//! deb          a package file and its two tar archives
//! compression  what people compress archives with
//! settings     where things are: flags, then environment, then defaults
//! host         this machine: archives, index, proxies, programs
//! ui           what is shown, to people and as JSON
//! debian_version  versions of Debian packages, in the order of dpkg
//! atomic_file  files that are there whole or not at all; what is removed with all below it
//! process      programs of this machine, run with a clean environment
//! interrupt    Ctrl-C and the other signals that end a run
//! error        what can go wrong: a sentence, its reason, a hint, an exit code
//! ```
//!
//! The library prints only through [`ui`] and reads the environment only through
//! [`settings`].

pub mod atomic_file;
pub mod build;
pub mod caches;
pub mod cli;
mod compression;
mod deb;
mod debian_version;
mod dpkg_status;
pub mod error;
pub mod fleet;
pub mod host;
pub mod inspect;
pub mod interrupt;
pub mod layers;
pub mod lock;
pub mod lockfile;
pub mod mirror;
pub mod pack;
pub mod page;
pub mod plan;
pub mod process;
pub mod rebuild;
pub mod recipe;
pub mod release;
pub mod run;
pub mod sandbox;
pub mod settings;
pub mod steps;
pub mod stores;
pub mod transfer;
pub mod tree;
pub mod ui;
pub mod unpack;
pub mod work_dir;
