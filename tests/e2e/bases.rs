//! Images that begin with another image: locked by its release, moved by hand, built elsewhere
//! from its digest alone.

use std::fs;

use tests::archive::architecture;
use tests::bench::{Bench, bench};
use tests::binaries::is_soak;

/// A recipe on a base of its own choice.
fn write(bench: &Bench, name: &str, base: &str, rest: &str) {
    let text =
        format!("name = \"{name}\"\n[bootstrap]\nsuite = \"bookworm\"\nbase = \"{base}\"\n{rest}");
    fs::write(bench.path(&format!("{name}.toml")), text).unwrap();
}

fn build(bench: &Bench, arguments: &[&str]) -> String {
    let ran = bench.imgbuild(arguments).expect(0);
    ran.stdout.trim().to_owned()
}

#[test]
fn an_application_stands_on_a_base_and_moves_with_it() {
    let bench = bench();
    let first = build(&bench, &["base.toml"]);

    // With nothing on top it is the base, byte for byte.
    write(&bench, "only", "dev/base", "");
    assert_eq!(build(&bench, &["only.toml"]), first);

    let web = "[[packages]]\ninstall = [\"less\"]\npurge = [\"tzdata\"]\n\
         [[user]]\nname = \"op\"\nuid = 1000\n";
    write(&bench, "web", "dev/base", web);
    let one = build(&bench, &["web.toml"]);
    let lock = fs::read_to_string(bench.path("web.lock")).unwrap();
    assert!(lock.contains("release = \"dev/base/1\""), "{lock}");
    assert_eq!(lock.matches("\n[[deb]]").count(), 1, "{lock}");
    let packages = bench.imgbuild(&["show", "--json", "web"]).expect(0).stdout;
    assert!(packages.contains("\"less\"") && !packages.contains("\"tzdata\""));
    if is_soak() {
        let said = bench.imgbuild(&["rebuild", "web"]).expect(0);
        assert_eq!(said.stdout.trim(), one);
    }

    // Elsewhere, from the lock and what was copied: no environment is asked.
    let there = bench.path("there");
    let there = there.to_str().unwrap();
    let here = bench.path("store");
    bench
        .imgbuild(&["store", "copy", here.to_str().unwrap(), there, "web"])
        .expect(0);
    let lacks = bench.imgbuild(&["show", "dev/web", "--store", there]);
    let hint = "One that lies in another store is read there (--store STORE)";
    let lacks = lacks.expect(1).stderr;
    assert!(lacks.contains(hint), "{lacks}");
    let (work, keys) = (bench.path("work2"), bench.path("keys2"));
    let places = ["--store", there, "--work", work.to_str().unwrap()];
    let frozen = [
        "--keys",
        keys.to_str().unwrap(),
        "--frozen",
        "--offline",
        "web.toml",
    ];
    assert_eq!(build(&bench, &[&places[..], &frozen].concat()), one);

    // The base has another release: the lock stays until it is told to move.
    bench.write(
        "base",
        "[[file]]\npath = \"/etc/second\"\ncontent = \"2\\n\"\n",
    );
    let second = build(&bench, &["base.toml"]);
    assert_ne!(second, first);
    assert_eq!(build(&bench, &["web.toml"]), one);
    let moved = bench
        .imgbuild(&["lock", "--upgrade=base", "web.toml"])
        .expect(0);
    let said = "the base moves from dev/base/1 to dev/base/2";
    assert!(moved.stderr.contains(said), "{}", moved.stderr);
    assert!(
        fs::read_to_string(bench.path("web.lock"))
            .unwrap()
            .contains(&second)
    );
    let plan = bench.imgbuild(&["plan", "web.toml"]).expect(0).stdout;
    assert!(
        plan.contains(&format!("base {}", &second["blake3:".len()..][..12])),
        "{plan}"
    );

    // It is still on the first release: an environment can refuse that.
    let policy = "base-from = [\"live\"]\nbase-newest = true\n";
    fs::write(bench.path("policy.toml"), policy).unwrap();
    bench
        .imgbuild(&["env", "init", "live", "--plain", "--policy", "policy.toml"])
        .expect(0);
    let promote = |what: &str, code| {
        bench
            .imgbuild(&["promote", what, "--to", "live"])
            .expect(code)
    };
    let refused = promote("dev/web", 3).stderr;
    let not_released = "base-from: dev/base/1, with which it begins, is not released in live";
    assert!(refused.contains(not_released), "{refused}");
    promote("dev/base/1", 0);
    let refused = promote("dev/web", 3).stderr;
    let outdated = "base-newest: it begins with dev/base/1, and dev/base/2 is newer";
    assert!(
        refused.contains(outdated) && !refused.contains("base-from"),
        "{refused}"
    );
    let tree = bench.imgbuild(&["list", "--tree"]).expect(0).stdout;
    let below = tree
        .lines()
        .find(|line| line.starts_with("└ web"))
        .unwrap_or_default();
    assert!(
        below.contains("on dev/base/1; dev/base/2 is newer"),
        "{tree}"
    );
    bench.imgbuild(&["page", "--out", "www"]).expect(0);
    let index = fs::read_to_string(bench.path("www/index.html")).unwrap();
    let outdated = "its base dev/base/1 is outdated: dev/base/2 is newer";
    assert!(index.contains(outdated), "{index}");

    // Revoked, it is said of what stands on it, and a move leaves it.
    let shows = |arguments: &[&str], said: &str| {
        let ran = bench.imgbuild(arguments).expect(0);
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.contains(said), "{said}: {all}");
    };
    bench
        .imgbuild(&["revoke", &first, "--in", "dev", "--reason", "a hole"])
        .expect(0);
    let revoked = "dev/base/1, which was revoked; dev/base/2 is newer";
    shows(&["list", "--tree"], revoked);
    shows(&["show", "web"], revoked);
    let warned = format!("warning: web/1 stands on {revoked}: imgbuild lock --upgrade=base");
    shows(&["env", "status", "dev"], &warned);
    let warned = "warning: the base dev/base/1 was revoked: imgbuild lock --upgrade=base";
    shows(&["lock", "only.toml"], warned);
    write(&bench, "late", "dev/base/1", "");
    let refused = bench.imgbuild(&["lock", "late.toml"]).expect(3).stderr;
    assert!(refused.contains("revoked"), "{refused}");

    // What stands on it keeps it, whatever became of its releases.
    let kept = bench
        .imgbuild(&["store", "gc", "--grace", "0"])
        .expect(0)
        .stdout;
    let base_of = format!("base of {}", &one["blake3:".len()..][..12]);
    assert!(kept.contains(&base_of), "{kept}");
}

#[test]
fn a_base_that_cannot_be_stood_on_is_refused_in_those_words() {
    let bench = bench();
    bench.write("base", "[[user]]\nname = \"owner\"\nuid = 1000\n");
    let image = build(&bench, &["base.toml"]);
    let refuse = |base: &str, rest: &str, code: i32, what: &str| {
        write(&bench, "bad", base, rest);
        let ran = bench.imgbuild(&["lock", "bad.toml"]).expect(code);
        assert!(ran.stderr.contains(what), "{what}: {}", ran.stderr);
        assert!(!bench.path("bad.lock").exists());
    };
    refuse(
        "dev/nothing",
        "",
        1,
        "nothing called `nothing` is released in dev",
    );
    refuse("prod/base", "", 1, "cannot read the environment prod");
    let unknown = image.replace(&image[7..11], "0000");
    refuse(&unknown, "", 1, "which is the base");
    let user = "[[user]]\nname = \"clash\"\nuid = 100\n";
    refuse(
        "dev/base",
        user,
        2,
        "the group id 100 of `clash` belongs to `users` in the base dev/base/2",
    );
    let user = "[[user]]\nname = \"clash\"\nuid = 1000\n";
    let what = "the user id 1000 of `clash` belongs to `owner` in the base dev/base/2";
    refuse("dev/base", user, 2, what);
    let user = "[[user]]\nname = \"owner\"\nuid = 1001\n";
    refuse(&image, user, 2, "has the user `owner` already");
    write(&bench, "bad", "dev/base", "include = [\"less\"]\n");
    let ran = bench.imgbuild(&["lock", "bad.toml"]).expect(2);
    assert!(
        ran.stderr.contains("`include` is about debootstrap"),
        "{}",
        ran.stderr
    );

    let text = "name = \"bad\"\n[bootstrap]\nsuite = \"trixie\"\nbase = \"dev/base\"\n";
    fs::write(bench.path("bad.toml"), text).unwrap();
    let ran = bench.imgbuild(&["lock", "bad.toml"]).expect(2);
    let what = "the base dev/base/2 is of the suite bookworm, and the recipe says trixie";
    assert!(ran.stderr.contains(what), "{}", ran.stderr);

    // Of several recipes, one that fails takes along only what stands on it.
    write(&bench, "bad", "dev/nothing", "");
    write(&bench, "onbad", "dev/bad", "");
    write(&bench, "good", "dev/base", "");
    let ran = bench
        .imgbuild(&["bad.toml", "onbad.toml", "good.toml"])
        .expect(1);
    for said in [
        "error: bad.toml: nothing called `nothing` is released in dev",
        "onbad.toml is not built: it stands on what bad.toml makes",
        "good: built in",
        "error: 2 of 3 recipes were not built: bad.toml, onbad.toml",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    assert_eq!(ran.stdout.trim(), image);

    // An image of something else.
    let bare = bench.path("bare");
    fs::create_dir_all(bare.join("etc")).unwrap();
    let release = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
    fs::write(bare.join("etc/os-release"), release).unwrap();
    let import = ["import", "bare", "--name", "bare", "--arch", architecture()];
    let bare = bench.imgbuild(&import).expect(0);
    refuse(bare.stdout.trim(), "", 2, "has no dpkg status");

    // A name means something only in an environment that somebody here vouches for.
    write(&bench, "bad", "dev/base", "");
    let keys = bench.path("strangers");
    let ran = bench
        .imgbuild(&["--keys", keys.to_str().unwrap(), "lock", "bad.toml"])
        .expect(3);
    assert!(
        ran.stderr.contains("nobody here has vouched"),
        "{}",
        ran.stderr
    );
}
