//! Where the receipts of this node go, what it is called in them, and its key.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::StoreUrl;
use store::keys::{self, KeyFile, KeyPair, Signer};
use store::name::NodeName;
use store::receipt::Enrolment;

use super::spool;
use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::{Error, Kind, Result};
use crate::node::Node;
use crate::state::{NodeNames, machine_name};

/// The group of a node that nobody has put into one.
const GROUP: &str = "default";

/// Where receipts go, and in whose name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The version of this file.
    schema: u32,
    /// The folder that they are put into, with the password if its address has one.
    pub to: StoreUrl,
    /// What this node is called.
    pub node: NodeName,
    /// The group that it is in.
    pub group: NodeName,
}

fn file(node: &Node<'_>) -> PathBuf {
    node.state.receipts_settings()
}

fn key_file(node: &Node<'_>) -> KeyFile {
    KeyFile::at(node.state.receipts().join("key.pem"))
}

/// Where receipts go; `None` where nobody has said so.
pub fn settings(node: &Node<'_>) -> Result<Option<Settings>> {
    let path = file(node);
    let found: Option<Settings> = atomic_file::read_json(&path)?;
    if let Some(found) = &found {
        check_schema(&path, found.schema)?;
    }
    Ok(found)
}

/// The settings of a node that must have some.
pub(super) fn required(node: &Node<'_>) -> Result<Settings> {
    settings(node)?.ok_or_else(|| {
        Error::usage("this node writes no receipts").hint("imgnode receipts set PATH|URL")
    })
}

/// Sets where receipts go from now on. Names that are left out stay as they are, or are those of the
/// machine.
pub fn set(
    node: &Node<'_>,
    to: StoreUrl,
    name: Option<NodeName>,
    group: Option<NodeName>,
) -> Result<Settings> {
    let before = node.state.names()?;
    let name = match name.or(before.name) {
        Some(name) => name,
        None => machine()?,
    };
    let group = match group.or(before.group) {
        Some(group) => group,
        None => GROUP
            .parse()
            .map_err(|e| Error::failed("no group").source(&e))?,
    };
    let settings = Settings {
        schema: SCHEMA,
        to,
        node: name,
        group,
    };
    atomic_file::create_directory(&node.state.receipts(), 0o700)?;
    key(node)?;
    atomic_file::write_json(&file(node), &settings)?;
    Ok(settings)
}

/// Ends receipts. The key stays, and so do the names: with both it can go on.
pub fn forget(node: &Node<'_>) -> Result<()> {
    if let Some(old) = settings(node)? {
        let names = NodeNames {
            name: Some(old.node),
            group: Some(old.group),
        };
        let lock = node.state.lock_node()?;
        node.state.set_names(&lock, &names)?;
    }
    atomic_file::remove(&file(node))
}

/// Sets what this node is called from now on, in its receipts and for the waves of releases. Names
/// that are left out stay as they are.
pub fn rename(
    node: &Node<'_>,
    name: Option<NodeName>,
    group: Option<NodeName>,
) -> Result<NodeNames> {
    if let Some(old) = settings(node)? {
        set(node, old.to, name, group)?;
        return node.state.names();
    }
    let lock = node.state.lock_node()?;
    let before = node.state.names()?;
    let names = NodeNames {
        name: name.or(before.name),
        group: group.or(before.group),
    };
    node.state.set_names(&lock, &names)?;
    Ok(names)
}

/// What enrols this node, under these names from now on. Its key is made where there is none.
pub fn enrolment(
    node: &Node<'_>,
    name: Option<NodeName>,
    group: Option<NodeName>,
) -> Result<Enrolment> {
    let mut settings = required(node)?;
    if name.is_some() || group.is_some() {
        settings = set(node, settings.to, name, group)?;
    }
    Ok(Enrolment {
        name: settings.node,
        group: settings.group,
        key: key(node)?.public(),
    })
}

/// Makes another key, whose receipts count from 1 again. What waits to be sent is forgotten.
pub fn new_key(node: &Node<'_>) -> Result<()> {
    required(node)?;
    let _alone = spool::lock(node)?;
    spool::forget(node)?;
    let old = node.state.receipts();
    for name in ["key.pem", "key.pub"] {
        atomic_file::remove(&old.join(name))?;
    }
    key(node).map(|_| ())
}

/// The key of this node, made at first use together with the memory of what was signed with it.
pub(super) fn key(node: &Node<'_>) -> Result<KeyPair> {
    let file = key_file(node);
    if !file.exists() {
        spool::begin(node)?;
    }
    file.load_or_create().map_err(|error| {
        let kind = match error.kind() {
            keys::ErrorKind::Permissions => Kind::Refused,
            _ => Kind::Failed,
        };
        Error::new(kind, error.to_string()).sources_of(&error, error.hint())
    })
}

/// The name of this machine.
fn machine() -> Result<NodeName> {
    machine_name().map_err(|error| {
        Error::usage("this machine has no name that a node can have")
            .source(&error)
            .hint("name it with --name NAME")
    })
}
