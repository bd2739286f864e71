//! Installing a release, and taking a system away again.
//!
//! ```text
//! refresh   the environment's signed metadata -> the newest release and its manifest
//! plan      what is here, what must come, is there room, is the place ours; delta or packs?
//! journal   from here on a kill is undone by the next command
//! hooks     pre-install
//! write     every chunk verified, into staging: what is here already from here, the rest fetched
//! settle    the tree is read back: its tar's digest must be the image; at the same time, one syncfs
//! place     one rename, or one change of tags, gives the generation its number
//! switch    register the chroot, one rename; record it
//! hooks     post-install, whatever happened
//! ```
//! Until `switch` nothing that anybody uses has changed, and an error or an interruption before it
//! puts everything back.

mod fetch;
pub mod gc;
pub mod journal;
pub(crate) mod local_changes;
pub mod switch;
pub mod tarball;
mod uninstall;

use std::sync::Arc;

use store::name::ImageName;
use store::{Image, Manifest, Store};

pub use self::fetch::{Tally, Way};
pub(crate) use self::fetch::{Writing, settle};
use self::journal::{Operation, Pending, Phase};
pub use self::uninstall::uninstall;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::node::Node;
use crate::session::{self, Handover, Patience};
use crate::state::cache::Kept;
use crate::state::record::{Generation, SystemRecord};
use crate::state::{Lock, NodeConfig, SCHEMA, now};
use crate::storage::{Desk, Staging, Target};
use crate::system::SystemName;
use crate::tree::compare::{Difference, differences};
use crate::tree::packages::name_packages;
use crate::tree::reuse::Previous;
use crate::trust::allowed;
use crate::trust::{self, Verified};

/// What an operator asks for.
#[derive(Debug)]
pub struct Request {
    /// The image's name in the environment.
    pub name: ImageName,
    /// What it is called here.
    pub system: SystemName,
    /// Where it goes; an installed system knows.
    pub target: Option<Target>,
    /// For a session that runs to hand over to the new generation; without, it goes on.
    pub patience: Option<Patience>,
    /// Whether to write a new generation even if there is one of this release.
    pub again: bool,
}

/// What an install would do: everything is known, nothing has changed.
#[derive(Debug)]
pub struct Plan {
    /// The release and its signed manifest.
    pub release: Verified,
    /// The system's record now.
    pub before: Option<SystemRecord>,
    /// What has to be done.
    pub step: Step,
    /// Whether the target directory itself must be made.
    pub made_path: bool,
}

impl Plan {
    /// The journal of an install that makes `after` the record.
    pub(crate) fn pending(&self, after: &SystemRecord) -> Pending {
        Pending {
            schema: SCHEMA,
            operation: Operation::Install,
            phase: Phase::Writing,
            system: after.system.clone(),
            target: after.target.clone(),
            made_path: self.made_path,
            generation: after.active,
            before: self.before.clone(),
            after: Some(after.clone()),
            started: now(),
        }
    }
}

/// What an install has to do.
#[derive(Debug)]
pub enum Step {
    /// Nothing: it is the active generation.
    Nothing,
    /// Nothing but to switch to a generation that is here.
    Switch(u64),
    /// A new generation, which makes this the record.
    Write(Box<SystemRecord>),
}

/// What was done.
#[derive(Debug)]
pub struct Installed {
    /// The system's record.
    pub record: SystemRecord,
    /// Whether anything had to be done.
    pub changed: bool,
    /// Where the bytes came from, if any were written.
    pub tally: Tally,
    /// What became of a session that runs.
    pub traffic: Handover,
}

/// Installs the newest release of an image and makes it the active generation.
pub fn install(node: &Node<'_>, request: &Request) -> Result<Installed> {
    let lock = node.state.lock()?;
    journal::recover(node, &lock)?;
    let config = node.config()?;
    node.observer.event(Event::Phase(&format!(
        "refreshing the environment {}",
        config.environment
    )));
    let asked = trust::ask(node, &config)?;
    // What it says of the generations that are here counts, whatever becomes of the new one.
    allowed::remember(node, &lock, &config, &asked)?;
    let release = asked.newest(&request.name)?;
    let plan = plan(node, &config, request, &release)?;
    let (record, changed, tally) = match (&plan.step, plan.before.clone()) {
        (Step::Write(after), _) => {
            if let Some(before) = &plan.before {
                let so = format!("generation {} will have none of that", after.active);
                local_changes::tell(node, before, before.active, &so);
            }
            let tally = carry_out(node, &lock, &config, &plan, after)?;
            (node.state.installed(&request.system)?, true, tally)
        }
        (Step::Switch(number), Some(before)) => {
            let record = switch::carry_out(node, &lock, &before, *number)?;
            (record, true, Tally::default())
        }
        (Step::Nothing, Some(record)) => {
            // The record says so; whether schroot agrees is cheap to make sure of.
            node.schroot.register(&record, node.observer)?;
            let so = format!("to undo that: imgnode upgrade {} --again", record.system);
            local_changes::tell(node, &record, record.active, &so);
            (record, false, Tally::default())
        }
        (_, None) => return Err(Error::failed("the plan has no record")),
    };
    let before = plan.before.as_ref();
    let traffic = session::take_over(node, &lock, before, &record, request.patience)?;
    Ok(Installed {
        record,
        changed,
        tally,
        traffic,
    })
}

/// Installs the newest release of an installed system's image.
pub fn upgrade(
    node: &Node<'_>,
    system: &SystemName,
    patience: Option<Patience>,
    again: bool,
) -> Result<Installed> {
    let record = node.state.installed(system)?;
    let request = Request {
        name: record.image_name,
        system: record.system,
        target: None,
        patience,
        again,
    };
    install(node, &request)
}

/// Looks at the node and decides; refuses what cannot or must not be done.
pub fn plan(
    node: &Node<'_>,
    config: &NodeConfig,
    request: &Request,
    release: &Verified,
) -> Result<Plan> {
    let system = &request.system;
    let before = node.state.system(system)?;
    let target = match (&before, &request.target) {
        (Some(before), None) => before.target.clone(),
        (Some(before), Some(asked)) if before.target == *asked => asked.clone(),
        (Some(before), Some(asked)) => {
            return Err(Error::usage(format!(
                "{system} is installed in {}, not in {asked}",
                before.target
            ))
            .hint("leave --target out, or choose another name with --as"));
        }
        (None, Some(asked)) => asked.clone(),
        (None, None) => {
            return Err(Error::usage("an install needs to know where to")
                .hint("--target dir:PATH, btrfs:PATH, lvm:VG/LV:SIZE or lvm-thin:VG/POOL:SIZE"));
        }
    };
    if let Some(before) = before
        .as_ref()
        .filter(|before| before.image_name != request.name)
    {
        return Err(Error::usage(format!(
            "{system} holds the image {}, not {}",
            before.image_name, request.name
        ))
        .hint("choose another name with --as"));
    }
    let manifest = &release.manifest;
    if manifest.arch != architecture() {
        return Err(Error::refused(format!(
            "{} is built for {}, this node is {}",
            manifest.name,
            manifest.arch,
            architecture()
        )));
    }
    node.schroot.check(system)?;
    let (keeper, desk) = (target.keeper(), Desk::of(node, system));
    let number = before.as_ref().map_or(1, |before| before.newest + 1);
    let made_path = keeper.inspect(&desk, number)?;
    let decided = |step| {
        Ok(Plan {
            release: release.clone(),
            before: before.clone(),
            step,
            made_path,
        })
    };
    if let Some(before) = &before {
        let here = before.generations.iter().rev().find(|one| {
            one.image == manifest.image
                && one.seq == release.seq
                && one.environment == config.environment
        });
        if let Some(here) = here
            && !request.again
            && keeper.exists(&desk, here.number)?
        {
            return decided(if here.number == before.active {
                Step::Nothing
            } else {
                Step::Switch(here.number)
            });
        }
    }
    // The tar's size counts every file in blocks of 512 and its header; file systems round to 4096
    // and keep an inode each.
    let bytes = manifest
        .size
        .saturating_add(manifest.entries.saturating_mul(2560))
        .saturating_add(16 << 20);
    keeper.check_space(&desk, bytes, manifest.entries.saturating_add(16))?;

    let generation = Generation {
        number,
        image: manifest.image,
        manifest: store::Blake3::of(&release.json),
        environment: config.environment.clone(),
        seq: release.seq,
        directory: target.keeper().location(system, number),
        user: manifest
            .run
            .as_ref()
            .map_or_else(|| "root".to_owned(), |run| run.user.clone()),
        installed: now(),
        settled: None,
        barred: None,
        revoked: false,
    };
    if !generation
        .user
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        || generation.user.is_empty()
    {
        return Err(Error::refused(format!(
            "the image runs as `{}`, which is no user name",
            generation.user.escape_debug()
        )));
    }
    let mut generations = before
        .as_ref()
        .map_or_else(Vec::new, |before| before.generations.clone());
    generations.push(generation);
    let after = SystemRecord {
        schema: SCHEMA,
        system: system.clone(),
        image_name: request.name.clone(),
        target,
        active: number,
        previous: before.as_ref().map(|before| before.active),
        newest: number,
        generations,
    };
    decided(Step::Write(Box::new(after)))
}

fn carry_out(
    node: &Node<'_>,
    lock: &Lock,
    config: &NodeConfig,
    plan: &Plan,
    after: &SystemRecord,
) -> Result<Tally> {
    let store = trust::store(node, config)?;
    let mut pending = plan.pending(after);
    let sources = |node: &Node<'_>| {
        let here = match &plan.before {
            Some(before) => what_is_here(node, &store, before)?,
            None => None,
        };
        Sources::choose(node, &store, &plan.release.manifest, here)
    };
    journaled(node, lock, &mut pending, |pending| {
        let mut tally = write_and_switch(node, lock, &plan.release, &sources, pending)?;
        tally.fetched = store.backend().traffic().map(|traffic| traffic.received);
        Kept::new(node.state.kept()).trim();
        Ok(tally)
    })
}

/// Does `work` under a journal: what fails is undone, and the hooks afterwards run in any case.
pub(crate) fn journaled<T>(
    node: &Node<'_>,
    lock: &Lock,
    pending: &mut Pending,
    work: impl FnOnce(&mut Pending) -> Result<T>,
) -> Result<T> {
    let system = pending.system.clone();
    journal::write(node, lock, pending)?;
    let done = node
        .hooks
        .before("install", &system, node.observer)
        .and_then(|()| work(pending));
    let undone = match &done {
        Ok(_) => Ok(()),
        Err(_) => journal::undo(node, lock, pending),
    };
    let hooks = node.hooks.after("install", &system, node.observer);
    if let Err(error) = undone {
        // The journal stays: the next command tries again.
        node.observer.event(Event::Note(&format!(
            "the install could not be undone: {error}"
        )));
        return done;
    }
    journal::clear(node, lock)?;
    done.and_then(|value| hooks.map(|()| value))
}

/// The active generation as a source of content; nothing when its layout cannot be had.
fn what_is_here(
    node: &Node<'_>,
    store: &store::Store,
    before: &SystemRecord,
) -> Result<Option<(Previous, Image)>> {
    let active = before.active();
    let desk = Desk::of(node, &before.system);
    let keeper = before.target.keeper();
    if !keeper.exists(&desk, active.number)? {
        return Ok(None);
    }
    let index = || {
        let image = store.image(&node.state.manifest(active.manifest)?)?;
        let previous = Previous::index(keeper.open(&desk, active.number)?, image.entries()?)?;
        Ok((previous, image))
    };
    match index() {
        Ok(here) => Ok(Some(here)),
        Err(error) => {
            let error: Error = error;
            node.observer.event(Event::Note(&format!(
                "nothing of generation {} can be used again: {error}",
                active.number
            )));
            Ok(None)
        }
    }
}

/// Where the content of a new generation comes from.
struct Sources {
    image: Image,
    previous: Option<Previous>,
    way: Way,
}

impl Sources {
    /// Takes the way that costs the fewest bytes. Whatever a delta cannot give comes from packs.
    fn choose(
        node: &Node<'_>,
        store: &Store,
        manifest: &Manifest,
        here: Option<(Previous, Image)>,
    ) -> Result<Self> {
        let Some((previous, from)) = here else {
            return Ok(Self {
                image: store.image(manifest)?,
                previous: None,
                way: Way::Whole,
            });
        };
        let delta = Self::delta(store, manifest, &previous, from).unwrap_or_else(|error| {
            node.observer.event(Event::Note(&format!(
                "the delta is not used, packs are: {error}"
            )));
            None
        });
        let (image, way) = match delta {
            Some(delta) => delta,
            None => (store.image(manifest)?, Way::Packs),
        };
        Ok(Self {
            image,
            previous: Some(previous),
            way,
        })
    }

    /// The image by way of a delta, if there is one and it is cheaper than packs. What a store on
    /// this machine has is nearer than what would have to be computed.
    fn delta(
        store: &Store,
        manifest: &Manifest,
        previous: &Previous,
        from: Image,
    ) -> Result<Option<(Image, Way)>> {
        if !store.backend().is_far() {
            return Ok(None);
        }
        let Some(pair) = store.pair(from.id(), &manifest.image)? else {
            return Ok(None);
        };
        // Its price of packs is that of a node which has kept nothing.
        let kept = store.indexes_kept(&manifest.image)?;
        let packs = pair.packs.saturating_sub(kept);
        if pair.size >= packs {
            return Ok(None);
        }
        let prior = Arc::new(previous.prior(from)?);
        let image = store.image_with_delta(manifest, &pair, prior)?;
        let way = Way::Delta {
            size: pair.size,
            packs,
        };
        Ok(Some((image, way)))
    }
}

fn write_and_switch(
    node: &Node<'_>,
    lock: &Lock,
    release: &Verified,
    sources: &dyn Fn(&Node<'_>) -> Result<Sources>,
    pending: &mut Pending,
) -> Result<Tally> {
    let manifest = &release.manifest;
    let (system, number) = (pending.system.clone(), pending.generation);
    let target = pending.target.clone();
    let (keeper, desk) = (target.keeper(), Desk::of(node, &system));
    node.go_on()?;
    let before = pending.before.as_ref().map(|before| before.active);
    let before = match before {
        Some(before) if keeper.exists(&desk, before)? => Some(before),
        _ => None,
    };
    let staging = keeper.prepare(&desk, number, before)?;

    Writing::of(manifest).announce(node.observer);
    let Sources {
        image,
        previous,
        way,
    } = sources(node)?;
    let mut tally = fetch::fill(
        &image,
        manifest,
        &staging,
        previous,
        node.observer,
        node.cancel,
    )?;
    tally.way = way;
    settle(
        manifest,
        Some(&image),
        &staging.tree,
        node.observer,
        node.cancel,
    )?;
    // It may hold the previous generation open.
    drop(image);
    finish(node, lock, &release.json, staging, pending)?;
    Ok(tally)
}

/// From a checked and synced staging tree to the active generation.
pub(crate) fn finish(
    node: &Node<'_>,
    lock: &Lock,
    manifest: &[u8],
    staging: Staging,
    pending: &mut Pending,
) -> Result<()> {
    let (system, number) = (pending.system.clone(), pending.generation);
    let target = pending.target.clone();
    staging.tree.close();
    node.go_on()?;

    node.state.keep_manifest(lock, manifest)?;
    target.keeper().place(&Desk::of(node, &system), number)?;
    let generations = pending.after.as_mut().map(|after| &mut after.generations);
    for generation in generations.into_iter().flatten() {
        if generation.number == number {
            generation.settled = Some(now());
        }
    }
    pending.phase = Phase::Committing;
    journal::write(node, lock, pending)?;
    node.observer.event(Event::Phase(&format!(
        "switching {system} to generation {number}"
    )));
    journal::commit(node, lock, pending)
}

/// Compares a generation of a system with what was signed.
pub fn verify(
    node: &Node<'_>,
    record: &SystemRecord,
    generation: &Generation,
) -> Result<Vec<Difference>> {
    let manifest = node.state.manifest(generation.manifest)?;
    if manifest.image != generation.image {
        return Err(Error::refused(format!(
            "the record of {} and its manifest name different images",
            record.system
        )));
    }
    let config = node.config()?;
    let image = trust::store(node, &config)?.image(&manifest)?;
    let desk = Desk::of(node, &record.system);
    let tree = record.target.keeper().open(&desk, generation.number)?;
    let mut different = differences(tree.reopen()?, image.entries()?, node.cancel)?;
    name_packages(&tree.root, &mut different);
    Ok(different)
}

/// This machine's architecture in Debian's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        "arm" => "armhf",
        "powerpc64" => "ppc64el",
        other => other,
    }
}
