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
//! text -> TOML with places (toml) -> sections (section!, Field)
//!      -> checks between sections (check) -> files beside it (beside)
//! ```
//!
//! All but the last step are pure: [`Recipe::parse`] takes a string. Every key
//! is defined once, by the `section!` macro, which makes the struct, the
//! reader, the defaults, the list behind "did you mean" and the reference
//! ([`Recipe::SHAPE`]) from the same lines.
//!
//! A [`Recipe`] holds no trace of how it was written: comments, the order of
//! keys and spelled-out defaults are gone, so that its
//! [canonical form](Recipe::canonical_json) can serve as the key of a step.

mod apt;
mod beside;
mod check;
mod error;
mod field;
pub(crate) mod glob;
mod grammar;
mod python;
mod reference;
mod requirement;
mod section;
mod step;
mod tree;
mod value;
mod word;

use std::path::Path;

use serde::Serialize;
use store::name::ImageName;
use toml::de::DeTable;

pub use error::{RecipeError, RecipeErrorKind};
pub use field::{Key, Shape};
pub use python::{Git, Virtualenv};
pub use reference::reference;
pub use requirement::{Commit, GitUrl, RefName, Requirement, Subdirectory};
pub use step::{Argument, Clean, Header, Health, RequestPath, Run, Service, Test};
pub use tree::{
    Answer, Apt, Bootstrap, Comment, File, FileKind, LinkTarget, Packages, Source, System, User,
};
pub use value::{Id, Mode, Owner, Priority, Timeout, Variant};
pub use word::{
    Architecture, Beside, Component, Digest, Interpreter, Label, Locale, Login, Moment,
    PackageName, PackageSpec, Script, Suite, TimeZone, Title, TreeGlob, TreePath, Unfit,
};

use error::Fault;
use field::{Reader, Spans};
use section::{Section, section};

section! {
    /// An image: what it is made of and how it runs.
    pub struct Recipe "" {
        /// The name of the image.
        ///
        /// Example: `name = "fanery-node"`
        name: ImageName = "name" required;
        /// One sentence about it.
        ///
        /// Example: `description = "Fanery under gunicorn"`
        description: Option<Title> = "description" optional;
        /// The first tree.
        bootstrap: Bootstrap = "bootstrap" required;
        /// Further archives for apt.
        sources: Vec<Source> = "source" optional;
        /// Settings of apt.
        apt: Apt = "apt" default(empty()) "nothing";
        /// Packages, group by group.
        packages: Vec<Packages> = "packages" optional;
        /// Language and time.
        system: System = "system" default(empty()) "C.UTF-8, Etc/UTC";
        /// Users.
        users: Vec<User> = "user" optional;
        /// Files, directories and links.
        files: Vec<File> = "file" optional;
        /// Python virtualenvs.
        virtualenvs: Vec<Virtualenv> = "virtualenv" optional;
        /// Free steps.
        runs: Vec<Run> = "run" optional;
        /// Tests that the finished tree must pass.
        tests: Vec<Test> = "test" optional;
        /// How a session is run.
        service: Option<Service> = "service" optional;
        /// What is removed before packing.
        clean: Clean = "clean" default(empty()) "the default list";
    }
}

/// A section of which nothing was written and nothing must be.
fn empty<T: Section>() -> T {
    let mut reader = Reader::default();
    match T::from_table(&DeTable::new(), &(0..0), &mut reader) {
        Ok(section) => section,
        Err(fault) => unreachable!("a section without required keys: {}", fault.message),
    }
}

impl Recipe {
    /// Reads a recipe and looks at the files that it names beside it.
    pub fn load(path: &Path) -> Result<Recipe, RecipeError> {
        let text = beside::read_recipe(path)?;
        let (recipe, spans) = read(&text).map_err(|fault| fault.at(path, &text))?;
        check::check_new(&recipe, &spans).map_err(|fault| fault.at(path, &text))?;
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

/// Text to recipe, with the places of its values.
fn read(text: &str) -> Result<(Recipe, Spans), Fault> {
    let table = DeTable::parse(text).map_err(|error| syntax(&error))?;
    let mut reader = Reader::default();
    let mut recipe = Recipe::from_table(table.get_ref(), &(0..0), &mut reader)?;
    let spans = reader.into_spans();
    check::check(&recipe, &spans)?;
    recipe.normalise();
    Ok((recipe, spans))
}

/// What the TOML parser says, for people.
fn syntax(error: &toml::de::Error) -> Fault {
    let message = error.message();
    let message = message
        .strip_suffix(", expected nothing")
        .unwrap_or(message);
    let hint = match message {
        "unexpected leading zero" => "a file mode is written in quotes: \"0755\"",
        "duplicate key" => "a key is given once; further [[sections]] have two brackets",
        _ => "",
    };
    Fault::new(error.span().unwrap_or(0..0), format!("not TOML: {message}"))
        .kind(RecipeErrorKind::Syntax)
        .hint(hint)
}

impl Recipe {
    /// Whether it names packages, which may make users and groups.
    fn installs_packages(&self) -> bool {
        let mut groups = self.packages.iter();
        !self.bootstrap.include.is_empty()
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
        }
    }
}
