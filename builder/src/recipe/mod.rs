//! The recipe: what a person writes about an image.
//!
//! A recipe is a TOML file. It names a Debian suite, packages, users, files,
//! virtualenvs, tests and how the service is started; it names no mirror, no
//! index and no secret, those belong to the machine. The files it uses lie
//! beside it, so that a directory is the whole of it.
//!
//! Reading is strict, because a typing error that is ignored becomes an image
//! that lacks something: an unknown key, a wrong type, an empty list, a name
//! used twice or a user nobody makes is an error that shows the line and says
//! what was expected.
//!
//! The way of a recipe through this module:
//!
//! ```text
//! text -> TOML with its places (toml) -> structs (serde, read)
//!      -> checks between sections (check)
//!      -> what requirements files name (include) -> files beside it (beside)
//! ```
//!
//! All but the last two steps are pure: [`Recipe::parse`] takes a string. The structs are
//! the schema: `docs/recipe.md` is made of their fields and doc comments, and a key
//! that is not a field of theirs is refused. A field that another one gives a default
//! is an `Option` with a method of its name; in a recipe that was read it is there.
//!
//! A [`Recipe`] holds no trace of how it was written: comments, the order of
//! keys and spelled-out defaults are gone, so that its
//! [canonical form](Recipe::canonical_json) can serve as the key of a step.

mod apt;
mod beside;
mod check;
pub(crate) mod debris;
mod error;
pub(crate) mod glob;
mod grammar;
mod include;
mod marker;
mod python;
mod read;
mod requirement;
pub(crate) mod requirements_file;
mod step;
mod tree;
mod value;
mod version_clause;
mod word;

use std::path::Path;

use serde::{Deserialize, Serialize};
use store::name::ImageName;

pub(crate) use beside::is_distribution;
pub use error::{RecipeError, RecipeErrorKind};
pub(crate) use include::joined;
pub use python::{Git, Virtualenv};
pub use requirement::{
    Commit, DownloadUrl, Extra, ForeignLock, GitUrl, Group, Projects, RefName, Requirement,
    Subdirectory,
};
pub use step::{
    Argument, Clean, Fences, Header, Health, Process, RequestPath, Run, Service, Test, Timer,
};
pub use tree::{
    Answer, Apt, Bootstrap, Comment, Download, File, FileKind, LinkTarget, Packages, Source,
    System, User,
};
pub use value::{
    Count, Id, Index, Memory, Mode, OpenFiles, Owner, Priority, Resolver, Share, Strip, Tasks,
    Timeout, Variant,
};
pub use word::{
    Architecture, BaseImage, Beside, Checksum, Component, Digest, Interpreter, Label, Locale,
    Login, Moment, PackageName, PackageSpec, ProcessName, Script, SecretName, SignalName, Suite,
    TimeOfDay, TimeZone, Title, TreeGlob, TreePath, Unfit, Variable,
};

use error::Fault;
use read::read;
pub(crate) use step::variables;

/// An image: what it is made of and how it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    /// The name of the image.
    ///
    /// Example: `name = "fanery-node"`
    pub name: ImageName,
    /// One sentence about it.
    ///
    /// Example: `description = "Fanery under gunicorn"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Title>,
    /// The first tree.
    pub bootstrap: Bootstrap,
    /// Further archives for apt.
    #[serde(rename = "source", default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// Settings of apt. Default: nothing.
    #[serde(default)]
    pub apt: Apt,
    /// Packages, group by group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Packages>,
    /// Language and time. Default: C.UTF-8, Etc/UTC.
    #[serde(default)]
    pub system: System,
    /// Users.
    #[serde(rename = "user", default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// Files from the network.
    #[serde(rename = "download", default, skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<Download>,
    /// Files, directories and links.
    #[serde(rename = "file", default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Python virtualenvs.
    #[serde(rename = "virtualenv", default, skip_serializing_if = "Vec::is_empty")]
    pub virtualenvs: Vec<Virtualenv>,
    /// Free steps.
    #[serde(rename = "run", default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
    /// Tests that the finished tree must pass.
    #[serde(rename = "test", default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Test>,
    /// How a session is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// What runs in a session beside the service.
    #[serde(rename = "process", default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// What runs in a session from time to time.
    #[serde(rename = "timer", default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
    /// What is removed before packing. Default: the default list.
    #[serde(default)]
    pub clean: Clean,
}

impl Recipe {
    /// Reads a recipe and looks at the files that it names beside it.
    pub fn load(path: &Path) -> Result<Recipe, RecipeError> {
        let text = beside::read_recipe(path)?;
        let (mut recipe, spans) = read(&text).map_err(|fault| fault.at(path, &text))?;
        check::check_new(&recipe, &spans).map_err(|fault| fault.at(path, &text))?;
        include::include(&mut recipe, path)?;
        beside::check(&recipe, &spans, path, &text)?;
        Ok(recipe)
    }

    /// Reads a recipe from its text alone; `file` is what errors call it.
    pub fn parse(text: &str, file: &Path) -> Result<Recipe, RecipeError> {
        read(text)
            .map(|(recipe, _)| recipe)
            .map_err(|fault| fault.at(file, text))
    }

    /// The recipe as compact JSON with every default filled in: the same bytes
    /// for every way of writing the same recipe.
    pub fn canonical_json(&self) -> Vec<u8> {
        canonical_json(self)
    }

    /// A recipe from its canonical form; `file` is what errors call it. What lies
    /// beside it is not looked at.
    pub fn from_canonical_json(json: &[u8], file: &Path) -> Result<Recipe, RecipeError> {
        // The keys are those of TOML, so the one reader reads both.
        let text = serde_json::from_slice::<toml::Table>(json)
            .map_err(|error| error.to_string())
            .and_then(|table| toml::to_string(&table).map_err(|error| error.to_string()))
            .map_err(|why| Fault::new(0..0, format!("no canonical recipe: {why}")).at(file, ""))?;
        Self::parse(&text, file)
    }

    /// Every file and directory beside the recipe that it uses, with the key
    /// that names it, in the order of the recipe, as written.
    pub fn besides(&self) -> Vec<&Beside> {
        beside::uses(self)
            .into_iter()
            .map(|used| used.path)
            .collect()
    }
}

/// The canonical JSON of a recipe or of any section of it, for the keys of
/// steps.
pub fn canonical_json<T: Serialize>(section: &T) -> Vec<u8> {
    match serde_json::to_vec(section) {
        Ok(json) => json,
        // Strings, numbers, lists and maps with string keys always serialise.
        Err(error) => unreachable!("a recipe has a JSON form: {error}"),
    }
}

impl Recipe {
    /// Whether it names packages, which may make users and groups.
    fn installs_packages(&self) -> bool {
        let mut groups = self.packages.iter();
        self.bootstrap.base.is_some()
            || !self.bootstrap.include.is_empty()
            || groups.any(|group| !group.install.is_empty() || !group.debs.is_empty())
    }

    /// Makes equal what means the same.
    fn normalise(&mut self) {
        let system = &mut self.system;
        system.locales.push(system.locale.clone());
        system.locales.retain(Locale::needs_generating);
        system.locales.sort();
        system.locales.dedup();
        for user in &mut self.users {
            user.groups.sort();
            user.gid = Some(user.gid());
            user.home = Some(user.home());
        }
        for file in self.files.iter_mut().filter(|file| !file.append) {
            file.owner.get_or_insert_with(Owner::root);
        }
        for run in &mut self.runs {
            run.name = Some(run.name());
        }
    }
}
