//! Programs that we did not write agree with us.
//!
//! python-tuf's `ngclient` follows an environment that the real store wrote through a
//! change of all its keys, securesystemslib verifies an attestation,
//! and `openssl` verifies one signature and reads one key. Both tests want a
//! python3 that can make virtual environments and the `openssl` command; they
//! say so and fail where one is missing. `tuf` itself is installed by pip, once,
//! into the build directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::{SignedDuration, Timestamp};
use store::attest::{self, Kind};
use store::chunk::ChunkRef;
use store::digest::{Blake3, Sha256};
use store::json;
use store::keys::{KeyFile, Signer};
use store::manifest::{LayoutRef, Manifest, SCHEMA};
use store::name::EnvName;
use store::tuf::{Environment, KeyGroup, RoleKeys, RootChange, Signers};
use store::{LocalReader, WritableStore};
use verify::trust::tuf::Client;

const TUF: &str = "tuf==7.0.1";

/// A store with an environment made 300 days ago: its first root has a
/// successor, and it has two releases.
struct Setting {
    dir: tempfile::TempDir,
    first_root: PathBuf,
    newest: Manifest,
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = WritableStore::open_or_create(dir.path().join("store")).unwrap();
        let dev: EnvName = "dev".parse().unwrap();
        let now = Timestamp::now();
        let long_ago = now - SignedDuration::from_hours(24 * 300);
        let keys = RoleKeys::generate(&dir.path().join("keys"), &dev).unwrap();
        let mut env = Environment::init(&store, &dev, &keys, long_ago).unwrap();
        let first_root = dir.path().join("root.json");
        std::fs::write(&first_root, env.root_bytes()).unwrap();

        let keys = RoleKeys::load(&dir.path().join("keys"), &dev).unwrap();
        env.release(&manifest("one"), &keys, long_ago).unwrap();
        assert!(env.refresh_all(&keys, now).unwrap().root);
        let fresh = RoleKeys::generate(&dir.path().join("fresh"), &dev).unwrap();
        let mut env = rotate(&store, &env, &keys, &fresh, now);
        let newest = manifest("two");
        assert_eq!(env.release(&newest, &fresh, now).unwrap().seq, 2);
        Self {
            dir,
            first_root,
            newest,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Puts new keys in the places of all old ones.
fn rotate<'s>(
    store: &'s WritableStore,
    env: &Environment<'_>,
    old: &RoleKeys,
    new: &RoleKeys,
    now: Timestamp,
) -> Environment<'s> {
    let (old, new) = (Signers::from(old), Signers::from(new));
    let seats = [
        (KeyGroup::Root, old.root[0], new.root[0]),
        (KeyGroup::Targets, old.targets[0], new.targets[0]),
        (KeyGroup::Online, old.online[0], new.online[0]),
    ];
    let change = RootChange {
        add: seats
            .iter()
            .map(|(seat, _, key)| (Some(*seat), key.public()))
            .collect(),
        remove: seats
            .iter()
            .map(|(seat, key, _)| (Some(*seat), key.public().id()))
            .collect(),
        ..RootChange::default()
    };
    let mut proposal = env.draft_root(&change, now).unwrap();
    let signers = [old.root[0], new.root[0], new.targets[0]];
    assert!(env.sign(&mut proposal, &signers).unwrap().complete());
    let known = env.checkpoint(now);
    Environment::publish_root(store, Some(&known), &proposal, &new.online, now)
        .unwrap()
        .0
}

fn manifest(content: &str) -> Manifest {
    let layout = Blake3::of(content.as_bytes());
    Manifest {
        schema: SCHEMA,
        name: "fanery-node".parse().unwrap(),
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
        suite: "bullseye".into(),
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

fn run(command: &mut Command, package: &str) -> Output {
    let output = command.output().unwrap_or_else(|e| {
        panic!("{command:?} cannot be started ({e}): apt-get install {package}")
    });
    assert!(
        output.status.success(),
        "{command:?} failed (does it need `apt-get install {package}`?):\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A python that can import tuf. The first test that asks makes it, the others wait.
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tuf-venv");
    let lock = File::create(venv.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let python = venv.join("bin/python");
    let installed = Command::new(&python)
        .args(["-c", "import tuf.ngclient"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !installed {
        run(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&venv),
            "python3-venv",
        );
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            TUF,
        ];
        run(Command::new(&python).args(pip), "python3-venv");
    }
    python
}

#[test]
fn python_tuf_follows_our_environment() {
    let setting = Setting::new();
    let output = run(
        Command::new(python())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ngclient.py"))
            .arg(setting.path("store"))
            .arg("dev")
            .arg(&setting.first_root)
            .arg(setting.path("work"))
            .arg("fanery-node/2.json"),
        "python3",
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let json = setting.newest.to_json();
    assert_eq!(said["sha256"], Sha256::of(&json).hex());
    assert_eq!(said["custom"]["image"], setting.newest.image.to_string());
    assert_eq!(said["custom"]["env"], "dev");
    // The first, one that was renewed, and one with other keys.
    assert_eq!(said["versions"]["root"], 3);

    // And our own client, on the same files, ends with the same versions.
    let root = std::fs::read(&setting.first_root).unwrap();
    let backend = LocalReader::open(setting.path("store")).unwrap();
    let mut client = Client::init(&setting.path("trust"), &root, &"dev".parse().unwrap()).unwrap();
    client.refresh(&backend, Timestamp::now()).unwrap();
    let verified = client
        .release(&backend, &"fanery-node".parse().unwrap())
        .unwrap();
    assert_eq!(verified.manifest, setting.newest);
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let file = std::fs::read(setting.path("trust").join(format!("{role}.json"))).unwrap();
        let ours: serde_json::Value = serde_json::from_slice(&file).unwrap();
        assert_eq!(said["versions"][role], ours["signed"]["version"], "{role}");
    }
}

#[test]
fn securesystemslib_verifies_our_attestations() {
    let setting = Setting::new();
    let predicate =
        serde_json::json!({ "environment": "dev", "comment": "two\nlines, ünd \"more\"" });
    let mut envelope = attest::statement(Kind::Approval, &setting.newest, predicate).unwrap();
    let key = KeyFile::at(setting.path("ann.pem")).create().unwrap();
    envelope.sign(&key).unwrap();
    std::fs::write(setting.path("envelope"), envelope.to_json()).unwrap();
    let verify = |public: &str| {
        let mut command = Command::new(python());
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dsse.py"))
            .arg(setting.path("envelope"))
            .args([public, &key.public().id()]);
        command
    };
    let output = run(&mut verify(&key.public().hex()), "python3");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        said["subject"][0]["digest"]["sha256"],
        setting.newest.sha256.hex()
    );
    assert_eq!(said["predicate"]["comment"], "two\nlines, ünd \"more\"");
    let other = KeyFile::at(setting.path("bob.pem")).create().unwrap();
    let refused = verify(&other.public().hex()).output().unwrap();
    assert!(!refused.status.success(), "it accepts another key");
}

#[test]
fn openssl_verifies_our_signatures() {
    let setting = Setting::new();
    let metadata = std::fs::read(setting.path("store/env/dev/metadata/3.targets.json")).unwrap();
    let metadata = json::parse(&metadata).unwrap();
    let message = json::canonical(&metadata["signed"]).unwrap();
    let signature = metadata["signatures"][0]["sig"].as_str().unwrap();
    let signature: Vec<u8> = (0..signature.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap())
        .collect();
    std::fs::write(setting.path("message"), message).unwrap();
    std::fs::write(setting.path("signature"), signature).unwrap();

    let private = setting.path("keys/dev.targets.pem");
    let public = setting.path("targets.pub.pem");
    let pkey = ["pkey", "-pubout", "-in"];
    run(
        Command::new("openssl")
            .args(pkey)
            .arg(private)
            .arg("-out")
            .arg(&public),
        "openssl",
    );
    let verify = |file: &str| {
        let mut command = Command::new("openssl");
        command
            .args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"])
            .arg(&public);
        command
            .arg("-in")
            .arg(setting.path(file))
            .arg("-sigfile")
            .arg(setting.path("signature"));
        command
    };
    run(&mut verify("message"), "openssl");
    let other = verify("signature").output().unwrap();
    assert!(
        !other.status.success(),
        "openssl accepts the signature for another message"
    );
}
