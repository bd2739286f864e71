//! What requirements files name: taken as if the recipe named it.
//!
//! A path is one from the file that names it. That of a package in a directory, which pip
//! takes from wherever it is started, is looked for there and in each directory above, up to
//! the recipe's; the nearest that holds a package is meant.

use std::fs;
use std::path::Path;

use super::beside::{directory_of, is_package};
use super::error::{Fault, RecipeError, RecipeErrorKind};
use super::requirement::{ForeignLock, other_tools_file};
use super::requirements_file::{self, BadLine, Line, Purpose};
use super::{Beside, Recipe, Virtualenv};

/// Adds what the recipe's requirements files name to the recipe that lies at `file`.
pub(super) fn include(recipe: &mut Recipe, file: &Path) -> Result<(), RecipeError> {
    let root = directory_of(file);
    for virtualenv in &mut recipe.virtualenvs {
        let mut next = 0;
        while let Some(path) = virtualenv.requirements_files.get(next).cloned() {
            include_lines(virtualenv, &path, root, Purpose::Requirements)?;
            next += 1;
        }
        let mut next = 0;
        while let Some(path) = virtualenv.constraints_files.get(next).cloned() {
            include_lines(virtualenv, &path, root, Purpose::Constraints)?;
            next += 1;
        }
    }
    Ok(())
}

fn include_lines(
    virtualenv: &mut Virtualenv,
    file: &Beside,
    root: &Path,
    purpose: Purpose,
) -> Result<(), RecipeError> {
    if ForeignLock::of(file.as_str()).is_some() {
        return Ok(());
    }
    // What cannot be read, or is no such file, is said when all files are looked at.
    if other_tools_file(file.as_str()).is_some() {
        return Ok(());
    }
    let place = root.join(file.as_path());
    if !place.is_file() {
        return Ok(());
    }
    let bytes = fs::read(&place).unwrap_or_default();
    let Some(text) = requirements_file::decode(&bytes) else {
        return Ok(());
    };
    let lines = requirements_file::read(&text, purpose);
    let mut lines = lines.map_err(|bad| bad.at(&root.join(file.as_path()), &text))?;
    lines.retain(|(line, _)| !matches!(line, Line::Requirement(_) | Line::Address(_)));
    for (line, span) in lines {
        let bad = |message: String, hint: &str| {
            BadLine::new(span.clone(), message, hint).at(&root.join(file.as_path()), &text)
        };
        let (dir, _) = file.as_str().rsplit_once('/').unwrap_or(("", ""));
        match line {
            Line::Requirements(path) | Line::Constraints(path)
                if other_tools_file(&path).is_some() =>
            {
                let named = joined(dir, &path);
                let hint = named.and_then(|named| other_tools_file(named.as_str()));
                return Err(bad(
                    format!("`{path}` is no file of pip's requirements"),
                    &hint.unwrap_or_default(),
                ));
            }
            Line::Requirements(path) | Line::Constraints(path) if !is_file(root, dir, &path) => {
                return Err(bad(
                    format!("there is no file `{path}` beside this one in the recipe's directory"),
                    "a path is one from the file that names it",
                ));
            }
            Line::Requirements(path) => {
                add(&mut virtualenv.requirements_files, joined(dir, &path));
            }
            Line::Constraints(path) => {
                add(&mut virtualenv.constraints_files, joined(dir, &path));
            }
            Line::Distribution(path) => {
                let Some(found) = distribution(root, dir, &path) else {
                    return Err(bad(
                        format!("there is no file `{path}` beside the recipe"),
                        "it is looked for from this file's directory up to the recipe's",
                    ));
                };
                add(&mut virtualenv.distributions, Some(found));
            }
            Line::Directory(path, extras) => {
                let Some(found) = package(root, dir, &path) else {
                    return Err(bad(
                        format!("there is no Python package `{path}` beside the recipe"),
                        "it is looked for from this file's directory up to the recipe's, and \
                         has a pyproject.toml or setup.py",
                    ));
                };
                add(&mut virtualenv.local, Some(found));
                for extra in extras {
                    add(&mut virtualenv.extras, Some(extra));
                }
            }
            Line::Git(git, extras) => {
                add(&mut virtualenv.git, Some(git));
                for extra in extras {
                    add(&mut virtualenv.extras, Some(extra));
                }
            }
            Line::Requirement(_) | Line::Address(_) | Line::Option(_) => {}
        }
    }
    Ok(())
}

fn add<T: PartialEq>(list: &mut Vec<T>, one: Option<T>) {
    list.extend(one.filter(|one| !list.contains(one)));
}

/// A path from a directory, both below the recipe's; `None` if it leads out of that.
pub(crate) fn joined(dir: &str, path: &str) -> Option<Beside> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    let path = if path.is_empty() { "." } else { &path };
    path.parse().ok()
}

fn is_file(root: &Path, dir: &str, path: &str) -> bool {
    joined(dir, path).is_some_and(|path| root.join(path.as_path()).is_file())
}

/// The nearest Python package of that path.
fn package(root: &Path, dir: &str, path: &str) -> Option<Beside> {
    nearest(root, dir, path, is_package)
}

/// The nearest file of that path.
fn distribution(root: &Path, dir: &str, path: &str) -> Option<Beside> {
    nearest(root, dir, path, Path::is_file)
}

fn nearest(root: &Path, dir: &str, path: &str, is_it: impl Fn(&Path) -> bool) -> Option<Beside> {
    let mut dir = dir;
    loop {
        let found = joined(dir, path);
        if let Some(found) = found.filter(|found| is_it(&root.join(found.as_path()))) {
            return Some(found);
        }
        if dir.is_empty() {
            return None;
        }
        dir = dir.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

impl BadLine {
    /// The error of a recipe that uses the file.
    pub(super) fn at(self, file: &Path, text: &str) -> RecipeError {
        Fault::new(self.span, self.message)
            .kind(RecipeErrorKind::Beside)
            .hint(self.hint.unwrap_or_default())
            .at(file, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_packages_and_repositories_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("app/pyproject.toml", "");
        write(
            "app/requirements/prod.txt",
            "-r base.txt\ngunicorn\n-e .[web]\n",
        );
        write(
            "app/requirements/base.txt",
            "-c ../limits.txt\n-r prod.txt\nflask\n../lib\n",
        );
        write("app/limits.txt", "-c more/limits.txt\nflask<4\n");
        write("app/more/limits.txt", "idna<4\n");
        write("lib/setup.py", "");
        write(
            "r.toml",
            "name = \"x\"\n[bootstrap]\nsuite = \"trixie\"\n[[virtualenv]]\npath = \"/v\"\nrequirements-files = [\"app/requirements/prod.txt\"]\n",
        );
        let recipe = Recipe::load(&dir.path().join("r.toml")).unwrap();
        let virtualenv = &recipe.virtualenvs[0];
        let names = |list: &[Beside]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            names(&virtualenv.requirements_files),
            ["app/requirements/prod.txt", "app/requirements/base.txt"]
        );
        assert_eq!(
            names(&virtualenv.constraints_files),
            ["app/limits.txt", "app/more/limits.txt"]
        );
        assert_eq!(names(&virtualenv.local), ["app", "lib"]);
        assert_eq!(virtualenv.extras[0].as_str(), "web");
        for (text, said) in [
            ("-r none.txt\n", "no file `none.txt`"),
            ("flask\n-r ../../../etc/passwd\n", "no file"),
            ("-e ./none\n", "no Python package `./none`"),
            ("-e ../../../lib\n", "no Python package"),
            ("-r ../pyproject.toml\n", "no file of pip's requirements"),
        ] {
            write("app/requirements/base.txt", text);
            let error = Recipe::load(&dir.path().join("r.toml"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(said) && error.contains("base.txt:"),
                "{error}"
            );
        }
    }
}
