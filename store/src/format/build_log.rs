//! Logs, schema 1.
//!
//! One zstd frame of JSON:
//!
//! ```json
//! {"schema": 1, "name": "NAME", "steps": [{"name": "bootstrap", "text": "..."}, ...]}
//! ```
//!
//! What each step of the image's last build printed, in the order of the steps. Of
//! a long output the middle is left out: 512 KiB of a step and 4 MiB of all are
//! kept. Nobody signs a log, and nothing needs one; whoever deletes an image
//! deletes its log.
//!
//! # A reader refuses
//!
//! - more than 8 MiB before it reads them, more than 64 MiB of JSON;
//! - another schema, unknown or missing keys.
