//! The catalogue: which images a store has, for readers who cannot list it.
//!
//! A store is what its folders hold; the catalogue only repeats that in one object.
//! Writers renew it when they publish, nobody signs it, and nothing but finding an
//! image by its name or the beginning of its digest depends on it. See
//! [`crate::format::catalogue`].

use serde::{Deserialize, Serialize};

use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::name::ImageName;

/// An image that a store lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedImage {
    /// The image.
    pub image: ImageId,
    /// What its recipe calls it.
    pub name: ImageName,
    /// When it was published here, in seconds since 1970; 0 when not known.
    pub published: u64,
}

/// The key of the catalogue.
pub(crate) const KEY: &str = crate::backend::CATALOGUE;

/// The longest catalogue that is read: some hundred thousand images.
pub(crate) const MAX_BYTES: u64 = 32 << 20;

/// The version of the format.
const SCHEMA: u32 = 1;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalogue {
    schema: u32,
    images: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    image: ImageId,
    name: ImageName,
    published: u64,
}

impl Catalogue {
    /// Reads a catalogue.
    pub(crate) fn from_json(json: &[u8]) -> Result<Vec<ListedImage>> {
        let damaged = |error| Error::corrupt("the catalogue", &error).with_source(error);
        let catalogue: Self = serde_json::from_slice(json).map_err(damaged)?;
        if catalogue.schema != SCHEMA {
            let why = format_args!("it has the schema {}", catalogue.schema);
            return Err(Error::corrupt("the catalogue", why));
        }
        let rows = catalogue.images.into_iter();
        Ok(rows
            .map(|row| ListedImage {
                image: row.image,
                name: row.name,
                published: row.published,
            })
            .collect())
    }

    /// The JSON form of a catalogue.
    #[cfg(feature = "write")]
    pub(crate) fn to_json(images: Vec<ListedImage>) -> Vec<u8> {
        let images = images.into_iter().map(|listed| Row {
            image: listed.image,
            name: listed.name,
            published: listed.published,
        });
        let catalogue = Self {
            schema: SCHEMA,
            images: images.collect(),
        };
        let mut json = serde_json::to_vec(&catalogue).expect("a catalogue has a JSON form");
        json.push(b'\n');
        json
    }
}
