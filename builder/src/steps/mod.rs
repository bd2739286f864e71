//! The units of a build: each section of the recipe becomes a [`Step`].
//!
//! A step is plain data: a script, who runs it, which files it gets. Its
//! serialised form, which names every input by digest, is its identity; so what
//! can influence a step is exactly what it is made of. Scripts run under
//! `sh -eu` inside the source chroot and find their files below
//! `/run/imgbuild/step`.
//!
//! ```text
//! packages    bootstrap and packages: debootstrap and apt on a local archive
//! base        the tree of another image in place of debootstrap's
//! ids         system users and groups get the ids that the lock has
//! databases   database clusters that packages make, made anew
//! system      locale, time zone, users
//! files       [[download]] and [[file]]
//! virtualenv  [[virtualenv]], filled from locked files
//! finish      what is normalised, as a table
//! ```

mod base;
mod databases;
mod files;
mod finish;
mod ids;
mod packages;
mod system;
mod virtualenv;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use store::ImageId;
use store::digest::Sha256;

use crate::error::{Error, Result};
use crate::lockfile::{InstallStage, LocalFile, Lock};
use crate::process::PATH;
use crate::recipe::{Recipe, Run, Test, Virtualenv, variables};

pub(crate) use base::step as begin_with;
pub(crate) use finish::loses;
pub(crate) use ids::is_taken_by_package;
pub use virtualenv::{IN_ITS_OWN_ENVIRONMENT, RESOLVING_PYTHON};

/// Raised when steps of the same text would now do something else.
const STEP_VERSION: u32 = 1;
/// Where a step finds its files.
pub(crate) const STEP_FILES: &str = "/run/imgbuild/step";
/// Time limit of the steps that are not the recipe's own commands.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// One unit of a build.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    version: u32,
    /// Shown to people; not part of what the step does, but part of its key.
    pub name: String,
    /// The phase it counts to.
    pub phase: Phase,
    /// A program of the host that runs first, beside the tree.
    pub host: Vec<String>,
    /// What runs inside the tree.
    pub script: String,
    /// The user who runs it.
    pub user: String,
    /// The directory in which it runs.
    pub directory: String,
    /// All environment variables that it gets.
    pub environment: BTreeMap<String, String>,
    /// How long it may run.
    #[serde(skip)]
    pub timeout: Duration,
    /// The files that it gets.
    #[serde(rename = "handed")]
    pub files: Vec<StepFile>,
    /// The Debian packages it can install, by stage.
    pub mirror: Option<Mirror>,
    /// The image that the tree begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<ImageId>,
}

/// What a build does, in the order in which it does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// debootstrap, or the base.
    Bootstrap,
    /// apt.
    Packages,
    /// Locale, time zone, users, files.
    Configure,
    /// pip.
    Virtualenvs,
    /// The recipe's free steps.
    Run,
    /// Clean-up and normalisation.
    Finish,
    /// The recipe's tests, on the finished tree.
    Test,
}

/// A file or directory below `/run/imgbuild/step`.
#[derive(Clone, Debug, Serialize)]
pub struct StepFile {
    /// Relative path.
    pub name: String,
    /// What it is.
    pub content: Content,
}

/// The content of a file of a step.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// A text file.
    Text(String),
    /// A retained input, as it is.
    Input(Sha256),
    /// A retained tar archive, unpacked.
    Tree(Sha256),
    /// A retained tar archive of somebody else, decompressed.
    Archive(Sha256),
}

/// Exactly the locked packages of some stages.
#[derive(Clone, Debug, Serialize)]
pub struct Mirror {
    /// In which form the step gets them.
    pub form: Form,
    /// The suite's name in it.
    pub suite: String,
    /// Each package's digest and stage.
    pub debs: Vec<(Sha256, InstallStage)>,
    /// The stage that it brings about, which may install nothing.
    #[serde(skip)]
    pub stage: InstallStage,
    /// Whether the lock says all that becomes of the packages of the last stage.
    #[serde(skip)]
    pub is_complete: bool,
}

/// How a step takes its packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// An archive, for apt.
    Archive,
    /// A tarball, for debootstrap.
    Tarball,
}

impl Step {
    fn new(phase: Phase, name: impl Into<String>, epoch: u64) -> Self {
        Self {
            version: STEP_VERSION,
            name: name.into(),
            phase,
            host: Vec::new(),
            script: String::new(),
            user: "root".into(),
            directory: "/".into(),
            environment: base_environment(epoch),
            timeout: TIMEOUT,
            files: Vec::new(),
            mirror: None,
            base: None,
        }
    }

    fn add_file(&mut self, name: impl Into<String>, content: Content) {
        self.files.push(StepFile {
            name: name.into(),
            content,
        });
    }

    /// Every retained input that must be there before the step runs.
    pub fn inputs(&self) -> impl Iterator<Item = Sha256> + '_ {
        let files = self.files.iter().filter_map(|h| match &h.content {
            Content::Text(_) => None,
            Content::Input(digest) | Content::Tree(digest) | Content::Archive(digest) => {
                Some(*digest)
            }
        });
        files.chain(self.mirror.iter().flat_map(|m| m.debs.iter().map(|d| d.0)))
    }

    /// How many Debian packages it installs.
    pub fn packages(&self) -> u64 {
        let debs = self.mirror.iter().flat_map(|m| &m.debs);
        let own = debs.filter(|(_, stage)| match self.phase {
            Phase::Bootstrap => true,
            _ => self.mirror.as_ref().is_some_and(|m| m.stage == *stage),
        });
        own.count() as u64
    }

    /// Whether its changes are thrown away and only its success counts.
    pub fn is_test(&self) -> bool {
        self.phase == Phase::Test
    }
}

/// The environment that every step starts from.
pub fn base_environment(epoch: u64) -> BTreeMap<String, String> {
    [
        ("PATH", PATH),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/sh"),
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("TERM", "dumb"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        // Byte code is compiled once, last, in a reproducible way.
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONHASHSEED", "0"),
        ("SOURCE_DATE_EPOCH", &epoch.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// The steps up to and with the packages: all that resolving Python needs.
pub fn foundation(recipe: &Recipe, lock: &Lock) -> Vec<Step> {
    let mut steps = vec![match &lock.base {
        Some(base) => base::step(&base.image),
        None => packages::bootstrap(recipe, lock),
    }];
    steps.extend(packages::groups(recipe, lock));
    steps
}

/// The foundation with a virtualenv in which pip resolves one of the recipe's.
pub fn resolving(recipe: &Recipe, lock: &Lock, virtualenv: &Virtualenv) -> Vec<Step> {
    let mut steps = foundation(recipe, lock);
    steps.push(virtualenv::for_resolving(virtualenv));
    steps
}

/// The foundation, its system users and groups with the ids that are recorded.
pub(crate) fn foundation_with_ids(recipe: &Recipe, lock: &Lock) -> Vec<Step> {
    let mut steps = foundation(recipe, lock);
    steps.extend(ids::step(lock));
    steps
}

/// The steps up to and with the virtualenvs: all that building Python packages needs.
pub(crate) fn up_to_virtualenvs(recipe: &Recipe, lock: &Lock) -> Result<Vec<Step>> {
    let mut steps = foundation_with_ids(recipe, lock);
    let locals = Locals { lock };
    steps.extend(databases::step(lock));
    steps.extend(system::settings(recipe, lock.epoch));
    steps.extend(system::preferences(recipe, lock.epoch));
    steps.extend(system::users(recipe, &locals)?);
    steps.extend(system::owners(recipe, lock.epoch));
    steps.extend(files::downloads(recipe, lock.epoch));
    steps.extend(files::files(recipe, &locals)?);
    for virtualenv in &recipe.virtualenvs {
        steps.extend(virtualenv::steps(recipe, virtualenv, &locals)?);
    }
    Ok(steps)
}

/// Every step of a build, in order.
pub fn all(recipe: &Recipe, lock: &Lock) -> Result<Vec<Step>> {
    let mut steps = up_to_virtualenvs(recipe, lock)?;
    for run in &recipe.runs {
        steps.push(free(recipe, run, lock.epoch));
    }
    steps.push(finish::step(recipe, lock));
    for test in &recipe.tests {
        steps.push(self::test(recipe, test, lock.epoch));
    }
    Ok(steps)
}

/// Looks up what the lock says about paths beside the recipe.
pub(crate) struct Locals<'a> {
    pub(crate) lock: &'a Lock,
}

impl Locals<'_> {
    pub(crate) fn digest(&self, path: &str) -> Result<Sha256> {
        self.find(path).map(|f| f.sha256)
    }

    pub(crate) fn find(&self, path: &str) -> Result<&LocalFile> {
        let found = self.lock.files.iter().find(|f| f.path == path);
        found.ok_or_else(|| {
            Error::failed(format!("the lock does not name `{path}`"))
                .hint("run `imgbuild lock` to bring it up to date")
        })
    }
}

/// A user's environment: home and name as the recipe says.
fn user_environment(recipe: &Recipe, user: &str, epoch: u64) -> BTreeMap<String, String> {
    let mut environment = base_environment(epoch);
    if let Some(found) = recipe.users.iter().find(|u| u.name.as_str() == user) {
        environment.insert("HOME".into(), found.home().to_string());
        environment.insert("SHELL".into(), found.shell.to_string());
    } else if user != "root" {
        environment.insert("HOME".into(), "/nonexistent".into());
    }
    environment.insert("USER".into(), user.into());
    environment.insert("LOGNAME".into(), user.into());
    environment
}

fn free(recipe: &Recipe, run: &Run, epoch: u64) -> Step {
    let mut step = Step::new(Phase::Run, format!("run: {}", run.name()), epoch);
    step.script = run.script.to_string();
    step.user = run.user.to_string();
    step.directory = run.directory.to_string();
    step.environment = user_environment(recipe, run.user.as_str(), epoch);
    step.environment.extend(variables(&run.environment));
    step.timeout = run.timeout.duration();
    step
}

fn test(recipe: &Recipe, test: &Test, epoch: u64) -> Step {
    let mut step = Step::new(Phase::Test, format!("test: {}", test.name), epoch);
    let argv = test.argv();
    let words: Vec<String> = argv.iter().map(|w| crate::process::quote(w)).collect();
    step.script = format!("exec {}", words.join(" "));
    step.user = test.user.to_string();
    step.directory = test.directory.to_string();
    step.environment = user_environment(recipe, test.user.as_str(), epoch);
    step.environment.extend(variables(&test.environment));
    step.timeout = test.timeout.duration();
    step
}

/// A shell function that makes missing parent directories of a path with the
/// given owner: `parents PATH OWNER`.
pub(crate) const PARENTS: &str = r#"parents() {
    parent=$(dirname -- "$1")
    [ -d "$parent" ] && return 0
    parents "$parent" "$2"
    parent=$(dirname -- "$1")
    mkdir -m 0755 -- "$parent"
    chown -- "$2" "$parent"
}
"#;

/// Who owns the missing parent directories of a path: the user in whose home it
/// is, elsewhere root.
pub(crate) fn parents_owner(recipe: &Recipe, path: &std::path::Path) -> String {
    let homes = recipe.users.iter().map(|user| (user.home(), user));
    let homes = homes.filter(|(home, _)| home.as_str() != "/" && path.starts_with(home.as_path()));
    let owner = homes.max_by_key(|(home, _)| home.as_str().len());
    owner.map_or_else(
        || "0:0".to_owned(),
        |(_, u)| format!("{}:{}", u.uid, u.gid()),
    )
}

/// The tarball's name in the directory.
pub(crate) const TARBALL: &str = "bootstrap.tar";

/// Where the local archive appears inside a sandbox.
pub(crate) fn mirror_path() -> PathBuf {
    PathBuf::from("/run/imgbuild/mirror")
}
