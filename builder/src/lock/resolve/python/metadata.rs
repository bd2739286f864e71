//! What source archives said of themselves: asked once, remembered below the work directory.
//!
//! pip runs the `setup.py` or the backend of each source that it looks at, also of one that stays locked.
//! The same archive in the same tree says the same again. It is a stranger's word, and each of the
//! strangers of one run could have written all of it: so it is remembered for exactly these archives
//! together, which decide alone in any case what pip hears of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;
use store::Sha256;

use super::Pip;
use super::run::Downloads;
use crate::atomic_file;
use crate::error::{Context, Result};
use crate::layers::Key;
use crate::lockfile::Python;
use crate::recipe::{Virtualenv, variables};

/// The metadata of one archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Metadata {
    /// The name of the directory that it is in: `NAME.egg-info` or `NAME.dist-info`.
    directory: String,
    /// Texts of its files.
    files: BTreeMap<String, String>,
}

/// What is remembered of an archive.
#[derive(Debug, Serialize)]
pub(super) struct Known {
    /// Of the archive: an index may have another one of that name.
    sha256: String,
    #[serde(flatten)]
    metadata: Metadata,
}

impl Pip<'_> {
    /// What is remembered of the archives among these files: of all, or none.
    pub(super) fn known_metadata<'f>(
        &self,
        virtualenv: &Virtualenv,
        files: &[&'f Python],
    ) -> BTreeMap<&'f str, Known> {
        let text = fs::read(self.metadata_file(virtualenv, files));
        let said = text
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let mut said: BTreeMap<String, Metadata> = said.unwrap_or_default();
        let known = archives(files).filter_map(|python| {
            let metadata = said.remove(&python.file)?;
            let sha256 = python.sha256.hex();
            Some((python.file.as_str(), Known { sha256, metadata }))
        });
        known.collect()
    }

    /// Remembers what the archives among the decided files said.
    pub(super) fn remember_metadata(
        &self,
        virtualenv: &Virtualenv,
        out: &Downloads,
        found: &[Python],
    ) -> Result<()> {
        let found: Vec<&Python> = found.iter().collect();
        let said = archives(&found).filter_map(|p| Some((&p.file, out.metadata.get(&p.file)?)));
        let said: BTreeMap<&String, &Metadata> = said.collect();
        let file = self.metadata_file(virtualenv, &found);
        if said.len() < archives(&found).count() || said.is_empty() || file.exists() {
            return Ok(());
        }
        let failed = || format!("cannot write {}", file.display());
        fs::create_dir_all(file.parent().unwrap_or(&file)).context(failed)?;
        atomic_file::replace(&file, json!(said).to_string()).context(failed)
    }

    /// The file about these archives: named after all that decides what they say.
    fn metadata_file(&self, virtualenv: &Virtualenv, files: &[&Python]) -> PathBuf {
        let one = |p: &&Python| (p.file.clone(), p.sha256.hex());
        let archives: BTreeMap<String, String> = archives(files).map(|p| one(&p)).collect();
        let limits = virtualenv.build_constraints.iter();
        let what = json!({
            "metadata": 1,
            "tree": self.keys.last().map(Key::as_str),
            "archives": archives,
            "environment": variables(&virtualenv.environment).collect::<Vec<_>>(),
            "limits": limits.map(ToString::to_string).collect::<Vec<_>>(),
        });
        let name = Sha256::of(what.to_string().as_bytes()).hex();
        self.tools.with_file_name("metadata").join(name)
    }
}

/// Those that must be asked: a wheel has its metadata in it.
pub(super) fn archives<'f>(files: &[&'f Python]) -> impl Iterator<Item = &'f Python> {
    files.iter().copied().filter(|python| !python.is_wheel())
}
