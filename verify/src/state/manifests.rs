//! The signed manifests of installed images, by their digest.

use std::fs::{self, File};
use std::path::PathBuf;

use serde::Deserialize;
use store::digest::Blake3;
use store::manifest::Manifest;

use super::directory::State;
use super::lock::Lock;
use super::record::SystemRecord;
use crate::atomic_file;
use crate::error::{Context, Error, Result};
use crate::system::SystemName;

impl State {
    /// Keeps a signed manifest; its blake3 is how it is found and checked again.
    pub fn keep_manifest(&self, _: &Lock, json: &[u8]) -> Result<Blake3> {
        let digest = Blake3::of(json);
        let _alone = self.lock_manifests()?;
        atomic_file::write(&self.manifest_file(digest), json, 0o600)?;
        Ok(digest)
    }

    /// Reads back a manifest of [`State::keep_manifest`].
    pub fn manifest(&self, digest: Blake3) -> Result<Manifest> {
        self.manifest_with_json(digest)
            .map(|(manifest, _)| manifest)
    }

    /// Reads back a manifest, also as it was signed.
    pub fn manifest_with_json(&self, digest: Blake3) -> Result<(Manifest, Vec<u8>)> {
        let path = self.manifest_file(digest);
        let damaged = |why: String| {
            Error::refused(format!(
                "{} is not the manifest that was signed",
                path.display()
            ))
            .cause(why)
            .hint("install the release again")
        };
        let bytes =
            atomic_file::read(&path)?.ok_or_else(|| damaged("the file is missing".to_owned()))?;
        let found = Blake3::of(&bytes);
        if found != digest {
            return Err(damaged(format!("its digest is {found}, not {digest}")));
        }
        let manifest = Manifest::from_json(&bytes).map_err(|error| damaged(error.to_string()))?;
        Ok((manifest, bytes))
    }

    fn manifest_file(&self, digest: Blake3) -> PathBuf {
        self.root()
            .join("manifests")
            .join(format!("{}.json", digest.hex()))
    }

    /// Removes manifests that no installed generation names, nor one that an operation on another
    /// system than `system` is about to install.
    pub fn forget_manifests(&self, _: &Lock, system: &SystemName) -> Result<()> {
        let directory = self.root().join("manifests");
        let _alone = self.lock_manifests()?;
        let mut there = Vec::new();
        let listing =
            fs::read_dir(&directory).context(|| format!("cannot list {}", directory.display()))?;
        for entry in listing {
            let entry = entry.context(|| format!("cannot list {}", directory.display()))?;
            there.push(entry.path());
        }
        // Only now: who needs one of those says so before it puts it there.
        let mut records = Vec::new();
        for system in self.systems()? {
            records.extend(self.system(&system)?);
        }
        for other in self.journals()?.iter().filter(|other| *other != system) {
            let journal: Option<Records> = atomic_file::read_json(&self.journal(other))?;
            let journal = journal.into_iter();
            records.extend(journal.flat_map(|both| both.before.into_iter().chain(both.after)));
        }
        let wanted: Vec<PathBuf> = records
            .iter()
            .flat_map(|record| &record.generations)
            .map(|generation| self.manifest_file(generation.manifest))
            .collect();
        for path in there.iter().filter(|path| !wanted.contains(path)) {
            atomic_file::remove(path)?;
        }
        Ok(())
    }

    fn lock_manifests(&self) -> Result<File> {
        let directory = self.root().join("manifests");
        let file = File::open(&directory).and_then(|file| file.lock().map(|()| file));
        file.context(|| format!("cannot lock {}", directory.display()))
    }
}

/// What a journal says of the records of a system.
#[derive(Deserialize)]
struct Records {
    before: Option<SystemRecord>,
    after: Option<SystemRecord>,
}
