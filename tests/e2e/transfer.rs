//! `imgbuild import` and `imgbuild export` through the real binary: what comes in
//! is one image whichever way it comes, what goes out is read by the programs that
//! people have, and whoever is killed half-way leaves nothing half-done.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use store::dsse::Envelope;
use store::export::Export;
use store::keys::KeyFile;
use tests::binaries::{Ran, imgbuild};
use tests::fixtures::scratch;

/// A directory with a tree to import, a store and keys.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "run this test as root: it makes files of other owners and devices"
        );
        let dir = scratch();
        let bench = Self { dir };
        bench.make_root();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A small root filesystem with all that a manifest tells of.
    fn make_root(&self) {
        let put = |name: &str, text: &[u8]| {
            let path = self.path("root").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(
            "usr/lib/os-release",
            b"ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
        );
        put(
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nop:x:1000:1000::/home/op:/bin/sh\n",
        );
        put(
            "var/lib/dpkg/status",
            b"Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21.22\n\n\
              Package: tzdata\nStatus: install ok installed\nArchitecture: all\nVersion: 2024a\n\n",
        );
        put("srv/app/pyvenv.cfg", b"home = /usr/bin\n");
        let distribution = "srv/app/lib/python3.11/site-packages/flask-3.0.dist-info";
        put(&format!("{distribution}/RECORD"), b"");
        put(
            &format!("{distribution}/METADATA"),
            b"Metadata-Version: 2.1\nName: Flask\nVersion: 3.0\n\nVersion: of its text\n",
        );
        put("usr/bin/su", b"#!/bin/sh\n");
        put("usr/bin/ping", b"#!/bin/sh\n");
        put(
            &format!("{}/{}", "d".repeat(120), "long".repeat(40)),
            b"long",
        );
        let root = self.path("root");
        fs::set_permissions(root.join("usr/bin/su"), PermissionsExt::from_mode(0o4755)).unwrap();
        fs::hard_link(root.join("usr/bin/su"), root.join("usr/bin/also-su")).unwrap();
        std::os::unix::fs::symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
        std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
        std::os::unix::fs::chown(root.join("srv/app"), Some(1000), Some(3_000_000)).unwrap();
        let mut large = File::create(root.join("usr/lib/large")).unwrap();
        for number in 0..300_000_u32 {
            writeln!(
                large,
                "{number} {:x}",
                u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            )
            .unwrap();
        }
        large.set_len(40 << 20).unwrap();
        fs::create_dir(root.join("dev")).unwrap();
        for node in [["dev/null", "c", "1", "3"], ["dev/fifo", "p", "", ""]] {
            let words = node.iter().skip(1).filter(|word| !word.is_empty());
            let status = Command::new("mknod")
                .arg(root.join(node[0]))
                .args(words)
                .status();
            assert!(status.unwrap().success());
        }
        let value = "0sAQAAAgAgAAAAAAAAAAAAAAAAAAA=";
        let status = Command::new("setfattr")
            .args(["-n", "security.capability", "-v", value])
            .arg(root.join("usr/bin/ping"))
            .status()
            .expect("setfattr: run tests/run, which installs what it needs");
        assert!(status.success());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(imgbuild());
        command
            .current_dir(self.dir.path())
            .env_remove("SOURCE_DATE_EPOCH")
            .env("IMGBUILD_STORE", self.path("store"))
            .env("IMGBUILD_WORK", self.path("work"))
            .env("IMGBUILD_KEYS", self.path("keys"))
            .args(arguments);
        command
    }

    fn imgbuild(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments))
    }

    /// Imports, and returns the image.
    fn import(&self, from: &str, name: &str) -> String {
        let ran = self.imgbuild(&["import", from, "--name", name]).expect(0);
        ran.stdout.trim().to_owned()
    }

    fn shell(&self, script: &str) {
        let ran = Ran::of(
            Command::new("sh")
                .args(["-ec", script])
                .current_dir(self.dir.path()),
        );
        ran.expect(0);
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.imgbuild(arguments).expect(0);
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

#[test]
fn one_tree_is_one_image_whichever_way_it_comes() {
    let bench = Bench::new();
    bench.shell(
        "tar --xattrs --xattrs-include='*' --numeric-owner -C root -cf a.tar .
         gzip -k a.tar; xz -k -T0 -0 a.tar; zstd -q a.tar
         tar --format=gnu --sort=none -C root -cf gnu.tar . ; bzip2 -k gnu.tar",
    );
    let direct = bench.import("root", "base");
    for archive in ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.zst"] {
        assert_eq!(bench.import(archive, "base"), direct, "{archive}");
    }
    let mut command = bench.command(&["import", "-", "--name", "base", "--json"]);
    let ran = Ran::of(command.stdin(File::open(bench.path("a.tar.zst")).unwrap())).expect(0);
    let told: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(told["image"], Value::from(direct.as_str()));
    assert_eq!(told["changes"]["device"]["paths"][0], "dev/null");
    assert_eq!(told["changes"]["fifo"]["count"], 1);

    let shown = bench.json(&["show", "base", "--json"]);
    assert_eq!(shown["suite"], "bookworm");
    assert_eq!(shown["arch"], "amd64");
    assert_eq!(shown["packages"][1]["name"], "tzdata");
    assert_eq!(shown["wheels"][0]["virtualenv"], "/srv/app");
    assert_eq!(shown["users"][1]["name"], "op");
    assert_eq!(shown["setuid"][0]["path"], "usr/bin/also-su");
    assert_eq!(shown["xattrs"][0]["name"], "security.capability");

    // A bzip2 is not read, and the error says what reads it.
    let ran = bench
        .imgbuild(&["import", "gnu.tar.bz2", "--name", "x"])
        .expect(2);
    assert!(
        ran.stderr
            .contains("bzip2 -dc gnu.tar.bz2 | imgbuild import -"),
        "{}",
        ran.stderr
    );
    // What was imported has no recipe, and says so.
    let ran = bench.imgbuild(&["rebuild", "base"]).expect(1);
    assert!(ran.stderr.contains("was imported"), "{}", ran.stderr);
    // What is installed in it is known all the same.
    let bill = bench.json(&["show", "base", "--sbom"]);
    let component = |name: &str| {
        let mut all = bill["components"].as_array().unwrap().iter();
        all.find(|c| c["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {bill:#}"))
    };
    assert_eq!(component("debian")["type"], "operating-system");
    assert_eq!(
        component("tzdata")["purl"],
        "pkg:deb/debian/tzdata@2024a?arch=all&distro=debian-12"
    );
    assert_eq!(component("Flask")["purl"], "pkg:pypi/flask@3.0");
    let bill = bench.json(&["show", "base", "--sbom=spdx"]);
    assert_eq!(bill["spdxVersion"], "SPDX-2.3");
    // Signed, it is the same document.
    let signed = bench
        .imgbuild(&["show", "base", "--sbom=spdx", "--sign"])
        .expect(0);
    let envelope = store::dsse::Envelope::from_json(signed.stdout.as_bytes()).unwrap();
    let pem = bench
        .imgbuild(&["key", "show", "builder", "--pem"])
        .expect(0);
    let key = store::keys::PublicKey::from_pem(&pem.stdout).unwrap();
    assert_eq!(envelope.signers(&[key]), [key]);
    let statement: serde_json::Value = serde_json::from_slice(envelope.payload()).unwrap();
    assert_eq!(statement["predicateType"], "https://spdx.dev/Document");
    assert_eq!(statement["predicate"], bill);
}

#[test]
fn times_are_kept_or_clamped() {
    let bench = Bench::new();
    bench.shell("touch -d @2000000000 root/etc/passwd; tar -C root -cf a.tar .");
    let mut command = bench.command(&["import", "a.tar", "--name", "base"]);
    let ran = Ran::of(command.env("SOURCE_DATE_EPOCH", "1500000000")).expect(0);
    assert!(
        ran.stderr.contains("later than SOURCE_DATE_EPOCH"),
        "{}",
        ran.stderr
    );
    let shown = bench.json(&["show", "base", "--json"]);
    assert_eq!(shown["epoch"], 1_500_000_000);
    // Nothing is from the future.
    let ran = bench
        .imgbuild(&["import", "a.tar", "--name", "later"])
        .expect(3);
    assert!(ran.stderr.contains("2033-05-18"), "{}", ran.stderr);
    bench.shell("tar -C root --mtime=@1600000000 -cf b.tar .");
    bench.import("b.tar", "kept");
    let shown = bench.json(&["show", "kept", "--json"]);
    assert_eq!(shown["epoch"], 1_600_000_000);
    let mut command = bench.command(&["import", "a.tar", "--name", "base"]);
    Ran::of(command.env("SOURCE_DATE_EPOCH", "soon")).expect(2);
}

#[test]
fn three_formats_for_the_programs_that_people_have() {
    let bench = Bench::new();
    let image = bench.import("root", "base");
    for format in ["tar", "tar.zst", "tar.xz"] {
        let file = format!("out/base.{format}");
        fs::create_dir_all(bench.path("out")).unwrap();
        bench.imgbuild(&["export", "base", "-o", &file]).expect(0);
        let first = fs::read(bench.path(&file)).unwrap();
        // Again, with one core and to standard output.
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(imgbuild());
        let once = bench.command(&["export", "base", "--format", format]);
        command.args(once.get_args()).current_dir(bench.dir.path());
        for (name, value) in once.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stdout == first, "{format} differs the second time");
    }
    let tar = fs::read(bench.path("out/base.tar")).unwrap();
    assert_eq!(store::Blake3::of(&tar).to_string(), image);
    bench.shell(
        "cd out; sha256sum --strict -c *.sha256; zstd -qt base.tar.zst; xz -t base.tar.xz
         test \"$(ls -A | wc -l)\" = 12
         for file in base.tar base.tar.zst base.tar.xz; do
             mkdir ../gnu ../bsd
             tar --xattrs --xattrs-include='*' --numeric-owner -C ../gnu -xpf $file
             bsdtar --numeric-owner -C ../bsd -xpf $file
             # libarchive leaves the time of the directory that it unpacks into alone.
             touch -r ../gnu ../bsd
             tar -C .. -tf $file > /dev/null
             for one in gnu bsd; do
                 rm -rf ../had; mv ../$one ../had
                 tar --xattrs --xattrs-include='*' --numeric-owner -C ../had -cf ../$one.$file .
             done
         done",
    );
    for file in ["base.tar", "base.tar.zst", "base.tar.xz"] {
        assert_eq!(
            bench.import(&format!("out/{file}"), "base"),
            image,
            "{file}"
        );
        for program in ["gnu", "bsd"] {
            // What was compressed is a plain tar again.
            let again = format!("{program}.{file}");
            assert_eq!(bench.import(&again, "base"), image, "{again}");
        }
    }
}

#[test]
fn what_lies_beside_an_export_is_signed() {
    let bench = Bench::new();
    let image = bench.import("root", "base");
    bench
        .imgbuild(&["export", "dev/base", "-o", "b.tar.zst"])
        .expect(0);
    let envelope = fs::read(bench.path("b.tar.zst.dsse.json")).unwrap();
    let envelope = Envelope::from_json(&envelope).unwrap();
    let key = KeyFile::at(bench.path("keys/dev.targets.pem"))
        .load()
        .unwrap();
    let key = store::keys::Signer::public(&key);
    let export = Export::verify(&envelope, &"dev".parse().unwrap(), &[key], 1).unwrap();
    let manifest = fs::read(bench.path("b.tar.zst.manifest.json")).unwrap();
    assert_eq!(export.manifest(&manifest).unwrap().image.to_string(), image);
    let file = fs::read(bench.path("b.tar.zst")).unwrap();
    export
        .check_file(file.len() as u64, &store::Sha256::of(&file))
        .unwrap();
    assert_eq!(export.file_blake3, store::Blake3::of(&file));
    assert_eq!(export.about.encoder.as_ref().unwrap().name, "zstd");
    assert_eq!(
        fs::metadata(bench.path("b.tar.zst")).unwrap().mode() & 0o777,
        0o644
    );

    // Without the environment's key nothing is written; standard output needs none.
    fs::rename(bench.path("keys"), bench.path("elsewhere")).unwrap();
    let ran = bench.imgbuild(&["export", "base", "-o", "c.tar"]).expect(3);
    assert!(ran.stderr.contains("cannot sign"), "{}", ran.stderr);
    assert!(!bench.path("c.tar").exists());
    let ran = bench
        .imgbuild(&["export", "base", "--env", "prod", "-o", "c.tar"])
        .expect(1);
    assert!(ran.stderr.contains("environment prod"), "{}", ran.stderr);
    let output = bench.command(&["export", "base"]).output().unwrap();
    assert_eq!(store::Blake3::of(&output.stdout).to_string(), image);
    bench
        .imgbuild(&["export", "base", "-o", "/dev/null"])
        .expect(2);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    bench.imgbuild(&["export", "base", "--json"]).expect(2);
    // A reader that goes away, and a full disk, are errors and leave nothing.
    let mut child = bench
        .command(&["export", "base"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut some = [0; 512];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn hostile_archives_are_refused_by_name() {
    let bench = Bench::new();
    bench.shell(
        "mkdir t; echo x > t/x
         tar -C t --transform='s,x,../evil,' -P -cf dots.tar x
         tar -C t -cf whole.tar x; head -c 600 whole.tar > cut.tar
         gzip -k whole.tar; head -c 100 whole.tar.gz > cut.tar.gz
         ln -s /etc t/l; tar -C t -cf below.tar l
         rm t/l; mkdir t/l; echo y > t/l/passwd; tar -C t -rf below.tar l/passwd
         echo no tar > no.tar",
    );
    for (archive, words) in [
        ("dots.tar", "../evil: the path contains `..`"),
        ("cut.tar", "cut short"),
        ("cut.tar.gz", "cut short"),
        (
            "below.tar",
            "l/passwd: it is below something that is not a directory",
        ),
        ("no.tar", "cut short"),
    ] {
        let ran = bench
            .imgbuild(&["import", archive, "--name", "x"])
            .expect(3);
        assert!(ran.stderr.contains(words), "{archive}: {}", ran.stderr);
    }
    // A whole system below one directory is none where it is wanted.
    bench.shell("tar -cf inside.tar root");
    let words = ["import", "inside.tar", "--name", "x", "--arch", "amd64"];
    let said = bench.imgbuild(&words).expect(2).stderr;
    assert!(said.contains("everything below `root/`"), "{said}");
    assert_eq!(bench.imgbuild(&["list"]).expect(0).stdout, "");
    bench
        .imgbuild(&["import", "nothing.tar", "--name", "x"])
        .expect(2);
    bench
        .imgbuild(&["import", "root", "--name", "NO"])
        .expect(2);
}

#[test]
fn killed_at_any_moment_an_import_leaves_a_whole_store() {
    let bench = Bench::new();
    bench.shell(
        "tar --xattrs --xattrs-include='*' --numeric-owner -C root -cf a.tar . ; gzip -1 a.tar",
    );
    let image = bench.import("a.tar.gz", "first");
    bench.shell(
        "echo changed > root/etc/changed; head -c 30000000 /dev/urandom > root/usr/noise
                 tar -C root -cf b.tar .; gzip -1 b.tar",
    );
    // Fed by hand, an import is somewhere else each time it is killed.
    let bytes = fs::read(bench.path("b.tar.gz")).unwrap();
    for part in 0..12 {
        let mut child = bench
            .command(&["import", "-", "--name", "second"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let some = bytes.len() * part / 11;
        pipe.write_all(&bytes[..some.min(bytes.len())]).unwrap();
        if part == 11 {
            // All of it: killed while it packs.
            drop(pipe);
            while !has_packs_on_the_way(&bench.path("store/tmp"))
                && child.try_wait().unwrap().is_none()
            {
                std::thread::yield_now();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let ran = bench.imgbuild(&["list"]).expect(0);
        assert!(
            !ran.stdout.contains("second") || part == 11,
            "{}",
            ran.stdout
        );
        check(&bench, "first", &image);
    }
    let second = bench.import("b.tar.gz", "second");
    check(&bench, "second", &second);
    check(&bench, "first", &image);
    // What the dead left is gone with the next writer.
    let left = fs::read_dir(bench.path("store/tmp")).unwrap().count();
    assert_eq!(left, 0);
}

/// Whether a writer is writing files that have no name in the store yet.
fn has_packs_on_the_way(tmp: &Path) -> bool {
    let folders = fs::read_dir(tmp).into_iter().flatten().flatten();
    let mut files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten());
    files.any(|file| file.is_ok_and(|file| file.metadata().is_ok_and(|meta| meta.len() > 1 << 20)))
}

/// Reads every byte of an image.
fn check(bench: &Bench, name: &str, image: &str) {
    let output = bench.command(&["export", name]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(store::Blake3::of(&output.stdout).to_string(), image);
}
