//! Security updates that an archive has and an image has not.
//!
//! What is pending is what `apt-get upgrade` would take from the security archive: a package of an
//! installed name and architecture in a newer version. Why it was made is in the changelog of the
//! new package, of which one binary package of each source is fetched: the smallest.

mod changelogs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use common::clock::rfc3339;
use store::{Inputs, WritableStore};

pub(super) use self::changelogs::{Looked, look};
use super::ended;
use super::installed::Installed;
use super::report::{Binary, Cve, Datum, Pending};
use super::severity::Severity;
use crate::atomic_file::remove;
use crate::debian_version::compare;
use crate::error::{Context, Error, Result};
use crate::inspect::sbom::contents::support_list_path;
use crate::lock::fetch;
use crate::lock::resolve::apt::{Offered, SuiteIndex, SuiteRequest};
use crate::lockfile::{Deb, InstallStage, SECURITY_ARCHIVE as ARCHIVE};
use crate::mirror::{self, Content};
use crate::settings::Settings;
use crate::ui::Ui;

/// The security archive as this machine sees it, one reading for all images.
pub(super) struct SecurityArchive<'a> {
    settings: &'a Settings,
    offline: bool,
    /// `WORK/audit`, where what was read is kept.
    dir: PathBuf,
    indexes: BTreeMap<Pocket, SuiteIndex>,
    _lock: File,
}

/// Which part of it: suite, architecture, components.
type Pocket = (String, String, Vec<String>);

/// What an archive has for an image.
pub(super) struct Updates {
    pub(super) pending: Vec<Pending>,
    pub(super) data: Vec<Datum>,
    pub(super) notes: Vec<String>,
    /// `Date` of the archive, seconds since 1970.
    pub(super) date: u64,
}

/// A source with what is to be installed of it.
struct Group<'o> {
    installed: String,
    fixed: String,
    binaries: Vec<Binary>,
    /// What the archive has of the new source, the smallest first.
    packages: Vec<&'o Offered>,
}

impl<'a> SecurityArchive<'a> {
    /// Waits for another audit that reads it.
    pub(super) fn open(settings: &'a Settings, offline: bool) -> Result<Self> {
        let dir = settings.work.join("audit");
        let failed = || format!("cannot use the work directory {}", settings.work.display());
        fs::create_dir_all(&dir).context(failed)?;
        let lock = File::create(dir.join("lock")).context(failed)?;
        lock.lock().context(failed)?;
        Ok(Self {
            settings,
            offline,
            dir,
            indexes: BTreeMap::new(),
            _lock: lock,
        })
    }

    /// What it has for an image.
    pub(super) fn updates(&mut self, installed: &Installed, ui: &mut Ui) -> Result<Updates> {
        let pocket = pocket_of(installed)?;
        self.index(&pocket, ui)?;
        let index = &self.indexes[&pocket];
        let dated = rfc3339(index.date);
        let datum = |kind, name: String, sha256: &store::Sha256| Datum {
            kind,
            name,
            sha256: sha256.hex(),
            date: dated.clone(),
        };
        let whole = format!("{ARCHIVE} {}", pocket.0);
        let mut data = vec![datum("release", whole.clone(), &index.release)];
        for (path, sha256) in &index.indexes {
            data.push(datum("packages", format!("{whole} {path}"), sha256));
        }
        let mut notes = Vec::new();
        let foreign = installed
            .packages
            .iter()
            .filter(|(package, _)| package.arch != installed.architecture && package.arch != "all");
        let foreign = foreign.count();
        if foreign > 0 {
            notes.push(format!(
                "{foreign} packages of other architectures than {} were not compared with the \
                 archive",
                installed.architecture
            ));
        }
        let groups = groups(installed, &index.packages);
        let logs = self.changelogs(&groups, &mut data, &mut notes, ui)?;
        let pending = groups.into_iter().zip(logs);
        let pending = pending.map(|((source, group), log)| {
            let ids = log.as_ref().map(|log| log.above(&group.installed));
            let cves = ids.into_iter().flatten().map(|id| Cve {
                id,
                severity: Severity::Unknown,
            });
            Pending {
                source,
                installed: group.installed,
                fixed: group.fixed,
                severity: Severity::Unknown,
                cves: cves.collect(),
                changelog: log.is_some(),
                binaries: group.binaries,
            }
        });
        Ok(Updates {
            pending: pending.collect(),
            data,
            notes,
            date: index.date,
        })
    }

    fn index(&mut self, pocket: &Pocket, ui: &mut Ui) -> Result<()> {
        if self.indexes.contains_key(pocket) {
            return Ok(());
        }
        let (suite, architecture, components) = pocket;
        let kept = format!("{ARCHIVE}/{}-{architecture}", suite.replace('/', "-"));
        let scratch = self.scratch()?;
        let request = SuiteRequest {
            archive: ARCHIVE,
            suite,
            components,
            architecture,
            archives: &self.settings.archives,
            network: &self.settings.network,
            scratch: &scratch,
            kept: &self.dir.join(kept),
        };
        let index = self.read(&request, "read security updates", ui)?;
        remove(&scratch)?;
        self.indexes.insert(pocket.clone(), index);
        Ok(())
    }

    /// An index, from its archive or as it was kept.
    fn read(&self, request: &SuiteRequest<'_>, what: &str, ui: &mut Ui) -> Result<SuiteIndex> {
        if self.offline {
            return request.kept();
        }
        let mut phase = ui.phase(what);
        let index = request.fetch(&mut |line| phase.output(line))?;
        phase.finish(&format!("{} packages", index.packages.len()));
        Ok(index)
    }

    /// The list of sources whose support has ended, of the newest package that the image's suite
    /// has, and what it is called. The package is kept, and compared with the index each time.
    pub(super) fn support_list(
        &mut self,
        installed: &Installed,
        ui: &mut Ui,
    ) -> Result<(String, Vec<u8>)> {
        let (_, architecture, _) = pocket_of(installed)?;
        let suite = &installed.suite;
        let number = installed.number.as_ref().ok_or_else(|| {
            Error::failed(format!("the number of the release `{suite}` is not known"))
                .hint("name the list: --support-ended=FILE")
        })?;
        let lacks = || {
            Error::failed(format!(
                "the suite {suite} has no list of ended support for Debian {number}"
            ))
            .hint("name a list: --support-ended=FILE")
        };
        let scratch = self.scratch()?;
        let request = SuiteRequest {
            archive: "debian",
            suite,
            components: &["main".to_owned()],
            architecture: &architecture,
            archives: &self.settings.archives,
            network: &self.settings.network,
            scratch: &scratch,
            kept: &self.dir.join(format!("debian/{suite}-{architecture}")),
        };
        let index = self.read(&request, "read ended support", ui)?;
        let named = index.packages.iter();
        let named = named.filter(|offered| offered.package.name == ended::PACKAGE);
        let newest = named.max_by(|a, b| compare(&a.package.version, &b.package.version));
        let offered = newest.filter(|o| o.defect.is_none()).ok_or_else(lacks)?;
        let store = WritableStore::open_or_create(self.dir.join("packages"))
            .context(|| format!("cannot use {}", self.dir.display()))?;
        let inputs = store.inputs();
        if self.offline && !inputs.has(&offered.sha256) {
            let what = format!("{} was not fetched before", offered.path);
            return Err(Error::failed(what)
                .hint("run `imgbuild audit` with --support-ended once without --offline"));
        }
        self.download(&[deb("debian", offered)], &inputs, &scratch, &mut |_| {})?;
        inputs
            .verify(&offered.sha256)
            .context(|| format!("{} is not what it was", offered.path))?;
        let path = support_list_path(number);
        let content =
            mirror::content_of(&inputs.path(&offered.sha256), std::slice::from_ref(&path))?;
        remove(&scratch)?;
        match content {
            Some(Content::File(text)) => Ok((format!("{path} in {}", offered.path), text)),
            Some(Content::Link(_)) | None => Err(lacks()),
        }
    }

    /// An empty directory of this audit.
    fn scratch(&self) -> Result<PathBuf> {
        let scratch = self.dir.join("scratch");
        remove(&scratch)?;
        fs::create_dir_all(&scratch).context(|| format!("cannot make {}", scratch.display()))?;
        Ok(scratch)
    }

    /// Fetches packages that `inputs` does not have, by way of `scratch`.
    fn download(
        &self,
        debs: &[Deb],
        inputs: &Inputs,
        scratch: &Path,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<()> {
        let missing: Vec<&Deb> = debs.iter().filter(|d| !inputs.has(&d.sha256)).collect();
        let source = fetch::Source {
            archives: &self.settings.archives,
            network: &self.settings.network,
            beside: scratch,
        };
        fetch::debs(&missing, &source, inputs, &scratch.join("fetch"), progress)
    }
}

fn deb(archive: &str, offered: &Offered) -> Deb {
    Deb {
        name: offered.package.name.clone(),
        version: offered.package.version.clone(),
        architecture: offered.package.arch.clone(),
        stage: InstallStage::Base,
        archive: Some(archive.to_owned()),
        path: offered.path.clone(),
        size: offered.size,
        sha256: offered.sha256,
    }
}

/// Where the security updates of a suite are.
fn pocket_of(installed: &Installed) -> Result<Pocket> {
    let suite = installed.suite.as_str();
    let without = ["sid", "unstable", "experimental", "rc-buggy"];
    let sound: std::result::Result<crate::recipe::Suite, _> = suite.parse();
    if sound.is_err() || without.contains(&suite) {
        return Err(Error::failed(format!(
            "{} is of the suite `{}`, which has no security archive",
            installed.name,
            suite.escape_debug()
        ))
        .hint(
            "security updates of unstable are new versions in it: `imgbuild lock RECIPE --upgrade`",
        ));
    }
    let pocket = match suite {
        // So they were called before bullseye.
        "buster" | "stretch" | "jessie" => format!("{suite}/updates"),
        _ => format!("{suite}-security"),
    };
    let mut components = vec!["main".to_owned()];
    let more = ["contrib", "non-free", "non-free-firmware"].map(str::to_owned);
    components.extend(
        more.into_iter()
            .filter(|c| installed.components.contains(c)),
    );
    Ok((pocket, installed.architecture.clone(), components))
}

/// What the archive has newer than what is installed, by source.
fn groups<'o>(installed: &Installed, offered: &'o [Offered]) -> BTreeMap<String, Group<'o>> {
    let mut newest: BTreeMap<(&str, &str), &Offered> = BTreeMap::new();
    for candidate in offered {
        let id = (
            candidate.package.name.as_str(),
            candidate.package.arch.as_str(),
        );
        let known = newest.entry(id).or_insert(candidate);
        if compare(&candidate.package.version, &known.package.version).is_gt() {
            *known = candidate;
        }
    }
    let mut groups: BTreeMap<String, Group<'o>> = BTreeMap::new();
    for (package, source) in &installed.packages {
        // A package may change between one architecture and all.
        let architectures = [
            package.arch.as_str(),
            "all",
            installed.architecture.as_str(),
        ];
        let is_own = architectures[1..].contains(&package.arch.as_str());
        let architectures: BTreeSet<&str> = if is_own {
            architectures.into()
        } else {
            [package.arch.as_str()].into()
        };
        let candidates = architectures.into_iter();
        let candidates = candidates.filter_map(|arch| newest.get(&(package.name.as_str(), arch)));
        let best = candidates.max_by(|a, b| compare(&a.package.version, &b.package.version));
        let Some(update) =
            best.filter(|best| compare(&best.package.version, &package.version).is_gt())
        else {
            continue;
        };
        let binary = Binary {
            package: package.name.clone(),
            architecture: package.arch.clone(),
            installed: package.version.clone(),
            fixed: update.package.version.clone(),
        };
        let group = groups.entry(update.source.name.clone());
        let group = group.or_insert_with(|| Group {
            installed: source.version.clone(),
            fixed: update.source.version.clone(),
            binaries: Vec::new(),
            packages: Vec::new(),
        });
        if compare(&source.version, &group.installed).is_lt() {
            group.installed.clone_from(&source.version);
        }
        if compare(&update.source.version, &group.fixed).is_gt() {
            group.fixed.clone_from(&update.source.version);
        }
        group.binaries.push(binary);
    }
    for (source, group) in &mut groups {
        let same = offered.iter().filter(|candidate| {
            candidate.defect.is_none()
                && candidate.source.name == *source
                && candidate.source.version == group.fixed
        });
        group.packages = same.collect();
        group
            .packages
            .sort_by_key(|candidate| (candidate.size, &candidate.package.name));
    }
    groups
}

#[cfg(test)]
mod tests {
    use store::Sha256;
    use store::manifest::Package;

    use super::*;
    use crate::dpkg_status::SourcePackage;

    fn package(name: &str, version: &str, arch: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            arch: arch.into(),
        }
    }

    fn offered(name: &str, version: &str, arch: &str, source: &str, size: u64) -> Offered {
        let package = package(name, version, arch);
        Offered {
            source: SourcePackage::of(Some(source), &package),
            package,
            path: format!("pool/{name}.deb"),
            size,
            sha256: Sha256::of(name.as_bytes()),
            defect: None,
        }
    }

    fn installed(packages: &[(&str, &str, &str, &str)]) -> Installed {
        let packages = packages.iter().map(|(name, version, arch, source)| {
            let package = package(name, version, arch);
            let source = SourcePackage::of(Some(source), &package);
            (package, source)
        });
        Installed {
            name: "web".into(),
            image: None,
            suite: "bookworm".into(),
            number: Some("12".into()),
            architecture: "amd64".into(),
            components: vec!["main".into(), "non-free-firmware".into()],
            packages: packages.collect(),
            distributions: BTreeSet::new(),
            own: BTreeSet::new(),
            support_list: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn updates_are_grouped_by_source_and_nothing_beside_is_found() {
        let index = [
            offered("libssl3", "3.0.17-1~deb12u2", "amd64", "openssl", 9),
            offered("libssl3", "3.0.17-1~deb12u3", "amd64", "openssl", 9),
            offered("openssl", "3.0.17-1~deb12u3", "amd64", "openssl", 5),
            offered("libssl-doc", "3.0.17-1~deb12u3", "all", "openssl", 2),
            offered("bash", "5.2.15-2", "amd64", "bash", 1),
            offered(
                "gcc-12-base",
                "12.2.0-14+deb12u2",
                "amd64",
                "gcc-12 (12.2.0-14+deb12u1)",
                1,
            ),
            offered("nginx", "9", "amd64", "nginx", 1),
            offered("tzdata", "2026b-0+deb12u1", "all", "tzdata", 1),
            offered("foreign", "2", "amd64", "foreign", 1),
        ];
        let image = installed(&[
            ("libssl3", "3.0.16-1", "amd64", "openssl"),
            ("openssl", "3.0.17-1~deb12u1", "amd64", "openssl"),
            // Rebuilt, so newer than what the archive has.
            ("bash", "5.2.15-2+b7", "amd64", "bash (5.2.15-2)"),
            ("gcc-12-base", "12.2.0-14", "amd64", "gcc-12"),
            ("tzdata", "2026b-0+deb12u1", "all", "tzdata"),
            ("foreign", "1", "i386", "foreign"),
        ]);
        let groups = groups(&image, &index);
        let names: Vec<_> = groups.keys().collect();
        assert_eq!(names, ["gcc-12", "openssl"]);
        let openssl = &groups["openssl"];
        assert_eq!(openssl.installed, "3.0.16-1");
        assert_eq!(openssl.fixed, "3.0.17-1~deb12u3");
        assert_eq!(openssl.binaries.len(), 2);
        // The smallest one that the source has, installed or not.
        assert_eq!(openssl.packages[0].package.name, "libssl-doc");
        assert_eq!(groups["gcc-12"].fixed, "12.2.0-14+deb12u1");
    }

    #[test]
    fn each_suite_has_its_pocket() {
        let mut image = installed(&[]);
        let (suite, _, components) = pocket_of(&image).unwrap();
        assert_eq!(suite, "bookworm-security");
        assert_eq!(components, ["main", "non-free-firmware"]);
        image.suite = "buster".into();
        assert_eq!(pocket_of(&image).unwrap().0, "buster/updates");
        for none in ["sid", "../etc", "", "a b"] {
            image.suite = none.into();
            assert!(pocket_of(&image).is_err(), "{none}");
        }
    }
}
