//! Advisories of OSV and of Debian's tracker, and statements that settle them.

use std::fs;

use serde_json::{Value, json};

use super::{Audit, before, osv, texts};

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
