//! Packages whose security support has ended.

use std::fs;

use serde_json::{Value, json};
use tests::archive::{Archive, Release};

use super::{Audit, texts};
use crate::team::says;

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
