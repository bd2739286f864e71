//! A source that does not build, and what it lacks.

use std::path::Path;

use serde::Deserialize;

use super::shown;
use crate::lock::resolve::python::Sources;
use crate::lock::resolve::python::run::SOURCES;

/// A source that does not build, as a script found it.
#[derive(Debug, Deserialize)]
pub(in super::super) struct Unbuildable {
    source: String,
    /// The version of Python, such as `3.11`.
    python: String,
    /// What it needs to be built and the index does not have.
    #[serde(default)]
    pub(super) lines: Vec<String>,
    /// Last lines of the build.
    #[serde(default)]
    pub(super) tail: Vec<String>,
    /// Headers that a compiler did not find.
    #[serde(default)]
    pub(super) headers: Vec<String>,
    /// Programs that it called and the tree does not have.
    #[serde(default)]
    pub(super) programs: Vec<String>,
}

impl Unbuildable {
    /// What people call the source.
    pub(super) fn name(&self, sources: Option<&Sources>) -> String {
        let tree = sources.into_iter().flat_map(|sources| &sources.trees);
        let mut tree = tree.filter(|tree| {
            Path::new(&self.source) == Path::new(SOURCES).join(&tree.path).as_path()
        });
        if let Some(tree) = tree.next() {
            return tree.origin.clone();
        }
        let file = self.source.split('#').next().unwrap_or_default();
        if let Some((_, address)) = file.split_once("/direct/") {
            return shown(address);
        }
        file.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// Whether the last lines of its build have one of these words.
    fn mentions(&self, words: &[&str]) -> bool {
        let mut lines = self.tail.iter();
        lines.any(|line| words.iter().any(|word| line.contains(word)))
    }

    pub(super) fn advice(&self, reached: &[String]) -> String {
        let python = format!("python{}-dev", self.python);
        let mut packages: Vec<String> = Vec::new();
        let mut add = |package: String| {
            if !packages.contains(&package) {
                packages.push(package);
            }
        };
        for program in &self.programs {
            let package = package_of(program);
            add(package.to_owned());
            if package == "build-essential" {
                add(python.clone());
            }
        }
        if self.headers.iter().any(|h| h == "Python.h") {
            add(python.clone());
        }
        let mut header = self.headers.iter().filter(|h| *h != "Python.h");
        if !packages.is_empty() {
            let list: Vec<String> = packages.iter().map(|p| format!("\"{p}\"")).collect();
            format!(
                "add {} to `install` of a [[packages]] section of the recipe",
                list.join(", ")
            )
        } else if let Some(header) = header.next() {
            format!(
                "add the Debian package that has {header} to `install` of a [[packages]] section \
                 (`apt-file search {header}` names it)"
            )
        } else if self.mentions(&["pkg_resources", "setuptools.command.test", "use_2to3"]) {
            "it was written for an older setuptools: build-constraints = [\"setuptools<81\"] in the \
             [[virtualenv]] (or <58 for use_2to3)"
                .into()
        } else if self.source.starts_with(SOURCES)
            && self.mentions(&[&format!("{}/..", self.source)])
        {
            "of a package in `local` only its own directory is there: make what it reads beside \
             itself a link in it, or copy it there"
                .into()
        } else if !reached.is_empty() {
            "builds have no network: what it fetches must be a Debian package (a toolchain, a \
             library), or be part of the source"
                .into()
        } else {
            if self.source.starts_with(SOURCES) {
                "read the last lines of its build above: this is how its own pyproject.toml or \
                 setup.py builds it with this Python"
            } else {
                "read the last lines of its build above; a wheel, or another version, needs no \
                 build"
            }
            .into()
        }
    }
}

/// The Debian package that has a program which builds call.
fn package_of(program: &str) -> &str {
    match program {
        "cc" | "gcc" | "c99" | "g++" | "c++" | "make" => "build-essential",
        _ if program.ends_with("-gcc") || program.ends_with("-g++") => "build-essential",
        "clang" | "clang++" => "clang",
        "gfortran" | "f77" | "f95" => "gfortran",
        "rustc" | "cargo" => "cargo",
        "go" => "golang-go",
        "node" => "nodejs",
        "pg_config" => "libpq-dev",
        "mysql_config" | "mariadb_config" => "libmariadb-dev",
        "xml2-config" => "libxml2-dev",
        "xslt-config" => "libxslt1-dev",
        "curl-config" => "libcurl4-openssl-dev",
        "krb5-config" => "libkrb5-dev",
        "llvm-config" => "llvm-dev",
        "gdal-config" => "libgdal-dev",
        "geos-config" => "libgeos-dev",
        "protoc" => "protobuf-compiler",
        "ninja" => "ninja-build",
        other => other,
    }
}
