//! What a change of the recipe or `--upgrade=PACKAGE` moves in a lock, while
//! the archive has newer versions of everything and has dropped the old ones.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::archive::{Archive, Release};
use tests::binaries::Ran;

use super::{Place, ground};

/// Runs `imgbuild lock` with an archive that has these packages and no others:
/// name, version, further control fields.
fn lock(place: &Place, packages: &[(&str, &str, &str)], upgrade: &[&str], code: i32) -> String {
    let root = place.dir.join("ours");
    let _ = fs::remove_dir_all(&root);
    let mut archive = Archive::new(&root);
    for (name, version, control) in packages {
        archive.add_version(name, version, control);
    }
    archive.publish(&Release::good(&ground().key));
    let ours = format!("ours=file:{}", root.display());
    let debian = ground().debian();
    let mut arguments = vec![
        "lock",
        "mine.toml",
        "--archive",
        &debian,
        "--archive",
        &ours,
    ];
    arguments.extend(upgrade);
    place.imgbuild(&arguments).expect(code).stderr
}

/// What was said about each input that changed.
fn changes(said: &str) -> Vec<&str> {
    let kinds = ["  added ", "  removed ", "  changed "];
    let mut lines: Vec<&str> = said
        .lines()
        .filter(|l| kinds.iter().any(|kind| l.starts_with(kind)))
        .map(str::trim)
        .filter(|l| !l.contains(" lock epoch "))
        .collect();
    lines.sort_unstable();
    lines
}

fn different_lines(old: &str, new: &str) -> usize {
    let count = |a: &str, b: &str| {
        let b: Vec<&str> = b.lines().collect();
        a.lines().filter(|line| !b.contains(line)).count()
    };
    count(old, new) + count(new, old)
}

#[test]
fn only_what_must_move_moves() {
    let place = ground().place("upgrades");
    let recipe = |packages: &str| {
        place.write(
            "mine",
            &format!(
                "[[source]]\nname = \"ours\"\narchive = \"ours\"\nsuite = \"{}\"\n\
                 key = \"ours.asc\"\n[[packages]]\ninstall = [{packages}]\n",
                tests::archive::SUITE
            ),
        );
    };
    let read = || fs::read_to_string(place.dir.join("mine.lock")).unwrap();
    let old = [
        ("app", "1.0", "Depends: lib (>= 1.0)\n"),
        ("lib", "1.0", ""),
        ("other", "1.0", ""),
    ];
    recipe("\"app\", \"other\"");
    lock(&place, &old, &[], 0);
    let first = read();

    // Everything has a new version, the old ones are gone from the archive.
    let new = [
        ("app", "2.0", "Depends: lib (>= 2.0), more\n"),
        ("lib", "2.0", ""),
        ("more", "2.0", ""),
        ("other", "2.0", ""),
        ("tool", "2.0", "Depends: lib\n"),
        ("needy", "2.0", "Depends: lib (>= 2.0)\n"),
    ];
    let said = lock(&place, &new, &[], 0);
    assert!(said.contains("mine.lock fits the recipe"), "{said}");
    assert_eq!(read(), first);

    // A further package that the locked ones satisfy moves none of them.
    recipe("\"app\", \"other\", \"tool\"");
    let said = lock(&place, &new, &[], 0);
    assert_eq!(changes(&said), ["added    deb tool 2.0"]);
    assert!(
        said.contains("inputs: 1 added, 0 removed, 0 changed; "),
        "{said}"
    );
    let second = read();
    // The package, the recipe's digest, the Release file.
    let lines = different_lines(&first, &second);
    assert!(lines <= 8 + 2 + 4, "{lines} lines differ");

    // One that needs a newer library moves that library.
    recipe("\"app\", \"other\", \"tool\", \"needy\"");
    let said = lock(&place, &new, &[], 0);
    assert_eq!(
        changes(&said),
        ["added    deb needy 2.0", "changed  deb lib 1.0 -> 2.0"]
    );

    // An upgrade by name moves what must follow, new dependencies included.
    fs::write(place.dir.join("mine.lock"), &second).unwrap();
    recipe("\"app\", \"other\", \"tool\"");
    let said = lock(&place, &new, &["--upgrade=app"], 0);
    assert_eq!(
        changes(&said),
        [
            "added    deb more 2.0",
            "changed  deb app 1.0 -> 2.0",
            "changed  deb lib 1.0 -> 2.0"
        ]
    );
    let said = lock(&place, &new, &["--upgrade=app,lib"], 0);
    assert!(said.contains("has the newest that the recipe"), "{said}");

    // What nothing needs any more goes; all the rest comes with --upgrade.
    recipe("\"other\"");
    let said = lock(&place, &new, &[], 0);
    let gone = ["app 2.0", "lib 2.0", "more 2.0", "tool 2.0"];
    assert_eq!(
        changes(&said),
        gone.map(|gone| format!("removed  deb {gone}"))
    );
    let said = lock(&place, &new, &["--upgrade"], 0);
    assert_eq!(changes(&said), ["changed  deb other 1.0 -> 2.0"]);

    // Names that are not there.
    let before = read();
    let said = lock(&place, &new, &["--upgrade=othre"], 2);
    assert_eq!(
        said,
        "error: the lock names no Debian package, Python distribution or Git source `othre`\n\
         hint: did you mean `other`?\n"
    );
    assert_eq!(read(), before);
    fs::remove_file(place.dir.join("mine.lock")).unwrap();
    let said = lock(&place, &new, &["--upgrade=other"], 2);
    assert!(said.starts_with("error: there is no lock yet"), "{said}");
}

/// Locks `secure.toml` with `ours` and an archive of security updates, in which foo is mended.
fn lock_secure(place: &Place, versions: [&str; 2], arguments: &[&str], code: i32) -> Ran {
    let (ours, security) = (place.dir.join("ours"), place.dir.join("security"));
    for root in [&ours, &security] {
        let _ = fs::remove_dir_all(root);
    }
    let mut archive = Archive::new(&ours);
    archive.add_version("foo", "1.0-1", "");
    archive.add_version("other", versions[0], "");
    archive.publish(&Release::good(&ground().key));
    let mut archive = Archive::new(&security);
    let changelog = "foo (1.0-1+deb12u1) bookworm-security; urgency=high\n\n  * Mend CVE-2026-1111.\n\n \
         -- A <a@debian.example>  Mon, 02 Nov 2026 10:00:00 +0000\n\n\
         foo (1.0-1) bookworm; urgency=low\n\n  * Mend CVE-2025-1.\n\n \
         -- A <a@debian.example>  Mon, 03 Nov 2025 10:00:00 +0000\n";
    if versions[1] != "none" {
        let doc = ("foo/changelog.Debian.gz", changelog);
        archive.add_documented("foo", versions[1], "", doc);
    }
    archive.add_version("stranger", "9", "");
    archive.publish_as("bookworm-security", &Release::good(&ground().key));
    let address = |name: &str, root: &Path| format!("{name}=file:{}", root.display());
    let (ours, security) = (
        address("ours", &ours),
        address("debian-security", &security),
    );
    let mut words = vec!["lock", "secure.toml"];
    let debian = ground().debian();
    for archive in [&debian, &ours, &security] {
        words.extend(["--archive", archive]);
    }
    words.extend(arguments);
    place.imgbuild(&words).expect(code)
}

#[test]
fn security_updates_can_be_taken_alone_and_are_told_to_robots() {
    let place = ground().place("security-upgrades");
    let recipe = |security: &str| {
        let suite = tests::archive::SUITE;
        place.write(
            "secure",
            &format!(
                "[[source]]\nname = \"ours\"\narchive = \"ours\"\nsuite = \"{suite}\"\n\
                 key = \"ours.asc\"\n{security}[[packages]]\ninstall = [\"foo\", \"other\"]\n"
            ),
        );
    };
    recipe("");
    lock_secure(&place, ["1.0", "none"], &[], 0);
    let said = lock_secure(&place, ["2.0", "1.0-1+deb12u1"], &["--upgrade=security"], 2).stderr;
    assert!(
        said.contains("has no archive of security updates"),
        "{said}"
    );

    recipe(
        "[[source]]\nname = \"security\"\narchive = \"debian-security\"\n\
         suite = \"bookworm-security\"\nkey = \"ours.asc\"\n",
    );
    lock_secure(&place, ["1.0", "none"], &[], 0);
    // Both have something newer: one is a security update.
    let newer = ["2.0", "1.0-1+deb12u1"];
    let told = lock_secure(&place, newer, &["--upgrade=security", "--json"], 0).stdout;
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&told["event"], &told["written"]),
        (&json!("locked"), &json!(true))
    );
    let changes = told["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{told:#}");
    for (key, value) in [
        ("change", json!("changed")),
        ("kind", json!("deb")),
        ("name", json!("foo")),
        ("security", json!(true)),
        ("cves", json!(["CVE-2026-1111"])),
    ] {
        assert_eq!(changes[0][key], value, "{told:#}");
    }
    assert_eq!(changes[0]["before"]["version"], "1.0-1");
    assert_eq!(changes[0]["after"]["version"], "1.0-1+deb12u1");
    let told = lock_secure(&place, newer, &["--upgrade=security", "--json"], 0).stdout;
    let told: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&told["written"], &told["changes"]),
        (&json!(false), &json!([]))
    );
}
