//! What decides about each part of a lock: when its digest changes, that part is
//! resolved again, and only then.

use std::path::Path;

use store::Sha256;

use crate::error::{Error, Result};
use crate::lockfile::LocalFile;
use crate::recipe::{Recipe, Virtualenv, canonical_json};

/// What decides about Debian packages.
pub fn packages_from(recipe: &Recipe, files: &[LocalFile]) -> Sha256 {
    let digest = |path: &str| files.iter().find(|f| f.path == path).map(|f| f.sha256);
    let mut parts = vec![
        canonical_json(&recipe.bootstrap),
        canonical_json(&recipe.sources),
        canonical_json(&recipe.apt),
        canonical_json(&recipe.package_groups()),
    ];
    let keys = recipe.sources.iter().filter_map(|s| s.key.as_ref());
    let debs = recipe.packages.iter().flat_map(|p| &p.debs);
    for path in keys.chain(debs) {
        parts.push(format!("{path} {:?}", digest(path.as_str())).into_bytes());
    }
    Sha256::of(&parts.join(&b'\n'))
}

/// What decides about the Python distributions of a virtualenv. The app's own
/// sources do not, except by what says what they need.
pub fn virtualenv_from(
    virtualenv: &Virtualenv,
    beside: &Path,
    files: &[LocalFile],
) -> Result<Sha256> {
    let mut parts = vec![canonical_json(virtualenv)];
    for path in virtualenv
        .requirements_files
        .iter()
        .chain(&virtualenv.constraints_files)
        .chain(&virtualenv.distributions)
    {
        let found = files.iter().find(|f| f.path == path.as_str());
        parts.push(format!("{:?}", found.map(|f| f.sha256)).into_bytes());
    }
    for local in &virtualenv.local {
        let tree = beside.join(local.as_path());
        let project = read(&tree.join("pyproject.toml"))?;
        let said = project.as_deref().is_some_and(says_dependencies);
        parts.push(project.unwrap_or_default());
        if !said {
            for name in ["setup.py", "setup.cfg", "requirements.txt"] {
                parts.extend(read(&tree.join(name))?);
            }
        }
    }
    Ok(Sha256::of(&parts.join(&b'\n')))
}

/// A file, if it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::failed(format!("cannot read {}", path.display())).because(&e)),
    }
}

/// Whether a `pyproject.toml` itself says what its project depends on (PEP 621).
fn says_dependencies(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let table: Option<toml::Table> = text.parse().ok();
    let project = table.as_ref().and_then(|table| table.get("project"));
    let dynamic = project.and_then(|project| project.get("dynamic"));
    let names = dynamic.and_then(toml::Value::as_array);
    let is_dynamic = names.is_some_and(|names| {
        let mut names = names.iter();
        names.any(|name| name.as_str() == Some("dependencies"))
    });
    project.is_some() && !is_dynamic
}
