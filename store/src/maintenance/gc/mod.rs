//! Garbage collection: removes what nothing references, and repacks fragmented packs.
//!
//! ```text
//! roots --mark--> plan --gate--> remove --> repack --gate--> remove the old packs
//! ```
//!
//! A plan alone changes nothing and needs no permission to write.
//!
//! ```text
//! collector  what is told to keep what
//! mark       which images are kept, and all that they need
//! plan       what goes
//! sweep      removing, while no writer can begin to rely on anything
//! repack     packs that are mostly waste, written anew
//! hints      hints that follow the packs
//! history    old metadata of environments, retired
//! report     what a collection would do, does and did
//! ```

mod collector;
mod hints;
mod history;
mod mark;
mod plan;
mod repack;
mod report;
mod sweep;

use crate::backend::{ListableBackend, WritableBackend};
use crate::error::{Error, ErrorKind, Result};

pub(super) use self::collector::young;
pub use self::collector::{BaseReader, Collector, LockReader, Policy};
use self::mark::Marking;
pub use self::report::{Collected, Fragmented, GcProgress, KeptImage, Plan, Removed, Unreferenced};

/// The lock that collectors take alone and checks share.
pub(super) const LOCK: &str = "gc";

impl Collector<'_> {
    /// What would be done. Reads only; beside writers it is an estimate.
    pub fn plan(
        &self,
        backend: &dyn ListableBackend,
        watch: &mut dyn FnMut(GcProgress),
    ) -> Result<Plan> {
        Ok(Marking::read(self, backend, watch)?.plan(self).0)
    }

    /// Removes what nobody needs, and rewrites packs. [`ErrorKind::Busy`] while
    /// another collector or a check is at work.
    pub fn run(
        &self,
        backend: &dyn WritableBackend,
        watch: &mut dyn FnMut(GcProgress),
    ) -> Result<Collected> {
        let _alone = backend.try_lock(LOCK)?.ok_or_else(|| busy(backend))?;
        let mut marking = Marking::read(self, backend, watch)?;
        let (plan, doomed) = marking.plan(self);
        let mut collected = Collected {
            plan,
            ..Collected::default()
        };
        hints::follow(&marking, backend)?;
        // An image that is released no more may go with this collection.
        history::retire(self, backend, &mut collected)?;
        watch(GcProgress::Remove);
        sweep::sweep(self, &mut marking, &doomed, backend, &mut collected)?;
        repack::repack(self, &mut marking, backend, watch, &mut collected)?;
        // Once more: a publication may have ended with a hint from before.
        hints::follow(&marking, backend)?;
        backend.remove_leftovers(self.policy.grace)?;
        Ok(collected)
    }
}

pub(super) fn busy(backend: &dyn ListableBackend) -> Error {
    let text = format!(
        "the store {} is being cleaned up or checked by another process",
        backend.describe()
    );
    Error::new(ErrorKind::Busy, text)
}
