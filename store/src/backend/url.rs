//! The URL of a store: `PATH`, `file:///PATH`, `https://HOST/PATH`,
//! `s3://BUCKET/PREFIX`.
//!
//! A URL may carry a password. It is shown without; only [`StoreUrl::with_password`] gives
//! the whole text, for a file that nobody else can read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
#[cfg(all(feature = "http", feature = "write"))]
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[cfg(all(feature = "http", feature = "write"))]
use super::ListableBackend;
#[cfg(feature = "http")]
use super::{Backend, LocalReader};
#[cfg(feature = "http")]
use super::{ClientOptions, HttpBackend, HttpUrl};
#[cfg(feature = "s3")]
use crate::backend::s3::{self, BucketUrl};
use crate::error::{Error, ErrorKind, Result};

/// The URL of a store, or the path of its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A folder of a web server.
    #[cfg(feature = "http")]
    Web(HttpUrl),
    /// A bucket, or a part of one.
    #[cfg(feature = "s3")]
    Bucket(BucketUrl),
}

impl StoreUrl {
    /// The directory, if the store is in one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            #[cfg(feature = "http")]
            Self::Web(_) => None,
            #[cfg(feature = "s3")]
            Self::Bucket(_) => None,
        }
    }

    /// The text that this URL was parsed from, its password included.
    pub fn with_password(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            #[cfg(feature = "http")]
            Self::Web(address) => address.secret(),
            #[cfg(feature = "s3")]
            Self::Bucket(location) => location.to_string(),
        }
    }

    /// Opens the backend that the URL names, for reading.
    #[cfg(feature = "http")]
    pub fn open(&self, access: &ClientOptions) -> Result<Box<dyn Backend>> {
        Ok(match self {
            Self::Directory(path) => Box::new(LocalReader::open(path)?),
            Self::Web(address) => Box::new(HttpBackend::open(address, access)?),
            #[cfg(feature = "s3")]
            Self::Bucket(location) => Box::new(s3::open(location, access)?),
        })
    }
}

#[cfg(all(feature = "http", feature = "write"))]
impl StoreUrl {
    /// Opens the backend that the URL names, for listing all of it; nothing is written.
    pub fn open_listable(&self, access: &ClientOptions) -> Result<Arc<dyn ListableBackend>> {
        match self {
            Self::Directory(path) => Ok(Arc::new(LocalReader::open(path)?)),
            #[cfg(feature = "s3")]
            Self::Bucket(location) => {
                let backend: Arc<dyn ListableBackend> = s3::S3Backend::open(location, access)?;
                Ok(backend)
            }
            Self::Web(_) => {
                let _ = access;
                Err(Error::new(
                    ErrorKind::ReadOnly,
                    format!("{self} cannot be looked over: web servers do not list"),
                )
                .with_hint("do it where the store is a directory"))
            }
        }
    }

    /// Tries what a store needs of the backend, with objects of its own that it removes.
    #[cfg(feature = "s3")]
    pub fn probe(&self, access: &ClientOptions) -> Result<Vec<s3::ProbeCheck>> {
        match self {
            Self::Bucket(location) => s3::S3Backend::open(location, access)?.probe(),
            Self::Directory(path) => {
                let fault = super::local::lock::probe(path)?;
                Ok(vec![s3::ProbeCheck::new(
                    "locks keep two writers apart",
                    fault,
                )])
            }
            Self::Web(address) => {
                let backend = HttpBackend::open(address, access)?;
                let found = backend.get_range(super::MARKER, 1, 2);
                Ok(vec![s3::ProbeCheck::new("ranges", found.err())])
            }
        }
    }
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Directory(text.into()));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" if rest.starts_with('/') => Ok(Self::Directory(rest.into())),
            "file" => Err(invalid("a file:// URL of a store names no host")
                .with_hint("write it as file:///PATH")),
            #[cfg(feature = "http")]
            "http" | "https" => text.parse().map(Self::Web),
            #[cfg(feature = "s3")]
            "s3" => text.parse().map(Self::Bucket),
            // The rest may have a password in it.
            other => Err(invalid(format!(
                "stores are not read over `{}`",
                other.escape_default()
            ))
            .with_hint(
                "name a directory, or a folder of a web server as https://HOST/PATH, or \
                 s3://BUCKET/PREFIX",
            )),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            #[cfg(feature = "http")]
            Self::Web(address) => address.fmt(f),
            #[cfg(feature = "s3")]
            Self::Bucket(location) => location.fmt(f),
        }
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.with_password())
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, why)
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    fn url(text: &str) -> StoreUrl {
        text.parse().unwrap()
    }

    #[test]
    fn directories() {
        assert_eq!(url("/srv/store").directory(), Some("/srv/store".as_ref()));
        assert_eq!(url("file:///srv/s"), url("/srv/s"));
        assert_eq!(url("here").to_string(), "here");
        for text in ["file://host/path", "s3x://bucket/x", "ftp://u:geheim@h/"] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.hint().is_some(), "{text}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }

    #[test]
    fn a_password_is_kept_and_not_shown() {
        let text = "https://me:geheim@store.example/a/b";
        let web = url(text);
        assert_eq!(web.to_string(), "https://store.example/a/b");
        assert!(!format!("{web:?}").contains("geheim"));
        let json = serde_json::to_string(&web).unwrap();
        assert_eq!(serde_json::from_str::<StoreUrl>(&json).unwrap(), web);
        assert_eq!(web.with_password(), text);
    }
}
