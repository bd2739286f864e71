use super::*;

/// A manifest of an image with this content.
pub(crate) fn manifest(name: &str, content: &str) -> Manifest {
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

fn example() -> Manifest {
    let chunk = ChunkRef::new(Blake3::of(b"layout"), 6).unwrap();
    Manifest {
        schema: SCHEMA,
        name: "minbase".parse().unwrap(),
        image: Blake3::of(b"tar"),
        sha256: Sha256::of(b"tar"),
        size: 2048,
        entries: 2,
        layout: LayoutRef {
            digest: Blake3::of(b"layout"),
            size: 6,
            chunks: vec![chunk],
        },
        arch: "amd64".into(),
        suite: "bookworm".into(),
        epoch: 1_700_000_000,
        packages: vec![Package {
            name: "dash".into(),
            version: "0.5.12-2".into(),
            arch: "amd64".into(),
        }],
        wheels: Vec::new(),
        users: Vec::new(),
        setuid: vec![SpecialFile {
            path: "usr/bin/su".into(),
            mode: 0o4755,
            uid: 0,
            gid: 0,
        }],
        xattrs: vec![XattrEntry {
            path: "usr/bin/ping".into(),
            name: "security.capability".into(),
            value_hex: "01ff".into(),
        }],
        recipe: Sha256::of(b"recipe"),
        lock: Sha256::of(b"lock"),
        builder: "imgbuild 0.1.0".into(),
        run: Some(Run {
            user: "app".into(),
            directory: "/home/app".into(),
            start: vec!["./start".into()],
            stop: Vec::new(),
            reload: Vec::new(),
            environment: BTreeMap::from([("LANG".into(), "C.UTF-8".into())]),
            health: None,
            before_switch: Vec::new(),
            processes: Vec::new(),
            timers: Vec::new(),
            needs: Needs::default(),
            fences: Fences::default(),
        }),
    }
}

/// The example's JSON with one piece of text replaced.
fn edited(from: &str, to: &str) -> Vec<u8> {
    let json = String::from_utf8(example().to_json()).unwrap();
    assert_eq!(
        json.matches(from).count(),
        1,
        "{from:?} must stand once in {json}"
    );
    json.replace(from, to).into_bytes()
}

#[test]
fn reads_what_it_writes() {
    let manifest = example();
    let json = manifest.to_json();
    assert_eq!(Manifest::from_json(&json).unwrap(), manifest);
    assert_eq!(Manifest::from_json(&json).unwrap().to_json(), json);
    assert!(json.ends_with(b"}\n"));
}

#[test]
fn what_says_nothing_is_left_out() {
    let text = String::from_utf8(example().to_json()).unwrap();
    let user = "\"run\": {";
    assert!(text.contains(user), "{text}");
    for nothing in [
        "\"before_switch\": [], ",
        "\"needs\": {}, ",
        "\"fences\": {\"read_only\": false}, ",
        "\"health\": null, ",
    ] {
        let spelled = text.replace(user, &format!("{user}{nothing}"));
        let error = Manifest::from_json(spelled.as_bytes()).unwrap_err();
        assert!(
            format!("{error:?}").contains("left out"),
            "{nothing}: {error:?}"
        );
    }
}

#[test]
fn a_manifest_with_processes() {
    let mut manifest = example();
    assert!(!String::from_utf8_lossy(&manifest.to_json()).contains("processes"));
    let worker = Process {
        name: "worker".into(),
        command: vec!["/srv/worker".into()],
        user: "app".into(),
        directory: "/srv".into(),
        environment: BTreeMap::new(),
        count: 2,
        stop_signal: "TERM".into(),
        reload_signal: None,
        overlap: false,
    };
    let mut with = |processes: Vec<Process>| {
        manifest.run.as_mut().unwrap().processes = processes;
        Manifest::from_json(&manifest.to_json()).map_err(|error| error.to_string())
    };
    let read = with(vec![worker.clone()]).unwrap();
    assert_eq!(
        read,
        Manifest {
            run: read.run.clone(),
            ..example()
        }
    );
    assert_eq!(read.run.unwrap().processes.first(), Some(&worker));
    for (wrong, why) in [
        (
            Process {
                name: "a b".into(),
                ..worker.clone()
            },
            "not a name",
        ),
        (
            Process {
                command: Vec::new(),
                ..worker.clone()
            },
            "no command",
        ),
        (
            Process {
                count: 0,
                ..worker.clone()
            },
            "0 processes",
        ),
        (
            Process {
                count: 65,
                ..worker.clone()
            },
            "65 processes",
        ),
        (
            Process {
                stop_signal: "KILL".into(),
                ..worker.clone()
            },
            "no signal",
        ),
        (
            Process {
                reload_signal: Some("1".into()),
                ..worker.clone()
            },
            "no signal",
        ),
    ] {
        let said = with(vec![wrong]).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    assert!(
        with(vec![worker.clone(), worker])
            .unwrap_err()
            .contains("twice")
    );
}

fn example_with(timer: &Timer) -> String {
    let mut manifest = example();
    manifest.run.as_mut().unwrap().timers = vec![timer.clone()];
    String::from_utf8(manifest.to_json()).unwrap()
}

#[test]
fn a_manifest_with_timers() {
    let timer = |every, at: Option<&str>| Timer {
        name: "nightly".into(),
        command: vec!["/srv/nightly".into()],
        user: "app".into(),
        directory: "/srv".into(),
        environment: BTreeMap::new(),
        every,
        at: at.map(str::to_owned),
        limit: None,
    };
    let read = |timers: Vec<Timer>| {
        let mut manifest = example();
        manifest.run.as_mut().unwrap().timers = timers;
        Manifest::from_json(&manifest.to_json()).map_err(|error| error.to_string())
    };
    let nightly = timer(None, Some("03:30"));
    let found = read(vec![nightly.clone()]).unwrap().run.unwrap();
    assert_eq!(found.timers.first(), Some(&nightly));
    for at in ["24:00", "3:30", "03:60", "0330", "+3:30", ""] {
        let said = read(vec![timer(None, Some(at))]).unwrap_err();
        assert!(said.contains("not clear"), "{at}: {said}");
    }
    for (every, at) in [(None, None), (Some(0), None), (Some(60), Some("03:30"))] {
        assert!(read(vec![timer(every, at)]).is_err());
    }
    let day = 24 * 3600;
    let at = 3 * 3600 + 30 * 60;
    assert_eq!(nightly.next(0), at);
    assert_eq!(nightly.next(at - 1), at);
    // Once a day, also when it starts at that very second.
    assert_eq!(nightly.next(at), day + at);
    assert_eq!(nightly.next(5 * day + at + 1), 6 * day + at);
    assert_eq!(timer(Some(900), None).next(1000), 1900);
    assert_eq!(timer(Some(900), None).schedule(), "every 15m");
    assert_eq!(nightly.schedule(), "at 03:30 UTC");
    // Without a limit the bytes are what they were.
    assert!(!example_with(&nightly).contains("limit"));
    let limited = |limit| Timer {
        limit: Some(limit),
        ..nightly.clone()
    };
    let found = read(vec![limited(5400)]).unwrap().run.unwrap();
    assert_eq!(found.timers, [limited(5400)]);
    assert_eq!(limited(5400).schedule(), "at 03:30 UTC, for at most 90m");
    let said = read(vec![limited(0)]).unwrap_err();
    assert!(said.contains("has no time to run"), "{said}");
}

#[test]
fn a_manifest_with_a_health_check() {
    let mut manifest = example();
    assert!(!String::from_utf8_lossy(&manifest.to_json()).contains("health"));
    manifest.run.as_mut().unwrap().health = Some(Health {
        http: "/up".into(),
        headers: vec!["X-Asked-By: imgnode".into()],
        command: Vec::new(),
        within: 60,
        timeout: 5,
        bake: None,
    });
    let json = manifest.to_json();
    assert_eq!(Manifest::from_json(&json).unwrap(), manifest);
    let other = String::from_utf8(json)
        .unwrap()
        .replace("within", "without");
    assert!(Manifest::from_json(other.as_bytes()).is_err());
}

#[test]
fn a_manifest_without_a_start_command() {
    let manifest = Manifest {
        run: None,
        ..example()
    };
    let json = manifest.to_json();
    assert!(!String::from_utf8_lossy(&json).contains("\"run\""));
    assert_eq!(Manifest::from_json(&json).unwrap(), manifest);
}

#[test]
fn refuses_what_is_not_exactly_a_manifest() {
    let environment = "\"LANG\": \"C.UTF-8\"";
    let cases = [
        (
            "an unknown key",
            edited(
                "\"arch\": \"amd64\",\n  \"suite\"",
                "\"arch\": \"amd64\", \"x\": 1, \"suite\"",
            ),
        ),
        (
            "a duplicate key",
            edited("\"suite\": ", "\"epoch\": 1, \"suite\": "),
        ),
        (
            "a duplicate variable",
            edited(environment, &format!("{environment}, {environment}")),
        ),
        ("a float", edited("\"entries\": 2", "\"entries\": 2.0")),
        (
            "a negative number",
            edited("\"entries\": 2", "\"entries\": -2"),
        ),
        ("no entries", edited("\"entries\": 2", "\"entries\": 0")),
        (
            "a size that is no tar's",
            edited("\"size\": 2048", "\"size\": 2047"),
        ),
        (
            "fewer bytes than entries",
            edited("\"size\": 2048", "\"size\": 1536"),
        ),
        (
            "a layout of another size",
            edited("\"size\": 6", "\"size\": 7"),
        ),
        ("a bad name", edited("\"minbase\"", "\"../minbase\"")),
        (
            "trailing text",
            [example().to_json(), b"{}".to_vec()].concat(),
        ),
        (
            "a missing key",
            edited("  \"arch\": \"amd64\",\n  \"suite\"", "  \"suite\""),
        ),
        (
            "another hash function",
            edited("\"image\": \"blake3:", "\"image\": \"sha256:"),
        ),
        ("a digest in capitals", {
            let hex = example().image.hex();
            edited(&hex, &hex.to_uppercase())
        }),
        (
            "too many entries",
            edited("\"entries\": 2", "\"entries\": 1048577"),
        ),
        ("nothing", Vec::new()),
        ("nesting", "[".repeat(100_000).into_bytes()),
    ];
    for (what, json) in cases {
        let error = Manifest::from_json(&json).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
    }
}

#[test]
fn a_document_that_is_too_long_is_not_read() {
    let mut json = example().to_json();
    json.resize(MAX_BYTES as usize, b' ');
    assert_eq!(Manifest::from_json(&json).unwrap(), example());
    json.push(b' ');
    let error = Manifest::from_json(&json).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[test]
fn another_schema_is_named() {
    let error = Manifest::from_json(b"{\"schema\": 2, \"new\": {}}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Foreign);
    assert_eq!(
        error.to_string(),
        "the manifest has schema 2; this program reads schema 1"
    );
}

#[test]
fn unlisted_privilege_is_refused() {
    let example = example();
    let manifest = example.privileges();
    let mut entry = Entry {
        path: b"usr/bin/su".to_vec(),
        kind: Kind::File { size: 1 },
        mode: 0o4755,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: BTreeMap::new(),
    };
    manifest.check(&entry).unwrap();
    entry.uid = 1;
    assert!(manifest.check(&entry).is_err());
    entry.path = b"usr/bin/ping".to_vec();
    entry.mode = 0o755;
    entry
        .xattrs
        .insert(b"security.capability".to_vec(), vec![1, 255]);
    manifest.check(&entry).unwrap();
    entry
        .xattrs
        .insert(b"security.capability".to_vec(), vec![1, 254]);
    assert!(manifest.check(&entry).is_err());
}
