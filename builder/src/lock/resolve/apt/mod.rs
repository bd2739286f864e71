//! Which Debian packages: apt's own resolver on an empty system.
//!
//! apt-get runs with a private directory: our sources, our status file, the
//! machine's proxies, nothing else of its configuration. It checks the Release
//! signatures against the distribution's keyring. Each stage is simulated
//! (`--simulate`) on a status file in which the stages before it count as
//! installed (see `stages`); so one apt call a stage tells the exact set, and a
//! security update takes part from the start instead of as an upgrade later.
//! Of the verified indexes apt is first shown what dependencies lead to from
//! what it is asked for: some hundred packages of sixty thousand.
//!
//! ```text
//! settings     what apt is asked with: directories, sources, how they rank
//! update       indexes, brought and verified by apt
//! index        Release files and indexes that were verified: which file of several of one version
//! stages       the stages of a tree, each resolved on those before it
//! keep         what stays from the lock before
//! base         what the base of a tree has installed
//! suite_index  one suite by itself, for audits
//! stanza       one entry of an index
//! diagnosis    what is wrong with an archive, by what can be measured
//! verify       whether a Release file is signed as it should be
//! openpgp      why a signature is not accepted
//! ```

mod base;
mod diagnosis;
mod index;
mod keep;
mod openpgp;
mod settings;
mod stages;
mod stanza;
mod suite_index;
mod update;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use memchr::memmem;

use crate::error::{Context, Error, Result};
use crate::host::{Archives, Network};
use crate::lockfile::{Deb, Release};
use crate::process::{Captured, Tool, last_lines};
use crate::recipe::{Packages, Recipe, Variant};

use index::{DEPENDENCIES, Index, name_and_version, relatives};
use settings::Which;
use stages::{Stages, State};
use stanza::{Candidate, Id, local_candidate};

pub use keep::{Keep, Locked};
pub use suite_index::{Offered, SuiteIndex, SuiteRequest};

/// What apt's resolver of problems says first, with [`Which::Needed`], when it has nothing to do.
/// A version of apt that says it otherwise is asked for everything, and answers the same, later.
const NOTHING_BROKEN: &[u8] = b"Starting pkgProblemResolver with broken count: 0\n";

/// What apt decided.
#[derive(Debug)]
pub struct Resolution {
    /// The verified Release files.
    pub releases: Vec<Release>,
    /// Every package of each stage.
    pub debs: Vec<Deb>,
    /// What each stage removes of those before it.
    pub removed: BTreeMap<String, String>,
}

impl Resolution {
    /// `SOURCE_DATE_EPOCH`: the newest of the Release files.
    pub fn epoch(&self) -> u64 {
        self.releases.iter().map(|r| r.date).max().unwrap_or(0)
    }
}

/// What one simulated installation does.
struct Plan {
    install: Vec<(Id, Candidate)>,
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
    /// What is installed before the first stage.
    installed: State,
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
            installed: State::new(),
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
        apt.copy_keys()?;
        apt.write(
            "apt.conf",
            &apt.configuration(&network.lend(archives, dir)?),
        )?;
        apt.write("preferences.d/1-recipe", &apt.preferences()?)?;
        for empty in ["target", "status"] {
            apt.write(empty, "")?;
        }
        Ok(apt)
    }

    /// Begins with what a base has installed, by its dpkg status.
    #[must_use]
    pub fn on_base(mut self, status: &str) -> Self {
        self.installed = base::installed(status);
        self
    }

    /// Resolves every stage of the recipe, around what is to be kept.
    pub fn resolve(&self, keep: Option<&Keep>, listen: &mut dyn FnMut(&str)) -> Result<Resolution> {
        let groups = self.recipe.package_groups();
        self.update(listen)?;
        let releases = self.releases()?;
        let mut index = self.index()?;
        let mut locals = Vec::new();
        for group in &groups {
            locals.push(self.local_debs(group, &mut index)?);
        }
        if let Some(keep) = keep {
            keep.offer(self, &mut index);
        }
        let required = if self.recipe.bootstrap.base.is_none() {
            let mut required = self.of_priority("required", &index);
            required.extend(self.bootstrap_quirks());
            required
        } else {
            Vec::new()
        };
        let retained = keep.map(|keep| keep.index(self));
        let needed = self.needed(&required, keep, &index);
        self.identify(&index, &needed, retained.as_deref())?;
        let pins = match keep {
            Some(keep) => self.pin(keep, &groups, &locals, &index, listen)?,
            None => keep::Pins::default(),
        };
        let mut stages = Stages::new(self, pins, self.installed.clone())?;
        if self.recipe.bootstrap.base.is_none() {
            listen("resolving the bootstrap");
            stages.bootstrap(&required, &self.base(&index), &index)?;
        }
        for (number, (group, local)) in (1u32..).zip(groups.iter().zip(locals)) {
            listen(&format!("resolving packages {number}"));
            stages.group(number, group, local, &index)?;
        }
        Ok(Resolution {
            releases,
            debs: stages.debs,
            removed: stages.removed,
        })
    }

    /// The names of packages that apt can come to install, by the recipe, by what is installed
    /// already and by what is kept.
    fn needed(&self, required: &[String], keep: Option<&Keep>, index: &Index) -> BTreeSet<String> {
        let groups = self.recipe.package_groups();
        let asked = groups.iter().flat_map(|group| &group.install);
        let mut words: Vec<String> = asked.map(ToString::to_string).collect();
        words.extend_from_slice(required);
        words.extend(self.base(index));
        let named = words.iter().map(|word| name_and_version(word).0.to_owned());
        let mut roots: Vec<String> = named.collect();
        roots.extend(index.others());
        for (name, package) in &self.installed {
            roots.push(name.clone());
            roots.extend(relatives(package.found.stanza.as_bytes(), &DEPENDENCIES));
        }
        if let Some(keep) = keep {
            roots.extend(keep.debs.iter().map(|locked| locked.deb.name.clone()));
            roots.extend(keep.upgrade.iter().cloned());
        }
        let recommends = groups.iter().any(|group| group.recommends);
        index.reachable(roots, recommends)
    }

    /// What the bootstrap has besides the required packages.
    fn base(&self, index: &Index) -> Vec<String> {
        let bootstrap = &self.recipe.bootstrap;
        let mut base = vec!["apt".to_owned()];
        match bootstrap.variant {
            Variant::Minbase => {}
            Variant::Buildd => base.push("build-essential".into()),
            Variant::Standard => base.extend(self.of_priority("important", index)),
        }
        base.extend(bootstrap.include.iter().map(ToString::to_string));
        base.extend(bootstrap.exclude.iter().map(|name| format!("{name}-")));
        base
    }

    /// The packages of the bootstrap's archive that are so important.
    fn of_priority(&self, priority: &str, index: &Index) -> Vec<String> {
        index.of_priority(&self.recipe.bootstrap.archive_name(), priority)
    }

    /// A group's packages beside the recipe, as apt takes them; the index
    /// learns of them.
    fn local_debs(&self, group: &Packages, index: &mut Index) -> Result<Vec<String>> {
        let mut wanted = Vec::new();
        for local in &group.debs {
            let path = self.beside.join(local.as_path());
            let (id, candidate) = local_candidate(&path, local.as_str())?;
            wanted.push(path.display().to_string());
            index.add(id, candidate);
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

    /// The options of one `[[packages]]`.
    fn group_options(&self, group: &Packages) -> Result<Vec<String>> {
        let mut options = vec![if group.recommends {
            "--install-recommends".to_owned()
        } else {
            "--no-install-recommends".to_owned()
        }];
        if let Some(release) = &group.target_release {
            options.extend(["-o".to_owned(), self.target(release)?]);
        }
        Ok(options)
    }

    /// Asks apt what it would do; its answer, or why it cannot.
    ///
    /// Where following dependencies leaves nothing broken, what they do not lead to plays no part.
    /// Else apt weighs everything that it knows, and so it has to know all of it.
    fn ask(&self, how: &str, options: &[String], verb: &str, names: &[String]) -> Result<Answer> {
        let ask = |which: Which| {
            self.tool()
                .args(["--quiet", how, "--yes", "--allow-downgrades"])
                .args(["-o", "Acquire::ForceHash=sha256"])
                .args(self.lists_of(which))
                .args(options)
                .args([verb, "--"])
                .args(names)
                .capture()
        };
        let mut answer = ask(Which::Needed)?;
        if answer.ended.is_err() || memmem::find(&answer.stderr, NOTHING_BROKEN).is_none() {
            answer = ask(Which::All)?;
        }
        let Captured { ended, stdout, .. } = answer;
        let Err(failure) = ended else {
            return Ok(Ok(String::from_utf8_lossy(&stdout).into_owned()));
        };
        // apt explains itself on one stream and sums up on the other.
        let reasons = last_lines(&stdout).into_iter();
        let reasons = reasons.filter(|line| !line.ends_with("..."));
        Ok(Err(reasons.chain(failure.tail().iter().cloned()).collect()))
    }

    /// What apt would do to install something.
    fn plan(&self, options: &[String], wanted: &[String], index: &Index) -> Result<Plan> {
        let text = match self.ask("--simulate", options, "install", wanted)? {
            Ok(text) => text,
            Err(reasons) => return Err(self.explain_unresolved(options, wanted, index, &reasons)?),
        };
        let remove = text.lines().filter_map(parse_remv).collect();
        let ids: Vec<Id> = text.lines().filter_map(parse_inst).collect();
        // Archives may have other bytes under one name and version.
        let bytes = if ids.iter().any(|id| index.of(id).len() > 1) {
            let answer = self.ask("--print-uris", options, "install", wanted)?;
            answer.unwrap_or_default().to_ascii_lowercase()
        } else {
            String::new()
        };
        let install = ids
            .into_iter()
            .map(|id| {
                let found = index.chosen(&id, &bytes)?;
                Ok((id, found))
            })
            .collect::<Result<_>>()?;
        Ok(Plan { install, remove })
    }

    /// Why something cannot be installed: by the indexes, and by what apt does
    /// when it is allowed more.
    fn explain_unresolved(
        &self,
        options: &[String],
        wanted: &[String],
        index: &Index,
        reasons: &[String],
    ) -> Result<Error> {
        let mut explained = if let Some(name) = index.unknown(wanted) {
            Error::failed(format!("no archive of the recipe has the package `{name}`"))
                .hint("check its name, or add the [[source]] that has it")
        } else if self.removes_essential(options, wanted)? {
            Error::failed("apt would have to remove an essential package")
                .hint("every Debian has the essential packages: do not list them under `exclude`")
        } else {
            Error::failed("apt finds no way to install the recipe's packages").hint(
                "read apt's reasons above: a pinned version, a missing [[source]] or a virtual \
                 package of which one must be named is the usual cause",
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
        Ok(self.ask("--simulate", &options, "install", wanted)?.is_ok())
    }

    /// Pretends that this is what is installed.
    fn write_status(&self, state: &State) -> Result<()> {
        let mut text = String::new();
        for package in state.values() {
            text.push_str(&package.found.stanza);
            let wish = if package.is_held { "hold" } else { "install" };
            let _ = write!(text, "\nStatus: {wish} ok installed\n\n");
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

/// `Remv name [version] …`, or `Purg` with its configuration
fn parse_remv(line: &str) -> Option<String> {
    let rest = line.strip_prefix("Remv ").or(line.strip_prefix("Purg "))?;
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
