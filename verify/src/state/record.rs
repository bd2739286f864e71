//! Installed versions of a system.
//!
//! A system has generations, numbered from 1 and never reused while the system exists. One is
//! active: the chroot of the system's name points at it. The record says which, where each lies, and
//! which signed manifest it was made from. It is written after the chroot was switched; until then
//! the journal knows better (see `journal`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::digest::Blake3;
use store::name::{EnvName, ImageName};

use crate::host::schroot::{Access, Chroot};
use crate::storage::Target;
use crate::system::SystemName;

/// The record of one system: its generations, and which one is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemRecord {
    /// The version of this file.
    pub schema: u32,
    /// The name of the system.
    pub system: SystemName,
    /// The name under which the environment releases its images.
    pub image_name: ImageName,
    /// The target that its generations are kept in.
    pub target: Target,
    /// The number of the generation that new sessions use.
    pub active: u64,
    /// The one that was active before.
    pub previous: Option<u64>,
    /// The highest number ever used.
    pub newest: u64,
    /// The generations that are there, by number.
    pub generations: Vec<Generation>,
    /// The newest release that was given up because it did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedRelease>,
    /// Users of the host who may enter its sessions besides root.
    #[serde(default, skip_serializing_if = "Access::is_root_only")]
    pub access: Access,
}

/// A release that was started and did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedRelease {
    /// The image.
    pub image: Blake3,
    /// The environment that released it.
    pub environment: EnvName,
    /// The number of the release there.
    pub seq: u64,
    /// What was wrong.
    pub why: String,
}

/// One installed version of a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// The number of the generation.
    pub number: u64,
    /// The image that it holds.
    pub image: Blake3,
    /// The blake3 of the signed manifest, kept in the state directory.
    pub manifest: Blake3,
    /// The environment that released it.
    pub environment: EnvName,
    /// The number of the release there.
    pub seq: u64,
    /// The path of its tree: a directory, or the device of a volume.
    pub directory: PathBuf,
    /// The user that runs the app; `root` when the image names none.
    pub user: String,
    /// When it was installed, in seconds since 1970.
    pub installed: u64,
    /// When its tree was finished and compared with what was signed, in seconds since 1970; what
    /// changed later was changed in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
    /// The reason why it may not become active again, by the environment's newest word: revoked, or older than
    /// the oldest release that may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<String>,
    /// Whether that is because the image was revoked: then it may not be started either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
}

impl SystemRecord {
    /// The active generation.
    ///
    /// # Panics
    /// Never for a record that passed [`SystemRecord::check`].
    pub fn active(&self) -> &Generation {
        self.generation(self.active)
            .expect("a checked record has its active generation")
    }

    /// A generation by number.
    pub fn generation(&self, number: u64) -> Option<&Generation> {
        self.generations
            .iter()
            .find(|generation| generation.number == number)
    }

    /// The generation to go back to: the one that was active before, or, where that may not run any
    /// more, the newest older one that may.
    pub fn fallback(&self) -> Option<&Generation> {
        let may = |one: &&Generation| one.barred.is_none() && one.number != self.active;
        let previous = self.previous.and_then(|number| self.generation(number));
        previous.filter(may).or_else(|| {
            self.previous?;
            let older = |one: &&Generation| one.number < self.active && may(one);
            self.generations.iter().rev().find(older)
        })
    }

    /// The record after a switch was undone; `before` is the one before the switch. With `why`, the
    /// release is remembered as one that failed.
    #[must_use]
    pub fn given_up(&self, before: &Self, why: Option<&str>) -> Self {
        let active = self.active();
        let failed = why.map(|why| FailedRelease {
            image: active.image,
            environment: active.environment.clone(),
            seq: active.seq,
            why: why.to_owned(),
        });
        Self {
            active: before.active,
            previous: before.previous,
            failed: failed.or_else(|| self.failed.clone()),
            ..self.clone()
        }
    }

    /// The record with another active generation.
    #[must_use]
    pub fn switched(&self, number: u64) -> Self {
        Self {
            active: number,
            previous: Some(self.active).filter(|active| *active != number),
            ..self.clone()
        }
    }

    /// The chroot that shows the active generation.
    pub fn chroot(&self) -> Chroot {
        let active = self.active();
        let Self {
            system, image_name, ..
        } = self;
        Chroot {
            system: system.clone(),
            generation: active.number,
            image: active.image,
            description: format!(
                "{image_name}, generation {}, release {} of {}",
                active.number, active.seq, active.environment
            ),
            keys: self.target.driver().chroot(system, active.number),
            access: self.access.clone(),
        }
    }

    /// Checks that the record makes sense; says why it does not.
    pub fn check(&self, system: &SystemName) -> Result<(), String> {
        if self.system != *system {
            return Err(format!("it describes the system {}", self.system));
        }
        if self.generation(self.active).is_none() {
            return Err(format!(
                "the active generation {} is not in its list",
                self.active
            ));
        }
        let rising = self
            .generations
            .windows(2)
            .all(|pair| pair[0].number < pair[1].number);
        let newest = self.generations.last().map_or(0, |last| last.number);
        if !rising || newest > self.newest || self.newest == u64::MAX {
            return Err("its generations are out of order".to_owned());
        }
        let driver = self.target.driver();
        match self
            .generations
            .iter()
            .find(|one| one.directory != driver.location(system, one.number))
        {
            Some(stray) => Err(format!(
                "generation {} lies outside the target",
                stray.number
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(target: &str, system: &str, active: u64) -> SystemRecord {
        let target: Target = target.parse().unwrap();
        let system: SystemName = system.parse().unwrap();
        let generations = (1..=active)
            .map(|number| Generation {
                number,
                image: Blake3::of(&number.to_be_bytes()),
                manifest: Blake3::of(b"manifest"),
                environment: "dev".parse().unwrap(),
                seq: number,
                directory: target.driver().location(&system, number),
                user: "operador".to_owned(),
                installed: 1_700_000_000,
                settled: None,
                barred: None,
                revoked: false,
            })
            .collect();
        SystemRecord {
            schema: 1,
            image_name: "web".parse().unwrap(),
            previous: None,
            newest: active,
            active,
            generations,
            failed: None,
            access: Access::default(),
            target,
            system,
        }
    }

    #[test]
    fn a_record_survives_its_file() {
        let record = sample("dir:/srv/images", "web", 3);
        let json = serde_json::to_vec(&record).unwrap();
        assert_eq!(
            serde_json::from_slice::<SystemRecord>(&json).unwrap(),
            record
        );
        assert_eq!(record.check(&record.system), Ok(()));
        assert_eq!(record.active().number, 3);
    }

    #[test]
    fn what_may_not_run_is_not_gone_back_to() {
        let mut record = sample("dir:/srv/images", "web", 3);
        assert_eq!(record.fallback(), None);
        record.previous = Some(2);
        assert_eq!(record.fallback().unwrap().number, 2);
        record.generations[1].barred = Some("revoked".to_owned());
        assert_eq!(record.fallback().unwrap().number, 1);
        record.generations[0].barred = Some("too old".to_owned());
        assert_eq!(record.fallback(), None);
        // Not forward, to what somebody went back from.
        record.generations[2].barred = None;
        (record.active, record.previous) = (2, Some(1));
        assert_eq!(record.fallback(), None);
    }

    #[test]
    fn the_chroot_shows_the_active_generation() {
        let chroot = sample("dir:/srv/images", "MyProject", 2).chroot();
        assert_eq!(chroot.description, "web, generation 2, release 2 of dev");
        assert_eq!(chroot.generation, 2);
        assert!(chroot.access.is_root_only());
        let directory = ("directory", "/srv/images/MyProject/2".to_owned());
        assert!(chroot.keys.contains(&directory));
    }

    #[test]
    fn nonsense_is_named() {
        let web = "web".parse().unwrap();
        let mut record = sample("dir:/srv/images", "web", 2);
        record.active = 9;
        assert!(
            record
                .check(&web)
                .unwrap_err()
                .contains("active generation 9")
        );
        let mut record = sample("dir:/srv/images", "web", 2);
        record.generations.swap(0, 1);
        assert!(record.check(&web).unwrap_err().contains("out of order"));
        let mut record = sample("dir:/srv/images", "web", 2);
        record.newest = u64::MAX;
        assert!(record.check(&web).unwrap_err().contains("out of order"));
        let mut record = sample("dir:/srv/images", "web", 2);
        record.generations[1].directory = PathBuf::from("/etc");
        assert!(record.check(&web).unwrap_err().contains("outside"));
        assert!(
            sample("dir:/srv/images", "web", 2)
                .check(&"other".parse().unwrap())
                .is_err()
        );
    }
}
