//! Maintenance of a store: what is in it, what nothing refers to, what is damaged.
//!
//! ```text
//! Roots ------> which images there are, and who wants them
//!   |
//! References -> which chunk is in which pack, and whose it is
//!   |
//!   +--> Collector   removes what nobody needs, rewrites packs that are mostly waste
//!   +--> Stats       how much there is, how much it takes, whose it is
//!   +--> Check       compares every byte with its name; moves damage aside
//! ```
//!
//! All of it is written on [`ListableBackend`](crate::ListableBackend) and
//! [`WritableBackend`](crate::WritableBackend), so it works wherever a store can be written. The
//! rules, and why nothing is lost, are on the page [`crate::format::maintenance`].

mod deltas;
mod fsck;
mod gc;
mod pins;
mod references;
mod repack;
mod roots;
mod stats;

pub use self::fsck::{
    AffectedImage, Damage, Depth, Progress, Quarantined, Report, fsck, quarantine,
};
pub use self::gc::{
    BaseReader, Collected, Collector, Fragmented, GcProgress, KeptImage, LockReader, Plan, Policy,
    Removed, Unreferenced,
};
pub use self::pins::{Pin, pin, pins, unpin};
pub use self::roots::{KeepReason, keep_reasons};
pub use self::stats::{Amount, ImageStats, Stats, stats};
