//! Environments: TUF repositories, version 1.
//!
//! ```text
//! env/ENV/metadata/N.root.json       env/ENV/targets/NAME/SHA256.SEQ.json
//! env/ENV/metadata/N.targets.json    env/ENV/log/N.json
//! env/ENV/metadata/N.snapshot.json   env/ENV/history.json
//! env/ENV/metadata/timestamp.json    env/ENV/witness/KEYID.json
//! ```
//!
//! Metadata and targets are those of The Update Framework 1.0 with consistent
//! snapshots. A target is a release: the manifest of an image. What is ours beside that
//! is in fields that TUF leaves to its users.
//!
//! | field | in | says |
//! |---|---|---|
//! | `x-imgbuild-environment` | root, targets | the name of the environment |
//! | `x-imgbuild-lifetimes-days` | root | for how many days new signatures are good |
//! | `x-imgbuild-policy` | root | what a release needs; left out when nothing |
//! | `x-imgbuild-log` | targets | where the log ends: `length`, and the `sha256` of the last entry |
//! | `custom` | each target | `image`, `env`, `arch`, `seq`, `min_seq`, `size`, `revoked`; `waves` where it has some |
//!
//! Of all releases of a name, the newest says in `custom` which images must not run any
//! more (`revoked`) and below which release nobody may go back (`min_seq`).
//!
//! # Waves
//!
//! A release without `waves` reaches all nodes at once. With:
//!
//! ```json
//! {"stages": [{"groups": ["canary"]}, {"percent": 10}, {"percent": 50}, {"percent": 100}],
//!  "rule": {"minutes": 120, "nodes": 3}, "reached": 2, "since": "2026-11-23T04:00:00Z",
//!  "halted": "it does not start on eu03"}
//! ```
//!
//! There are 1 to 20 stages. One names groups of nodes (64 in all, none twice), or says of how many
//! nodes of a hundred; percentages grow, and the last stage is 100. `reached` counts stages from 1,
//! `since` is when that one was reached or its halt ended. `rule`, which may be left out, is what has
//! to be so before a stage is left by itself: so many minutes (up to 90 days) since then, so many nodes
//! (at least 1) that run the release; no node that was reached has failed. `halted`, a reason of 1 to
//! 1000 bytes, is there while the release is halted.
//!
//! A stage covers the nodes of its groups, or those whose number is below its percentage: the first
//! eight bytes, big-endian, of the SHA-256 of `imgbuild-wave-1`, the environment, the image's name, the
//! release's number in decimal and the node's name, with a zero byte between each two; over 2^64.
//! 100 % covers a node without a name as well. A release reaches a node that a stage up to the one
//! that is reached covers, unless it is halted. A node takes the newest release that reaches it and
//! that may run, or that is the active one on it.
//!
//! A new release has reached its first stage. From then on each version of targets may take the waves
//! of the newest release of a name one stage further, halt them, or end the halt: nothing else of them
//! changes, and the log has an entry of each. A reader refuses unknown and missing keys, other shapes and
//! times that are not written in whole seconds of UTC; readers of before there were waves ignore them.
//!
//! # Policy
//!
//! ```json
//! {"schema": 1, "keys": {"ann": "HEX", "lab": "HEX"},
//!  "built": {"count": 1}, "tested": {"count": 1}, "rebuilt": {"count": 1, "keys": ["lab"]},
//!  "approvals": {"count": 2, "keys": ["ann", "bob"]},
//!  "max-age-days": 30, "suites": ["bookworm"], "forbidden-setuid": ["usr/bin/su"],
//!  "from": ["staging"], "base-from": ["prod"], "base-newest": true, "witnessed": {"count": 1, "keys": ["notary"]}}
//! ```
//!
//! `keys` are ed25519 public keys. Of each point, `count` different ones of its `keys`
//! (of all, when left out) must have signed an [`super::attestation`] of that kind.
//! `rebuilt` does not count keys that also say that they built it. `witnessed` counts keys
//! whose testimony is about the log as it stands before the release. `base-from` and `base-newest`
//! are about the image that one begins with. Points that are left out
//! ask nothing.
//!
//! # Log
//!
//! ```json
//! {"schema": 1, "number": 2, "previous": "sha256:HEX", "time": "2026-11-23T04:00:00Z",
//!  "act": "promote", "name": "web", "image": "blake3:HEX", "seq": 7, "targets": 9,
//!  "from": {"env": "staging", "seq": 3}, "min_seq": 5, "reason": "...", "waves": {...}}
//! ```
//!
//! One file for each act, never changed. `previous` is the digest of the file before
//! (null in the first), `targets` the version of the targets metadata that was signed
//! for it. `act` is `release`, `promote`, `revoke`, `min-seq`, or of waves `widen`, `halt`, `resume`;
//! the last four fields may be left out. `waves` are those of the release after the act, where it has
//! some and the act is about them. A reader goes back from the end that targets names, and refuses an
//! entry whose digest, number or schema is another.
//!
//! # History
//!
//! Every version of targets lists all releases, so versions are not kept for ever. Every root
//! is, and what is current is: with these a client that was away for years gets there. Of
//! targets and snapshots a collector *retires* the versions that had a successor for longer than
//! its grace period, in their order, and none that a snapshot which stays leads to. What the log
//! needs of targets goes to `history.json` before:
//!
//! ```json
//! {"schema": 1, "snapshots": 26,
//!  "targets": [{"signatures": [...], "signed": {"version": 1, "...": "..."},
//!               "without": ["web/1.json"]}, ...],
//!  "check": "sha256:HEX"}
//! ```
//!
//! `snapshots` is the last snapshot that was retired. `targets` are versions 1, 2, 3, ...: the
//! signatures, and what was signed without its `targets`. Those are the targets of the version
//! after it, less the names in `without`, and with those in `with` (by name), where they
//! differ. The version after the last one is a file. Made again from there, each has to be
//! signed as some root of the environment asks; a collector has seen that before it retired it.
//! `check` is the digest of `[snapshots, targets]` as compact JSON. A reader refuses more than
//! 64 MiB, another schema, unknown or missing keys, a wrong check.
//!
//! # Witnesses
//!
//! `witness/KEYID.json` is what the witness with the key of that TUF key id signed last: a DSSE
//! envelope of an in-toto Statement 1.0. Its subject is `log of ENV` with the SHA-256 of the last
//! entry of the log (of nothing, where there is none), its predicate type
//! `urn:imgbuild:witness:1`, its predicate:
//!
//! ```json
//! {"environment": "prod", "fingerprint": "sha256:HEX", "root": 2, "root_sha256": "sha256:HEX",
//!  "targets": 9, "targets_sha256": "sha256:HEX", "length": 7, "sha256": "sha256:HEX",
//!  "time": "2026-11-23T04:00:00Z", "key": "HEX"}
//! ```
//!
//! `fingerprint` is the digest of the first root, `root` and `targets` are versions, `root_sha256`
//! and `targets_sha256` the digests of those files, `length` is the number of entries, `key` the
//! public half that signed. A reader refuses unknown fields, a
//! subject that is not what the predicate says, and a signature that is not by `key`; it counts
//! for nobody else. A testimony that is gone is not missed: the witness signs again.
//!
//! # Exported history
//!
//! ```json
//! {"schema": 1, "environment": "prod", "approvals": ["ENVELOPE", ...],
//!  "files": {"metadata/1.root.json": "TEXT", "log/1.json": "TEXT", ...}}
//! ```
//!
//! `files` are those of the environment that a reader of its log reads, as text, byte for byte;
//! `approvals` are DSSE envelopes of its images. Nothing in it is believed but for its signatures.
//!
//! # Proposals
//!
//! A change that waits for signatures is a JSON file of `schema` 1, `environment`, the
//! new `root` and `targets` metadata with the signatures so far, `manifests` of new
//! releases by target name, and new entries of the `log`, both as texts. It is believed
//! by nobody: whoever signs or publishes compares it with the environment, of which it
//! must be the very next version.
//!
//! # Order of writing
//!
//! Manifests, log, targets, snapshot, root if it changes, timestamp: each durable before
//! the next. All but the last two have names that nothing leads to yet.
