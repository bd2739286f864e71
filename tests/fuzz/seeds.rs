//! Inputs to begin with: small real values of every shape, made here.

use std::collections::BTreeMap;

use store::canonical_tar::{self, Entry, Kind};
use store::chunk::ChunkRef;
use store::manifest::{
    Health, LayoutRef, Needs, Package, Process, Run, SpecialFile, Timer, User, Wheel, XattrEntry,
};
use store::{Blake3, Manifest, Sha256};

use crate::index::sealed;
use crate::tree::{directory, layout};

fn entry(path: &str, kind: Kind) -> Entry {
    let mode = match kind {
        Kind::Symlink { .. } => 0o777,
        _ => 0o644,
    };
    Entry {
        kind,
        mode,
        ..directory(path.into())
    }
}

fn file(path: &str, size: u64) -> Entry {
    entry(path, Kind::File { size })
}

/// Trees with everything that an entry can have.
fn trees() -> Vec<Vec<Entry>> {
    let root = || directory(Vec::new());
    let folder = |path: &str| directory(path.into());
    let mut tool = file("usr/bin/tool", 3);
    tool.mode = 0o4755;
    tool.mtime = 1_700_000_000;
    tool.xattrs = BTreeMap::from([
        (b"security.capability".to_vec(), vec![1, 0, 0, 2]),
        (b"user.note".to_vec(), b"a=b\n".to_vec()),
    ]);
    let mut link = tool.clone();
    link.path.push(b'2');
    link.xattrs.clear();
    link.kind = Kind::Hardlink {
        target: tool.path.clone(),
    };
    let symlink = Kind::Symlink {
        target: b"usr/bin".to_vec(),
    };
    let mut far = file(&"n".repeat(250), 1);
    (far.uid, far.gid) = (3_000_000, u32::MAX - 1);
    let deep = format!("{}/f", ["d".repeat(60), "e".repeat(60)].join("/"));
    let long = Kind::Symlink {
        target: vec![b't'; 150],
    };
    let mut trees = vec![
        vec![root()],
        vec![
            root(),
            file("a", 0),
            file("b", 1),
            file("c", 512),
            file("d", 513),
        ],
        vec![
            root(),
            entry("bin", symlink),
            folder("usr"),
            folder("usr/bin"),
            tool,
            link,
        ],
        vec![root(), folder("etc"), file("etc-old", 2), folder("lib")],
        vec![
            root(),
            folder(&"d".repeat(60)),
            folder(&deep[..121]),
            file(&deep, 0),
            entry("long", long),
            far,
        ],
    ];
    for tree in &mut trees {
        tree.sort_by(Entry::order);
    }
    trees
}

pub(crate) fn tars() -> Vec<Vec<u8>> {
    let tar = |entries: Vec<Entry>| {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend(canonical_tar::encode(&entry).expect("an entry"));
            bytes.resize(bytes.len() + entry.size() as usize, b'x');
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    };
    trees().into_iter().map(tar).collect()
}

pub(crate) fn layouts() -> Vec<Vec<u8>> {
    let chunk = |len: u64| ChunkRef::new(Blake3::of(&len.to_le_bytes()), len as u32);
    let cut = |size: u64| match size {
        0 => Vec::new(),
        1..=262_144 => chunk(size).into_iter().collect(),
        _ => [20_000, size - 20_000]
            .into_iter()
            .filter_map(chunk)
            .collect(),
    };
    let mut trees = trees();
    let root = directory(Vec::new());
    trees.push(vec![
        root.clone(),
        file("big", 262_145),
        file("whole", 262_144),
    ]);
    trees.push(vec![root, file("bigger", 200_000), file("c", 280_000)]);
    trees.iter().map(|entries| layout(entries, cut)).collect()
}

pub(crate) fn indexes() -> Vec<Vec<u8>> {
    let index = |frames: &[(u32, &[u32])]| {
        let mut body = b"imgidx\x00\x01".to_vec();
        body.extend(Blake3::of(b"pack").bytes());
        body.extend((frames.len() as u32).to_le_bytes());
        for (stored, chunks) in frames {
            body.extend(stored.to_le_bytes());
            body.extend((chunks.len() as u32).to_le_bytes());
            for len in *chunks {
                body.extend(Blake3::of(&len.to_le_bytes()).bytes());
                body.extend(len.to_le_bytes());
            }
        }
        sealed(&body)
    };
    vec![
        index(&[(14, &[5])]),
        index(&[(100, &[1, 2, 3]), (50, &[4]), (1, &[262_144])]),
        index(&[(4 << 20, &[262_144; 16]), (4 << 20, &[262_144; 16])]),
    ]
}

/// Rows of tables, one description, and patches.
pub(crate) fn deltas() -> Vec<Vec<u8>> {
    let (from, to) = (Blake3::of(b"from"), Blake3::of(b"to"));
    let rows = |groups: u8, rest: &[u8]| {
        let images = [&from.bytes()[..], to.bytes()].concat();
        [&images[..], &[groups], rest].concat()
    };
    let pair = format!(
        r#"{{"schema":2,"from":"{from}","to":"{to}","delta":"{from}","size":900,"table":80,"packs":4000,"whole":90000}}"#
    );
    vec![
        rows(0, &[]),
        rows(1, &[100, 0, 1, 0, 0, 1]),
        // 300 bytes; two runs behind each other, one further back; a large number.
        rows(
            1,
            &[
                0xac, 2, 2, 8, 0, 1, 2, 9, 1, 2, 20, 0, 3, 7, 0xff, 0xff, 3, 2,
            ],
        ),
        pair.into_bytes(),
        vec![0],
        vec![1, 0, 3, 0, b'n', b'e', b'w'],
        // Five bytes from the tenth on, the third of them changed, and two new ones; then
        // four from before those.
        vec![2, 5, 2, 20, 4, 0, 29, 0, 0, 1, 0, 0, 0, 0, 0, 0, 8, 9],
    ]
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let plain = manifest();
    let mut full = manifest();
    full.packages = vec![Package {
        name: "dash".into(),
        version: "0.5.12-2".into(),
        arch: "amd64".into(),
    }];
    full.wheels = vec![Wheel {
        virtualenv: "/srv/app".into(),
        name: "webob".into(),
        version: "1.7".into(),
    }];
    full.users = vec![User {
        name: "app".into(),
        uid: 1000,
        gid: 1000,
        home: "/srv".into(),
        shell: "/bin/sh".into(),
    }];
    full.setuid = vec![SpecialFile {
        path: "usr/bin/su".into(),
        mode: 0o4755,
        uid: 0,
        gid: 0,
    }];
    full.xattrs = vec![XattrEntry {
        path: "usr/bin/ping".into(),
        name: "security.capability".into(),
        value_hex: "01ff".into(),
    }];
    full.run = Some(Run {
        user: "app".into(),
        directory: "/srv".into(),
        start: vec!["./start".into()],
        stop: Vec::new(),
        reload: Vec::new(),
        environment: BTreeMap::from([("LANG".into(), "C.UTF-8".into())]),
        health: Some(Health {
            http: "/up".into(),
            headers: vec!["X-Asked-By: imgnode".into()],
            command: Vec::new(),
            within: 60,
            timeout: 5,
            bake: None,
        }),
        before_switch: vec!["/srv/migrate".into()],
        fences: store::manifest::Fences {
            memory: Some(1 << 30),
            read_only: true,
            ..Default::default()
        },
        processes: vec![Process {
            name: "worker".into(),
            command: vec!["/srv/worker".into()],
            user: "app".into(),
            directory: "/srv".into(),
            environment: BTreeMap::from([("QUEUE".into(), "mail".into())]),
            count: 2,
            stop_signal: "TERM".into(),
            reload_signal: Some("HUP".into()),
            overlap: false,
        }],
        timers: vec![Timer {
            name: "nightly".into(),
            command: vec!["/srv/nightly".into()],
            user: "app".into(),
            directory: "/srv".into(),
            environment: BTreeMap::new(),
            every: None,
            at: Some("03:30".into()),
            limit: Some(3600),
        }],
        needs: Needs {
            state: vec!["/var/lib/app".into()],
            secrets: vec!["database-url".into()],
            secret_environment: BTreeMap::from([("DATABASE_URL".into(), "database-url".into())]),
            settings: vec!["SITE".into()],
            ..Needs::default()
        },
    });
    vec![plain.to_json(), full.to_json()]
}

fn manifest() -> Manifest {
    Manifest {
        schema: store::manifest::SCHEMA,
        name: "minbase".parse().expect("a name"),
        image: Blake3::of(b"tar"),
        sha256: Sha256::of(b"tar"),
        size: 2048,
        entries: 2,
        layout: LayoutRef {
            digest: Blake3::of(b"layout"),
            size: 6,
            chunks: ChunkRef::new(Blake3::of(b"layout"), 6)
                .into_iter()
                .collect(),
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

pub(crate) fn hints() -> Vec<Vec<u8>> {
    let pack = Blake3::of(b"pack");
    vec![
        format!(r#"{{"packs":["{pack}"],"published":1700000000}}"#).into(),
        format!(r#"{{"packs":["{pack}","{pack}"],"published":0}}"#).into(),
    ]
}

/// Waves at their first stage, with a rule, and halted.
pub(crate) fn waves() -> Vec<Vec<u8>> {
    let stages = r#""stages":[{"groups":["canary"]},{"percent":10},{"percent":100}]"#;
    [
        r#"{"stages":[{"percent":100}],"reached":1,"since":"2026-11-23T04:00:00Z"}"#.to_owned(),
        format!(
            r#"{{{stages},"rule":{{"minutes":120,"nodes":3}},"reached":2,"since":"2026-11-23T04:00:00Z"}}"#
        ),
        format!(
            r#"{{{stages},"reached":1,"since":"2026-11-23T04:00:00Z","halted":"it does not start"}}"#
        ),
    ]
    .map(String::into_bytes)
    .into()
}

/// The JSON in logs, and a log.
pub(crate) fn logs() -> Vec<Vec<u8>> {
    let json = br#"{"schema":1,"name":"minbase","steps":[{"name":"a","text":"b\n"}]}"#;
    let log = zstd::bulk::compress(json, 3).expect("zstd");
    vec![json.to_vec(), log]
}

/// Payloads and files of receipts and of lists of nodes.
pub(crate) fn receipts() -> Vec<Vec<u8>> {
    let (image, digest) = (Blake3::of(b"tar"), Sha256::of(b"before"));
    let installed = format!(r#"{{"generation":2,"environment":"prod","seq":6,"image":"{image}"}}"#);
    let first = br#"{"schema":1,"node":"web07","group":"eu","counter":1,"previous":null,"time":"2026-11-23T04:00:00Z","imgnode":"0.1.0","environment":null,"metadata":null,"event":{"operation":"heartbeat","system":null,"result":"done","reason":null},"systems":[],"dropped":[]}"#;
    let full = format!(
        r#"{{"schema":1,"node":"web07","group":"eu","counter":42,"previous":"{digest}","time":"2026-11-23T04:00:00Z","imgnode":"0.1.0","environment":"prod","metadata":{{"refreshed":"2026-11-23T04:00:00Z","expires":null,"targets":9}},"event":{{"operation":"upgrade","system":"Web","result":"went-back","reason":"500"}},"systems":[{{"system":"Web","image_name":"web","active":{installed},"runs":{installed},"previous":null,"revoked":false,"verified":"2026-11-23T04:00:00Z","free_bytes":1024,"last":null}}],"dropped":[[30,33],[40,40]]}}"#
    );
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let fleet = format!(
        r#"{{"schema":1,"environment":"prod","root":"{digest}","version":3,"time":"2026-11-23T04:00:00Z","nodes":[{{"name":"web07","group":"eu","key":"{key}","added":"2026-11-23T04:00:00Z"}}],"removed":[{{"name":"web06","key":"{key}","removed":"2026-11-23T04:00:00Z"}}]}}"#
    );
    let file = |kind, payload: &[u8]| crate::small::envelope(kind, payload);
    let (receipt, list) = (store::receipt::PAYLOAD_TYPE, store::fleet::PAYLOAD_TYPE);
    vec![
        file(receipt, first),
        file(receipt, full.as_bytes()),
        file(list, fleet.as_bytes()),
        first.to_vec(),
        full.into_bytes(),
        fleet.into_bytes(),
    ]
}

/// A key of the one shape that there is, and its file.
pub(crate) fn keys() -> Vec<Vec<u8>> {
    // RFC 8410, section 7: version 0, the algorithm, the seed in two wrappings.
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend(7..39);
    let file = crate::small::armour(&der).into_bytes();
    vec![der, file]
}

pub(crate) fn documents() -> Vec<Vec<u8>> {
    let targets = br#"{"signed":{"_type":"targets","version":1,"spec_version":"1.0.31",
"expires":"2030-01-01T00:00:00Z","targets":{"minbase/1.json":{"length":17,
"hashes":{"sha256":"00ff"},"custom":{"seq":1,"revoked":[],"note":null,"ok":true}}}},
"signatures":[{"keyid":"ab","sig":"cd\u00e9\n\"\\"}]}"#;
    vec![targets.to_vec(), b"[[[-1,18446744073709551615]]]".to_vec()]
}

pub(crate) fn tomls() -> Vec<Vec<u8>> {
    let digest = Sha256::of(b"x");
    let lock = format!(
        "version = 1\nepoch = 1700000000\narchitecture = \"amd64\"\n\
         bootstrapper = \"debootstrap 1.0.128\"\npackages_from = \"{digest}\"\n\n\
         [[release]]\narchive = \"debian\"\nsuite = \"bookworm\"\ndate = 1700000000\n\
         sha256 = \"{digest}\"\n\n[[deb]]\nname = \"dash\"\nversion = \"0.5.12-2\"\n\
         architecture = \"amd64\"\nstage = \"required\"\narchive = \"debian\"\n\
         path = \"pool/main/d/dash/dash_0.5.12-2_amd64.deb\"\nsize = 98000\n\
         sha256 = \"{digest}\"\n"
    );
    vec![
        include_bytes!("../../recipes/minbase.toml").to_vec(),
        include_bytes!("../../recipes/python-web.toml").to_vec(),
        include_bytes!("../../recipes/fanery.toml").to_vec(),
        lock.into_bytes(),
    ]
}

/// Bytes that choose: see the target.
pub(crate) fn choices() -> Vec<Vec<u8>> {
    let counting: Vec<u8> = (0..=255).collect();
    let mixed = Blake3::of(b"choices").bytes().repeat(8);
    vec![vec![0; 64], counting, mixed, vec![1; 32]]
}
