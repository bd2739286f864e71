//! Attestations: what people and machines say about an image, version 1.
//!
//! ```text
//! attestations/IMAGE/SHA256.json
//! attestations/IMAGE.json
//! ```
//!
//! IMAGE is the digest of the image in hexadecimal, SHA256 the digest of the file. The
//! file is a [`crate::dsse`] envelope of type `application/vnd.in-toto+json`; its
//! payload is an in-toto Statement 1.0:
//!
//! ```json
//! {"_type": "https://in-toto.io/Statement/v1",
//!  "subject": [{"name": "web", "digest": {"blake3": "HEX", "sha256": "HEX"}},
//!              {"name": "imgbuild manifest", "digest": {"sha256": "HEX"}}],
//!  "predicateType": "...", "predicate": {...}}
//! ```
//!
//! Both digests of the first subject are of the canonical tar, that of the second is of the
//! manifest's JSON. The manifest says what is started, as whom, how it is asked whether it
//! works: an attestation without it, as older versions wrote them, covers the bytes alone and
//! meets no policy. The kinds:
//!
//! | `predicateType` | says | made by |
//! |---|---|---|
//! | `https://slsa.dev/provenance/v1` | how it was built; each input of the lock is a `resolvedDependency` | a build |
//! | `https://in-toto.io/attestation/test-result/v0.1` | `result` is `PASSED` or another; `passedTests` by name | a build that ran the recipe's tests |
//! | `urn:imgbuild:rebuild:1` | another build came to the same bytes | `imgbuild rebuild --attest` |
//! | `urn:imgbuild:approval:1` | somebody approves of it for `environment` | `imgbuild approve` |
//! | `urn:imgbuild:audit:1` | what is known against what is installed in it | `imgbuild audit --sign` |
//!
//! SLSA provenance has `buildType` `urn:imgbuild:build:1`; its external parameter is the
//! digest of the recipe, its internal ones the digest of the lock, architecture, suite
//! and epoch. `runDetails.builder.id` is `urn:imgbuild:key:ID`, of the key that signs.
//!
//! ```json
//! {"environment": "prod", "root": "sha256:HEX", "image": "blake3:HEX", "name": "web",
//!  "time": "2026-11-23T04:00:00Z", "comment": "..."}
//! ```
//!
//! is an approval: for the environment of that name whose first root has that digest. `root` and
//! `comment` may be left out; without a root it is for any environment of the name. And
//!
//! ```json
//! {"image": "blake3:HEX", "recipe": "sha256:HEX", "lock": "sha256:HEX",
//!  "varied": true, "builder": "imgbuild 0.1.0", "time": "2026-11-23T04:00:00Z"}
//! ```
//!
//! a rebuild. An audit is
//!
//! ```json
//! {"image": "blake3:HEX", "name": "web", "time": "2026-11-30T15:09:11Z",
//!  "asOf": "2026-11-30T15:09:11Z",
//!  "pending": [{"source": "expat", "installed": "2.5.0-1", "fixed": "2.5.0-1+deb12u5",
//!               "cves": [{"id": "CVE-2023-52425", "severity": "unknown"}]}],
//!  "advisories": [{"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "ecosystem": "pypi",
//!                  "package": "flask", "installed": "1.0", "fixed": "1.1", "severity": "high"}],
//!  "ended": [{"source": "pdns", "date": "2025-10-01"}],
//!  "settled": [{"id": "CVE-2026-2", "package": "openssl", "status": "not_affected", "why": "..."}],
//!  "data": [{"kind": "release", "name": "debian-security bookworm-security", "sha256": "HEX",
//!            "date": "2026-11-29T00:53:13Z"}],
//!  "auditor": "imgbuild 0.1.0"}
//! ```
//!
//! `asOf` is the time up to which the security archive is known, `ended` is what has no security
//! support any more, `settled` is what was found and
//! does not concern the image by the word of whoever signs, `data` is all that was read. A severity
//! is `unknown`, `negligible`, `low`, `medium`, `high` or `critical`; `fixed` of an advisory may be
//! left out.
//!
//! A name never gets other bytes: several people who say the same sign files of their
//! own. Whoever can write to a store can add files, so no file counts for being there;
//! a reader asks which of the keys that it trusts have signed it. With an image stay
//! its attestations, and go with it.
//!
//! # The list
//!
//! `attestations/IMAGE.json` repeats what the folder holds, for readers of web servers,
//! which list nothing. Whoever puts an attestation renews it, from the folder as it is then;
//! nobody signs it, and a reader who can list the folder does not ask for it.
//!
//! ```json
//! {"schema": 1, "attestations": ["sha256:HEX", ...]}
//! ```
//!
//! # A reader refuses
//!
//! - an envelope of more than 1 MiB, one that is not DSSE, a duplicate key;
//! - another type of payload or statement, a number that is no integer;
//! - a subject that is not `imgbuild manifest` with another digest than the image's, or
//!   without its sha256;
//! - a list of more than 1 MiB, with another schema, with unknown or missing keys.
//!
//! What it refuses it passes over: one bad file must not silence the others.
