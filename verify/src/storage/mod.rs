//! Storage of generations.
//!
//! ```text
//! dir:PATH                       directories side by side; sessions get an overlay
//! btrfs:PATH                     the same as subvolumes; the next one begins as a snapshot
//! lvm:VG/LV:SIZE[:FS[:SNAP]]     a logical volume each; sessions are LVM snapshots of SNAP
//! lvm-thin:VG/POOL:SIZE[:FS]     thin volumes; the next one begins as a snapshot
//! ```
//! What was typed is a [`Target`], and so is what the records say. What a kind can do is the trait
//! [`Driver`], one file each; everything above works with that alone. A driver touches only what
//! carries the mark of this system and this state directory: the mark file of a directory, the tags
//! of a volume. Whatever has the right name and no mark is foreign and makes it refuse.
//!
//! A generation is built as *staging*, which nobody else sees and which a dead process may leave
//! behind, and becomes a generation by one atomic act ([`Driver::publish`]).
//!
//! ```text
//! target      the text of a target and its driver
//! btrfs       subvolumes in a directory
//! dir         directories
//! lvm_thin    thin volumes
//! lvm         volumes
//! volume      volumes of LVM: finding, making, removing
//! mount       mounts that nobody else sees
//! safe_path   directories that nobody but root can change
//! driver      the trait that all of them implement
//! ```

mod btrfs;
mod dir;
mod driver;
mod lvm;
mod lvm_thin;
mod mount;
pub(crate) mod safe_path;
mod target;
mod volume;

pub use self::driver::{Driver, Staging, SystemContext};
pub use self::target::Target;
