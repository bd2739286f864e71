//! Builders that share a store in a bucket of real `SeaweedFS`: one locks and builds
//! into it, others take from it what they would have to fetch or build, and one says
//! that it came to the same bytes.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use servers::weed::{WRITER, Weed};
use tests::bench::base_work;
use tests::binaries::{Ran, imgbuild};
use tests::fixtures::{copy_places, scratch};
use tests::host::Host;
use tests::server::{Answer, Server};

const BUCKET: &str = "s3://images/team";

const RECIPE: &str = "name = \"web\"\n[bootstrap]\nsuite = \"bookworm\"\n";

/// A machine: what one has for itself.
struct Machine<'a> {
    dir: PathBuf,
    weed: &'a Weed,
    /// Where it looks for Debian's archives, if not where this machine does.
    mirror: Option<String>,
}

impl Machine<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn command(&self, store: &str, words: &[&str]) -> Command {
        let mut command = Command::new(imgbuild());
        command
            .current_dir(&self.dir)
            .env("HOME", &self.dir)
            .env("IMGBUILD_STORE", store)
            .env("IMGBUILD_WORK", self.path("work"))
            .env("IMGBUILD_KEYS", self.path("keys"))
            .env("no_proxy", "127.0.0.1")
            .envs(self.weed.environment(WRITER))
            .args(words);
        if let Some(mirror) = &self.mirror {
            command.args(["--archive", &format!("debian={mirror}")]);
        }
        command
    }

    fn run(&self, store: &str, words: &[&str]) -> Ran {
        Ran::of(&mut self.command(store, words)).expect(0)
    }

    fn write(&self, recipe: &str) {
        fs::write(self.path("web.toml"), recipe).unwrap();
    }

    fn copy_of(&self, other: &Machine<'_>, name: &str) {
        fs::copy(other.path(name), self.path(name)).unwrap();
    }
}

#[test]
fn what_one_fetched_and_built_the_others_take() {
    let before = Host::look();
    let weed = Weed::start();
    let place = scratch();
    let nothing = Server::start(|_| Answer::Status(404));
    let machine = |name: &str, mirror| {
        let dir = place.path().join(name);
        fs::create_dir(&dir).unwrap();
        Machine {
            dir,
            weed: &weed,
            mirror,
        }
    };

    // Ann builds into the bucket: nothing of the store is on her machine. Her Debian was bootstrapped
    // before.
    let ann = machine("ann", None);
    copy_places(&base_work(), &ann.path("work"));
    ann.write(RECIPE);
    ann.run(BUCKET, &["lock", "web.toml"]);
    let built = ann.run(BUCKET, &["--locked", "web.toml"]);
    let image = built.stdout.trim().to_owned();
    let again = ann.run(BUCKET, &["web.toml"]);
    assert_eq!(again.stdout.trim(), image);
    assert!(again.stderr.contains("up to date"), "{}", again.stderr);
    ann.run(
        BUCKET,
        &["env", "root", "save", "dev", "-o", "dev.root.json"],
    );
    let mut shell = ann
        .command(BUCKET, &["shell", "web.toml"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let keyboard = shell.stdin.take();
    keyboard
        .unwrap()
        .write_all(b"cat /etc/debian_version\n")
        .unwrap();
    let said = shell.wait_with_output().unwrap();
    assert!(
        String::from_utf8_lossy(&said.stdout).contains("12."),
        "{said:?}"
    );

    // Ben trusts what Ann releases, and has no mirror: the image is taken.
    let ben = machine("ben", Some(nothing.url()));
    for name in ["web.toml", "web.lock", "dev.root.json"] {
        ben.copy_of(&ann, name);
    }
    let cached = ["--locked", "web.toml", "--cache", BUCKET];
    let trusted = ["web.toml", "--cache", BUCKET, "--trust", "dev.root.json"];
    let plan = ben.run("store", &[&["plan"], &trusted[..]].concat()).stdout;
    let first =
        format!("web: take the image from {BUCKET}: its environment dev, which is trusted,");
    assert!(plan.starts_with(&first), "{plan}");
    assert!(!ben.path("store").exists());
    let taken = ben.run("store", &[&["--locked"], &trusted[..]].concat());
    assert_eq!(taken.stdout.trim(), image);
    assert!(taken.stderr.contains("released in dev"), "{}", taken.stderr);
    assert!(!ben.path("work/trees").exists() || !taken.stderr.contains("bootstrap"));
    ben.run("store", &["store", "fsck"]);

    // Cid trusts nobody: he takes the inputs, builds, and comes to the same bytes. Of Debian itself he
    // has a bootstrapped one, until he rebuilds.
    let cid = machine("cid", Some(nothing.url()));
    copy_places(&base_work(), &cid.path("work"));
    cid.copy_of(&ann, "web.toml");
    cid.copy_of(&ann, "web.lock");
    let built = cid.run("store", &cached);
    assert_eq!(built.stdout.trim(), image);
    assert!(built.stderr.contains("take inputs"), "{}", built.stderr);
    assert!(
        !built.stderr.contains("released in dev"),
        "{}",
        built.stderr
    );
    assert!(nothing.requests().is_empty(), "{:?}", nothing.requests());

    // He says so, beside the image in the bucket; far from any recipe.
    let rebuilt = cid.run(BUCKET, &["rebuild", &image, "--attest"]);
    assert_eq!(rebuilt.stdout.trim(), image);
    let same = "web: the same bytes, rebuilt in a varied world in ";
    assert!(rebuilt.stderr.contains(same), "{}", rebuilt.stderr);
    let digits = &image["blake3:".len()..][..16];
    assert!(!cid.path("work/rebuild").join(digits).exists());
    let shown = ann.run(BUCKET, &["show", &image, "--attestations"]);
    assert!(shown.stdout.contains("rebuilt"), "{}", shown.stdout);
    assert!(nothing.requests().is_empty(), "{:?}", nothing.requests());

    // A new lock takes what the bucket has, and a push gives the rest to everybody.
    let dora = machine("dora", None);
    copy_places(&base_work(), &dora.path("work"));
    dora.write(&format!("{RECIPE}[[packages]]\ninstall = [\"hello\"]\n"));
    let locked = dora.run("store", &["lock", "web.toml", "--cache", BUCKET]);
    assert!(locked.stderr.contains("take inputs"), "{}", locked.stderr);
    let words = ["--locked", "web.toml", "--cache", BUCKET, "--push"];
    let pushed = dora.run("store", &words).stdout;
    let listed = ann.run(BUCKET, &["list"]).stdout;
    let digits = &pushed.trim()["blake3:".len()..][..12];
    assert!(listed.contains(digits), "{listed}");
    ann.copy_of(&dora, "web.toml");
    ann.copy_of(&dora, "web.lock");
    let frozen = ann.run(BUCKET, &["--frozen", "web.toml"]);
    assert_eq!(frozen.stdout, pushed);
    ann.run(BUCKET, &["store", "fsck"]);
    Host::look().assert_clean_since(&before);
}
