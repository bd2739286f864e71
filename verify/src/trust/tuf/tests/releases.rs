//! From the writing side of an environment to a verified manifest.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};
use store::chunk::ChunkRef;
use store::digest::{Blake3, Sha256};
use store::keys::KeyPair;
use store::manifest::{LayoutRef, Manifest, SCHEMA};
use store::name::{EnvName, ImageName};
use store::tuf::{Environment, Guard, MetadataStore, RoleKeys};

use super::forge::{Files, Forge, STRAIGHT, days, noon};
use super::node::Node;
use crate::trust::tuf::{Client, ErrorKind};

pub(super) fn manifest(name: &str, content: &str) -> Manifest {
    let layout = Blake3::of(content.as_bytes());
    Manifest {
        schema: SCHEMA,
        name: name.parse().unwrap(),
        image: Blake3::of(format!("tar of {content}").as_bytes()),
        sha256: Sha256::of(content.as_bytes()),
        size: 2048,
        entries: 2,
        layout: LayoutRef {
            digest: layout,
            size: 6,
            chunks: vec![ChunkRef::new(layout, 6).unwrap()],
        },
        arch: "amd64".into(),
        suite: "bookworm".into(),
        epoch: 1_700_000_000,
        packages: Vec::new(),
        wheels: Vec::new(),
        users: Vec::new(),
        setuid: Vec::new(),
        xattrs: Vec::new(),
        recipe: Sha256::of(b"recipe"),
        lock: Sha256::of(b"lock"),
        builder: "imgbuild 0.1.0".into(),
        run: None,
    }
}

#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

impl MetadataStore for Memory {
    fn read(&self, key: &str, _: u64) -> store::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> store::Result<()> {
        self.0.lock().unwrap().insert(key.into(), bytes.into());
        Ok(())
    }

    fn lock(&self) -> store::Result<Guard> {
        Ok(Box::new(()) as Box<dyn Any>)
    }
}

impl Memory {
    fn files(&self) -> Files {
        Files(self.0.lock().unwrap().clone())
    }
}

/// What `store::tuf` writes, this node follows: through releases, renewals and
/// years.
#[test]
fn round_trip() {
    let (shelf, dev) = (Memory::default(), "dev".parse::<EnvName>().unwrap());
    let key = || Box::new(KeyPair::generate().unwrap());
    let keys = RoleKeys {
        root: Some(key()),
        targets: key(),
        online: key(),
    };
    let mut env = Environment::init(&shelf, &dev, &keys, noon()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut client = Client::init(&dir.path().join("trust"), env.root_bytes(), &dev).unwrap();
    let name: ImageName = "fanery-node".parse().unwrap();

    let e = client.release(&shelf.files(), &name).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotRefreshed);
    client.refresh(&shelf.files(), noon()).unwrap();
    let e = client.release(&shelf.files(), &name).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NoRelease);

    let images = ["one", "two", "three"].map(|content| manifest("fanery-node", content));
    for (seq, image) in (1..).zip(&images) {
        assert_eq!(env.release(image, &keys, noon()).unwrap().seq, seq);
        client.refresh(&shelf.files(), noon()).unwrap();
        let verified = client.release(&shelf.files(), &name).unwrap();
        assert_eq!((verified.seq, verified.image), (seq, image.image));
        assert_eq!(verified.manifest, *image);
        assert_eq!(verified.json, image.to_json());
    }
    let second = client.release_seq(&shelf.files(), &name, 2).unwrap();
    assert_eq!(second.manifest, images[1]);
    let e = client.release_seq(&shelf.files(), &name, 4).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NoRelease);

    // Four years of renewals, some of them late.
    for month in 1..48 {
        let now = noon() + days(30 * month);
        assert_eq!(
            client.refresh(&shelf.files(), now).unwrap_err().kind(),
            ErrorKind::Expired
        );
        env.refresh_all(&keys, now).unwrap();
        client.refresh(&shelf.files(), now).unwrap();
    }
    assert_eq!(
        client.release(&shelf.files(), &name).unwrap().manifest,
        images[2]
    );
}

/// Puts `manifest` into a forge as a release, with its custom fields bent.
fn release(forge: &mut Forge, manifest: &Manifest, seq: u64, bend: &dyn Fn(&mut Value)) {
    let bytes = manifest.to_json();
    let sha256 = Sha256::of(&bytes).hex();
    let mut target = json!({
        "length": bytes.len(),
        "hashes": { "sha256": sha256 },
        "custom": {
            "image": manifest.image, "env": "dev", "arch": manifest.arch, "seq": seq,
            "min_seq": 1, "size": manifest.size, "revoked": [],
        },
    });
    bend(&mut target);
    let name = &manifest.name;
    forge
        .files
        .0
        .insert(format!("env/dev/targets/{name}/{sha256}.{seq}.json"), bytes);
    forge.targets.insert(format!("{name}/{seq}.json"), target);
}

/// A forge with releases 1 to 3 of `a`, bent, and the node that follows it.
pub(super) fn three(bend: &dyn Fn(u64, &mut Value)) -> (Forge, Node) {
    let mut forge = Forge::new();
    for seq in 1..4 {
        release(
            &mut forge,
            &manifest("a", &seq.to_string()),
            seq,
            &|target| bend(seq, target),
        );
    }
    forge.publish(STRAIGHT);
    let node = Node::following(&forge);
    (forge, node)
}

pub(super) fn a() -> ImageName {
    "a".parse().unwrap()
}

#[test]
fn the_newest_release_speaks_for_the_others() {
    let second = manifest("a", "2").image;
    let (forge, mut node) = three(&|seq, target| {
        if seq == 3 {
            target["custom"]["revoked"] = json!([second]);
        }
        if seq == 1 {
            // What an old release says about itself does not count.
            target["custom"]["min_seq"] = json!(9);
        }
    });
    let client = node.client();
    assert_eq!(client.release(&forge.files, &a()).unwrap().seq, 3);
    client.release_seq(&forge.files, &a(), 1).unwrap();
    let e = client.release_seq(&forge.files, &a(), 2).unwrap_err();
    assert_eq!((e.kind(), e.class().exit_code()), (ErrorKind::Revoked, 3));
    assert!(e.to_string().contains(&second.to_string()), "{e}");

    let (forge, mut node) = three(&|seq, target| {
        target["custom"]["min_seq"] = json!(if seq == 3 { 2 } else { 1 });
    });
    let client = node.client();
    client.release_seq(&forge.files, &a(), 2).unwrap();
    let e = client.release_seq(&forge.files, &a(), 1).unwrap_err();
    assert_eq!((e.kind(), e.class().exit_code()), (ErrorKind::TooOld, 3));

    // The newest itself was revoked: no older one is quietly taken instead.
    let third = manifest("a", "3").image;
    let (forge, mut node) = three(&|_, target| target["custom"]["revoked"] = json!([third]));
    let e = node.client().release(&forge.files, &a()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Revoked);
}

#[test]
fn what_is_revoked_under_one_name_runs_under_no_other() {
    let bytes = manifest("a", "1").image;
    let mut forge = Forge::new();
    for (name, seq, content) in [("a", 1, "1"), ("a", 2, "2"), ("b", 1, "1")] {
        release(&mut forge, &manifest(name, content), seq, &|target| {
            if (name, seq) == ("a", 2) {
                target["custom"]["revoked"] = json!([bytes]);
            }
        });
    }
    forge.publish(STRAIGHT);
    let mut node = Node::following(&forge);
    let e = node
        .client()
        .release(&forge.files, &"b".parse().unwrap())
        .unwrap_err();
    assert_eq!((e.kind(), e.class().exit_code()), (ErrorKind::Revoked, 3));
}

#[test]
fn releases_that_contradict_themselves() {
    type Case = (&'static str, Value, ErrorKind);
    let cases: [Case; 8] = [
        ("/custom/env", json!("prod"), ErrorKind::Environment),
        ("/custom/seq", json!(2), ErrorKind::Release),
        (
            "/custom/image",
            json!(Blake3::of(b"other")),
            ErrorKind::Release,
        ),
        ("/custom/arch", json!("arm64"), ErrorKind::Release),
        ("/custom/size", json!(4096), ErrorKind::Release),
        ("/custom/revoked", json!(null), ErrorKind::Release),
        ("/custom", json!(null), ErrorKind::Release),
        ("/hashes/sha256", json!("00"), ErrorKind::Release),
    ];
    for (field, value, kind) in cases {
        let (forge, mut node) = three(&|seq, target| {
            if seq == 3 {
                *target.pointer_mut(field).unwrap() = value.clone();
            }
        });
        let e = node.client().release(&forge.files, &a()).unwrap_err();
        assert_eq!(e.kind(), kind, "{field}: {e}");
    }

    // The manifest of another image under this name.
    let mut forge = Forge::new();
    release(&mut forge, &manifest("b", "1"), 1, &|_| {});
    let target = forge.targets.remove("b/1.json").unwrap();
    forge.targets.insert("a/1.json".into(), target);
    forge.files.0 = std::mem::take(&mut forge.files.0)
        .into_iter()
        .map(|(k, v)| (k.replace("/b/", "/a/"), v))
        .collect();
    forge.publish(STRAIGHT);
    let e = Node::following(&forge)
        .client()
        .release(&forge.files, &a())
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Release);
    assert!(e.to_string().contains("manifest is of b"), "{e}");
}

/// HOSTILE.md 11, for manifests.
#[test]
fn a_changed_manifest() {
    let (forge, mut node) = three(&|_, _| {});
    let (key, good) = forge
        .files
        .0
        .iter()
        .find(|(key, _)| key.ends_with(".3.json"))
        .unwrap();
    let mut files = forge.files.clone();
    let mut try_with = |bytes: Option<Vec<u8>>| {
        match bytes {
            Some(bytes) => files.0.insert(key.clone(), bytes),
            None => files.0.remove(key),
        };
        node.client().release(&files, &a()).unwrap_err().kind()
    };
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    assert_eq!(try_with(Some(flipped)), ErrorKind::Mismatch);
    assert_eq!(
        try_with(Some(good[..good.len() - 1].to_vec())),
        ErrorKind::Mismatch
    );
    assert_eq!(
        try_with(Some([&good[..], b"\n"].concat())),
        ErrorKind::TooLarge
    );
    assert_eq!(try_with(None), ErrorKind::Incomplete);
}

/// Whoever has the targets key cannot take a name back to an earlier release,
/// unless the environment's root says that the key was stolen.
#[test]
fn release_numbers_do_not_fall() {
    let (mut forge, mut node) = three(&|_, _| {});
    forge.targets.remove("a/3.json");
    forge.publish(STRAIGHT);
    node.refresh(&forge.files).unwrap();
    let e = node.client().release(&forge.files, &a()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Rollback);
    assert!(e.to_string().contains("is 2, and 3 was seen"), "{e}");
    node.restart();
    node.refresh(&forge.files).unwrap();
    assert_eq!(
        node.client()
            .release(&forge.files, &a())
            .unwrap_err()
            .kind(),
        ErrorKind::Rollback
    );

    forge.rotate("targets");
    forge.root(STRAIGHT);
    forge.publish(STRAIGHT);
    node.refresh(&forge.files).unwrap();
    assert_eq!(node.client().release(&forge.files, &a()).unwrap().seq, 2);
}
