//! What a source was built with before: a set of locked wheels for each.
//!
//! Whoever resolves again need not ask its build backend again: the same source in the same tree, of
//! whose set every wheel is still locked, is built with that set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::json;
use store::Sha256;

use super::keep::{Kept, RETAINED};
use super::project::Build;
use super::run::Downloads;
use super::{Pip, Sources};
use crate::atomic_file;
use crate::error::{Context, Result};
use crate::layers::Key;
use crate::lockfile::Python;
use crate::recipe::{Virtualenv, variables};

impl Pip<'_> {
    /// Takes from `builds` those whose sets are known, and gives the wheels of these. `found` has the
    /// archives among them.
    pub(super) fn known_sets<'k>(
        &self,
        virtualenv: &Virtualenv,
        builds: &mut Vec<Build>,
        (sources, found): (&Sources, &[Python]),
        kept: &Kept<'k>,
    ) -> Vec<&'k Python> {
        let mut known = BTreeMap::new();
        builds.retain(|build| {
            let file = self.set_file(virtualenv, build, sources, found);
            let set = file.and_then(|file| self.known_set(&file, kept));
            let is_asked = set.is_none();
            known.extend(set.into_iter().flatten().map(|p| (p.sha256, p)));
            is_asked
        });
        known.into_values().collect()
    }

    fn known_set<'k>(&self, file: &PathBuf, kept: &Kept<'k>) -> Option<Vec<&'k Python>> {
        let digests: Vec<String> = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        let one = |digest: &String| {
            let mut files = kept.files();
            files.find(|p| p.sha256.hex() == *digest && self.inputs.has(&p.sha256))
        };
        digests.iter().map(one).collect()
    }

    /// Remembers what sources are built with, of what was decided now.
    pub(super) fn remember_sets(
        &self,
        virtualenv: &Virtualenv,
        builds: &[Build],
        (sources, found): (&Sources, &[Python]),
        (out, wheels): (&Downloads, &[Python]),
    ) -> Result<()> {
        let Some(sets) = out.decided.as_ref().and_then(|by| by.sets.as_ref()) else {
            return Ok(());
        };
        for build in builds {
            let file = self.set_file(virtualenv, build, sources, found);
            let (Some(file), Some(names)) = (file, sets.get(&build.source)) else {
                continue;
            };
            let digest = |name: &String| {
                let wheel = wheels.iter().find(|wheel| wheel.file == *name)?;
                Some(wheel.sha256.hex())
            };
            let digests: Option<BTreeSet<String>> = names.iter().map(digest).collect();
            if let Some(digests) = digests {
                let failed = || format!("cannot write {}", file.display());
                fs::create_dir_all(file.parent().unwrap_or(&file)).context(failed)?;
                atomic_file::replace(&file, json!(digests).to_string()).context(failed)?;
            }
        }
        Ok(())
    }

    /// The file about a source: named after all that decides what its set is.
    fn set_file(
        &self,
        virtualenv: &Virtualenv,
        build: &Build,
        sources: &Sources,
        found: &[Python],
    ) -> Option<PathBuf> {
        let mut trees = sources.trees.iter();
        let tree = trees.find(|tree| tree.place() == build.source);
        let source = if let Some(tree) = tree {
            tree.content.clone()
        } else {
            let file = build.source.strip_prefix(RETAINED)?.strip_prefix('/')?;
            found.iter().find(|p| p.file == file)?.sha256.hex()
        };
        let limits = virtualenv.build_constraints.iter();
        let what = json!({
            "set": 1,
            "tree": self.keys.last().map(Key::as_str),
            "source": source,
            "environment": variables(&virtualenv.environment).collect::<Vec<_>>(),
            "limits": limits.map(ToString::to_string).collect::<Vec<_>>(),
            "index": virtualenv.index,
        });
        let name = Sha256::of(what.to_string().as_bytes()).hex();
        Some(self.tools.with_file_name("sets").join(name))
    }
}
