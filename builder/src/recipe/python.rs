//! Virtualenvs: where, for whom, with what in them.

use std::collections::BTreeMap;

use super::requirement::{Commit, GitUrl, RefName, Requirement, Subdirectory};
use super::section::section;
use super::value::Owner;
use super::word::{Beside, Interpreter, TreePath};

section! {
    /// A Python virtualenv in the tree. Any number, made in the order written,
    /// after packages, users and files. Everything in it is locked with its
    /// hash and installed without network.
    pub struct Virtualenv "[[virtualenv]]" {
        /// Where it is.
        ///
        /// Example: `path = "/home/operador/.virtualenvs/MyProject"`
        path: TreePath = "path" required;
        /// Who owns it and runs pip in it.
        ///
        /// Example: `owner = "operador"`
        owner: Owner = "owner" default(Owner::root()) "root:root";
        /// The interpreter: a command or an absolute path in the tree.
        ///
        /// Example: `python = "python2.7"`
        python: Interpreter = "python" default(Interpreter::python3()) "python3";
        /// Whether the owner gets virtualenvwrapper (`workon`, `mkvirtualenv`):
        /// the package `virtualenvwrapper` is installed and the lines that load
        /// it are added to the owner's `.bashrc`. The virtualenv should then
        /// lie in `~/.virtualenvs`.
        ///
        /// Example: `wrapper = true`
        wrapper: bool = "wrapper" default(false) "false";
        /// Whether Debian's own Python packages are visible inside.
        ///
        /// Example: `system-site-packages = true`
        system_site_packages: bool = "system-site-packages" default(false) "false";
        /// What to install, one PEP 508 line each.
        ///
        /// Example: `requirements = ["fanery==0.2.5", "gunicorn==19.10.0"]`
        requirements: Vec<Requirement> = "requirements" optional;
        /// Requirement files beside the recipe, in pip's format without
        /// options other than `--hash`.
        ///
        /// Example: `requirements-files = ["files/requirements.txt"]`
        requirements_files: Vec<Beside> = "requirements-files" optional;
        /// Versions for what the requirements bring along, as PEP 508 lines.
        ///
        /// Example: `constraints = ["urllib3<2"]`
        constraints: Vec<Requirement> = "constraints" optional;
        /// Constraint files beside the recipe.
        ///
        /// Example: `constraints-files = ["files/constraints.txt"]`
        constraints_files: Vec<Beside> = "constraints-files" optional;
        /// Environment variables for pip and the compilers that it runs.
        ///
        /// Example: `environment = { CFLAGS = "-fgnu89-inline" }`
        environment: BTreeMap<String, String> = "environment" optional;
        /// Python packages in directories beside the recipe, installed last. What
        /// they depend on is locked and installed like the requirements. Version
        /// control, byte code and `*.egg-info` are left out.
        ///
        /// Example: `local = ["files/myproject"]`
        local: Vec<Beside> = "local" optional;
        /// Python packages from Git repositories, at a tag or a commit, with what
        /// they depend on.
        ///
        /// Example: `git = [{ url = "https://git.example.org/MyProject.git", tag = "v0.0.1" }]`
        git: Vec<Git> = "git" optional;
    }
}

section! {
    /// A Python package in a Git repository.
    pub struct Git "`git` of [[virtualenv]]" {
        /// The repository. Credentials do not belong in it: they would end up
        /// in the lock and in the image.
        ///
        /// Example: `url = "https://git.example.org/MyProject.git"`
        url: GitUrl = "url" required;
        /// The tag; the lock records its commit. Either this or `commit`.
        ///
        /// Example: `tag = "v0.0.1"`
        tag: Option<RefName> = "tag" optional;
        /// The commit, all 40 hexadecimal digits. Either this or `tag`.
        ///
        /// Example: `commit = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"`
        commit: Option<Commit> = "commit" optional;
        /// The directory in the repository that holds the package.
        ///
        /// Example: `subdirectory = "python"`
        subdirectory: Option<Subdirectory> = "subdirectory" optional;
    }
}

impl Interpreter {
    fn python3() -> Self {
        Interpreter::known("python3")
    }
}
