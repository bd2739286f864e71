//! Resolving again without touching what is locked.
//!
//! What the lock has stays as it is; what the recipe newly wants, or what was
//! named for an upgrade, may take from it only what must follow. apt decides
//! that itself: on a system on which everything locked is installed, it is
//! asked to install the rest, and upgrades as little as it can. The outcome is
//! pinned (`apt_preferences(5)`) for the resolution from nothing that follows, so
//! that stages and dropped dependencies come out as in any other lock.
//!
//! A locked version may be gone from its archive. The store retains it: such
//! packages are offered to apt in a small archive of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::index::{Candidate, Id};
use super::{Apt, Plan};
use crate::error::{Context, Result};
use crate::lockfile::{Deb, Stage};
use crate::recipe::Packages;

/// Above every priority that lets an archive or a recipe prefer a newer version.
const PRIORITY: u32 = 1001;
/// The directory of the archive of retained packages.
const RETAINED: &str = "retained";

/// What an older lock has, and what of it may move.
pub struct Keep {
    /// Locked packages with their control files, where the store retains them.
    pub debs: Vec<(Deb, Option<String>)>,
    /// Names of packages to upgrade.
    pub upgrade: BTreeSet<String>,
}

/// Installed packages by name, with the stage that brings them.
type Installed = BTreeMap<String, (Id, Stage)>;

impl Keep {
    /// The part of it that the recipe's archives still can have given.
    fn usable(&self, apt: &Apt<'_>) -> impl Iterator<Item = &(Deb, Option<String>)> {
        let suites = apt.suites();
        self.debs.iter().filter(move |(deb, _)| {
            // A file beside the recipe is what it is now.
            let Some(archive) = &deb.archive else {
                return false;
            };
            suites.iter().any(|(name, _, components, _)| {
                name == archive && in_components(&deb.path, components)
            })
        })
    }
}

/// Whether a path in an archive can be of these components: `pool/COMPONENT/`,
/// where the archive is laid out so.
fn in_components(path: &str, components: &str) -> bool {
    let of_debian = ["main", "contrib", "non-free", "non-free-firmware"];
    let component = path.strip_prefix("pool/").and_then(|p| p.split('/').next());
    match component {
        Some(c) if of_debian.contains(&c) => components.split(' ').any(|known| known == c),
        _ => true,
    }
}

impl Apt<'_> {
    /// Offers the retained packages; before apt reads the archives.
    pub(super) fn offer(&self, keep: &Keep) -> Result<()> {
        let mut packages = String::new();
        for (deb, control) in keep.usable(self) {
            if let Some(control) = control {
                let _ = write!(packages, "{}\n\n", stanza(deb, control));
            }
        }
        let dir = self.dir.join(RETAINED);
        std::fs::create_dir_all(&dir).context(|| format!("cannot make {}", dir.display()))?;
        self.write(&format!("{RETAINED}/Packages"), &packages)?;
        self.write(&format!("{RETAINED}/Release"), "Origin: imgbuild\n")?;
        let sources = format!(
            "{}deb [trusted=yes] file:{} ./\n",
            self.sources()?,
            dir.display()
        );
        self.write("sources.list", &sources)
    }

    /// Pins what stays, at versions that fit what is new; the index learns of
    /// the packages that only the store has.
    pub(super) fn pin(
        &self,
        keep: &Keep,
        groups: &[Packages],
        index: &mut BTreeMap<Id, Candidate>,
        listen: &mut dyn FnMut(&str),
    ) -> Result<()> {
        listen("fitting the changes into what is locked");
        let mut installed = Installed::new();
        for (deb, control) in keep.usable(self) {
            let id = (
                deb.name.clone(),
                deb.version.clone(),
                deb.architecture.clone(),
            );
            if let Some(control) = control {
                index.insert(id.clone(), candidate(deb, control));
            }
            if index.contains_key(&id) {
                installed.insert(deb.name.clone(), (id, deb.stage));
            }
        }
        let locked: BTreeSet<String> = installed.keys().cloned().collect();
        self.write_status(&installed, index)?;
        self.fit(
            &mut installed,
            &["--no-upgrade".into()],
            &self.base(),
            index,
        )?;
        for group in groups {
            let fixed: Vec<String> = group
                .install
                .iter()
                .filter(|spec| spec.version().is_some())
                .map(ToString::to_string)
                .chain(self.local_debs(group, index)?)
                .collect();
            let free = group.install.iter().filter(|s| s.version().is_none());
            let free: Vec<String> = free.map(ToString::to_string).collect();
            let mut options = group_options(group);
            self.fit(&mut installed, &options, &fixed, index)?;
            options.push("--no-upgrade".into());
            self.fit(&mut installed, &options, &free, index)?;
        }
        for name in &keep.upgrade {
            let Some((_, stage)) = installed.get(name) else {
                continue;
            };
            let options = match stage {
                Stage::Packages(n) => groups.get(*n as usize - 1).map(group_options),
                Stage::Required | Stage::Base => None,
            };
            let options = options.unwrap_or_else(|| vec!["--no-install-recommends".into()]);
            self.fit(&mut installed, &options, std::slice::from_ref(name), index)?;
        }
        let mut text = self.preferences();
        for (name, ((_, version, _), _)) in &installed {
            if locked.contains(name) {
                let _ = write!(
                    text,
                    "\n\nPackage: {name}\nPin: version {version}\nPin-Priority: {PRIORITY}\n"
                );
            }
        }
        self.write("preferences", &text)
    }

    /// Installs on what is installed; whatever has to give way does.
    fn fit(
        &self,
        installed: &mut Installed,
        options: &[String],
        wanted: &[String],
        index: &BTreeMap<Id, Candidate>,
    ) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let Plan { install, remove } = self.plan(options, wanted, index)?;
        for id in install {
            // The stage is only of interest where there was one.
            let stage = installed
                .get(&id.0)
                .map_or(Stage::Base, |(_, stage)| *stage);
            installed.insert(id.0.clone(), (id, stage));
        }
        for name in remove {
            installed.remove(&name);
        }
        self.write_status(installed, index)
    }
}

/// The options of one `[[packages]]`.
pub(super) fn group_options(group: &Packages) -> Vec<String> {
    let mut options = vec![if group.recommends {
        "--install-recommends".to_owned()
    } else {
        "--no-install-recommends".to_owned()
    }];
    if let Some(release) = &group.target_release {
        options.extend(["--target-release".to_owned(), release.to_string()]);
    }
    options
}

/// A retained package as an index describes it, under the path it once had.
fn stanza(deb: &Deb, control: &str) -> String {
    format!(
        "{}\nFilename: {}\nSize: {}\nSHA256: {}",
        control.trim_end(),
        deb.path,
        deb.size,
        deb.sha256.hex()
    )
}

fn candidate(deb: &Deb, control: &str) -> Candidate {
    Candidate {
        stanza: stanza(deb, control),
        archive: deb.archive.clone(),
        path: deb.path.clone(),
        size: deb.size,
        sha256: deb.sha256,
        defect: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_that_the_recipe_dropped_is_not_kept() {
        assert!(in_components("pool/main/b/bash/bash_5.deb", "main"));
        assert!(!in_components("pool/non-free/x/x_1.deb", "main contrib"));
        assert!(in_components("pool/x_1.deb", "main"));
        assert!(in_components("x_1.deb", "main"));
    }
}
