//! What a build backend leaves out of a wheel because Git ignores it.
//!
//! A package is built where only its own directory is, without `.git`. poetry-core asks git;
//! hatchling reads the `.gitignore` of the package or the nearest one above, up to the
//! repository's root. Without either, they would put into the wheel what they leave out in
//! the checkout. Other backends take what lies there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::scheme::git_in;

/// Files ignored by Git that the build backend of one package leaves out.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    /// Files that are left out, from the package's directory.
    pub(super) files: BTreeSet<PathBuf>,
    /// A `.gitignore` from above, where the package has none of its own.
    pub(super) rules: Option<Vec<u8>>,
}

impl Ignored {
    /// Looks at the package in a directory.
    pub(super) fn of(dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join("pyproject.toml")).unwrap_or_default();
        let table: toml::Table = text.parse().unwrap_or_default();
        let at = |path: &[&str]| {
            let mut keys = path.iter();
            let first = table.get(*keys.next()?)?;
            keys.try_fold(first, |value, key| value.get(*key))
        };
        let backend = at(&["build-system", "build-backend"]).and_then(toml::Value::as_str);
        match backend {
            Some("hatchling.build") => Self {
                rules: rules_from_above(dir),
                ..Self::default()
            },
            // What `include` names is taken although it is ignored.
            Some(
                "poetry.core.masonry.api"
                | "poetry.masonry.api"
                | "poetry_dynamic_versioning.backend",
            ) if at(&["tool", "poetry", "include"]).is_none() => Self {
                files: ignored_by_git(dir),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }
}

/// The rules of the nearest `.gitignore` above a directory that has none, in its repository.
fn rules_from_above(dir: &Path) -> Option<Vec<u8>> {
    let dir = fs::canonicalize(dir).ok()?;
    let in_repository = dir.ancestors().any(|above| above.join(".git").exists());
    for above in dir.ancestors().take_while(|_| in_repository) {
        let file = above.join(".gitignore");
        if file.is_file() {
            return if above == dir {
                None
            } else {
                fs::read(file).ok()
            };
        }
        if above.join(".git").exists() {
            break;
        }
    }
    None
}

fn ignored_by_git(dir: &Path) -> BTreeSet<PathBuf> {
    let words = [
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "-z",
    ];
    let out = git_in(dir).args(words).output().unwrap_or_default();
    let paths = out.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_that_ask_git_are_told_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path().join("app");
        fs::create_dir(&app).unwrap();
        let backend = |name: &str, more: &str| {
            let text = format!("[build-system]\nbuild-backend = \"{name}\"\n{more}");
            fs::write(app.join("pyproject.toml"), text).unwrap();
        };
        fs::write(dir.path().join(".gitignore"), "local.py\n").unwrap();
        for file in ["local.py", "app.py"] {
            fs::write(app.join(file), "").unwrap();
        }
        backend("hatchling.build", "");
        assert!(Ignored::of(&app).rules.is_none(), "it is in no repository");
        git_in(dir.path())
            .args(["init", "--quiet"])
            .output()
            .unwrap();
        assert_eq!(Ignored::of(&app).rules.as_deref(), Some(&b"local.py\n"[..]));
        backend("setuptools.build_meta", "");
        let found = Ignored::of(&app);
        assert!(found.rules.is_none() && found.files.is_empty());
        backend("poetry.core.masonry.api", "");
        let found = Ignored::of(&app).files;
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [Path::new("local.py")]
        );
        backend(
            "poetry.core.masonry.api",
            "[tool.poetry]\ninclude = [\"local.py\"]\n",
        );
        assert!(Ignored::of(&app).files.is_empty());
        backend("hatchling.build", "");
        fs::write(app.join(".gitignore"), "").unwrap();
        assert!(Ignored::of(&app).rules.is_none(), "it has its own");
    }
}
