//! An environment's history in one file, for whoever checks it elsewhere.
//!
//! The file holds what a reader of the log reads, byte for byte: roots, the metadata in force,
//! every entry, and the metadata that was signed with each. It is an environment that can only
//! be read, and is believed for its signatures alone. The page of the format is
//! [`crate::format::environment`].

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::error::{Error, ErrorKind, Result};
use super::{Guard, MetadataStore, paths};
use crate::json;
use crate::name::EnvName;

/// The version of the format.
const SCHEMA: u32 = 1;

/// The longest file that is read.
pub const MAX_BYTES: u64 = 256 << 20;

/// A file with the history of an environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedEnvironment {
    schema: u32,
    /// The environment.
    pub environment: EnvName,
    /// Its files by their names below the environment's folder, each as text.
    files: BTreeMap<String, String>,
    /// Approvals of the images in its log: envelopes, as text.
    pub approvals: Vec<String>,
}

impl ExportedEnvironment {
    /// Reads an environment, and keeps what was read.
    pub fn of(store: &dyn MetadataStore, name: &EnvName, approvals: Vec<String>) -> Result<Self> {
        let recorder = Recorder {
            store,
            files: RefCell::default(),
        };
        let env = Environment::open(&recorder, name)?;
        let entries = env.log(usize::MAX)?;
        env.log_signers(&entries)?;
        let home = paths::home(name);
        let mut files = BTreeMap::new();
        for (key, bytes) in recorder.files.into_inner() {
            let file = key.strip_prefix(&home).unwrap_or(&key).to_owned();
            let text = String::from_utf8(bytes).map_err(|_| {
                Error::new(
                    ErrorKind::Malformed,
                    format!("{key} in this store is no text"),
                )
            })?;
            files.insert(file, text);
        }
        Ok(Self {
            schema: SCHEMA,
            environment: name.clone(),
            files,
            approvals,
        })
    }

    /// The file as it is written.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|e| unreadable(&format_args!("it cannot be written: {e}")))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads such a file. No signature is looked at: [`Environment::open`] does that.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let value = json::parse(bytes).map_err(|e| unreadable(&e))?;
        let read: Self = serde_json::from_value(value).map_err(|e| unreadable(&e))?;
        if read.schema != SCHEMA {
            return Err(unreadable(&format_args!("its schema is {}", read.schema)));
        }
        Ok(read)
    }
}

fn unreadable(why: &dyn std::fmt::Display) -> Error {
    let text = format!("this is no exported history of an environment: {why}");
    Error::new(ErrorKind::Malformed, text)
        .with_hint("make one where its store is: imgbuild env log ENV --export FILE")
}

impl MetadataStore for ExportedEnvironment {
    fn read(&self, key: &str, limit: u64) -> crate::Result<Option<Vec<u8>>> {
        let home = paths::home(&self.environment);
        let text = key
            .strip_prefix(&home)
            .and_then(|file| self.files.get(file));
        if text.is_some_and(|text| text.len() as u64 > limit) {
            let why = format_args!("it is longer than {limit} bytes");
            return Err(crate::Error::corrupt(key, why));
        }
        Ok(text.map(|text| text.clone().into_bytes()))
    }

    fn replace(&self, key: &str, _: &[u8]) -> crate::Result<()> {
        Err(read_only(key))
    }

    fn lock(&self) -> crate::Result<Guard> {
        Err(read_only("environments"))
    }
}

fn read_only(what: &str) -> crate::Error {
    let text = format!("{what} cannot be written: this is an exported history");
    crate::Error::new(crate::ErrorKind::ReadOnly, text)
}

/// A store that keeps what is read of it.
struct Recorder<'a> {
    store: &'a dyn MetadataStore,
    files: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl MetadataStore for Recorder<'_> {
    fn read(&self, key: &str, limit: u64) -> crate::Result<Option<Vec<u8>>> {
        let found = self.store.read(key, limit)?;
        if let Some(bytes) = &found {
            let mut files = self.files.borrow_mut();
            files.insert(key.to_owned(), bytes.clone());
        }
        Ok(found)
    }

    fn invalidate(&self, key: &str) -> bool {
        self.store.invalidate(key)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> crate::Result<()> {
        self.store.replace(key, bytes)
    }

    fn lock(&self) -> crate::Result<Guard> {
        self.store.lock()
    }
}
