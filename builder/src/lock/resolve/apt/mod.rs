//! Which Debian packages: apt's own resolver on an empty system.
//!
//! apt-get runs with a private directory: our sources, our status file, the
//! machine's proxies, nothing else of its configuration. It checks the Release
//! signatures against the distribution's keyring. Each stage is simulated
//! (`--simulate`) on a status file in which the stages before it count as
//! installed; so one apt call a stage tells the exact set, and a backport or a
//! security update takes part from the start instead of as an upgrade later.

mod diagnosis;
mod index;
mod keep;
mod openpgp;
mod settings;
mod update;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::host::{Archives, Network};
use crate::lockfile::{Deb, Release, Stage};
use crate::process::{Tool, last_lines};
use crate::recipe::{Packages, Recipe, Variant};

use index::{Candidate, Id, local_candidate};

use keep::group_options;

pub use keep::Keep;

/// What apt decided.
#[derive(Debug)]
pub struct Resolution {
    /// The verified Release files.
    pub releases: Vec<Release>,
    /// Every package.
    pub debs: Vec<Deb>,
}

impl Resolution {
    /// `SOURCE_DATE_EPOCH`: the newest of the Release files.
    pub fn epoch(&self) -> u64 {
        self.releases.iter().map(|r| r.date).max().unwrap_or(0)
    }
}

/// What one simulated installation does.
struct Plan {
    install: Vec<Id>,
    remove: Vec<String>,
}

/// What a simulation prints, or the reasons that apt gives against it.
type Answer = std::result::Result<String, Vec<String>>;

/// The settings of one resolution.
pub struct Apt<'a> {
    recipe: &'a Recipe,
    /// Absolute: apt takes `a/b` for package and suite.
    beside: PathBuf,
    architecture: &'a str,
    archives: &'a Archives,
    network: &'a Network,
    dir: PathBuf,
}

impl<'a> Apt<'a> {
    /// Prepares a resolution in the new directory `dir`.
    pub fn new(
        recipe: &'a Recipe,
        beside: &Path,
        architecture: &'a str,
        archives: &'a Archives,
        network: &'a Network,
        dir: &Path,
    ) -> Result<Self> {
        let beside = std::path::absolute(beside)
            .context(|| format!("{} is no usable path", beside.display()))?;
        let apt = Self {
            recipe,
            beside,
            architecture,
            archives,
            network,
            dir: dir.to_owned(),
        };
        Network::private_dir(dir)?;
        for sub in [
            "lists/partial",
            "cache/archives/partial",
            "preferences.d",
            "empty",
        ] {
            let path = dir.join(sub);
            fs::create_dir_all(&path).context(|| format!("cannot make {}", path.display()))?;
        }
        apt.write(
            "apt.conf",
            &apt.configuration(&network.lend(archives, dir)?),
        )?;
        apt.write("sources.list", &apt.sources()?)?;
        apt.write("preferences", &apt.preferences())?;
        apt.write("status", "")?;
        Ok(apt)
    }

    /// Resolves every stage of the recipe, around what is to be kept.
    pub fn resolve(&self, keep: Option<&Keep>, listen: &mut dyn FnMut(&str)) -> Result<Resolution> {
        let groups = self.recipe.package_groups();
        if let Some(keep) = keep {
            self.offer(keep)?;
        }
        self.update(listen)?;
        let releases = self.releases()?;
        let mut index = self.index()?;
        if let Some(keep) = keep {
            self.pin(keep, &groups, &mut index, listen)?;
        }
        let mut installed: BTreeMap<String, (Id, Stage)> = BTreeMap::new();
        self.write_status(&installed, &index)?;

        listen("resolving the bootstrap");
        let mut required = vec!["?priority(required)".to_owned()];
        required.extend(self.bootstrap_quirks());
        let plain = ["--no-install-recommends".to_owned()];
        self.simulate(&required, &plain, Stage::Required, &mut installed, &index)?;
        self.write_status(&installed, &index)?;
        self.simulate(&self.base(), &plain, Stage::Base, &mut installed, &index)?;
        self.write_status(&installed, &index)?;

        for (stage, group) in (1u32..).zip(&groups) {
            listen(&format!("resolving packages {stage}"));
            let mut wanted: Vec<String> = group.install.iter().map(ToString::to_string).collect();
            wanted.extend(self.local_debs(group, &mut index)?);
            if !wanted.is_empty() {
                let stage = Stage::Packages(stage);
                self.simulate(
                    &wanted,
                    &group_options(group),
                    stage,
                    &mut installed,
                    &index,
                )?;
                self.write_status(&installed, &index)?;
            }
        }

        let mut debs = Vec::new();
        for (id, stage) in installed.values() {
            let found = index::chosen(&index, id)?;
            debs.push(Deb {
                name: id.0.clone(),
                version: id.1.clone(),
                architecture: id.2.clone(),
                stage: *stage,
                archive: found.archive.clone(),
                path: found.path.clone(),
                size: found.size,
                sha256: found.sha256,
            });
        }
        Ok(Resolution { releases, debs })
    }

    /// What the bootstrap has besides the required packages.
    fn base(&self) -> Vec<String> {
        let bootstrap = &self.recipe.bootstrap;
        let mut base = vec!["apt".to_owned()];
        match bootstrap.variant {
            Variant::Minbase => {}
            Variant::Buildd => base.push("build-essential".into()),
            Variant::Standard => base.push("?priority(important)".into()),
        }
        base.extend(bootstrap.include.iter().map(ToString::to_string));
        base.extend(bootstrap.exclude.iter().map(|name| format!("{name}-")));
        base
    }

    /// A group's packages beside the recipe, as apt takes them; the index
    /// learns of them.
    fn local_debs(
        &self,
        group: &Packages,
        index: &mut BTreeMap<Id, Candidate>,
    ) -> Result<Vec<String>> {
        let mut wanted = Vec::new();
        for local in &group.debs {
            let path = self.beside.join(local.as_path());
            let (id, candidate) = local_candidate(&path, local.as_str())?;
            wanted.push(path.display().to_string());
            index.insert(id, candidate);
        }
        Ok(wanted)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, text).context(|| format!("cannot write {}", path.display()))
    }

    /// What debootstrap itself adds for a suite, which no Priority field says.
    fn bootstrap_quirks(&self) -> Vec<String> {
        match self.recipe.bootstrap.suite.as_str() {
            "bookworm" => vec!["usr-is-merged".into(), "usrmerge-".into()],
            _ => Vec::new(),
        }
    }

    fn tool(&self) -> Tool {
        Tool::new("apt-get")
            .tied()
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .env("TZ", "UTC")
    }

    /// Simulates an installation; what apt would do, or why it cannot.
    fn ask(&self, options: &[String], wanted: &[String]) -> Result<Answer> {
        let (ended, stdout) = self
            .tool()
            .args(["--quiet", "--simulate", "--yes"])
            .args(options)
            .args(["install", "--"])
            .args(wanted)
            .capture()?;
        let Err(failure) = ended else {
            return Ok(Ok(String::from_utf8_lossy(&stdout).into_owned()));
        };
        // Reasons stand on either stream, between lines about progress.
        let reasons = last_lines(&stdout).into_iter();
        let reasons = reasons.filter(|line| line.starts_with(char::is_whitespace));
        Ok(Err(reasons.chain(failure.tail().iter().cloned()).collect()))
    }

    /// Adds what one installation would unpack.
    fn simulate(
        &self,
        wanted: &[String],
        options: &[String],
        stage: Stage,
        installed: &mut BTreeMap<String, (Id, Stage)>,
        index: &BTreeMap<Id, Candidate>,
    ) -> Result<()> {
        let Plan { install, remove } = self.plan(options, wanted, index)?;
        if let Some(name) = remove.first() {
            return Err(
                Error::failed(format!("installing would remove the package `{name}`"))
                    .detail(format!("in the stage that installs {}", wanted.join(" ")))
                    .hint("list it under `exclude` of [bootstrap], or drop what conflicts with it"),
            );
        }
        for id in install {
            installed.insert(id.0.clone(), (id, stage));
        }
        Ok(())
    }

    /// What apt would do to install something.
    fn plan(
        &self,
        options: &[String],
        wanted: &[String],
        index: &BTreeMap<Id, Candidate>,
    ) -> Result<Plan> {
        match self.ask(options, wanted)? {
            Ok(text) => Ok(Plan {
                install: text.lines().filter_map(parse_inst).collect(),
                remove: text.lines().filter_map(parse_remv).collect(),
            }),
            Err(reasons) => Err(self.explain_unresolved(options, wanted, index, &reasons)?),
        }
    }

    /// Why something cannot be installed: by the indexes, and by what apt does
    /// when it is allowed more.
    fn explain_unresolved(
        &self,
        options: &[String],
        wanted: &[String],
        index: &BTreeMap<Id, Candidate>,
        reasons: &[String],
    ) -> Result<Error> {
        let mut explained = if let Some(name) = index::unknown(index, wanted) {
            Error::failed(format!("no archive of the recipe has the package `{name}`"))
                .hint("check its name, or add the [[source]] that has it")
        } else if self.removes_essential(options, wanted)? {
            Error::failed("apt would have to remove an essential package")
                .hint("every Debian has the essential packages: do not list them under `exclude`")
        } else {
            Error::failed("apt finds no way to install the recipe's packages").hint(
                "read apt's reasons above: a pinned version or a missing [[source]] is the \
                 usual cause",
            )
        };
        for line in reasons {
            explained = explained.detail(line.clone());
        }
        Ok(explained)
    }

    /// Whether apt only refuses because an essential package would go.
    fn removes_essential(&self, options: &[String], wanted: &[String]) -> Result<bool> {
        let mut options = options.to_vec();
        options.push("--allow-remove-essential".to_owned());
        Ok(self.ask(&options, wanted)?.is_ok())
    }

    /// Pretends that all of `installed` is installed.
    fn write_status(
        &self,
        installed: &BTreeMap<String, (Id, Stage)>,
        index: &BTreeMap<Id, Candidate>,
    ) -> Result<()> {
        let mut text = String::new();
        for (id, _) in installed.values() {
            let found = index::chosen(index, id)?;
            text.push_str(&found.stanza);
            text.push_str("\nStatus: install ok installed\n\n");
        }
        self.write("status", &text)
    }
}

/// `Inst name [old] (version Origin:… [arch]) …`
fn parse_inst(line: &str) -> Option<Id> {
    let rest = line.strip_prefix("Inst ")?;
    let name = rest.split(' ').next()?.split(':').next()?;
    let inside = rest.split_once('(')?.1.split_once(')')?.0;
    let version = inside.split(' ').next()?;
    let architecture = inside.rsplit_once('[')?.1.split(']').next()?;
    Some((name.to_owned(), version.to_owned(), architecture.to_owned()))
}

/// `Remv name [version] …`
fn parse_remv(line: &str) -> Option<String> {
    let rest = line.strip_prefix("Remv ")?;
    let name = rest.split([' ', ':']).next()?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_simulations_are_understood() {
        let plain = "Inst libc6 (2.31-13+deb11u13 Debian:11.11/oldoldstable, Debian-Security:11/x [amd64]) []";
        let id = parse_inst(plain).unwrap();
        assert_eq!(
            id,
            ("libc6".into(), "2.31-13+deb11u13".into(), "amd64".into())
        );
        let upgrade = "Inst tzdata [2020a-1] (2024b-0+deb11u1 Debian:11/x [all])";
        assert_eq!(parse_inst(upgrade).unwrap().1, "2024b-0+deb11u1");
        assert!(parse_inst("Conf libc6 (2.31 Debian [amd64])").is_none());
        assert_eq!(
            parse_remv("Remv mawk:amd64 [1.3.4] []").as_deref(),
            Some("mawk")
        );
    }
}
