//! `imgbuild audit` through the real binary, with a small security archive of the test's own that
//! passes for Debian's.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::archive::{Archive, Release, SigningKey};
use tests::binaries::Ran;

use crate::team::{Team, says};

const SUITE: &str = "bookworm-security";

const CHANGELOG: &str = "\
foo (1.1-1) bookworm-security; urgency=high

  * Mend CVE-2026-1111 and CVE-2026-2222.

 -- A <a@debian.example>  Mon, 02 Nov 2026 10:00:00 +0000

foo (1.0-1) bookworm; urgency=medium

  * Mend CVE-2025-3333.

 -- A <a@debian.example>  Mon, 03 Nov 2025 10:00:00 +0000
";

/// An image `web`, and the archive that has updates for it.
struct Audit {
    team: Team,
    key: SigningKey,
    root: PathBuf,
}

impl Audit {
    fn new() -> Self {
        let team = Team::new();
        let key = SigningKey::new(&team.path("gpg"));
        let keyring = team.path("debian.gpg");
        fs::write(&keyring, SigningKey::dearmored(&key.public())).unwrap();
        SigningKey::pass_for_debian(&keyring);
        let root = team.path("security");
        let audit = Self { team, key, root };
        audit.publish(&Release::good(&audit.key));
        audit.team.import(&audit.tree());
        audit
    }

    /// What the archive has: two sources of which one has an update.
    fn publish(&self, release: &Release<'_>) {
        let mut archive = Archive::new(&self.root);
        archive.add_version("libfoo", "1.1-1+b1", "Source: foo (1.1-1)\n");
        // Not installed, and the smallest: its documentation is in another package.
        archive.add_documented("afoo", "1.1-1", "Source: foo\n", ("afoo", "foo-doc"));
        archive.add_documented("bfoo", "1.1-1", "Source: foo\n", ("bfoo/copyright", "x"));
        let doc = ("foo-doc/changelog.Debian.gz", CHANGELOG);
        archive.add_documented("foo-doc", "1.1-1", "Source: foo\n", doc);
        archive.add_version("bar", "2.0-1", "");
        archive.add_version("baz", "2.9-1", "");
        archive.add("stranger", "");
        archive.publish_as(SUITE, release);
    }

    fn tree(&self) -> PathBuf {
        let tree = self.team.path("tree");
        let put = |path: &str, text: String| {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let release = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
        put("etc/os-release", release.to_owned());
        let package = |name: &str, version: &str, more: &str| {
            format!(
                "Package: {name}\nStatus: install ok installed\nArchitecture: all\n\
                 Version: {version}\n{more}Maintainer: x\nDescription: x\n\n"
            )
        };
        let status = [
            package("libfoo", "1.0-1+b2", "Source: foo (1.0-1)\n"),
            package("bar", "2.0-1", ""),
            // Rebuilt here: newer than what the archive has.
            package("baz", "3.0-1", "Source: bazaar\n"),
        ];
        put("var/lib/dpkg/status", status.concat());
        put(
            "srv/v/lib/python3.11/site-packages/Flask_Foo-1.4.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: Flask_Foo\nVersion: 1.4\n".to_owned(),
        );
        tree
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let archive = format!("debian-security=file:{}", self.root.display());
        let mut command = self.team.command("ann");
        command.arg("audit").args(arguments);
        Ran::of(command.args(["--archive", &archive]))
    }

    /// The report of the one image that was found to have faults, or none.
    fn report(&self, code: i32, arguments: &[&str]) -> Value {
        let mut words = arguments.to_vec();
        words.push("--json");
        let said = self.run(&words).expect(code).stdout;
        let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut reports = lines.filter(|line: &Value| line["event"] == "audited");
        let report = reports.next().unwrap();
        assert_eq!(reports.next(), None);
        report
    }

    fn write(&self, name: &str, value: &Value) -> String {
        let path = self.team.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, value.to_string()).unwrap();
        path.display().to_string()
    }
}

fn texts<'v>(list: &'v Value, field: &str) -> Vec<&'v str> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one[field].as_str().unwrap()).collect()
}

#[test]
fn what_is_installed_must_be_known() {
    let audit = Audit::new();
    let tree = audit.team.path("tree");
    let dpkg = tree.join("var/lib/dpkg");
    let status = fs::read_to_string(dpkg.join("status")).unwrap();
    fs::remove_file(dpkg.join("status")).unwrap();
    audit.team.import(&tree);
    for sign in [&[][..], &["--sign"]] {
        let said = audit.run(&[&["web"], sign].concat()).expect(1);
        says(
            &said,
            &["what is installed in web cannot be told", "dpkg status"],
        );
    }
    // One file for each package, as images without dpkg have them.
    fs::create_dir(dpkg.join("status.d")).unwrap();
    for stanza in status.split("\n\n").filter(|stanza| !stanza.is_empty()) {
        let name = stanza
            .lines()
            .next()
            .unwrap()
            .trim_start_matches("Package: ");
        let stanza = stanza.replace("Status: install ok installed\n", "");
        fs::write(dpkg.join("status.d").join(name), stanza + "\n").unwrap();
        fs::write(
            dpkg.join("status.d").join(format!("{name}.md5sums")),
            "0  x\n",
        )
        .unwrap();
    }
    audit.team.import(&tree);
    let report = audit.report(4, &["web"]);
    assert_eq!(texts(&report["pending"], "source"), ["foo"]);
}

#[test]
fn pending_security_updates_are_found_and_none_beside() {
    let audit = Audit::new();
    let report = audit.report(4, &["web"]);
    let pending = &report["pending"];
    assert_eq!(texts(pending, "source"), ["foo"]);
    let foo = &pending[0];
    assert_eq!(
        (&foo["installed"], &foo["fixed"]),
        (&json!("1.0-1"), &json!("1.1-1"))
    );
    assert_eq!(
        texts(&foo["cves"], "id"),
        ["CVE-2026-1111", "CVE-2026-2222"]
    );
    assert_eq!(texts(&foo["binaries"], "package"), ["libfoo"]);
    assert_eq!(texts(&foo["binaries"], "fixed"), ["1.1-1+b1"]);
    assert_eq!(foo["severity"], "unknown");
    assert_eq!(
        report["counted"],
        json!({ "pending": 1, "advisories": 0, "ended": 0 })
    );
    let kinds = texts(&report["data"], "kind");
    assert_eq!(kinds, ["release", "packages", "changelog"]);
    let signed = fs::read(audit.root.join("dists").join(SUITE).join("InRelease")).unwrap();
    let digest = tests::archive::sha256(&signed);
    assert_eq!(report["data"][0]["sha256"], json!(digest));
    // What nobody calls harmless counts, whatever the threshold.
    audit.report(4, &["web", "--severity", "critical"]);
    // A table for people, of an environment as well.
    let table = audit.run(&["dev"]).expect(4);
    for words in [
        "SOURCE  INSTALLED  FIXED",
        "foo     1.0-1",
        "CVE-2026-1111 CVE-2026-2222",
        &digest,
    ] {
        assert!(table.stdout.contains(words), "{words}: {}", table.stdout);
    }
    says(
        &table,
        &[
            "error: web has known faults",
            "1 source has a pending security update",
        ],
    );

    // Without the archive, from what was kept.
    let dists = audit.root.join("dists");
    fs::rename(&dists, audit.root.join("gone")).unwrap();
    audit.run(&["web"]).expect(1);
    let offline = audit.report(4, &["web", "--offline"]);
    assert_eq!(offline["pending"], report["pending"]);
    assert_eq!(offline["data"], report["data"]);
    assert_eq!(offline["as_of"], report["data"][0]["date"]);
    assert_ne!(report["as_of"], report["data"][0]["date"]);
    let mut elsewhere = audit.team.command("ann");
    elsewhere
        .args(["audit", "web", "--offline"])
        .env("IMGBUILD_WORK", audit.team.path("empty"));
    says(&Ran::of(&mut elsewhere).expect(1), &["was never read here"]);
    // What was kept is believed for its signature alone.
    let kept = audit.team.path("work/audit/debian-security");
    let kept = kept.join(format!("{SUITE}-{}", "amd64"));
    for file in ["main_binary-amd64_Packages", "InRelease"] {
        let path = kept.join(file);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, whole.replace("foo", "fox")).unwrap();
        fs::write(
            &path,
            whole
                .replacen("Version: 1.1-1+b1", "Version: 1.0-1+b1", 1)
                .replace("Components: main", "Components: mine"),
        )
        .unwrap();
        audit.run(&["web", "--offline"]).expect(3);
        fs::remove_file(&path).unwrap();
        audit.run(&["web", "--offline"]).expect(3);
        fs::write(&path, whole).unwrap();
    }
    audit.report(4, &["web", "--offline"]);
}

#[test]
fn an_archive_that_nobody_should_trust_is_refused() {
    let audit = Audit::new();
    let stranger = SigningKey::new(&audit.team.path("stranger"));
    let good = Release::good(&audit.key);
    for (release, words) in [
        (
            Release::good(&stranger),
            "is not signed by the key that it should be",
        ),
        (
            Release {
                valid_until: Some(-60),
                ..Release::good(&audit.key)
            },
            "has expired",
        ),
        (
            Release {
                fits: false,
                ..Release::good(&audit.key)
            },
            "Packages",
        ),
        (
            Release {
                signer: None,
                ..good
            },
            "sign",
        ),
    ] {
        audit.publish(&release);
        let refused = audit.run(&["web"]);
        assert!(
            refused.stderr.contains(words),
            "{words}: {}",
            refused.stderr
        );
        assert_eq!(refused.stdout, "");
        refused.expect(3);
    }
}

#[test]
fn a_recipe_is_audited_by_its_lock() {
    let audit = Audit::new();
    let recipe = "name = \"small\"\n[bootstrap]\nsuite = \"bookworm\"\narchitecture = \"amd64\"\n";
    fs::write(audit.team.path("small.toml"), recipe).unwrap();
    says(
        &audit.run(&["small.toml"]).expect(1),
        &["there is no small.lock"],
    );
    let digest = format!("sha256:{}", "0".repeat(64));
    let deb = |name: &str, version: &str| {
        format!(
            "[[deb]]\nname = \"{name}\"\nversion = \"{version}\"\narchitecture = \"all\"\n\
             stage = \"required\"\narchive = \"debian\"\npath = \"pool/{name}.deb\"\nsize = 7\n\
             sha256 = \"{digest}\"\n"
        )
    };
    let lock = format!(
        "version = 1\nepoch = 1700000000\narchitecture = \"amd64\"\n\
         bootstrapper = \"debootstrap 1\"\npackages_from = \"{digest}\"\n{}{}",
        deb("bar", "1.0-1"),
        deb("libfoo", "1.1-1+b1")
    );
    fs::write(audit.team.path("small.lock"), lock).unwrap();
    let report = audit.report(4, &["small.toml"]);
    assert_eq!(texts(&report["pending"], "source"), ["bar"]);
    assert_eq!(report["image"], Value::Null);
    let said = audit.run(&["small.toml", "--sign"]).expect(2);
    says(&said, &["it is no image"]);
}

/// An advisory of OSV.
fn osv(id: &str, ecosystem: &str, name: &str, events: &Value, more: &Value) -> Value {
    let mut advisory = json!({
        "schema_version": "1.7.0", "id": id, "modified": "2026-11-01T00:00:00Z",
        "summary": format!("{name} has a fault"), "field of tomorrow": [1, {}],
        "affected": [{
            "package": { "ecosystem": ecosystem, "name": name, "purl": "pkg:x/y" },
            "ranges": [{ "type": "ECOSYSTEM", "events": events }],
        }],
    });
    for (key, value) in more.as_object().unwrap() {
        advisory[key] = value.clone();
    }
    advisory
}

fn before(fixed: &str) -> Value {
    json!([{ "introduced": "0" }, { "fixed": fixed }])
}

#[test]
fn planted_advisories_are_found_and_none_beside() {
    let audit = Audit::new();
    let high = json!({ "severity": [{ "type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N" }], "aliases": ["CVE-2026-1111"] });
    let low = json!({ "database_specific": { "severity": "LOW" }, "aliases": ["CVE-2026-9"] });
    let none = json!({});
    for (name, advisory) in [
        // The source's name counts, and its version.
        (
            "a",
            osv("DEBIAN-1", "Debian:12", "foo", &before("1.1-1"), &high),
        ),
        (
            "b",
            osv("PYSEC-1", "PyPI", "flask.foo", &before("1.4.post1"), &low),
        ),
        (
            "c",
            osv(
                "DEBIAN-2",
                "Debian:12",
                "bazaar",
                &json!([{ "introduced": "2.9-1" }]),
                &none,
            ),
        ),
        // None of these.
        (
            "d",
            osv("NO-1", "Debian:11", "foo", &before("1.1-1"), &none),
        ),
        (
            "e",
            osv("NO-2", "Debian:12", "libfoo", &before("1.1-1"), &none),
        ),
        (
            "f",
            osv("NO-3", "Debian:12", "foo", &before("1.0-1"), &none),
        ),
        ("g", osv("NO-4", "PyPI", "flask-foo", &before("1.4"), &none)),
        ("h", osv("NO-5", "npm", "foo", &before("9"), &none)),
        (
            "i",
            osv(
                "NO-6",
                "PyPI",
                "flask-foo",
                &before("9"),
                &json!({ "withdrawn": "2026-11-02T00:00:00Z" }),
            ),
        ),
        ("j", osv("NO-7", "Debian:12", "baz", &before("9"), &none)),
    ] {
        audit.write(&format!("osv/{name}.json"), &advisory);
    }
    let report = audit.report(4, &["web", "--advisories", "osv"]);
    let mut ids = texts(&report["advisories"], "id");
    ids.sort_unstable();
    assert_eq!(ids, ["DEBIAN-1", "DEBIAN-2", "PYSEC-1"]);
    let of = |id: &str| {
        let mut all = report["advisories"].as_array().unwrap().iter();
        all.find(|one| one["id"] == id).unwrap()
    };
    assert_eq!(of("DEBIAN-1")["severity"], "high");
    assert_eq!(of("DEBIAN-1")["fixed"], "1.1-1");
    assert_eq!(of("PYSEC-1")["package"], "flask-foo");
    assert_eq!(of("PYSEC-1")["severity"], "low");
    assert_eq!(of("DEBIAN-2")["fixed"], Value::Null);
    // What an advisory says of a CVE id is said of the update that mends it.
    assert_eq!(report["pending"][0]["cves"][0]["severity"], "high");
    assert_eq!(report["pending"][0]["severity"], "unknown");
    assert!(texts(&report["data"], "kind").contains(&"directory"));
    let high = audit.report(4, &["web", "--advisories", "osv", "--severity", "critical"]);
    assert_eq!(
        high["counted"],
        json!({ "pending": 1, "advisories": 1, "ended": 0 })
    );

    // Debian's tracker.
    let release = |status: &str, fixed: &str, urgency: &str| json!({ "bookworm": { "status": status, "fixed_version": fixed, "urgency": urgency, "repositories": {} } });
    let tracker = json!({
        "foo": {
            "CVE-2026-1111": { "description": "one", "releases": release("resolved", "1.1-1", "high") },
            "CVE-2026-2222": { "releases": release("resolved", "1.0-1", "low") },
            "CVE-2026-4444": { "releases": release("resolved", "0", "unimportant") },
            "CVE-2026-5555": { "releases": { "trixie": { "status": "open" } } },
        },
        "bazaar": { "CVE-2026-6666": { "releases": release("open", "", "unimportant") } },
        "libfoo": { "CVE-2026-7777": { "releases": release("open", "", "high") } },
        "other": { "CVE-2026-8888": { "releases": release("open", "", "high") } },
    });
    let tracker = audit.write("tracker.json", &tracker);
    let report = audit.report(
        4,
        &["web", "--advisories", &tracker, "--severity", "medium"],
    );
    let found: Vec<_> = texts(&report["advisories"], "id");
    assert_eq!(found, ["CVE-2026-6666", "CVE-2026-1111"]);
    assert_eq!(
        report["counted"],
        json!({ "pending": 1, "advisories": 1, "ended": 0 })
    );

    // Statements settle what they name, and nothing else.
    let statement = |id: &str, status: &str, product: &str| {
        json!({ "vulnerability": { "name": id }, "products": [{ "@id": product }],
                "status": status, "justification": "vulnerable_code_not_present" })
    };
    let vex = json!({
        "@context": "https://openvex.dev/ns/v0.2.0", "author": "us",
        "statements": [
            statement("CVE-2026-1111", "not_affected", "pkg:deb/debian/foo@1.0-1?arch=source&distro=debian-12"),
            statement("CVE-2026-2222", "fixed", "pkg:deb/debian/libfoo@1.0-1%2Bb2"),
            statement("CVE-2026-6666", "not_affected", "pkg:deb/debian/foo"),
            statement("PYSEC-1", "under_investigation", "pkg:pypi/flask-foo"),
        ],
    });
    let vex = audit.write("ours.vex.json", &vex);
    let report = audit.report(4, &["web", "--advisories", &tracker, "--vex", &vex]);
    assert_eq!(report["pending"], json!([]));
    assert_eq!(texts(&report["advisories"], "id"), ["CVE-2026-6666"]);
    assert_eq!(
        texts(&report["settled"], "id"),
        ["CVE-2026-1111", "CVE-2026-2222"]
    );
    let csaf = json!({
        "document": { "category": "csaf_vex", "csaf_version": "2.0" },
        "product_tree": { "branches": [{ "category": "vendor", "name": "us", "branches": [{
            "category": "product_version", "name": "3",
            "product": { "name": "baz", "product_id": "P1", "product_identification_helper": { "purl": "pkg:deb/debian/baz@3.0-1" } } }] }] },
        "vulnerabilities": [{ "cve": "CVE-2026-6666", "product_status": { "known_not_affected": ["P1", "P2"] },
                              "flags": [{ "label": "component_not_present", "product_ids": ["P1"] }] }],
    });
    let csaf = audit.write("ours.csaf.json", &csaf);
    let report = audit.report(
        0,
        &[
            "web",
            "--advisories",
            &tracker,
            "--vex",
            &vex,
            "--vex",
            &csaf,
        ],
    );
    assert_eq!(report["advisories"], json!([]));
    assert_eq!(report["settled"][0]["why"], "component_not_present");
    assert_eq!(
        report["counted"],
        json!({ "pending": 0, "advisories": 0, "ended": 0 })
    );
}

#[test]
fn a_project_of_ones_own_is_no_strangers() {
    let audit = Audit::new();
    let tree = audit.tree();
    let site = tree.join("srv/v/lib/python3.11/site-packages");
    let install = |name: &str, direct_url: Option<Value>| {
        let info = site.join(format!("{name}-1.0.dist-info"));
        fs::create_dir_all(&info).unwrap();
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
        fs::write(info.join("METADATA"), metadata).unwrap();
        if let Some(said) = direct_url {
            fs::write(info.join("direct_url.json"), said.to_string()).unwrap();
        }
    };
    let git = |url: &str| json!({ "url": url, "vcs_info": { "vcs": "git", "commit_id": "0ab1" } });
    install("public", None);
    let archive = "https://files.example/fetched-1.0.zip";
    install(
        "fetched",
        Some(json!({ "url": archive, "archive_info": {} })),
    );
    install("odd", Some(json!("nothing of the kind")));
    let directory = json!({ "url": "file:///home/ann/own", "dir_info": {} });
    install("own", Some(directory));
    let file = json!({ "url": "file:///tmp/wheel-1.0-py3-none-any.whl", "archive_info": {} });
    install("Wheel.Own", Some(file));
    install("cloned", Some(git("https://git.example/cloned.git")));
    install("hidden", Some(git("https://ann:secret@git.example/hidden")));
    audit.team.import(&tree);
    let all = [
        "public",
        "fetched",
        "odd",
        "own",
        "wheel-own",
        "cloned",
        "hidden",
    ];
    let advisories = all.map(|name| osv(name, "PyPI", name, &before("2"), &json!({})));
    let list = audit.write("all.json", &json!(advisories));
    let report = audit.report(4, &["web", "--advisories", &list]);
    let mut found = texts(&report["advisories"], "id");
    found.sort_unstable();
    assert_eq!(found, ["fetched", "odd", "public"]);
    assert_eq!(
        report["notes"],
        json!([
            "taken from no index, so that no advisory of PyPI is about it: cloned 1.0, \
             hidden 1.0, own 1.0, wheel-own 1.0"
        ])
    );
    // Where nothing was compared, nothing was left out.
    assert_eq!(audit.report(4, &["web"])["notes"], json!([]));

    let purls = |bill: &Value, field: &str| -> Vec<String> {
        let all = bill[field].as_array().unwrap().iter();
        let purls = all.filter_map(|one| {
            let purl = &one["externalRefs"][0]["referenceLocator"];
            one["purl"].as_str().or(purl.as_str()).map(str::to_owned)
        });
        let python = purls.filter(|purl| !purl.starts_with("pkg:deb/"));
        python.collect()
    };
    let bill = audit.team.run("ann", &["show", "web", "--sbom"]).expect(0);
    assert!(!bill.stdout.contains("secret") && !bill.stdout.contains("/home/ann"));
    let bill: Value = serde_json::from_str(&bill.stdout).unwrap();
    let mut expected = [
        "pkg:pypi/flask-foo@1.4",
        "pkg:pypi/public@1.0",
        "pkg:pypi/fetched@1.0",
        "pkg:pypi/odd@1.0",
        "pkg:generic/own@1.0",
        "pkg:generic/Wheel.Own@1.0",
        "pkg:generic/cloned@1.0?vcs_url=git%2Bhttps:%2F%2Fgit.example%2Fcloned.git%400ab1",
        "pkg:generic/hidden@1.0",
    ]
    .map(str::to_owned);
    expected.sort();
    let mut named = purls(&bill, "components");
    named.sort();
    assert_eq!(named, expected);
    let spdx = audit.team.run("ann", &["show", "web", "--sbom=spdx"]);
    let spdx: Value = serde_json::from_str(&spdx.expect(0).stdout).unwrap();
    let mut named = purls(&spdx, "packages");
    named.sort();
    assert_eq!(named, expected);
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_one_clear_error() {
    let audit = Audit::new();
    let good = osv("OK-1", "Debian:12", "foo", &before("2"), &json!({}));
    let refuse = |flag: &str, name: &str, text: &str, words: &[&str]| {
        let path: &Path = &audit.team.path(name);
        fs::write(path, text).unwrap();
        let said = audit.run(&["web", flag, name]).expect(2);
        says(&said, words);
        assert_eq!(said.stdout, "", "{name}");
        assert_eq!(said.stderr.matches("error:").count(), 1, "{}", said.stderr);
    };
    let osv_with = |field: &str, value: Value| {
        let mut bad = good.clone();
        bad["affected"][0][field] = value;
        bad.to_string()
    };
    let a = "--advisories";
    refuse(
        a,
        "cut.json",
        &good.to_string()[..60],
        &["cut.json cannot be used", "EOF"],
    );
    refuse(a, "text.json", "advisories", &["text.json cannot be used"]);
    refuse(
        a,
        "other.json",
        "{\"A\": 1}",
        &["is in no format that is known here"],
    );
    // What other programs write is no tracker's, whatever its keys.
    for (name, text) in [
        (
            "answer.json",
            json!({ "code": 5, "message": "Bug not found." }),
        ),
        (
            "report.json",
            json!({ "scan": { "a": { "b": 1 } }, "vulnerabilities": [{ "id": 1 }] }),
        ),
        ("fault.json", json!({ "fault": { "code": 404 } })),
        ("empty.json", json!({ "foo": {} })),
    ] {
        refuse(
            a,
            name,
            &text.to_string(),
            &[&format!("{name} cannot be used")],
        );
    }
    let batch =
        json!({ "results": [{ "vulns": [{ "id": "OK-1", "modified": "2026-01-01T00:00:00Z" }] }] });
    refuse(
        a,
        "batch.json",
        &batch.to_string(),
        &["holds no advisories", "fetch each advisory itself"],
    );
    refuse(
        a,
        "ids.json",
        &batch["results"][0].to_string(),
        &[
            "ids.json cannot be used",
            "OK-1: it has an id and nothing else",
        ],
    );
    refuse(
        a,
        "ranges.json",
        &osv_with("ranges", json!("all")),
        &["ranges.json", "OK-1: invalid type"],
    );
    refuse(
        a,
        "events.json",
        &osv_with(
            "ranges",
            json!([{ "type": "ECOSYSTEM", "events": [{ "fixed": 7 }] }]),
        ),
        &["events.json", "OK-1: invalid type: integer `7`"],
    );
    refuse(
        a,
        "list.json",
        &json!([good, { "id": 7 }]).to_string(),
        &["list.json", "entry 2: invalid type"],
    );
    refuse(
        a,
        "deep.json",
        &"[".repeat(100_000),
        &["deep.json", "recursion limit"],
    );
    refuse(
        a,
        "tracker.json",
        "{\"foo\": {\"CVE-2026-1\": {\"releases\": {\"bookworm\": {\"status\": \"great\"}}}}}",
        &["tracker.json", "foo: unknown variant `great`"],
    );
    refuse(
        a,
        "zip.json",
        "PK\u{3}\u{4}and nothing else",
        &["zip.json", "the archive is damaged"],
    );
    let vex = json!({ "@context": "https://openvex.dev/ns", "statements": [{ "vulnerability": "CVE-1", "status": "great" }] });
    refuse(
        "--vex",
        "vex.json",
        &vex.to_string(),
        &["vex.json", "statement 1: unknown variant `great`"],
    );
    let bare = json!({ "@context": "https://openvex.dev/ns", "statements": [{
        "vulnerability": "CVE-1", "products": ["pkg:deb/debian/foo"], "status": "not_affected" }] });
    refuse(
        "--vex",
        "bare.json",
        &bare.to_string(),
        &["statement 1: `not_affected` needs a `justification`"],
    );
    refuse(
        "--vex",
        "osv.json",
        &good.to_string(),
        &["neither a document of OpenVEX nor one of CSAF"],
    );
    refuse(
        a,
        "vex2.json",
        &vex.to_string(),
        &["holds no advisories", "--vex vex2.json"],
    );
    let csaf = "{\"document\": {}, \"vulnerabilities\": [{\"cve\": 7}]}";
    refuse(
        "--vex",
        "csaf.json",
        csaf,
        &["csaf.json", "vulnerability 1: invalid type"],
    );
    says(
        &audit.run(&["web", a, "/dev/zero"]).expect(2),
        &["neither a file nor a directory"],
    );
    fs::create_dir(audit.team.path("empty")).unwrap();
    says(
        &audit.run(&["web", a, "empty"]).expect(2),
        &["has no file .json or .zip"],
    );
}

/// From a refusal to a release: an update is pending, then it is excepted, then the exception is
/// over.
#[test]
fn a_policy_asks_for_an_audit_and_says_what_may_be_found() {
    let audit = Audit::new();
    let team = &audit.team;
    let (ann, ci) = (team.key("ann", "ann"), team.key("ann", "ci"));
    let policy = |more: &str| {
        format!(
            "[audited]\nkeys = [\"ci\"]\nmax-age-days = 3\nseverity = \"high\"\n{more}\
             [keys]\nann = \"{ann}\"\nci = \"{ci}\"\n"
        )
    };
    let except = |id: &str, expires: &str| {
        format!(
            "[[audited.except]]\nid = \"{id}\"\nreason = \"not reachable\"\nexpires = \"{expires}\"\n"
        )
    };
    fs::write(team.path("policy.toml"), policy("")).unwrap();
    let init = [
        "env",
        "init",
        "prod",
        "--plain",
        "--root",
        "ann",
        "--policy",
        "policy.toml",
    ];
    team.run("ann", &init).expect(0);
    let promote = ["promote", "dev/web", "--to", "prod"];

    // Nobody has audited it; somebody has whose word does not count; somebody has found something.
    let refused = team.run("ann", &promote).expect(3);
    says(
        &refused,
        &["audited: 0 of 1; wanted of ci: imgbuild audit "],
    );
    audit.run(&["web", "--sign", "--key", "ann"]).expect(4);
    says(
        &team.run("ann", &promote).expect(3),
        &["audited: 0 of 1; wanted of ci"],
    );
    let signed = audit.run(&["web", "--sign", "--key", "ci"]).expect(4);
    says(&signed, &["says so in attestations/"]);
    let shown = team
        .run("ann", &["show", "web", "--attestations"])
        .expect(0);
    assert!(
        shown.stdout.contains("audited    by ci"),
        "{}",
        shown.stdout
    );
    team.run("ann", &["page", "--out", "www"]).expect(0);
    let index = fs::read_to_string(team.path("www/index.html")).unwrap();
    assert!(index.contains("pending security updates: 1"), "{index}");
    let refused = team.run("ann", &promote).expect(3);
    says(
        &refused,
        &[
            "by ci: sources with pending security updates: 1, at most 0 are allowed: foo \
             (CVE-2026-1111 CVE-2026-2222); imgbuild lock RECIPE --upgrade",
        ],
    );

    // An exception that is over, one for a part of it, one for all of it.
    for (except, words) in [
        (
            except("foo", "2026-01-31"),
            "the policy's exception for foo expired on 2026-01-31",
        ),
        (
            except("CVE-2026-1111", "2999-12-31"),
            "are allowed: foo (CVE-2026-2222)",
        ),
    ] {
        team.change_policy(&policy(&except));
        says(&team.run("ann", &promote).expect(3), &[words]);
    }
    let wrong = team
        .propose_policy(&policy(&except("foo", "soon")))
        .expect(2);
    says(
        &wrong,
        &["the exception of `audited` for foo `expires` on no day such as 2026-12-31"],
    );
    let both = [
        except("CVE-2026-1111", "2999-12-31"),
        except("CVE-2026-2222", "2999-12-31"),
    ];
    team.change_policy(&policy(&both.concat()));
    let late = crate::team::at(team, "+5d", "ann", &promote).expect(3);
    says(
        &late,
        &["what it knows is 5 days old, at most 3 are allowed"],
    );
    // An audit knows no more than what it was made from: this archive is old.
    let refused = {
        audit
            .run(&["web", "--offline", "--sign", "--key", "ci"])
            .expect(4);
        team.run("ann", &promote).expect(3)
    };
    says(
        &refused,
        &[
            "by ci: what it knows is ",
            "days old, at most 3 are allowed: audit it again",
        ],
    );

    // The newest audit of a key counts, and here it finds that advisories call both harmless.
    let osv = |id: &str| {
        let low = json!({ "database_specific": { "severity": "LOW" }, "aliases": [id] });
        osv(
            &format!("X-{id}"),
            "Debian:12",
            "elsewhere",
            &before("1"),
            &low,
        )
    };
    team.change_policy(&policy("advisories = 0\n"));
    audit.run(&["web", "--sign", "--key", "ci"]).expect(4);
    says(
        &team.run("ann", &promote).expect(3),
        &[
            " --advisories FILE --sign --key NAME\n",
            "by ci: it was compared with no advisories\n",
            "hint: --advisories FILE takes advisories of OSV and of Debian's tracker",
        ],
    );
    let list = audit.write(
        "list.json",
        &json!([osv("CVE-2026-1111"), osv("CVE-2026-2222")]),
    );
    let found = [
        "web",
        "--advisories",
        &list,
        "--severity",
        "high",
        "--sign",
        "--key",
        "ci",
    ];
    // In a later second than the one before: of one second, each must suffice.
    let archive = format!("debian-security=file:{}", audit.root.display());
    let words = [&["audit"][..], &found, &["--archive", &archive]].concat();
    crate::team::at(team, "+2s", "ann", &words).expect(0);
    let promoted = team.run("ann", &promote).expect(0);
    says(&promoted, &["the policy of prod is met", "published"]);
}

#[test]
fn ended_support_is_read_from_a_file_from_the_archive_and_from_the_image() {
    let audit = Audit::new();
    let list = "# list\nbazaar 2.9-1 2026-06-12 nobody mends it\nbar 1 2999-01-01 later\nother 1 2020-01-01\n";
    fs::write(audit.team.path("list"), list).unwrap();
    let ended = |report: &Value| {
        let ended = report["ended"].as_array().unwrap().iter();
        let said = ended.map(|one| format!("{} {} {}", one["source"], one["over"], one["date"]));
        said.collect::<Vec<_>>()
    };
    let expected = [
        "\"bar\" false \"2999-01-01\"",
        "\"bazaar\" true \"2026-06-12\"",
    ];
    assert!(ended(&audit.report(4, &["web"])).is_empty());
    let report = audit.report(4, &["web", "--support-ended=list"]);
    assert_eq!(ended(&report), expected);
    assert_eq!(
        report["counted"],
        json!({ "pending": 1, "advisories": 0, "ended": 1 })
    );
    fs::write(audit.team.path("bad"), "bazaar 1 soon\n").unwrap();
    says(
        &audit.run(&["web", "--support-ended=bad"]).expect(2),
        &["bad cannot be used", "line 1"],
    );

    // The archive's package.
    let package = |text: &str| {
        let mut archive = Archive::new(&audit.team.path("debian"));
        archive.add("unrelated", "");
        let name = "debian-security-support";
        let doc = (
            "../debian-security-support/security-support-ended.deb12",
            text,
        );
        archive.add_plain(name, "1:12+2026", "", doc);
        archive.publish_as("bookworm", &Release::good(&audit.key));
    };
    package(list);
    let debian = format!("debian=file:{}", audit.team.path("debian").display());
    let words = ["web", "--support-ended", "--archive", &debian];
    let report = audit.report(4, &words);
    assert_eq!(ended(&report), expected);
    let kinds = texts(&report["data"], "kind");
    assert_eq!(kinds.last(), Some(&"support-ended"));
    fs::remove_dir_all(audit.team.path("debian")).unwrap();
    audit.run(&words).expect(1);
    assert_eq!(
        ended(&audit.report(4, &[&words[..], &["--offline"]].concat())),
        expected
    );

    // The image's own.
    let path = "tree/usr/share/debian-security-support/security-support-ended.deb12";
    let path = audit.team.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, list).unwrap();
    audit.team.import(&audit.team.path("tree"));
    assert_eq!(ended(&audit.report(4, &["web"])), expected);
}
