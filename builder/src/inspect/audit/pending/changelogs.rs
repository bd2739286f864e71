//! Changelogs of packages that a security archive has, read from the packages themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use store::WritableStore;

use super::{ARCHIVE, Group, SecurityArchive, deb};
use crate::atomic_file;
use crate::atomic_file::remove;
use crate::error::{Context, ErrorKind, Result};
use crate::inspect::audit::changelog::Changelog;
use crate::inspect::audit::report::Datum;
use crate::lock::resolve::apt::Offered;
use crate::lockfile::Deb;
use crate::mirror::{self, Content};
use crate::ui::Ui;

/// How many packages of a source are looked into for its changelog.
const ATTEMPTS: usize = 4;

impl SecurityArchive<'_> {
    /// The changelog of each group, in their order, where one could be read.
    pub(super) fn changelogs(
        &self,
        groups: &BTreeMap<String, Group<'_>>,
        data: &mut Vec<Datum>,
        notes: &mut Vec<String>,
        ui: &mut Ui,
    ) -> Result<Vec<Option<Changelog>>> {
        let kept = self.dir.join("changelogs");
        fs::create_dir_all(&kept).context(|| format!("cannot make {}", kept.display()))?;
        let mut found: BTreeMap<&str, (Changelog, &Offered)> = BTreeMap::new();
        let mut missing: Vec<(&str, &Offered)> = Vec::new();
        for (source, group) in groups {
            let read = group.packages.iter().find_map(|offered| {
                let text = fs::read_to_string(kept.join(offered.sha256.hex())).ok()?;
                Some((Changelog::from_text(&text)?, *offered))
            });
            match (read, group.packages.first()) {
                (Some(read), _) => drop(found.insert(source, read)),
                (None, Some(first)) => missing.push((source, first)),
                (None, None) => {}
            }
        }
        for attempt in 1..=ATTEMPTS {
            if missing.is_empty() || self.offline {
                break;
            }
            let mut next = Vec::new();
            for (source, offered, looked) in self.fetch(&missing, notes, ui)? {
                let packages = &groups[source].packages;
                match looked {
                    Looked::Changelog(log) => {
                        let path = kept.join(offered.sha256.hex());
                        atomic_file::replace(&path, log.to_text())
                            .context(|| format!("cannot write {}", path.display()))?;
                        found.insert(source, (log, offered));
                    }
                    // Its documentation is that of another package of the source.
                    Looked::Elsewhere(name) => {
                        let named = packages.iter().find(|other| other.package.name == name);
                        next.extend(named.map(|other| (source, *other)));
                    }
                    Looked::Nothing => {
                        next.extend(packages.get(attempt).map(|other| (source, *other)));
                    }
                }
            }
            missing = next;
        }
        let logs = groups.keys().map(|source| {
            let (log, offered) = found.remove(source.as_str())?;
            data.push(Datum {
                kind: "changelog",
                name: format!("{source} in {}", offered.path),
                sha256: offered.sha256.hex(),
                date: None,
            });
            Some(log)
        });
        Ok(logs.collect())
    }

    /// Fetches packages, and looks for their changelogs. What cannot be fetched
    /// takes nothing from what was found: the update is pending all the same.
    fn fetch<'o>(
        &self,
        missing: &[(&'o str, &'o Offered)],
        notes: &mut Vec<String>,
        ui: &mut Ui,
    ) -> Result<Vec<(&'o str, &'o Offered, Looked)>> {
        let scratch = self.scratch()?;
        let store = WritableStore::open_or_create(scratch.join("store"))
            .context(|| format!("cannot use {}", scratch.display()))?;
        let inputs = store.inputs();
        let debs: Vec<Deb> = missing
            .iter()
            .map(|(_, offered)| deb(ARCHIVE, offered))
            .collect();
        let mut phase = ui.phase("fetch changelogs");
        let total = debs.iter().map(|deb| deb.size).sum();
        let mut done = 0;
        let ran = self.download(&debs, &inputs, &scratch, &mut |bytes| {
            done += bytes;
            phase.progress(done, total, crate::ui::Unit::Bytes);
        });
        phase.finish(&format!("{} packages", debs.len()));
        if let Err(error) = ran {
            if error.kind() == ErrorKind::Interrupted {
                return Err(error);
            }
            let causes = error.causes().join("; ");
            notes.push(format!(
                "not every changelog could be fetched: {error}: {causes}"
            ));
        }
        let mut found = Vec::new();
        for (source, offered) in missing {
            let path = inputs.path(&offered.sha256);
            if !path.is_file() {
                continue;
            }
            match look(&path, source, &offered.package.name) {
                Ok(looked) => found.push((*source, *offered, looked)),
                Err(error) => notes.push(error.to_string()),
            }
        }
        drop(store);
        remove(&scratch)?;
        Ok(found)
    }
}

/// What a package was found to have.
pub(in crate::inspect::audit) enum Looked {
    Changelog(Changelog),
    /// Its documentation is the one of that package.
    Elsewhere(String),
    Nothing,
}

/// Looks for the changelog of a package, which is of a source.
pub(in crate::inspect::audit) fn look(deb: &Path, source: &str, package: &str) -> Result<Looked> {
    let folder = format!("usr/share/doc/{package}");
    // Of a native package there is one alone; else the second one is another project's.
    for file in ["changelog.Debian.gz", "changelog.gz"] {
        let paths = [folder.clone(), format!("{folder}/{file}")];
        let text = match mirror::content_of(deb, &paths)? {
            Some(Content::File(text)) => text,
            Some(Content::Link(target)) => {
                let name = target
                    .split('/')
                    .find(|part| !matches!(*part, "." | ".." | ""));
                return Ok(name.map_or(Looked::Nothing, |name| Looked::Elsewhere(name.to_owned())));
            }
            None => continue,
        };
        if let Some(log) = Changelog::parse(&String::from_utf8_lossy(&text), source) {
            return Ok(Looked::Changelog(log));
        }
    }
    Ok(Looked::Nothing)
}
