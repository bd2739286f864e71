//! The apt of every supported suite: each has other sentences and another
//! program that verifies signatures, and what imgbuild says is the same.
//!
//! Each suite's own apt is unpacked into a small root. imgbuild runs on this machine, in a mount namespace in which apt and
//! the verifier are those of that root.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use tests::archive::{Archive, Release, SigningKey, archive_address};
use tests::binaries::{Ran, imgbuild};
use tests::fixtures::fixture;
use tests::server::{Answer, Server};

use super::{CANNOT, Place, WHOSE, ground, says, serve};

const SUITES: [&str; 3] = ["bullseye", "bookworm", "trixie"];
const PACKAGES: &str = "apt,coreutils,dash,debian-archive-keyring,dpkg";

/// Merges /usr before anything is unpacked: programs look for their loader in /lib64. The hook that
/// mmdebstrap has for it does so on Debian 12, and no longer on Debian 13.
const MERGE: &str = r#"for part in bin sbin lib lib64; do mkdir -p "$1/usr/$part"; ln -s "usr/$part" "$1/$part"; done"#;

/// A root with the apt of a suite.
struct Root {
    suite: &'static str,
    path: PathBuf,
}

fn roots() -> &'static [Root] {
    static ROOTS: OnceLock<Vec<Root>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        thread::scope(|scope| {
            let making = SUITES.map(|suite| scope.spawn(move || Root::of(suite)));
            let made = making.into_iter().map(|root| root.join().unwrap());
            made.collect()
        })
    })
}

impl Root {
    fn of(suite: &'static str) -> Self {
        let path = fixture(&format!("apt-{suite}"), |path| {
            let mut make = Command::new("mmdebstrap");
            make.args(["--quiet", "--variant=extract"])
                .arg(format!("--setup-hook={MERGE}"))
                .arg(format!("--include={PACKAGES}"));
            let settings = Ran::of(Command::new("apt-config").args(["dump", "Acquire"]));
            for option in settings.stdout.lines() {
                if option.contains("Proxy") || option.contains("::Verify-") {
                    make.arg(format!("--aptopt={option}"));
                }
            }
            let mirror = archive_address("/debian/");
            make.arg(suite)
                .arg(path)
                .arg(format!("deb {mirror} {suite} main"));
            let ran = Ran::of(&mut make);
            assert_eq!(
                ran.code, 0,
                "this machine's archive does not give the apt of {suite}:\n{}",
                ran.stderr
            );
        });
        Self { suite, path }
    }

    /// imgbuild with the apt of that root, which sees the directory of the tests.
    fn command(&self, place: &Place, arguments: &[&str]) -> Command {
        const ENTER: &str = r#"
            set -e
            mount --make-rprivate /
            root=$1 ground=$2
            shift 2
            mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root$ground"
            mount --bind "$ground" "$root$ground"
            keyring=/usr/share/keyrings/debian-archive-keyring.gpg
            mount --bind "$keyring" "$root$keyring"
            mount --rbind /proc "$root/proc"
            mount --rbind /dev "$root/dev"
            mount -t tmpfs none "$root/tmp"
            mount -t tmpfs none /usr/local/sbin
            instead() {
                printf '#!/bin/sh\nexec chroot "%s" "%s" "$@"\n' "$root" "$1" >"$2"
                chmod 755 "$2"
            }
            for name in apt-get apt-config gpgv sqv; do
                if [ -x "$root/usr/bin/$name" ]; then
                    instead "/usr/bin/$name" "/usr/local/sbin/$name"
                elif [ -e "/usr/bin/$name" ]; then
                    mount --bind /dev/null "/usr/bin/$name"
                fi
            done
            instead /usr/lib/apt/apt-helper /usr/local/sbin/apt-helper
            mount --bind /usr/local/sbin/apt-helper /usr/lib/apt/apt-helper
            exec "$IMGBUILD" "$@"
        "#;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--", "sh", "-c", ENTER, "sh"])
            .args([&self.path, &ground().dir])
            .args(arguments)
            .current_dir(&place.dir)
            .env("IMGBUILD", imgbuild())
            .env("IMGBUILD_STORE", place.store())
            .env("IMGBUILD_WORK", place.dir.join("work"))
            .env("IMGBUILD_KEYS", place.dir.join("keys"))
            .env("no_proxy", "127.0.0.1");
        command
    }

    fn lock(&self, place: &Place, recipe: &str, url: &str) -> Ran {
        let (debian, ours) = (ground().debian(), format!("ours={url}"));
        let arguments = ["lock", recipe, "--archive", &debian, "--archive", &ours];
        Ran::of(&mut self.command(place, &arguments))
    }

    /// Locks in vain; what is said.
    #[track_caller]
    fn refuse(&self, place: &Place, recipe: &str, url: &str, code: i32) -> String {
        let ran = self.lock(place, recipe, url);
        let at = ran.stderr.find("error: ");
        let at = at.unwrap_or_else(|| panic!("{}: no error in\n{}", self.suite, ran.stderr));
        let said = ran.stderr[at..].to_owned();
        assert_eq!(ran.code, code, "{}: {said}", self.suite);
        said
    }
}

/// Runs the same with each apt at once.
fn with_each(name: &str, test: impl Fn(&Root, &Place) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for root in roots() {
            let place = ground().place(&format!("{name}-{}", root.suite));
            scope.spawn(move || test(root, &place));
        }
    });
}

#[test]
fn each_apt_tells_what_is_wrong_with_a_release() {
    let dir = ground().dir.join("versions-keys");
    let foreign = &SigningKey::new(&dir.join("foreign"));
    let expired = &SigningKey::expired(&dir.join("expired"));
    with_each("versions-releases", |root, place| {
        place.write_ours("release", "tool");
        let at = place.dir.join("archive");
        let url = format!("file:{}", at.display());
        let mut archive = Archive::new(&at);
        archive.add("tool", "");
        let key = &ground().key;
        let good = || Release::good(key);
        let ours = key.public();
        let day = 86_400;
        let unsigned = Release {
            signer: None,
            ..good()
        };
        let old = Release {
            date: -9 * day,
            valid_until: Some(-2 * day),
            ..good()
        };
        let future = Release {
            date: 3 * day,
            ..good()
        };
        let unfit = Release {
            fits: false,
            ..good()
        };
        let by_another = "is not signed by the key that it should be";
        for (release, public, means) in [
            (unsigned, &ours, "is not signed"),
            (Release::good(foreign), &ours, by_another),
            (
                Release::good(expired),
                &expired.public(),
                "is signed by a key that has expired",
            ),
            (old, &ours, "has expired"),
            (future, &ours, "is from the future"),
            (unfit, &ours, "does not fit its own Release file"),
        ] {
            fs::write(place.dir.join("ours.asc"), public).unwrap();
            archive.publish(&release);
            let said = root.refuse(place, "release.toml", &url, 3);
            says(&said, &format!("{WHOSE} {means}"), "  ");
        }
        fs::write(place.dir.join("ours.asc"), &ours).unwrap();
        archive.publish(&good());
        let path = at.join("dists/stable/InRelease");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("Label: Test", "Label: Tost")).unwrap();
        let said = root.refuse(place, "release.toml", &url, 3);
        says(&said, &format!("{WHOSE} {by_another}"), "  ");
        fs::remove_dir_all(&at).unwrap();
        let said = root.refuse(place, "release.toml", &url, 1);
        says(&said, &format!("{WHOSE} is not there"), "  ");
    });
}

#[test]
fn each_apt_tells_what_a_server_answers() {
    with_each("versions-servers", |root, place| {
        place.write_ours("server", "tool");
        let at = place.dir.join("archive");
        let mut archive = Archive::new(&at);
        archive.add("tool", "");
        archive.publish(&Release::good(&ground().key));
        let indexes = at.join("dists/stable");
        let release = fs::read(indexes.join("InRelease")).unwrap();
        let elsewhere = "redirects to where apt does not follow";
        for (wrong, answer, code, means) in [
            ("/", Answer::Status(404), 1, "is not there"),
            ("Packages", Answer::Status(404), 1, "is not there"),
            (
                "/",
                Answer::Status(500),
                1,
                "is on a server that is out of order",
            ),
            ("/", Answer::Status(401), 1, "wants other credentials"),
            ("/", Answer::Status(403), 1, "wants other credentials"),
            ("/", Answer::Garbage, 1, "breaks off before its end"),
            (
                "Packages",
                Answer::Truncated(release.clone()),
                3,
                "does not fit its own Release file",
            ),
            (
                "InRelease",
                Answer::Truncated(release.clone()),
                1,
                "breaks off before its end",
            ),
            (
                "Packages",
                Answer::Bytes(release),
                3,
                "does not fit its own Release file",
            ),
            (
                "InRelease",
                Answer::Bytes(b"<html>".to_vec()),
                3,
                "is not signed",
            ),
            (
                "/",
                Answer::Redirect("/dists/InRelease".into()),
                1,
                elsewhere,
            ),
            (
                "/",
                Answer::Redirect("file:/etc/hostname".into()),
                1,
                elsewhere,
            ),
        ] {
            let server = serve(&at, wrong, answer);
            let said = root.refuse(place, "server.toml", &server.url(), code);
            says(&said, &format!("{WHOSE} {means}"), "  ");
        }
        let said = root.refuse(place, "server.toml", "http://127.0.0.1:1", 1);
        says(&said, CANNOT, "127.0.0.1");
    });
}

#[test]
fn each_apt_tells_what_cannot_be_installed() {
    with_each("versions-packages", |root, place| {
        let at = place.dir.join("archive");
        let mut archive = Archive::new(&at);
        let path = archive.add("tool", "");
        archive.add("broken", "Depends: nowhere-to-be-found\n");
        archive.publish(&Release::good(&ground().key));
        let server = Server::start({
            let at = at.clone();
            move |request| tests::server::file(&at, &request.path)
        });
        let none = "error: no archive of the recipe has the package";
        let unmet = "error: apt finds no way to install the recipe's packages";
        for (package, first, evidence) in [
            ("toool", format!("{none} `toool`"), "toool"),
            ("tool=2.0", format!("{none} `2.0 of tool`"), "tool"),
            ("broken", unmet.to_owned(), "nowhere-to-be-found"),
        ] {
            place.write_ours("wish", package);
            let said = root.refuse(place, "wish.toml", &server.url(), 1);
            says(&said, &first, evidence);
        }
        let essential = "error: apt would have to remove an essential package";
        place.write("bare", "exclude = [\"bash\"]\n");
        let said = root.refuse(place, "bare.toml", &server.url(), 1);
        says(&said, essential, "bash");

        place.write_ours("pack", "tool");
        let cannot = "error: cannot fetch tool 1.0 from the archive `ours`";
        let deb = fs::read(at.join(&path)).unwrap();
        let other = [&deb[..deb.len() - 1], b"?"].concat();
        let unlike =
            "error: the archive `ours` delivers other bytes for tool 1.0 than the lock names";
        for (answer, code, first) in [
            (Answer::Bytes(other), 3, unlike),
            (Answer::Status(404), 1, cannot),
        ] {
            let server = serve(&at, "_all.deb", answer);
            let said = root.refuse(place, "pack.toml", &server.url(), code);
            says(&said, first, "tool_1.0_all.deb");
        }
        // And with nothing wrong it is accepted.
        root.lock(place, "pack.toml", &server.url()).expect(0);
        let locked = place.debs("pack");
        assert!(locked.iter().any(|(deb, _)| *deb == path), "{locked:?}");
    });
}
