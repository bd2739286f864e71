//! What is refused before anybody interprets it.
//!
//! The core parses metadata leniently in a few places where leniency is a way
//! in: JSON whose meaning depends on the reader, a role that reaches its
//! threshold with one key under two ids, a key with which anybody can sign.
//! Every file passes here first, and only its plain reading goes on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use store::json;
use store::keys::{ErrorKind as KeyErrorKind, PublicKey};
use store::tuf::ENVIRONMENT_FIELD;

use super::error::{Error, ErrorKind, Result};
use super::provider;

/// Reads a metadata file as JSON that can be read in one way only, and returns
/// its signed part.
pub(super) fn signed(bytes: &[u8], file: &str) -> Result<Value> {
    let mut value = json::parse(bytes).map_err(|e| malformed(file, &e))?;
    match value.get_mut("signed").map(Value::take) {
        Some(signed @ Value::Object(_)) => Ok(signed),
        _ => Err(malformed(file, &"it has no signed part")),
    }
}

/// What the workflow wants to know about a root, beyond its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// The environment that it says it is for.
    pub(super) environment: Option<String>,
    /// Per role, the keys that count and how many it takes.
    roles: BTreeMap<String, (BTreeSet<String>, u64)>,
}

impl Root {
    /// Whether `next` changes who signs `role`.
    pub(super) fn rotates(&self, next: &Self, role: &str) -> bool {
        self.roles.get(role) != next.roles.get(role)
    }
}

/// Looks through a root's keys and roles.
pub(super) fn root(bytes: &[u8], file: &str) -> Result<Root> {
    let signed = signed(bytes, file)?;
    let empty = serde_json::Map::new();
    let object = |name: &str| {
        signed
            .get(name)
            .and_then(Value::as_object)
            .unwrap_or(&empty)
    };

    // The public half of each key, in one spelling: hex of either case is the
    // same key, and so must not count as two.
    let mut publics = BTreeMap::new();
    for (id, key) in object("keys") {
        let text = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        let public = key
            .pointer("/keyval/public")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let is_ed25519 = text("keytype") == "ed25519" || text("scheme") == "ed25519";
        let public = if is_ed25519 && !public.trim_start().starts_with("-----BEGIN") {
            usable(public).map_err(|why| {
                let text = format!("{file} lists the unusable key {id}: {why}");
                Error::new(ErrorKind::BadKey, text)
            })?
        } else {
            // Kinds of key that we do not know never verify here, so all that
            // matters is that one of them does not stand for two.
            match provider::from_pem(public) {
                Some(key) => common::hex::encode(&key),
                None => public.trim().to_owned(),
            }
        };
        publics.insert(id.as_str(), public);
    }

    let mut roles = BTreeMap::new();
    for (role, entry) in object("roles") {
        let threshold = entry
            .get("threshold")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        if threshold == 0 {
            let text = format!("{file} asks for no signatures on {role}");
            return Err(Error::new(ErrorKind::ZeroThreshold, text));
        }
        let mut keys = BTreeSet::new();
        let ids = entry.get("keyids").and_then(Value::as_array);
        for id in ids.into_iter().flatten().filter_map(Value::as_str) {
            let public = publics.get(id).map_or_else(|| id.to_owned(), Clone::clone);
            if !keys.insert(public) {
                let text =
                    format!("{file} counts one key twice for {role}, the second time as {id}");
                return Err(Error::new(ErrorKind::DuplicateKey, text));
            }
        }
        roles.insert(role.clone(), (keys, threshold));
    }
    Ok(Root {
        environment: environment(&signed),
        roles,
    })
}

/// The environment that a file was signed for.
pub(super) fn environment(signed: &Value) -> Option<String> {
    signed.get(ENVIRONMENT_FIELD)?.as_str().map(str::to_owned)
}

fn usable(hex: &str) -> std::result::Result<String, String> {
    let parsed = hex.parse::<PublicKey>();
    parsed.map(|key| key.hex()).map_err(|e| match e.kind() {
        KeyErrorKind::Weak => "it is a point of small order, anybody can sign as it".to_owned(),
        _ => e.to_string(),
    })
}

pub(super) fn malformed(file: &str, why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Malformed, format!("{file} is malformed: {why}"))
}
