//! Care: what is collected, checked and moved away, and why that is safe.
//!
//! # The order of writing
//!
//! Packs, indexes, hint, manifest, environment metadata: each durable, its name
//! included, before the next. So whatever a name leads to is there, at any moment
//! and after a power cut. A publication waits for the disk once for each pack it
//! wrote, once for all their names, once for each index and for all of theirs, and
//! twice each for hint and manifest; it does not depend on the number of files.
//!
//! Removing goes the other way: manifests, durably; then hints and logs; then an
//! index before its pack. Whoever is killed in between leaves objects that nothing
//! needs, which the next collector removes.
//!
//! # Writers, and a collector
//!
//! A writer *holds* the keys it depends on, those it found and those it is about to
//! write, until it ends. A collector removes nothing that is held. What makes this
//! exact, without trusting any clock, is a *gate*:
//!
//! ```text
//! writer                                 collector
//! look for known chunks                  list, mark: which objects are needed?
//! write packs and indexes                shut the gate
//! pass the gate: hold all packs that       list what living writers hold
//!   the image is in, old and new           list manifests, pins, environments;
//! is one of the old ones gone?               mark those that are new or changed
//!   then begin anew                        remove what was not needed and still
//! write hint, read everything back           is not, and is not held
//! write manifest                         open the gate
//! release
//! end: nothing is held any more
//! ```
//!
//! A writer that passed the gate before it was shut is listed as holding its packs;
//! one that ended meanwhile has written its manifest before, which is listed after.
//! One that passes later sees what is gone, and writes it again. The same goes for
//! an input that a build finds in the store, and for an image that it makes once
//! more. New objects are held before they are put, because their names may be those
//! of old ones that the collector has marked as not needed.
//!
//! The gate is shut for the time it takes to remove files; marking and rewriting
//! packs happen beside everybody. Collectors exclude each other with one more lock.
//!
//! In a directory a writer is a folder under `tmp` with a file that it has locked
//! (`flock`), and what it holds is a list beside it; the gate is a lock that holding
//! shares. The kernel drops all of these when a process dies. A place without such
//! locks can use objects: a lease that its writer renews, with the keys it holds; a
//! gate object that writers look for after they have changed their lease, and that
//! a collector puts before it looks at the leases, so that one of the two always
//! sees the other. There a lease that was not renewed in time is void, by the
//! clock of the place, and its writer makes sure that it has not lost it before it
//! writes a manifest.
//!
//! # What is needed
//!
//! An image is kept when any of these is true:
//!
//! - a manifest of it lies in an environment (`env/*/targets/`), whether the release
//!   is current, old or not finished;
//! - it is pinned;
//! - a living writer holds it;
//! - its manifest is younger than the grace period;
//! - it is one of the newest N of its name that are not released.
//!
//! With an image are kept all its chunks, its hint, log and attestations, its recipe and lock, and
//! all inputs that the lock names: it can be built again. A delta is kept while both
//! of its images are. The grace period covers
//! every other object as well. A collector that cannot read all this, be it an
//! environment that does not verify, a manifest, a lock, a chunk of a kept image
//! that no pack has, removes nothing.
//!
//! # Packs that are partly needed
//!
//! When most bytes of a pack are not needed, what is needed moves into new packs:
//! frames of which every chunk is needed as they are, the others compressed anew.
//! The new packs and indexes are durable before hints name them, and those before
//! the old ones go. A reader in the middle of an old pack finds the chunk in the new
//! one, because it looks for chunks and not for packs.
//!
//! # Pins
//!
//! `pins/HEX.json`, of the image's digest:
//!
//! ```json
//! {"schema": 1, "image": "blake3:HEX", "reason": "...", "since": 1700000000}
//! ```
//!
//! `since` is in seconds since 1970; `reason` may be empty and has at most 1000
//! bytes. A reader refuses more than 16 KiB, another schema, unknown or missing
//! keys, another image than the name says.
//!
//! # Quarantine
//!
//! What `fsck --quarantine` finds damaged moves to `quarantine/KEY`, where nothing
//! looks. What is good in a damaged pack is written into a new one before.
