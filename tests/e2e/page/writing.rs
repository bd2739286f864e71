//! Pages written again: the same bytes, and only what is new.

use std::collections::BTreeMap;
use std::fs;

use super::Bench;
use super::html::files;
use crate::team::says;

#[test]
fn the_same_state_is_the_same_bytes_and_what_was_done_stays() {
    let bench = Bench::new();
    let first = bench.page("www").expect(0);
    says(&first, &["2 of 2 compared", "2 of 2 read"]);
    assert!(
        first
            .stdout
            .contains("5 pages, 5 of them written, 0 removed"),
        "{}",
        first.stdout
    );
    bench.page("other/place").expect(0);
    let bytes = |dir: &str| -> BTreeMap<String, Vec<u8>> {
        let files = files(&bench.team.path(dir)).into_iter();
        files
            .map(|(name, path)| (name, fs::read(path).unwrap()))
            .collect()
    };
    let before = bytes("www");
    assert!(before == bytes("other/place"));
    let again = bench.page("www").expect(0);
    says(&again, &["0 of 2 compared", "0 of 2 read"]);
    assert!(
        again.stdout.contains("5 pages, 0 of them written"),
        "{}",
        again.stdout
    );

    // Another release: its own pages, the first page, and that of the image which is no longer the
    // newest.
    bench.release("3.0");
    let more = bench.page("www").expect(0);
    says(&more, &["2 of 3 compared", "1 of 3 read"]);
    assert!(
        more.stdout
            .contains("7 pages, 5 of them written, 1 removed"),
        "{}",
        more.stdout
    );
    bench.read("www").check();
    // An image by another name and in another environment is not read again.
    let both = bench
        .team
        .run("ann", &["page", "--out", "www", "--env", "dev"])
        .expect(0);
    says(&both, &["0 of 2 compared", "0 of 3 read"]);
    let dev = bench.read("www");
    dev.check();
    assert!(
        !dev.text("index.html").contains("prod"),
        "{}",
        dev.text("index.html")
    );

    // A page that was changed by hand is written again, one that somebody put there is not touched.
    let index = bench.team.path("www/index.html");
    fs::write(&index, "by hand").unwrap();
    fs::write(bench.team.path("www/robots.txt"), "ours").unwrap();
    bench.page("www").expect(0);
    assert!(
        fs::read_to_string(&index)
            .unwrap()
            .starts_with("<!DOCTYPE html>")
    );
    assert_eq!(
        fs::read(bench.team.path("www/robots.txt")).unwrap(),
        b"ours"
    );

    let tree = bench.team.tree("tree", "1");
    let refused = bench.page(tree.to_str().unwrap()).expect(2);
    says(
        &refused,
        &["has files that imgbuild did not write", "hint: "],
    );
    assert!(!tree.join("index.html").exists());
}
