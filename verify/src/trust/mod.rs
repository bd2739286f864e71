//! What this node believes, and from where: the TUF client on the node's own directories.
//!
//! The clock is read here and nowhere deeper. The environment's files lie below `env/NAME/` of the
//! same store that holds the images.

pub mod allowed;
pub mod tuf;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use serde::Deserialize;
use store::key::PublicKey;
use store::{Access, ImageId, ImageName, Store};

use self::tuf::{Class, Client, ErrorKind as Reason};
use crate::atomic_file;
use crate::error::{Context, Error, Kind, Result};
use crate::node::Node;
use crate::state::NodeConfig;
use crate::state::cache::Kept;

pub use self::tuf::Verified;

/// Opens the store of this node. Of a far one the node keeps what it will need again.
pub fn store(node: &Node<'_>, config: &NodeConfig) -> Result<Store> {
    let access = Access::from_environment(&|name| std::env::var(name).ok())?;
    let store = Store::open(config.repository.open(&access)?)?;
    if store.backend().is_far() {
        return Ok(store.with_cache(Arc::new(Kept::new(node.state.kept()))));
    }
    Ok(store)
}

/// Starts to follow an environment from a root file, and reads its metadata once.
pub fn init(node: &Node<'_>, config: &NodeConfig, root: &[u8]) -> Result<()> {
    let store = store(node, config)?;
    let mut client = Client::init(&node.state.trust(), root, &config.environment)?;
    client.refresh(store.backend(), Timestamp::now())?;
    Ok(())
}

/// Whether this node trusts anybody.
pub fn is_there(node: &Node<'_>) -> bool {
    node.state.trust().join("root.json").exists()
}

/// Forgets all trust, so that `init` can start again.
pub fn reset(node: &Node<'_>) -> Result<()> {
    if node.state.trust().exists() {
        Client::reset(&node.state.trust())?;
    }
    Ok(())
}

/// Why a release may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// In words.
    pub why: String,
    /// Whether its image was revoked: then it may not be started either.
    pub revoked: bool,
}

impl Bar {
    /// For what stays as it is but is not gone back to.
    pub fn to_return(why: String) -> Self {
        Self {
            why,
            revoked: false,
        }
    }
}

/// An environment whose newest metadata was verified a moment ago.
pub struct Asked {
    client: Client,
    store: Store,
}

/// Fetches and verifies the newest metadata of the environment.
pub fn ask(node: &Node<'_>, config: &NodeConfig) -> Result<Asked> {
    let store = store(node, config)?;
    let mut client = client(node, config)?;
    client.refresh(store.backend(), Timestamp::now())?;
    Ok(Asked { client, store })
}

/// The same; an environment that cannot be reached, or has nothing to say that did not run out, is
/// no error but the reason for that. What is there and wrong is refused.
pub fn ask_if_it_answers(node: &Node<'_>, config: &NodeConfig) -> Result<Result<Asked, Error>> {
    let store = match store(node, config) {
        Ok(store) => store,
        Err(error) => return Ok(Err(error)),
    };
    let mut client = client(node, config)?;
    match client.refresh(store.backend(), Timestamp::now()) {
        Ok(()) => Ok(Ok(Asked { client, store })),
        Err(error) if error.kind() == Reason::Expired || error.class() == Class::Failed => {
            Ok(Err(error.into()))
        }
        Err(error) => Err(error.into()),
    }
}

impl Asked {
    /// The newest release of an image.
    pub fn newest(&self, name: &ImageName) -> Result<Verified> {
        Ok(self.client.release(self.store.backend(), name)?)
    }

    /// Why one release may not run; nothing if it may.
    pub fn bar(&self, name: &ImageName, seq: u64, image: &ImageId) -> Result<Option<Bar>> {
        match self.client.allowed(name, seq) {
            Ok(released) if released == *image => Ok(None),
            Ok(_) => Ok(Some(Bar::to_return(format!(
                "release {seq} of {name} is another image"
            )))),
            Err(error) => match error.kind() {
                kind @ (Reason::Revoked | Reason::TooOld | Reason::NoRelease) => Ok(Some(Bar {
                    why: error.to_string(),
                    revoked: kind == Reason::Revoked,
                })),
                _ => Err(Error::from(error)),
            },
        }
    }
}

/// The keys that sign releases of the environment, by the root this node trusts, and how many of
/// them it takes.
pub fn targets_keys(node: &Node<'_>) -> Result<(Vec<PublicKey>, u64)> {
    #[derive(Deserialize)]
    struct File {
        signed: Root,
    }
    #[derive(Deserialize)]
    struct Root {
        keys: BTreeMap<String, Key>,
        roles: BTreeMap<String, Role>,
    }
    #[derive(Deserialize)]
    struct Key {
        keyval: Value,
    }
    #[derive(Deserialize)]
    struct Value {
        public: String,
    }
    #[derive(Deserialize)]
    struct Role {
        keyids: Vec<String>,
        threshold: u64,
    }
    let path = node.state.trust().join("root.json");
    let damaged = || {
        Error::failed(format!("{} names no keys for targets", path.display()))
            .hint("imgnode init --reset")
    };
    let root = atomic_file::read_json::<File>(&path)?
        .ok_or_else(damaged)?
        .signed;
    let role = root.roles.get("targets").ok_or_else(damaged)?;
    let keys = role.keyids.iter().filter_map(|id| root.keys.get(id));
    let keys = keys.filter_map(|key| key.keyval.public.parse().ok());
    Ok((keys.collect(), role.threshold))
}

fn client(node: &Node<'_>, config: &NodeConfig) -> Result<Client> {
    let client = Client::open(&node.state.trust())?;
    if *client.env() != config.environment {
        return Err(Error::refused(format!(
            "{} holds the trust of another environment",
            node.state.trust().display()
        ))
        .cause(format!(
            "it is {}, this node follows {}",
            client.env(),
            config.environment
        ))
        .hint("imgnode init --reset"));
    }
    Ok(client)
}

/// When the metadata was last refreshed, in seconds since 1970.
pub fn refreshed(node: &Node<'_>) -> Result<Option<u64>> {
    // The floor is rewritten by every refresh, and by nothing else.
    let path = node.state.trust().join("floor");
    let modified = match fs::metadata(&path).and_then(|found| found.modified()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        modified => modified.context(|| format!("cannot look at {}", path.display()))?,
    };
    Ok(modified
        .duration_since(UNIX_EPOCH)
        .ok()
        .map(|since| since.as_secs()))
}

impl From<tuf::Error> for Error {
    fn from(error: tuf::Error) -> Self {
        let kind = match error.class() {
            Class::Refused => Kind::Refused,
            Class::Failed => Kind::Failed,
            Class::Busy => Kind::Busy,
        };
        with_hint(Self::new(kind, error.to_string()), &error, error.hint())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        use store::ErrorKind as E;
        let kind = match error.kind() {
            // A store that lacks or garbles what was signed is not to be believed.
            E::Corrupt | E::Missing | E::NotCanonical | E::Foreign => Kind::Refused,
            E::Busy => Kind::Busy,
            E::Invalid | E::Ambiguous => Kind::Usage,
            _ => Kind::Failed,
        };
        // Its general hints are for those who write stores.
        let hint = error
            .own_hint()
            .or((kind == Kind::Refused).then_some("the store is damaged; nothing of it was used"));
        with_hint(Self::new(kind, error.to_string()), &error, hint)
    }
}

fn with_hint(own: Error, error: &dyn std::error::Error, hint: Option<&str>) -> Error {
    let mut own = own;
    let mut next = error.source();
    while let Some(cause) = next {
        own = own.cause(cause.to_string());
        next = cause.source();
    }
    match hint {
        Some(hint) => own.hint(hint),
        None => own,
    }
}
