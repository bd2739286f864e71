//! An environment in memory, with the keys of everybody.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use store::backend::Backend;
use store::digest::Sha256;
use store::json::canonical;
use store::keys::{KeyPair, Signer};

pub(super) const ROLES: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// When all of it happens.
pub(super) fn noon() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

pub(super) fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// The files of an environment, as a store would serve them.
#[derive(Clone, Default)]
pub(super) struct Files(pub(super) BTreeMap<String, Vec<u8>>);

impl Backend for Files {
    fn get(&self, key: &str, limit: u64) -> store::Result<Option<Vec<u8>>> {
        let found = self.0.get(key).cloned();
        if found
            .as_ref()
            .is_some_and(|bytes| bytes.len() as u64 > limit)
        {
            return Err(store::Error::corrupt(key, "it is too long"));
        }
        Ok(found)
    }

    fn get_range(&self, _: &str, _: u64, _: u64) -> store::Result<Vec<u8>> {
        Err(store::Error::new(
            store::ErrorKind::Invalid,
            "no ranges here",
        ))
    }

    fn list(&self, _: &str) -> store::Result<Option<Vec<String>>> {
        Ok(None)
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}

/// Bends the signed part of a role's file before it is signed.
pub(super) type Bend<'a> = &'a dyn Fn(&str, &mut Value);

/// Bends nothing.
pub(super) const STRAIGHT: Bend<'static> = &|_, _| {};

pub(super) struct Forge {
    pub(super) env: String,
    pub(super) keys: BTreeMap<&'static str, Vec<KeyPair>>,
    pub(super) versions: BTreeMap<&'static str, u64>,
    pub(super) targets: Map<String, Value>,
    pub(super) files: Files,
}

impl Forge {
    /// Version 1 of everything, one key per role.
    pub(super) fn new() -> Self {
        let key = || vec![KeyPair::generate().unwrap()];
        let mut forge = Self {
            env: "dev".into(),
            keys: ROLES.map(|role| (role, key())).into(),
            versions: ROLES.map(|role| (role, 0)).into(),
            targets: Map::new(),
            files: Files::default(),
        };
        forge.root(STRAIGHT);
        forge.publish(STRAIGHT);
        forge
    }

    pub(super) fn path(file: &str) -> String {
        format!("env/dev/metadata/{file}")
    }

    pub(super) fn file(&self, file: &str) -> &[u8] {
        &self.files.0[&Self::path(file)]
    }

    pub(super) fn put(&mut self, file: &str, bytes: Vec<u8>) {
        self.files.0.insert(Self::path(file), bytes);
    }

    /// New keys for a role.
    pub(super) fn rotate(&mut self, role: &'static str) -> Vec<KeyPair> {
        self.keys
            .insert(role, vec![KeyPair::generate().unwrap()])
            .unwrap()
    }

    /// The next root, signed by the present root keys.
    pub(super) fn root(&mut self, bend: Bend<'_>) {
        self.root_signed_by(&[], bend);
    }

    /// The next root, signed by the present root keys and by `others`.
    pub(super) fn root_signed_by(&mut self, others: &[KeyPair], bend: Bend<'_>) {
        let version = self.next("root");
        let mut signed = Self::head("root", version, 365);
        let all = self.keys.values().flatten();
        signed["keys"] = all.map(|key| (key.public().id(), key_json(key))).collect();
        signed["roles"] = ROLES
            .map(|role| {
                let ids: Vec<_> = self.keys[role]
                    .iter()
                    .map(|key| key.public().id())
                    .collect();
                (role.to_owned(), json!({ "keyids": ids, "threshold": 1 }))
            })
            .into_iter()
            .collect();
        signed["consistent_snapshot"] = json!(true);
        signed["x-imgbuild-environment"] = json!(self.env);
        bend("root", &mut signed);
        let bytes = sign(&signed, self.keys["root"].iter().chain(others));
        self.put(&format!("{version}.root.json"), bytes);
    }

    /// The next targets, snapshot and timestamp.
    pub(super) fn publish(&mut self, bend: Bend<'_>) {
        let version = self.next("targets");
        let mut targets = Self::head("targets", version, 90);
        targets["targets"] = self.targets.clone().into();
        targets["x-imgbuild-environment"] = json!(self.env);
        bend("targets", &mut targets);
        let targets_bytes = sign(&targets, &self.keys["targets"]);
        self.put(&format!("{version}.targets.json"), targets_bytes.clone());
        self.publish_snapshot(&pin(version, &targets_bytes), bend);
    }

    /// The next snapshot and timestamp, the snapshot pinning these targets.
    pub(super) fn publish_snapshot(&mut self, targets: &Value, bend: Bend<'_>) {
        let version = self.next("snapshot");
        let mut snapshot = Self::head("snapshot", version, 14);
        snapshot["meta"] = json!({ "targets.json": targets });
        bend("snapshot", &mut snapshot);
        let bytes = sign(&snapshot, &self.keys["snapshot"]);
        self.put(&format!("{version}.snapshot.json"), bytes.clone());
        self.publish_timestamp(&pin(version, &bytes), bend);
    }

    /// The next timestamp, pinning this snapshot.
    pub(super) fn publish_timestamp(&mut self, snapshot: &Value, bend: Bend<'_>) {
        let version = self.next("timestamp");
        let mut timestamp = Self::head("timestamp", version, 7);
        timestamp["meta"] = json!({ "snapshot.json": snapshot });
        bend("timestamp", &mut timestamp);
        let bytes = sign(&timestamp, &self.keys["timestamp"]);
        self.put("timestamp.json", bytes);
    }

    fn next(&mut self, role: &'static str) -> u64 {
        let version = self.versions.get_mut(role).unwrap();
        *version += 1;
        *version
    }

    fn head(role: &str, version: u64, lasts: i64) -> Value {
        json!({
            "_type": role,
            "spec_version": "1.0.31",
            "version": version,
            "expires": (noon() + days(lasts)).to_string(),
        })
    }
}

pub(super) fn key_json(key: &KeyPair) -> Value {
    json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": key.public().hex() } })
}

pub(super) fn pin(version: u64, bytes: &[u8]) -> Value {
    let sha256 = Sha256::of(bytes).hex();
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": sha256 } })
}

pub(super) fn sign<'a>(signed: &Value, keys: impl IntoIterator<Item = &'a KeyPair>) -> Vec<u8> {
    let message = canonical(signed).unwrap();
    let signatures: Vec<_> = keys
        .into_iter()
        .map(|key| json!({ "keyid": key.public().id(), "sig": signature(key, &message) }))
        .collect();
    serde_json::to_vec(&json!({ "signatures": signatures, "signed": signed })).unwrap()
}

pub(super) fn signature(key: &KeyPair, message: &[u8]) -> String {
    common::hex::encode(&key.sign(message).unwrap())
}
