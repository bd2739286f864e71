//! Maintenance: what is collected, checked and moved away, and why that is safe.
//!
//! # The order of writing
//!
//! Packs, indexes, hint, manifest, environment metadata: each durable, its name
//! included, before the next. So whatever a name leads to is there, at any moment
//! and after a power cut. A publication waits for the disk once for each pack it
//! wrote, once for all their names, once for each index and for all of theirs, and
//! twice each for hint and manifest; it does not depend on the number of files.
//!
//! Removing goes the other way: inventories, durably; then manifests, durably; then hints
//! and logs; then an index before its pack, a delta's description before the delta. Whoever is killed in between leaves objects that nothing
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
//! shares. The kernel drops all of these when a process dies.
//!
//! ## Without a kernel: a bucket
//!
//! There a lease is the object `tmp/NUMBER.json`, a lock `locks/NAME`, the gate the
//! lock `locks/gate`, and a lock that is shared one object for each sharer,
//! `locks/NAME.shared/NUMBER`:
//!
//! ```json
//! {"schema": 1, "owner": "HEX", "renewal": 7, "held": ["packs/HEX.pack", "..."]}
//! ```
//!
//! `owner` is empty where nobody has the lock. All changes are conditional
//! (`If-None-Match: *`, `If-Match`), and `renewal` makes each renewal another
//! object; so when an owner renews what somebody else takes over, one of the two
//! succeeds and the other one learns it. The protocol needs a server that keeps
//! these conditions among many clients, and shows everybody what it has confirmed.
//!
//! - Holding writes the lease, *then* looks at the gate. A collector takes the gate,
//!   *then* reads the leases. So the collector sees what is held, or the writer sees
//!   the gate and waits; what it finds after that is there to stay.
//! - A sharer puts its object and then looks at the lock; who wants the lock alone
//!   takes it and then looks for sharers.
//! - Everything is renewed in a fifth of its lifetime (three minutes). What is older,
//!   by `Last-Modified` against `Date` of the same answer, hence by the clock of the
//!   server, may be taken over. A collector with the gate voids such leases before it
//!   counts what is held.
//! - An owner that has not renewed for two thirds of the lifetime, by its own clock
//!   that runs on while the machine sleeps, renews before it writes or removes
//!   anything, and if that fails writes nothing more.
//! - After a writer has put a manifest it renews its lease once more. If that fails,
//!   it was taken for dead: it looks whether the image is still whole, and takes the
//!   manifest back if it is not. A manifest that was put before the lease was voided
//!   is listed by the collector, which looks at manifests after leases.
//!
//! What remains: a collector whose process is stopped for minutes exactly between
//! looking at its clock and sending one removal, and a server that carries a request
//! out minutes after it came. Both would have to meet an object that nothing needed
//! for the whole grace period and that a writer began to need in those minutes; that
//! writer reads all of it back before it publishes.
//!
//! Uploads in parts that a dead writer has not finished are given up by the next
//! collector when they are older than the grace period and no living writer holds
//! their key.
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
//! - it is one of the newest N of its name that are not released;
//! - its inventory has a pin that is lost.
//!
//! With an image are kept all its chunks, its hint, log, attestations and inventory, its recipe and lock, and
//! all inputs that the lock names: it can be built again. A delta is kept while both
//! of its images are. The grace period covers
//! every other object as well. A collector that cannot read all this, be it an
//! environment that does not verify, a manifest, a lock, a chunk of a kept image
//! that no pack has, a manifest that an inventory names and that is gone, removes nothing.
//!
//! Of an environment's metadata go the versions of snapshot and targets that had a successor
//! for longer than the grace period, the oldest first: see [`super::environment`].
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
