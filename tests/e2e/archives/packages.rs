//! Packages that are not what the lock names, and locks that outlive archives.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::archive::{Archive, Release, sha256};
use tests::server::{Answer, Server, file};

use super::{ground, says, serve};

/// One byte in the middle is another one.
fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

#[test]
fn packages_that_are_not_the_locked_ones() {
    let place = ground().place("packages");
    place.write_ours("pack", "tool");
    let root = place.dir.join("archive");
    let mut archive = Archive::new(&root);
    let path = archive.add("tool", "");
    archive.publish(&Release::good(&ground().key));
    let deb = fs::read(root.join(&path)).unwrap();
    let longer = [deb.clone(), vec![0; 9]].concat();
    let half = deb[..deb.len() / 2].to_vec();
    let cannot = "error: cannot fetch tool 1.0 from the archive `ours`";
    let unlike = "error: the archive `ours` delivers other bytes for tool 1.0 than the lock names";
    for (answer, code, first, evidence) in [
        (
            Answer::Bytes(flipped(deb.clone())),
            3,
            unlike,
            "tool_1.0_all.deb",
        ),
        (Answer::Bytes(longer), 3, unlike, "tool_1.0_all.deb"),
        (Answer::Bytes(half), 3, unlike, "tool_1.0_all.deb"),
        (
            Answer::Truncated(deb.clone()),
            1,
            cannot,
            "tool_1.0_all.deb",
        ),
        (Answer::Endless, 1, cannot, "the server sends more than the"),
        (Answer::Status(404), 1, cannot, "tool_1.0_all.deb"),
        (Answer::Status(500), 1, cannot, "tool_1.0_all.deb"),
        (
            Answer::Redirect("/pool/tool_1.0_all.deb".into()),
            1,
            cannot,
            "tool_1.0_all.deb",
        ),
    ] {
        let server = serve(&root, "_all.deb", answer);
        let said = place.refuse("pack", &server.url(), code);
        says(&said, first, evidence);
    }
    let server = serve(&root, "_all.deb", Answer::Drip(deb.clone()));
    let patience = [("IMGBUILD_PATIENCE", "15")];
    let said = place.refuse_with("pack", &server.url(), 1, &patience);
    says(&said, cannot, "the server is too slow or silent");
    // What is cut is resumed, not fetched again.
    let server = serve(&root, "_all.deb", Answer::Cut(deb.clone()));
    place.lock_with("pack.toml", &server.url()).expect(0);
    let requests = server.requests();
    let of_deb = requests.iter().filter(|r| r.path.ends_with("_all.deb"));
    let from: Vec<_> = of_deb.map(|r| r.from).collect();
    assert_eq!(from, [None, Some(deb.len() / 2)], "what apt asked for");
    fs::remove_file(place.store().join("inputs/sha256").join(sha256(&deb))).unwrap();
    fs::remove_file(place.dir.join("pack.lock")).unwrap();
    // A bit that flipped once is not there the second time.
    let once = AtomicBool::new(true);
    let server = Server::start(move |request| {
        if request.path.contains("_all.deb") && once.swap(false, Ordering::SeqCst) {
            return Answer::Bytes(flipped(deb.clone()));
        }
        file(&root, &request.path)
    });
    place.lock_with("pack.toml", &server.url()).expect(0);
}

/// Serves Debian's archive and ours, builds, takes all of it away, builds again
/// somewhere else; then tampers with the lock.
#[test]
fn a_lock_outlives_its_archives_and_tells_when_it_is_damaged() {
    let place = ground().bootstrapped("gone");
    place.write_ours("gone", "tool");
    let root = place.dir.join("archive");
    let mut archive = Archive::new(&root);
    archive.add("tool", "Depends: part\n");
    archive.add("part", "");
    archive.publish(&Release::good(&ground().key));
    fs::remove_dir_all(place.store()).unwrap();
    let (debian, ours) = (ground().dir.join("debian"), root.clone());
    let server = Server::start(move |request| match request.path.strip_prefix("/ours") {
        Some(path) => file(&ours, path),
        None => file(&debian, &request.path),
    });
    let (debian, ours) = (
        format!("debian={}", server.url()),
        format!("ours={}/ours", server.url()),
    );
    let build = ["gone.toml", "--archive", &debian, "--archive", &ours];
    let here = place.imgbuild(&build).expect(0);
    assert!(
        server
            .requests()
            .iter()
            .any(|r| r.path.contains("/tool_1.0_all.deb"))
    );
    drop(server);
    fs::remove_dir_all(root).unwrap();
    let again = [&build[..], &["--work", "work-2"]].concat();
    let there = place.imgbuild(&again).expect(0);
    assert_eq!(here.stdout, there.stdout);
    assert!(there.stderr.contains("bootstrap"), "{}", there.stderr);

    let path = place.dir.join("gone.lock");
    let lock = fs::read_to_string(&path).unwrap();
    let entry = |name: &str| {
        let at = lock.find(&format!("[[deb]]\nname = \"{name}\"\n")).unwrap();
        let end = lock[at + 2..].find("[[").map_or(lock.len(), |n| at + 2 + n);
        lock[at..end].to_owned()
    };
    let value = |name: &str, key: &str| {
        let entry = entry(name);
        let line = entry.lines().find(|l| l.starts_with(key)).unwrap();
        line.to_owned()
    };
    let with = |name: &str, from: &str, to: &str| {
        let old = entry(name);
        let new = old.replace(from, to);
        assert_ne!(old, new);
        lock.replace(&old, &new)
    };
    let invalid = "error: gone.lock is not a valid lock";
    for (text, code, first, evidence) in [
        (
            lock.replace(&entry("tool"), ""),
            2,
            invalid,
            "the entry of `tool` is missing from `packages 1`",
        ),
        (
            lock.replace(&entry("part"), ""),
            2,
            invalid,
            "the entry of `part` is missing from `packages 1`",
        ),
        (
            lock.replace(&entry("mount"), ""),
            2,
            invalid,
            "the entry of `mount` is missing from `required`",
        ),
        (
            with("mount", "\"required\"", "\"base\""),
            2,
            invalid,
            "the entry of `mount` belongs to `required`, not to `base`",
        ),
        (
            with("tool", "size = ", "size = 1"),
            3,
            "error: tool is not what the lock names",
            "bytes, the lock says 1",
        ),
        (
            with("tool", &value("tool", "sha256"), &value("part", "sha256"))
                .replace(&value("tool", "size"), &value("part", "size")),
            3,
            "error: the lock's digest of tool 1.0 is that of another package",
            "of part 1.0 all",
        ),
    ] {
        fs::write(&path, text).unwrap();
        // A build looks at the sizes only when there is something to do.
        let command = ["lock", "gone.toml"];
        let command = if first.contains("digest") {
            &["gone.toml"]
        } else {
            &command[..]
        };
        let ran = place.imgbuild(command).expect(code);
        let at = ran.stderr.find("error: ").unwrap();
        says(&ran.stderr[at..], first, evidence);
        assert_eq!(ran.stdout, "");
    }
}
