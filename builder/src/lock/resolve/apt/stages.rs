//! The stages of a tree, one after the other, as apt leaves them behind.
//!
//! A later stage may upgrade, downgrade or remove what an earlier one installed;
//! then each of them has its own version. What the recipe itself asks for stays
//! until the recipe purges it.

use std::collections::{BTreeMap, BTreeSet};

use super::keep::Pins;
use super::{Apt, Candidate, Id, Index, Plan};
use crate::error::{Error, ErrorKind, Result};
use crate::lockfile::{Deb, InstallStage};
use crate::recipe::{PackageName, Packages};

/// A package that is installed at some point.
#[derive(Clone)]
pub(super) struct Installed {
    pub(super) id: Id,
    pub(super) found: Candidate,
    pub(super) stage: InstallStage,
    /// Later stages leave it alone.
    pub(super) is_held: bool,
}

/// What is installed, by name.
pub(super) type State = BTreeMap<String, Installed>;

/// Stages that are resolved, and what is installed after them.
pub(super) struct Stages<'a> {
    apt: &'a Apt<'a>,
    pins: Pins,
    state: State,
    /// What the recipe names.
    wanted: BTreeSet<String>,
    pub(super) debs: Vec<Deb>,
    pub(super) removed: BTreeMap<String, String>,
}

impl<'a> Stages<'a> {
    /// Begins with what is installed: nothing, or what a base has.
    pub(super) fn new(apt: &'a Apt<'a>, pins: Pins, state: State) -> Result<Self> {
        let stages = Self {
            apt,
            pins,
            state,
            wanted: BTreeSet::new(),
            debs: Vec::new(),
            removed: BTreeMap::new(),
        };
        apt.write_status(&stages.state)?;
        Ok(stages)
    }

    /// What debootstrap installs, in both of its steps.
    pub(super) fn bootstrap(
        &mut self,
        required: &[String],
        base: &[String],
        index: &Index,
    ) -> Result<()> {
        let include = &self.apt.recipe.bootstrap.include;
        self.wanted
            .extend(include.iter().map(|name| name.name().to_owned()));
        let options = ["--no-install-recommends".to_owned()];
        for (stage, words) in [
            (InstallStage::Required, required),
            (InstallStage::Base, base),
        ] {
            self.pins.write(self.apt, Some(stage))?;
            let plan = self.apt.plan(&options, words, index)?;
            if let Some(name) = plan.remove.first() {
                let what = "what the bootstrap has";
                return Err(removes(name, what).hint(
                    "list it under `exclude` of [bootstrap], or drop what conflicts with it",
                ));
            }
            self.install(stage, plan)?;
        }
        Ok(())
    }

    /// One `[[packages]]`; `local` are the paths of its files.
    pub(super) fn group(
        &mut self,
        number: u32,
        group: &Packages,
        local: Vec<String>,
        index: &Index,
    ) -> Result<()> {
        let stage = InstallStage::Packages(number);
        let mut words: Vec<String> = group.install.iter().map(ToString::to_string).collect();
        words.extend(local);
        let names = group.install.iter().map(|spec| spec.name().to_owned());
        self.wanted.extend(names);
        if !words.is_empty() {
            let options = self.apt.group_options(group)?;
            let plan = self.plan(stage, &options, &words, index)?;
            if let Some(name) = plan.remove.iter().find(|name| self.wanted.contains(*name)) {
                return Err(removes(name, &words.join(" ")).hint(
                    "the recipe asks for both: drop one of them, or purge it in the group before",
                ));
            }
            self.remove(stage, &plan.remove);
            self.install(stage, plan)?;
        }
        for answer in &group.debconf {
            let asks = self.state.get(answer.package());
            if asks.is_none_or(|package| package.stage != stage) {
                return Err(Error::usage(format!(
                    "`{stage}` has an answer for `{}`, which it does not install",
                    answer.package()
                ))
                .detail(format!("the question is {}", answer.question()))
                .hint("put the answer into the [[packages]] that brings the package"));
            }
        }
        for name in &group.hold {
            self.installed(stage, "hold", name)?.is_held = true;
        }
        if !group.hold.is_empty() {
            self.apt.write_status(&self.state)?;
        }
        if !group.purge.is_empty() {
            self.purge(stage, &group.purge)?;
        }
        Ok(())
    }

    /// Asks with the versions that a lock had in this stage, and if these do not
    /// go together (any more), with those that it had in the end.
    fn plan(
        &self,
        stage: InstallStage,
        options: &[String],
        words: &[String],
        index: &Index,
    ) -> Result<Plan> {
        self.pins.write(self.apt, Some(stage))?;
        let plan = self.apt.plan(options, words, index);
        if plan.is_ok() || !self.pins.differ() {
            return plan;
        }
        self.pins.write(self.apt, None)?;
        self.apt.plan(options, words, index)
    }

    fn install(&mut self, stage: InstallStage, plan: Plan) -> Result<()> {
        for (id, found) in plan.install {
            let name = &id.0;
            let before = self.state.get(name);
            if let Some(before) = before.filter(|b| b.id == id && b.found.sha256 != found.sha256) {
                return Err(other_bytes(&id, before, &found));
            }
            // debootstrap knows one version of each, from where it comes first.
            let stage = match before {
                Some(before) if stage == InstallStage::Base => before.stage,
                _ => stage,
            };
            self.debs.retain(|d| d.name != *name || d.stage != stage);
            self.debs.push(Deb {
                name: name.clone(),
                version: id.1.clone(),
                architecture: id.2.clone(),
                stage,
                archive: found.archive.clone(),
                path: found.path.clone(),
                size: found.size,
                sha256: found.sha256,
            });
            let package = Installed {
                is_held: before.is_some_and(|before| before.is_held),
                id: id.clone(),
                found,
                stage,
            };
            self.state.insert(id.0, package);
        }
        self.apt.write_status(&self.state)
    }

    fn purge(&mut self, stage: InstallStage, names: &[PackageName]) -> Result<()> {
        for name in names {
            self.installed(stage, "purge", name)?;
            self.wanted.remove(name.name());
        }
        let words: Vec<String> = names.iter().map(ToString::to_string).collect();
        let text = match self.apt.ask("--simulate", &[], "purge", &words)? {
            Ok(text) => text,
            Err(reasons) => {
                let what = format!("apt does not purge {}", words.join(" "));
                let error = Error::failed(what);
                return Err(reasons.into_iter().fold(error, Error::detail));
            }
        };
        let gone: Vec<String> = text.lines().filter_map(super::parse_remv).collect();
        if let Some(name) = gone.iter().find(|name| self.wanted.contains(*name)) {
            return Err(Error::failed(format!(
                "purging {} would remove the package `{name}`, which the recipe installs",
                words.join(" ")
            ))
            .hint("purge it as well, or drop one of the two"));
        }
        self.remove(stage, &gone);
        self.apt.write_status(&self.state)
    }

    fn remove(&mut self, stage: InstallStage, names: &[String]) {
        let gone: BTreeSet<&str> = names
            .iter()
            .filter(|name| self.state.remove(*name).is_some())
            .map(String::as_str)
            .collect();
        if gone.is_empty() {
            return;
        }
        let line = self.removed.entry(stage.to_string()).or_default();
        let all: BTreeSet<&str> = line.split_whitespace().chain(gone).collect();
        let all: Vec<&str> = all.into_iter().collect();
        *line = all.join(" ");
    }

    fn installed(
        &mut self,
        stage: InstallStage,
        verb: &str,
        name: &PackageName,
    ) -> Result<&mut Installed> {
        self.state.get_mut(name.name()).ok_or_else(|| {
            Error::failed(format!(
                "`{verb}` of {stage} names `{name}`, which is not installed then"
            ))
            .hint("check its name, or drop it there")
        })
    }
}

fn removes(name: &str, stage: &str) -> Error {
    Error::failed(format!("installing would remove the package `{name}`"))
        .detail(format!("in the stage that installs {stage}"))
}

fn other_bytes(id: &Id, before: &Installed, found: &Candidate) -> Error {
    let of = |archive: &Option<String>| match archive {
        Some(archive) => format!("the archive `{archive}`"),
        None => "beside the recipe".to_owned(),
    };
    Error::new(
        ErrorKind::Refused,
        format!(
            "{} {} is installed from {} and would be replaced by other bytes of the same version \
             from {}",
            id.0,
            id.1,
            of(&before.found.archive),
            of(&found.archive)
        ),
    )
    .hint("whoever builds a package anew gives it a version of its own, such as 1.2-3+ours1")
}
