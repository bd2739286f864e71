//! Installing a release, going back, and removing what is old.
//!
//! ```text
//! recover      what a killed command left is finished or undone
//! verify       the environment's newest release for this node, or a tarball carried by hand, and its manifest
//! plan         what is here, what must come, is there room, is the place ours; delta or packs?
//! needs        the node has the secrets and settings that the image needs
//! carry out    nothing, a switch, or a new generation:
//!   journal      from here on a kill is undone by the next command
//!   hooks        pre-install
//!   fill         every chunk verified, into staging: what is here already from here, the rest fetched
//!   settle       the tree is read back: its tar's digest must be the image; at the same time, one syncfs
//!   publish      one rename, or one change of tags, gives the generation its number
//!   commit       register the chroot, one rename; record it
//!   hooks        post-install, whatever happened
//! take over    a session that runs goes over to the new generation
//! ```
//! Until `commit` nothing that anybody uses has changed, and an error or an interruption before it
//! puts everything back. The plan is plain data ([`InstallPlan`]), made once.
//!
//! ```text
//! switch         another generation becomes the active one
//! takeover       a session that runs goes over, or the generation before becomes active again
//! activate       the chroot points at another generation
//! access         who of the host may enter a system's sessions
//! uninstall      a system goes with all its generations
//! gc             old generations go
//! verify         a generation is compared with what was signed
//! plan           what an install would do
//! source         a verified release and where its content comes from
//! tarball        an exported tarball as the source
//! fetch          the store as the source: delta, packs, and what is here already
//! needs          what the image needs of the node is there, or said to be missing
//! settle         the finished tree is synced and read back
//! journal        the operation under way, finished or undone after a kill
//! local_changes  what was changed in place is said
//! ```

mod access;
mod activate;
mod fetch;
mod gc;
pub mod journal;
mod local_changes;
mod needs;
mod plan;
mod settle;
mod source;
mod switch;
mod takeover;
mod tarball;
mod uninstall;
mod verify;

pub use self::access::{access, set_access};
use self::activate::activate;
pub use self::fetch::{FetchMethod, FetchPlan, TransferStats};
pub use self::gc::{GcReport, gc};
use self::journal::{JournalEntry, Phase};
use self::needs::require_needs;
use self::plan::plan;
pub use self::plan::{Action, InstallPlan, NewGeneration, Request, RequestedSource};
use self::settle::settle;
use self::source::Source;
pub use self::switch::{SwitchTo, Switched, switch};
use self::takeover::take_over;
pub use self::uninstall::uninstall;
pub use self::verify::verify;
use crate::error::Result;
use crate::event::Event;
use crate::node::Node;
use crate::session::{Handover, Timeouts};
use crate::state::cache::StoreCache;
use crate::state::record::SystemRecord;
use crate::state::{Lock, NodeConfig, now};
use crate::storage::Staging;
use crate::system::SystemName;

/// The result of an install.
#[derive(Debug)]
pub struct Installed {
    /// What there was to do, as it was planned and done.
    pub plan: InstallPlan,
    /// The system's record.
    pub record: SystemRecord,
    /// Where the bytes came from, if any were written.
    pub stats: TransferStats,
    /// What became of a session that runs.
    pub handover: Handover,
}

impl Installed {
    /// Whether anything had to be done.
    pub fn changed(&self) -> bool {
        !matches!(self.plan.action, Action::UpToDate(_))
    }
}

/// Installs a release and makes it the active generation.
pub fn install(node: &Node<'_>, request: &Request) -> Result<Installed> {
    let lock = node.state.lock(&request.system)?;
    journal::recover(node, &lock, &request.system)?;
    let config = node.config()?;
    let mut source = verify_source(node, &lock, &config, request)?;
    let plan = plan(node, &config, request, &mut source)?;
    if !matches!(plan.action, Action::UpToDate(_)) {
        require_needs(node, &request.system, &plan.release.manifest, plan.asks)?;
    }
    let (record, stats) = carry_out(node, &lock, &plan, source)?;
    let handover = take_over(node, &lock, plan.before.as_ref(), &record, request.timeouts)?;
    Ok(Installed {
        plan,
        record,
        stats,
        handover,
    })
}

/// Installs the newest release of an installed system's image that reaches this node: `again` even
/// where it is here, `ahead` of its waves.
pub fn upgrade(
    node: &Node<'_>,
    system: &SystemName,
    timeouts: Option<Timeouts>,
    again: bool,
    ahead: bool,
) -> Result<Installed> {
    let record = node.state.installed(system)?;
    let request = Request {
        source: RequestedSource::Environment(record.image_name),
        system: record.system,
        target: None,
        timeouts,
        again,
        ahead,
    };
    install(node, &request)
}

fn verify_source(
    node: &Node<'_>,
    lock: &Lock,
    config: &NodeConfig,
    request: &Request,
) -> Result<Source> {
    match &request.source {
        RequestedSource::Tarball(path) => Source::tarball(node, config, path),
        RequestedSource::Environment(name) => {
            node.observer.event(Event::Phase(&format!(
                "refreshing the environment {}",
                config.environment
            )));
            let (system, again, ahead) = (&request.system, request.again, request.ahead);
            Source::environment(node, lock, system, config, name, again, ahead)
        }
    }
}

/// Does what the plan says. Returns the system's record, and where the bytes came from.
fn carry_out(
    node: &Node<'_>,
    lock: &Lock,
    plan: &InstallPlan,
    source: Source,
) -> Result<(SystemRecord, TransferStats)> {
    match &plan.action {
        Action::UpToDate(record) => {
            // The record says so; whether schroot agrees is cheap to make sure of.
            node.schroot.register(&record.chroot(), node.observer)?;
            journal::hooks_again(node, &record.system)?;
            if source.is_environment() {
                let undo = format!("to undo that: imgnode upgrade {} --again", record.system);
                local_changes::note(node, record, record.active, &undo);
            }
            Ok((SystemRecord::clone(record), TransferStats::default()))
        }
        Action::Switch(record, number) => {
            let record = activate(node, lock, record, *number, plan.asks)?;
            Ok((record, TransferStats::default()))
        }
        Action::Write(new) => {
            if let Some(before) = &plan.before {
                let lost = format!("generation {} will have none of that", new.number);
                local_changes::note(node, before, before.active, &lost);
            }
            let stats = write(node, lock, plan, new, source)?;
            Ok((node.state.installed(&new.after.system)?, stats))
        }
    }
}

/// Writes a new generation and makes it the active one.
fn write(
    node: &Node<'_>,
    lock: &Lock,
    plan: &InstallPlan,
    new: &NewGeneration,
    source: Source,
) -> Result<TransferStats> {
    journal::transaction(node, lock, plan.journal_entry(new), |entry| {
        node.check_cancelled()?;
        let manifest = &plan.release.manifest;
        let previous = new.fetch.as_ref().and_then(|fetch| fetch.previous);
        let context = node.context(&new.after.system);
        let driver = new.after.target.driver();
        let staging = driver.begin_staging(&context, new.number, previous)?;
        node.observer.event(Event::Phase(&format!(
            "writing {} ({} files, {} MB)",
            manifest.image,
            manifest.entries,
            manifest.size / 1_000_000
        )));
        let before = plan.before.as_ref();
        let (stats, image) = source.fill(node, before, new.fetch.as_ref(), &staging)?;
        let tree = &staging.tree;
        settle(manifest, image.as_ref(), tree, node.observer, node.cancel)?;
        // It may hold the previous generation open.
        drop(image);
        publish(node, lock, plan, new, staging, entry)?;
        StoreCache::new(node.state.store_cache()).trim();
        Ok(stats)
    })
}

/// Makes a checked and synced staging tree a generation, and that the active one.
fn publish(
    node: &Node<'_>,
    lock: &Lock,
    plan: &InstallPlan,
    new: &NewGeneration,
    staging: Staging,
    entry: &mut JournalEntry,
) -> Result<()> {
    let (system, number) = (&new.after.system, new.number);
    staging.tree.close();
    node.check_cancelled()?;
    node.state.keep_manifest(lock, &plan.release.json)?;
    new.after
        .target
        .driver()
        .publish(&node.context(system), number)?;
    let generations = entry.after.as_mut().map(|after| &mut after.generations);
    for generation in generations.into_iter().flatten() {
        if generation.number == number {
            generation.settled = Some(now());
        }
    }
    entry.phase = Phase::Committing;
    journal::write(node, lock, entry)?;
    node.observer.event(Event::Phase(&format!(
        "switching {system} to generation {number}"
    )));
    journal::commit(node, lock, entry)
}
