//! A page of one image: where it is released, how it is run, what is in it, and who says what about it.
//!
//! ```text
//! contents  what is in it and what it runs
//! said      what is signed about it
//! ```

mod contents;
mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;
use store::attest::{self, Attestation, Kind};
use store::audit::Audit;
use store::tuf::Release;
use store::{ImageId, Manifest, Sha256, Store};

pub(super) use self::contents::attribute_words;
use self::said::audit_notice;
#[cfg(test)]
pub(super) use self::said::findings;
use super::Pairs;
use super::document::{self, PROGRAM, Place, heading};
use super::facts::{Facts, Released};
use super::html::{Html, Notice};
use super::pair;
use crate::error::{Context, Result};
use crate::inspect::compare::service_changes;
use crate::inspect::survey::Survey;
use crate::lockfile::Base;
use crate::stores::ancestry::{self, Standing};
use crate::stores::released;
use crate::ui;

/// Rows of a table.
const MOST_ROWS: usize = 5000;

/// A released manifest with what is said about it.
pub(super) struct Described {
    pub(super) manifest: Manifest,
    /// The manifest's digest in hexadecimal.
    pub(super) digest: String,
    /// Said by keys that have a name; the others are counted by nobody.
    said: Vec<Said>,
    /// Kinds and keys of what others say.
    unknown: Vec<(String, String)>,
    /// What it begins with, and what became of that.
    base: Option<(Base, Standing)>,
}

/// An attestation by keys that have a name.
struct Said {
    attestation: Attestation,
    by: Vec<String>,
}

/// What the first page says of an image.
#[derive(Clone, Debug, Default)]
pub(super) struct Short {
    /// The digest of its recipe.
    pub(super) recipe: String,
    /// Commits that its provenance names.
    pub(super) commits: Vec<String>,
    /// What somebody must see, besides revocations.
    pub(super) notices: Vec<Notice>,
}

/// What became of bases, by their releases: several images stand on one.
pub(super) type Standings = BTreeMap<(ImageId, Option<String>), Standing>;

/// Where the page of an image is.
pub(super) fn path(image: &ImageId) -> String {
    format!("image/{}.html", image.hex())
}

impl Described {
    /// Reads what the store has about a release.
    pub(super) fn read(
        store: &Store,
        facts: &Facts,
        release: &Release,
        standings: &mut Standings,
        note: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let manifest = released::manifest(store, release)?;
        let mut odd = |key: &str, e: &store::Error| {
            note(&format!(
                "warning: the attestation {key} is passed over: {e}"
            ));
        };
        let found = match attest::of_image(store.backend(), &manifest, &mut odd) {
            // A web server lists nothing; where nothing was attested there is no list either.
            Err(e) if e.kind() == store::ErrorKind::Missing => Vec::new(),
            found => found.context(|| {
                format!(
                    "cannot read what is said about the image {}",
                    manifest.image
                )
            })?,
        };
        let keys = facts.names.keys();
        let (mut said, mut unknown) = (Vec::new(), Vec::new());
        for attestation in found {
            let signers = attestation.signers(&keys);
            if signers.is_empty() {
                let kind = attestation.kind.map_or("of another kind", Kind::name);
                let ids = attestation.claimed_key_ids();
                let ids: Vec<String> = ids.map(|id| id.chars().take(16).collect()).collect();
                unknown.push((kind.to_owned(), ids.join(", ")));
            } else if attestation.covers(&manifest) {
                let by = facts.who(&signers);
                said.push(Said { attestation, by });
            }
        }
        let base = ancestry::base(store, &manifest)?.map(|base| {
            let key = (base.image, base.release.clone());
            let standing = standings.entry(key);
            let standing = standing.or_insert_with(|| ancestry::standing(store, &base));
            (base, standing.clone())
        });
        Ok(Self {
            digest: Sha256::of(&manifest.to_json()).hex(),
            manifest,
            said,
            unknown,
            base,
        })
    }

    /// What the first page says of it.
    pub(super) fn short(&self) -> Short {
        let mut notices: Vec<Notice> = self.base_notice().into_iter().collect();
        notices.extend(self.newest_audit().map(|(audit, _)| audit_notice(&audit)));
        Short {
            recipe: self.manifest.recipe.hex(),
            commits: self.commits(),
            notices,
        }
    }

    fn base_notice(&self) -> Option<Notice> {
        let (base, standing) = self.base.as_ref()?;
        if standing.revoked {
            let mut text = format!("its base {base} was revoked");
            if let Some(newer) = &standing.newer {
                let _ = write!(text, "; {newer} is newer");
            }
            return Some(Notice::bad(text));
        }
        let newer = standing.newer.as_ref()?;
        Some(Notice::warning(format!(
            "its base {base} is outdated: {newer} is newer"
        )))
    }

    /// The audit that knows most, and who says so.
    fn newest_audit(&self) -> Option<(Audit, &Said)> {
        let audits = self.said.iter();
        let audits = audits.filter_map(|said| Some((said.attestation.audit()?, said)));
        audits.max_by_key(|(audit, _)| (audit.as_of, audit.time))
    }

    fn provenance(&self) -> impl Iterator<Item = &Said> {
        let said = self.said.iter();
        said.filter(|said| said.attestation.kind == Some(Kind::Provenance))
    }

    /// Commits of Git that a provenance names.
    fn commits(&self) -> Vec<String> {
        commits_of(self.provenance().map(|said| &said.attestation.predicate))
    }

    /// A manifest of which nobody says anything.
    #[cfg(test)]
    pub(super) fn of(manifest: Manifest) -> Self {
        Self {
            digest: Sha256::of(&manifest.to_json()).hex(),
            manifest,
            said: Vec::new(),
            unknown: Vec::new(),
            base: None,
        }
    }
}

/// Commits of Git among the inputs of provenances, each once.
pub(super) fn commits_of<'p>(provenances: impl Iterator<Item = &'p Value>) -> Vec<String> {
    let mut commits = BTreeSet::new();
    for predicate in provenances {
        let inputs = predicate.pointer("/buildDefinition/resolvedDependencies");
        let inputs = inputs.and_then(Value::as_array).into_iter().flatten();
        let of_git = inputs.filter_map(|input| input.pointer("/digest/gitCommit")?.as_str());
        commits.extend(of_git.map(str::to_owned));
    }
    commits.into_iter().collect()
}

/// The whole page. `all` are the manifests with which it was released, at least one; without a survey,
/// `trouble` says why.
pub(super) fn page(
    image: &ImageId,
    all: &[Described],
    survey: Result<&Survey, Notice>,
    facts: &Facts,
    pairs: &Pairs,
) -> String {
    let main = &all[0];
    let manifest = &main.manifest;
    let mut page = Page::default();
    for notice in facts.notices(image, None) {
        page.html.notice(&notice);
    }
    let mut notices: Vec<Notice> = all.iter().flat_map(|one| one.short().notices).collect();
    notices.sort();
    notices.dedup();
    for notice in &notices {
        page.html.notice(notice);
    }
    if let Err(notice) = &survey {
        page.html.notice(notice);
    }
    summary(&mut page.html, main, facts);
    page.section("released", "Where it is released");
    history(&mut page.html, image, facts, pairs);
    page.section("run", "How it is run");
    contents::run(&mut page.html, manifest.run.as_ref());
    others(&mut page.html, all);
    let survey = survey.ok();
    if let Some(survey) = survey {
        page.section("sizes", "What takes how much space");
        contents::sizes(&mut page.html, manifest, survey);
    }
    page.section("packages", "Packages");
    contents::packages(&mut page.html, manifest, survey);
    page.section("privileges", "Privileged files");
    contents::privileges(&mut page.html, manifest);
    page.section("users", "Users and groups");
    contents::users(&mut page.html, manifest, survey);
    page.section("said", "Provenance, attestations and approvals");
    for one in all {
        of_manifest(&mut page.html, all, one);
        said::said(&mut page.html, one);
    }
    page.section("audit", "Audit");
    for one in all {
        of_manifest(&mut page.html, all, one);
        said::audit(&mut page.html, one);
    }
    let title = format!("{} {:.12}", manifest.name, image.hex());
    let footer = |html: &mut Html| html.tag("p", format_args!("Written by {PROGRAM}."));
    document::page(Place::Folder, &title, &page.sections, footer, &page.html)
}

/// A page while it is written.
#[derive(Default)]
struct Page {
    html: Html,
    sections: Vec<(&'static str, String)>,
}

impl Page {
    fn section(&mut self, anchor: &'static str, title: &str) {
        heading(&mut self.html, anchor, title);
        self.sections.push((anchor, title.to_owned()));
    }
}

fn summary(html: &mut Html, main: &Described, facts: &Facts) {
    let manifest = &main.manifest;
    html.open("dl", &[]);
    let code = |html: &mut Html, text: &str| html.tag_outside("code", text);
    html.pair("Image", |html| code(html, &manifest.image.to_string()));
    html.pair("Its sha256", |html| {
        code(html, &manifest.sha256.to_string());
    });
    html.pair("Manifest", |html| {
        code(html, &format!("sha256:{}", main.digest));
    });
    html.pair("System", |html| {
        html.outside(&format!("{} {}", manifest.suite, manifest.arch));
    });
    html.pair("Size", |html| {
        let size = ui::size(manifest.size);
        html.text(format_args!("{size} ({} entries)", manifest.entries));
    });
    html.pair("Files until", |html| {
        match i64::try_from(manifest.epoch)
            .ok()
            .map(Timestamp::from_second)
        {
            Some(Ok(time)) => html.day(time),
            _ => html.text(manifest.epoch),
        }
    });
    html.pair("Recipe", |html| code(html, &manifest.recipe.to_string()));
    html.pair("Lock", |html| code(html, &manifest.lock.to_string()));
    html.pair("Builder", |html| html.outside(&manifest.builder));
    for commit in main.commits() {
        html.pair("Commit", |html| code(html, &commit));
    }
    html.pair("Base", |html| match &main.base {
        None => html.text("none"),
        Some((base, standing)) => {
            html.outside(&base.to_string());
            html.raw(" ");
            let hex = base.image.hex();
            if facts.releases().any(|one| one.image() == base.image) {
                html.link(&format!("{hex}.html"), &hex[..12]);
            } else {
                html.digest(&hex);
            }
            html.text(match (standing.revoked, &standing.newer) {
                (true, _) => "; it was revoked".to_owned(),
                (false, Some(newer)) => format!("; outdated, {newer} is newer"),
                (false, None) if base.release.is_some() => "; the newest".to_owned(),
                (false, None) => String::new(),
            });
        }
    });
    html.close("dl");
}

fn history(html: &mut Html, image: &ImageId, facts: &Facts, pairs: &Pairs) {
    let columns = [
        "Release",
        "Date",
        "State",
        "From",
        "Signed by",
        "Since the one before",
    ];
    html.table("Releases of this image, by environment", &columns, |html| {
        for env in &facts.environments {
            for of_name in env.releases.values() {
                for (at, one) in of_name.iter().enumerate() {
                    if one.image() == *image {
                        let before = at.checked_sub(1).map(|at| &of_name[at]);
                        release_row(html, one, before, pairs, None, Place::Folder);
                    }
                }
            }
        }
    });
}

/// A row of a table of releases; with the image's page where that is another one.
pub(super) fn release_row(
    html: &mut Html,
    one: &Released,
    before: Option<&Released>,
    pairs: &Pairs,
    to: Option<&str>,
    place: Place,
) {
    html.row(
        |html| match to {
            Some(to) => html.link(to, one.shown()),
            None => html.text(one.shown()),
        },
        |html| {
            html.element("td", &[], |html| match one.time {
                Some(time) => html.day(time),
                None => html.text("not recorded"),
            });
            html.tag("td", one.state.words());
            html.tag("td", one.from.as_deref().unwrap_or_default());
            html.tag_outside("td", &one.signers.join(", "));
            html.element("td", &[], |html| match before {
                None => html.text("the first"),
                Some(before) => difference(html, before, one, pairs, place),
            });
        },
    );
}

/// What differs between two releases, with a link to the page of both.
pub(super) fn difference(
    html: &mut Html,
    old: &Released,
    new: &Released,
    pairs: &Pairs,
    place: Place,
) {
    if old.manifest == new.manifest {
        html.text("the same image");
        return;
    }
    match pairs.get(&(old.manifest.clone(), new.manifest.clone())) {
        Some(Ok(summary)) => {
            let path = pair::path(&old.manifest, &new.manifest);
            let label = format!("Compare {} with {}", old.shown(), new.shown());
            html.text(format_args!("{summary}. "));
            html.element(
                "a",
                &[
                    ("href", &format!("{}{path}", place.root())),
                    ("aria-label", &label),
                ],
                |html| html.text("Compare"),
            );
        }
        Some(Err(why)) => html.outside(why),
        None => {}
    }
}

/// One image can be released with several manifests.
fn others(html: &mut Html, all: &[Described]) {
    let main = &all[0];
    for other in &all[1..] {
        html.tag(
            "h3",
            format_args!("With another manifest: {:.12}", other.digest),
        );
        html.open("dl", &[]);
        html.pair("Name", |html| html.text(&other.manifest.name));
        html.pair("Recipe", |html| html.tag("code", other.manifest.recipe));
        html.pair("Lock", |html| html.tag("code", other.manifest.lock));
        html.close("dl");
        let changes = service_changes(main.manifest.run.as_ref(), other.manifest.run.as_ref());
        if !changes.is_empty() {
            pair::run_changes(html, "What it runs in another way", &changes);
        }
    }
}

/// Says of which manifest the rest is, where there are several.
fn of_manifest(html: &mut Html, all: &[Described], one: &Described) {
    if all.len() > 1 {
        let (name, digest) = (&one.manifest.name, &one.digest);
        html.tag("h3", format_args!("As {name}, manifest {digest:.12}"));
    }
}
