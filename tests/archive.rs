//! A small Debian archive of a test's own: real packages, real indexes, a real
//! signature by a key that is thrown away, and wrong ones where a test wants it.
//!
//! Formats: deb-control(5), <https://wiki.debian.org/DebianRepository/Format>.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The suite of every such archive.
pub const SUITE: &str = "stable";
/// The keys of Debian's archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const NAMES: &str = "Origin: Test\nLabel: Test\nSuite: stable\nCodename: stable\n";

/// A signing key and the directory in which gpg keeps it.
///
/// gpg's agent ends by itself when that directory is gone.
pub struct SigningKey {
    home: PathBuf,
    // What gpg believes the time to be.
    time: Option<&'static str>,
    // gpg starts its agent when there is none; two at once would start two.
    turn: Mutex<()>,
}

impl SigningKey {
    /// Makes one, which gpg keeps in that directory.
    pub fn new(home: &Path) -> Self {
        Self::make(home, None, "never")
    }

    /// Debian's own, as far as this test and its programs can see: its public part
    /// lies where that of Debian's archive lies.
    ///
    /// # Panics
    /// Outside of the namespaces in which `tests/run` starts each test.
    pub fn pass_for_debian(keyring: &Path) {
        let inside = std::env::var_os("IMGBUILD_TEST_FIXTURES").is_some();
        assert!(inside, "the machine's keyring would be hidden: tests/run");
        let mut mount = Command::new("mount");
        mount.arg("--bind").args([keyring, Path::new(KEYRING)]);
        piped(&mut mount, b"");
    }

    /// One that was valid for a month of 2025, in which it signs.
    pub fn expired(home: &Path) -> Self {
        Self::make(home, Some("20250115T000000!"), "30d")
    }

    fn make(home: &Path, time: Option<&'static str>, expires: &str) -> Self {
        let private = fs::Permissions::from_mode(0o700);
        fs::create_dir_all(home).expect("the directory is ours");
        fs::set_permissions(home, private).expect("the directory is ours");
        let key = Self {
            home: home.to_owned(),
            time,
            turn: Mutex::default(),
        };
        let made = [
            "--quick-generate-key",
            "An archive of a test",
            "ed25519",
            "sign",
            expires,
        ];
        key.gpg(&made, b"");
        key
    }

    /// The public part, armored.
    pub fn public(&self) -> Vec<u8> {
        self.gpg(&["--armor", "--export"], b"")
    }

    /// A key without its armor.
    pub fn dearmored(armored: &[u8]) -> Vec<u8> {
        piped(Command::new("gpg").arg("--dearmor"), armored)
    }

    fn clearsign(&self, text: &str) -> Vec<u8> {
        self.gpg(&["--clearsign", "--output", "-"], text.as_bytes())
    }

    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new("gpg");
        command
            .arg("--homedir")
            .arg(&self.home)
            .args([
                "--batch",
                "--quiet",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
            ])
            .args(self.time.map(|time| format!("--faked-system-time={time}")))
            .args(arguments);
        piped(&mut command, input)
    }
}

/// What the Release file says, and who signs it.
pub struct Release<'a> {
    /// None: unsigned.
    pub signer: Option<&'a SigningKey>,
    /// `Date`, seconds from now.
    pub date: i64,
    /// `Valid-Until`, seconds from now.
    pub valid_until: Option<i64>,
    /// Whether the digests are those of the indexes.
    pub fits: bool,
    /// How the archive calls itself and its suite: lines of the Release file.
    pub names: &'a str,
}

impl<'a> Release<'a> {
    /// One with which nothing is wrong.
    pub fn good(signer: &'a SigningKey) -> Self {
        Self {
            signer: Some(signer),
            // Older than Debian's: an image is as old as the newest archive that it is from, and its
            // bootstrap is the one of all other tests as long as that is Debian's.
            date: -5 * 365 * 86_400,
            valid_until: None,
            fits: true,
            names: NAMES,
        }
    }
}

/// An archive in a directory.
pub struct Archive {
    root: PathBuf,
    stanzas: String,
    /// Documentation of the package that is built next.
    docs: Vec<(String, String)>,
    files: Vec<(String, String)>,
}

impl Archive {
    /// An empty one.
    pub fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("pool")).expect("the directory is ours");
        Self {
            root: root.to_owned(),
            stanzas: String::new(),
            docs: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Builds a package of version 1.0 with one file; `control` has further
    /// fields, each line ended. Returns where it is below the archive.
    pub fn add(&mut self, name: &str, control: &str) -> String {
        self.add_as(name, control, &|stanza| stanza)
    }

    /// The same in another version.
    pub fn add_version(&mut self, name: &str, version: &str, control: &str) -> String {
        self.build(name, version, control, &[], &|stanza| stanza)
    }

    /// The same with a file of documentation: its name below `usr/share/doc`, compressed there,
    /// and its text. A name without a folder is that of a link, and the text is where it leads.
    pub fn add_documented(
        &mut self,
        name: &str,
        version: &str,
        control: &str,
        doc: (&str, &str),
    ) -> String {
        self.docs.push((doc.0.to_owned(), doc.1.to_owned()));
        let path = self.build(name, version, control, &[], &|stanza| stanza);
        self.docs.clear();
        path
    }

    /// The same with a file that is not compressed, its name below `usr/share/doc` as well.
    pub fn add_plain(
        &mut self,
        name: &str,
        version: &str,
        control: &str,
        file: (&str, &str),
    ) -> String {
        self.files.push((file.0.to_owned(), file.1.to_owned()));
        let path = self.build(name, version, control, &[], &|stanza| stanza);
        self.files.clear();
        path
    }

    /// Version 1.0 with these files of dpkg's, such as `postinst`.
    pub fn add_scripts(&mut self, name: &str, scripts: &[(&str, &str)]) -> String {
        self.build(name, "1.0", "", scripts, &|stanza| stanza)
    }

    /// Version 1.0, with what the index says about it changed.
    pub fn add_as(
        &mut self,
        name: &str,
        control: &str,
        change: &dyn Fn(String) -> String,
    ) -> String {
        self.build(name, "1.0", control, &[], change)
    }

    fn build(
        &mut self,
        name: &str,
        version: &str,
        control: &str,
        scripts: &[(&str, &str)],
        change: &dyn Fn(String) -> String,
    ) -> String {
        let tree = tempfile::tempdir().expect("a directory for the package");
        let share = tree.path().join("usr/share").join(name);
        fs::create_dir_all(&share).unwrap();
        // Incompressible, so that half of the package is not all of it.
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        fs::write(share.join("noise"), noise.take(20_000).collect::<Vec<u8>>()).unwrap();
        for (doc, text) in &self.docs {
            let path = tree.path().join("usr/share/doc").join(doc);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if !doc.contains('/') {
                std::os::unix::fs::symlink(text, path).unwrap();
                continue;
            }
            let packed = piped(Command::new("gzip").arg("-9n"), text.as_bytes());
            fs::write(path, packed).unwrap();
        }
        for (file, text) in &self.files {
            fs::create_dir_all(tree.path().join("usr/share/doc")).unwrap();
            let path = tree.path().join("usr/share/doc").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir(tree.path().join("DEBIAN")).unwrap();
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\n\
             Maintainer: Nobody <nobody@debian.example>\nDescription: part of a test\n{control}"
        );
        fs::write(tree.path().join("DEBIAN/control"), &control).unwrap();
        for (script, text) in scripts {
            let path = tree.path().join("DEBIAN").join(script);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("pool/{name}_{version}_all.deb");
        let mut build = Command::new("dpkg-deb");
        build
            .args(["--root-owner-group", "--build"])
            .arg(tree.path())
            .arg(self.root.join(&path));
        piped(&mut build, b"");
        let bytes = fs::read(self.root.join(&path)).unwrap();
        let stanza = format!(
            "{control}Filename: {path}\nSize: {}\nSHA256: {}\n",
            bytes.len(),
            sha256(&bytes)
        );
        self.stanzas.push_str(&change(stanza));
        self.stanzas.push('\n');
        path
    }

    /// Writes the indexes and the Release file.
    pub fn publish(&self, release: &Release<'_>) {
        self.publish_as(SUITE, release);
    }

    /// The same as another suite than [`SUITE`].
    pub fn publish_as(&self, suite: &str, release: &Release<'_>) {
        let dists = self.root.join("dists").join(suite);
        let _ = fs::remove_dir_all(&dists);
        let index = "main/binary-amd64/Packages".replace("amd64", architecture());
        fs::create_dir_all(dists.join(&index).parent().unwrap()).unwrap();
        fs::write(dists.join(&index), &self.stanzas).unwrap();
        let described = if release.fits {
            self.stanzas.clone()
        } else {
            self.stanzas.replace("Version: 1.0", "Version: 0.9")
        };
        let mut text = format!("{}Date: {}\n", release.names, date(release.date));
        if let Some(until) = release.valid_until {
            let _ = writeln!(text, "Valid-Until: {}", date(until));
        }
        let _ = write!(
            text,
            "Architectures: all {}\nComponents: main\nSHA256:\n {} {} {index}\n",
            architecture(),
            sha256(described.as_bytes()),
            described.len()
        );
        match release.signer {
            None => fs::write(dists.join("Release"), text),
            Some(key) => fs::write(dists.join("InRelease"), key.clearsign(&text)),
        }
        .unwrap();
    }
}

/// Makes `root` an archive with a suite of this machine's own archive, in which
/// only the packages with these paths are left, signed by another key.
///
/// apt reads the whole of Debian for seconds each time.
pub fn copy_part(suite: &str, paths: &BTreeSet<String>, key: &SigningKey, root: &Path) {
    let url = archive_address("/debian/");
    let dists = root.join("dists").join(suite);
    let index = format!("main/binary-{}/Packages", architecture());
    fs::create_dir_all(dists.join(&index).parent().unwrap()).unwrap();
    let compressed = format!("{index}.xz");
    let mut helper = Command::new("/usr/lib/apt/apt-helper");
    helper.args(["-o", "APT::Sandbox::User=root", "download-file"]);
    for name in ["InRelease", &compressed] {
        helper.arg(format!("{url}dists/{suite}/{name}"));
        helper.arg(dists.join(name)).arg("");
    }
    piped(&mut helper, b"");
    let compressed = dists.join(compressed);
    let all = piped(Command::new("xz").arg("-dc").arg(&compressed), b"");
    fs::remove_file(compressed).unwrap();
    let all = String::from_utf8(all).unwrap();
    let left = all.split_inclusive("\n\n").filter(|stanza| {
        let mut lines = stanza.lines();
        let path = lines.find_map(|line| line.strip_prefix("Filename: "));
        path.is_some_and(|path| paths.contains(path))
    });
    let left: String = left.collect();
    sign(&dists, &left, key);
}

/// Makes that the index of a suite that is a directory, signed by this key. What the suite says
/// of itself stays: apt, pins and our errors go by it.
pub fn sign(dists: &Path, packages: &str, key: &SigningKey) {
    let index = format!("main/binary-{}/Packages", architecture());
    let release = dists.join("InRelease");
    let signed = fs::read_to_string(&release).unwrap();
    let after_armor = signed.lines().skip_while(|line| !line.is_empty()).skip(1);
    let said: String = after_armor
        .take_while(|line| !line.starts_with("MD5Sum:") && !line.starts_with("SHA256:"))
        .filter(|line| !line.starts_with("Acquire-By-Hash:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let digest = sha256(packages.as_bytes());
    let text = format!("{said}SHA256:\n {digest} {} {index}\n", packages.len());
    // The files may be linked to those of others.
    for (path, bytes) in [
        (dists.join(&index), packages.as_bytes().to_vec()),
        (release, key.clearsign(&text)),
    ] {
        let _ = fs::remove_file(&path);
        fs::write(path, bytes).unwrap();
    }
}

/// Debian's archives in this machine's apt sources, as the lines of a `sources.list(5)`.
pub fn sources() -> String {
    let known = index_targets("$(REPO_URI) $(RELEASE) $(COMPONENT)");
    let of_debian = |line: &&str| line.contains("/debian/ ") || line.contains("/debian-security/ ");
    let mut lines: Vec<&str> = known.lines().filter(of_debian).collect();
    lines.sort_unstable();
    lines.dedup();
    let line = |line: &str| format!("deb [signed-by={KEYRING}] {line}\n");
    lines.into_iter().map(line).collect()
}

fn index_targets(format: &str) -> String {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", format, "Created-By: Packages"]);
    let known = piped(&mut command, b"");
    String::from_utf8_lossy(&known).into_owned()
}

/// The address of an archive in this machine's apt sources, by how it ends.
pub fn archive_address(ending: &str) -> String {
    let known = index_targets("$(REPO_URI)");
    let url = known.lines().find(|url| url.ends_with(ending));
    let url = url.unwrap_or_else(|| panic!("apt's sources have no archive .../{ending}"));
    url.to_owned()
}

/// Debian's name for this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The digest in hex, by sha256sum(1).
pub fn sha256(bytes: &[u8]) -> String {
    let out = piped(&mut Command::new("sha256sum"), bytes);
    String::from_utf8_lossy(&out)
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn date(from_now: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let second = now.as_secs().cast_signed() + from_now;
    let mut command = Command::new("date");
    command
        .env("LC_ALL", "C")
        .args(["--utc", "+%a, %d %b %Y %H:%M:%S UTC", "-d"]);
    let out = piped(command.arg(format!("@{second}")), b"");
    String::from_utf8_lossy(&out).trim().to_owned()
}

/// Feeds a program; its output.
fn piped(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}; run tests/run"));
    let mut stdin = child.stdin.take().expect("it is piped");
    // A program that reads nothing may be gone already.
    let _ = stdin.write_all(input);
    drop(stdin);
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}");
    out.stdout
}
