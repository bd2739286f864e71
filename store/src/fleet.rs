//! The list of an environment's nodes: whose receipts count.
//!
//! One list for each environment, signed by one who may sign its releases. Its version grows with
//! each change, so that a reader who remembers the newest one notices an older. The page of the
//! format is [`crate::format::receipt`].

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::dsse::Envelope;
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::keys::{PublicKey, Signer};
use crate::name::{EnvName, NodeName};
use crate::receipt::{Enrolment, whole_seconds};

/// The type of the payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.imgbuild.fleet+json";

/// The folder of the lists.
pub const FOLDER: &str = "fleet";

/// The longest list that is read.
pub const MAX_BYTES: u64 = 32 << 20;

/// The most nodes of a list, and the most that it says were removed.
pub const MAX_NODES: usize = 50_000;

/// The version of the format.
const SCHEMA: u32 = 1;

/// The nodes of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The version of the format.
    schema: u32,
    /// The environment.
    pub environment: EnvName,
    /// The digest of its first root.
    pub root: Sha256,
    /// Which list it is: each has a higher one than the list that it replaces.
    pub version: u64,
    /// When it was made.
    pub time: Timestamp,
    /// The nodes, by name.
    pub nodes: Vec<Node>,
    /// The nodes that were removed, by name.
    pub removed: Vec<Removed>,
}

/// A node whose receipts count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// What it is called.
    pub name: NodeName,
    /// The group that it is in.
    pub group: NodeName,
    /// The public key of its receipts, in hexadecimal.
    key: String,
    /// When it was enrolled.
    pub added: Timestamp,
}

/// A node whose receipts counted once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// What it was called.
    pub name: NodeName,
    /// The public key of its receipts, in hexadecimal.
    key: String,
    /// When it was removed.
    pub removed: Timestamp,
}

impl Node {
    /// The key that its receipts are signed with.
    ///
    /// # Panics
    /// Never for a list that was read or changed here.
    pub fn key(&self) -> PublicKey {
        self.key.parse().expect("a checked list has keys")
    }
}

impl Fleet {
    /// A list without nodes, that nobody has published yet.
    pub fn new(environment: EnvName, root: Sha256) -> Self {
        Self {
            schema: SCHEMA,
            environment,
            root,
            version: 0,
            time: Timestamp::UNIX_EPOCH,
            nodes: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// The name of the object that the list of an environment is in. For a moment, and where a
    /// writer was killed, the newest one is a later version, in an object of its own.
    pub fn object(environment: &EnvName) -> String {
        format!("{FOLDER}/{environment}.json")
    }

    /// The folder of all versions.
    pub fn versions(environment: &EnvName) -> String {
        format!("{FOLDER}/{environment}")
    }

    /// The name of the object of one version, which is put once.
    pub fn version_object(environment: &EnvName, version: u64) -> String {
        format!("{FOLDER}/{environment}/{version}.json")
    }

    /// The node of that name.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        let found = self.nodes.binary_search_by(|node| node.name.cmp(name));
        found.ok().map(|at| &self.nodes[at])
    }

    /// Adds a node, or gives one another group or key; false if it is there like this. A name that
    /// is taken gets another key only with `replaces`.
    pub fn enrol(&mut self, new: &Enrolment, replaces: bool, now: Timestamp) -> Result<bool> {
        let key = new.key.hex();
        let refuse = |text: String| Err(Error::new(ErrorKind::Invalid, text));
        let mut others = self.nodes.iter().filter(|node| node.name != new.name);
        if let Some(other) = others.find(|node| node.key == key) {
            return refuse(format!(
                "{} has the key of {}: each node has a key of its own",
                new.name, other.name
            ));
        }
        let node = Node {
            name: new.name.clone(),
            group: new.group.clone(),
            key,
            added: whole_seconds(now),
        };
        match self.nodes.binary_search_by(|one| one.name.cmp(&new.name)) {
            Ok(at) if self.nodes[at].key != node.key && !replaces => {
                refuse(format!("{} is enrolled with another key", new.name))
            }
            Ok(at) if self.nodes[at].key == node.key && self.nodes[at].group == node.group => {
                Ok(false)
            }
            Ok(at) => {
                if self.nodes[at].key != node.key {
                    let old = self.nodes[at].clone();
                    self.note_removal(&old, now);
                }
                self.nodes[at] = node;
                Ok(true)
            }
            Err(at) => {
                self.nodes.insert(at, node);
                Ok(true)
            }
        }
    }

    /// Takes a node off the list; false if it is not on it.
    pub fn remove(&mut self, name: &NodeName, now: Timestamp) -> bool {
        let Ok(at) = self.nodes.binary_search_by(|node| node.name.cmp(name)) else {
            return false;
        };
        let old = self.nodes.remove(at);
        self.note_removal(&old, now);
        true
    }

    fn note_removal(&mut self, old: &Node, now: Timestamp) {
        self.removed.push(Removed {
            name: old.name.clone(),
            key: old.key.clone(),
            removed: whole_seconds(now),
        });
        self.removed
            .sort_by(|a, b| (&a.name, a.removed).cmp(&(&b.name, b.removed)));
    }

    /// Signs the list as the next version.
    pub fn sign(&mut self, key: &dyn Signer, now: Timestamp) -> Result<Vec<u8>> {
        self.version += 1;
        self.time = whole_seconds(now);
        let unwritable = |why: String| {
            let text = format!(
                "the list of nodes of {} cannot be written: {why}",
                self.environment
            );
            Error::new(ErrorKind::Invalid, text)
        };
        self.check().map_err(unwritable)?;
        let mut envelope = Envelope::new(PAYLOAD_TYPE, self.to_json());
        envelope.sign(key).map_err(|e| unwritable(e.to_string()))?;
        let bytes = envelope.to_json();
        if bytes.len() as u64 > MAX_BYTES {
            return Err(unwritable(format!(
                "it would have more than {MAX_BYTES} bytes"
            )));
        }
        Ok(bytes)
    }

    /// Reads the list of an environment, which one of these keys has to have signed. Which it was is
    /// said with it.
    pub fn read(
        bytes: &[u8],
        environment: &EnvName,
        root: &Sha256,
        keys: &[PublicKey],
    ) -> Result<(Self, PublicKey)> {
        let wrong = |why: &dyn fmt::Display| {
            Error::corrupt(format_args!("the list of nodes of {environment}"), why)
        };
        let envelope = Envelope::from_json_up_to(bytes, MAX_BYTES).map_err(|e| wrong(&e))?;
        let Some(signer) = envelope.signers(keys).into_iter().next() else {
            return Err(wrong(&"nobody who signs its releases has signed it"));
        };
        let list = Self::parse(&envelope, bytes).map_err(|why| wrong(&why))?;
        if list.environment != *environment || list.root != *root {
            return Err(wrong(&format_args!(
                "it is of the environment {} with the first root {}",
                list.environment, list.root
            )));
        }
        Ok((list, signer))
    }

    fn parse(envelope: &Envelope, bytes: &[u8]) -> Result<Self, String> {
        if envelope.kind() != PAYLOAD_TYPE || envelope.keyids().count() != 1 {
            return Err("it is something else".to_owned());
        }
        let value = json::parse(envelope.payload()).map_err(|e| e.to_string())?;
        let list: Self = serde_json::from_value(value).map_err(|e| e.to_string())?;
        list.check()?;
        if list.to_json() != envelope.payload() || envelope.to_json() != bytes {
            return Err("it is not written as such lists are".to_owned());
        }
        Ok(list)
    }

    /// The payload of a list encoded again, in the same envelope; no signature is looked at.
    #[cfg(feature = "fuzz")]
    pub(crate) fn encoded_again(bytes: &[u8]) -> Option<Vec<u8>> {
        let envelope = Envelope::from_json_up_to(bytes, MAX_BYTES).ok()?;
        let list = Self::parse(&envelope, bytes).ok()?;
        Some(envelope.with_payload(list.to_json()).to_json())
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a list has a JSON form")
    }

    /// Says what is against the format.
    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA || self.version == 0 {
            return Err(format!(
                "its schema is {}, its version {}",
                self.schema, self.version
            ));
        }
        if self.nodes.len() > MAX_NODES || self.removed.len() > MAX_NODES {
            return Err(format!("it has more than {MAX_NODES} nodes"));
        }
        let removed = |a: &Removed, b: &Removed| (&a.name, a.removed) <= (&b.name, b.removed);
        let sorted = self.nodes.is_sorted_by(|a, b| a.name < b.name);
        if !sorted || !self.removed.is_sorted_by(removed) {
            return Err("its nodes are not in the order of their names".to_owned());
        }
        let mut keys = BTreeSet::new();
        for node in &self.nodes {
            if !is_key(&node.key) || !keys.insert(&node.key) {
                return Err(format!("{} has no key of its own", node.name));
            }
        }
        match self.removed.iter().find(|one| !is_key(&one.key)) {
            Some(one) => Err(format!("{} had no key", one.name)),
            None => Ok(()),
        }
    }
}

/// Whether this is a key in the one way in which it is written.
fn is_key(text: &str) -> bool {
    text.parse::<PublicKey>().is_ok_and(|key| key.hex() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyPair;

    fn enrolment(name: &str, key: &PublicKey) -> Enrolment {
        Enrolment {
            name: name.parse().unwrap(),
            group: "eu".parse().unwrap(),
            key: *key,
        }
    }

    #[test]
    fn a_list_is_of_one_environment_and_grows() {
        let now = Timestamp::from_second(1_795_406_400).unwrap();
        let [ann, web, api] = [(); 3].map(|()| KeyPair::generate().unwrap());
        let (prod, root) = ("prod".parse::<EnvName>().unwrap(), Sha256::of(b"root"));
        let mut list = Fleet::new(prod.clone(), root);
        assert!(
            list.enrol(&enrolment("web", &web.public()), false, now)
                .unwrap()
        );
        assert!(
            !list
                .enrol(&enrolment("web", &web.public()), false, now)
                .unwrap()
        );
        // One key is one node's, and a name keeps its key.
        list.enrol(&enrolment("api", &web.public()), false, now)
            .unwrap_err();
        list.enrol(&enrolment("web", &api.public()), false, now)
            .unwrap_err();
        assert!(
            list.enrol(&enrolment("api", &api.public()), false, now)
                .unwrap()
        );
        let bytes = list.sign(&ann, now).unwrap();
        let keys = [ann.public()];
        let (read, signer) = Fleet::read(&bytes, &prod, &root, &keys).unwrap();
        assert_eq!((&read, signer, read.version), (&list, ann.public(), 1));
        assert_eq!(
            read.node(&"web".parse().unwrap()).unwrap().key(),
            web.public()
        );
        // By nobody who counts, of another environment, or of another of that name.
        for (env, root, key) in [
            ("prod", b"root", web.public()),
            ("dev", b"root", ann.public()),
            ("prod", b"toor", ann.public()),
        ] {
            let read = Fleet::read(&bytes, &env.parse().unwrap(), &Sha256::of(root), &[key]);
            read.unwrap_err();
        }
        let mut other = read;
        assert!(other.remove(&"web".parse().unwrap(), now));
        assert!(!other.remove(&"web".parse().unwrap(), now));
        let next = Fleet::read(&other.sign(&ann, now).unwrap(), &prod, &root, &keys).unwrap();
        assert_eq!(
            (next.0.version, next.0.nodes.len(), next.0.removed.len()),
            (2, 1, 1)
        );
    }
}
