//! What a change of the recipe or `--upgrade=PACKAGE` moves in a lock, while
//! the archive has newer versions of everything and has dropped the old ones.

use std::fs;

use tests::archive::{Archive, Release};

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
