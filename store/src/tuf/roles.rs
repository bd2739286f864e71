//! The keys of an environment: which roles they sign for, and the ones at hand.

use std::path::Path;

use super::error::Result;
use crate::keys::{KeyFile, PublicKey, Signer};
use crate::name::EnvName;

/// The three groups of keys of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyGroup {
    /// Decides about keys and policy; offline.
    Root,
    /// Signs releases.
    Targets,
    /// Signs snapshots and timestamps; online.
    Online,
}

impl KeyGroup {
    /// The TUF roles that the group signs for.
    pub(super) fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Root => &["root"],
            Self::Targets => &["targets"],
            Self::Online => &["snapshot", "timestamp"],
        }
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Online => "online",
        }
    }
}

/// The keys of a group, and how many of them it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many signatures it takes.
    pub threshold: u64,
}

/// One signer per key of an environment: root, targets, and the online key
/// that signs snapshots and timestamps.
pub struct RoleKeys {
    /// Only needed to make an environment and to change or renew its root, and
    /// best kept elsewhere in between.
    pub root: Option<Box<dyn Signer>>,
    /// Signs releases.
    pub targets: Box<dyn Signer>,
    /// Signs snapshots and timestamps.
    pub online: Box<dyn Signer>,
}

impl RoleKeys {
    /// Loads `DIR/ENV.root.pem` (which may be absent), `DIR/ENV.targets.pem`
    /// and `DIR/ENV.online.pem`.
    pub fn load(directory: &Path, env: &EnvName) -> Result<Self> {
        let [root, targets, online] = files(directory, env);
        Ok(Self {
            root: if root.exists() {
                Some(Box::new(root.load()?))
            } else {
                None
            },
            targets: Box::new(targets.load()?),
            online: Box::new(online.load()?),
        })
    }

    /// Makes the three key files. None may exist: keys are never overwritten.
    pub fn generate(directory: &Path, env: &EnvName) -> Result<Self> {
        let [root, targets, online] = files(directory, env);
        Ok(Self {
            root: Some(Box::new(root.create()?)),
            targets: Box::new(targets.create()?),
            online: Box::new(online.create()?),
        })
    }

    /// Loads the key files that exist and makes those that do not: what is
    /// wanted before [`Environment::init`], where an earlier attempt may have
    /// been killed half-way. For an environment that exists use
    /// [`load`](Self::load): a new key would mean nothing there.
    ///
    /// [`Environment::init`]: super::Environment::init
    pub fn load_or_generate(directory: &Path, env: &EnvName) -> Result<Self> {
        let one =
            |file: KeyFile| -> Result<Box<dyn Signer>> { Ok(Box::new(file.load_or_create()?)) };
        let [root, targets, online] = files(directory, env);
        Ok(Self {
            root: Some(one(root)?),
            targets: one(targets)?,
            online: one(online)?,
        })
    }
}

/// The keys in hand, by what they are for; several of each.
#[derive(Clone, Default)]
pub struct Signers<'k> {
    /// Root keys; may be none.
    pub root: Vec<&'k dyn Signer>,
    /// Keys that sign releases.
    pub targets: Vec<&'k dyn Signer>,
    /// Keys that sign snapshots and timestamps.
    pub online: Vec<&'k dyn Signer>,
}

impl<'k> From<&'k RoleKeys> for Signers<'k> {
    fn from(keys: &'k RoleKeys) -> Self {
        Self {
            root: keys.root.as_deref().into_iter().collect(),
            targets: vec![&*keys.targets],
            online: vec![&*keys.online],
        }
    }
}

/// Shows the key ids and nothing else.
impl std::fmt::Debug for RoleKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleKeys")
            .field("root", &self.root.as_ref().map(|key| key.public().id()))
            .field("targets", &self.targets.public().id())
            .field("online", &self.online.public().id())
            .finish()
    }
}

fn files(directory: &Path, env: &EnvName) -> [KeyFile; 3] {
    ["root", "targets", "online"]
        .map(|role| KeyFile::at(directory.join(format!("{env}.{role}.pem"))))
}
