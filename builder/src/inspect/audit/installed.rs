//! What is installed in an image, or will be in one of a recipe.

use std::collections::BTreeSet;
use std::path::Path;

use common::percent;
use store::manifest::Package;
use store::{Inputs, Manifest, Sha256, Store};

use crate::dpkg_status::SourcePackage;
use crate::error::{Error, Result};
use crate::inspect::sbom::contents::Contents;
use crate::inspect::sbom::origin::Origin;
use crate::inspect::sbom::purl::normal;
use crate::lockfile::{Lock, Python};
use crate::mirror;
use crate::recipe::Recipe;
use crate::stores::ancestry;

/// Debian's releases with their numbers, which a recipe does not say.
const NUMBERS: [(&str, &str); 8] = [
    ("jessie", "8"),
    ("stretch", "9"),
    ("buster", "10"),
    ("bullseye", "11"),
    ("bookworm", "12"),
    ("trixie", "13"),
    ("forky", "14"),
    ("duke", "15"),
];

/// A Python distribution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Distribution {
    /// Normalised.
    pub(super) name: String,
    pub(super) version: String,
}

/// All that is installed.
#[derive(Clone, Debug)]
pub struct Installed {
    pub(super) name: String,
    pub(super) image: Option<String>,
    pub(super) suite: String,
    /// The number of the suite, if it has one.
    pub(super) number: Option<String>,
    pub(super) architecture: String,
    /// Components of Debian's archive that it has packages of.
    pub(super) components: Vec<String>,
    pub(super) packages: Vec<(Package, SourcePackage)>,
    /// Of an index, as far as can be told.
    pub(super) distributions: BTreeSet<Distribution>,
    /// Of directories, files and repositories: no advisory of an index is about those.
    pub(super) own: BTreeSet<Distribution>,
    /// The image's own list of sources whose support has ended.
    pub(super) support_list: Option<String>,
    pub(super) notes: Vec<String>,
}

impl Installed {
    /// Reads an image of a store.
    pub fn of_image(store: &Store, manifest: &Manifest) -> Result<Self> {
        let built = ancestry::built_from(store, manifest)?;
        let contents = Contents::read(store, manifest, &built)?;
        let system = contents.system;
        if system.id != "debian" {
            return Err(Error::failed(format!(
                "{} is no Debian: its os-release says `{}`",
                manifest.name,
                percent::encode(&system.id, b"")
            ))
            .hint(
                "security updates are read from Debian's archive; `imgbuild show IMAGE --sbom` \
                   is for scanners of other systems",
            ));
        }
        if contents.debs.is_empty() {
            return Err(Error::failed(format!(
                "what is installed in {} cannot be told: it has no dpkg status",
                manifest.name
            ))
            .hint(
                "keep /var/lib/dpkg/status in the image; without it no audit finds anything, \
                 whatever is in it",
            ));
        }
        let (mut distributions, mut own) = (BTreeSet::new(), BTreeSet::new());
        for found in contents.distributions {
            let group = match found.origin {
                Origin::Index => &mut distributions,
                Origin::Own | Origin::Repository(_) => &mut own,
            };
            group.insert(Distribution {
                name: normal(&found.name),
                version: found.version,
            });
        }
        let debs = contents.debs.into_iter();
        Ok(Self {
            name: manifest.name.to_string(),
            image: Some(manifest.image.to_string()),
            number: system.version.or_else(|| number(&manifest.suite)),
            suite: manifest.suite.clone(),
            architecture: manifest.arch.clone(),
            components: contents.components.into_iter().collect(),
            packages: debs.map(|deb| (deb.package, deb.source)).collect(),
            distributions,
            own,
            support_list: contents.support_list,
            notes: Vec::new(),
        })
    }

    /// Reads a lock. The source of a package is in its control file, so what the store does not
    /// have is taken for a source of its own name.
    pub fn of_lock(
        recipe: &Recipe,
        lock: &Lock,
        inputs: Option<&Inputs>,
        work: &Path,
    ) -> Result<Self> {
        let debs = lock.debs_after();
        let here = |digest: &Sha256| inputs.is_some_and(|inputs| inputs.has(digest));
        let retained: Vec<Sha256> = debs.iter().map(|deb| deb.sha256).filter(here).collect();
        let controls = match inputs {
            Some(inputs) => mirror::controls(&retained, inputs, &work.join(mirror::CONTROLS))?,
            None => Vec::new(),
        };
        let controls: std::collections::BTreeMap<_, _> =
            retained.into_iter().zip(controls).collect();
        let mut notes = Vec::new();
        let unknown = debs.len()
            - debs
                .iter()
                .filter(|d| controls.contains_key(&d.sha256))
                .count();
        if unknown > 0 {
            notes.push(format!(
                "the store lacks {unknown} locked packages: each is taken for a source of its own \
                 name"
            ));
        }
        let packages = debs.into_iter().map(|deb| {
            let package = Package {
                name: deb.name.clone(),
                version: deb.version.clone(),
                arch: deb.architecture.clone(),
            };
            let control = controls.get(&deb.sha256);
            let control = control.map_or("", String::as_str);
            let source = SourcePackage::of_paragraph(control, &package);
            (package, source)
        });
        let python = lock.python.iter().filter(|python| !python.build_only);
        let beside: BTreeSet<&Sha256> = lock.files.iter().map(|file| &file.sha256).collect();
        let (own, distributions): (Vec<_>, Vec<_>) =
            python.partition(|python| beside.contains(&python.sha256));
        let named = |all: Vec<&Python>| -> BTreeSet<Distribution> {
            let named = all.into_iter().map(|python| Distribution {
                name: normal(&python.name),
                version: python.version.clone(),
            });
            named.collect()
        };
        let bootstrap = &recipe.bootstrap;
        let of_debian = recipe
            .sources
            .iter()
            .filter(|source| ["debian", "debian-security"].contains(&source.archive.as_str()));
        let more = of_debian.flat_map(|source| &source.components);
        let components = bootstrap
            .components
            .iter()
            .chain(more)
            .map(ToString::to_string);
        let components: BTreeSet<String> = components.collect();
        let suite = bootstrap.suite.to_string();
        Ok(Self {
            name: recipe.name.to_string(),
            image: None,
            number: number(&suite),
            suite,
            architecture: lock.architecture.clone(),
            components: components.into_iter().collect(),
            packages: packages.collect(),
            distributions: named(distributions),
            own: named(own),
            support_list: None,
            notes,
        })
    }

    /// What a lock adds to its base: packages that replace those of the base, or go.
    #[must_use]
    pub fn on(mut self, base: Self, lock: &Lock) -> Self {
        let removed: BTreeSet<&str> = lock
            .removed
            .values()
            .flat_map(|names| names.split(' '))
            .collect();
        let own: BTreeSet<String> = self.packages.iter().map(|(p, _)| p.name.clone()).collect();
        let stays = |(package, _): &(Package, SourcePackage)| {
            !own.contains(&package.name) && !removed.contains(package.name.as_str())
        };
        self.packages
            .extend(base.packages.into_iter().filter(stays));
        self.distributions.extend(base.distributions);
        self.own.extend(base.own);
        self.components.extend(base.components);
        self.components.sort();
        self.components.dedup();
        self.support_list = base.support_list;
        self
    }

    /// The release, as advisories and package URLs write it.
    pub(super) fn releases(&self) -> Vec<String> {
        let names = [Some(self.suite.clone()), self.number.clone()];
        let names = names.into_iter().flatten();
        names
            .flat_map(|name| [format!("debian-{name}"), name])
            .collect()
    }
}

fn number(suite: &str) -> Option<String> {
    let found = NUMBERS.iter().find(|(name, _)| *name == suite);
    found.map(|(_, number)| (*number).to_owned())
}
