//! Receipts: what this node says of itself, signed, and put where the operator reads it.
//!
//! ```text
//! write   after an operation, or as a heartbeat: state of all systems -> signed -> spool
//! send    what is in the spool -> a directory, a bucket, a web server; what does not go waits
//! ```
//! A receipt never fails or delays an operation: it is written when the operation is over and its
//! result was said, and sent with a time limit. The spool is bounded; of what does not fit the oldest
//! heartbeats go first, and the next receipt names their counters. Where no address was set, nothing
//! of this exists.
//!
//! ```text
//! send      the spool, sent
//! write     a receipt, written into the spool
//! said      the systems of this node, as a receipt has them
//! settings  the address, the names and the key
//! spool     receipts that wait, and what is remembered between two
//! ```

mod said;
mod send;
mod settings;
mod spool;
mod write;

pub use self::send::{LastSent, Sent, last_sent, send, send_meanwhile};
pub use self::settings::{Settings, enrolment, forget, new_key, rename, set, settings};
pub use self::spool::{Waiting, waiting};
pub use self::write::{Happened, heartbeat, note};
