//! Installing a release, and taking a system away again.
//!
//! ```text
//! refresh   the environment's signed metadata -> the newest release and its manifest
//! plan      what is here, what must come, is there room, is the place ours
//! journal   from here on a kill is undone by the next command
//! hooks     pre-install
//! write     every chunk verified, into a staging directory beside the target
//! recheck   the tree is read back from disk: its tar's digest must be the image
//! sync      one syncfs, then one rename gives the generation its number
//! switch    register the chroot, one rename; record it
//! hooks     post-install, whatever happened
//! ```
//! Until `switch` nothing that anybody uses has changed, and an error or an interruption before it
//! puts everything back.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use store::canon::Entry;
use store::manifest::Manifest;
use store::name::ImageName;
use store::{Image, Part};

use crate::error::{Context, Error, Result};
use crate::event::{Event, Observer};
use crate::extract::Extractor;
use crate::generation::{Generation, SystemRecord};
use crate::journal::{self, Operation, Pending, Phase};
use crate::node::{Node, go_on};
use crate::packages::name_packages;
use crate::recheck::{self, Difference};
use crate::session;
use crate::state::{Lock, NodeConfig, SCHEMA, now};
use crate::system::SystemName;
use crate::target::Target;
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
}

/// What an install would do: everything is known, nothing has changed.
#[derive(Debug)]
pub struct Plan {
    /// The release and its signed manifest.
    pub release: Verified,
    /// The system's record now.
    pub before: Option<SystemRecord>,
    /// The system's record afterwards; `None` when it is there already.
    pub after: Option<SystemRecord>,
    /// Whether the target directory itself must be made.
    pub made_path: bool,
}

/// What was done.
#[derive(Debug)]
pub struct Installed {
    /// The system's record.
    pub record: SystemRecord,
    /// Whether anything had to be done.
    pub changed: bool,
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
    let release = trust::newest(node, &config, &request.name)?;
    let plan = plan(node, &config, request, release)?;
    match plan.after.clone() {
        None => {
            // The record says so; whether schroot agrees is cheap to make sure of.
            let record = plan
                .before
                .ok_or_else(|| Error::failed("the plan has no record"))?;
            node.schroot.register(&record, node.observer)?;
            Ok(Installed {
                record,
                changed: false,
            })
        }
        Some(after) => {
            carry_out(node, &lock, &config, &plan, &after)?;
            Ok(Installed {
                record: after,
                changed: true,
            })
        }
    }
}

/// Looks at the node and decides; refuses what cannot or must not be done.
pub fn plan(
    node: &Node<'_>,
    config: &NodeConfig,
    request: &Request,
    release: Verified,
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
            return Err(Error::usage("an install needs to know where to").hint("--target dir:PATH"));
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
    let made_path = target.inspect(system, node.state.root())?;
    let here = before.as_ref().map(SystemRecord::active);
    if here.is_some_and(|active| {
        active.image == manifest.image && active.seq == release.seq && active.directory.is_dir()
    }) {
        return Ok(Plan {
            release,
            before,
            after: None,
            made_path,
        });
    }
    // The tar's size counts every file in blocks of 512 and its header; file systems round to 4096
    // and keep an inode each.
    let bytes = manifest
        .size
        .saturating_add(manifest.entries.saturating_mul(2560))
        .saturating_add(16 << 20);
    target.check_space(bytes, manifest.entries.saturating_add(16))?;

    let number = before.as_ref().map_or(1, |before| before.newest + 1);
    let generation = Generation {
        number,
        image: manifest.image,
        manifest: store::Blake3::of(&release.json),
        environment: config.environment.clone(),
        seq: release.seq,
        directory: target.generation(system, number),
        user: manifest
            .run
            .as_ref()
            .map_or_else(|| "root".to_owned(), |run| run.user.clone()),
        installed: now(),
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
    Ok(Plan {
        release,
        before,
        after: Some(after),
        made_path,
    })
}

fn carry_out(
    node: &Node<'_>,
    lock: &Lock,
    config: &NodeConfig,
    plan: &Plan,
    after: &SystemRecord,
) -> Result<()> {
    let image = trust::store(config)?.image(&plan.release.manifest)?;
    let mut pending = Pending {
        schema: SCHEMA,
        operation: Operation::Install,
        phase: Phase::Writing,
        system: after.system.clone(),
        target: after.target.clone(),
        made_path: plan.made_path,
        generation: after.active,
        before: plan.before.clone(),
        after: Some(after.clone()),
        started: now(),
    };
    journal::write(node, lock, &pending)?;
    let done = write_and_switch(node, lock, &plan.release, &image, &mut pending);
    let undone = match &done {
        Ok(()) => Ok(()),
        Err(_) => journal::undo(node, lock, &mut pending),
    };
    let hooks = node.hooks.after(&after.system, node.observer);
    if let Err(error) = undone {
        // The journal stays: the next command tries again.
        node.observer.event(Event::Note(&format!(
            "the install could not be undone: {error}"
        )));
        return done;
    }
    journal::clear(node, lock)?;
    done.and(hooks)
}

fn write_and_switch(
    node: &Node<'_>,
    lock: &Lock,
    release: &Verified,
    image: &Image,
    pending: &mut Pending,
) -> Result<()> {
    let manifest = &release.manifest;
    let (system, number) = (pending.system.clone(), pending.generation);
    node.hooks.before(&system, node.observer)?;
    node.go_on()?;
    let staging = pending.target.prepare(&system, node.state.root())?;

    node.observer.event(Event::Phase(&format!(
        "writing {} ({} files, {} MB)",
        manifest.image,
        manifest.entries,
        manifest.size / 1_000_000
    )));
    let tree = unpack(image, manifest, staging, node.observer, node.cancel)?;
    node.observer
        .event(Event::Phase("checking the written tree"));
    recheck(image, manifest, &tree, node.cancel)?;
    node.observer.event(Event::Phase("syncing"));
    rustix::fs::syncfs(&tree).context(|| format!("cannot sync {}", pending.target))?;
    drop(tree);
    node.go_on()?;

    node.state.keep_manifest(lock, &release.json)?;
    pending.target.place(&system, number)?;
    pending.phase = Phase::Committing;
    journal::write(node, lock, pending)?;
    node.observer.event(Event::Phase(&format!(
        "switching {system} to generation {number}"
    )));
    journal::commit(node, lock, pending)
}

/// Writes the image's tree into an empty directory.
pub fn unpack(
    image: &Image,
    manifest: &Manifest,
    staging: OwnedFd,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<OwnedFd> {
    let privileges = manifest.privileges();
    let privilege = |entry: &Entry| privileges.check(entry).map_err(Error::from);
    let mut extractor = Extractor::new(staging, &privilege);
    let (mut done, mut stopped) = (0, None);
    let total = manifest.size;
    let replayed = image.replay(&mut |_| true, &mut |part| {
        let step = go_on(cancel).and_then(|()| match part {
            Part::Entry(entry, header) => {
                done += header.len() as u64;
                extractor.entry(entry)
            }
            Part::Content(bytes) => {
                done += bytes.len() as u64;
                observer.event(Event::Progress { done, total });
                extractor.content(bytes)
            }
        });
        // Our own error waits outside; the store's only ends its work.
        step.map_err(|error| {
            stopped = Some(error);
            store::Error::new(store::ErrorKind::Io, "the extraction stopped")
        })
    });
    if let Some(error) = stopped {
        return Err(error);
    }
    replayed?;
    extractor.finish()
}

/// Refuses a tree on disk that is not the image.
fn recheck(image: &Image, manifest: &Manifest, tree: &OwnedFd, cancel: &AtomicBool) -> Result<()> {
    let again = reopen(tree)?;
    let found = recheck::digest(again, cancel);
    if found.as_ref().is_ok_and(|found| *found == manifest.image) {
        return Ok(());
    }
    go_on(cancel)?;
    let mut error = Error::refused(format!(
        "the written tree is not the image {}",
        manifest.image
    ));
    match found {
        Ok(found) => error = error.cause(format!("it is {found}")),
        Err(why) => error = error.cause(why.to_string()),
    }
    let different = recheck::differences(reopen(tree)?, image.entries()?, cancel)?;
    for one in different.iter().take(8) {
        error = error.cause(format!("{} {}", one.path, one.how.join(", ")));
    }
    if different.is_empty() {
        // The layout was followed to the letter, so it is the layout that is another image.
        error =
            error.cause("the signed layout describes another image than the signed manifest names");
    }
    Err(error)
}

fn reopen(tree: &OwnedFd) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(tree.as_fd(), ".", flags, Mode::empty()).context(|| "cannot open the new tree")
}

/// Compares the active generation of a system with what was signed.
pub fn verify(node: &Node<'_>, record: &SystemRecord) -> Result<Vec<Difference>> {
    let active = record.active();
    let manifest = node.state.manifest(active.manifest)?;
    if manifest.image != active.image {
        return Err(Error::refused(format!(
            "the record of {} and its manifest name different images",
            record.system
        )));
    }
    let config = node.config()?;
    let image = trust::store(&config)?.image(&manifest)?;
    let root: OwnedFd = std::fs::File::open(&active.directory)
        .context(|| {
            format!(
                "cannot open generation {} at {}",
                active.number,
                active.directory.display()
            )
        })?
        .into();
    let again = reopen(&root)?;
    let mut different = recheck::differences(again, image.entries()?, node.cancel)?;
    name_packages(&root, &mut different);
    Ok(different)
}

/// Takes a system away with all its generations.
pub fn uninstall(node: &Node<'_>, system: &SystemName, patience: session::Patience) -> Result<()> {
    let lock = node.state.lock()?;
    journal::recover(node, &lock)?;
    let record = node.state.installed(system)?;
    session::sweep(node, &lock, system, patience)?;
    if let Some(session) = session::read(node, system)? {
        return Err(
            Error::failed(format!("{system} is running in the session {}", session.id))
                .hint(format!("imgnode stop {system}")),
        );
    }
    node.schroot.check(system)?;
    record.target.inspect(system, node.state.root())?;
    let pending = Pending {
        schema: SCHEMA,
        operation: Operation::Uninstall,
        phase: Phase::Writing,
        system: system.clone(),
        target: record.target.clone(),
        made_path: false,
        generation: 0,
        before: Some(record),
        after: None,
        started: now(),
    };
    journal::write(node, &lock, &pending)?;
    journal::dismantle(node, &lock, &pending)?;
    journal::clear(node, &lock)
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
