//! The job of docs/updates.md, taken from the page and run: Git is real, and a hook notes what a
//! forge would be told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tests::archive::{Archive, Release};
use tests::binaries::{Ran, imgbuild, repository};

use super::ground;

/// The script of the page.
fn script() -> String {
    let page = fs::read_to_string(repository().join("docs/updates.md")).unwrap();
    let (_, rest) = page.split_once("```sh updates\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn a_nightly_job_proposes_security_updates() {
    let place = ground().bootstrapped("robots");
    let security = place.dir.join("security");
    let publish = |version: &str| {
        let _ = fs::remove_dir_all(&security);
        let mut archive = Archive::new(&security);
        let changelog = "foo (1.0-1+deb12u1) bookworm-security; urgency=high\n\n  * Mend CVE-2026-1111.\n\n \
             -- A <a@debian.example>  Mon, 02 Nov 2026 10:00:00 +0000\n";
        archive.add_documented("foo", version, "", ("foo/changelog.Debian.gz", changelog));
        archive.publish_as("bookworm-security", &Release::good(&ground().key));
    };
    place.write(
        "web",
        "[[source]]\nname = \"security\"\narchive = \"debian-security\"\n\
         suite = \"bookworm-security\"\nkey = \"ours.asc\"\n[[packages]]\ninstall = [\"foo\"]\n",
    );
    let job = place.dir.join("propose");
    fs::write(&job, script()).unwrap();
    fs::set_permissions(&job, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let path = imgbuild().parent().unwrap().display().to_string();
        let debian = ground().debian();
        command
            .current_dir(&place.dir)
            .env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"))
            .env("IMGBUILD_STORE", place.store())
            .env("IMGBUILD_WORK", place.dir.join("work"))
            .env("IMGBUILD_KEYS", place.dir.join("keys"))
            .env(
                "IMGBUILD_ARCHIVE_DEBIAN",
                debian.trim_start_matches("debian="),
            )
            .env(
                "IMGBUILD_ARCHIVE_DEBIAN_SECURITY",
                format!("file:{}", security.display()),
            )
            .env("GIT_CONFIG_GLOBAL", place.dir.join("gitconfig"))
            .args(arguments);
        Ran::of(&mut command).expect(0)
    };
    fs::write(
        place.dir.join("gitconfig"),
        "[user]\n\tname = robot\n\temail = robot@forge.example\n[safe]\n\tdirectory = *\n",
    )
    .unwrap();
    publish("1.0-1");
    run("imgbuild", &["lock", "web.toml"]);
    run("git", &["init", "--quiet", "--bare", "forge"]);
    run(
        "git",
        &[
            "-C",
            "forge",
            "config",
            "receive.advertisePushOptions",
            "true",
        ],
    );
    let hook = place.dir.join("forge/hooks/post-receive");
    let noted = place.dir.join("noted");
    let text = format!(
        "#!/bin/sh\nfor n in 0 1 2; do eval \"printf '%s\\n' \\\"\\$GIT_PUSH_OPTION_$n\\\"\"; done > {}\n",
        noted.display()
    );
    fs::write(&hook, text).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    run("git", &["init", "--quiet"]);
    run("git", &["add", "web.toml", "web.lock", "ours.asc"]);
    run("git", &["commit", "--quiet", "--message", "Begin"]);
    run("git", &["remote", "add", "origin", "./forge"]);

    let job = job.to_str().unwrap();
    let said = run(job, &["web.toml", "security"]);
    assert!(
        said.stdout.ends_with("web: nothing moved\n"),
        "{}",
        said.stdout
    );
    assert!(!noted.exists());

    publish("1.0-1+deb12u1");
    run(job, &["web.toml", "security"]);
    assert_eq!(
        fs::read_to_string(&noted).unwrap(),
        "merge_request.create\nmerge_request.title=Update web\n\
         merge_request.description=foo 1.0-1 1.0-1+deb12u1 (security update): CVE-2026-1111\n"
    );
    let changed = run(
        "git",
        &["-C", "forge", "show", "--stat", "--format=%s", "update/web"],
    );
    assert!(
        changed.stdout.starts_with("Update web\n"),
        "{}",
        changed.stdout
    );
    assert!(changed.stdout.contains("web.lock"), "{}", changed.stdout);
    let built = run("imgbuild", &["show", "web"]);
    assert!(built.stdout.contains("1.0-1+deb12u1"), "{}", built.stdout);
}
