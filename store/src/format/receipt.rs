//! Receipts of nodes and lists of nodes, version 1.
//!
//! ```text
//! receipts/NODE/COUNTER.json          a receipt
//! receipts/NODE/COUNTER-DIGEST.json   one whose name another receipt has
//! fleet/ENV.json                      the nodes of an environment
//! fleet/ENV/VERSION.json              each version of that list
//! fleet/kept.json                     where the receipts of each node begin
//! ```
//!
//! They lie in a folder of their own or in that of a store, which does not need them. COUNTER has
//! twelve decimal digits, DIGEST is the first 16 of the SHA-256 of the file.
//!
//! # Receipt
//!
//! A [`crate::dsse`] envelope with one signature, of type `application/vnd.imgbuild.receipt+json`.
//! Payload and envelope have one form each, compact and with two blanks of indent, keys in this order:
//!
//! ```json
//! {"schema": 1, "node": "web07", "group": "eu", "counter": 42, "previous": "sha256:HEX",
//!  "time": "2026-11-23T04:00:00Z", "imgnode": "0.1.0", "environment": "prod",
//!  "metadata": {"refreshed": "2026-11-23T04:00:00Z", "expires": "2026-11-30T04:00:00Z", "targets": 9},
//!  "event": {"operation": "upgrade", "system": "MyProject", "result": "went-back", "reason": "..."},
//!  "systems": [{"system": "MyProject", "image_name": "web",
//!               "active": {"generation": 2, "environment": "prod", "seq": 6, "image": "blake3:HEX"},
//!               "runs": {...}, "previous": {...}, "revoked": false,
//!               "verified": "2026-11-23T04:00:00Z", "free_bytes": 1099511627776,
//!               "last": {"operation": "upgrade", "result": "went-back", "reason": "...",
//!                        "time": "2026-11-23T04:00:00Z"}}],
//!  "dropped": [[30, 33], [40, 40]]}
//! ```
//!
//! | field | says |
//! |---|---|
//! | `counter` | how many receipts the node has written, with this one |
//! | `previous` | the SHA-256 of the file of the receipt before; null in the first, and there alone |
//! | `environment`, `metadata` | what the node follows and heard of it; null where it follows none |
//! | `event` | what the receipt was written after. `operation`: `install`, `upgrade`, `build-schroot`, `rollback`, `switch`, `verify`, `uninstall`, `start`, `stop`, `run`, which is a session that ended by itself under a service manager, `heartbeat`. `result`: `done`, `unchanged`, `failed`, `went-back`, which is a failure after which the generation before goes on. `system` and `reason` may be null |
//! | `active`, `runs`, `previous` | the generation that new sessions get; the one whose session runs, which was asked whether it works; the one to go back to. The last two may be null |
//! | `verified` | when the tree of the active generation was last found to be as it was signed |
//! | `last` | the last operation on the system that changed, or should have changed, what is active; a `start`, `stop` or `run` only where it failed, until the next session is begun or this one is ended in order |
//! | `dropped` | counters, first and last, of receipts that were given up before they were sent |
//!
//! Times are to the second, by the clock of the node. Who writes a receipt never replaces one: a
//! directory by link(2), servers by PUT with `If-None-Match: *`. If the name has a receipt with
//! other bytes, somebody else writes with this key, and the receipt gets its second name.
//!
//! # List of nodes
//!
//! A DSSE envelope of the same kind, of type `application/vnd.imgbuild.fleet+json`:
//!
//! ```json
//! {"schema": 1, "environment": "prod", "root": "sha256:HEX", "version": 3,
//!  "time": "2026-11-23T04:00:00Z",
//!  "nodes": [{"name": "web07", "group": "eu", "key": "HEX", "added": "2026-11-23T04:00:00Z"}],
//!  "removed": [{"name": "web06", "key": "HEX", "removed": "2026-11-23T04:00:00Z"}]}
//! ```
//!
//! `root` is the digest of the environment's first root. The signature is by one of the keys that
//! sign releases of it. A reader refuses a lower version than it has seen, and another list of the same.
//!
//! Who changes a list puts it under its version, where there is none, and then as `ENV.json`. A reader
//! begins with `ENV.json`, else with version 1, and goes on to the next version for as long as there is one.
//!
//! # Where receipts begin
//!
//! `kept.json` is signed by nobody and believed for nothing: a reader of a web server, which lists
//! nothing, begins to ask there.
//!
//! ```json
//! {"schema": 1, "nodes": {"web07": 40}}
//! ```
//!
//! # A reader refuses
//!
//! - a receipt of more than 1 MiB, a list of more than 32 MiB or 50,000 nodes;
//! - another type, another schema, no or more than one signature, unknown or missing keys, any byte
//!   that is not as the writer puts it;
//! - a counter that is 0 or has more than twelve digits; more than 400 systems, or in another order
//!   than that of their names; a reason of more than 500 bytes; more than 64 ranges in `dropped`, or
//!   ranges that do not rise to less than the counter;
//! - a list in which names do not rise or two nodes have one key.
//!
//! It counts a receipt only in the folder of its node, under its counter, with the signature of the
//! key that the list has for that node.
