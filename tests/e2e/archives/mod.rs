//! Archives and indexes that are broken, hostile or gone, through the real
//! binary: one clear error each, nothing half-written.
//!
//! The bootstrap's archive is a directory with the few packages of Debian that a
//! bootstrap takes; the faults are in a small archive of the test's own.

mod bootstrap;
mod keys;
mod packages;
mod robots;
mod scripts;
mod secrets;
mod stages;
mod upgrades;
mod versions;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tests::archive::{Archive, Release, SUITE, SigningKey, architecture, copy_part, sha256};
use tests::bench::base_work;
use tests::binaries::{Ran, imgbuild};
use tests::fixtures::{copy, copy_places, fixture, link_copy, process_scratch};
use tests::server::{Answer, Server, file};

/// What all tests start from: a part of Debian's archive in a directory, and a
/// store that has the inputs of a bootstrap.
struct Ground {
    dir: PathBuf,
    /// A work directory in which the base is built, for copies.
    base_work: PathBuf,
    key: SigningKey,
}

fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        // While the archive's own keyring is what apt sees.
        let base_work = base_work();
        let common = fixture("archives", |dir| {
            let seed = Place::at(dir.join("seed"));
            seed.write("seed", "[[packages]]\ninstall = [\"python3-venv\"]\n");
            // From the machine's own archive; the packages then serve as its pool.
            seed.imgbuild(&["lock", "seed.toml"]).expect(0);
            let mut paths = BTreeSet::new();
            for (path, sha256) in seed.debs("seed") {
                let pooled = dir.join("debian").join(&path);
                fs::create_dir_all(pooled.parent().unwrap()).unwrap();
                fs::hard_link(seed.store().join("inputs/sha256").join(sha256), pooled).unwrap();
                paths.insert(path);
            }
            let key = SigningKey::new(&dir.join("debian-key"));
            copy_part("bookworm", &paths, &key, &dir.join("debian"));
            let keyring = SigningKey::dearmored(&key.public());
            fs::write(dir.join("debian.gpg"), keyring).unwrap();
            fs::remove_dir_all(dir.join("debian-key")).unwrap();
        });
        SigningKey::pass_for_debian(&common.join("debian.gpg"));
        let dir = process_scratch().join("archives");
        link_copy(&common, &dir);
        // A lock that is shared would make tests wait for each other.
        let locks = "seed/store/locks";
        copy(&common.join(locks), &dir.join(locks));
        Ground {
            key: SigningKey::new(&dir.join("gpg")),
            dir,
            base_work,
        }
    })
}

impl Ground {
    /// A directory of its own for one test, whose store has the base's inputs.
    fn place(&self, name: &str) -> Place {
        let place = Place::at(self.dir.join(name));
        let copied = Command::new("cp")
            .arg("-al")
            .args([self.dir.join("seed/store"), place.store()])
            .status()
            .unwrap();
        assert!(copied.success());
        // What lies beside a recipe is retained before anything can fail.
        let key = self.key.public();
        let retained = place.store().join("inputs/sha256").join(sha256(&key));
        fs::write(retained, &key).unwrap();
        fs::write(place.dir.join("ours.asc"), key).unwrap();
        place
    }

    /// The same, where the base has been bootstrapped before.
    fn bootstrapped(&self, name: &str) -> Place {
        let place = self.place(name);
        copy_places(&self.base_work, &place.dir.join("work"));
        place
    }

    fn debian(&self) -> String {
        format!("debian=file:{}", self.dir.join("debian").display())
    }
}

struct Place {
    dir: PathBuf,
}

impl Place {
    fn at(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    fn write(&self, name: &str, rest: &str) {
        let text = format!("name = \"{name}\"\n[bootstrap]\nsuite = \"bookworm\"\n{rest}");
        fs::write(self.dir.join(format!("{name}.toml")), text).unwrap();
    }

    /// A recipe that installs a package of the archive `ours`.
    fn write_ours(&self, name: &str, package: &str) {
        self.write(
            name,
            &format!(
                "[[source]]\nname = \"ours\"\narchive = \"ours\"\nsuite = \"{SUITE}\"\n\
                 key = \"ours.asc\"\n[[packages]]\ninstall = [\"{package}\"]\n"
            ),
        );
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(imgbuild());
        command
            .current_dir(&self.dir)
            .env("IMGBUILD_STORE", self.store())
            .env("IMGBUILD_WORK", self.dir.join("work"))
            .env("IMGBUILD_KEYS", self.dir.join("keys"))
            .env("no_proxy", "127.0.0.1")
            .args(arguments);
        command
    }

    fn imgbuild(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Locks a recipe with the archive `ours` at that address.
    fn lock_with(&self, recipe: &str, url: &str) -> Ran {
        let (debian, ours) = (ground().debian(), format!("ours={url}"));
        self.imgbuild(&["lock", recipe, "--archive", &debian, "--archive", &ours])
    }

    /// The same with a work directory elsewhere, as one may not have blanks in its path.
    fn lock_at(&self, work: &str, recipe: &str, url: &str) -> Ran {
        let (debian, ours) = (ground().debian(), format!("ours={url}"));
        self.imgbuild(&[
            "lock",
            recipe,
            "--work",
            work,
            "--archive",
            &debian,
            "--archive",
            &ours,
        ])
    }

    /// Paths and digests of a lock's packages.
    fn debs(&self, name: &str) -> Vec<(String, String)> {
        let lock = fs::read_to_string(self.dir.join(format!("{name}.lock"))).unwrap();
        let values = |key: &str| -> Vec<String> {
            let lines = lock.lines().skip_while(|line| *line != "[[deb]]");
            let found = lines.filter_map(|line| line.strip_prefix(key));
            found
                .map(|value| value.trim_matches('"').to_owned())
                .collect()
        };
        let digests = values("sha256 = ").into_iter();
        let digests = digests.map(|digest| digest.trim_start_matches("sha256:").to_owned());
        values("path = ").into_iter().zip(digests).collect()
    }

    /// All that lies there, without what a build caches.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut pending = vec![self.dir.clone()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).unwrap().flatten() {
                found.insert(entry.path());
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                }
            }
        }
        found
    }

    /// Runs `imgbuild lock` against an address of `ours`, which must fail with
    /// this exit code and leave nothing.
    fn refuse(&self, name: &str, url: &str, code: i32) -> String {
        self.refuse_with(name, url, code, &[])
    }

    fn refuse_with(
        &self,
        name: &str,
        url: &str,
        code: i32,
        environment: &[(&str, &str)],
    ) -> String {
        let before = self.files();
        let mut command = self.command(&["lock", &format!("{name}.toml")]);
        command.args([
            "--archive",
            &ground().debian(),
            "--archive",
            &format!("ours={url}"),
        ]);
        command.envs(environment.iter().copied());
        let ran = Ran::of(&mut command);
        let work = self.dir.join("work");
        let new: Vec<PathBuf> = self.files().difference(&before).cloned().collect();
        let new: Vec<&PathBuf> = new
            .iter()
            .filter(|path| !is_skeleton(&work, path))
            .collect();
        assert_eq!(new, Vec::<&PathBuf>::new(), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
        let at = ran.stderr.find("error: ").expect("there is an error");
        let said = ran.stderr[at..].to_owned();
        assert_eq!(ran.code, code, "{said}");
        said
    }
}

/// What a work directory always has: its tag, and no other file with anything in it.
fn is_skeleton(work: &Path, path: &Path) -> bool {
    let is_empty = || fs::metadata(path).is_ok_and(|meta| meta.len() == 0);
    path == work.join("CACHEDIR.TAG") || path.starts_with(work) && (path.is_dir() || is_empty())
}

/// The first line, and that there is a hint.
#[track_caller]
fn says(said: &str, first: &str, evidence: &str) {
    assert_eq!(said.lines().next(), Some(first), "{said}");
    assert!(said.contains(evidence), "{evidence} is not in\n{said}");
    assert!(said.lines().last().unwrap().starts_with("hint: "), "{said}");
    let errors = said.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{said}");
}

const CANNOT: &str = "error: cannot read the suite stable of the archive `ours`";
const WHOSE: &str = "error: the suite stable of the archive `ours`";

#[test]
fn releases_that_nobody_should_trust() {
    let place = ground().place("releases");
    place.write_ours("release", "tool");
    let root = place.dir.join("archive");
    let mut archive = Archive::new(&root);
    archive.add("tool", "");
    let key = &ground().key;
    let url = format!("file:{}", root.display());
    let foreign = SigningKey::new(&place.dir.join("foreign"));
    let day = 86_400;
    for (release, means, evidence) in [
        (
            Release {
                signer: None,
                ..Release::good(key)
            },
            "is not signed",
            "neither InRelease nor Release.gpg",
        ),
        (
            Release::good(&foreign),
            "is not signed by the key that it should be",
            "ours.asc",
        ),
        (
            Release {
                date: -9 * day,
                valid_until: Some(-2 * day),
                ..Release::good(key)
            },
            "has expired",
            "Valid-Until: ",
        ),
        (
            Release {
                date: 3 * day,
                ..Release::good(key)
            },
            "is from the future",
            "Date: ",
        ),
        (
            Release {
                fits: false,
                ..Release::good(key)
            },
            "does not fit its own Release file",
            "Packages",
        ),
    ] {
        archive.publish(&release);
        let said = place.refuse("release", &url, 3);
        says(&said, &format!("{WHOSE} {means}"), evidence);
    }
    // One byte changed after it was signed.
    archive.publish(&Release::good(key));
    let path = root.join("dists/stable/InRelease");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("Label: Test", "Label: Tost")).unwrap();
    let said = place.refuse("release", &url, 3);
    says(
        &said,
        &format!("{WHOSE} is not signed by the key that it should be"),
        "ours.asc",
    );
    // And with nothing wrong it is accepted.
    archive.publish(&Release::good(key));
    place.lock_with("release.toml", &url).expect(0);
}

#[test]
fn servers_that_answer_something_else() {
    let place = ground().place("servers");
    place.write_ours("server", "tool");
    let root = place.dir.join("archive");
    let mut archive = Archive::new(&root);
    archive.add("tool", "");
    archive.publish(&Release::good(&ground().key));
    let bytes = |name: &str| fs::read(root.join("dists/stable").join(name)).unwrap();
    let index = format!("main/binary-{}/Packages", architecture());
    let (absent, broken) = ("is not there", "is on a server that is out of order");
    let (unlike, unsigned) = ("does not fit its own Release file", "is not signed");
    let (elsewhere, secret) = (
        "redirects to where apt does not follow",
        "wants other credentials",
    );
    let halfway = "breaks off before its end";
    let html = b"<html>Welcome!</html>".to_vec();
    let redirect = |to: &str| Answer::Redirect(to.to_owned());
    for (wrong, answer, code, means, evidence) in [
        ("/", Answer::Status(404), 1, absent, "127.0.0.1"),
        ("Packages", Answer::Status(404), 1, absent, "Packages"),
        ("/", Answer::Status(500), 1, broken, "127.0.0.1"),
        ("Packages", Answer::Status(503), 1, broken, "Packages"),
        ("/", Answer::Status(401), 1, secret, "127.0.0.1"),
        ("/", Answer::Status(403), 1, secret, "127.0.0.1"),
        ("/", Answer::Garbage, 1, halfway, "127.0.0.1"),
        (
            "Packages",
            Answer::Truncated(bytes(&index)),
            1,
            halfway,
            "Packages",
        ),
        (
            "Packages",
            Answer::Bytes(bytes("InRelease")),
            3,
            unlike,
            "Packages",
        ),
        ("Packages", Answer::Endless, 3, unlike, "Packages"),
        (
            "InRelease",
            Answer::Bytes(html),
            3,
            unsigned,
            "there is no OpenPGP signature",
        ),
        ("/", redirect("/dists/InRelease"), 1, elsewhere, "127.0.0.1"),
        (
            "/",
            redirect("file:/etc/hostname"),
            1,
            elsewhere,
            "127.0.0.1",
        ),
    ] {
        let server = serve(&root, wrong, answer);
        let said = place.refuse("server", &server.url(), code);
        says(&said, &format!("{WHOSE} {means}"), evidence);
    }
    let said = place.refuse("server", "http://127.0.0.1:1", 1);
    says(&said, CANNOT, "127.0.0.1");
    let release = bytes("InRelease");
    let slow = Server::start(move |_| Answer::Drip(release.clone()));
    let impatient = [("IMGBUILD_PATIENCE", "2")];
    let said = place.refuse_with("server", &slow.url(), 1, &impatient);
    says(
        &said,
        CANNOT,
        "bytes arrived: the server is too slow or silent",
    );
}

#[test]
fn indexes_with_injected_words() {
    let place = ground().place("indexes");
    place.write_ours("index", "tool");
    let root = place.dir.join("archive");
    let url = format!("file:{}", root.display());
    let unsound =
        "error: the index of packages in the suite stable of the archive `ours` is not sound";
    let unusable = "error: the index's entry of tool 1.0 cannot be used";
    for (field, wrong, first, evidence) in [
        (
            "Package: ",
            "Package: ../",
            unsound,
            "the field Package of `../tool` is `../tool`",
        ),
        (
            "Package: tool",
            "Package: to ol'\"",
            unsound,
            "the field Package of `to ol",
        ),
        (
            "Version: 1.0",
            "Version: 1.0 -o",
            unsound,
            "the field Version of `tool` is `1.0 -o`",
        ),
        (
            "Filename: pool",
            "Filename: ../../etc",
            unusable,
            "Filename is `../../etc/tool_1.0_all.deb` in the suite stable of the archive `ours`",
        ),
        (
            "Filename: pool",
            "Filename: /etc",
            unusable,
            "Filename is `/etc/",
        ),
        (
            "Filename: pool",
            "Filename: po ol\"'",
            unusable,
            "Filename is `po ol",
        ),
        (
            "Size: ",
            "Size: 99999999999999999999",
            unusable,
            "Size is `99999999999999999999",
        ),
        ("SHA256: ", "SHA256: ../", unusable, "SHA256 is `../"),
    ] {
        let mut archive = Archive::new(&root);
        archive.add_as("tool", "", &|stanza| stanza.replace(field, wrong));
        archive.publish(&Release::good(&ground().key));
        let said = place.refuse("index", &url, 3);
        says(&said, first, evidence);
    }
}

/// An archive of which some files are answered like this.
fn serve(root: &Path, wrong: &'static str, answer: Answer) -> Server {
    let root = root.to_owned();
    Server::start(move |request| {
        if request.path.contains(wrong) {
            return answer.clone();
        }
        file(&root, &request.path)
    })
}
