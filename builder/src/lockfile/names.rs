//! The names of all entries of a lock, kept beside the entries.
//!
//! An entry that a person or a merge lost would otherwise be an image that
//! lacks a package: nothing need depend on what a recipe or an archive's
//! priorities asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::Lock;
use crate::error::{Error, Result};

impl Lock {
    /// Writes down which entries there are.
    pub fn seal(&mut self) {
        let entries = self.entries();
        let lines = entries.into_iter().map(|(place, names)| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            (place, names.join(" "))
        });
        self.names = lines.collect();
    }

    /// Compares the entries with what was written down; a lock from before that
    /// has nothing to compare.
    pub(super) fn check_names(&self) -> Result<()> {
        if self.names.is_empty() {
            return Ok(());
        }
        let entries = self.entries();
        let empty = BTreeSet::new();
        for (place, line) in &self.names {
            let there = entries.get(place).unwrap_or(&empty);
            let missing = line.split(' ').find(|name| !there.contains(*name));
            if let Some(name) = missing {
                let elsewhere = entries.iter().find(|(_, names)| names.contains(name));
                return Err(Error::usage(match elsewhere {
                    None => format!("the entry of `{name}` is missing from `{place}`"),
                    Some((other, _)) => {
                        format!("the entry of `{name}` belongs to `{place}`, not to `{other}`")
                    }
                }));
            }
        }
        for (place, there) in &entries {
            let line = self.names.get(place).map_or("", String::as_str);
            let known: BTreeSet<&str> = line.split(' ').collect();
            if let Some(name) = there.iter().find(|name| !known.contains(name.as_str())) {
                return Err(Error::usage(format!(
                    "the entry of `{name}` in `{place}` was not written by imgbuild"
                )));
            }
        }
        Ok(())
    }

    /// Names by the stage of a package or by virtualenv.
    fn entries(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut entries: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for deb in &self.debs {
            entries
                .entry(deb.stage.to_string())
                .or_default()
                .insert(deb.name.clone());
        }
        for python in &self.python {
            let place = entries.entry(python.virtualenv.clone()).or_default();
            place.insert(python.name.clone());
        }
        entries
    }
}
