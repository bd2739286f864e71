//! What a `pyproject.toml` says about building.

use serde::{Deserialize, Serialize};

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
    /// Reads the table `build-system`.
    pub(super) fn read(text: &str, source: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Project {
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
        let project: Project = toml::from_str(text).map_err(|e| {
            let name = source.rsplit('/').next().unwrap_or(source);
            Error::failed(format!("the pyproject.toml of {name} is not sound")).detail(e.message())
        })?;
        let system = project.build_system.unwrap_or(System {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_source_is_built_has_a_default() {
        let plain = Build::read("", "/s/x").unwrap();
        assert_eq!(plain.requires.len(), 2);
        assert_eq!(plain.backend, DEFAULT_BACKEND);
        let text =
            "[build-system]\nrequires = []\nbuild-backend = \"own\"\nbackend-path = [\".\"]\n";
        let own = Build::read(text, "/s/x").unwrap();
        assert_eq!((own.requires.len(), own.backend.as_str()), (0, "own"));
        assert_eq!(own.backend_path, ["."]);
        assert!(Build::read("[", "/s/x").is_err());
        assert!(Build::read("[build-system]\nrequires = \"x\"\n", "/s/x").is_err());
    }
}
