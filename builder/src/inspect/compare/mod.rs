//! What differs between two images, from their layouts alone.
//!
//! Nothing is unpacked. Both layouts are read side by side in the order of the
//! canonical tar, one entry of each in memory; a file whose chunks have the same
//! names has the same content, so content is read for three things only: lists of
//! who owns a file, short texts whose lines are shown, and a large file that two
//! versions of the store cut differently.
//!
//! ```text
//! layouts ─walk─▶ changes ─owners─▶ package of each ─texts─▶ lines ─▶ Report
//! manifests ─parts─▶ packages, wheels, users, service ───────────────────▲
//! ```
//!
//! The two sides may be in two stores: a rebuilt image is compared with the one
//! that it should be before anybody publishes it. The [`Report`] is plain data
//! with a versioned JSON form; [`show`] writes it for people.

pub(super) mod content;
pub(super) mod owners;
mod parts;
mod report;
mod show;
mod texts;
mod walk;

use store::{Manifest, Store};

pub(crate) use self::owners::came_along;
pub use self::report::{
    Change, FileChange, FileType, Kind, Looks, Owner, PackageChange, Pair, Privilege,
    PrivilegeChange, Report, SCHEMA, Summary, Totals, UserChange, WheelChange,
};
pub use self::show::{How, run_details, show};
pub(crate) use self::show::{ValueChange, describe, service_changes, signed};

use crate::error::{Error, Result};

/// The most changed files that a report names; the others are counted.
pub const MOST_FILES: usize = 100_000;

/// An image and the store that has it.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The store.
    pub store: &'a Store,
    /// The image's manifest.
    pub manifest: &'a Manifest,
}

/// Compares two images. With `text`, short text files are read and their changed
/// lines are part of the report.
pub fn compare(old: Side<'_>, new: Side<'_>, text: bool) -> Result<Report> {
    let (from, to) = (old.manifest, new.manifest);
    let mut report = Report {
        schema: SCHEMA,
        equal: from.image == to.image,
        old: Summary::of(from),
        new: Summary::of(to),
        totals: Totals {
            entries: Pair::of(from.entries, to.entries),
            size: Pair::of(from.size, to.size),
            ..Totals::default()
        },
        packages: parts::packages(from, to),
        wheels: parts::wheels(from, to),
        users: parts::users(from, to),
        service: parts::service(from, to),
        privileged: Vec::new(),
        files: Vec::new(),
    };
    if report.equal {
        report.totals.same = from.entries;
        return Ok(report);
    }
    let opened = |side: Side<'_>| {
        let image = side.store.image(side.manifest);
        image.map_err(|error| unreadable(side.manifest, &error))
    };
    let (one, other) = (opened(old)?, opened(new)?);
    let walked = walk::walk((from, &one), (to, &other), &mut report)?;
    if report.totals.found() == 0 {
        // The same headers and chunks are the same tar.
        return Err(Error::failed(format!(
            "the layouts of {} and {} are the same, and the digests are not",
            from.image, to.image
        ))
        .hint("one manifest is wrong: `imgbuild store fsck` says which"));
    }
    owners::name(&mut report, &walked, (from, &one), (to, &other))?;
    if text {
        texts::read(&mut report, &walked.texts, (from, &one), (to, &other))?;
    }
    Ok(report)
}

/// One side while it is read.
pub(super) type Reading<'a> = (&'a Manifest, &'a store::Image);

pub(super) fn unreadable(manifest: &Manifest, error: &store::Error) -> Error {
    let failed = Error::failed(format!("cannot read the image {}", manifest.image)).because(error);
    match error.hint() {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}
