//! The care of a store: what is in it, what nobody needs, what is damaged.
//!
//! ```text
//! Roots ------> which images there are, and who wants them
//!   |
//! Census -----> which chunk is in which pack, and whose it is
//!   |
//!   +--> Collector   removes what nobody needs, rewrites packs that are mostly waste
//!   +--> Stats       how much there is, how much it takes, whose it is
//!   +--> Check       compares every byte with its name; moves damage aside
//! ```
//!
//! All of it is written on [`Survey`](crate::Survey) and
//! [`Writable`](crate::Writable), so it works wherever a store can be written. The
//! rules, and why nothing is lost, are on the page [`crate::format::care`].

mod census;
mod check;
mod deltas;
mod gc;
mod pins;
mod repack;
mod roots;
mod stats;

pub use self::check::{Checked, Damage, Hurt, Moved, Report, check, quarantine};
pub use self::gc::{Collected, Collector, Dead, Gone, Kept, Locks, Plan, Policy, Stage, Worn};
pub use self::pins::{Pin, pin, pins, unpin};
pub use self::roots::{Why, wanted};
pub use self::stats::{Amount, ImageStats, Stats, stats};
