//! A verified release, and where its content comes from.

use store::{Image, Store};

use super::fetch::{self, FetchPlan, TransferStats};
use super::tarball::Tarball;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::node::Node;
use crate::state::record::SystemRecord;
use crate::state::{Lock, NodeConfig};
use crate::storage::Staging;
use crate::system::SystemName;
use crate::trust::{self, Asker, Held, VerifiedRelease, allowed};

/// A verified release with its content.
pub(super) struct Source {
    /// The release and its signed manifest.
    pub(super) release: VerifiedRelease,
    /// The newest release of the environment, where that has not reached this node.
    pub(super) held: Option<Held>,
    content: Content,
}

/// Where the content is.
enum Content {
    /// In the store of this node, which is opened when a new generation is planned.
    Store(Option<Store>),
    /// In a tarball that was carried here.
    Tarball(Box<Tarball>),
}

impl Source {
    /// Verifies an exported tarball. Nothing is written.
    pub(super) fn tarball(
        node: &Node<'_>,
        config: &NodeConfig,
        path: &std::path::Path,
    ) -> Result<Self> {
        let (tarball, release) = Tarball::verify(node, config, path)?;
        Ok(Self {
            release,
            held: None,
            content: Content::Tarball(Box::new(tarball)),
        })
    }

    /// Verifies the newest release of an image in the environment that reaches this node.
    pub(super) fn environment(
        node: &Node<'_>,
        lock: &Lock,
        system: &SystemName,
        config: &NodeConfig,
        name: &store::name::ImageName,
        again: bool,
        ahead: bool,
    ) -> Result<Self> {
        let environment = trust::refresh(node, config)?;
        // What it says of the generations that are here counts, whatever becomes of the new one.
        allowed::remember(node, lock, system, config, &environment)?;
        let record = node.state.system(system)?;
        let active = record.as_ref().map(SystemRecord::active);
        let active = active.filter(|one| one.environment == config.environment);
        let names = node.state.names()?.or_machine();
        let asker = Asker {
            node: names.as_member(),
            has: active.map(|one| (one.seq, one.image)),
            ahead,
        };
        let record = record.as_ref().filter(|_| !again);
        let known = |seq, image: &store::ImageId| {
            let mut here = record.iter().flat_map(|record| &record.generations);
            let here = here.find(|one| {
                (one.seq, &one.image) == (seq, image) && one.environment == config.environment
            })?;
            let (_, json) = node.state.manifest_with_json(here.manifest).ok()?;
            Some(json)
        };
        let (release, held) = environment.release_for(name, asker, &known)?;
        if let Some(held) = &held {
            node.observer.event(Event::Note(&held.to_string()));
        }
        Ok(Self {
            release,
            held,
            content: Content::Store(None),
        })
    }

    /// Whether the release is the environment's newest one.
    pub(super) fn is_environment(&self) -> bool {
        matches!(self.content, Content::Store(_))
    }

    /// Plans how the content comes here; `None` for a tarball, which is here.
    pub(super) fn plan_fetch(
        &mut self,
        node: &Node<'_>,
        config: &NodeConfig,
        before: Option<&SystemRecord>,
    ) -> Result<Option<FetchPlan>> {
        let Content::Store(opened) = &mut self.content else {
            return Ok(None);
        };
        let store = opened.insert(node.store(config)?);
        FetchPlan::choose(node, store, &self.release.manifest, before).map(Some)
    }

    /// Fills a staging tree with the content. Where it came from a store, its image comes with it.
    pub(super) fn fill(
        self,
        node: &Node<'_>,
        before: Option<&SystemRecord>,
        plan: Option<&FetchPlan>,
        staging: &Staging,
    ) -> Result<(TransferStats, Option<Image>)> {
        let manifest = &self.release.manifest;
        match (self.content, plan) {
            (Content::Tarball(tarball), _) => {
                let stats = tarball.unpack(node, manifest, staging)?;
                Ok((stats, None))
            }
            (Content::Store(Some(store)), Some(plan)) => {
                let (stats, image) = fetch::fetch(node, &store, manifest, before, plan, staging)?;
                Ok((stats, Some(image)))
            }
            (Content::Store(_), _) => Err(Error::failed("the plan does not say what to fetch")),
        }
    }
}
