//! What an install would do: everything is known, nothing has changed.

use std::path::PathBuf;

use common::machine;
use store::Blake3;
use store::name::ImageName;

use super::fetch::FetchPlan;
use super::journal::{JournalEntry, Operation, asks};
use super::source::Source;
use crate::atomic_file::SCHEMA;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::node::Node;
use crate::session::Timeouts;
use crate::state::record::{Generation, SystemRecord};
use crate::state::{NodeConfig, now};
use crate::storage::Target;
use crate::system::SystemName;
use crate::trust::{Held, VerifiedRelease};

/// What an operator asks for.
#[derive(Debug)]
pub struct Request {
    /// Where the release comes from.
    pub source: RequestedSource,
    /// The name of the system on this node.
    pub system: SystemName,
    /// Where its generations go; an installed system knows.
    pub target: Option<Target>,
    /// How long a session that runs may take to hand over to the new generation; without, it goes
    /// on with the generation that it has.
    pub timeouts: Option<Timeouts>,
    /// Whether to write a new generation even if there is one of this release.
    pub again: bool,
    /// Whether to take the newest release before its waves reach this node.
    pub ahead: bool,
}

/// Where a release comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedSource {
    /// The newest release of an image in the environment that reaches this node.
    Environment(ImageName),
    /// An exported tarball; its manifest and its signature lie beside it.
    Tarball(PathBuf),
}

/// What an install would do; plain data.
#[derive(Debug)]
pub struct InstallPlan {
    /// The release and its signed manifest.
    pub release: VerifiedRelease,
    /// The newest release of the environment, where that has not reached this node.
    pub held: Option<Held>,
    /// The system's record now.
    pub before: Option<SystemRecord>,
    /// Whether the target directory itself must be made.
    pub made_path: bool,
    /// Whether the new generation is asked whether it works before it counts as active.
    pub asks: bool,
    /// What has to be done.
    pub action: Action,
}

/// What an install has to do.
#[derive(Debug)]
pub enum Action {
    /// Nothing: the release is the active generation.
    UpToDate(Box<SystemRecord>),
    /// A switch from this record to a generation that is here.
    Switch(Box<SystemRecord>, u64),
    /// A new generation.
    Write(Box<NewGeneration>),
}

/// A generation that has to be written.
#[derive(Debug)]
pub struct NewGeneration {
    /// Its number.
    pub number: u64,
    /// The system's record when it is the active one.
    pub after: SystemRecord,
    /// Bytes that the target must have room for.
    pub bytes: u64,
    /// Inodes that the target must have room for.
    pub inodes: u64,
    /// Where its content comes from; `None` for a tarball.
    pub fetch: Option<FetchPlan>,
}

impl InstallPlan {
    /// The journal entry of an install that writes `new`.
    pub(super) fn journal_entry(&self, new: &NewGeneration) -> JournalEntry {
        let after = &new.after;
        let before = self.before.as_ref();
        JournalEntry {
            made_path: self.made_path,
            generation: new.number,
            asks: self.asks,
            ..JournalEntry::begin(Operation::Install, after, before, Some(after))
        }
    }
}

/// Looks at the node and decides what to do; refuses what cannot or must not be done.
pub(super) fn plan(
    node: &Node<'_>,
    config: &NodeConfig,
    request: &Request,
    source: &mut Source,
) -> Result<InstallPlan> {
    let system = &request.system;
    let release = source.release.clone();
    let before = node.state.system(system)?;
    let target = choose_target(system, before.as_ref(), request.target.as_ref())?;
    check_release(system, before.as_ref(), &release)?;
    node.schroot.check(system)?;
    let number = before.as_ref().map_or(1, |before| before.newest + 1);
    let context = node.context(system);
    let made_path = target.driver().inspect(&context, number)?;
    let action = match &before {
        Some(before) if !request.again => use_installed(node, config, before, &release)?,
        _ => None,
    };
    let action = if let Some(action) = action {
        action
    } else {
        let (bytes, inodes) = space_for(&release);
        target.driver().check_space(&context, bytes, inodes)?;
        let generation = new_generation(config, system, &target, number, &release)?;
        let after = record_with(
            generation,
            system,
            &release.manifest.name,
            target,
            before.as_ref(),
        );
        let fetch = source.plan_fetch(node, config, before.as_ref())?;
        Action::Write(Box::new(NewGeneration {
            number,
            after,
            bytes,
            inodes,
            fetch,
        }))
    };
    let asks = match &before {
        Some(before) => asks(node, before, request.timeouts)?,
        None => false,
    };
    Ok(InstallPlan {
        release,
        held: source.held.clone(),
        before,
        made_path,
        asks,
        action,
    })
}

/// Where the generations of a system go: where they are, or where the operator wants them.
fn choose_target(
    system: &SystemName,
    before: Option<&SystemRecord>,
    asked: Option<&Target>,
) -> Result<Target> {
    match (before, asked) {
        (Some(before), None) => Ok(before.target.clone()),
        (Some(before), Some(asked)) if before.target == *asked => Ok(asked.clone()),
        (Some(before), Some(asked)) => Err(Error::usage(format!(
            "{system} is installed in {}, not in {asked}",
            before.target
        ))
        .hint("leave --target out, or choose another name with --as")),
        (None, Some(asked)) => Ok(asked.clone()),
        (None, None) => Err(Error::usage("an install needs to know where to")
            .hint("--target dir:PATH, btrfs:PATH, lvm:VG/LV:SIZE or lvm-thin:VG/POOL:SIZE")),
    }
}

/// Refuses a release of another image than the system holds, or for other machines.
fn check_release(
    system: &SystemName,
    before: Option<&SystemRecord>,
    release: &VerifiedRelease,
) -> Result<()> {
    let manifest = &release.manifest;
    if let Some(before) = before.filter(|before| before.image_name != manifest.name) {
        return Err(Error::usage(format!(
            "{system} holds the image {}, not {}",
            before.image_name, manifest.name
        ))
        .hint("choose another name with --as"));
    }
    if manifest.arch != machine::architecture() {
        return Err(Error::refused(format!(
            "{} is built for {}, this node is {}",
            manifest.name,
            manifest.arch,
            machine::architecture()
        )));
    }
    Ok(())
}

/// What to do when a generation of this release is here already; `None` when none is.
fn use_installed(
    node: &Node<'_>,
    config: &NodeConfig,
    before: &SystemRecord,
    release: &VerifiedRelease,
) -> Result<Option<Action>> {
    let tried = before.failed.as_ref().filter(|failed| {
        failed.image == release.manifest.image
            && failed.seq == release.seq
            && failed.environment == config.environment
    });
    if let Some(failed) = tried {
        let system = &before.system;
        node.observer.event(Event::Note(&format!(
            "release {} did not work on this node and is not tried again: {}; \
             imgnode upgrade {system} --again tries it",
            failed.seq, failed.why
        )));
        return Ok(Some(Action::UpToDate(Box::new(before.clone()))));
    }
    let same = |one: &&Generation| {
        one.image == release.manifest.image
            && one.seq == release.seq
            && one.environment == config.environment
    };
    let Some(here) = before.generations.iter().rev().find(same) else {
        return Ok(None);
    };
    let context = node.context(&before.system);
    if !before.target.driver().exists(&context, here.number)? {
        return Ok(None);
    }
    let record = Box::new(before.clone());
    Ok(Some(if here.number == before.active {
        Action::UpToDate(record)
    } else {
        Action::Switch(record, here.number)
    }))
}

/// Bytes and inodes that the tree of a release takes. The tar's size counts every file in blocks of
/// 512 and its header; file systems round to 4096 and keep an inode each.
fn space_for(release: &VerifiedRelease) -> (u64, u64) {
    let manifest = &release.manifest;
    let bytes = manifest
        .size
        .saturating_add(manifest.entries.saturating_mul(2560))
        .saturating_add(16 << 20);
    (bytes, manifest.entries.saturating_add(16))
}

/// The generation that a release becomes.
fn new_generation(
    config: &NodeConfig,
    system: &SystemName,
    target: &Target,
    number: u64,
    release: &VerifiedRelease,
) -> Result<Generation> {
    let run = release.manifest.run.as_ref();
    let user = run.map_or_else(|| "root".to_owned(), |run| run.user.clone());
    if !user
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        || user.is_empty()
    {
        return Err(Error::refused(format!(
            "the image runs as `{}`, which is no user name",
            user.escape_debug()
        )));
    }
    Ok(Generation {
        number,
        image: release.manifest.image,
        manifest: Blake3::of(&release.json),
        environment: config.environment.clone(),
        seq: release.seq,
        directory: target.driver().location(system, number),
        user,
        installed: now(),
        settled: None,
        barred: None,
        revoked: false,
    })
}

/// The record of a system in which `generation` is the newest and the active one.
fn record_with(
    generation: Generation,
    system: &SystemName,
    image_name: &ImageName,
    target: Target,
    before: Option<&SystemRecord>,
) -> SystemRecord {
    let number = generation.number;
    let mut generations = before.map_or_else(Vec::new, |before| before.generations.clone());
    generations.push(generation);
    SystemRecord {
        schema: SCHEMA,
        system: system.clone(),
        image_name: image_name.clone(),
        target,
        active: number,
        previous: before.map(|before| before.active),
        newest: number,
        generations,
        failed: before.and_then(|before| before.failed.clone()),
        access: before
            .map(|before| before.access.clone())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record::tests::sample;

    #[test]
    fn an_installed_system_stays_in_its_target() {
        let record = sample("dir:/srv/images", "web", 1);
        let (same, other) = (record.target.clone(), "dir:/srv/other".parse().unwrap());
        let choose = |before, asked| choose_target(&record.system, before, asked);
        assert_eq!(choose(Some(&record), None).unwrap(), same);
        assert_eq!(choose(Some(&record), Some(&same)).unwrap(), same);
        assert_eq!(choose(None, Some(&other)).unwrap(), other);
        for refused in [choose(Some(&record), Some(&other)), choose(None, None)] {
            assert_eq!(refused.unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn a_new_generation_becomes_active_and_what_was_is_previous() {
        let before = sample("dir:/srv/images", "web", 2);
        let mut generation = before.active().clone();
        generation.number = 3;
        generation.directory = before.target.driver().location(&before.system, 3);
        let target = before.target.clone();
        let after = record_with(
            generation,
            &before.system,
            &before.image_name,
            target,
            Some(&before),
        );
        assert_eq!(after.check(&before.system), Ok(()));
        assert_eq!((after.active, after.previous), (3, Some(2)));
        assert_eq!(after.generations.len(), 3);
    }
}
