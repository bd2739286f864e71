//! Comparing images through the library: small trees, two stores, every kind of
//! difference.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use builder::inspect::compare::{
    Change, FileChange, How, Kind, Owner, Report, Side, compare, show,
};
use builder::inspect::survey::Survey;
use store::manifest::{Fences, Needs, Package, Run, Timer, User, Wheel};
use store::{Manifest, WritableStore};

use crate::support::manifest_of;

/// No file is younger; most are made older than that.
const EPOCH: u64 = 1_000_000;

/// A tree that becomes an image in a store of its own.
struct Made {
    dir: tempfile::TempDir,
    manifest: Option<Manifest>,
}

impl Made {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("tree")).unwrap();
        Self {
            dir,
            manifest: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(name), content).unwrap();
        self
    }

    fn mode(&self, name: &str, mode: u32) -> &Self {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn link(&self, name: &str, target: &str) -> &Self {
        symlink(target, self.path(name)).unwrap();
        self
    }

    fn store(&self) -> WritableStore {
        WritableStore::open_or_create(self.dir.path().join("store")).unwrap()
    }

    /// Publishes the tree; every time is the same unless `time` has set it.
    fn publish(mut self, epoch: u64, change: impl FnOnce(&mut Manifest)) -> Self {
        let store = self.store();
        let tree = self.dir.path().join("tree");
        let published = store.publish_tree(&tree, epoch, &|_| {}).unwrap();
        let mut manifest = manifest_of(published, epoch);
        change(&mut manifest);
        store.put_manifest(&manifest).unwrap();
        self.manifest = Some(manifest);
        self
    }

    fn manifest(&self) -> &Manifest {
        self.manifest.as_ref().unwrap()
    }
}

fn compared(old: &Made, new: &Made, text: bool) -> Report {
    let (one, other) = (old.store(), new.store());
    compare(
        Side {
            store: one.store(),
            manifest: old.manifest(),
        },
        Side {
            store: other.store(),
            manifest: new.manifest(),
        },
        text,
    )
    .unwrap()
}

#[track_caller]
fn change<'r>(report: &'r Report, path: &str) -> &'r FileChange {
    let found = report.files.iter().find(|file| file.path == path);
    found.unwrap_or_else(|| panic!("{path} is not in {:#?}", report.files))
}

fn shown(report: &Report, every_file: bool) -> String {
    let mut text = String::new();
    show(report, How { every_file }, &mut |line| {
        text.push_str(line);
        text.push('\n');
    });
    text
}

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn every_kind_of_difference_is_named() {
    let (old, new) = (Made::new(), Made::new());
    for made in [&old, &new] {
        made.file("same", "same").file("dir/inner", "inner");
    }
    old.file("content", "a\nb\nc\n").file("order", "1\n2\n3\n");
    new.file("content", "a\nB\nc\n").file("order", "3\n1\n2\n");
    old.file("longer", "x").file("mode", "").mode("mode", 0o644);
    new.file("longer", "xy")
        .file("mode", "")
        .mode("mode", 0o4755);
    old.file("gone", "").file("type", "").link("link", "one");
    new.file("come", "123")
        .link("type", "same")
        .link("link", "two");
    old.file("turned", "").file("turned-between", "");
    new.file("turned/into", "").file("turned-between", "");
    old.file("time", "");
    new.file("time", "");
    set_time(&old.path("time"), EPOCH - 100);
    let (old, new) = (old.publish(EPOCH, |_| {}), new.publish(EPOCH, |_| {}));
    let report = compared(&old, &new, true);

    assert!(!report.equal);
    for (path, kinds) in [
        ("content", &[Kind::Content][..]),
        ("order", &[Kind::Content, Kind::Order]),
        ("longer", &[Kind::Content, Kind::Size]),
        ("mode", &[Kind::Mode]),
        ("type", &[Kind::Type]),
        ("link", &[Kind::LinkTarget]),
        ("time", &[Kind::Mtime]),
        ("turned", &[Kind::Type, Kind::Mode]),
    ] {
        let found = change(&report, path);
        assert_eq!(
            (found.change, &found.kinds[..]),
            (Change::Changed, kinds),
            "{path}"
        );
    }
    assert_eq!(change(&report, "gone").change, Change::Removed);
    assert_eq!(change(&report, "come").change, Change::Added);
    assert_eq!(change(&report, "turned/into").change, Change::Added);
    let totals = &report.totals;
    assert_eq!((totals.added, totals.removed, totals.changed), (2, 1, 8));
    assert_eq!(report.files.len(), 11);
    // same, dir/, dir/inner, turned-between and the root.
    assert_eq!((totals.same, totals.retimed), (5, 0));

    let text = change(&report, "content").text.as_deref().unwrap();
    assert_eq!(text, "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
    let [privileged] = &report.privileged[..] else {
        panic!("{:?}", report.privileged)
    };
    assert_eq!(
        (&*privileged.path, privileged.old.is_some()),
        ("mode", false)
    );
    assert_eq!(privileged.new.as_ref().unwrap().mode, 0o4755);

    let text = shown(&report, false);
    for line in [
        "files     2 added, 1 removed, 8 changed, 5 the same; content +4 B\n",
        "  ~ content  content\n        @@ -1,3 +1,3 @@\n",
        "  ~ mode  mode 0644 -> 4755\n",
        "  ~ turned/  type file -> directory, mode",
        "  ~ link  link-target one -> two\n",
        "  ~ time  mtime 1970-01-12T13:45:00Z -> 1970-01-12T13:46:40Z\n",
        "  + come  3 B\n",
        "  - gone\n",
        "\nprivileges\n  + mode  4755 ",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], 1);
    let file = json["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["path"] == "mode");
    assert_eq!(file.unwrap()["kinds"], serde_json::json!(["mode"]));

    // Without text nothing is read, and the order is not known.
    let quick = compared(&old, &new, false);
    assert_eq!(change(&quick, "order").kinds, [Kind::Content]);
    assert!(quick.files.iter().all(|file| file.text.is_none()));
}

#[test]
fn the_same_image_and_another_epoch() {
    let make = |epoch| {
        let made = Made::new();
        made.file("a", "a").file("old", "old");
        set_time(&made.path("old"), 5);
        made.publish(epoch, |_| {})
    };
    let (one, same, later) = (make(EPOCH), make(EPOCH), make(EPOCH + 9));
    let report = compared(&one, &same, true);
    assert!(report.equal && report.files.is_empty());
    assert_eq!(report.totals.same, one.manifest().entries);
    assert!(shown(&report, false).contains(": the same image\n"));
    // Clamped times follow the epoch; that is one figure, not a list.
    let report = compared(&one, &later, true);
    assert!(
        !report.equal && report.files.is_empty(),
        "{:?}",
        report.files
    );
    assert_eq!((report.totals.retimed, report.totals.same), (2, 1));
    assert!(shown(&report, false).contains("2 more only have the time"));
}

#[test]
fn owners_are_found_where_dpkg_and_pip_wrote_them() {
    let make = |version: &str| {
        let made = Made::new();
        let site = "v/lib/python3/site-packages";
        made.link("bin", "usr/bin")
            .file("usr/bin/tool", version)
            .file("usr/bin/sh.distrib", version)
            .file("usr/bin/stray", version)
            .file("usr/share/doc/both", version)
            .file("usr/lib/m/__pycache__/x.cpython-311.pyc", version)
            .file(
                "var/lib/dpkg/info/tool:amd64.list",
                "/.\n/bin\n/bin/tool\n/usr/share/doc/both\n/usr/lib/m/x.py\n",
            )
            .file("var/lib/dpkg/info/tool:amd64.md5sums", version)
            .file(
                "var/lib/dpkg/info/other.list",
                "/.\n/bin/sh\n/usr/share/doc/both\n",
            )
            .file(
                "var/lib/dpkg/diversions",
                "/bin/sh\n/bin/sh.distrib\ndash\n",
            )
            .file(&format!("{site}/app/x.py"), version)
            .file("v/bin/app", version)
            .file(
                &format!("{site}/app-1.dist-info/RECORD"),
                "app/x.py,sha256=x,1\n../../../bin/app,,\n",
            );
        made.publish(EPOCH, |manifest| {
            let package = |name: &str, version: &str| Package {
                name: name.into(),
                version: version.into(),
                arch: "amd64".into(),
            };
            manifest.packages = vec![package("other", "1"), package("tool", version)];
            manifest.wheels = vec![Wheel {
                virtualenv: "/v".into(),
                name: "app".into(),
                version: "1".into(),
            }];
        })
    };
    let report = compared(&make("1"), &make("22"), false);
    let package = |name: &str| Some(Owner::Package(name.into()));
    let app = Some(Owner::Distribution {
        virtualenv: "/v".into(),
        name: "app".into(),
    });
    for (path, owner) in [
        ("usr/bin/tool", package("tool")),
        ("usr/bin/sh.distrib", package("other")),
        ("usr/bin/stray", None),
        ("usr/share/doc/both", None),
        ("usr/lib/m/__pycache__/x.cpython-311.pyc", package("tool")),
        ("var/lib/dpkg/info/tool:amd64.md5sums", package("tool")),
        ("v/lib/python3/site-packages/app/x.py", app.clone()),
        ("v/bin/app", app),
    ] {
        assert_eq!(change(&report, path).owner, owner, "{path}");
    }
    let [tool] = &report.packages[..] else {
        panic!("{:?}", report.packages)
    };
    assert_eq!((tool.files, tool.growth), (3, 3));
    let text = shown(&report, false);
    assert!(
        text.contains("  ~ tool:amd64 1 -> 22  (3 files, +3 B)\n"),
        "{text}"
    );
    assert!(text.contains("  3 files of the packages above"), "{text}");
    assert!(!text.contains("usr/bin/tool"), "{text}");
    assert!(
        text.contains("  ~ v/bin/app  content, size +1 B  [app in /v]\n"),
        "{text}"
    );
    assert!(shown(&report, true).contains("  ~ usr/bin/tool  content"));
}

#[test]
fn manifests_are_compared_too() {
    let make = |now: bool| {
        let made = Made::new();
        made.file("a", if now { "b\x1b[2J" } else { "a" });
        made.publish(EPOCH, |manifest| {
            let user = |name: &str, shell: &str| User {
                name: name.into(),
                uid: 1,
                gid: 1,
                home: "/".into(),
                shell: shell.into(),
            };
            let package = |name: &str, arch: &str| Package {
                name: name.into(),
                version: "1".into(),
                arch: arch.into(),
            };
            manifest.packages = vec![package("a", if now { "all" } else { "amd64" })];
            manifest.users = vec![user("op", if now { "/bin/bash" } else { "/bin/sh" })];
            if now {
                manifest.packages.push(package("b", "amd64"));
                manifest.users.push(user("new", "/bin/sh"));
                manifest.run = Some(Run {
                    user: "op".into(),
                    directory: "/".into(),
                    start: vec!["/bin/app".into()],
                    stop: Vec::new(),
                    reload: Vec::new(),
                    environment: BTreeMap::new(),
                    health: None,
                    before_switch: Vec::new(),
                    processes: Vec::new(),
                    timers: vec![Timer {
                        name: "nightly".into(),
                        command: vec!["/bin/nightly".into(), "all".into()],
                        user: "op".into(),
                        directory: "/".into(),
                        environment: BTreeMap::new(),
                        every: None,
                        at: Some("03:30".into()),
                        limit: None,
                    }],
                    needs: Needs::default(),
                    fences: Fences {
                        memory: Some(512 << 20),
                        ..Fences::default()
                    },
                });
            }
        })
    };
    let report = compared(&make(false), &make(true), true);
    let names: Vec<_> = report
        .packages
        .iter()
        .map(|p| (&*p.name, p.old.is_some()))
        .collect();
    assert_eq!(names, [("a", true), ("b", false)]);
    let text = shown(&report, false);
    for line in [
        "packages  1 added, 0 removed, 1 in another version\n",
        "  + b:amd64 1  (0 files, +0 B)\n",
        "\nusers\n  + new  1:1 / /bin/sh\n  ~ op  1:1 / /bin/sh -> 1:1 / /bin/bash\n",
        "\nservice\n  + directory: /\n  + fences.memory: 536870912\n  + start: /bin/app\n  + timers.nightly.at: 03:30\n",
        "  + timers.nightly.command: /bin/nightly all\n",
        // An image cannot speak to the terminal.
        "        +b\\u{1b}[2J\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn large_files_are_told_apart_without_reading_and_damage_is_named() {
    let noise = |seed: u64| -> Vec<u8> {
        let mut state = seed | 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(3 << 20).collect()
    };
    let make = |change: bool| {
        let made = Made::new();
        let mut large = noise(7);
        if change {
            large[2 << 20] ^= 1;
        }
        made.file("large", large).file("other", noise(9));
        made.publish(EPOCH, |_| {})
    };
    let (old, new) = (make(false), make(true));
    let report = compared(&old, &new, true);
    assert_eq!(report.files.len(), 1);
    assert_eq!(change(&report, "large").kinds, [Kind::Content]);

    // A manifest that calls one image by another's digest.
    let (one, other) = (old.store(), make(false));
    let mut lying = other.manifest().clone();
    lying.image = new.manifest().image;
    let other = other.store();
    let error = compare(
        Side {
            store: one.store(),
            manifest: old.manifest(),
        },
        Side {
            store: other.store(),
            manifest: &lying,
        },
        false,
    )
    .unwrap_err();
    assert!(error.to_string().contains("the digests are not"), "{error}");
}

#[test]
fn space_belongs_to_whoever_brought_a_file_and_each_file_counts_once() {
    let made = Made::new();
    let site = "v/lib/python3/site-packages";
    let lists = [
        ("tool", "/.\n/bin\n/bin/tool\n/usr/lib/m/x.py\n"),
        ("other", "/.\n/bin/tool\n/bin/other\n/bin/gone\n"),
    ];
    for (package, list) in lists {
        made.file(&format!("var/lib/dpkg/info/{package}.list"), list);
    }
    let stanza = |name: &str, source: &str| {
        format!(
            "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n{source}\n"
        )
    };
    let status = stanza("other", "") + "\n" + &stanza("tool", "Source: tools (2)\n");
    made.link("bin", "usr/bin")
        .file("usr/bin/tool", "t".repeat(100))
        .file("usr/bin/other", "o".repeat(30))
        .file("usr/lib/m/x.py", "x".repeat(5))
        .file("usr/lib/m/__pycache__/x.cpython-311.pyc", "c".repeat(7))
        .file(&format!("{site}/app/x.py"), "a".repeat(11))
        .file(&format!("{site}/app-1.dist-info/RECORD"), "app/x.py,,\n")
        .file("srv/app/deep/data", "d".repeat(1000))
        .file("top", "1")
        .file("var/lib/dpkg/status", &status)
        .file("etc/group", "ops:x:7:ann\n");
    fs::hard_link(made.path("usr/bin/tool"), made.path("usr/bin/twice")).unwrap();
    let made = made.publish(EPOCH, |manifest| {
        let package = |name: &str| Package {
            name: name.into(),
            version: "1".into(),
            arch: "amd64".into(),
        };
        manifest.packages = vec![package("other"), package("tool")];
        manifest.wheels = vec![Wheel {
            virtualenv: "/v".into(),
            name: "app".into(),
            version: "1".into(),
        }];
    });
    let survey = Survey::of(made.store().store(), made.manifest()).unwrap();
    let length = |package: usize| lists[package].1.len() as u64;
    let packages: Vec<_> = survey
        .packages
        .iter()
        .map(|p| {
            (
                p.name.as_str(),
                p.source.as_str(),
                p.source_version.as_str(),
                p.space.files,
                p.space.size,
            )
        })
        .collect();
    // Of two that list a file, the first has brought it.
    let expected = [
        ("other", "other", "1", 3, 130 + length(1)),
        ("tool", "tools", "2", 3, 12 + length(0)),
    ];
    assert_eq!(packages, expected);
    let app = &survey.distributions[0];
    assert_eq!(
        (app.virtualenv.as_str(), app.name.as_str(), app.space.size),
        ("/v", "app", 11)
    );
    let sizes = |path: &str| {
        let mut found = survey.directories.iter().filter(|one| one.path == path);
        found.next().map(|one| one.space.size)
    };
    assert_eq!(sizes("srv/app"), Some(1000));
    assert_eq!((sizes(""), sizes("etc")), (Some(1), Some(12)));
    let parts = survey.packages.iter().map(|one| one.space);
    let parts = parts.chain(survey.distributions.iter().map(|one| one.space));
    let parts = parts.chain(survey.directories.iter().map(|one| one.space));
    let together = parts.fold((0, 0), |sum, one| (sum.0 + one.files, sum.1 + one.size));
    assert_eq!(together, (survey.total.files, survey.total.size));
    assert_eq!(survey.groups[0].members, ["ann"]);
    assert_eq!(Survey::from_json(&survey.to_json()).unwrap(), survey);
}
