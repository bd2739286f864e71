//! A page of two images side by side.

use std::fmt::Write as _;

use common::clock::rfc3339;
use store::Manifest;

use super::document::{self, PROGRAM, Place, heading};
use super::html::Html;
use crate::inspect::compare::{
    Change, FileChange, Privilege, Report, came_along, describe, service_changes, signed,
};
use crate::ui;

/// Changed files that a page lists.
const MOST_FILES: usize = 500;

/// Rows of any other table.
const MOST_ROWS: usize = 2000;

/// Where the page of two manifests is, by their digests.
pub(super) fn path(old: &str, new: &str) -> String {
    format!("diff/{old}-{new}.html")
}

/// The report in a line.
pub(super) fn summary(report: &Report) -> String {
    let mut parts = Vec::new();
    let changes = |what: &str, all: &mut dyn Iterator<Item = (bool, bool)>| {
        let (mut added, mut removed, mut changed) = (0_u64, 0_u64, 0_u64);
        for (old, new) in all {
            match (old, new) {
                (false, _) => added += 1,
                (_, false) => removed += 1,
                _ => changed += 1,
            }
        }
        let counts = [(added, "added"), (removed, "removed"), (changed, "changed")];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        (!counts.is_empty()).then(|| format!("{what}: {}", counts.join(", ")))
    };
    let packages = &mut report
        .packages
        .iter()
        .map(|p| (p.old.is_some(), p.new.is_some()));
    parts.extend(changes("packages", packages));
    let wheels = &mut report
        .wheels
        .iter()
        .map(|w| (w.old.is_some(), w.new.is_some()));
    parts.extend(changes("Python distributions", wheels));
    let totals = &report.totals;
    match totals.added + totals.removed + totals.changed {
        0 if report.equal => parts.push("the same files, byte for byte".to_owned()),
        0 => parts.push("only times of files differ".to_owned()),
        1 => parts.push("1 file differs".to_owned()),
        files => parts.push(format!("{files} files differ")),
    }
    if report.service.is_some() {
        parts.push("run in another way".to_owned());
    }
    parts.join("; ")
}

/// The whole page.
pub(super) fn page(report: &Report, old: &Manifest, new: &Manifest) -> String {
    let mut html = Html::default();
    let mut sections: Vec<(&'static str, String)> = Vec::new();
    let mut section = |html: &mut Html, anchor: &'static str, title: String| {
        heading(html, anchor, &title);
        sections.push((anchor, title));
    };
    html.tag("p", summary(report));
    section(&mut html, "images", "The two images".to_owned());
    images(&mut html, report, old, new);
    if !report.packages.is_empty() {
        let title = format!("Packages ({})", report.packages.len());
        section(&mut html, "packages", title);
        packages(&mut html, report);
    }
    if !report.wheels.is_empty() {
        let title = format!("Python distributions ({})", report.wheels.len());
        section(&mut html, "python", title);
        wheels(&mut html, report);
    }
    if report.service.is_some() {
        section(&mut html, "run", "How they are run".to_owned());
        run(&mut html, old, new);
    }
    if !report.privileged.is_empty() {
        let title = format!("Privileged files ({})", report.privileged.len());
        section(&mut html, "privileges", title);
        privileges(&mut html, report);
    }
    if !report.users.is_empty() {
        let title = format!("Users ({})", report.users.len());
        section(&mut html, "users", title);
        users(&mut html, report);
    }
    if report.totals.found() > 0 {
        let totals = &report.totals;
        let count = totals.added + totals.removed + totals.changed;
        section(&mut html, "files", format!("Files ({count})"));
        files(&mut html, report);
    }
    let title = format!(
        "{} {:.12} and {} {:.12}",
        old.name,
        old.image.hex(),
        new.name,
        new.image.hex()
    );
    let footer = |html: &mut Html| html.tag("p", format_args!("Written by {PROGRAM}."));
    document::page(Place::Folder, &title, &sections, footer, &html)
}

/// What happened to something, in a word.
fn word(html: &mut Html, change: Change) {
    let (class, text) = match change {
        Change::Added => ("word added", "added"),
        Change::Removed => ("word removed", "removed"),
        Change::Changed => ("word changed", "changed"),
    };
    html.element("span", &[("class", class)], |html| html.text(text));
}

fn change<T, U>(old: Option<&T>, new: Option<&U>) -> Change {
    match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        _ => Change::Changed,
    }
}

fn images(html: &mut Html, report: &Report, old: &Manifest, new: &Manifest) {
    let totals = &report.totals;
    let time = |epoch: u64| rfc3339(epoch).unwrap_or_else(|| epoch.to_string());
    let columns = ["Field", "Change", "Before", "After"];
    html.table("What both manifests say", &columns, |html| {
        let mut row = |name: &str, one: String, other: String| {
            html.row(
                |html| html.text(name),
                |html| {
                    html.element("td", &[], |html| {
                        if one != other {
                            word(html, Change::Changed);
                        }
                    });
                    for value in [one, other] {
                        html.element("td", &[], |html| {
                            if value.starts_with("sha256:") {
                                html.tag_outside("code", &value);
                            } else {
                                html.outside(&value);
                            }
                        });
                    }
                },
            );
        };
        row("Name", old.name.to_string(), new.name.to_string());
        row("Suite", old.suite.clone(), new.suite.clone());
        row("Architecture", old.arch.clone(), new.arch.clone());
        row("Recipe", old.recipe.to_string(), new.recipe.to_string());
        row("Lock", old.lock.to_string(), new.lock.to_string());
        row("Builder", old.builder.clone(), new.builder.clone());
        row("No file is younger than", time(old.epoch), time(new.epoch));
        row("Size", ui::size(old.size), ui::size(new.size));
        row("Entries", old.entries.to_string(), new.entries.to_string());
        row(
            "Content of files",
            ui::size(totals.content.old),
            ui::size(totals.content.new),
        );
        html.row(
            |html| html.text("Page of the image"),
            |html| {
                html.raw("<td></td>");
                for manifest in [old, new] {
                    html.element("td", &[], |html| {
                        let hex = manifest.image.hex();
                        html.link(&format!("../image/{hex}.html"), &hex[..12]);
                    });
                }
            },
        );
    });
}

/// How many rows were left out.
fn left_out(html: &mut Html, count: usize, what: &str) {
    if count > 0 {
        html.tag(
            "p",
            format_args!("{count} further {what} are left out here."),
        );
    }
}

fn packages(html: &mut Html, report: &Report) {
    let columns = [
        "Package",
        "Change",
        "Before",
        "After",
        "#Files that differ",
        "#Growth",
    ];
    html.table("Debian packages that are not the same", &columns, |html| {
        for package in report.packages.iter().take(MOST_ROWS) {
            html.row(
                |html| {
                    html.outside(&package.name);
                    html.text(":");
                    html.outside(&package.architecture);
                },
                |html| {
                    let (old, new) = (package.old.as_ref(), package.new.as_ref());
                    html.element("td", &[], |html| word(html, change(old, new)));
                    html.tag_outside("td", old.map_or("", String::as_str));
                    html.tag_outside("td", new.map_or("", String::as_str));
                    html.number(package.files);
                    html.number(signed(package.growth));
                },
            );
        }
    });
    left_out(
        html,
        report.packages.len().saturating_sub(MOST_ROWS),
        "packages",
    );
}

fn wheels(html: &mut Html, report: &Report) {
    let columns = [
        "Distribution",
        "Virtualenv",
        "Change",
        "Before",
        "After",
        "#Files that differ",
        "#Growth",
    ];
    html.table(
        "Python distributions that are not the same",
        &columns,
        |html| {
            for wheel in report.wheels.iter().take(MOST_ROWS) {
                html.row(
                    |html| html.outside(&wheel.name),
                    |html| {
                        let (old, new) = (wheel.old.as_ref(), wheel.new.as_ref());
                        html.tag_outside("td", &wheel.virtualenv);
                        html.element("td", &[], |html| word(html, change(old, new)));
                        html.tag_outside("td", old.map_or("", String::as_str));
                        html.tag_outside("td", new.map_or("", String::as_str));
                        html.number(wheel.files);
                        html.number(signed(wheel.growth));
                    },
                );
            }
        },
    );
    left_out(
        html,
        report.wheels.len().saturating_sub(MOST_ROWS),
        "distributions",
    );
}

fn run(html: &mut Html, old: &Manifest, new: &Manifest) {
    let changes = service_changes(old.run.as_ref(), new.run.as_ref());
    run_changes(html, "Values that are not the same", &changes);
}

/// Values of what is run that are not the same in two manifests.
pub(super) fn run_changes(
    html: &mut Html,
    caption: &str,
    changes: &[crate::inspect::compare::ValueChange],
) {
    html.table(caption, &["Value", "Change", "Before", "After"], |html| {
        for (name, old, new) in changes.iter().take(MOST_ROWS) {
            html.row(
                |html| html.outside(name),
                |html| {
                    html.element("td", &[], |html| {
                        word(html, change(old.as_ref(), new.as_ref()));
                    });
                    html.tag_outside("td", old.as_deref().unwrap_or_default());
                    html.tag_outside("td", new.as_deref().unwrap_or_default());
                },
            );
        }
    });
    left_out(html, changes.len().saturating_sub(MOST_ROWS), "values");
}

fn privileges(html: &mut Html, report: &Report) {
    let words = |privilege: Option<&Privilege>| {
        let Some(privilege) = privilege else {
            return String::new();
        };
        let mut text = format!("{:04o} {}:{}", privilege.mode, privilege.uid, privilege.gid);
        for (name, value) in &privilege.xattrs {
            let value = super::image::attribute_words(name, value);
            let _ = write!(text, " {name}: {value}");
        }
        text
    };
    let caption =
        "Setuid and setgid files, and files with extended attributes, that are not the same";
    html.table(caption, &["File", "Change", "Before", "After"], |html| {
        for file in report.privileged.iter().take(MOST_ROWS) {
            html.row(
                |html| html.outside(&format!("/{}", file.path)),
                |html| {
                    let (old, new) = (file.old.as_ref(), file.new.as_ref());
                    html.element("td", &[], |html| word(html, change(old, new)));
                    html.tag_outside("td", &words(old));
                    html.tag_outside("td", &words(new));
                },
            );
        }
    });
    left_out(
        html,
        report.privileged.len().saturating_sub(MOST_ROWS),
        "files",
    );
}

fn users(html: &mut Html, report: &Report) {
    let words = |user: Option<&store::manifest::User>| {
        user.map_or_else(String::new, |user| {
            format!("{}:{} {} {}", user.uid, user.gid, user.home, user.shell)
        })
    };
    html.table(
        "Accounts that are not the same",
        &["User", "Change", "Before", "After"],
        |html| {
            for user in report.users.iter().take(MOST_ROWS) {
                html.row(
                    |html| html.outside(&user.name),
                    |html| {
                        let (old, new) = (user.old.as_ref(), user.new.as_ref());
                        html.element("td", &[], |html| word(html, change(old, new)));
                        html.tag_outside("td", &words(old));
                        html.tag_outside("td", &words(new));
                    },
                );
            }
        },
    );
    left_out(html, report.users.len().saturating_sub(MOST_ROWS), "users");
}

/// Files that came with a changed package are counted there; what else changed comes first.
fn files(html: &mut Html, report: &Report) {
    let totals = &report.totals;
    let growth = totals.content.new.cast_signed() - totals.content.old.cast_signed();
    html.tag(
        "p",
        format_args!(
            "{} added, {} removed, {} changed, {} the same; content {}.",
            totals.added,
            totals.removed,
            totals.changed,
            totals.same,
            signed(growth)
        ),
    );
    if totals.retimed > 0 {
        html.tag(
            "p",
            format_args!("Of {} more only the time differs.", totals.retimed),
        );
    }
    let (along, own): (Vec<&FileChange>, Vec<&FileChange>) = report
        .files
        .iter()
        .partition(|file| came_along(report, file));
    if !along.is_empty() {
        html.tag(
            "p",
            format_args!(
                "{} of them came with packages and distributions that are in the tables above, and \
                 stand last.",
                along.len()
            ),
        );
    }
    let listed = own.len() + along.len();
    if listed == 0 {
        return;
    }
    let columns = ["File", "Change", "What", "Package"];
    html.table(
        "Files, directories and links that are not the same",
        &columns,
        |html| {
            for file in own.into_iter().chain(along).take(MOST_FILES) {
                let (path, what) = describe(file);
                html.row(
                    |html| html.outside(&format!("/{path}")),
                    |html| {
                        html.element("td", &[], |html| word(html, file.change));
                        html.tag_outside("td", &what);
                        let owner = file.owner.as_ref().map(ToString::to_string);
                        html.tag_outside("td", &owner.unwrap_or_default());
                    },
                );
            }
        },
    );
    let unnamed = usize::try_from(totals.unnamed).unwrap_or(usize::MAX);
    let more = listed.saturating_sub(MOST_FILES).saturating_add(unnamed);
    left_out(html, more, "files");
    if more > 0 {
        html.raw("<p>All of them: <code>imgbuild diff --files</code>.</p>\n");
    }
}
