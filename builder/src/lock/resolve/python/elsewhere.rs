//! What projects take from elsewhere than an index: by an address in their metadata (PEP 508),
//! or as uv was told (`tool.uv.sources`).
//!
//! While pip decides it reaches indexes alone, and it knows nothing of uv's table: under the
//! same name an index may have a stranger's project. So each such project must be one that the
//! recipe brings itself.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::Sources;
use super::names::{name_of, normalise};
use super::project::Project;
use crate::error::{Context, Error, Result};
use crate::recipe::{Virtualenv, git_as_key, is_distribution, joined, pip_git_url};

/// Looks at what the projects of `sources` take from elsewhere. What is among the `supplied`
/// projects is asked of pip by its name alone, for which the unpacked trees are changed.
pub(super) fn settle(
    virtualenv: &Virtualenv,
    sources: &Sources,
    projects: &[Project],
    supplied: &BTreeSet<&str>,
    is_covered: &dyn Fn(&str) -> bool,
) -> Result<()> {
    for (project, tree) in projects.iter().zip(&sources.trees) {
        // Its backend looks for that path wherever it is built.
        let mut of_poetry = project.poetry_sources.iter();
        let is_open = |(_, source): &(&String, &Value)| {
            source.get("path").is_some() || !is_covered(&tree.origin)
        };
        if let Some((name, _)) = of_poetry.find(is_open) {
            return Err(by_poetry(&tree.origin, name));
        }
        if is_covered(&tree.origin) {
            continue;
        }
        let mut named = Vec::new();
        for line in project.lines(&virtualenv.extras, &virtualenv.groups)? {
            let name = name_of(&line);
            let is_supplied = supplied.contains(name.as_str()) || is_named(virtualenv, &line);
            // Whether a condition holds, pip says.
            let is_certain = !line.contains(';');
            if line.contains("://") {
                if is_supplied {
                    named.push(line);
                } else if is_certain {
                    return Err(by_address(&tree.origin, &name, &line));
                }
            } else if is_certain && !is_supplied {
                project.check_uv(&tree.origin, &name, virtualenv)?;
            }
        }
        if named.is_empty() {
            continue;
        }
        let file = sources.dir.join(&tree.path).join("pyproject.toml");
        let unreadable = || format!("cannot change {}", file.display());
        let text = fs::read_to_string(&file).context(unreadable)?;
        fs::write(&file, without_addresses(&text, &named)).context(unreadable)?;
    }
    Ok(())
}

/// Refuses what pip took from an index and a project takes from elsewhere.
pub(super) fn check_taken(
    virtualenv: &Virtualenv,
    sources: &Sources,
    projects: &[Project],
    taken: &[&str],
    is_covered: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let projects = projects.iter().zip(&sources.trees);
    for (project, tree) in projects.filter(|(_, tree)| !is_covered(&tree.origin)) {
        for name in taken {
            project.check_uv(&tree.origin, name, virtualenv)?;
        }
    }
    Ok(())
}

impl Project {
    fn check_uv(&self, origin: &str, name: &str, virtualenv: &Virtualenv) -> Result<()> {
        let Some(source) = self.uv_sources.get(name) else {
            return Ok(());
        };
        // What has a condition may be for other machines.
        let sources = match source.as_array() {
            Some(all) => all.as_slice(),
            None => std::slice::from_ref(source),
        };
        let mut sources = sources.iter().filter(|one| one.get("marker").is_none());
        let Some(source) = sources.next() else {
            return Ok(());
        };
        if source.get("index").is_some() && is_bound(virtualenv, name)
            || source
                .get("path")
                .and_then(Value::as_str)
                .is_some_and(|path| {
                    joined(origin, path).is_some_and(|place| virtualenv.local.contains(&place))
                })
        {
            return Ok(());
        }
        Err(by_uv(origin, name, source))
    }
}

/// Whether the recipe has the repository that a requirement names.
fn is_named(virtualenv: &Virtualenv, line: &str) -> bool {
    let bare = |url: &str| {
        url.trim_end_matches('/')
            .trim_end_matches(".git")
            .to_owned()
    };
    let mut urls = virtualenv.git.iter().map(|git| bare(git.url.as_str()));
    pip_git_url(line).is_some_and(|url| urls.any(|own| own == bare(&url)))
}

/// Whether the recipe says which index a project comes from.
fn is_bound(virtualenv: &Virtualenv, name: &str) -> bool {
    let mut bound = virtualenv.index.keys().map(AsRef::<str>::as_ref);
    bound.any(|pattern| match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(&normalise(begin)),
        None => normalise(pattern) == name,
    })
}

/// The text of a `pyproject.toml` where these requirements have no address.
fn without_addresses(text: &str, named: &[String]) -> String {
    let mut places = Vec::new();
    if let Ok(table) = DeTable::parse(text) {
        let table = table.into_inner();
        table
            .values()
            .for_each(|value| find(value, named, &mut places));
    }
    places.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, line) in places {
        let without = Value::String(without_address(&line));
        text.replace_range(span, &without.to_string());
    }
    text
}

/// Where strings stand that are one of `named`.
fn find(value: &Spanned<DeValue<'_>>, named: &[String], places: &mut Vec<(Range<usize>, String)>) {
    match value.get_ref() {
        DeValue::String(line) if named.iter().any(|one| one == line) => {
            places.push((value.span(), line.to_string()));
        }
        DeValue::Array(list) => list.iter().for_each(|one| find(one, named, places)),
        DeValue::Table(table) => table.values().for_each(|one| find(one, named, places)),
        _ => {}
    }
}

/// `NAME[EXTRAS] @ URL ; MARKER` without the address.
fn without_address(line: &str) -> String {
    let (wanted, address) = line.split_once('@').unwrap_or((line, ""));
    let marker = address
        .split_once(" ;")
        .or_else(|| address.split_once("; "));
    match marker {
        Some((_, marker)) => format!("{} ; {}", wanted.trim(), marker.trim()),
        None => wanted.trim().to_owned(),
    }
}

fn by_address(origin: &str, name: &str, line: &str) -> Error {
    let error = Error::usage(format!("{origin} requires {name} from an address"));
    error.hint(git_as_key(line).unwrap_or_else(|| {
        format!(
            "bring that file by a requirements file, with its digest: \
             {name} @ URL --hash=sha256:DIGEST"
        )
    }))
}

fn by_poetry(origin: &str, name: &str) -> Error {
    let what = format!("{origin} takes {name} from elsewhere than an index ([tool.poetry])");
    Error::usage(what).hint(format!(
        "let it require {name} by its version ({name} = \"*\"), and name the directory or \
         repository of {name} in the recipe, under `local` or `git`"
    ))
}

fn by_uv(origin: &str, name: &str, source: &Value) -> Error {
    let text = |key: &str| source.get(key).and_then(Value::as_str);
    let hint = if let Some(path) = text("path") {
        let place = joined(origin, path).map_or(path.to_owned(), |place| place.to_string());
        if is_distribution(&place) {
            format!("name that file in the recipe: distributions = [..., \"{place}\"]")
        } else {
            format!("name its directory in the recipe: local = [..., \"{place}\"]")
        }
    } else if let Some(url) = text("git") {
        let (key, reference) = ["rev", "tag", "branch"]
            .iter()
            .find_map(|key| Some((*key, text(key)?)))
            .unwrap_or(("tag", "…"));
        let key = if key == "rev" { "commit" } else { "tag" };
        format!("name it in the recipe: git = [{{ url = \"{url}\", {key} = \"{reference}\" }}]")
    } else if text("index").is_some() {
        format!(
            "say which index of this machine is meant: index = {{ {name} = \"extra\" }} or \"main\""
        )
    } else if text("url").is_some() {
        format!(
            "bring that file by a requirements file, with its digest: \
             {name} @ URL --hash=sha256:DIGEST"
        )
    } else {
        "name the directory of that member in the recipe: local = [\"DIRECTORY\"]".to_owned()
    };
    Error::usage(format!(
        "{origin} takes {name} from elsewhere than an index ([tool.uv.sources])"
    ))
    .hint(format!(
        "{hint}; or let `requirements-files` name the uv.lock, which knows"
    ))
}

#[cfg(test)]
mod tests {
    use super::settle as settle_all;
    use super::*;
    use crate::lock::resolve::python::SourceTree;

    #[test]
    fn what_comes_from_elsewhere_must_be_brought_by_the_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[project]\nname = \"app\"\ndependencies = [\n  \"dep[x] @ git+https://g.example/dep@v1 ; python_version > '3'\",\n  \"Lib\",\n  \"flask\",\n]\n\
                    [tool.uv.sources]\nlib = { workspace = true }\n";
        fs::create_dir(dir.path().join("0")).unwrap();
        let file = dir.path().join("0/pyproject.toml");
        fs::write(&file, text).unwrap();
        let sources = Sources {
            dir: dir.path().to_owned(),
            trees: vec![SourceTree {
                path: "0".into(),
                origin: "app".to_owned(),
                variables: Vec::new(),
            }],
        };
        let projects = [Project::read(text, "/s/0").unwrap()];
        let poetry = "[tool.poetry.dependencies]\npython = \"*\"\nlib = { path = \"../lib\" }\n";
        let poetry = [Project::read(poetry, "/s/0").unwrap()];
        let plain: Virtualenv = toml::from_str("path = \"/v\"").unwrap();
        let error = settle_all(&plain, &sources, &poetry, &BTreeSet::from(["lib"]), &|_| {
            true
        })
        .unwrap_err();
        assert!(error.advice().unwrap().contains("lib = \"*\""));
        let settle = |more: &str, supplied: &[&str], is_covered: bool| {
            let virtualenv = format!("path = \"/v\"\n{more}");
            let virtualenv: Virtualenv = toml::from_str(&virtualenv).unwrap();
            let supplied = supplied.iter().copied().collect();
            settle_all(&virtualenv, &sources, &projects, &supplied, &|_| is_covered)
        };
        let certain =
            [Project::read(&text.replace(" ; python_version > '3'", ""), "/s/0").unwrap()];
        let error = settle_all(
            &plain,
            &sources,
            &certain,
            &BTreeSet::from(["lib"]),
            &|_| false,
        );
        assert!(
            error
                .unwrap_err()
                .advice()
                .unwrap()
                .contains("tag = \"v1\"")
        );
        let git = "path = \"/v\"\ngit = [{ url = \"https://g.example/dep.git\", tag = \"v1\" }]";
        let git: Virtualenv = toml::from_str(git).unwrap();
        let nothing = |_: &str| false;
        settle_all(&git, &sources, &certain, &BTreeSet::from(["lib"]), &nothing).unwrap();
        fs::write(&file, text).unwrap();
        let error = settle("", &["dep"], false).unwrap_err();
        assert!(
            error.to_string().contains("takes lib from elsewhere"),
            "{error}"
        );
        settle("", &[], true).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        // Whether a condition holds, pip says; what it took then is looked at.
        settle("", &["lib"], false).unwrap();
        let taken = ["flask", "lib"];
        let after =
            |taken: &[&'static str]| check_taken(&plain, &sources, &projects, taken, &|_| false);
        after(&taken[..1]).unwrap();
        assert!(after(&taken).is_err());
        let bound = "index = { \"*\" = \"main\" }";
        assert!(settle(bound, &["dep"], false).is_err());
        settle("", &["dep", "lib"], false).unwrap();
        let now = fs::read_to_string(&file).unwrap();
        assert!(
            now.contains("  \"dep[x] ; python_version > '3'\",\n"),
            "{now}"
        );
    }
}
