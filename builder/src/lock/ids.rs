//! Ids of the system users and groups that packages make: looked up in the tree once its
//! packages are there, and kept from then on.

use std::collections::BTreeMap;

use super::LockRequest;
use crate::atomic_file::remove;
use crate::error::Result;
use crate::lockfile::Lock;
use crate::run;
use crate::steps;
use crate::tree::Tree;
use crate::ui::Ui;

impl LockRequest<'_> {
    /// Whether the tree in which ids are looked up is there already.
    pub fn has_packages(&self, lock: &Lock) -> Result<bool> {
        let planned = run::plan_steps(steps::foundation(self.recipe, lock), &self.work.layers)?;
        Ok(planned.iter().all(|step| step.cached))
    }

    /// Records the ids of users and groups that the lock does not know, and saves it. A
    /// lock that may not change is left as it is, and what it lacks is said.
    pub fn record_ids(&self, lock: &mut Lock, ui: &mut Ui) -> Result<()> {
        if self.look_up_ids(lock, ui)? {
            lock.save(&Lock::path_for(self.path))?;
        }
        Ok(())
    }

    /// Puts those ids into a lock, and says whether that changed it.
    pub(super) fn look_up_ids(&self, lock: &mut Lock, ui: &mut Ui) -> Result<bool> {
        let from = lock.packages_digest();
        if lock.ids_from == Some(from) {
            return Ok(false);
        }
        let planned = run::plan_steps(
            steps::foundation_with_ids(self.recipe, lock),
            &self.work.layers,
        )?;
        self.run_steps(lock, &planned, ui)?;
        let scratch = self.work.scratch.join("ids");
        let mounted = self
            .work
            .layers
            .scratch(&scratch, &run::tree_layers(&planned))?;
        let tree = Tree::open(mounted.root())?;
        let users = new(
            &lock.system_users,
            tree.users()?.iter().map(|u| (&u.name, u.uid)),
        );
        let groups = new(
            &lock.system_groups,
            tree.groups()?.iter().map(|(n, id)| (n, *id)),
        );
        drop((tree, mounted));
        remove(&scratch)?;

        let nothing_ever = lock.system_users.is_empty() && lock.system_groups.is_empty();
        if users.is_empty() && groups.is_empty() && nothing_ever {
            return Ok(false);
        }
        let all: Vec<String> = [("user", &users), ("group", &groups)]
            .into_iter()
            .flat_map(|(what, ids)| {
                ids.iter()
                    .map(move |(name, id)| format!("{what} {name} {id}"))
            })
            .collect();
        let list = all.join(", ");
        if self.strictness.locked || self.strictness.frozen {
            if !all.is_empty() {
                ui.note(&format!(
                    "the lock does not record the ids of {list}: they may be others with other \
                     packages; `imgbuild lock` records them"
                ));
            }
            return Ok(false);
        }
        lock.system_users.extend(users);
        lock.system_groups.extend(groups);
        lock.ids_from = Some(from);
        if !all.is_empty() {
            let path = Lock::path_for(self.path);
            ui.note(&format!("recorded in {}: {list}", path.display()));
        }
        Ok(true)
    }
}

/// Those of packages that are not recorded.
fn new<'n>(
    recorded: &BTreeMap<String, u32>,
    found: impl Iterator<Item = (&'n String, u32)>,
) -> BTreeMap<String, u32> {
    found
        .filter(|(name, id)| steps::is_taken_by_package(name, *id) && !recorded.contains_key(*name))
        .map(|(name, id)| (name.clone(), id))
        .collect()
}
