//! What apt is told: its directories, the recipe's archives, their priorities.
//!
//! apt cannot pin an archive by more than its Release file says, and two archives
//! may say the same. So once the archives are verified, apt decides among their
//! indexes under addresses whose hosts are the names of the recipe's sources,
//! and a pin by `origin` is for that source alone, whatever its Release file
//! says or lacks.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use store::Sha256;

use super::Apt;
use super::index::{Index, file_name};
use super::openpgp;
use crate::error::{Context, Error, Result};
use crate::recipe::{self, Moment};

/// The keyring of the distribution.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The bootstrap's archive, as a host; no source of a recipe has a dot.
const BOOTSTRAP: &str = "imgbuild.bootstrap";
/// The archive of retained packages, as a host.
const RETAINED: &str = "imgbuild.retained";
/// Where the verified indexes are by the names of the recipe's sources.
const INDEXES: &str = "indexes";
/// Where that of them is which apt can come to need.
const NEEDED: &str = "needed";
/// The priority that `apt-get -t` gives.
const TARGET: u32 = 990;

/// Among what apt decides.
#[derive(Clone, Copy)]
pub(super) enum Which {
    /// What dependencies lead to; it says whether something is broken then.
    Needed,
    /// Everything.
    All,
}

/// A suite of an archive, as the recipe names it.
pub(super) struct Suite {
    /// The host by which pins know it.
    pub(super) source: String,
    /// The archive, as the lock names it.
    pub(super) archive: String,
    /// The suite or pocket.
    pub(super) name: String,
    /// Its components.
    pub(super) components: String,
    /// The file with its key, as apt takes it.
    pub(super) keyring: String,
    /// The same file as people know it.
    pub(super) key: String,
    /// The moment of which it must be, seconds since 1970.
    pub(super) snapshot: Option<u64>,
    /// The digest that its Release file must have.
    pub(super) release: Option<Sha256>,
}

impl Suite {
    /// Whether it is meant to stay as it is, so that it does not expire.
    pub(super) fn is_fixed(&self) -> bool {
        self.snapshot.is_some() || self.release.is_some()
    }
}

impl Apt<'_> {
    pub(super) fn configuration(&self, network: &str) -> String {
        let dir = self.dir.display();
        format!(
            "Dir \"{dir}\";\nDir::Etc \"{dir}\";\nDir::Etc::main \"/dev/null\";\n\
             Dir::Etc::parts \"{dir}/empty\";\nDir::Etc::sourcelist \"{dir}/sources.list\";\n\
             Dir::Etc::sourceparts \"{dir}/empty\";\nDir::Etc::preferences \"{dir}/target\";\n\
             Dir::Etc::preferencesparts \"{dir}/preferences.d\";\n\
             Dir::Etc::trusted \"/dev/null\";\nDir::Etc::trustedparts \"{dir}/empty\";\n\
             Dir::State \"{dir}\";\nDir::State::lists \"{dir}/lists\";\n\
             Dir::State::status \"{dir}/status\";\nDir::Cache \"{dir}/cache\";\n\
             APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n\
             APT::Get::AllowUnauthenticated \"false\";\n\
             APT::Update::Error-Mode \"any\";\nAcquire::Languages \"none\";\n\
             Acquire::AllowInsecureRepositories \"false\";\n\
             Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n{network}",
            arch = self.architecture,
        )
    }

    /// Every archive of the recipe.
    pub(super) fn suites(&self) -> Vec<Suite> {
        let bootstrap = &self.recipe.bootstrap;
        let mut suites = vec![Suite {
            source: BOOTSTRAP.to_owned(),
            archive: bootstrap.archive_name(),
            name: bootstrap.suite.to_string(),
            components: join(&bootstrap.components),
            keyring: KEYRING.to_owned(),
            key: KEYRING.to_owned(),
            snapshot: bootstrap.snapshot.as_ref().map(Moment::seconds),
            release: bootstrap.release.as_ref().and_then(digest),
        }];
        for (number, source) in self.recipe.sources.iter().enumerate() {
            let key = source.key.as_ref();
            let copy = key.map(|_| self.key_copy(number).display().to_string());
            suites.push(Suite {
                source: source.name.to_string(),
                archive: source.archive_name(),
                name: source.suite.to_string(),
                components: join(&source.components),
                keyring: copy.unwrap_or_else(|| KEYRING.to_owned()),
                key: key.map_or(KEYRING.to_owned(), ToString::to_string),
                snapshot: source.snapshot.as_ref().map(Moment::seconds),
                release: source.release.as_ref().and_then(digest),
            });
        }
        suites
    }

    /// Where the key of a source is copied to.
    fn key_copy(&self, number: usize) -> PathBuf {
        self.dir.join(format!("source-{number}.gpg"))
    }

    /// Copies the recipe's keys to where apt reads them. There they are binary, whatever they
    /// were and are called, and their path has no blank, at which apt would split it.
    pub(super) fn copy_keys(&self) -> Result<()> {
        for (number, source) in self.recipe.sources.iter().enumerate() {
            let Some(key) = &source.key else { continue };
            let path = self.beside.join(key.as_path());
            let bytes = fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
            let keys = openpgp::unarmored(&bytes);
            if let Some(why) = openpgp::not_public_keys(&keys) {
                let source = &source.name;
                return Err(Error::usage(format!(
                    "the key {key} of the source `{source}` cannot be used"
                ))
                .detail(why)
                .hint("export the archive's key with `gpg --export KEY > FILE`"));
            }
            let copy = self.key_copy(number);
            fs::write(&copy, keys).context(|| format!("cannot write {}", copy.display()))?;
        }
        Ok(())
    }

    /// The line that names a suite to apt where it really is.
    pub(super) fn line(&self, suite: &Suite) -> Result<String> {
        let dates = if suite.is_fixed() {
            " check-valid-until=no"
        } else {
            ""
        };
        Ok(format!(
            "deb [arch={} signed-by={}{dates}] {} {} {}\n",
            self.architecture,
            suite.keyring,
            self.archives.site(&suite.archive)?,
            suite.name,
            suite.components
        ))
    }

    /// Gives apt the verified indexes by the names of the recipe's sources, before them those of
    /// the retained packages; all of them, and what is needed of them.
    pub(super) fn identify(
        &self,
        index: &Index,
        needed: &BTreeSet<String>,
        retained: Option<&str>,
    ) -> Result<()> {
        for dir in [INDEXES, NEEDED] {
            let partial = self.dir.join(dir).join("partial");
            fs::create_dir_all(&partial)
                .context(|| format!("cannot make {}", partial.display()))?;
        }
        let arch = self.architecture;
        let mut lines = String::new();
        if let Some(packages) = retained {
            for dir in [INDEXES, NEEDED] {
                self.write(&format!("{dir}/{RETAINED}_._Packages"), packages)?;
                self.write(&format!("{dir}/{RETAINED}_._Release"), "Origin: imgbuild\n")?;
            }
            let _ = writeln!(lines, "deb [arch={arch} trusted=yes] http://{RETAINED} ./");
        }
        for suite in self.suites() {
            let Suite {
                source,
                name: pocket,
                components,
                ..
            } = &suite;
            for (rest, path) in self.lists(&suite)? {
                let name = file_name(&format!("{source}/dists/{pocket}/")) + &rest;
                let (all, some) = (self.dir.join(INDEXES), self.dir.join(NEEDED));
                let (all, some) = (all.join(&name), some.join(&name));
                let failed = |to: &Path| format!("cannot write {}", to.display());
                fs::hard_link(&path, &all).context(|| failed(&all))?;
                if rest.ends_with("_Packages") {
                    fs::write(&some, index.extract(&path, needed)).context(|| failed(&some))?;
                } else {
                    fs::hard_link(&path, &some).context(|| failed(&some))?;
                }
            }
            let _ = writeln!(
                lines,
                "deb [arch={arch} trusted=yes] http://{source} {pocket} {components}"
            );
        }
        self.write("sources.list", &lines)
    }

    /// The options for the indexes of [`Self::identify`].
    pub(super) fn lists_of(&self, which: Which) -> Vec<String> {
        let lists = |name| format!("Dir::State::lists={}", self.dir.join(name).display());
        let options = match which {
            // Reading it is faster than keeping what was made of it, which is of all of them.
            Which::Needed => vec![
                lists(NEEDED),
                "Dir::Cache::pkgcache=".to_owned(),
                "Dir::Cache::srcpkgcache=".to_owned(),
                "Debug::pkgProblemResolver=true".to_owned(),
            ],
            Which::All => vec![lists(INDEXES)],
        };
        let named = options.into_iter().map(|option| ["-o".to_owned(), option]);
        named.flatten().collect()
    }

    /// The recipe's pins; those for a source are for it alone.
    pub(super) fn preferences(&self) -> Result<String> {
        let own = self.recipe.apt.preferences.as_ref();
        let mut text = own.map(ToString::to_string).unwrap_or_default();
        if let Some(host) = text.lines().filter_map(origin).find(|host| {
            let mut sources = self.recipe.sources.iter();
            !sources.any(|source| source.name.as_str() == *host)
        }) {
            return Err(Error::usage(format!(
                "the recipe's preferences pin the origin `{host}`, and no [[source]] has that name"
            ))
            .hint(
                "a recipe knows archives by the names of its sources, not by hosts: write \
                 `Pin: origin NAME`, or give the source a `priority`",
            ));
        }
        for source in &self.recipe.sources {
            if let Some(priority) = source.priority {
                text.push_str(&pin(source.name.as_str(), priority));
            }
        }
        Ok(text)
    }

    /// The option that prefers the sources of a suite, as `apt-get -t` does.
    pub(super) fn target(&self, wanted: &recipe::Suite) -> Result<String> {
        let suites = self.suites();
        let sources = suites.iter().filter(|s| s.name == wanted.as_str());
        let text: String = sources.map(|s| pin(&s.source, TARGET)).collect();
        let name = format!("target-{wanted}");
        self.write(&name, &text)?;
        Ok(format!(
            "Dir::Etc::preferences={}",
            self.dir.join(name).display()
        ))
    }
}

fn digest(text: &recipe::Digest) -> Option<Sha256> {
    Sha256::from_hex(text.as_str().strip_prefix("sha256:")?).ok()
}

/// A pin for all that a source has.
fn pin(source: &str, priority: impl std::fmt::Display) -> String {
    format!("\n\nPackage: *\nPin: origin \"{source}\"\nPin-Priority: {priority}\n")
}

/// The host that a line of `apt_preferences(5)` pins.
fn origin(line: &str) -> Option<&str> {
    let (field, value) = line.split_once(':')?;
    let (kind, host) = value.trim().split_once(char::is_whitespace)?;
    let is_pin = field.trim().eq_ignore_ascii_case("pin") && kind == "origin";
    is_pin.then(|| host.trim().trim_matches('"'))
}

pub(super) fn join<T: ToString>(words: &[T]) -> String {
    words
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}
