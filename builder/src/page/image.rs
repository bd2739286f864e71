//! A page of one image: where it is released, how it is run, what is in it, and who says what about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use common::clock::rfc3339;
use jiff::Timestamp;
use serde_json::Value;
use store::attest::{self, Attestation, Kind};
use store::audit::{Audit, Finding};
use store::manifest::Run;
use store::tuf::Release;
use store::{ImageId, Manifest, Sha256, Store};

use super::Pairs;
use super::capability;
use super::document::{self, PROGRAM, Place, heading};
use super::facts::{Facts, Released};
use super::html::{Html, Notice};
use super::pair;
use super::treemap::{self, Item};
use crate::error::{Context, Result};
use crate::inspect::compare::{run_details, service_changes};
use crate::inspect::survey::Survey;
use crate::lockfile::Base;
use crate::stores::find::{self, Standing};
use crate::ui;

/// Rows of a table.
const MOST_ROWS: usize = 5000;

/// Findings of an audit that are listed.
const MOST_FINDINGS: usize = 200;

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
        let manifest = find::released(store, release)?;
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
        let base = find::base(store, &manifest)?.map(|base| {
            let key = (base.image, base.release.clone());
            let standing = standings.entry(key);
            let standing = standing.or_insert_with(|| find::standing(store, &base));
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

fn audit_notice(audit: &Audit) -> Notice {
    let as_of = rfc3339(audit.as_of).unwrap_or_default();
    let day = as_of.split('T').next().unwrap_or_default();
    let mut text = format!("pending security updates: {}", audit.pending.len());
    if audit.has_advisories {
        let _ = write!(text, ", advisories that fit: {}", audit.advisories.len());
    }
    let _ = write!(text, ", as of {day}");
    if audit.pending.is_empty() && audit.advisories.is_empty() {
        Notice::plain(text)
    } else {
        Notice::warning(text)
    }
}

/// An extended attribute in words where it is known, else as it is.
pub(super) fn attribute_words(name: &str, value_hex: &str) -> String {
    let words = (name == capability::ATTRIBUTE).then(|| capability::words(value_hex));
    words.flatten().unwrap_or_else(|| format!("0x{value_hex}"))
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
    run(&mut page.html, manifest.run.as_ref());
    others(&mut page.html, all);
    let survey = survey.ok();
    if let Some(survey) = survey {
        page.section("sizes", "What takes how much space");
        sizes(&mut page.html, manifest, survey);
    }
    page.section("packages", "Packages");
    packages(&mut page.html, manifest, survey);
    page.section("privileges", "Privileged files");
    privileges(&mut page.html, manifest);
    page.section("users", "Users and groups");
    users(&mut page.html, manifest, survey);
    page.section("said", "Provenance, attestations and approvals");
    for one in all {
        of_manifest(&mut page.html, all, one);
        said(&mut page.html, one);
    }
    page.section("audit", "Audit");
    for one in all {
        of_manifest(&mut page.html, all, one);
        audit(&mut page.html, one);
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

fn run(html: &mut Html, run: Option<&Run>) {
    let Some(run) = run else {
        html.raw("<p>Its manifest starts nothing.</p>\n");
        return;
    };
    html.table(
        "Processes",
        &["Process", "User", "#How many", "Command"],
        |html| {
            let mut row = |name: &str, user: &str, count: u64, command: &[String]| {
                html.row(
                    |html| html.outside(name),
                    |html| {
                        html.tag_outside("td", user);
                        html.number(count);
                        html.element("td", &[], |html| {
                            html.tag_outside("code", &command.join(" "));
                        });
                    },
                );
            };
            row("main", &run.user, 1, &run.start);
            for process in &run.processes {
                let count = u64::from(process.count);
                row(&process.name, &process.user, count, &process.command);
            }
        },
    );
    if !run.timers.is_empty() {
        html.table("Jobs", &["Job", "User", "When", "Command"], |html| {
            for timer in &run.timers {
                html.row(
                    |html| html.outside(&timer.name),
                    |html| {
                        html.tag_outside("td", &timer.user);
                        html.tag_outside("td", &timer.schedule());
                        html.element("td", &[], |html| {
                            html.tag_outside("code", &timer.command.join(" "));
                        });
                    },
                );
            }
        });
    }
    let details = run_details(run).into_iter();
    let details: Vec<String> = details
        .filter(|line| !line.starts_with("processes.") && !line.starts_with("timers."))
        .collect();
    if !details.is_empty() {
        html.table("Settings of the service", &["Setting", "Value"], |html| {
            for line in details.iter().take(MOST_ROWS) {
                let (name, value) = line.split_once(": ").unwrap_or((line, ""));
                html.row(
                    |html| html.outside(name),
                    |html| html.tag_outside("td", value),
                );
            }
        });
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

fn sizes(html: &mut Html, manifest: &Manifest, survey: &Survey) {
    let mut items: Vec<Item> = Vec::new();
    let mut add = |name: String, size, class| items.push(Item { name, size, class });
    for package in &survey.packages {
        add(package.name.clone(), package.space.size, "m0");
    }
    for one in &survey.distributions {
        add(one.name.clone(), one.space.size, "m1");
    }
    for one in &survey.directories {
        add(format!("/{}", one.path), one.space.size, "m2");
    }
    if survey.rest.size > 0 {
        add("further directories".to_owned(), survey.rest.size, "m3");
    }
    let items = treemap::largest(items);
    let total = ui::size(survey.total.size);
    let label = match items.first() {
        Some(first) => format!(
            "Treemap: {total} in {} files; the largest part is {} with {}. The table below has the \
             same figures.",
            survey.total.files,
            first.name.chars().take(200).collect::<String>(),
            ui::size(first.size)
        ),
        None => "All files of the image are empty.".to_owned(),
    };
    html.open("figure", &[]);
    treemap::show(html, &items, &label);
    html.raw(
        "<figcaption><span class=\"key m0\"></span>Debian packages \
         <span class=\"key m1\"></span>Python distributions \
         <span class=\"key m2\"></span>directories of files that no package brought \
         <span class=\"key m3\"></span>all smaller ones</figcaption></figure>\n",
    );
    html.open("details", &[]);
    html.raw("<summary>The same as a table</summary>\n");
    let caption = format!(
        "Parts of the image by size: {total} in {} files",
        survey.total.files
    );
    html.table(caption, &["Part", "What it is", "#Size"], |html| {
        for item in &items {
            html.row(
                |html| html.outside(&item.name),
                |html| {
                    html.tag(
                        "td",
                        match item.class {
                            "m0" => "Debian package",
                            "m1" => "Python distribution",
                            "m2" => "directory",
                            _ => "several",
                        },
                    );
                    html.number(ui::size(item.size));
                },
            );
        }
    });
    html.close("details");
    let listed = manifest.packages.len() + manifest.wheels.len();
    if listed > 0
        && survey
            .packages
            .iter()
            .all(|package| package.space.files == 0)
    {
        html.raw(
            "<p>The image has no lists of dpkg that say which files its packages brought.</p>\n",
        );
    }
}

fn packages(html: &mut Html, manifest: &Manifest, survey: Option<&Survey>) {
    let known: BTreeMap<&str, _> = survey
        .iter()
        .flat_map(|survey| &survey.packages)
        .map(|package| (package.name.as_str(), package))
        .collect();
    let caption = format!("Debian packages: {}", manifest.packages.len());
    let columns = [
        "Package",
        "Version",
        "Architecture",
        "Source",
        "#Size of its files",
    ];
    html.table(caption, &columns, |html| {
        for package in manifest.packages.iter().take(MOST_ROWS) {
            html.row(
                |html| html.outside(&package.name),
                |html| {
                    html.tag_outside("td", &package.version);
                    html.tag_outside("td", &package.arch);
                    let known = known.get(package.name.as_str());
                    let source = known.map(|known| {
                        if known.source_version == package.version {
                            known.source.clone()
                        } else {
                            format!("{} {}", known.source, known.source_version)
                        }
                    });
                    html.tag_outside("td", &source.unwrap_or_default());
                    html.number(known.map_or_else(String::new, |one| ui::size(one.space.size)));
                },
            );
        }
    });
    left_out(html, manifest.packages.len(), "packages");
    if manifest.wheels.is_empty() {
        return;
    }
    let sizes: BTreeMap<_, _> = survey
        .iter()
        .flat_map(|survey| &survey.distributions)
        .map(|one| ((one.virtualenv.as_str(), one.name.as_str()), one.space.size))
        .collect();
    let caption = format!("Python distributions: {}", manifest.wheels.len());
    let columns = [
        "Distribution",
        "Version",
        "Virtualenv",
        "#Size of its files",
    ];
    html.table(caption, &columns, |html| {
        for wheel in manifest.wheels.iter().take(MOST_ROWS) {
            html.row(
                |html| html.outside(&wheel.name),
                |html| {
                    html.tag_outside("td", &wheel.version);
                    html.tag_outside("td", &wheel.virtualenv);
                    let size = sizes.get(&(wheel.virtualenv.as_str(), wheel.name.as_str()));
                    html.number(size.map_or_else(String::new, |size| ui::size(*size)));
                },
            );
        }
    });
    left_out(html, manifest.wheels.len(), "distributions");
}

fn left_out(html: &mut Html, count: usize, what: &str) {
    let more = count.saturating_sub(MOST_ROWS);
    if more > 0 {
        html.tag(
            "p",
            format_args!("{more} further {what} are left out here."),
        );
    }
}

fn privileges(html: &mut Html, manifest: &Manifest) {
    if manifest.setuid.is_empty() {
        html.raw("<p>No file is setuid or setgid.</p>\n");
    } else {
        let caption = format!("Setuid and setgid files: {}", manifest.setuid.len());
        html.table(caption, &["File", "Mode", "Owner", "Group"], |html| {
            for file in manifest.setuid.iter().take(MOST_ROWS) {
                html.row(
                    |html| html.outside(&format!("/{}", file.path)),
                    |html| {
                        html.tag("td", format_args!("{:04o}", file.mode));
                        let user = manifest.users.iter().find(|user| user.uid == file.uid);
                        let uid = file.uid.to_string();
                        html.tag_outside("td", user.map_or(&uid, |user| &user.name));
                        html.tag("td", file.gid);
                    },
                );
            }
        });
        left_out(html, manifest.setuid.len(), "files");
    }
    if manifest.xattrs.is_empty() {
        html.raw("<p>No file has capabilities or other extended attributes.</p>\n");
        return;
    }
    let caption = format!(
        "Capabilities and other extended attributes of files: {}",
        manifest.xattrs.len()
    );
    html.table(caption, &["File", "Attribute", "Value"], |html| {
        for one in manifest.xattrs.iter().take(MOST_ROWS) {
            html.row(
                |html| html.outside(&format!("/{}", one.path)),
                |html| {
                    html.tag_outside("td", &one.name);
                    html.tag_outside("td", &attribute_words(&one.name, &one.value_hex));
                },
            );
        }
    });
    left_out(html, manifest.xattrs.len(), "attributes");
}

fn users(html: &mut Html, manifest: &Manifest, survey: Option<&Survey>) {
    let caption = format!("Users: {}", manifest.users.len());
    let columns = ["User", "#Number", "#Group", "Home", "Shell"];
    html.table(caption, &columns, |html| {
        for user in manifest.users.iter().take(MOST_ROWS) {
            html.row(
                |html| html.outside(&user.name),
                |html| {
                    html.number(user.uid);
                    html.number(user.gid);
                    html.tag_outside("td", &user.home);
                    html.tag_outside("td", &user.shell);
                },
            );
        }
    });
    left_out(html, manifest.users.len(), "users");
    let Some(survey) = survey else { return };
    let caption = format!("Groups: {}", survey.groups.len());
    html.table(caption, &["Group", "#Number", "Further members"], |html| {
        for group in survey.groups.iter().take(MOST_ROWS) {
            html.row(
                |html| html.outside(&group.name),
                |html| {
                    html.number(group.gid);
                    html.tag_outside("td", &group.members.join(", "));
                },
            );
        }
    });
    left_out(html, survey.groups.len(), "groups");
}

/// Says of which manifest the rest is, where there are several.
fn of_manifest(html: &mut Html, all: &[Described], one: &Described) {
    if all.len() > 1 {
        let (name, digest) = (&one.manifest.name, &one.digest);
        html.tag("h3", format_args!("As {name}, manifest {digest:.12}"));
    }
}

fn said(html: &mut Html, one: &Described) {
    if one.said.is_empty() {
        html.raw("<p>Nobody whose key has a name here says anything about it.</p>\n");
    } else {
        let columns = ["What", "By", "When", "In words"];
        html.table(
            "What is signed about this image and its manifest",
            &columns,
            |html| {
                for said in &one.said {
                    let attestation = &said.attestation;
                    let what = attestation.kind.map(Kind::name);
                    html.row(
                        |html| html.outside(what.unwrap_or(&attestation.predicate_type)),
                        |html| {
                            html.tag_outside("td", &said.by.join(", "));
                            html.element("td", &[], |html| {
                                let time =
                                    attestation.time().and_then(|time| i64::try_from(time).ok());
                                match time.map(Timestamp::from_second) {
                                    Some(Ok(time)) => html.day(time),
                                    _ => html.text("not said"),
                                }
                            });
                            html.tag_outside("td", &in_words(attestation));
                        },
                    );
                }
            },
        );
    }
    if !one.unknown.is_empty() {
        html.tag(
            "p",
            format_args!(
                "Not counted: {} that keys without a name here have signed.",
                one.unknown.len()
            ),
        );
        html.table("Signed by unknown keys", &["What", "Key"], |html| {
            for (kind, ids) in one.unknown.iter().take(MOST_FINDINGS) {
                html.row(
                    |html| html.outside(kind),
                    |html| html.tag_outside("td", ids),
                );
            }
        });
    }
}

/// What an attestation says, in a line.
fn in_words(attestation: &Attestation) -> String {
    let predicate = &attestation.predicate;
    let text = |at: &str| {
        predicate
            .pointer(at)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let count = |at: &str| {
        predicate
            .pointer(at)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    match attestation.kind {
        Some(Kind::Provenance) => {
            let inputs = count("/buildDefinition/resolvedDependencies");
            let started = text("/runDetails/metadata/startedOn");
            match text("/buildDefinition/buildType") {
                "urn:imgbuild:import:1" => format!("imported, begun at {started}"),
                "urn:imgbuild:build:1" => {
                    format!("built of {inputs} inputs that its lock names, begun at {started}")
                }
                other => format!("{other}, of {inputs} inputs, begun at {started}"),
            }
        }
        Some(Kind::TestResult) => {
            let passed = count("/passedTests");
            format!("result {}; tests that passed: {passed}", text("/result"))
        }
        Some(Kind::Rebuild) => format!("the same bytes again, by {}", text("/builder")),
        Some(Kind::Approval) => {
            let comment = text("/comment");
            let env = text("/environment");
            match comment {
                "" => format!("for {env}"),
                comment => format!("for {env}: {comment}"),
            }
        }
        Some(Kind::Audit) => attestation.audit().map_or_else(
            || "unreadable".to_owned(),
            |audit| audit_notice(&audit).text,
        ),
        None => String::new(),
    }
}

fn audit(html: &mut Html, one: &Described) {
    let Some((audit, said)) = one.newest_audit() else {
        html.raw(
            "<p>No audit of it is signed by a key that has a name here. Whoever has one makes it \
             with <code>imgbuild audit --sign</code>.</p>\n",
        );
        return;
    };
    html.element("p", &[], |html| {
        html.text(format_args!(
            "As of {}, by ",
            rfc3339(audit.as_of).unwrap_or_default()
        ));
        html.outside(&said.by.join(", "));
        html.text(".");
    });
    findings(
        html,
        "Sources with pending security updates",
        &audit.pending,
    );
    if audit.has_advisories {
        findings(html, "Advisories that fit", &audit.advisories);
    } else {
        html.raw("<p>It was not compared with advisories.</p>\n");
    }
}

pub(super) fn findings(html: &mut Html, what: &str, all: &[Finding]) {
    if all.is_empty() {
        html.tag("p", format_args!("{what}: none."));
        return;
    }
    let caption = format!("{what}: {}", all.len());
    html.table(caption, &["Package", "Severity", "Ids"], |html| {
        for finding in all.iter().take(MOST_FINDINGS) {
            html.row(
                |html| html.outside(&finding.package),
                |html| {
                    let worst = finding.issues.iter().map(|issue| issue.severity).max();
                    html.tag("td", worst.unwrap_or_default().name());
                    let ids = finding.issues.iter().filter_map(|issue| issue.ids.first());
                    let ids: Vec<&str> = ids.map(String::as_str).collect();
                    html.tag_outside("td", &ids.join(" "));
                },
            );
        }
    });
    let more = all.len().saturating_sub(MOST_FINDINGS);
    if more > 0 {
        html.tag("p", format_args!("{more} further ones are left out here."));
    }
}
