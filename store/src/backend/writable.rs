//! The write side of a backend: what publishing, garbage collection and fsck need.
//!
//! Publishing, garbage collection and fsck are written once, on the two traits
//! here, so that they work on a directory and on an object store alike. The traits
//! ask for no rename of finished objects, no lock that a kernel would drop, no
//! local clock: an object store has none of these. What they do ask for beside
//! reading is putting (always whole objects), putting only where nothing is,
//! replacing only what was seen, removing, and listing with sizes and times.
//!
//! # How writers and a collector stay out of each other's way
//!
//! [`WritableBackend::hold`] is all that writers do about it, and [`WritableBackend::gate`] all
//! that a collector does. The protocol, and why it loses nothing, has a page:
//! [`crate::format::maintenance`].

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::File;

use crate::backend::Backend;
use crate::error::Result;

/// A lock or lease, which ends when this is dropped.
pub type Guard = Box<dyn Any + Send>;

/// Key, size, time and version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// The time it was written, in seconds since 1970 by the backend's own clock.
    pub modified: u64,
    /// The version: which of the objects that were ever under this key it is.
    pub version: ETag,
}

/// An entity tag (RFC 9110, 8.8.3): tells an object from one that replaced it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(pub String);

/// The writers whose leases are valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    /// How many there are.
    pub alive: usize,
    /// The keys that they hold.
    pub held: BTreeSet<String>,
    /// Bytes that dead ones left unfinished.
    pub leftover: u64,
}

/// A backend that can list all that it has.
pub trait ListableBackend: Backend {
    /// Lists all objects whose keys begin with `prefix` (a folder with its `/`), however
    /// deep, sorted by key. Each object that was there before the call and still
    /// is after it is among them.
    fn list_all(&self, prefix: &str) -> Result<Vec<ObjectMeta>>;

    /// Returns the time by the clock that [`ObjectMeta::modified`] comes from, in seconds since
    /// 1970.
    fn now(&self) -> Result<u64>;

    /// Shares the lock of that name, unless somebody has it alone. Where nothing can
    /// be written, nobody takes a lock alone, and there is nothing to wait for.
    fn try_share(&self, name: &str) -> Result<Option<Guard>>;

    /// What tells an object that was listed from one whose bytes were changed since, in place
    /// too; `None` where that cannot be told.
    fn seal(&self, object: &ObjectMeta) -> Option<String>;

    /// The writers that live now. One that does not say in time that it still does
    /// counts as dead, and must itself notice that before it writes again.
    fn writers(&self) -> Result<Writers>;
}

/// A backend that can be written. Whoever has one open is a writer with a lease: what
/// it holds is released when it is dropped, at the latest when its process dies.
pub trait WritableBackend: ListableBackend {
    /// Puts an object where there may be another. Readers see the old or the new.
    /// Durable when it returns, its name included.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<()>;

    /// Puts an object only if there is none of that name; `false` if there is.
    /// Of several writers that try at once, one gets `true`. Durable like `put`.
    fn put_new(&self, key: &str, bytes: &[u8]) -> Result<bool>;

    /// Reads a small object together with its version.
    fn get_versioned(&self, key: &str, limit: u64) -> Result<Option<(Vec<u8>, ETag)>>;

    /// Replaces an object only if it still is the version that was seen; `false`
    /// if it is not. Durable like `put`.
    fn replace(&self, key: &str, bytes: &[u8], seen: &ETag) -> Result<bool>;

    /// Begins an object that is too long to be in memory, or whose name is not
    /// known yet. What is not placed is gone when the draft is dropped.
    fn create(&self) -> Result<Box<dyn ObjectWriter + '_>>;

    /// Makes the names durable that drafts were placed under, and that removals
    /// took away. One call for many, because each waits for the disk.
    fn sync(&self) -> Result<()>;

    /// Removes an object; it is no error if there is none.
    fn remove(&self, key: &str) -> Result<()>;

    /// Moves an object to `quarantine/KEY`, where nothing reads it, in place of
    /// what an earlier call moved there. Readers may meanwhile see both or neither.
    fn quarantine(&self, key: &str) -> Result<()>;

    /// Holds keys for as long as this writer lives: no collector removes them, even
    /// if nothing in the store needs them yet. Says of each whether it is there
    /// now; one that is not may be held before it is put. Waits while a collector
    /// has the gate.
    fn hold(&self, keys: &[String]) -> Result<Vec<bool>>;

    /// Confirms that nothing that is held was given up: [`ErrorKind::Busy`] if this
    /// writer stood still for so long that others took it for dead. Asked after a
    /// name was given to what is held, the answer is final.
    ///
    /// [`ErrorKind::Busy`]: crate::ErrorKind::Busy
    fn check_lease(&self) -> Result<()> {
        Ok(())
    }

    /// Removes an object that this writer has just put, durably, even if others took
    /// it for dead.
    fn withdraw(&self, key: &str) -> Result<()> {
        self.remove(key)?;
        self.sync()
    }

    /// Removes what dead writers left unfinished more than `older` seconds ago, if
    /// other writers do not do so anyway.
    fn remove_leftovers(&self, _older: u64) -> Result<()> {
        Ok(())
    }

    /// A file for what is on its way into the store. It has no name, and is gone
    /// when it is closed.
    fn scratch(&self) -> Result<File>;

    /// Shuts the gate: until the guard is dropped, no writer can begin to hold
    /// anything. Waits for those who are about to. [`ListableBackend::writers`] asked behind
    /// a shut gate says all that is held.
    fn gate(&self) -> Result<Guard>;

    /// Waits for the exclusive lock of that name.
    fn lock(&self, name: &str) -> Result<Guard>;

    /// The exclusive lock of that name, if nobody else has it.
    fn try_lock(&self, name: &str) -> Result<Option<Guard>>;
}

/// An object that is being written.
pub trait ObjectWriter: Send {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Starts to make durable what was written so far.
    fn flush(&mut self) -> Result<()>;

    /// Gives the object its name; its bytes are durable then. The name is after
    /// [`WritableBackend::sync`].
    fn finish(self: Box<Self>, key: &str) -> Result<()>;
}
