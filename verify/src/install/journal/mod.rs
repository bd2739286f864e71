//! The operation under way, so that the next command can finish or undo it.
//!
//! Before an operation changes anything outside the state directory it writes one file that says
//! what it is about to do and what the record of the system was before and will be after. The file
//! goes away when the operation is over. One that is found by the holder of the system's lock
//! belongs to a process that was killed:
//!
//! ```text
//! install, writing      the tree may be incomplete           -> undo
//! install, committing   tree finished, verified and synced   -> finish; undo if that cannot be done
//! switch, writing       only hooks have run                  -> nothing to undo
//! switch, committing    the generation is there              -> finish; else back
//! either, committing    its health check is pending          -> back, unless it has the traffic
//! access                one file or the other                -> finish; else back
//! gc                    whatever is left                     -> finish
//! uninstall, writing    only hooks have run                  -> nothing to undo
//! uninstall, committing whatever is left                     -> finish
//! ```
//! Every step of finishing and undoing may be repeated, because they can be interrupted as well.
//!
//! ```text
//! recover  what a killed process left is finished or undone
//! apply    what an operation does while its journal stands, and how that is taken back
//! hooks    the hooks afterwards run until they succeed
//! entry    what the journal says, read and written
//! ```

mod apply;
mod entry;
mod hooks;
mod recover;
#[cfg(test)]
mod tests;

pub(super) use self::apply::transaction;
pub use self::apply::{commit, remove_generations, remove_system, undo};
pub(super) use self::entry::asks;
pub use self::entry::{JournalEntry, Operation, Phase, clear, unfinished, unfinished_of, write};
pub use self::hooks::{FailedHooks, failed_hooks};
pub(super) use self::hooks::{hold_hooks, hooks_after, hooks_again};
pub use self::recover::{recover, recover_all, recover_if_possible};
