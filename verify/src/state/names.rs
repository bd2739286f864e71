//! What this node is called, and the group that it is in.
//!
//! Receipts say both, and the waves of a release cover nodes by them. Where receipts are set up, their
//! settings have them, as in earlier versions; otherwise `names.json` has what was set.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::name::{NodeName, ParseNameError};
use store::tuf::waves::Member;

use super::directory::State;
use super::lock::Lock;
use crate::atomic_file::{self, SCHEMA, check_schema};
use crate::error::Result;

/// The name and the group of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeNames {
    /// Its name; without, that of the machine.
    pub name: Option<NodeName>,
    /// The group that somebody has put it into.
    pub group: Option<NodeName>,
}

/// What `names.json` has.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The version of this file.
    schema: u32,
    name: Option<NodeName>,
    group: Option<NodeName>,
}

/// What the settings of receipts say of names; the rest is the business of others.
#[derive(Deserialize)]
struct OfReceipts {
    node: NodeName,
    group: NodeName,
}

impl NodeNames {
    /// The node as stages know it.
    pub fn as_member(&self) -> Member<'_> {
        Member {
            name: self.name.as_ref(),
            group: self.group.as_ref(),
        }
    }

    /// Takes the name of the machine where no other was set.
    #[must_use]
    pub fn or_machine(mut self) -> Self {
        self.name = self.name.or_else(|| machine_name().ok());
        self
    }
}

impl State {
    /// The file with the settings of receipts.
    pub fn receipts_settings(&self) -> PathBuf {
        self.receipts().join("settings.json")
    }

    fn names_file(&self) -> PathBuf {
        self.root().join("names.json")
    }

    /// What this node is called; nothing where nobody has said so.
    pub fn names(&self) -> Result<NodeNames> {
        if let Some(found) = atomic_file::read_json::<OfReceipts>(&self.receipts_settings())? {
            return Ok(NodeNames {
                name: Some(found.node),
                group: Some(found.group),
            });
        }
        let path = self.names_file();
        let Some(found) = atomic_file::read_json::<Written>(&path)? else {
            return Ok(NodeNames::default());
        };
        check_schema(&path, found.schema)?;
        Ok(NodeNames {
            name: found.name,
            group: found.group,
        })
    }

    /// Notes what this node is called while it has no settings of receipts.
    pub fn set_names(&self, _: &Lock, names: &NodeNames) -> Result<()> {
        let written = Written {
            schema: SCHEMA,
            name: names.name.clone(),
            group: names.group.clone(),
        };
        atomic_file::write_json(&self.names_file(), &written)
    }
}

/// The name of this machine, if a node can have it.
pub fn machine_name() -> Result<NodeName, ParseNameError> {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().to_lowercase().parse()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(name: &str, group: &str) -> NodeNames {
        NodeNames {
            name: name.parse().ok(),
            group: group.parse().ok(),
        }
    }

    #[test]
    fn names_are_kept_and_those_of_receipts_count() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path().join("state"));
        assert_eq!(state.names().unwrap(), NodeNames::default());
        let lock = state.lock_node().unwrap();
        for one in [names("", "canary"), names("web07", "eu")] {
            state.set_names(&lock, &one).unwrap();
            assert_eq!(state.names().unwrap(), one);
        }
        // As an earlier version wrote them.
        fs::create_dir(state.receipts()).unwrap();
        let old = r#"{"schema": 1, "to": "/srv/receipts", "node": "web08", "group": "us"}"#;
        fs::write(state.receipts_settings(), old).unwrap();
        assert_eq!(state.names().unwrap(), names("web08", "us"));
        fs::remove_file(state.receipts_settings()).unwrap();
        assert_eq!(state.names().unwrap(), names("web07", "eu"));
        fs::write(
            state.names_file(),
            r#"{"schema": 1, "name": "A b", "group": null}"#,
        )
        .unwrap();
        assert!(state.names().is_err());
    }

    #[test]
    fn the_machine_names_a_node_that_nobody_has_named() {
        let named = NodeNames::default().or_machine();
        assert_eq!(named.name, machine_name().ok());
        let own = names("web07", "").or_machine();
        assert_eq!(own, names("web07", ""));
    }
}
