//! What is in an image and what it runs.

use std::collections::BTreeMap;

use store::Manifest;
use store::manifest::Run;

use super::MOST_ROWS;
use crate::inspect::compare::run_details;
use crate::inspect::survey::Survey;
use crate::page::capability;
use crate::page::html::Html;
use crate::page::treemap::{self, Item};
use crate::ui;

/// An extended attribute in words where it is known, else as it is.
pub(in crate::page) fn attribute_words(name: &str, value_hex: &str) -> String {
    let words = (name == capability::ATTRIBUTE).then(|| capability::words(value_hex));
    words.flatten().unwrap_or_else(|| format!("0x{value_hex}"))
}

pub(super) fn run(html: &mut Html, run: Option<&Run>) {
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
    let shown_elsewhere = ["processes.", "timers.", "fences."];
    let details = run_details(run).into_iter();
    let mut details: Vec<String> = details
        .filter(|line| !shown_elsewhere.iter().any(|begin| line.starts_with(begin)))
        .collect();
    let fences = run.fences.lines().into_iter();
    details.extend(fences.map(|line| format!("fence: {line}")));
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

pub(super) fn sizes(html: &mut Html, manifest: &Manifest, survey: &Survey) {
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

pub(super) fn packages(html: &mut Html, manifest: &Manifest, survey: Option<&Survey>) {
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

pub(super) fn privileges(html: &mut Html, manifest: &Manifest) {
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

pub(super) fn users(html: &mut Html, manifest: &Manifest, survey: Option<&Survey>) {
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
