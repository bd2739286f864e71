//! A client on a directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;
use store::name::EnvName;

use super::forge::{Files, Forge, noon};
use crate::error::Kind;
use crate::trust::tuf::{Client, Error, ErrorKind};

pub(super) struct Node {
    scratch: tempfile::TempDir,
    /// The client; `None` while the directory is used otherwise.
    pub(super) client: Option<Client>,
}

impl Node {
    /// Initialised with the first root of `forge`.
    pub(super) fn new(forge: &Forge) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let env: EnvName = "dev".parse().unwrap();
        let root = forge.file("1.root.json");
        let client = Client::init(&scratch.path().join("trust"), root, &env).unwrap();
        Self {
            scratch,
            client: Some(client),
        }
    }

    /// The same, having refreshed once.
    pub(super) fn following(forge: &Forge) -> Self {
        let mut node = Self::new(forge);
        node.refresh(&forge.files).unwrap();
        node
    }

    pub(super) fn directory(&self) -> PathBuf {
        self.scratch.path().join("trust")
    }

    pub(super) fn client(&mut self) -> &mut Client {
        self.client.as_mut().unwrap()
    }

    pub(super) fn refresh(&mut self, files: &Files) -> Result<(), Error> {
        self.refresh_at(files, noon())
    }

    pub(super) fn refresh_at(&mut self, files: &Files, now: Timestamp) -> Result<(), Error> {
        self.client().refresh(files, now)
    }

    /// Closes the client and opens it again, as the next command would.
    pub(super) fn restart(&mut self) {
        self.client = None;
        self.client = Some(Client::open(&self.directory()).unwrap());
    }

    /// Every file of the trusted state.
    pub(super) fn state(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.directory())
            .unwrap()
            .map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .filter(|(name, _)| name != "lock")
            .collect()
    }

    pub(super) fn version(&self, file: &str) -> u64 {
        let bytes = fs::read(self.directory().join(file)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        value["signed"]["version"].as_u64().unwrap()
    }

    /// Expects a refusal, twice, the second time by a fresh process, and no
    /// trace of either in the state except in the files of `moved`.
    pub(super) fn refuses_at(
        &mut self,
        files: &Files,
        now: Timestamp,
        kind: ErrorKind,
        moved: &[&str],
    ) -> Error {
        let before = self.state();
        let e = self.refresh_at(files, now).expect_err("it must be refused");
        assert_eq!(e.kind(), kind, "{e}");
        self.restart();
        let again = self
            .refresh_at(files, now)
            .expect_err("it must be refused again");
        assert_eq!(again.kind(), kind, "the second time: {again}");
        let mut after = self.state();
        for file in moved {
            assert_ne!(
                before.get(*file),
                after.get(*file),
                "{file} was expected to move"
            );
            match before.get(*file) {
                Some(bytes) => after.insert((*file).to_owned(), bytes.clone()),
                None => after.remove(*file),
            };
        }
        assert!(before == after, "the trusted state moved with: {e}");
        assert!(!e.to_string().contains('\n'), "{e}");
        e
    }

    /// Expects a refusal because of what is in `files`, leaving no trace.
    pub(super) fn refuses(&mut self, files: &Files, kind: ErrorKind) -> Error {
        let e = self.refuses_at(files, noon(), kind, &[]);
        assert_eq!(e.class(), Kind::Refused);
        e
    }
}

/// A forge with release 1 of everything, and a node that follows it.
pub(super) fn both() -> (Forge, Node) {
    let forge = Forge::new();
    let node = Node::following(&forge);
    (forge, node)
}

/// Publishes the next version of `role`, bent. Root alone if it is root.
pub(super) fn bent(forge: &mut Forge, role: &str, bend: &dyn Fn(&mut Value)) {
    let only = |file: &str, signed: &mut Value| {
        if file == role {
            bend(signed);
        }
    };
    if role == "root" {
        forge.root(&only);
    } else {
        forge.publish(&only);
    }
}

/// What the state keeps of a refused refresh: the files before the bad one are
/// good, and stay.
pub(super) fn kept(role: &str) -> &'static [&'static str] {
    match role {
        "snapshot" => &["timestamp.json"],
        "targets" => &["timestamp.json", "snapshot.json", "floor"],
        _ => &[],
    }
}
