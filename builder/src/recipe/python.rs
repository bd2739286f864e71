//! Virtualenvs: where, for whom, with what in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::requirement::{
    Commit, Extra, GitUrl, Group, Projects, RefName, Requirement, Subdirectory,
};
use super::value::{Index, Owner};
use super::word::{Beside, Interpreter, TreePath, Variable};

/// A Python virtualenv, created after packages, users and files. Everything in
/// it is locked with its hash and installed without network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Virtualenv {
    /// Its path in the image.
    ///
    /// Example: `path = "/home/operador/.virtualenvs/MyProject"`
    pub path: TreePath,
    /// Who owns it and runs pip in it. Default: root:root.
    ///
    /// Example: `owner = "operador"`
    #[serde(default = "Owner::root")]
    pub owner: Owner,
    /// The interpreter: a command or an absolute path in the tree. Default: python3.
    ///
    /// Example: `python = "python2.7"`
    #[serde(default = "Interpreter::python3")]
    pub python: Interpreter,
    /// Whether the owner gets virtualenvwrapper (`workon`, `mkvirtualenv`):
    /// the package `virtualenvwrapper` is installed and the lines that load
    /// it are added to the owner's `.bashrc`. The virtualenv should then
    /// lie in `~/.virtualenvs`. Default: false.
    ///
    /// Example: `wrapper = true`
    #[serde(default)]
    pub wrapper: bool,
    /// Whether Debian's own Python packages are visible inside. Default: false.
    ///
    /// Example: `system-site-packages = true`
    #[serde(default)]
    pub system_site_packages: bool,
    /// What to install, one PEP 508 line each.
    ///
    /// Example: `requirements = ["fanery==0.2.5", "gunicorn==19.10.0"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<Requirement>,
    /// Requirements files beside the recipe, in pip's format, or locks of other
    /// tools, which are taken as they are: `pylock.toml` (PEP 751) and `uv.lock`.
    /// What a file names (`-r`, `-c`, `-e DIRECTORY`, `git+URL@TAG`) is taken as if
    /// the recipe named it.
    ///
    /// Example: `requirements-files = ["files/requirements.txt"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements_files: Vec<Beside>,
    /// Limits on the versions of dependencies, one PEP 508 line each.
    ///
    /// Example: `constraints = ["urllib3<2"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Requirement>,
    /// Constraint files beside the recipe.
    ///
    /// Example: `constraints-files = ["files/constraints.txt"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints_files: Vec<Beside>,
    /// Limits on the versions of what sources are built with (PEP 517), one PEP 508
    /// line each: a source of some years ago may want a setuptools of its time. Where pip
    /// decides, one before 25.3 keeps to them for what is installed, too.
    ///
    /// Example: `build-constraints = ["setuptools<81"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build_constraints: Vec<Requirement>,
    /// Which of the machine's indexes a project comes from, where several have
    /// other files under its name: `main` is the one of `index-url`, `extra` any of
    /// `extra-index-url`. Names may end in `*`; the longest that fits counts.
    ///
    /// Example: `index = { "acme-*" = "extra", torch = "extra" }`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub index: BTreeMap<Projects, Index>,
    /// Environment variables for pip and the compilers that it calls.
    ///
    /// Example: `environment = { CFLAGS = "-fgnu89-inline" }`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<Variable, String>,
    /// Python packages in directories beside the recipe, installed last; `.` is
    /// the recipe's own directory. What they depend on is locked and installed
    /// like the requirements. Version control, byte code, `*.egg-info`, `.env`,
    /// virtualenvs and tagged caches are left out. A link to what lies beside the
    /// package is taken as what it leads to.
    ///
    /// Example: `local = ["files/myproject"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local: Vec<Beside>,
    /// Wheels and source archives beside the recipe, with what they depend on. A line
    /// `./FILE.whl` of a requirements file is taken as one of these.
    ///
    /// Example: `distributions = ["files/acme-1.0-py3-none-any.whl"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distributions: Vec<Beside>,
    /// Python packages from Git repositories, at a tag or a commit, with what
    /// they depend on.
    ///
    /// Example: `git = [{ url = "https://git.example.org/MyProject.git", tag = "v0.0.1" }]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub git: Vec<Git>,
    /// Extras of the packages in `local` and `git` and of the locks in
    /// `requirements-files`; each must be known to one of them.
    ///
    /// Example: `extras = ["postgres"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extras: Vec<Extra>,
    /// Dependency groups (PEP 735) of the same.
    ///
    /// Example: `groups = ["production"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

impl Virtualenv {
    /// Whether it is one of Python 2, whose pip builds sources with the virtualenv's own setuptools.
    pub(crate) fn is_python2(&self) -> bool {
        let command = self.python.as_str().rsplit('/').next();
        command.is_some_and(|name| name.starts_with("python2"))
    }

    /// Whether nothing is installed in it: nobody asks pip then, and its interpreter may come
    /// with the recipe's own files.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            requirements,
            requirements_files,
            local,
            distributions,
            git,
            extras,
            groups,
            ..
        } = self;
        requirements.is_empty()
            && requirements_files.is_empty()
            && local.is_empty()
            && distributions.is_empty()
            && git.is_empty()
            && extras.is_empty()
            && groups.is_empty()
    }
}

/// A Python package in a Git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Git {
    /// The repository. Do not put credentials in it: they would end up
    /// in the lock and in the image.
    ///
    /// Example: `url = "https://git.example.org/MyProject.git"`
    pub url: GitUrl,
    /// The tag; the lock records its commit. Either this or `commit`.
    ///
    /// Example: `tag = "v0.0.1"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<RefName>,
    /// The commit, all 40 hexadecimal digits. Either this or `tag`.
    ///
    /// Example: `commit = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// The directory in the repository that holds the package.
    ///
    /// Example: `subdirectory = "python"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subdirectory: Option<Subdirectory>,
}

impl Interpreter {
    fn python3() -> Self {
        Interpreter::known("python3")
    }
}
