//! Files of advisories and statements that are not what they should be.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Audit, before, osv};
use crate::team::says;

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
