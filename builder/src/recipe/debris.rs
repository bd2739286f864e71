//! What working on a Python package leaves in its directory, and what is no part of it.

use std::io::Read as _;
use std::path::Path;

use super::glob;

/// Names, at any depth.
pub(crate) const DEBRIS: [&str; 8] = [
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    ".DS_Store",
    "*.pyc",
    "*.egg-info",
    "*.swp",
];

/// How `CACHEDIR.TAG` begins (Cache Directory Tagging Specification).
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Whether this file or directory is left out of a Python package: version control and byte
/// code, virtualenvs and caches.
pub(crate) fn is_debris(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    DEBRIS.iter().any(|pattern| glob::matches(pattern, &name))
        || path.join("pyvenv.cfg").is_file()
        || is_cache(path)
}

fn is_cache(dir: &Path) -> bool {
    let mut begin = [0; CACHE_SIGNATURE.len()];
    let tag = std::fs::File::open(dir.join("CACHEDIR.TAG"));
    tag.and_then(|mut tag| tag.read_exact(&mut begin)).is_ok() && begin == CACHE_SIGNATURE
}

/// Whether this is the lock of a recipe beside it, which no input of that lock can hold.
pub(crate) fn is_lock_of_recipe(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "lock") && path.with_extension("toml").is_file()
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
        make(
            ".mypy_cache/CACHEDIR.TAG",
            "Signature: 8a477f597d28d172789f06886806bc55\n# made by mypy\n",
        );
        make("app/CACHEDIR.TAG", "Signature: another");
        make("app/x.toml", "");
        for (path, expected) in [
            (".venv", true),
            (".mypy_cache", true),
            ("app/x.pyc", true),
            (".git", true),
            ("app", false),
            ("app/x.py", false),
        ] {
            assert_eq!(is_debris(&dir.path().join(path)), expected, "{path}");
        }
        assert!(is_lock_of_recipe(&dir.path().join("app/x.lock")));
        assert!(!is_lock_of_recipe(&dir.path().join("app/uv.lock")));
    }
}
