//! Verification and running of node images: what is behind `imgnode`.
//!
//! A node follows one environment. It believes what the environment's root keys have signed and
//! nothing else, and it changes what runs only after every byte of the new tree was verified. Each
//! module uses only those that stand below it:
//!
//! ```text
//! receipts     what this node says of itself, signed and sent
//! install      a verified release -> a generation of a system, and which generation is active
//! trust        signed metadata -> a release and its manifest, and what may run
//! session      a generation -> running processes that answer
//! node         this machine: what every operation works with
//! state        what is remembered between commands
//! storage      where generations live: directories, subvolumes, volumes
//! tree         trees on disk: written, compared, patched
//! host         programs of the host, schroot, hooks
//! system       the name of an installed system
//! atomic_file  files that survive a power cut
//! event        what an operation says while it works
//! error        what can go wrong, exit code and hint
//! ```
//! Nothing here prints or knows a home directory; [`event`] is how the command line hears what
//! happens. Of the process's environment it reads PATH ([`host::commands`]) and what gives access to a
//! store ([`node`]).

pub mod atomic_file;
pub mod error;
pub mod event;
pub mod host;
pub mod install;
pub mod node;
pub mod receipts;
pub mod session;
pub mod state;
pub mod storage;
pub mod system;
pub mod tree;
pub mod trust;
