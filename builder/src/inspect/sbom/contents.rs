//! What is installed in an image, whoever installed it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use store::manifest::Package;
use store::{Image, Manifest, Sha256, Store};

use super::origin::{self, Origin, Origins};
use super::purl;
use crate::dpkg_status::{self, SourcePackage};
use crate::error::{Context, Result};
use crate::inspect::files::{ImageFiles, os_release_field};
use crate::stores::ancestry::BuiltFrom;
use crate::tree;

/// The system of an image, as os-release(5) has it.
pub(in crate::inspect) struct OperatingSystem {
    /// `ID`: `debian`.
    pub(in crate::inspect) id: String,
    /// `VERSION_ID`: `12`. A release that is not finished has none.
    pub(in crate::inspect) version: Option<String>,
}

/// An installed Debian package.
pub(in crate::inspect) struct Deb {
    pub(in crate::inspect) package: Package,
    pub(in crate::inspect) source: SourcePackage,
    /// None for a package that no archive has.
    pub(in crate::inspect) purl: Option<String>,
    /// Of the .deb file.
    pub(in crate::inspect) sha256: Option<Sha256>,
}

/// An installed Python distribution.
pub(in crate::inspect) struct Distribution {
    pub(in crate::inspect) name: String,
    pub(in crate::inspect) version: String,
    /// The directory that its modules are in.
    pub(in crate::inspect) site: String,
    /// Of the file that was installed.
    pub(in crate::inspect) sha256: Option<Sha256>,
    pub(in crate::inspect) origin: Origin,
}

/// All that is installed.
pub(in crate::inspect) struct Contents {
    pub(in crate::inspect) system: OperatingSystem,
    pub(in crate::inspect) debs: Vec<Deb>,
    /// The components of the archive that packages are of, but for `main`.
    pub(in crate::inspect) components: BTreeSet<String>,
    pub(in crate::inspect) distributions: Vec<Distribution>,
    /// What debian-security-support says about this release, where it is installed.
    pub(in crate::inspect) support_list: Option<String>,
}

impl Contents {
    pub(in crate::inspect) fn read(
        store: &Store,
        manifest: &Manifest,
        built: &[BuiltFrom],
    ) -> Result<Self> {
        let unreadable = || format!("cannot read the image {}", manifest.image);
        let image = store.image(manifest).context(unreadable)?;
        Self::of(&image, built).context(unreadable)
    }

    fn of(image: &Image, built: &[BuiltFrom]) -> store::Result<Self> {
        let files = ImageFiles::list(image)?;
        let release = files.os_release()?.unwrap_or_default();
        let system = OperatingSystem {
            id: os_release_field(&release, "ID").unwrap_or_else(|| "linux".to_owned()),
            version: os_release_field(&release, "VERSION_ID"),
        };
        let status = dpkg_status(&files)?;
        Ok(Self {
            debs: debs(&status, &system, built),
            components: components(&status),
            distributions: distributions(&files, built)?,
            support_list: match &system.version {
                Some(version) => files.text(&support_list_path(version))?,
                None => None,
            },
            system,
        })
    }
}

/// What is installed, as dpkg's status says it; images without dpkg may have a file for each package.
fn dpkg_status(files: &ImageFiles<'_>) -> store::Result<String> {
    const EACH: &str = "var/lib/dpkg/status.d/";
    let mut status = files.text("var/lib/dpkg/status")?.unwrap_or_default();
    let each = files.paths().filter(|path| path.starts_with(EACH));
    for path in each.filter(|path| !path.ends_with(".md5sums")) {
        let stanza = files.text(path)?.unwrap_or_default();
        let _ = write!(
            status,
            "\n\nStatus: install ok installed\n{}\n",
            stanza.trim()
        );
    }
    Ok(status)
}

fn debs(status: &str, system: &OperatingSystem, built: &[BuiltFrom]) -> Vec<Deb> {
    // The image's own lock last: it says what it has put in place of the base's.
    let locked: BTreeMap<_, _> = built
        .iter()
        .rev()
        .flat_map(|built| &built.lock.debs)
        .map(|deb| ((&deb.name, &deb.version, &deb.architecture), deb))
        .collect();
    let installed = dpkg_status::packages_and_sources(status).into_iter();
    let debs = installed.map(|(package, source)| {
        let known = locked.get(&(&package.name, &package.version, &package.arch));
        let archive = match known {
            Some(deb) => deb.archive.as_deref(),
            None => Some(system.id.as_str()),
        };
        Deb {
            purl: archive.map(|archive| {
                let archive = archive.split('@').next().unwrap_or(archive);
                // Debian's archives are several, the vendor is one.
                let is_debian = archive == "debian" || archive.starts_with("debian-");
                let vendor = if is_debian { "debian" } else { archive };
                purl::deb(&package, &source, vendor, system)
            }),
            sha256: known.map(|deb| deb.sha256),
            package,
            source,
        }
    });
    debs.collect()
}

/// Where debian-security-support has its list of a release, by the number of that.
pub(in crate::inspect) fn support_list_path(number: &str) -> String {
    format!("usr/share/debian-security-support/security-support-ended.deb{number}")
}

/// `Section: COMPONENT/SECTION` (Debian Policy 2.4); `main` is not said.
fn components(status: &str) -> BTreeSet<String> {
    let sections = status
        .lines()
        .filter_map(|line| line.strip_prefix("Section: "));
    let named = sections.filter_map(|section| section.split_once('/'));
    named.map(|(component, _)| component.to_owned()).collect()
}

/// Distributions in virtualenvs and beside Debian's own, which its packages stand for.
fn distributions(files: &ImageFiles<'_>, built: &[BuiltFrom]) -> store::Result<Vec<Distribution>> {
    let origins = Origins::of(built);
    let mut seen = BTreeSet::new();
    let mut distributions = Vec::new();
    // Those of each virtualenv that no lock names, by their place in the list.
    let mut unlocked: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for path in files.paths() {
        let Some((site, directory)) = metadata(path) else {
            continue;
        };
        let named = tree::wheel("", directory);
        let text = files.text(path)?.unwrap_or_default();
        let field = |name: &str| {
            let head = text.lines().take_while(|line| !line.is_empty());
            let mut fields = head.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            fields.next().map(str::to_owned)
        };
        let name = field("Name").or(named.as_ref().map(|wheel| wheel.name.clone()));
        let version = field("Version").or(named.map(|wheel| wheel.version));
        let (Some(name), Some(version)) = (name, version) else {
            continue;
        };
        if !seen.insert((site.to_owned(), purl::normal(&name))) {
            continue;
        }
        let virtualenv = virtualenv(site);
        let locked = origins.locked(&virtualenv, &name, &version);
        let said = files.text(&format!("{site}/{directory}/direct_url.json"))?;
        let said = said.map(|text| Origin::of_direct_url(&text));
        if said.is_none() && locked.is_none() && !origin::is_seed(&name) {
            unlocked
                .entry(virtualenv)
                .or_default()
                .push(distributions.len());
        }
        distributions.push(Distribution {
            sha256: locked.map(|(digest, _)| *digest),
            origin: said
                .or(locked.map(|(_, origin)| origin.clone()))
                .unwrap_or(Origin::Index),
            site: format!("/{site}"),
            name,
            version,
        });
    }
    for (virtualenv, places) in unlocked {
        let origin = origins.unlocked(&virtualenv, places.len());
        for place in places {
            distributions[place].origin = origin.clone();
        }
    }
    Ok(distributions)
}

/// `SITE/NAME.dist-info/METADATA` and what older tools wrote: SITE, the directory below it.
fn metadata(path: &str) -> Option<(&str, &str)> {
    let directory = match path.rsplit_once('/')? {
        (directory, "METADATA" | "PKG-INFO") => directory,
        // A distribution of one file has its metadata in another.
        (_, file) if file.ends_with(".egg-info") => path,
        _ => return None,
    };
    let (site, name) = directory.rsplit_once('/')?;
    let is_site = ["site-packages", "dist-packages"]
        .iter()
        .any(|last| site.rsplit('/').next() == Some(last));
    let is_debians = site.starts_with("usr/lib/python") && site.ends_with("/dist-packages");
    (is_site && !is_debians).then_some((site, name))
}

/// The virtualenv with that directory.
fn virtualenv(site: &str) -> String {
    let above = site.rsplitn(4, '/').last().unwrap_or_default();
    format!("/{above}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_stands_where_tools_write_it() {
        for (path, expected) in [
            (
                "srv/v/lib/python3.11/site-packages/flask-3.0.dist-info/METADATA",
                Some(("srv/v/lib/python3.11/site-packages", "flask-3.0.dist-info")),
            ),
            (
                "srv/v/lib/python2.7/site-packages/old-1.0-py2.7.egg-info/PKG-INFO",
                Some((
                    "srv/v/lib/python2.7/site-packages",
                    "old-1.0-py2.7.egg-info",
                )),
            ),
            (
                "usr/local/lib/python3.11/dist-packages/x-1.egg-info",
                Some(("usr/local/lib/python3.11/dist-packages", "x-1.egg-info")),
            ),
            (
                "usr/lib/python3/dist-packages/apt-2.6.dist-info/METADATA",
                None,
            ),
            (
                "srv/v/lib/python3.11/site-packages/setuptools/_vendor/x-1.dist-info/METADATA",
                None,
            ),
        ] {
            assert_eq!(metadata(path), expected, "{path}");
        }
        assert_eq!(virtualenv("srv/v/lib/python3.11/site-packages"), "/srv/v");
    }
}
