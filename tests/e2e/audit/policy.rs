//! What the policy of an environment asks of an audit before an image is promoted.

use std::fs;

use serde_json::json;

use super::{Audit, before, osv};
use crate::team::{at, says};

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
    let late = at(team, "+5d", "ann", &promote).expect(3);
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
    at(team, "+2s", "ann", &words).expect(0);
    let promoted = team.run("ann", &promote).expect(0);
    says(&promoted, &["the policy of prod is met", "published"]);
}
