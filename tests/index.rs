//! A package index on loopback, with projects of the tests' own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::archive::sha256;
use crate::server::{Answer, Server};

/// Makes a wheel or source archive: `make.py FILE NAME VERSION REQUIREMENTS MORE`.
const MAKE: &str = r#"
import io, sys, tarfile, zipfile
path, name, version, requires, more = sys.argv[1:]
requires = "".join("Requires-Dist: %s\n" % one for one in requires.split("|") if one)
metadata = "Metadata-Version: 2.1\nName: %s\nVersion: %s\n%s" % (name, version, requires)
if path.endswith(".whl"):
    info = "%s-%s.dist-info/" % (name, version)
    files = {
        name + ".py": "VERSION = %r\n" % version,
        info + "METADATA": metadata,
        info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[info + "RECORD"] = "".join(file + ",,\n" for file in [*files, info + "RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)
else:
    top = "%s-%s/" % (name, version)
    files = {"PKG-INFO": metadata}
    exec(more)
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            member = tarfile.TarInfo(top + file)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
"#;

/// A build backend that is part of its project and wants nothing else.
pub const BACKEND: &str = r#"
import os, re, zipfile
def _files():
    info = "%s-%s.dist-info/" % (NAME, VERSION)
    requires = "".join("Requires-Dist: %s\n" % one for one in REQUIRES)
    for extra in re.findall("extra == '([a-z]+)'", requires):
        requires += "Provides-Extra: %s\n" % extra
    files = {
        NAME + ".py": "VERSION = %r\n" % VERSION,
        info + "METADATA": "Metadata-Version: 2.1\nName: %s\nVersion: %s\n%s" % (NAME, VERSION, requires),
        info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[info + "RECORD"] = "".join(file + ",,\n" for file in [*files, info + "RECORD"])
    return info, files
def prepare_metadata_for_build_wheel(place, settings=None):
    info, files = _files()
    os.mkdir(os.path.join(place, info))
    for file, text in files.items():
        if file.startswith(info):
            open(os.path.join(place, file), "w").write(text)
    return info.rstrip("/")
def build_wheel(place, settings=None, metadata=None):
    name = "%s-%s-py3-none-any.whl" % (NAME, VERSION)
    with zipfile.ZipFile(os.path.join(place, name), "w") as archive:
        for file, text in _files()[1].items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return name
"#;

/// What makes [`BACKEND`] the one of a project.
pub const OWN_BACKEND: &str =
    "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";

/// Files of an index that is not yet served.
#[derive(Debug, Default)]
pub struct Packages {
    files: BTreeMap<String, Vec<u8>>,
    /// Attributes of their links.
    attributes: BTreeMap<String, String>,
}

impl Packages {
    /// Adds a wheel with one module and returns its digest.
    pub fn wheel(&mut self, name: &str, version: &str, requires: &[&str]) -> String {
        let file = format!("{name}-{version}-py3-none-any.whl");
        self.add(&file, &[name, version, &requires.join("|"), ""])
    }

    /// Adds a source archive that is built by [`BACKEND`] after these lines of Python.
    pub fn source(&mut self, name: &str, version: &str, lines: &str) -> String {
        let backend =
            format!("NAME, VERSION, REQUIRES = {name:?}, {version:?}, []\n{BACKEND}\n{lines}");
        let more = format!(
            "files['pyproject.toml'] = {OWN_BACKEND:?}\nfiles['backend.py'] = {backend:?}\n"
        );
        let file = format!("{name}-{version}.tar.gz");
        self.add(&file, &[name, version, "", &more])
    }

    /// Gives a file another name: of another platform, or an old way to write the version.
    pub fn rename(&mut self, file: &str, to: &str) {
        let bytes = self.files.remove(file).expect("it was added");
        self.files.insert(to.to_owned(), bytes);
    }

    /// Takes a file away from the index: its content.
    pub fn take(&mut self, file: &str) -> Vec<u8> {
        self.files.remove(file).expect("it was added")
    }

    /// Says more about a file on its project's page.
    pub fn mark(&mut self, file: &str, attributes: &str) {
        self.attributes
            .insert(file.to_owned(), attributes.to_owned());
    }

    fn add(&mut self, file: &str, words: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        let mut make = Command::new("python3");
        make.args(["-c", MAKE]).arg(&path).args(words);
        assert!(make.status().unwrap().success());
        let bytes = fs::read(&path).unwrap();
        let digest = sha256(&bytes);
        self.files.insert(file.to_owned(), bytes);
        digest
    }

    /// Serves them below `/simple`, to those who authorise themselves so.
    pub fn serve(self, authorization: Option<String>) -> Server {
        Server::start(move |request| {
            if authorization.is_some() && request.authorization != authorization {
                return Answer::Status(401);
            }
            let path = request.path.trim_matches('/');
            if let Some(file) = path.strip_prefix("files/") {
                let found = self.files.get(file).cloned();
                return found.map_or(Answer::Status(404), Answer::Bytes);
            }
            let project = path.strip_prefix("simple/").unwrap_or_default();
            let link = |(name, bytes): (&String, &Vec<u8>)| {
                let digest = sha256(bytes);
                let more = self.attributes.get(name).map_or("", String::as_str);
                format!("<a href=\"/files/{name}#sha256={digest}\" {more}>{name}</a>\n")
            };
            let own = |(name, _): &(&String, &Vec<u8>)| name.starts_with(&format!("{project}-"));
            let page: String = self.files.iter().filter(own).map(link).collect();
            if page.is_empty() {
                Answer::Status(404)
            } else {
                Answer::Page(page)
            }
        })
    }
}

/// Makes a local project with [`BACKEND`]; `more` goes to the end of its pyproject.toml.
pub fn project(dir: &Path, name: &str, requires: &[&str], more: &str) {
    fs::create_dir_all(dir).unwrap();
    let backend = format!("NAME, VERSION, REQUIRES = {name:?}, '1.0', {requires:?}\n{BACKEND}");
    fs::write(dir.join("backend.py"), backend).unwrap();
    fs::write(dir.join("pyproject.toml"), format!("{OWN_BACKEND}{more}")).unwrap();
}
