//! Which Debian packages are there at which stage of a build.

use std::collections::{BTreeMap, BTreeSet};

use super::{Deb, InstallStage, Lock};

impl Lock {
    /// The Debian packages that are there when a stage begins, and those that it
    /// installs in their place or besides.
    pub fn debs_at(&self, stage: InstallStage) -> Vec<&Deb> {
        let mut last: BTreeMap<&str, InstallStage> = BTreeMap::new();
        for deb in self.debs.iter().filter(|deb| deb.stage <= stage) {
            let known = last.entry(&deb.name).or_insert(deb.stage);
            *known = deb.stage.max(*known);
        }
        let removed = self.removals();
        let is_there = |deb: &&Deb| {
            let gone = |(at, name): &(InstallStage, &str)| {
                *name == deb.name && deb.stage <= *at && *at < stage
            };
            last.get(deb.name.as_str()) == Some(&deb.stage) && !removed.iter().any(gone)
        };
        self.debs.iter().filter(is_there).collect()
    }

    /// The Debian packages that are there after the last stage.
    pub fn debs_after(&self) -> Vec<&Deb> {
        self.debs_at(InstallStage::Packages(u32::MAX))
    }

    /// What is removed, with the stage that does.
    fn removals(&self) -> Vec<(InstallStage, &str)> {
        self.removed
            .iter()
            .flat_map(|(place, names)| {
                let number = place.strip_prefix("packages ").and_then(|n| n.parse().ok());
                let stage = InstallStage::Packages(number.unwrap_or(0));
                names.split(' ').map(move |name| (stage, name))
            })
            .collect()
    }

    /// Whether a stage removes a package again that it or an earlier one installs.
    pub fn removes(&self, stage: InstallStage, name: &str) -> bool {
        self.removals().contains(&(stage, name))
    }

    /// Whether a stage replaces or brings back what an earlier one installed. On a base it may:
    /// what that has is not in the lock.
    pub fn replaces(&self, stage: InstallStage) -> bool {
        if self.base.is_some() {
            return true;
        }
        let before: BTreeSet<&str> = self
            .debs
            .iter()
            .filter(|deb| deb.stage < stage)
            .map(|deb| deb.name.as_str())
            .collect();
        let mut own = self.debs.iter().filter(|deb| deb.stage == stage);
        own.any(|deb| before.contains(deb.name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn each_stage_has_what_the_ones_before_left() {
        let mut lock = sample();
        let deb = |name: &str, version: &str, stage| Deb {
            name: name.into(),
            version: version.into(),
            stage,
            ..lock.debs[0].clone()
        };
        lock.debs = vec![
            deb("libc6", "1", InstallStage::Required),
            deb("libc6", "2", InstallStage::Packages(2)),
            deb("mta", "1", InstallStage::Packages(1)),
            deb("mta", "1", InstallStage::Packages(3)),
        ];
        lock.removed = BTreeMap::from([("packages 2".to_owned(), "mta".to_owned())]);
        let at = |stage| -> Vec<(&str, &str)> {
            let debs = lock.debs_at(stage).into_iter();
            debs.map(|d| (d.name.as_str(), d.version.as_str()))
                .collect()
        };
        assert_eq!(at(InstallStage::Base), [("libc6", "1")]);
        assert_eq!(
            at(InstallStage::Packages(1)),
            [("libc6", "1"), ("mta", "1")]
        );
        // The stage that removes it still knows it.
        assert_eq!(
            at(InstallStage::Packages(2)),
            [("libc6", "2"), ("mta", "1")]
        );
        assert!(lock.removes(InstallStage::Packages(2), "mta"));
        assert_eq!(lock.debs_after().len(), 2);
        lock.debs.pop();
        assert_eq!(lock.debs_after().len(), 1);
        let replaces = |n| lock.replaces(InstallStage::Packages(n));
        assert_eq!([1, 2, 3].map(replaces), [false, true, false]);
    }
}
