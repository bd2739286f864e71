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
/// sources do not, except by what they need to be built.
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
    {
        let found = files.iter().find(|f| f.path == path.as_str());
        parts.push(format!("{:?}", found.map(|f| f.sha256)).into_bytes());
    }
    for local in &virtualenv.local {
        let path = beside.join(local.as_path()).join("pyproject.toml");
        match std::fs::read(&path) {
            Ok(text) => parts.push(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => parts.push(Vec::new()),
            Err(e) => {
                return Err(Error::failed(format!("cannot read {}", path.display())).because(&e));
            }
        }
    }
    Ok(Sha256::of(&parts.join(&b'\n')))
}
