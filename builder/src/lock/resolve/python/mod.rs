//! Which Python distributions: uv decides, or the tree's own pip.
//!
//! In a scratch layer on top of the finished packages and a virtualenv of its own, one of them says
//! what a virtualenv needs: pip for Python 2.7, for what uv does not do as pip does, and wherever uv has
//! no answer. The files that pip would choose are the result: each is kept in the store and locked by its
//! digest. Local directories and Git sources take part: what they depend on is decided
//! with everything else. What building each source needs is asked of its `pyproject.toml`
//! and of its build backend (PEP 517, 518), and locked as well: a set for each source,
//! as pip builds each in an environment of its own. The layer is thrown away.
//!
//! What a lock of another tool or the address of a file decides already is fetched first,
//! and pip is held to it for the rest.
//!
//! ```text
//! run        one run of Python in the tree, with the network
//! world      the sandboxes of one run
//! wanted     what a virtualenv wants of indexes
//! fixed      files that are decided before pip is asked
//! elsewhere  what projects take from elsewhere than an index
//! hosts      the hosts that the recipe and its projects name
//! uv         the program that decides before pip is asked
//! metadata   what source archives said of themselves before
//! sets       what sources were built with before
//! keep       resolving again around what is locked
//! project    what pyproject.toml says
//! names      names of projects and of their files
//! why        why something cannot be had or built
//! ```

mod elsewhere;
mod fixed;
mod hosts;
mod keep;
mod metadata;
mod names;
mod project;
mod run;
mod sets;
mod uv;
mod wanted;
mod why;
mod world;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use store::{Inputs, Sha256};

use crate::error::{Context, Error, Result};
use crate::host::PipSettings;
use crate::layers::{Key, Layers};
use crate::lock::resolve::git;
use crate::lockfile::Python;
use crate::process::quote;
use crate::recipe::Virtualenv;
use crate::steps::RESOLVING_PYTHON as PYTHON;

use keep::{Kept, RETAINED};
use metadata::{Known, archives};
use names::{name_of, normalise};
use project::{Build, Project};
use run::{DIRECT, Described, LENT, OUT, PipRun, SOURCES, Work};
use wanted::Wanted;

/// A network-side pip on top of some layers.
pub struct Pip<'a> {
    /// The layers of the packages and of the virtualenv that it works in.
    pub layers: &'a Layers,
    /// Their keys, lowest first.
    pub keys: &'a [Key],
    /// A directory for the scratch layer and the downloads.
    pub scratch: PathBuf,
    /// What this machine says about its index.
    pub settings: &'a PipSettings,
    /// The recipe's directory.
    pub beside: &'a Path,
    /// Where the files are kept.
    pub inputs: &'a Inputs,
    /// The directory of programs that only resolving uses.
    pub tools: &'a Path,
    /// uv, once it was looked for.
    pub uv: OnceCell<Option<PathBuf>>,
    /// What people should know about what was found.
    pub warnings: RefCell<BTreeSet<String>>,
}

impl Pip<'_> {
    /// Decides and keeps everything that one virtualenv needs. `locked` is what an older
    /// lock has for it and what stays unless something is in its way.
    pub fn resolve(
        &self,
        virtualenv: &Virtualenv,
        sources: &Sources,
        locked: &[Python],
        repositories: &mut Repositories<'_>,
        listen: &mut dyn FnMut(&str),
    ) -> Result<Resolved> {
        let mut wanted = Wanted::read(virtualenv, self.beside)?;
        let mut builds = Vec::new();
        let mut projects = Vec::new();
        for tree in &sources.trees {
            builds.push(sources.build(tree)?);
            projects.push(sources.project(tree)?);
        }
        one_of_a_name(virtualenv, sources, |tree| sources.project(tree).ok()?.name)?;
        let mut texts = Vec::new();
        let of_projects = (sources, &projects[..]);
        let fixed = self.fixed(
            virtualenv,
            of_projects,
            &mut wanted,
            &mut texts,
            locked,
            listen,
        )?;
        self.check_names(virtualenv, &fixed, (&projects, &wanted.lax_extras), None)?;
        let own = projects
            .iter()
            .filter_map(|project| project.name.as_deref());
        let supplied = own.chain(fixed.files.iter().map(|file| file.name.as_str()));
        let supplied: BTreeSet<&str> = supplied.collect();
        let is_covered = |origin: &str| fixed.covers(origin);
        let told = elsewhere::settle(virtualenv, sources, &projects, &supplied, &is_covered)?;
        let mut all = sources.clone();
        let mut requirements = String::new();
        for line in wanted.lines.iter().chain(&told) {
            let _ = writeln!(requirements, "{line}");
        }
        for (project, tree) in projects.iter().zip(&sources.trees) {
            if !fixed.covers(&tree.origin) {
                for line in project.requirements(&virtualenv.extras, &virtualenv.groups)? {
                    let _ = writeln!(requirements, "{line}");
                }
            }
        }
        let mut found = Vec::new();
        let building = Kept::new(locked, true, "");
        let mut sets = Vec::new();
        if !virtualenv.is_python2() {
            let known = self.known_sets(virtualenv, &mut builds, (sources, &[]), &building);
            sets.extend(known.into_iter().cloned());
        }
        if !requirements.is_empty() {
            for option in &wanted.options {
                let _ = writeln!(requirements, "{option}");
            }
            let rest = Rest {
                hosts: hosts::named(virtualenv, sources, &requirements),
                requirements,
                constraints: wanted.constraints,
                fixed: &fixed.files,
                supplied: &supplied,
            };
            let mut known = (&mut all, repositories);
            let asks_uv = uv::takes(virtualenv, &rest, &projects);
            let uv = if asks_uv {
                self.uv(virtualenv, listen)?
            } else {
                None
            };
            let asked = Asked {
                locked,
                building: &building,
                builds: &builds,
                uv,
            };
            let mut decided = self.decide(virtualenv, &mut known, &rest, &asked, listen)?;
            if asks_uv && uv.is_none() {
                self.note_slow();
            }
            if let Some(decided) = decided.sets.take() {
                builds.clear();
                sets.extend(decided);
            }
            texts.extend(decided.sources);
            let own = (&projects[..], &wanted.lax_extras);
            self.check_names(virtualenv, &fixed, own, Some(&decided.described))?;
            let required = Sources {
                dir: all.dir.clone(),
                trees: all.trees[projects.len()..].to_vec(),
            };
            let mut of_required = Vec::new();
            for tree in &required.trees {
                builds.push(required.build(tree)?);
                of_required.push(required.project(tree)?);
            }
            let taken = decided.found.iter().filter(|python| python.url.is_none());
            let taken = taken.map(|python| python.name.as_str());
            let taken: Vec<_> = taken.filter(|name| !supplied.contains(name)).collect();
            for (sources, projects) in [(sources, &projects), (&required, &of_required)] {
                elsewhere::check_taken(virtualenv, sources, projects, &taken, &is_covered)?;
            }
            found.extend(decided.found);
            if decided.other_file {
                // What a locked source needs to be built is what was locked for it.
                found.extend(locked.iter().filter(|p| p.build_only).cloned());
            }
        }
        found.retain(|p| p.build_only || !fixed.files.iter().any(|f| f.name == p.name));
        found.extend(fixed.files);
        for (text, name) in &texts {
            if found.iter().any(|python| python.file == *name) {
                builds.push(Build::read(text, &format!("{RETAINED}/{name}"), name)?);
            }
        }
        if !virtualenv.is_python2() {
            let known = self.known_sets(virtualenv, &mut builds, (&all, &found), &building);
            sets.extend(known.into_iter().cloned());
            if !builds.is_empty() {
                sets.extend(self.build_sets(virtualenv, &all, &builds, &found, locked, listen)?);
            }
        }
        let built_with = sets.iter().map(|python| python.sha256).collect();
        found.extend(sets);
        // What is installed anyway also serves for building.
        let mut seen = BTreeSet::new();
        found.retain(|p| seen.insert(p.file.clone()));
        Ok(Resolved {
            files: found,
            built_with,
        })
    }

    /// Builds each source of a virtualenv by itself, without network, with what is locked. The
    /// error names the first that does not build.
    pub fn build_each(
        &self,
        virtualenv: &Virtualenv,
        sources: &Sources,
        locked: &[&Python],
        listen: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let trees = sources.trees.iter();
        let trees = trees.map(|tree| format!("{SOURCES}/{}", tree.path.display()));
        let archives = locked.iter().filter(|python| !python.is_wheel());
        let archives = archives.map(|python| format!("{RETAINED}/{}", python.file));
        let each: Vec<String> = archives.chain(trees).map(|source| quote(&source)).collect();
        let run = PipRun {
            files: BTreeMap::new(),
            retained: locked.to_vec(),
            building: Vec::new(),
            direct: Vec::new(),
            uv: None,
            sources: Some(sources),
            work: Work::Offline(format!(
                "exec {PYTHON} {LENT}/try_sources.py install {}",
                each.join(" ")
            )),
        };
        self.run(virtualenv, &run, listen).map(|_| ())
    }

    /// Lets pip decide, until nothing locked is in its way and each repository that something
    /// requires is there.
    fn decide(
        &self,
        virtualenv: &Virtualenv,
        (sources, repositories): &mut (&mut Sources, &mut Repositories<'_>),
        rest: &Rest<'_>,
        asked: &Asked<'_>,
        listen: &mut dyn FnMut(&str),
    ) -> Result<Decided> {
        let Asked {
            locked,
            building,
            builds,
            mut uv,
        } = *asked;
        let is_kept = |p: &&Python| p.url.is_some() && self.inputs.has(&p.sha256);
        let direct: Vec<&Python> = locked.iter().filter(is_kept).collect();
        let mut trees: BTreeMap<String, String> = BTreeMap::new();
        let is_free = |p: &&Python| p.url.is_none() && !rest.fixed.iter().any(|f| f.name == p.name);
        let locked: Vec<Python> = locked.iter().filter(is_free).cloned().collect();
        let mut kept = Kept::new(&locked, false, &rest.requirements);
        let mut explain = kept.is_empty();
        let out = loop {
            let mut requirements = String::new();
            if !kept.is_empty() || !rest.fixed.is_empty() {
                // A line of the file, so that the machine's own links stay.
                let _ = writeln!(requirements, "--find-links {RETAINED}");
            }
            requirements.push_str(&rest.requirements);
            let mut limits = rest.constraints.join("\n");
            for python in rest.fixed {
                let _ = write!(limits, "\n{}=={}", python.name, python.version);
            }
            let constraints = format!("{limits}\n{}", kept.constraints());
            let options = format!("-r {LENT}/requirements.txt -c {LENT}/constraints.txt");
            let retained: Vec<&Python> = kept.files().chain(rest.fixed).collect();
            let known = self.known_metadata(virtualenv, &retained);
            let is_here = !retained.is_empty()
                && uv.is_none()
                && rest.is_plain()
                && rest
                    .names()
                    .all(|name| retained.iter().any(|python| python.name == name))
                && archives(&retained).all(|python| known.contains_key(python.file.as_str()));
            let by_pip = download(&options, explain);
            let run = PipRun {
                files: BTreeMap::from([
                    ("requirements.txt", requirements),
                    ("constraints.txt", constraints),
                    ("limits.txt", limits + "\n"),
                    (uv::SPEC, uv::spec(rest.fixed, &kept, builds, building)),
                    (DIRECT, addresses(virtualenv, rest, &direct, &trees, &known)),
                ]),
                retained: retained.clone(),
                building: building.files().collect(),
                direct: direct.clone(),
                uv,
                sources: Some(&**sources),
                work: if uv.is_some() {
                    uv::first(!kept.is_empty() && builds.is_empty(), by_pip)
                } else if is_here {
                    offline_first(by_pip, &options)
                } else {
                    by_pip
                },
            };
            let ran = self.run(virtualenv, &run, listen);
            if ran.is_err() {
                // It had no answer.
                uv = None;
            }
            match ran {
                Ok(out) if !out.repositories.is_empty() => {
                    uv = None;
                    for address in out.repositories {
                        listen(&format!("a repository is required: {address}"));
                        let is_own = rest.requirements.contains(&address);
                        let is_file = address.starts_with("git+file:");
                        let leads = |address: &str| hosts::leads_to(&rest.hosts, address);
                        if !is_own && !is_file && !leads(&address) {
                            let what = why::unnamed_host(&address);
                            return Err(Error::failed(what).hint(why::UNNAMED_HINT));
                        }
                        let reach: Option<git::Reach<'_>> = (!is_own).then_some(&leads);
                        let tree = repositories(&address, reach, &sources.dir)?;
                        let place = tree.place();
                        if trees.insert(address.clone(), place).is_some() {
                            let what = format!("pip does not take {address} although it is there");
                            return Err(Error::failed(what));
                        }
                        if !sources.trees.iter().any(|other| other.path == tree.path) {
                            sources.trees.push(tree);
                        }
                    }
                }
                Ok(out) if kept.let_go(out.misplaced()) => {
                    listen("a locked file is of another index: asking pip again without it");
                    explain = kept.is_empty();
                }
                Ok(out) => break out,
                Err(error) if kept.give_way(&error) => {
                    listen("a locked version is in the way: asking pip again without it");
                    explain = kept.is_empty();
                }
                Err(_) if !explain => explain = true,
                Err(error) => return Err(error),
            }
        };
        let mut found = self.keep(virtualenv, &out, false)?;
        let has_sets = out
            .decided
            .as_ref()
            .is_some_and(|by_uv| by_uv.sets.is_some());
        let sets = has_sets.then(|| self.keep(virtualenv, &out, true));
        let sets = sets.transpose()?;
        if let Some(wheels) = &sets {
            self.remember_sets(virtualenv, builds, (sources, &[]), (&out, wheels))?;
        }
        self.remember_metadata(virtualenv, &out, &found)?;
        let mut other_file = false;
        for python in &mut found {
            if let Some(same) = kept.same(python, self.inputs) {
                other_file |= same.sha256 != python.sha256;
                python.clone_from(same);
            }
        }
        Ok(Decided {
            found,
            sets,
            other_file,
            described: out.described,
            sources: out.sources,
        })
    }

    /// What building each source needs, each set decided by itself. Locked versions stay
    /// where there is one of a name and nothing wants another.
    fn build_sets(
        &self,
        virtualenv: &Virtualenv,
        sources: &Sources,
        builds: &[Build],
        found: &[Python],
        locked: &[Python],
        listen: &mut dyn FnMut(&str),
    ) -> Result<Vec<Python>> {
        let spec = serde_json::to_string(builds).context(|| "cannot describe sources".into())?;
        let mut kept = Kept::new(locked, true, "");
        let uv = self.uv(virtualenv, listen)?;
        let nothing = Kept::new(&[], false, "");
        loop {
            let archives = found.iter().filter(|python| !python.is_wheel());
            let limits = virtualenv.build_constraints.iter();
            let limits: String = limits.map(|limit| format!("{limit}\n")).collect();
            let constraints = kept.constraints() + &limits;
            let run = PipRun {
                files: BTreeMap::from([
                    ("sets.json", spec.clone()),
                    ("constraints.txt", constraints),
                    ("requirements.txt", String::new()),
                    (uv::SPEC, uv::spec(&[], &nothing, &[], &kept)),
                ]),
                retained: kept.files().chain(archives).collect(),
                building: kept.files().collect(),
                direct: Vec::new(),
                uv,
                sources: Some(sources),
                work: Work::Strange {
                    before: Vec::new(),
                    command: format!(
                        "exec {PYTHON} {LENT}/build_sets.py {LENT}/sets.json /run/imgbuild/out \
                         /tmp/imgbuild-tree {LENT}/{} --find-links {RETAINED} -c {LENT}/constraints.txt",
                        uv::SPEC
                    ),
                    explain: kept.is_empty(),
                },
            };
            match self.run(virtualenv, &run, listen) {
                Ok(out) if kept.let_go(out.misplaced()) => {
                    listen("a locked file is of another index: asking pip again without it");
                }
                Ok(out) => {
                    let wheels = self.keep(virtualenv, &out, true)?;
                    let of = (sources, found);
                    self.remember_sets(virtualenv, builds, of, (&out, &wheels))?;
                    return Ok(wheels);
                }
                Err(_) if !kept.is_empty() => {
                    listen("what building needs has changed: asking pip afresh");
                    kept.clear();
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Everything that a virtualenv needs.
pub struct Resolved {
    /// The files, those included that only build others.
    pub files: Vec<Python>,
    /// Of what is among them, all that some source is built with.
    pub built_with: BTreeSet<Sha256>,
}

/// What is known before that is decided.
struct Asked<'a> {
    /// What an older lock has.
    locked: &'a [Python],
    /// Of that, what sources are built with.
    building: &'a Kept<'a>,
    /// The trees of which it is not known what they are built with.
    builds: &'a [Build],
    /// uv, if it is asked.
    uv: Option<&'a Path>,
}

/// What is left for pip to decide.
struct Rest<'a> {
    requirements: String,
    constraints: Vec<String>,
    /// What is decided already.
    fixed: &'a [Python],
    /// The projects that the recipe or a lock brings: an address of theirs says nothing new.
    supplied: &'a BTreeSet<&'a str>,
    /// Where addresses may lead.
    hosts: BTreeSet<String>,
}

impl Rest<'_> {
    /// Whether there are but names and versions: no options, digests or addresses.
    fn is_plain(&self) -> bool {
        let is_plain =
            |line: &str| !line.starts_with('-') && !line.contains("--") && !line.contains("://");
        self.requirements.lines().all(is_plain)
    }

    /// The projects that are wanted of indexes in any case.
    fn names(&self) -> impl Iterator<Item = String> {
        let lines = self.requirements.lines();
        let is_named = |line: &&str| !line.starts_with('/') && !line.contains(';');
        lines.filter(is_named).map(name_of)
    }
}

/// Fetches the repository that a package requires by this address, and unpacks it below a
/// directory. Its submodules are bound to where addresses may lead, but where a line of the
/// recipe's own names it.
pub type Repositories<'a> =
    dyn FnMut(&str, Option<git::Reach<'_>>, &Path) -> Result<SourceTree> + 'a;

/// The unpacked trees of a virtualenv's local and Git packages.
#[derive(Clone)]
pub struct Sources {
    /// The directory that they are in.
    pub dir: PathBuf,
    /// The packages.
    pub trees: Vec<SourceTree>,
}

/// One of them.
#[derive(Clone)]
pub struct SourceTree {
    /// Where the package is, below that directory.
    pub path: PathBuf,
    /// Its path beside the recipe, or its commit.
    pub origin: String,
    /// What its content is known by.
    pub content: String,
    /// What tells its build the version that Git has for it.
    pub variables: Vec<(&'static str, String)>,
}

impl SourceTree {
    /// Where the sandbox has it.
    fn place(&self) -> String {
        format!("{SOURCES}/{}", self.path.display())
    }

    /// Its address, as pip names it.
    fn link(&self) -> String {
        format!("file://{}", self.place())
    }
}

impl Sources {
    fn build(&self, tree: &SourceTree) -> Result<Build> {
        Build::read(&self.text(tree), &tree.place(), &tree.origin)
    }

    fn project(&self, tree: &SourceTree) -> Result<Project> {
        Project::read(&self.text(tree), &tree.place(), &tree.origin)
    }

    /// The pyproject.toml of a package; empty if it has none.
    fn text(&self, tree: &SourceTree) -> String {
        let file = self.dir.join(&tree.path).join("pyproject.toml");
        std::fs::read_to_string(file).unwrap_or_default()
    }
}

/// Refuses two projects of one name: pip says only where it has put them.
fn one_of_a_name(
    virtualenv: &Virtualenv,
    sources: &Sources,
    name_of: impl Fn(&SourceTree) -> Option<String>,
) -> Result<()> {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for tree in &sources.trees {
        let Some(name) = name_of(tree) else {
            continue;
        };
        let name = normalise(&name);
        if let Some(other) = seen.insert(name.clone(), &tree.origin) {
            let (path, origin) = (&virtualenv.path, &tree.origin);
            return Err(Error::usage(format!(
                "two projects of the virtualenv {path} are called {name}: {other} and {origin}"
            ))
            .hint("a virtualenv has one project of a name: leave one of them out"));
        }
    }
    Ok(())
}

/// What is known of addresses before pip asks for them.
fn addresses(
    virtualenv: &Virtualenv,
    rest: &Rest<'_>,
    direct: &[&Python],
    trees: &BTreeMap<String, String>,
    known: &BTreeMap<&str, Known>,
) -> String {
    let named = virtualenv.git.iter().map(|git| git.url.as_str());
    let files = direct.iter().map(|p| (p.url.as_deref(), &p.file));
    let files: BTreeMap<&str, _> = files.filter_map(|(url, file)| Some((url?, file))).collect();
    serde_json::json!({
        "supplied": rest.supplied,
        "named": named.collect::<Vec<_>>(),
        "trees": trees,
        "files": files,
        "hosts": rest.hosts,
        "known": known,
    })
    .to_string()
}

/// The command that downloads what `options` say.
fn download(options: &str, explain: bool) -> Work {
    Work::Strange {
        before: Vec::new(),
        command: format!("exec {}", download_words(options)),
        explain,
    }
}

fn download_words(options: &str) -> String {
    format!("{PYTHON} {LENT}/ask_pip.py {LENT}/{DIRECT} download -d {OUT} {options}")
}

/// Lets pip try before with what is here alone, and build sources with what they were built with before.
fn offline_first(pip: Work, options: &str) -> Work {
    let Work::Strange {
        command, explain, ..
    } = pip
    else {
        return pip;
    };
    let words = download_words(options);
    let words = format!("{words} --no-index --find-links {LENT}/building");
    Work::Strange {
        before: words.split(' ').map(str::to_owned).collect(),
        command,
        explain,
    }
}

/// What pip decided.
struct Decided {
    found: Vec<Python>,
    /// What the recipe's own trees are built with, if that was decided as well.
    sets: Option<Vec<Python>>,
    /// Whether the index has other files of locked versions by now.
    other_file: bool,
    /// What the sources said of themselves.
    described: BTreeMap<String, Described>,
    sources: Vec<(String, String)>,
}

#[cfg(test)]
mod tests;
