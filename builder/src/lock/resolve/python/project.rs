//! What a `pyproject.toml` says about building, extras and dependency groups.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml::Value;

use super::keep::RETAINED;
use super::names::normalise;
use crate::error::{Error, Result};

/// What building needs when a source does not say (PEP 518).
const DEFAULT_REQUIRES: [&str; 2] = ["setuptools>=40.8.0", "wheel"];
/// Who builds it then (PEP 517).
const DEFAULT_BACKEND: &str = "setuptools.build_meta:__legacy__";

/// A source and how it is built.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Build {
    /// Its tree or archive, as the sandbox has it.
    pub(super) source: String,
    /// What its build backend needs before it can be asked.
    pub(super) requires: Vec<String>,
    backend: String,
    /// Where the backend lies within the source, if it is the source's own.
    backend_path: Vec<String>,
}

impl Build {
    /// Reads the table `build-system`; people know the source as `called`.
    pub(super) fn read(text: &str, source: &str, called: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct File {
            build_system: Option<System>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct System {
            requires: Option<Vec<String>>,
            build_backend: Option<String>,
            #[serde(default)]
            backend_path: Vec<String>,
        }
        let file: File = toml::from_str(text).map_err(|e| unsound(text, source, called, &e))?;
        let system = file.build_system.unwrap_or(System {
            requires: None,
            build_backend: None,
            backend_path: Vec::new(),
        });
        let default = || DEFAULT_REQUIRES.map(str::to_owned).to_vec();
        Ok(Self {
            source: source.to_owned(),
            requires: system.requires.unwrap_or_else(default),
            backend: system
                .build_backend
                .unwrap_or_else(|| DEFAULT_BACKEND.to_owned()),
            backend_path: system.backend_path,
        })
    }
}

/// A project: what it requires, and what it offers besides itself.
pub(super) struct Project {
    /// Its tree, as the sandbox has it.
    pub(super) source: String,
    /// Its normalised name, if it says so itself.
    pub(super) name: Option<String>,
    /// What it requires, if that is written down (PEP 621) and not for its backend to say.
    dependencies: Option<Vec<String>>,
    /// What its extras require.
    optional: BTreeMap<String, Vec<String>>,
    /// Where uv takes which of them from (`tool.uv.sources`), by normalised name.
    pub(super) uv_sources: BTreeMap<String, Value>,
    /// What poetry takes from elsewhere than an index, likewise.
    pub(super) poetry_sources: BTreeMap<String, Value>,
    extras: BTreeSet<String>,
    /// Whether something else may say further extras.
    is_dynamic: bool,
    /// Whether it says what it requires, or that its backend does: some backends add to silence.
    is_explicit: bool,
    /// Dependency groups (PEP 735), by normalised name.
    groups: BTreeMap<String, Vec<Value>>,
}

impl Project {
    /// Reads the tables `project`, `dependency-groups` and poetry's own, likewise.
    pub(super) fn read(text: &str, source: &str, called: &str) -> Result<Self> {
        let table: toml::Table =
            toml::from_str(text).map_err(|e| unsound(text, source, called, &e))?;
        let project = table.get("project");
        let poetry = table.get("tool").and_then(|tool| tool.get("poetry"));
        let extras = [
            project.and_then(|p| p.get("optional-dependencies")),
            poetry.and_then(|p| p.get("extras")),
        ];
        let names = extras.into_iter().flatten().filter_map(Value::as_table);
        let dynamic = project.and_then(|p| p.get("dynamic"));
        let dynamic: Vec<&str> = dynamic.map_or_else(Vec::new, strings);
        let has_dynamic = |name: &str| dynamic.contains(&name);
        let says = |p: &Value| p.get("dependencies").is_some() || has_dynamic("dependencies");
        let name = [project, poetry];
        let name = name
            .into_iter()
            .flatten()
            .find_map(|p| p.get("name")?.as_str());
        let dependencies = project.filter(|_| !has_dynamic("dependencies"));
        let dependencies =
            dependencies.map(|p| p.get("dependencies").map_or_else(Vec::new, strings));
        let optional = project.and_then(|p| p.get("optional-dependencies")?.as_table());
        let optional = optional.into_iter().flatten();
        let uv = table.get("tool").and_then(|tool| tool.get("uv"));
        let uv_sources = uv.and_then(|uv| uv.get("sources")?.as_table());
        let uv_sources = uv_sources.into_iter().flatten();
        let of_poetry = poetry.and_then(|p| p.get("dependencies")?.as_table());
        let of_poetry = of_poetry.into_iter().flatten();
        let groups = table.get("dependency-groups").and_then(Value::as_table);
        let groups = groups.into_iter().flatten().map(|(name, lines)| {
            let lines = lines.as_array().cloned().unwrap_or_default();
            (normalise(name), lines)
        });
        Ok(Self {
            source: source.to_owned(),
            name: name.map(normalise),
            dependencies: dependencies.map(owned),
            optional: optional
                .map(|(name, lines)| (normalise(name), owned(strings(lines))))
                .collect(),
            poetry_sources: of_poetry
                .filter(|(_, wanted)| {
                    let mut keys = ["path", "git", "url"].iter();
                    let is_optional = wanted.get("optional").and_then(Value::as_bool);
                    keys.any(|key| wanted.get(key).is_some()) && is_optional != Some(true)
                })
                .map(|(name, wanted)| (normalise(name), wanted.clone()))
                .collect(),
            uv_sources: uv_sources
                .map(|(name, source)| (normalise(name), source.clone()))
                .collect(),
            extras: names
                .flat_map(toml::Table::keys)
                .map(|n| normalise(n))
                .collect(),
            is_dynamic: (project.is_none() && poetry.is_none())
                || has_dynamic("optional-dependencies"),
            is_explicit: project.is_none_or(says),
            groups: groups.collect(),
        })
    }

    /// Whether its setup.py or its backend may know further extras.
    pub(super) fn says_extras_elsewhere(&self) -> bool {
        self.is_dynamic
    }

    /// Whether what is written down is all that there is to know, or says who knows the rest.
    pub(super) fn is_plain(&self) -> bool {
        self.name.is_some() && self.is_explicit && !self.is_dynamic
    }

    /// Its extras, or its groups.
    pub(super) fn names(&self, of_extras: bool) -> Vec<String> {
        if of_extras {
            self.extras.iter().cloned().collect()
        } else {
            self.groups.keys().cloned().collect()
        }
    }

    /// The lines that make pip take it with those of these extras and groups that it has.
    pub(super) fn requirements<T: AsRef<str>, U: AsRef<str>>(
        &self,
        extras: &[T],
        groups: &[U],
    ) -> Result<Vec<String>> {
        let extras: Vec<&str> = extras.iter().map(AsRef::as_ref).collect();
        let has = |e: &&str| self.is_dynamic || self.extras.contains(&normalise(e));
        let extras: Vec<&str> = extras.into_iter().filter(has).collect();
        let mut lines = vec![if extras.is_empty() {
            self.source.clone()
        } else {
            format!("{}[{}]", self.source, extras.join(","))
        }];
        let mut seen = BTreeSet::new();
        for group in groups {
            let name = normalise(group.as_ref());
            if self.groups.contains_key(&name) {
                self.add_group(&name, &mut lines, &mut seen)?;
            }
        }
        Ok(lines)
    }

    /// What it requires with these extras and groups, as far as that is written down.
    pub(super) fn lines<T: AsRef<str>, U: AsRef<str>>(
        &self,
        extras: &[T],
        groups: &[U],
    ) -> Result<Vec<String>> {
        let mut lines = self.dependencies.clone().unwrap_or_default();
        let mut extras: Vec<String> = extras.iter().map(|e| normalise(e.as_ref())).collect();
        let mut next = 0;
        while let Some(extra) = extras.get(next) {
            for line in self.optional.get(extra).cloned().unwrap_or_default() {
                // `all = ["app[one,two]"]`
                let (name, more) = line.split_once('[').unwrap_or((&line, ""));
                if Some(normalise(name.trim())) == self.name {
                    let more = more.split(']').next().unwrap_or_default().split(',');
                    let more: Vec<String> = more.map(|extra| normalise(extra.trim())).collect();
                    extras.extend(
                        more.into_iter()
                            .filter(|e| !extras.contains(e))
                            .collect::<Vec<_>>(),
                    );
                } else {
                    lines.push(line);
                }
            }
            next += 1;
        }
        lines.extend(
            self.requirements::<&str, _>(&[], groups)?
                .into_iter()
                .skip(1),
        );
        Ok(lines)
    }

    /// What is required, in the form that the script takes which reads other tools' locks.
    pub(super) fn stated<T: AsRef<str>, U: AsRef<str>>(
        &self,
        origin: &str,
        extras: &[T],
        groups: &[U],
    ) -> Result<Option<Value>> {
        if self.dependencies.is_none() {
            return Ok(None);
        }
        let lines = self.lines(extras, groups)?.into_iter().map(Value::String);
        Ok(Some(Value::Table(toml::Table::from_iter([
            ("origin".to_owned(), Value::String(origin.to_owned())),
            ("dependencies".to_owned(), Value::Array(lines.collect())),
        ]))))
    }

    fn add_group(
        &self,
        name: &str,
        lines: &mut Vec<String>,
        seen: &mut BTreeSet<String>,
    ) -> Result<()> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let unsound = |what: &str| {
            Error::usage(format!("the dependency group `{name}` {what}"))
                .hint("groups hold requirements and { include-group = \"NAME\" } (PEP 735)")
        };
        let group = self.groups.get(name);
        for line in group.ok_or_else(|| unsound("is included but nowhere defined"))? {
            match (
                line.as_str(),
                line.get("include-group").and_then(Value::as_str),
            ) {
                (Some(line), _) if !line.starts_with('-') && !line.contains('\n') => {
                    lines.push(line.to_owned());
                }
                (None, Some(other)) => self.add_group(&normalise(other), lines, seen)?,
                _ => return Err(unsound("has an entry that is no requirement")),
            }
        }
        Ok(())
    }
}

/// The strings of a list.
fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

fn owned(lines: Vec<&str>) -> Vec<String> {
    lines.into_iter().map(str::to_owned).collect()
}

/// What to say of a pyproject.toml that cannot be read: that of a project is its owner's to
/// correct, that of an archive is not.
fn unsound(text: &str, source: &str, called: &str, error: &toml::de::Error) -> Error {
    let at = error.span().and_then(|span| text.get(..span.start));
    let place = at.map_or(String::new(), |before| {
        let line = before.matches('\n').count() + 1;
        let begun = before.rsplit('\n').next().unwrap_or_default();
        format!("line {line}, column {} of ", begun.chars().count() + 1)
    });
    let what = format!("{place}the pyproject.toml of {called} is not sound");
    let (error, hint) = if source.starts_with(RETAINED) {
        let hint = "require another version of it";
        (Error::failed(what).detail(error.message()), hint)
    } else {
        let hint = "correct it there: pip does not install it either";
        (Error::usage(what).detail(error.message()), hint)
    };
    error.hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn how_a_source_is_built_has_a_default() {
        let plain = Build::read("", "/s/x", "x").unwrap();
        assert_eq!(plain.requires.len(), 2);
        assert_eq!(plain.backend, DEFAULT_BACKEND);
        let text =
            "[build-system]\nrequires = []\nbuild-backend = \"own\"\nbackend-path = [\".\"]\n";
        let own = Build::read(text, "/s/x", "x").unwrap();
        assert_eq!((own.requires.len(), own.backend.as_str()), (0, "own"));
        assert_eq!(own.backend_path, ["."]);
    }

    #[test]
    fn what_is_wrong_in_a_pyproject_toml_has_its_place() {
        let wrong = "[build-system]\nrequires = \"x\"\n";
        let archive = format!("{RETAINED}/x-1.tar.gz");
        for (text, source, place, kind) in [
            (
                "[project]\nname = \"ü\", = 1\n",
                "/s/x",
                "line 2, column 11",
                ErrorKind::Usage,
            ),
            ("[", "/s/x", "line 1, column 2", ErrorKind::Usage),
            (wrong, "/s/x", "line 2, column 12", ErrorKind::Usage),
            (wrong, &archive, "line 2, column 12", ErrorKind::Failed),
        ] {
            let error = Build::read(text, source, "x").unwrap_err();
            let what = format!("{place} of the pyproject.toml of x is not sound");
            assert_eq!((error.to_string(), error.kind()), (what, kind), "{text}");
            assert!(error.advice().is_some());
        }
    }

    #[test]
    fn extras_and_groups_become_lines_for_pip() {
        let text = "[project]\nname = \"x\"\n[project.optional-dependencies]\nPost_gres = [\"a\"]\n\
                    [dependency-groups]\nprod = [\"gunicorn\", { include-group = \"Base\" }]\nbase = [\"b>1\"]\n\
                    loop = [{ include-group = \"none\" }]\n";
        let project = Project::read(text, "/s/0", "x").unwrap();
        let lines = project
            .requirements(&["post-gres", "other"], &["prod", "else"])
            .unwrap();
        assert_eq!(lines, ["/s/0[post-gres]", "gunicorn", "b>1"]);
        assert_eq!(project.names(true), ["post-gres"]);
        assert!(!project.says_extras_elsewhere());
        assert!(project.requirements::<&str, _>(&[], &["loop"]).is_err());
        let whole = "[project]\nname = \"x\"\ndependencies = [\"c\"]\n[project.optional-dependencies]\n\
                     all = [\"X[one]\"]\none = [\"d\", \"x[all]\"]\n";
        let whole = Project::read(whole, "/s/2", "x").unwrap();
        assert_eq!(whole.lines::<_, &str>(&["All"], &[]).unwrap(), ["c", "d"]);
        let old = Project::read("", "/s/1", "x").unwrap();
        assert!(old.says_extras_elsewhere());
        let dynamic = "[project]\nname = \"x\"\ndynamic = [\"dependencies\"]\n";
        let dynamic = Project::read(dynamic, "/s/3", "x").unwrap();
        assert!(whole.is_plain() && dynamic.is_plain());
        assert!(!project.is_plain() && !old.is_plain());
        assert_eq!(
            old.requirements::<_, &str>(&["t"], &[]).unwrap(),
            ["/s/1[t]"]
        );
    }
}
