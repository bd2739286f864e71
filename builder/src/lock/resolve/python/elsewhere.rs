//! What projects take from elsewhere than an index, and say only to uv or to poetry
//! (`tool.uv.sources`, `path` in `tool.poetry`).
//!
//! pip knows nothing of uv's table: under the same name an index may have a stranger's project.
//! So it is told the address of a repository or file, as a requirement (PEP 508) has it. A
//! directory or a member of a workspace must be one that the recipe brings itself.

use std::collections::BTreeSet;

use toml::Value;

use super::Sources;
use super::names::{name_of, normalise};
use super::project::Project;
use crate::error::{Error, Result};
use crate::recipe::{Virtualenv, is_distribution, joined};

/// The lines for pip of what projects of `sources` take from elsewhere by uv's table, unless it is
/// among the `supplied` projects. What pip cannot take so is refused.
pub(super) fn settle(
    virtualenv: &Virtualenv,
    sources: &Sources,
    projects: &[Project],
    supplied: &BTreeSet<&str>,
    is_covered: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (project, tree) in projects.iter().zip(&sources.trees) {
        // Its backend looks for that path wherever it is built.
        let mut of_poetry = project.poetry_sources.iter();
        if let Some((name, _)) = of_poetry.find(|(_, source)| source.get("path").is_some()) {
            return Err(by_poetry(&tree.origin, name));
        }
        if is_covered(&tree.origin) {
            continue;
        }
        for line in project.lines(&virtualenv.extras, &virtualenv.groups)? {
            let name = name_of(&line);
            // Whether a condition holds, pip says.
            let condition = line.split_once(';');
            if line.contains("://") || supplied.contains(name.as_str()) {
                continue;
            }
            if let Some(address) = project.uv_sources.get(&name).and_then(address) {
                let condition = condition.map(|(_, condition)| format!(" ;{condition}"));
                let condition = condition.unwrap_or_default();
                lines.push(format!("{name} @ {address}{condition}"));
            } else if condition.is_none() {
                project.check_uv(&tree.origin, &name, virtualenv)?;
            }
        }
    }
    Ok(lines)
}

/// What uv was told as an address for pip.
fn address(source: &Value) -> Option<String> {
    let text = |key: &str| source.get(key).and_then(Value::as_str);
    if text("marker").is_some() {
        return None;
    }
    let below = text("subdirectory");
    if let Some(url) = text("url") {
        return below.is_none().then(|| url.to_owned());
    }
    let url = text("git")?;
    let reference = ["rev", "tag", "branch"].into_iter().find_map(text);
    let reference = reference.map_or_else(String::new, |name| format!("@{name}"));
    let below = below.map_or_else(String::new, |below| format!("#subdirectory={below}"));
    Some(format!("git+{url}{reference}{below}"))
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

/// Whether the recipe says which index a project comes from.
fn is_bound(virtualenv: &Virtualenv, name: &str) -> bool {
    let mut bound = virtualenv.index.keys().map(AsRef::<str>::as_ref);
    bound.any(|pattern| match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(&normalise(begin)),
        None => normalise(pattern) == name,
    })
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
        let text = "[project]\nname = \"app\"\ndependencies = [\n  \"dep[x] @ git+https://g.example/dep@v1\",\n  \"Lib\",\n  \"flask\",\n]\n\
                    [tool.uv.sources]\nlib = { workspace = true }\n";
        let sources = Sources {
            dir: "/s".into(),
            trees: vec![SourceTree {
                content: String::new(),
                path: "0".into(),
                origin: "app".to_owned(),
                variables: Vec::new(),
            }],
        };
        let projects = [Project::read(text, "/s/0", "app").unwrap()];
        let poetry = |source: &str| {
            let text =
                format!("[tool.poetry.dependencies]\npython = \"*\"\nlib = {{ {source} }}\n");
            [Project::read(&text, "/s/0", "app").unwrap()]
        };
        let plain: Virtualenv = toml::from_str("path = \"/v\"").unwrap();
        let of_poetry = |source: &str| {
            let lib = BTreeSet::from(["lib"]);
            settle_all(&plain, &sources, &poetry(source), &lib, &|_| true)
        };
        let error = of_poetry("path = \"../lib\"").unwrap_err();
        assert!(error.advice().unwrap().contains("lib = \"*\""));
        // poetry-core writes it as an address.
        of_poetry("git = \"https://g.example/lib\"").unwrap();
        let settle = |more: &str, supplied: &[&str], is_covered: bool| {
            let virtualenv = format!("path = \"/v\"\n{more}");
            let virtualenv: Virtualenv = toml::from_str(&virtualenv).unwrap();
            let supplied = supplied.iter().copied().collect();
            settle_all(&virtualenv, &sources, &projects, &supplied, &|_| is_covered)
        };
        let error = settle("", &["dep"], false).unwrap_err();
        assert!(
            error.to_string().contains("takes lib from elsewhere"),
            "{error}"
        );
        settle("", &[], true).unwrap();
        settle("", &["lib"], false).unwrap();
        // Whether a condition holds, pip says; what it took then is looked at.
        let taken = ["flask", "lib"];
        let after =
            |taken: &[&'static str]| check_taken(&plain, &sources, &projects, taken, &|_| false);
        after(&taken[..1]).unwrap();
        assert!(after(&taken).is_err());
        let text = "[project]\nname = \"app\"\ndependencies = [\"a[x]>1\", \"b ; os_name == 'nt'\", \"c\"]\n\
                    [tool.uv.sources]\nA = { git = \"https://g.example/a\", tag = \"v1\", subdirectory = \"py\" }\n\
                    b = { url = \"https://g.example/b.whl\" }\nc = { url = \"https://g.example/c.whl\" }\n";
        let told = [Project::read(text, "/s/0", "app").unwrap()];
        let supplied = BTreeSet::from(["c"]);
        assert_eq!(
            settle_all(&plain, &sources, &told, &supplied, &|_| false).unwrap(),
            [
                "a @ git+https://g.example/a@v1#subdirectory=py",
                "b @ https://g.example/b.whl ; os_name == 'nt'",
            ]
        );
        assert!(settle("index = { \"*\" = \"main\" }", &["dep"], false).is_err());
    }
}
