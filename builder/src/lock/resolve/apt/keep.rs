//! Resolving again without touching what is locked.
//!
//! What the lock has stays as it is; what the recipe newly wants, or what was
//! named for an upgrade, may take from it only what must follow. apt decides
//! that itself: on a system on which everything locked is installed, it is
//! asked to install the rest, and upgrades as little as it can. The outcome is
//! pinned (`apt_preferences(5)`); then everything is resolved again on an empty
//! system, so that stages and dropped dependencies come out as in any other lock.
//!
//! A locked version may be gone from its archive. The store retains it: such
//! packages are offered to apt in a small archive of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::index::Index;
use super::settings::Suite;
use super::stages::{Installed, State};
use super::stanza::{Candidate, Id};
use super::{Apt, Plan};
use crate::debian_version::compare;
use crate::error::{Error, Result};
use crate::lockfile::{Deb, InstallStage, is_security_archive};
use crate::recipe::{PackageSpec, Packages};

/// Above every priority that lets an archive or a recipe prefer a newer version.
const PRIORITY: u32 = 1001;

/// What an older lock has, and what of it may move.
pub struct Keep {
    /// Locked packages.
    pub debs: Vec<Locked>,
    /// Names of packages to upgrade.
    pub upgrade: BTreeSet<String>,
    /// Whether to upgrade what the archive of security updates has newer.
    pub security: bool,
}

/// A locked package.
pub struct Locked {
    /// The entry of the lock.
    pub deb: Deb,
    /// Its control file, where the store retains it.
    pub control: Option<String>,
    /// Whether it is still installed after the last stage.
    pub is_last: bool,
}

/// The versions that stay: of each name, with the stage that installs it.
#[derive(Default)]
pub(super) struct Pins(BTreeMap<String, BTreeMap<InstallStage, String>>);

impl Pins {
    /// Whether a stage has another version than the last one.
    pub(super) fn differ(&self) -> bool {
        self.0.values().any(|versions| versions.len() > 1)
    }

    /// Pins what is there in a stage, and what comes later as it comes; without
    /// a stage, what is there in the end.
    pub(super) fn write(&self, apt: &Apt<'_>, stage: Option<InstallStage>) -> Result<()> {
        let mut text = String::new();
        for (name, versions) in &self.0 {
            let before = stage.and_then(|stage| versions.range(..=stage).next_back());
            let version = match (stage, before) {
                (_, Some((_, version))) => Some(version),
                (Some(_), None) => versions.values().next(),
                (None, None) => versions.values().next_back(),
            };
            if let Some(version) = version {
                let _ = write!(
                    text,
                    "Package: {name}\nPin: version {version}\nPin-Priority: {PRIORITY}\n\n"
                );
            }
        }
        apt.write("preferences.d/2-locked", &text)
    }
}

impl Keep {
    /// The part of it that the recipe's archives still can have given.
    fn usable(&self, apt: &Apt<'_>) -> impl Iterator<Item = &Locked> {
        let suites = apt.suites();
        self.debs.iter().filter(move |locked| {
            // A file beside the recipe is what it is now.
            let Some(archive) = &locked.deb.archive else {
                return false;
            };
            suites.iter().any(|suite| {
                suite.archive == *archive && in_components(&locked.deb.path, &suite.components)
            })
        })
    }

    /// Tells the index of the packages that only the store has.
    pub(super) fn offer(&self, apt: &Apt<'_>, index: &mut Index) {
        for Locked { deb, control, .. } in self.usable(apt) {
            if let Some(control) = control {
                index.add(id(deb), candidate(deb, control));
            }
        }
    }

    /// The index of the retained packages.
    pub(super) fn index(&self, apt: &Apt<'_>) -> String {
        let mut packages = String::new();
        for Locked { deb, control, .. } in self.usable(apt) {
            let Some(control) = control else { continue };
            packages.push_str(&stanza(deb, control));
            packages.push_str("\n\n");
        }
        packages
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
    /// Versions of what stays that fit what is new; `locals` are the paths of each group's files.
    pub(super) fn pin(
        &self,
        keep: &Keep,
        groups: &[Packages],
        locals: &[Vec<String>],
        index: &Index,
        listen: &mut dyn FnMut(&str),
    ) -> Result<Pins> {
        listen("fitting the changes into what is locked");
        let mut state = self.installed.clone();
        let mut pins = Pins::default();
        for locked in keep.usable(self) {
            let deb = &locked.deb;
            let id = id(deb);
            let of_name = index.of(&id);
            let same = of_name.iter().find(|found| found.sha256 == deb.sha256);
            let Some(found) = same.or(of_name.first()).cloned() else {
                continue;
            };
            let versions = pins.0.entry(deb.name.clone()).or_default();
            versions.insert(deb.stage, deb.version.clone());
            if locked.is_last {
                let package = Installed {
                    id,
                    found,
                    stage: deb.stage,
                    is_held: false,
                };
                state.insert(deb.name.clone(), package);
            }
        }
        let before: BTreeMap<String, String> = state
            .iter()
            .map(|(name, package)| (name.clone(), package.id.1.clone()))
            .collect();
        self.write_status(&state)?;
        let base = match self.recipe.bootstrap.base {
            Some(_) => Vec::new(),
            None => self.base(index),
        };
        if !base.iter().all(|name| state.contains_key(name)) {
            self.fit(&mut state, &["--no-upgrade".into()], &base, index)?;
        }
        // What a later group purges is not there in the end.
        let purged = |name: &str| {
            let mut purged = groups.iter().flat_map(|group| &group.purge);
            purged.any(|purged| purged.name() == name)
        };
        for (group, local) in groups.iter().zip(locals) {
            // A version that the lock has in some stage needs no room in the last.
            let known = |spec: &PackageSpec| {
                let versions = pins.0.get(spec.name());
                let mut versions = versions.into_iter().flat_map(BTreeMap::values);
                versions.any(|version| Some(version.as_str()) == spec.version())
            };
            let specs = group.install.iter();
            let specs = specs.filter(|spec| !purged(spec.name()) && !known(spec));
            let (fixed, free): (Vec<_>, Vec<_>) = specs.partition(|s| s.version().is_some());
            let words = |specs: Vec<_>| specs.into_iter().map(ToString::to_string);
            let fixed: Vec<String> = words(fixed).chain(local.iter().cloned()).collect();
            let free: Vec<String> = words(free).collect();
            let mut options = self.group_options(group)?;
            self.fit(&mut state, &options, &fixed, index)?;
            // What is there would stay as it is: a second each for groups that did not change.
            if !free.iter().all(|name| state.contains_key(name)) {
                options.push("--no-upgrade".into());
                self.fit(&mut state, &options, &free, index)?;
            }
        }
        let mut upgrade = keep.upgrade.clone();
        if keep.security {
            self.require_security_archive()?;
            upgrade.extend(security_updates(keep, index));
        }
        for name in &upgrade {
            let Some(package) = state.get(name) else {
                continue;
            };
            let options = match package.stage {
                InstallStage::Packages(n) => groups
                    .get(n as usize - 1)
                    .map(|group| self.group_options(group))
                    .transpose()?,
                InstallStage::Required | InstallStage::Base => None,
            };
            let options = options.unwrap_or_else(|| vec!["--no-install-recommends".into()]);
            self.fit(&mut state, &options, std::slice::from_ref(name), index)?;
        }
        for (name, version) in before {
            let now = state.get(&name).map(|package| package.id.1.clone());
            if now.as_ref() == Some(&version) && !upgrade.contains(&name) {
                continue;
            }
            // The stages before the last keep their own, unless that was named.
            let versions = pins.0.entry(name.clone()).or_default();
            let last = versions.pop_last().map(|(stage, _)| stage);
            if upgrade.contains(&name) {
                versions.clear();
            }
            if let (Some(stage), Some(version)) = (last, now) {
                versions.insert(stage, version);
            }
        }
        Ok(pins)
    }

    /// Fails where no archive of the recipe has security updates.
    fn require_security_archive(&self) -> Result<()> {
        let has_it = |suite: &Suite| is_security_archive(&suite.archive);
        if self.suites().iter().any(has_it) {
            return Ok(());
        }
        let what = "the recipe has no archive of security updates to upgrade from";
        Err(Error::usage(what).hint(
            "add it: [[source]] with archive = \"debian-security\" and suite = \"SUITE-security\"",
        ))
    }

    /// Installs on what is installed; whatever has to give way does.
    fn fit(
        &self,
        state: &mut State,
        options: &[String],
        wanted: &[String],
        index: &Index,
    ) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let Plan { install, remove } = self.plan(options, wanted, index)?;
        for (id, found) in install {
            // The stage is only of interest where there was one.
            let before = state.get(&id.0).map(|package| package.stage);
            let package = Installed {
                id: id.clone(),
                found,
                stage: before.unwrap_or(InstallStage::Base),
                is_held: false,
            };
            state.insert(id.0, package);
        }
        for name in remove {
            state.remove(&name);
        }
        self.write_status(state)
    }
}

/// The locked packages of which the archive of security updates has a newer version.
fn security_updates(keep: &Keep, index: &Index) -> BTreeSet<String> {
    let last = keep.debs.iter().filter(|locked| locked.is_last);
    let is_behind = |deb: &Deb| {
        let newer = |((_, version, _), found): &(Id, Candidate)| {
            let archive = found.archive.as_deref();
            archive.is_some_and(is_security_archive) && compare(version, &deb.version).is_gt()
        };
        index.of_name(&deb.name).iter().any(newer)
    };
    let behind = last.filter(|locked| is_behind(&locked.deb));
    behind.map(|locked| locked.deb.name.clone()).collect()
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

fn id(deb: &Deb) -> Id {
    (
        deb.name.clone(),
        deb.version.clone(),
        deb.architecture.clone(),
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
