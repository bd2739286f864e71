//! What apt would install from archives that speak of the same packages, stage by
//! stage: which bytes, and what becomes of what an earlier stage installed.

use std::fs;

use tests::archive::{Archive, Release, sha256};
use tests::fixtures::copy_places;

use super::{Place, ground};

/// A package of every minimal tree that is of no architecture and needs nothing.
const SHARED: &str = "debian-archive-keyring";

/// The entries of a package in a lock: stage, version, archive, digest.
fn entries(place: &Place, recipe: &str, name: &str) -> Vec<[String; 4]> {
    let lock = fs::read_to_string(place.dir.join(format!("{recipe}.lock"))).unwrap();
    let tables = lock.split("\n\n");
    let of_name = tables.filter(|t| t.starts_with(&format!("[[deb]]\nname = \"{name}\"\n")));
    of_name
        .map(|table| {
            ["stage", "version", "archive", "sha256"].map(|key| {
                let mut lines = table.lines();
                let value = lines.find_map(|l| l.strip_prefix(&format!("{key} = ")));
                let value = value.unwrap_or_default().trim_matches('"');
                value.trim_start_matches("sha256:").to_owned()
            })
        })
        .collect()
}

/// Locks a package of the archive `ours`, which calls itself what `names` says.
fn pinned(place: &Place, version: &str, names: &str, priority: i32) -> [String; 4] {
    let root = place.dir.join("ours");
    let _ = fs::remove_dir_all(&root);
    let mut archive = Archive::new(&root);
    let path = archive.add_version("media-types", version, "");
    let own = sha256(&fs::read(root.join(path)).unwrap());
    archive.publish(&Release {
        names,
        ..Release::good(&ground().key)
    });
    place.write(
        "pinned",
        &format!(
            "[[source]]\nname = \"ours\"\narchive = \"ours\"\nsuite = \"stable\"\n\
             key = \"ours.asc\"\npriority = {priority}\n\
             [[packages]]\ninstall = [\"media-types\"]\n"
        ),
    );
    let _ = fs::remove_file(place.dir.join("pinned.lock"));
    let url = format!("file:{}", root.display());
    place.lock_with("pinned.toml", &url).expect(0);
    let mut found = entries(place, "pinned", "media-types");
    assert_eq!(found.len(), 1);
    let [stage, version, archive, digest] = found.remove(0);
    let whose = if digest == own { "own" } else { "theirs" };
    [stage, version, archive, whose.to_owned()]
}

#[test]
fn a_priority_is_for_its_source_whatever_that_calls_itself() {
    let place = ground().place("pins");
    let like_debian = "Origin: Debian\nLabel: Debian\nSuite: stable\nCodename: bookworm\n";
    let [_, debian, archive, _] = pinned(&place, "99", like_debian, 100);
    assert_eq!(archive, "debian");
    for names in [like_debian, ""] {
        let chosen = pinned(&place, "1.0", names, 1001);
        assert_eq!(chosen[1..], ["1.0", "ours", "own"], "{names}");
    }
    let chosen = pinned(&place, "99", "Codename: bookworm\n", -1);
    assert_eq!(chosen[1..3], [debian.as_str(), "debian"]);
    // The very version of Debian, and other bytes.
    let chosen = pinned(&place, &debian, like_debian, 1001);
    assert_eq!(chosen[1..], [debian.as_str(), "ours", "own"]);
    let chosen = pinned(&place, &debian, like_debian, 100);
    assert_eq!(chosen[1..], [debian.as_str(), "debian", "theirs"]);

    // A recipe names sources, not hosts.
    place.write(
        "host",
        "[apt]\npreferences = \"\"\"\nPackage: *\nPin: origin mirror.example\n\
         Pin-Priority: 900\n\"\"\"\n",
    );
    let said = place.lock_with("host.toml", "file:/").expect(2).stderr;
    assert!(
        said.contains("pin the origin `mirror.example`, and no [[source]] has that name"),
        "{said}"
    );
}

/// Publishes the archive `ours` and writes a recipe of these groups.
fn write(place: &Place, groups: &[&str]) {
    let root = place.dir.join("ours");
    let _ = fs::remove_dir_all(&root);
    let mut archive = Archive::new(&root);
    archive.add("app", "Depends: lib (<< 2)\n");
    archive.add_version("app", "2.0", "Depends: lib (>= 2)\n");
    for version in ["1.0", "2.0"] {
        archive.add_version("lib", version, "");
        archive.add_version("old", version, "");
    }
    archive.add("agent", "Depends: mta-a | mta\n");
    archive.add("mta-a", "Provides: mta\nConflicts: mta\nReplaces: mta\n");
    archive.add("mta-b", "Provides: mta\nConflicts: mta\nReplaces: mta\n");
    archive.add("tool", "");
    archive.add_version(SHARED, "9999", "");
    archive.publish(&Release::good(&ground().key));
    let groups: String = groups
        .iter()
        .map(|group| format!("[[packages]]\n{group}\n"))
        .collect();
    place.write(
        "stages",
        &format!(
            "[[source]]\nname = \"ours\"\narchive = \"ours\"\nsuite = \"stable\"\n\
             key = \"ours.asc\"\npriority = 400\n{groups}\
             [[test]]\nname = \"what is there\"\nscript = \"\"\"\n\
             there=$(dpkg-query -W -f '${{Package}}=${{Version}} ' agent app lib mta-b old)\n\
             [ \"$there\" = 'agent=1.0 app=2.0 lib=2.0 mta-b=1.0 old=1.0 ' ] || exit 1\n\
             [ \"$(dpkg-query -W -f '${{Version}}' {SHARED})\" = 9999 ]\n\
             ! dpkg-query -W -f '<${{db:Status-Status}}>' mta-a tool | grep -q '<installed>'\"\"\"\n"
        ),
    );
}

#[test]
fn a_later_stage_replaces_and_removes_what_an_earlier_one_installed() {
    let place = ground().bootstrapped("stages");
    let first = "install = [\"app=1.0\", \"lib=1.0\", \"old\", \"agent\", \"tool\"]";
    // Upgrades what it names, the bootstrap and a dependency; one makes room.
    let second = format!("install = [\"app\", \"mta-b\", \"{SHARED}=9999\"]");
    let third = "install = [\"old=1.0\"]\npurge = [\"tool\"]";
    let ours = format!("file:{}", place.dir.join("ours").display());
    write(&place, &[first, &second, third]);
    place.lock_with("stages.toml", &ours).expect(0);
    let found = |name: &str| -> Vec<String> {
        let entries = entries(&place, "stages", name).into_iter();
        entries.map(|e| format!("{} {}", e[0], e[1])).collect()
    };
    assert_eq!(found("app"), ["1 1.0", "2 2.0"]);
    assert_eq!(found("lib"), ["1 1.0", "2 2.0"]);
    assert_eq!(found("old"), ["1 2.0", "3 1.0"]);
    assert_eq!((found("mta-a").len(), found("mta-b").len()), (1, 1));
    let shared = found(SHARED);
    assert!(shared[0].starts_with("required "), "{shared:?}");
    assert_eq!(shared[1..], ["2 9999"]);

    // The same bytes in another place, also of a lock that nobody sorted; that
    // one is left as it is.
    let build = |more: &[&str]| {
        let debian = ground().debian();
        let ours = format!("ours={ours}");
        let typed = ["stages.toml", "--archive", &debian, "--archive", &ours];
        place
            .imgbuild(&[&typed[..], more].concat())
            .expect(0)
            .stdout
    };
    let here = build(&[]);
    let path = place.dir.join("stages.lock");
    let text = fs::read_to_string(&path).unwrap();
    let (head, debs) = text.split_at(text.find("[[deb]]").unwrap());
    let (debs, rest) = debs.split_at(debs.find("[[file]]").unwrap());
    let mut debs: Vec<&str> = debs.split_inclusive("\n\n").collect();
    debs.reverse();
    let unsorted = format!("{head}{}{rest}", debs.concat());
    fs::write(&path, &unsorted).unwrap();
    copy_places(&ground().base_work, &place.dir.join("work-2"));
    for how in ["--locked", "--frozen"] {
        assert_eq!(build(&[how, "--work", "work-2"]), here);
        assert_eq!(fs::read_to_string(&path).unwrap(), unsorted);
    }
    fs::write(&path, &text).unwrap();

    // One package more moves nothing else, in any stage.
    let third = "install = [\"old=1.0\"]\npurge = [\"tool\"]\nrecommends = true";
    write(&place, &[first, &second, third]);
    let said = place.lock_with("stages.toml", &ours).expect(0).stderr;
    assert!(said.contains("no input changed"), "{said}");

    // What the recipe itself asks for is not removed by the way.
    let asks = "install = [\"app=1.0\", \"lib=1.0\", \"mta-a\"]";
    write(&place, &[asks, &second]);
    let said = place.lock_with("stages.toml", &ours).expect(1).stderr;
    assert!(
        said.contains("error: installing would remove the package `mta-a`"),
        "{said}"
    );
    write(&place, &[first, "purge = [\"lib\"]"]);
    let said = place.lock_with("stages.toml", &ours).expect(1).stderr;
    assert!(
        said.contains("would remove the package `app`, which the recipe installs"),
        "{said}"
    );
    write(&place, &[first, "purge = [\"nano\"]"]);
    let said = place.lock_with("stages.toml", &ours).expect(1).stderr;
    assert!(
        said.contains("names `nano`, which is not installed"),
        "{said}"
    );

    // apt's own reasons are shown.
    write(&place, &["install = [\"mta\"]"]);
    let said = place.lock_with("stages.toml", &ours).expect(1).stderr;
    for reason in ["virtual package provided by", "mta-a 1.0", "mta-b 1.0"] {
        assert!(said.contains(reason), "{said}");
    }
    write(&place, &["install = [\"app=1.0\", \"lib=2.0\"]"]);
    let said = place.lock_with("stages.toml", &ours).expect(1).stderr;
    assert!(said.contains("app : Depends: lib (< 2)"), "{said}");
}

#[test]
fn a_dated_archive_is_as_it_was_and_does_not_expire() {
    let place = ground().place("dated");
    let (moment, before) = ("20991231T000000Z", "20200101T000000Z");
    let root = place.dir.join("days").join(moment);
    let mut archive = Archive::new(&root);
    archive.add("tool", "");
    archive.publish(&Release {
        valid_until: Some(-60),
        ..Release::good(&ground().key)
    });
    std::os::unix::fs::symlink(&root, place.dir.join("days").join(before)).unwrap();
    let write = |more: &str| {
        place.write(
            "dated",
            &format!(
                "[[source]]\nname = \"ours\"\narchive = \"ours\"\nsuite = \"stable\"\n\
                 key = \"ours.asc\"\n{more}\n[[packages]]\ninstall = [\"tool\"]\n"
            ),
        );
    };
    let plain = format!("file:{}", root.display());
    let days = format!("file:{}/@SNAPSHOTID@", place.dir.join("days").display());
    let whose = "error: the suite stable of the archive `ours";
    let digest = sha256(&fs::read(root.join("dists/stable/InRelease")).unwrap());

    write("");
    let said = place.lock_with("dated.toml", &plain).expect(3).stderr;
    assert!(said.contains(&format!("{whose}` has expired")), "{said}");
    assert!(
        said.contains(&format!("its Release file is sha256:{digest}")),
        "{said}"
    );
    write(&format!("snapshot = \"{moment}\""));
    let said = place.lock_with("dated.toml", &plain).expect(1).stderr;
    assert!(
        said.contains("or the variable IMGBUILD_SNAPSHOT_OURS"),
        "{said}"
    );
    place.lock_with("dated.toml", &days).expect(0);
    let lock = fs::read_to_string(place.dir.join("dated.lock")).unwrap();
    let named = format!("archive = \"ours@{moment}\"\n");
    assert_eq!(lock.matches(&named).count(), 2, "{lock}");
    // It is another lock than that of another day; that one is not as old.
    write(&format!("snapshot = \"{before}\""));
    let said = place.lock_with("dated.toml", &days).expect(3).stderr;
    assert!(
        said.contains(&format!("{whose}@{before}` is newer than the snapshot")),
        "{said}"
    );
    write("snapshot = \"yesterday\"");
    place.lock_with("dated.toml", &days).expect(2);

    // Or the Release file is named.
    write(&format!("release = \"sha256:{digest}\""));
    place.lock_with("dated.toml", &plain).expect(0);
    write(&format!("release = \"sha256:{}\"", "0".repeat(64)));
    let said = place.lock_with("dated.toml", &plain).expect(3).stderr;
    assert!(
        said.contains("has another Release file than the recipe names"),
        "{said}"
    );
}
