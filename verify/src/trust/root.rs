//! The root of trust: where following an environment begins and ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::Sha256;
use store::keys::PublicKey;

use super::tuf::Client;
use crate::atomic_file;
use crate::error::{Context, Error, Result};
use crate::node::Node;
use crate::state::NodeConfig;

/// Starts to follow an environment from a root file, and reads its metadata once.
pub fn follow(node: &Node<'_>, config: &NodeConfig, root: &[u8]) -> Result<()> {
    let store = node.store(config)?;
    let mut client = Client::init(&node.state.trust(), root, &config.environment)?;
    client.refresh(store.backend(), Timestamp::now())?;
    Ok(())
}

/// Whether this node has a root of trust.
pub fn is_there(node: &Node<'_>) -> bool {
    node.state.trust().join("root.json").exists()
}

/// Forgets all trusted metadata, so that [`follow`] can start again.
pub fn forget(node: &Node<'_>) -> Result<()> {
    if node.state.trust().exists() {
        Client::reset(&node.state.trust())?;
    }
    Ok(())
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

/// When the metadata was last refreshed, in seconds since 1970.
pub fn last_refresh(node: &Node<'_>) -> Result<Option<u64>> {
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

/// What the newest trusted metadata says of itself.
#[derive(Clone, Debug)]
pub struct TrustedMetadata {
    /// When what is trusted first runs out, and which file that is; nothing before the first refresh.
    pub expires: Option<(Timestamp, &'static str)>,
    /// Where the environment's log ends: what other nodes must see too.
    pub log: Option<LogEnd>,
    /// The list of releases.
    pub targets: Option<TargetsFile>,
}

/// Which list of releases a node has.
#[derive(Clone, Debug, Serialize)]
pub struct TargetsFile {
    /// Its version.
    pub version: u64,
    /// The digest of the file.
    pub sha256: Sha256,
}

/// Where the log of an environment ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogEnd {
    /// How many entries there are.
    pub length: u64,
    /// The digest of the last.
    pub sha256: Sha256,
}

/// Reads what the trusted metadata says of itself. It was verified before it was kept.
pub fn trusted_metadata(node: &Node<'_>) -> TrustedMetadata {
    #[derive(Deserialize)]
    struct File {
        signed: Signed,
    }
    #[derive(Deserialize)]
    struct Signed {
        version: u64,
        expires: Timestamp,
        #[serde(rename = "x-imgbuild-log")]
        log: Option<LogEnd>,
    }
    let (mut expires, mut log, mut targets) = (None, None, None);
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let path = node.state.trust().join(role).with_extension("json");
        // A file that is damaged is said by whoever works with it.
        if let Ok(Some(File { signed })) = atomic_file::read_json(&path) {
            expires = expires.into_iter().chain([(signed.expires, role)]).min();
            log = signed.log.or(log);
            if let ("targets", Ok(bytes)) = (role, fs::read(&path)) {
                targets = Some(TargetsFile {
                    version: signed.version,
                    sha256: Sha256::of(&bytes),
                });
            }
        }
    }
    TrustedMetadata {
        expires,
        log,
        targets,
    }
}
