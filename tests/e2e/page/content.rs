//! What the pages say of images and environments.

use std::fs;

use tests::binaries::Ran;

use super::html::files;
use super::{Bench, HOSTILE, SHOWN, has};
use crate::team::{at, says};

#[test]
fn pages_say_what_runs_where_and_nothing_becomes_markup() {
    let bench = Bench::new();
    bench.page("www").expect(0);
    let pages = bench.read("www");
    pages.check();
    assert_eq!(pages.names("image/").len(), 2);
    // From the first release to the second in dev, and back from dev to prod.
    assert_eq!(pages.names("diff/").len(), 2);
    let raw: String = files(&bench.team.path("www"))
        .values()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for bad in ["<script", "\u{202e}", "\u{1b}", "'x\""] {
        assert!(!raw.contains(bad), "{bad:?}");
    }

    let index = pages.text("index.html");
    let log = bench.team.json("ann", &["env", "log", "prod", "--json"]);
    let day = &log["entry"]["time"].as_str().unwrap()[..10];
    let manifest = bench
        .team
        .json("ann", &["show", "dev/web", "--attestations", "--json"]);
    assert_eq!(manifest["attestations"][0]["kind"], "built");
    has(
        index,
        &[
            "From dev to prod",
            "Release 2",
            "Release 1",
            day,
            "packages: 1 changed",
            "prod/web/1",
            "dev/web/1",
            "prod.targets (",
            "approvals by at least 1 of ann",
            &bench.team.root("prod"),
        ],
    );
    let first = bench.team.json("ann", &["list", "--json"]);
    let images = first["images"].as_array().unwrap();
    let of_prod = images
        .iter()
        .find(|image| image["released"].to_string().contains("prod/web"))
        .unwrap()["image"]
        .as_str()
        .unwrap();
    let image = pages.text(&format!(
        "image/{}",
        of_prod.strip_prefix("blake3:").unwrap()
    ));
    has(
        image,
        &[
            of_prod,
            SHOWN,
            "more characters)",
            "prod/web/1",
            "dev/web/1",
            "Its manifest starts nothing.",
            "libfoo",
            "4755",
            "imported, begun at",
            &format!("for prod: looks good {SHOWN}"),
            "ann (",
            "No audit of it is signed",
            // Files of libfoo by its list: forty kilobytes.
            "libfoo, 40.0 kB",
        ],
    );
    let pair = pages.text("diff/");
    has(
        pair,
        &[
            "libfoo:amd64",
            "1.0",
            "2.0",
            "/usr/lib/libfoo.so",
            "Privileged files (2)",
        ],
    );
}

#[test]
fn what_was_revoked_ran_out_or_cannot_be_read_is_said() {
    let bench = Bench::new();
    let reason = format!("CVE-2026-1 {HOSTILE}");
    bench.ann(&["revoke", "prod/web/1", "--in", "prod", "--reason", &reason]);
    bench.page("www").expect(0);
    let pages = bench.read("www");
    pages.check();
    let log = bench
        .team
        .json("ann", &["env", "log", "prod", "--most", "1", "--json"]);
    let day = &log["entry"]["time"].as_str().unwrap()[..10];
    let revoked = format!("Refused: revoked in prod on {day}: CVE-2026-1 {SHOWN}");
    has(pages.text("index.html"), &[&revoked, "Revoked"]);
    let texts: Vec<&str> = pages
        .names("image/")
        .iter()
        .map(|name| pages.text(name))
        .collect();
    assert_eq!(
        texts.iter().filter(|text| text.contains(&revoked)).count(),
        1
    );

    // Two years on, by the clock that every tool of reproducible builds has.
    let late = u64::try_from(jiff_seconds()).unwrap() + 2 * 365 * 86_400;
    let mut command = bench.team.command("ann");
    command
        .args(["page", "--out", "www"])
        .env("SOURCE_DATE_EPOCH", late.to_string());
    Ran::of(&mut command).expect(0);
    let pages = bench.read("www");
    pages.check();
    has(
        pages.text("index.html"),
        &[
            "Refused: the signatures of timestamp ran out at",
            "nodes refuse prod",
        ],
    );
    // Somebody without these keys has not vouched for anything.
    bench.team.run("eve", &["page", "--out", "eves"]).expect(0);
    let eves = bench.read("eves");
    has(
        eves.text("index.html"),
        &["Warning: whoever wrote these pages has not vouched for prod"],
    );
    // She does not know who built it, but knows Ann by the policy.
    let texts: Vec<&str> = eves
        .names("image/")
        .iter()
        .map(|name| eves.text(name))
        .collect();
    assert!(
        texts
            .iter()
            .any(|text| text.contains("ann (") && text.contains("Not counted: "))
    );

    // A damaged image is named, on its page as well; the others are there.
    for entry in fs::read_dir(bench.team.path("store/packs"))
        .unwrap()
        .flatten()
    {
        fs::write(entry.path(), "damaged").unwrap();
    }
    let damaged = bench.page("fresh").expect(3);
    says(
        &damaged,
        &[
            "some of what they are about cannot be read",
            "hint: `imgbuild store fsck`",
        ],
    );
    let fresh = bench.read("fresh");
    fresh.check();
    has(
        fresh.text("image/"),
        &["Refused: the image cannot be read: "],
    );
    // What was read before is not read again.
    let kept = at(&bench.team, "+1s", "ann", &["page", "--out", "www"]).expect(0);
    says(&kept, &["0 of 2 read"]);
}

fn jiff_seconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs().cast_signed()
}
