//! Inventories, schema 1.
//!
//! `inventory/HEX.json`, of an image's digest:
//!
//! ```json
//! {"schema": 1,
//!  "objects": {"attestations/HEX/SHA256.json": "sha256:HEX", "images/HEX.json": "sha256:HEX",
//!              "logs/HEX.json.zst": "sha256:HEX", "pins/HEX.json": "sha256:HEX"},
//!  "check": "sha256:HEX"}
//! ```
//!
//! What lies beside an image, by key, with the digests of its bytes: its manifest, log, pin and
//! attestations, as far as it has them. `check` is the digest of the value of `objects` as
//! compact JSON with sorted keys.
//!
//! Only checks and collectors read it. It is how a check learns that something is gone, or was
//! changed and still reads well; a collector keeps an image whose pin is lost, and removes
//! nothing while a manifest is. It guards against accidents: nobody signs it.
//!
//! Whoever puts one of these objects records it after that; whoever puts other bytes under the
//! same key takes the old digest out before. So an object that is not recorded is nobody's
//! fault, and one that is recorded is there. A collector removes an image's inventory before
//! its manifest. An inventory that is missing, as in stores that an older version wrote, is made
//! from what is there.
//!
//! # A reader refuses
//!
//! - more than 1 MiB, another schema, unknown or missing keys, a wrong check;
//! - objects that are of another image, or of another kind.
