//! Pending security updates: of an image and of a lock, by an archive that is believed for its
//! signature alone.

use std::fs;

use serde_json::{Value, json};
use tests::archive::{Release, SigningKey};
use tests::binaries::Ran;

use super::{Audit, SUITE, texts};
use crate::team::says;

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
