//! One suite of an archive, read by itself: what `imgbuild audit` compares images with.
//!
//! apt brings and verifies it as it does for a lock, and the signed file and its indexes are kept.
//! They are read from there, with the network and without: the signature is verified once more, and
//! each index is compared with its digest, so a directory that somebody has written to says nothing
//! that the archive did not.

use std::fs;
use std::path::{Path, PathBuf};

use store::Sha256;
use store::manifest::Package;

use super::Apt;
use super::diagnosis;
use super::index::file_name;
use super::settings::{KEYRING, Suite};
use super::stanza::{Candidate, stanzas};
use super::update::explain;
use super::verify::Signed;
use crate::atomic_file::remove;
use crate::dpkg_status::SourcePackage;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::{Archives, Network};
use crate::recipe::Recipe;

/// Where a suite is, and how it is reached.
pub struct SuiteRequest<'a> {
    /// The archive, as this machine's settings name it.
    pub archive: &'a str,
    /// The suite or pocket.
    pub suite: &'a str,
    /// The components that are read.
    pub components: &'a [String],
    /// dpkg's name of the architecture.
    pub architecture: &'a str,
    /// Addresses of archives.
    pub archives: &'a Archives,
    /// How apt reaches servers.
    pub network: &'a Network,
    /// A directory for this reading alone.
    pub scratch: &'a Path,
    /// The directory in which what was read is kept.
    pub kept: &'a Path,
}

/// A suite whose signature and digests were verified.
#[derive(Debug)]
pub struct SuiteIndex {
    /// `Date` of its Release file, seconds since 1970.
    pub date: u64,
    /// Digest of the signed file.
    pub release: Sha256,
    /// Its indexes: their paths below the suite, and their digests.
    pub indexes: Vec<(String, Sha256)>,
    /// What it has.
    pub packages: Vec<Offered>,
}

/// A package that an archive offers.
#[derive(Clone, Debug)]
pub struct Offered {
    /// Name, version and architecture.
    pub package: Package,
    /// The source that it was built from.
    pub(crate) source: SourcePackage,
    /// Where the file is below the archive.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Why it cannot be fetched.
    pub defect: Option<String>,
}

impl SuiteRequest<'_> {
    /// Reads the suite from its archive, and keeps it.
    pub fn fetch(&self, listen: &mut dyn FnMut(&str)) -> Result<SuiteIndex> {
        let suite = self.described();
        let recipe = self.recipe()?;
        let apt = self.apt(&recipe)?;
        listen(&format!("reading {}", self.whose()));
        apt.write("one.list", &apt.line(&suite)?)?;
        apt.update_one(&self.whose(), &suite, listen)
            .map_err(|error| self.advise(error))?;
        self.keep(&apt.lists(&suite)?)?;
        self.read(&apt, &suite)
    }

    /// Reads the suite as it was kept. It may be old, and its `Valid-Until` over.
    pub fn kept(&self) -> Result<SuiteIndex> {
        if !self.kept.is_dir() {
            return Err(Error::failed(format!(
                "the index of {} was never read here",
                self.whose()
            ))
            .hint("run `imgbuild audit` once without --offline: it keeps the index below --work"));
        }
        let recipe = self.recipe()?;
        self.read(&self.apt(&recipe)?, &self.described())
    }

    /// What a person does about an archive that no recipe names.
    fn advise(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Refused {
            return error;
        }
        error.hint(format!(
            "check this machine's clock, or use another mirror that has what Debian signed: \
             --archive {}=URL",
            self.archive
        ))
    }

    fn whose(&self) -> String {
        format!("the suite {} of the archive `{}`", self.suite, self.archive)
    }

    fn described(&self) -> Suite {
        Suite {
            source: self.archive.to_owned(),
            archive: self.archive.to_owned(),
            name: self.suite.to_owned(),
            components: self.components.join(" "),
            keyring: KEYRING.to_owned(),
            key: KEYRING.to_owned(),
            snapshot: None,
            release: None,
        }
    }

    /// What apt is set up by: nothing but the architecture counts here.
    fn recipe(&self) -> Result<Recipe> {
        let architecture = self.architecture;
        let text = format!(
            "name = \"audit\"\n[bootstrap]\nsuite = \"stable\"\narchitecture = {}\n",
            toml::Value::from(architecture)
        );
        Recipe::parse(&text, Path::new("audit")).map_err(|error| {
            Error::failed(format!("`{architecture}` is not an architecture")).because(&error)
        })
    }

    fn apt<'r>(&'r self, recipe: &'r Recipe) -> Result<Apt<'r>> {
        let dir = self.scratch.join("apt");
        remove(&dir)?;
        Apt::new(
            recipe,
            self.scratch,
            self.architecture,
            self.archives,
            self.network,
            &dir,
        )
    }

    /// Replaces what was kept by these files, all of them or none.
    fn keep(&self, files: &[(String, PathBuf)]) -> Result<()> {
        let new = self.scratch.join("kept");
        remove(&new)?;
        fs::create_dir_all(&new).context(|| format!("cannot make {}", new.display()))?;
        for (name, path) in files.iter().filter(|(_, path)| path.is_file()) {
            let to = new.join(name);
            fs::copy(path, &to).context(|| format!("cannot write {}", to.display()))?;
        }
        remove(self.kept)?;
        if let Some(parent) = self.kept.parent() {
            fs::create_dir_all(parent).context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::rename(&new, self.kept).context(|| format!("cannot write {}", self.kept.display()))
    }

    /// Verifies and reads what is kept.
    fn read(&self, apt: &Apt<'_>, suite: &Suite) -> Result<SuiteIndex> {
        let bytes = |name: &str| fs::read(self.kept.join(name)).ok();
        let signed = match (bytes("InRelease"), bytes("Release"), bytes("Release.gpg")) {
            (Some(bytes), ..) => Signed::Inline(bytes),
            (_, Some(text), Some(signature)) => Signed::Detached(text, signature),
            _ => return Err(self.damaged("it has no signed Release file")),
        };
        let release = match &signed {
            Signed::Inline(bytes) | Signed::Detached(bytes, _) => Sha256::of(bytes),
        };
        // apt has held it against the clock where it has just come.
        let as_it_was = Suite {
            release: Some(release),
            components: suite.components.clone(),
            source: suite.source.clone(),
            archive: suite.archive.clone(),
            name: suite.name.clone(),
            keyring: suite.keyring.clone(),
            key: suite.key.clone(),
            snapshot: None,
        };
        if let Some(found) = apt.weigh(&as_it_was, &signed)? {
            return Err(self.advise(explain(&self.whose(), Some(&found), &[], None)));
        }
        let described = diagnosis::Release::parse(&signed);
        let Some((_, date)) = described.time("Date") else {
            return Err(self.damaged("its Release file has no Date"));
        };
        let (mut indexes, mut packages) = (Vec::new(), Vec::new());
        for component in self.components {
            let last = component.rsplit('/').next().unwrap_or(component);
            let path = format!("{last}/binary-{}/Packages", self.architecture);
            let Some(said) = described.sha256.get(&path) else {
                if component == "main" {
                    let what = format!("it has no packages for {}", self.architecture);
                    return Err(self.damaged(&what));
                }
                continue;
            };
            // apt keeps no file of an index without packages.
            let text = bytes(&file_name(&path)).unwrap_or_default();
            let sha256 = Sha256::of(&text);
            if !said.eq_ignore_ascii_case(&sha256.hex()) {
                return Err(self.damaged(&format!("{path} is not what its Release file says")));
            }
            let of = format!("in {}", self.whose());
            packages.extend(stanzas(&text, &of)?.into_iter().map(offered));
            indexes.push((path, sha256));
        }
        Ok(SuiteIndex {
            date,
            release,
            indexes,
            packages,
        })
    }

    fn damaged(&self, why: &str) -> Error {
        let what = format!("the index of {} cannot be used", self.whose());
        Error::new(ErrorKind::Refused, what)
            .detail(why)
            .detail(format!("it is kept in {}", self.kept.display()))
            .hint("run the command again without --offline: it reads the index anew")
    }
}

fn offered((id, candidate): ((String, String, String), Candidate)) -> Offered {
    let (name, version, arch) = id;
    let package = Package {
        name,
        version,
        arch,
    };
    Offered {
        source: SourcePackage::of_paragraph(&candidate.stanza, &package),
        package,
        path: candidate.path,
        size: candidate.size,
        sha256: candidate.sha256,
        defect: candidate.defect,
    }
}
