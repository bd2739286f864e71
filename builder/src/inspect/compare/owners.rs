//! Who brought a file: dpkg's lists and the RECORDs of virtualenvs, as they lie
//! in the images themselves.
//!
//! Only changed paths are looked up, so memory follows the difference and not the
//! image. dpkg writes paths as its packages have them: `/bin/ls` where the tree
//! has `usr/bin/ls` behind a link, and the undiverted name of a diverted file.
//! Byte code belongs to whoever brought its source.

use std::collections::{HashMap, HashSet};

use store::canonical_tar::{self, Entry, Kind as Is};
use store::chunk::ChunkRef;

use super::report::{FileChange, Owner, Report};
use super::walk::Walked;
use super::{Reading, content};
use crate::error::Result;

/// dpkg's folder, and its file of diversions.
const INFO: &str = "var/lib/dpkg/info/";
const DIVERSIONS: &str = "var/lib/dpkg/diversions";

/// No list that is read here is longer.
const MOST: usize = 16 << 20;

/// The files of one image that say who owns what.
#[derive(Default)]
pub(in crate::inspect) struct Inventory {
    /// Links at the top of the tree: `bin` and `usr/bin/`.
    links: Vec<(String, String)>,
    /// Packages and their lists.
    lists: Vec<(String, Vec<ChunkRef>)>,
    diversions: Vec<ChunkRef>,
    /// Paths of RECORD and installed-files.txt, and what they say.
    records: Vec<(String, Vec<ChunkRef>)>,
}

impl Inventory {
    /// Notes the entry if it is of use.
    pub(in crate::inspect) fn look(&mut self, entry: &Entry, chunks: &[ChunkRef]) {
        let Ok(path) = std::str::from_utf8(&entry.path) else {
            return;
        };
        match &entry.kind {
            Is::Symlink { target } if !path.contains('/') => {
                let target = canonical_tar::display(target);
                let target = target.trim_matches('/');
                self.links.push((path.to_owned(), format!("{target}/")));
            }
            Is::File { .. } if path == DIVERSIONS => self.diversions = chunks.to_vec(),
            Is::File { .. } => {
                let list = path
                    .strip_prefix(INFO)
                    .and_then(|n| n.strip_suffix(".list"));
                if let Some(package) = list {
                    self.lists.push((bare(package).to_owned(), chunks.to_vec()));
                } else if path.ends_with(".dist-info/RECORD")
                    || path.ends_with(".egg-info/installed-files.txt")
                {
                    self.records.push((path.to_owned(), chunks.to_vec()));
                }
            }
            _ => {}
        }
    }

    /// A path of dpkg's as the tree has it.
    fn real(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        let (top, rest) = path.split_once('/').unwrap_or((path, ""));
        let link = self.links.iter().find(|(name, _)| name == top);
        match link {
            Some((_, target)) if !rest.is_empty() => format!("{target}{rest}"),
            _ => path.to_owned(),
        }
    }

    /// The owners of the wanted paths.
    fn owners(&self, side: Reading<'_>, wanted: &HashSet<String>) -> Result<Owners> {
        let mut owners = Owners::new();
        self.each(side, &mut |path, owner| {
            if !wanted.contains(&path) {
                return;
            }
            let known = owners.entry(path);
            match owner {
                // A directory has many owners; it is nobody's change.
                Owner::Package(_) => known
                    .and_modify(|owner| *owner = None)
                    .or_insert_with(|| Some(owner.clone())),
                Owner::Distribution { .. } => known.or_insert_with(|| Some(owner.clone())),
            };
        })?;
        Ok(owners)
    }

    /// Calls `each` with every path that somebody brought, as the tree has it, and with who
    /// that was: Debian packages first.
    pub(in crate::inspect) fn each(
        &self,
        side: Reading<'_>,
        each: &mut dyn FnMut(String, &Owner),
    ) -> Result<()> {
        let diverted = self.diverted(side)?;
        for (package, chunks) in &self.lists {
            let list = content::read(side, chunks, MOST)?;
            let owner = Owner::Package(package.clone());
            for line in list.split(|byte| *byte == b'\n').filter(|l| l.len() > 1) {
                let line = canonical_tar::display(line);
                let path = match diverted.get(&line) {
                    Some((to, by)) if by != package => self.real(to),
                    _ => self.real(&line),
                };
                each(path, &owner);
            }
        }
        for (record, chunks) in &self.records {
            let Some((owner, base)) = distribution(record, side.0) else {
                continue;
            };
            let text = content::read(side, chunks, MOST)?;
            for line in String::from_utf8_lossy(&text).lines() {
                each(join(base, first_field(line)), &owner);
            }
        }
        Ok(())
    }

    /// Diverted paths: where each went, and for which package.
    fn diverted(&self, side: Reading<'_>) -> Result<HashMap<String, (String, String)>> {
        let text = content::read(side, &self.diversions, MOST)?;
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let triples = lines.chunks_exact(3).map(|three| {
            let (to, by) = (three[1].to_owned(), three[2].to_owned());
            (three[0].to_owned(), (to, by))
        });
        Ok(triples.collect())
    }
}

/// Owners by path; `None` where several share it.
type Owners = HashMap<String, Option<Owner>>;

/// Names the owner of each changed file, and counts what changed of each.
pub(super) fn name(
    report: &mut Report,
    walked: &Walked,
    old: Reading<'_>,
    new: Reading<'_>,
) -> Result<()> {
    let paths = report.files.iter().map(|file| &file.path);
    let wanted: HashSet<String> = paths
        .flat_map(|path| [Some(path.clone()), source(path)])
        .flatten()
        .collect();
    let olds = walked.old.owners(old, &wanted)?;
    let news = walked.new.owners(new, &wanted)?;
    for file in &mut report.files {
        let in_new = file.new.is_some();
        let found = if in_new {
            find(&news, &file.path)
        } else {
            None
        };
        file.owner = found.or_else(|| find(&olds, &file.path));
    }
    count(report);
    Ok(())
}

fn find(owners: &Owners, path: &str) -> Option<Owner> {
    if let Some(owner) = owners.get(path) {
        return owner.clone();
    }
    if let Some(package) = described(path) {
        return Some(Owner::Package(package.to_owned()));
    }
    owners.get(&source(path)?)?.clone()
}

/// The package that a file of dpkg's is about: what dpkg keeps about a package is the package's.
pub(in crate::inspect) fn described(path: &str) -> Option<&str> {
    let (package, _) = path.strip_prefix(INFO)?.rsplit_once('.')?;
    (package != "format").then(|| bare(package))
}

/// Adds up the changed files of each changed package and distribution.
fn count(report: &mut Report) {
    let mut sums: HashMap<&Owner, (u64, i64)> = HashMap::new();
    for file in &report.files {
        if let Some(owner) = &file.owner {
            let sum = sums.entry(owner).or_default();
            sum.0 += 1;
            sum.1 += file.growth();
        }
    }
    for package in &mut report.packages {
        let sum = sums.get(&Owner::Package(package.name.clone()));
        (package.files, package.growth) = sum.copied().unwrap_or_default();
    }
    for wheel in &mut report.wheels {
        let (virtualenv, name) = (wheel.virtualenv.clone(), wheel.name.clone());
        let sum = sums.get(&Owner::Distribution { virtualenv, name });
        (wheel.files, wheel.growth) = sum.copied().unwrap_or_default();
    }
}

/// The source of a file of byte code.
pub(in crate::inspect) fn source(path: &str) -> Option<String> {
    let stem = path.strip_suffix(".pyc").or(path.strip_suffix(".pyo"))?;
    let Some((dir, name)) = stem.rsplit_once("/__pycache__/") else {
        return Some(format!("{stem}.py"));
    };
    // module.cpython-311.pyc, module.cpython-311.opt-1.pyc
    let module = name.split_once(".cpython-").map_or(name, |(m, _)| m);
    Some(format!("{dir}/{module}.py"))
}

/// A package's name without its architecture.
fn bare(package: &str) -> &str {
    package.split_once(':').map_or(package, |(name, _)| name)
}

/// The distribution that a record is of, and the directory that its paths start
/// from. Only those of virtualenvs: Debian's own are in dpkg's lists.
fn distribution<'r>(record: &'r str, manifest: &store::Manifest) -> Option<(Owner, &'r str)> {
    let (info, file) = record.rsplit_once('/')?;
    let (site, stem) = info.rsplit_once('/')?;
    let base = if file == "RECORD" { site } else { info };
    let (name, version) = stem
        .strip_suffix(".dist-info")
        .or(stem.strip_suffix(".egg-info"))?
        .split_once('-')?;
    let version = version.split("-py").next().unwrap_or(version);
    let wheel = manifest.wheels.iter().find(|wheel| {
        let root = wheel.virtualenv.trim_start_matches('/');
        let inside = site.strip_prefix(root).is_some_and(|s| s.starts_with('/'));
        inside && (wheel.name.as_str(), wheel.version.as_str()) == (name, version)
    })?;
    let owner = Owner::Distribution {
        virtualenv: wheel.virtualenv.clone(),
        name: wheel.name.clone(),
    };
    Some((owner, base))
}

/// The first field of a line of CSV (PEP 376): quoted if it has a comma.
fn first_field(line: &str) -> &str {
    match line.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => line.split(',').next().unwrap_or_default(),
    }
}

/// A path relative to a directory of the tree; an absolute one is the tree's.
fn join(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = if path.starts_with('/') {
        Vec::new()
    } else {
        base.split('/').collect()
    };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    canonical_tar::display(parts.join("/").as_bytes())
}

/// Whether the file came with a package or distribution that changed as a whole.
pub(crate) fn came_along(report: &Report, file: &FileChange) -> bool {
    match &file.owner {
        None => false,
        Some(Owner::Package(name)) => report.packages.iter().any(|p| p.name == *name),
        Some(Owner::Distribution { virtualenv, name }) => report
            .wheels
            .iter()
            .any(|w| w.virtualenv == *virtualenv && w.name == *name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_records_and_byte_code() {
        assert_eq!(join("v/lib/p/site-packages", "../../../bin/x"), "v/bin/x");
        assert_eq!(join("v", "/usr/bin/x"), "usr/bin/x");
        assert_eq!(first_field("a/b.py,sha256=x,3"), "a/b.py");
        assert_eq!(first_field("\"a,b.py\",sha256=x,3"), "a,b.py");
        let of = |path| source(path).unwrap();
        assert_eq!(of("a/__pycache__/m.cpython-311.pyc"), "a/m.py");
        assert_eq!(of("a/__pycache__/m.cpython-311.opt-1.pyc"), "a/m.py");
        assert_eq!(of("a/m.pyc"), "a/m.py");
        assert_eq!(source("a/m.py"), None);
    }

    #[test]
    fn dpkg_paths_become_those_of_the_tree() {
        let mut inventory = Inventory::default();
        let target = b"usr/bin".to_vec();
        let link = Entry {
            path: b"bin".to_vec(),
            kind: Is::Symlink { target },
            mode: 0o777,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: std::collections::BTreeMap::new(),
        };
        inventory.look(&link, &[]);
        assert_eq!(inventory.real("/bin/ls"), "usr/bin/ls");
        assert_eq!(inventory.real("/bin"), "bin");
        assert_eq!(inventory.real("/usr/bin/ls"), "usr/bin/ls");
        let about = find(&Owners::new(), "var/lib/dpkg/info/libc6:amd64.postinst");
        assert_eq!(about, Some(Owner::Package("libc6".into())));
    }
}
