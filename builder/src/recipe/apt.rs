//! What a recipe says to apt.

use std::fmt::Write as _;

use super::{Bootstrap, Moment, PackageSpec, Packages, Recipe, Source};

/// How a lock names an archive as it was at some moment.
fn dated(archive: &str, snapshot: Option<&Moment>) -> String {
    match snapshot {
        Some(moment) => format!("{archive}@{moment}"),
        None => archive.to_owned(),
    }
}

impl Bootstrap {
    /// The archive, as a lock names it.
    pub fn archive_name(&self) -> String {
        dated("debian", self.snapshot.as_ref())
    }
}

impl Source {
    /// The archive, as a lock names it.
    pub fn archive_name(&self) -> String {
        dated(self.archive.as_str(), self.snapshot.as_ref())
    }
}

impl Recipe {
    /// The recipe's package groups, with those that other sections imply.
    pub fn package_groups(&self) -> Vec<Packages> {
        let mut groups = self.packages.clone();
        if self.virtualenvs.iter().any(|v| v.wrapper) {
            groups.push(Packages {
                install: vec![PackageSpec::known("virtualenvwrapper")],
                recommends: false,
                target_release: None,
                debs: Vec::new(),
                debconf: Vec::new(),
                hold: Vec::new(),
                purge: Vec::new(),
            });
        }
        groups
    }

    /// apt's preferences: the recipe's own, and the priorities of its archives.
    pub fn apt_preferences(&self) -> String {
        let own = self.apt.preferences.as_ref();
        let mut text = own.map(ToString::to_string).unwrap_or_default();
        for source in &self.sources {
            if let Some(priority) = source.priority {
                let _ = write!(
                    text,
                    "\n\nPackage: *\nPin: release n={}\nPin-Priority: {priority}\n",
                    source.suite
                );
            }
        }
        text
    }
}
