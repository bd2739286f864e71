//! A root filesystem that another tool made, as an image.
//!
//! What comes in, a directory or a tar of any dialect, becomes a canonical tar in
//! the store (`store::foreign_tar` says how), is described by a manifest whose facts are
//! read from the stored image itself, and is signed like an image that was built.
//! So the same tree has the same digest and the same facts, whichever way it came.
//!
//! An imported image has no recipe and no lock. In their places the manifest names
//! a retained [`ImportRecord`]: what came in, and what was changed about it.

mod archive;
mod facts;

use std::path::Path;

use common::clock::rfc3339;
use store::canonical_tar::Changes;
use store::foreign_tar::ForeignTar;
use store::{EnvName, ImageName, Manifest, Progress, Published, WritableStore};

pub use self::archive::Archive;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lockfile::{IMPORT_SCHEMA, ImportKind, ImportRecord};
use crate::pack::image;
use crate::release::attest;
use crate::release::publish;
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Phase, Ui, Unit};

/// What is asked of an import.
#[derive(Debug)]
pub struct ImportRequest<'a> {
    /// A directory, an archive, or `-` for standard input.
    pub from: &'a Path,
    /// What the image is called.
    pub name: ImageName,
    /// Where it is released.
    pub environments: Vec<EnvName>,
    /// The suite, if it is not to be read from `/etc/os-release`.
    pub suite: Option<String>,
    /// The architecture, if it is not to be read from the tree.
    pub arch: Option<String>,
    /// No time in the image is later, in seconds since 1970.
    pub epoch: Option<u64>,
}

/// What an import came to.
#[derive(Debug)]
pub struct Imported {
    /// The image.
    pub manifest: Manifest,
    /// Each environment, and the number of the release there.
    pub releases: Vec<(EnvName, u64)>,
    /// What is not as it came in.
    pub changes: Changes,
}

/// Imports one tree.
pub fn import(request: &ImportRequest<'_>, settings: &Settings, ui: &mut Ui) -> Result<Imported> {
    let began = jiff::Timestamp::now();
    let store = stores::open_to_write(settings)?;
    let (published, changes, kind) = if request.from.is_dir() {
        let (published, changes) = directory(request, &store, ui)?;
        (published, changes, ImportKind::Directory)
    } else {
        let (published, changes) = tar(request, &store, ui)?;
        (published, changes, ImportKind::Tar)
    };
    let epoch = request.epoch.unwrap_or(published.newest);
    check_epoch(epoch, began, request.from)?;
    let record = ImportRecord {
        schema: IMPORT_SCHEMA,
        imported: kind,
        epoch: request.epoch,
        changes: changes.clone(),
    };
    let manifest = describe(request, &published, epoch, &record, &store, ui)?;
    attest::imported(&manifest, began, settings, &store)?;
    let mut releases = Vec::new();
    for env in &request.environments {
        let seq = publish::release_into(env, &manifest, &store, settings, ui)?;
        releases.push((env.clone(), seq));
    }
    Ok(Imported {
        manifest,
        releases,
        changes,
    })
}

fn directory(
    request: &ImportRequest<'_>,
    store: &WritableStore,
    ui: &mut Ui,
) -> Result<(Published, Changes)> {
    let pack = Pack::begin(ui);
    let done = store
        .publish_foreign_tree(request.from, request.epoch, &|event| pack.show(event))
        .map_err(|e| refused(&e, request.from))?;
    pack.finish(&done.0)?;
    Ok(done)
}

fn tar(
    request: &ImportRequest<'_>,
    store: &WritableStore,
    ui: &mut Ui,
) -> Result<(Published, Changes)> {
    let mut archive = Archive::open(request.from)?;
    let mut phase = ui.phase("read the archive");
    let read = archive.with_input(
        &mut |done, total| phase.progress(done, total, Unit::Bytes),
        |input| store.read_tar(input, request.epoch),
    );
    let tar = read.map_err(|e| refused(&e, request.from))?;
    phase.finish(archive.kind());
    check_tree(&tar, request.from)?;
    let pack = Pack::begin(ui);
    let published = store
        .publish_tar(&tar, &|event| pack.show(event))
        .map_err(|e| refused(&e, request.from))?;
    pack.finish(&published)?;
    Ok((published, tar.changes().clone()))
}

/// Refuses an archive that holds something else than a root filesystem.
fn check_tree(tar: &ForeignTar, from: &Path) -> Result<()> {
    let what = format!("cannot import {}", from.display());
    if tar.is_empty() {
        return Err(Error::new(ErrorKind::Refused, what)
            .detail("there is nothing in it: it is empty, or zeros")
            .hint("make the archive again, and look at it with `tar -tvf`"));
    }
    let (root, saved) = (["bin", "usr", "etc"], ["oci-layout", "repositories"]);
    let present = tar.present(&[&root[..], &saved, &["manifest.json", "blobs"]].concat());
    let has = |path: &&str| present.contains(path);
    let saved = saved.iter().any(has) || (has(&"manifest.json") && has(&"blobs"));
    if !root.iter().any(has) && saved {
        return Err(Error::new(ErrorKind::Refused, what)
            .detail("it holds the layers of a container image (`docker save`), not a tree")
            .hint(
                "docker create IMAGE, then docker export CONTAINER | imgbuild import - --name NAME",
            ));
    }
    Ok(())
}

/// The phase in which the store packs.
struct Pack<'u> {
    phase: std::sync::Mutex<Phase<'u>>,
    total: std::sync::atomic::AtomicU64,
}

impl<'u> Pack<'u> {
    fn begin(ui: &'u mut Ui) -> Self {
        Self {
            phase: std::sync::Mutex::new(ui.phase("pack")),
            total: std::sync::atomic::AtomicU64::new(0),
        }
    }

    fn show(&self, event: Progress) {
        use std::sync::atomic::Ordering::Relaxed;
        let Ok(mut phase) = self.phase.lock() else {
            return;
        };
        match event {
            Progress::Scanned { bytes, .. } => self.total.store(bytes, Relaxed),
            Progress::Read { bytes } => {
                phase.progress(bytes, self.total.load(Relaxed), Unit::Bytes);
            }
            _ => {}
        }
    }

    fn finish(self, published: &Published) -> Result<()> {
        let phase = self.phase.into_inner();
        let phase = phase.map_err(|_| Error::failed("a worker thread died"))?;
        phase.finish(&format!(
            "{} in {} entries, {} new in the store",
            ui::size(published.size),
            published.entries,
            ui::size(published.written)
        ));
        Ok(())
    }
}

/// Refuses an image that would be dated tomorrow or later: it would never be too old for a policy.
fn check_epoch(epoch: u64, now: jiff::Timestamp, from: &Path) -> Result<()> {
    let latest = u64::try_from(now.as_second()).unwrap_or_default() + 24 * 60 * 60;
    if epoch <= latest {
        return Ok(());
    }
    let dated = rfc3339(epoch).unwrap_or_else(|| format!("second {epoch}"));
    let what = format!("cannot import {}", from.display());
    Err(Error::new(ErrorKind::Refused, what)
        .detail(format!(
            "its newest file is of {dated}, and the clock of this machine says {now:.0}"
        ))
        .hint(
            "give the time of the tree in SOURCE_DATE_EPOCH, in seconds since 1970: no file is \
             later then",
        ))
}

/// Writes record and manifest.
fn describe(
    request: &ImportRequest<'_>,
    published: &Published,
    epoch: u64,
    record: &ImportRecord,
    store: &WritableStore,
    ui: &mut Ui,
) -> Result<Manifest> {
    let phase = ui.phase("describe");
    let mut text =
        serde_json::to_vec(record).context(|| "cannot write the record of the import".into())?;
    text.push(b'\n');
    let (record, _) = store
        .inputs()
        .insert(&mut text.as_slice(), None)
        .context(|| "cannot keep the record of the import in the store".into())?;
    let mut manifest = Manifest {
        schema: store::manifest::SCHEMA,
        name: request.name.clone(),
        image: published.image,
        sha256: published.sha256,
        size: published.size,
        entries: published.entries,
        layout: published.layout.clone(),
        arch: String::new(),
        suite: String::new(),
        epoch,
        packages: Vec::new(),
        wheels: Vec::new(),
        users: Vec::new(),
        setuid: published.setuid.clone(),
        xattrs: published.xattrs.clone(),
        recipe: record,
        lock: record,
        builder: concat!("imgbuild ", env!("CARGO_PKG_VERSION")).to_owned(),
        run: None,
    };
    let unreadable = || format!("cannot read back the image {}", manifest.image);
    let stored = store.store().image(&manifest).context(unreadable)?;
    let facts = facts::Facts::of(&stored).context(unreadable)?;
    if let Some(below) = facts.below {
        let what = format!("the tree has everything below `{}/`", below.escape_debug());
        return Err(
            Error::usage(what).hint("import what is in that directory: `tar -C DIR -cf FILE .`")
        );
    }
    manifest.arch = request.arch.clone().or(facts.arch).ok_or_else(|| {
        Error::failed("the tree does not tell its architecture")
            .detail("it has neither a dpkg database nor a /bin/sh")
            .hint("name it: --arch amd64")
    })?;
    manifest.suite = request
        .suite
        .clone()
        .or(facts.suite)
        .unwrap_or_else(|| "unknown".into());
    manifest.packages = facts.packages;
    manifest.wheels = facts.wheels;
    manifest.users = facts.users;
    image::describe(&manifest, store)?;
    phase.finish(&format!(
        "{} packages, {} Python distributions, {} setuid files",
        manifest.packages.len(),
        manifest.wheels.len(),
        manifest.setuid.len()
    ));
    Ok(manifest)
}

/// What the store says about a tree or archive, with what helps.
fn refused(error: &store::Error, from: &Path) -> Error {
    use store::ErrorKind as Is;
    let what = format!("cannot import {}", from.display());
    match error.kind() {
        Is::NotCanonical => Error::new(ErrorKind::Refused, what).because(error).hint(
            "nothing was imported; look at the entry with `tar -tvf`, and pack the tree anew \
             if the archive is your own",
        ),
        Is::Changed => Error::failed(what)
            .because(error)
            .hint("import it when nobody writes to it"),
        Is::Full => Error::failed(what)
            .because(error)
            .hint("make room, or name a store on another disk with --store PATH"),
        Is::Busy => Error::new(ErrorKind::Busy, what).because(error),
        _ => Error::failed(what).because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::foreign_tar::TarInput;

    /// Refuses an archive with empty files of these names, or says nothing.
    fn check(names: &[&str]) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let store = WritableStore::open_or_create(directory.path().join("store")).unwrap();
        let mut bytes = Vec::new();
        for name in names {
            let mut header = [0_u8; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[100..108].copy_from_slice(b"0000644\0");
            header[156] = b'0';
            header[148..156].copy_from_slice(b"        ");
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            bytes.extend(header);
        }
        bytes.extend([0; 1024]);
        let tar = store
            .read_tar(TarInput::Stream(&mut &bytes[..]), None)
            .unwrap();
        let error = check_tree(&tar, Path::new("x.tar")).err()?;
        Some(format!("{error} {:?} {:?}", error.causes(), error.advice()))
    }

    #[test]
    fn what_is_no_tree_is_named() {
        assert!(check(&[]).unwrap().contains("empty, or zeros"));
        for saved in [
            &["manifest.json", "blobs/sha256/00", "oci-layout"][..],
            &["manifest.json", "repositories", "00/layer.tar"],
            &["manifest.json", "blobs/sha256/00"],
        ] {
            assert!(check(saved).unwrap().contains("docker save"), "{saved:?}");
        }
        assert_eq!(check(&["etc/os-release", "manifest.json", "blobs/x"]), None);
        assert_eq!(check(&["manifest.json"]), None);
    }
}
