//! What working on a Python package leaves in its directory, and what is no part of it.

use std::io::Read as _;
use std::path::Path;

use super::glob;
use crate::lockfile;

/// Names, at any depth.
pub(crate) const DEBRIS: [&str; 11] = [
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    ".DS_Store",
    "*.pyc",
    "*.egg-info",
    "*.swp",
    ".#*",
    // Passwords of whoever develops it; a store is there to be read.
    ".env",
    ".env.local",
];

/// How `CACHEDIR.TAG` begins (Cache Directory Tagging Specification).
pub(crate) const CACHE_SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";

/// Whether this file or directory is left out of a Python package: version control and byte
/// code, virtualenvs, caches and stores.
pub(crate) fn is_debris(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    DEBRIS.iter().any(|pattern| glob::matches(pattern, &name))
        || path.join("pyvenv.cfg").is_file()
        || path.join("conda-meta").is_dir()
        || path.join("imgbuild-store").is_file()
        || begins_with(&path.join("CACHEDIR.TAG"), CACHE_SIGNATURE)
}

/// Whether this is the lock of a recipe, which no input of that lock can hold.
pub(crate) fn is_lock(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "lock") && begins_with(path, lockfile::BEGINS)
}

fn begins_with(path: &Path, text: &str) -> bool {
    let mut begin = vec![0; text.len()];
    // Nobody waits for the other end of a named pipe.
    path.is_file()
        && std::fs::File::open(path)
            .and_then(|mut file| file.read_exact(&mut begin))
            .is_ok()
        && begin == text.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtualenvs_caches_and_names_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        make(".venv/pyvenv.cfg", "");
        make("conda/conda-meta/history", "");
        make(
            ".mypy_cache/CACHEDIR.TAG",
            "Signature: 8a477f597d28d172789f06886806bc55\n# made by mypy\n",
        );
        make("app/CACHEDIR.TAG", "Signature: another");
        make("store/imgbuild-store", "");
        make("app/x.lock", &format!("{}, ...\n", lockfile::BEGINS));
        make("app/Cargo.toml", "");
        make("app/Cargo.lock", "version = 4\n");
        for (path, expected) in [
            (".venv", true),
            (".mypy_cache", true),
            ("app/x.pyc", true),
            (".git", true),
            ("conda", true),
            ("app/.env", true),
            ("app/.env.example", false),
            ("app/.#x.py", true),
            ("store", true),
            ("app", false),
            ("app/x.py", false),
        ] {
            assert_eq!(is_debris(&dir.path().join(path)), expected, "{path}");
        }
        assert!(is_lock(&dir.path().join("app/x.lock")));
        assert!(!is_lock(&dir.path().join("app/Cargo.lock")));
    }
}
