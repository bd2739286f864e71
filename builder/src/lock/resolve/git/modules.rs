//! What `git archive` leaves out and a checkout has: submodules, and the content that Git
//! LFS keeps elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;

use super::Repository;
use crate::error::{Context, Error, Result};
use crate::process::Tool;

/// How a pointer of Git LFS begins, and a size that none has.
const LFS: &str = "^version https://git-lfs";
const LARGEST_POINTER: u64 = 1024;
/// How deep submodules may be in submodules.
const DEEPEST: usize = 8;

/// What of a commit is elsewhere.
pub(super) struct Contents {
    /// Path and commit of each submodule.
    submodules: Vec<(String, String)>,
    /// Whether some files are pointers of Git LFS.
    pub(super) has_pointers: bool,
}

/// A submodule that was fetched.
pub(super) struct Module<'a> {
    repository: Repository<'a>,
    commit: String,
    /// Where it belongs, with a slash at the end.
    prefix: String,
    has_pointers: bool,
}

impl<'a> Repository<'a> {
    /// Looks through a commit for what its archive would lack.
    pub(super) fn contents(&self, commit: &str) -> Result<Contents> {
        let listed = self
            .alone()
            .args(["ls-tree", "-r", "-l", "-z", "--full-tree", commit])
            .output()?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let entries = listed.split('\0').filter_map(|entry| {
            let (about, path) = entry.split_once('\t')?;
            let mut about = about.split_whitespace();
            let (mode, _, id, size) = (about.next()?, about.next()?, about.next()?, about.next()?);
            Some((mode, id, size, path))
        });
        // An answer of 1 says that nothing matches.
        let grep = ["grep", "-l", "-z", "--full-name", "-a", "-e"];
        let pointers = self.alone().args(grep).args([LFS, commit]).capture()?;
        let pointers = String::from_utf8_lossy(&pointers.stdout).into_owned();
        let prefix = format!("{commit}:");
        let pointers: BTreeSet<&str> = pointers
            .split('\0')
            .filter_map(|p| p.strip_prefix(&prefix))
            .collect();
        let mut contents = Contents {
            submodules: Vec::new(),
            has_pointers: false,
        };
        for (mode, id, size, path) in entries {
            if mode == "160000" {
                contents.submodules.push((path.to_owned(), id.to_owned()));
            }
            let small = size.parse().is_ok_and(|size: u64| size < LARGEST_POINTER);
            if small && pointers.contains(path) && !contents.has_pointers {
                let blob = self.alone().args(["cat-file", "blob", id]).output()?;
                contents.has_pointers = blob.starts_with(LFS.trim_start_matches('^').as_bytes());
            }
        }
        Ok(contents)
    }

    /// Fetches the submodules of a commit, and theirs.
    pub(super) fn modules(
        &self,
        commit: &str,
        contents: &Contents,
        depth: usize,
    ) -> Result<Vec<Module<'a>>> {
        let mut modules = Vec::new();
        if contents.submodules.is_empty() {
            return Ok(modules);
        }
        if depth == DEEPEST {
            return Err(Error::failed(format!(
                "{} has submodules in submodules without end",
                self.url
            )));
        }
        let urls = self.module_urls(commit)?;
        for (path, id) in &contents.submodules {
            let url = urls.get(path).ok_or_else(|| {
                Error::failed(format!(
                    "`{path}` in {} is a submodule without an address",
                    self.url
                ))
                .detail(format!("commit {commit}"))
                .hint("its .gitmodules should name it")
            })?;
            let url = absolute(&self.url, url).ok_or_else(|| {
                Error::failed(format!(
                    "the submodule `{path}` of {} has the address {url}",
                    self.url
                ))
                .hint("submodules come by https, http or ssh")
            })?;
            if !(self.reach)(&url) {
                return Err(Error::failed(format!(
                    "the submodule `{path}` of {} is at {url}, a host that neither the recipe nor \
                     a project of its own names",
                    self.url
                ))
                .hint(
                    "if you trust that host, name the repository that has the submodule in a \
                     requirements file: NAME @ git+URL@TAG",
                ));
            }
            let repository = Repository::new(&url, self.environment, self.reach)?;
            repository.fetch(id, true)?;
            let own = repository.contents(id)?;
            for mut module in repository.modules(id, &own, depth + 1)? {
                module.prefix = format!("{path}/{}", module.prefix);
                modules.push(module);
            }
            modules.push(Module {
                has_pointers: own.has_pointers,
                repository,
                commit: id.clone(),
                prefix: format!("{path}/"),
            });
        }
        modules.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        Ok(modules)
    }

    /// The addresses of submodules by path.
    fn module_urls(&self, commit: &str) -> Result<BTreeMap<String, String>> {
        let blob = format!("{commit}:.gitmodules");
        let find = ["--null", "--get-regexp", r"^submodule\..*\.(path|url)$"];
        let listed = self
            .alone()
            .args(["config", "--blob", &blob])
            .args(find)
            .output()?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let mut named: BTreeMap<&str, (Option<&str>, Option<&str>)> = BTreeMap::new();
        for entry in listed.split('\0') {
            let Some((key, value)) = entry.split_once('\n') else {
                continue;
            };
            if let Some(name) = key.strip_suffix(".path") {
                named.entry(name).or_default().0 = Some(value);
            } else if let Some(name) = key.strip_suffix(".url") {
                named.entry(name).or_default().1 = Some(value);
            }
        }
        let both =
            |(path, url): (Option<&str>, Option<&str>)| Some((path?.to_owned(), url?.to_owned()));
        Ok(named.into_values().filter_map(both).collect())
    }
}

/// The address of a submodule, which may begin at that of its parent. What a repository
/// says must not reach files of this machine, unless it is one itself.
fn absolute(parent: &str, url: &str) -> Option<String> {
    let mut url = url.to_owned();
    if url.starts_with("./") || url.starts_with("../") {
        let mut base = parent.trim_end_matches('/');
        let mut rest = url.as_str();
        loop {
            if let Some(after) = rest.strip_prefix("./") {
                rest = after;
            } else if let Some(after) = rest.strip_prefix("../") {
                rest = after;
                let (above, _) = base.rsplit_once('/')?;
                base = above;
            } else {
                break;
            }
        }
        if base.ends_with('/') || !base.contains("://") {
            return None;
        }
        url = format!("{base}/{rest}");
    } else if !url.contains("://") {
        // `git@HOST:PATH`
        let (host, path) = url.split_once(':')?;
        if !host.contains('@') || host.contains('/') {
            return None;
        }
        url = format!("ssh://{host}/{path}");
    }
    let (scheme, rest) = url.split_once("://")?;
    let may = match scheme {
        "https" | "http" | "ssh" | "git" => true,
        "file" => parent.starts_with("file://"),
        _ => false,
    };
    (may && !rest.starts_with('-') && !url.contains(char::is_whitespace)).then_some(url)
}

/// Adds the trees of submodules to an archive.
pub(super) fn join(archive: &Path, modules: &[Module<'_>], abbreviation: &str) -> Result<()> {
    let failed = || format!("cannot write {}", archive.display());
    let whole = archive.with_extension("whole");
    let mut builder = tar::Builder::new(BufWriter::new(File::create(&whole).context(failed)?));
    append(&mut builder, archive)?;
    for module in modules {
        let part = archive.with_extension("part");
        module.repository.archive(
            &module.commit,
            &module.prefix,
            abbreviation,
            module.has_pointers,
            &part,
        )?;
        append(&mut builder, &part)?;
    }
    let file = builder.into_inner().context(failed)?;
    file.into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|mut f| f.flush())
        .context(failed)?;
    fs::rename(&whole, archive).context(failed)
}

/// Copies the entries of an archive as they are.
fn append<W: std::io::Write>(builder: &mut tar::Builder<W>, archive: &Path) -> Result<()> {
    let failed = || format!("cannot read {}", archive.display());
    let file = File::open(archive).context(failed)?;
    let mut archive = tar::Archive::new(BufReader::new(file));
    for entry in archive.entries().context(failed)?.raw(true) {
        let mut entry = entry.context(failed)?;
        let header = entry.header().clone();
        builder.append(&header, &mut entry).context(failed)?;
    }
    Ok(())
}

/// Lets git ask Git LFS for what pointers point to.
pub(super) fn with_lfs(tool: Tool, url: &str) -> Result<Tool> {
    if Tool::new("git-lfs").arg("version").output().is_err() {
        return Err(Error::failed(format!(
            "some files of {url} are in Git LFS, and git-lfs is not here"
        ))
        .hint("install it on this machine: apt-get install git-lfs"));
    }
    Ok(tool
        .args(["-c", &format!("remote.origin.url={url}")])
        .args(["-c", "filter.lfs.smudge=git-lfs smudge -- %f"])
        .args(["-c", "filter.lfs.process=git-lfs filter-process"])
        .args(["-c", "filter.lfs.required=true"]))
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn addresses_of_submodules_stay_on_servers() {
        for (parent, url, found) in [
            (
                "https://h.example/a/b.git",
                "../c.git",
                Some("https://h.example/a/c.git"),
            ),
            (
                "https://h.example/a/b/",
                "./c",
                Some("https://h.example/a/b/c"),
            ),
            ("https://h.example/a", "../../../c", None),
            (
                "https://h.example/a",
                "git@h.example:x/c.git",
                Some("ssh://git@h.example/x/c.git"),
            ),
            ("https://h.example/a", "file:///etc", None),
            ("https://h.example/a", "/etc", None),
            ("https://h.example/a", "ext::sh -c id", None),
            ("file:///srv/a", "file:///srv/b", Some("file:///srv/b")),
            ("https://h.example/a", "https://-oProxyCommand/x", None),
        ] {
            assert_eq!(absolute(parent, url).as_deref(), found, "{url}");
        }
    }
}
