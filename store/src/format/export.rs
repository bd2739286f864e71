//! Exports: an image as a file that is carried by hand, version 1.
//!
//! ```text
//! FILE                the canonical tar of an image, plain, as .zst or as .xz
//! FILE.manifest.json  its manifest, byte for byte as it was released
//! FILE.sha256         HEX, two spaces, the name of FILE: for sha256sum -c
//! FILE.dsse.json      the statement below, signed
//! ```
//!
//! The statement is an in-toto Statement 1.0 in a [`crate::dsse`] envelope of type
//! `application/vnd.in-toto+json`, written as canonical JSON (keys sorted, no
//! blanks), so that exporting the same release again gives the same bytes and
//! several people can sign the same statement:
//!
//! ```json
//! {"_type": "https://in-toto.io/Statement/v1",
//!  "predicateType": "urn:imgbuild:export:1",
//!  "subject": [{"name": "web.tar.zst", "digest": {"blake3": "HEX", "sha256": "HEX"}},
//!              {"name": "web.tar.zst.manifest.json", "digest": {"sha256": "HEX"}}],
//!  "predicate": {"environment": "prod", "name": "web", "seq": 7, "arch": "amd64",
//!                "image": "blake3:HEX", "sha256": "sha256:HEX", "size": 844123456,
//!                "format": "tar.zst", "fileSize": 245678901,
//!                "encoder": {"name": "zstd", "version": "1.5.7", "settings": "..."}}}
//! ```
//!
//! The first subject is the file, the second its manifest. `image`, `sha256` and
//! `size` are of the tar inside. `encoder` is left out for a plain tar.
//!
//! It is signed with targets keys of the environment, which the environment's root
//! lists: a node that trusts the environment needs nothing else. It says that this
//! release was made, and not that it is still the newest: no time is in it, so
//! whoever installs from it has to ask the node's own record whether an older
//! release is allowed.
//!
//! # A reader refuses
//!
//! - an envelope of more than 1 MiB, one that is not DSSE, a duplicate key;
//! - fewer signatures than the threshold, by keys that the root lists for targets,
//!   each counted once;
//! - another type of payload, statement or predicate, or other subjects;
//! - another environment than it trusts;
//! - a manifest that is not the second subject, or that is of another image;
//! - a file that is not the first subject, before it decompresses any of it.
