//! Catalogues, schema 1.
//!
//! ```json
//! {"schema": 1, "images": [{"image": "blake3:HEX", "name": "NAME", "published": 1700000000}, ...]}
//! ```
//!
//! The object `catalogue.json` lists the images of the store, the newest first, with
//! the name in each one's manifest and the time in its hint. A web server has no list
//! that programs could rely on; this is what they read instead when a person names an
//! image by its name or by the beginning of its digest. A writer renews it after a
//! manifest was published or deleted, from `images/` as it is then.
//!
//! Nobody signs it. An image that it forgets is still read by its whole digest, and by
//! `ENV/NAME` where it is released; one that it lists in vain is found to be missing
//! when its manifest is asked for.
//!
//! # A reader refuses
//!
//! more than 32 MiB before it reads them, another schema, unknown or missing keys.
//! Where there is no catalogue, images are named by whole digests and releases.
