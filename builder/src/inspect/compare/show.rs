//! A report for people: totals first, then group by group.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use common::clock::rfc3339;
use serde_json::Value;
use store::manifest::Run;

use super::owners::came_along;
use super::report::{
    Change, FileChange, FileType, Kind, Looks, Privilege, PrivilegeChange, Report, UserChange,
};
use crate::ui;

/// How much of a report is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Also the files of packages and distributions that came, went or have
    /// another version: otherwise those are counted.
    pub every_file: bool,
}

/// Writes the report line by line.
pub fn show(report: &Report, how: How, line: &mut dyn FnMut(&str)) {
    // What an image says must not reach a terminal as more than text.
    let mut line = |text: &str| line(&printable(text));
    if report.equal {
        line(&format!("{}: the same image", report.old.image));
    }
    totals(report, &mut line);
    let mut heading = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            line("");
            line(title);
            for text in lines {
                line(&format!("  {text}"));
            }
        }
    };
    let packages = report.packages.iter().map(|p| {
        let name = format!("{}:{}", p.name, p.architecture);
        version(&name, p.old.as_ref(), p.new.as_ref(), p.files, p.growth)
    });
    heading("packages", packages.collect());
    let wheels = report.wheels.iter().map(|w| {
        let name = format!("{} in {}", w.name, w.virtualenv);
        version(&name, w.old.as_ref(), w.new.as_ref(), w.files, w.growth)
    });
    heading("virtualenvs", wheels.collect());
    heading("users", report.users.iter().map(user).collect());
    if let Some(service) = &report.service {
        let lines = service_lines(service.old.as_ref(), service.new.as_ref());
        heading("service", lines);
    }
    heading(
        "privileges",
        report.privileged.iter().map(privilege).collect(),
    );
    let mut files = Vec::new();
    let mut hidden = 0;
    for file in &report.files {
        // Whatever somebody else than the upgraded package changed is shown.
        if !how.every_file && came_along(report, file) {
            hidden += 1;
            continue;
        }
        files.push(line_of(file));
        let text = file.text.as_deref().unwrap_or_default();
        files.extend(text.lines().map(|l| format!("      {l}")));
    }
    if hidden > 0 {
        files.push(format!(
            "{hidden} files of the packages above (--files lists them)"
        ));
    }
    if report.totals.unnamed > 0 {
        files.push(format!("and {} more", report.totals.unnamed));
    }
    heading("files", files);
}

fn totals(report: &Report, line: &mut dyn FnMut(&str)) {
    let totals = &report.totals;
    for (title, image, size, entries) in [
        ("old", &report.old, totals.size.old, totals.entries.old),
        ("new", &report.new, totals.size.new, totals.entries.new),
    ] {
        line(&format!(
            "{title:<9} {} {} ({} {}): {} in {entries} entries",
            image.image,
            image.name,
            image.suite,
            image.architecture,
            ui::size(size)
        ));
    }
    if report.equal {
        return;
    }
    let growth = totals.content.new.cast_signed() - totals.content.old.cast_signed();
    line(&format!(
        "files     {} added, {} removed, {} changed, {} the same; content {}",
        totals.added,
        totals.removed,
        totals.changed,
        totals.same,
        signed(growth)
    ));
    if totals.retimed > 0 {
        line(&format!(
            "          {} more only have the time of the other lock's epoch",
            totals.retimed
        ));
    }
    for (title, changes) in [
        (
            "packages",
            ways(report.packages.iter().map(|p| (&p.old, &p.new))),
        ),
        (
            "wheels",
            ways(report.wheels.iter().map(|w| (&w.old, &w.new))),
        ),
    ] {
        if let [added, removed, changed] = changes
            && added + removed + changed > 0
        {
            line(&format!(
                "{title:<9} {added} added, {removed} removed, {changed} in another version"
            ));
        }
    }
}

/// How many came, went, and changed.
fn ways<'a>(changes: impl Iterator<Item = (&'a Option<String>, &'a Option<String>)>) -> [u64; 3] {
    let mut ways = [0; 3];
    for change in changes {
        match change {
            (None, _) => ways[0] += 1,
            (_, None) => ways[1] += 1,
            _ => ways[2] += 1,
        }
    }
    ways
}

fn version(
    name: &str,
    old: Option<&String>,
    new: Option<&String>,
    files: u64,
    growth: i64,
) -> String {
    let what = match (old, new) {
        (Some(old), Some(new)) => format!("~ {name} {old} -> {new}"),
        (Some(old), None) => format!("- {name} {old}"),
        (None, new) => format!("+ {name} {}", new.map_or("", String::as_str)),
    };
    format!("{what}  ({files} files, {})", signed(growth))
}

fn user(change: &UserChange) -> String {
    let words = |user: &store::manifest::User| {
        format!("{}:{} {} {}", user.uid, user.gid, user.home, user.shell)
    };
    either(
        &change.name,
        change.old.as_ref(),
        change.new.as_ref(),
        words,
    )
}

fn privilege(change: &PrivilegeChange) -> String {
    let words = |privilege: &Privilege| {
        let mut text = format!("{:04o} {}:{}", privilege.mode, privilege.uid, privilege.gid);
        for (name, value) in &privilege.xattrs {
            let _ = write!(text, " {name}={value}");
        }
        text
    };
    either(
        &change.path,
        change.old.as_ref(),
        change.new.as_ref(),
        words,
    )
}

fn either<T>(name: &str, old: Option<&T>, new: Option<&T>, words: impl Fn(&T) -> String) -> String {
    match (old.map(&words), new.map(&words)) {
        (Some(old), Some(new)) => format!("~ {name}  {old} -> {new}"),
        (Some(old), None) => format!("- {name}  {old}"),
        (None, new) => format!("+ {name}  {}", new.unwrap_or_default()),
    }
}

/// One line about a changed file.
fn line_of(file: &FileChange) -> String {
    let owner = match &file.owner {
        Some(owner) => format!("  [{owner}]"),
        None => String::new(),
    };
    let (path, what) = describe(file);
    match file.change {
        Change::Changed => format!("~ {path}  {what}{owner}"),
        Change::Removed => format!("- {path}{owner}"),
        Change::Added if what.is_empty() => format!("+ {path}{owner}"),
        Change::Added => format!("+ {path}  {what}{owner}"),
    }
}

/// The path of a changed file, a directory's with its slash, and what changed about it: of an
/// added file the size.
pub(crate) fn describe(file: &FileChange) -> (String, String) {
    let slash = |looks: &Looks| matches!(looks.kind, FileType::Directory);
    let looks = file.new.as_ref().or(file.old.as_ref());
    let path = if looks.is_some_and(slash) {
        format!("{}/", file.path)
    } else {
        file.path.clone()
    };
    let what = match (&file.change, &file.old, &file.new) {
        (Change::Changed, Some(old), Some(new)) => {
            let details: Vec<String> = file.kinds.iter().map(|k| detail(*k, old, new)).collect();
            details.join(", ")
        }
        (Change::Removed, ..) => String::new(),
        _ => {
            let file = looks.filter(|l| l.kind == FileType::File);
            file.map_or(String::new(), |l| ui::size(l.size))
        }
    };
    (path, what)
}

fn detail(kind: Kind, old: &Looks, new: &Looks) -> String {
    let word = kind.word();
    match kind {
        Kind::Content | Kind::Order => word.to_owned(),
        Kind::Type => format!("{word} {} -> {}", kind_word(old), kind_word(new)),
        Kind::Size => {
            let growth = new.size.cast_signed() - old.size.cast_signed();
            format!("{word} {}", signed(growth))
        }
        Kind::Mode => format!("{word} {:04o} -> {:04o}", old.mode, new.mode),
        Kind::Owner => format!("{word} {}:{} -> {}:{}", old.uid, old.gid, new.uid, new.gid),
        Kind::Mtime => format!("{word} {} -> {}", time(old.mtime), time(new.mtime)),
        Kind::Xattr => {
            let all = old.xattrs.keys().chain(new.xattrs.keys());
            let mut names: Vec<&str> = all
                .filter(|name| old.xattrs.get(*name) != new.xattrs.get(*name))
                .map(String::as_str)
                .collect();
            names.sort_unstable();
            names.dedup();
            format!("{word} {}", names.join(" "))
        }
        Kind::LinkTarget => {
            let target = |looks: &Looks| looks.target.clone().unwrap_or_default();
            format!("{word} {} -> {}", target(old), target(new))
        }
    }
}

fn kind_word(looks: &Looks) -> &'static str {
    match looks.kind {
        FileType::Directory => "directory",
        FileType::File => "file",
        FileType::Symlink => "link",
        FileType::Hardlink => "hard link",
    }
}

fn time(seconds: u64) -> String {
    rfc3339(seconds).unwrap_or_else(|| seconds.to_string())
}

/// A difference of bytes with its sign.
pub(crate) fn signed(growth: i64) -> String {
    let sign = if growth < 0 { '-' } else { '+' };
    format!("{sign}{}", ui::size(growth.unsigned_abs()))
}

/// The text without what a terminal would take for an order.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let shown: Vec<char> = if c.is_control() && c != '\t' {
                c.escape_default().collect()
            } else {
                vec![c]
            };
            shown
        })
        .collect()
}

/// A value of what is run, and what it was and is; none where there is no such value.
pub(crate) type ValueChange = (String, Option<String>, Option<String>);

/// The values that are not the same, by name.
pub(crate) fn service_changes(old: Option<&Run>, new: Option<&Run>) -> Vec<ValueChange> {
    let (olds, news) = (values(old), values(new));
    let names: BTreeSet<&String> = olds.keys().chain(news.keys()).collect();
    let change = |name: &String| {
        (
            name.clone(),
            olds.get(name).cloned(),
            news.get(name).cloned(),
        )
    };
    let changes = names.into_iter().map(change);
    changes.filter(|(_, old, new)| old != new).collect()
}

/// What is run otherwise, a line for each value that changed.
fn service_lines(old: Option<&Run>, new: Option<&Run>) -> Vec<String> {
    let changes = service_changes(old, new).into_iter();
    let line = |(name, old, new): ValueChange| match (old, new) {
        (Some(old), Some(new)) => format!("~ {name}: {old} -> {new}"),
        (Some(old), None) => format!("- {name}: {old}"),
        (None, new) => format!("+ {name}: {}", new.unwrap_or_default()),
    };
    changes.map(line).collect()
}

/// What is run besides the start command, a line for each value.
pub fn run_details(run: &Run) -> Vec<String> {
    let beside = |name: &String| !["start", "user"].contains(&name.as_str());
    let values = values(Some(run)).into_iter();
    let values = values.filter(|(name, _)| beside(name));
    values
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

/// Every value of a manifest's `run` by its name: `health.http`, `/up`.
fn values(run: Option<&Run>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Some(run) = run {
        let value = serde_json::to_value(run).expect("it has a JSON form");
        collect("", &value, &mut found);
    }
    found
}

fn collect(name: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                collect(&format!("{name}{dot}{field}"), value, found);
            }
            return;
        }
        Value::Array(words) if words.is_empty() => return,
        // Processes, each with its name.
        Value::Array(items) if items.iter().all(Value::is_object) => {
            for item in items {
                let own = item["name"].as_str().unwrap_or_default();
                collect(&format!("{name}.{own}"), item, found);
            }
            return;
        }
        Value::Array(words) => {
            let words = words.iter().map(|word| match word {
                Value::String(word) => word.clone(),
                other => other.to_string(),
            });
            words.collect::<Vec<_>>().join(" ")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    found.insert(name.to_owned(), text);
}
