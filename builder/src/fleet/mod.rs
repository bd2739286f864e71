//! Nodes: which are enrolled, and what their receipts say.
//!
//! ```text
//! list of an environment's nodes  -> whose receipts count      (members)
//! receipts of a node, since last  -> the newest, what is wrong (read, cache)
//! the newest beside the releases  -> findings                  (judge)
//! the findings beside the waves   -> how far a release is      (rollout)
//! a node, its last receipts       -> as they lie there         (recent)
//! ```
//!
//! A receipt is believed where the list has its key for that node, and for no more than that the
//! node said so. What lies in the folder is anybody's who can write there.

pub mod cache;
pub mod judge;
pub mod members;
pub mod read;
pub mod recent;
pub mod rollout;

use store::{ObjectFolder, StoreUrl};

use crate::error::{Context, Result};
use crate::settings::Settings;
use crate::stores;

/// Where receipts and lists are.
pub struct Place {
    /// The folder.
    pub folder: ObjectFolder,
    /// Its address.
    pub url: StoreUrl,
}

impl Place {
    /// Opens the folder of receipts that a person named, else the store's.
    pub fn open(named: Option<&str>, settings: &Settings) -> Result<Self> {
        let url = match named {
            Some(text) => stores::parse_url(text)?,
            None => settings.store_url.clone(),
        };
        let folder = ObjectFolder::open(&url, &settings.access)
            .context(|| format!("cannot open the receipts in {url}"))?;
        Ok(Self { folder, url })
    }
}
