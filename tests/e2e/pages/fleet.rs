//! A small fleet on this machine: a network of machines with places of their own, at whose
//! terminals somebody types (`fleet.sh`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::bench::wait_for;
use tests::binaries::{Ran, imgbuild, imgnode, repository};
use tests::fixtures::scratch;

pub(super) const MACHINES: [&str; 8] = [
    "builder", "lab", "ann", "bob", "eve", "root", "web01", "web02",
];

/// The machines; they end when this is dropped.
pub(super) struct Fleet {
    dir: tempfile::TempDir,
    holder: Child,
    /// What somebody writes in the place of words of a page: those that stand for a digest or key.
    words: RefCell<BTreeMap<String, String>>,
}

impl Fleet {
    /// Starts them all. Before, `prepare` may put something where a machine finds it.
    pub(super) fn start(prepare: impl FnOnce(&Path)) -> Self {
        let dir = scratch();
        let path = dir.path();
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(path, open).unwrap();
        let here = repository().join("tests/e2e/pages");
        let mut copy = Command::new("cp");
        copy.arg("-r")
            .args([here.join("fleet.sh"), here.join("bin")]);
        Ran::of(copy.arg(path)).expect(0);
        Ran::of(
            Command::new("cp")
                .arg("-r")
                .args([&repository().join("recipes"), path]),
        )
        .expect(0);
        for folder in ["programs", "units"] {
            fs::create_dir(path.join(folder)).unwrap();
        }
        for program in [imgbuild(), imgnode()] {
            let name = program.file_name().unwrap();
            fs::hard_link(program, path.join("programs").join(name))
                .or_else(|_| fs::copy(program, path.join("programs").join(name)).map(drop))
                .unwrap();
        }
        for folder in ["builder/systemd", "verify/systemd"] {
            for unit in fs::read_dir(repository().join(folder)).unwrap() {
                let unit = unit.unwrap();
                fs::copy(unit.path(), path.join("units").join(unit.file_name())).unwrap();
            }
        }
        certificate(path);
        prepare(path);
        let mut holder = Command::new("unshare");
        holder
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh"])
            .args([&path.join("fleet.sh"), path])
            .args(MACHINES)
            .stdin(Stdio::null());
        let holder = holder.spawn().unwrap();
        wait_for("the fleet", || path.join("ready").exists());
        Self {
            dir,
            holder,
            words: RefCell::default(),
        }
    }

    /// A path on a machine, seen from here.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// From now on this word of a page is written as that.
    pub(super) fn means(&self, word: &str, text: &str) {
        let mut words = self.words.borrow_mut();
        words.insert(word.to_owned(), text.to_owned());
    }

    /// What somebody writes who reads that.
    pub(super) fn written(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // Those that begin with another word come first.
        for (word, meaning) in self.words.borrow().iter().rev() {
            text = text.replace(word, meaning);
        }
        text
    }

    /// Types lines at the terminal of a machine, and answers what is asked: yes, and the
    /// passphrase of each key. What was on the screen; every command must succeed.
    #[track_caller]
    pub(super) fn types(&self, machine: &str, text: &str) -> String {
        self.types_and_ends(machine, text, 0)
    }

    /// The same where the last command ends with `code`.
    #[track_caller]
    pub(super) fn types_and_ends(&self, machine: &str, text: &str, code: i32) -> String {
        let text = self.written(text);
        let request = tempfile::tempdir_in(self.dir.path()).unwrap();
        let at = |name: &str| request.path().join(name);
        fs::write(at("run"), format!("{text}\n")).unwrap();
        let mut fifo = Command::new("mkfifo");
        Ran::of(fifo.arg(at("keys"))).expect(0);
        let mut requests = String::new();
        let _ = writeln!(requests, "{}", request.path().display());
        fs::write(self.path(machine).join("requests"), requests).unwrap();
        let mut keyboard = fs::File::options().write(true).open(at("keys")).unwrap();
        let screen = || {
            let bytes = fs::read(at("screen")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\r', "")
        };
        let mut seen = 0;
        wait_for(&text, || {
            let screen = screen();
            let line = screen.rsplit('\n').next().unwrap_or_default();
            if screen.len() > seen
                && let Some(answer) = answer(line, &screen)
            {
                seen = screen.len();
                keyboard.write_all(answer.as_bytes()).unwrap();
            }
            at("code").exists()
        });
        let (screen, ended) = (screen(), fs::read_to_string(at("code")).unwrap());
        assert_eq!(
            ended.trim(),
            code.to_string(),
            "on {machine}:\n{text}\n{screen}"
        );
        eprintln!("{machine}$ {text}\n{screen}");
        self.carry_from(machine);
        screen
    }

    /// Brings files that wait for signatures, as this machine has them, to all others.
    fn carry_from(&self, machine: &str) {
        let home = self.path(machine).join("root");
        for file in fs::read_dir(&home).unwrap() {
            let name = file.unwrap().file_name();
            if !name.to_string_lossy().ends_with(".json") {
                continue;
            }
            for other in MACHINES.iter().filter(|other| **other != machine) {
                fs::copy(home.join(&name), self.path(other).join("root").join(&name)).unwrap();
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What somebody answers to the last line of the screen.
fn answer(line: &str, screen: &str) -> Option<String> {
    if line.ends_with("[y/N] ") {
        return Some("y\n".to_owned());
    }
    // Each key has a passphrase of its own.
    let asks = line.ends_with(": ") && (line.contains("passphrase") || line.contains("same again"));
    let name = screen.rsplit_once("the key ")?.1;
    let name = name.split([':', ' ', ';']).next()?;
    asks.then(|| format!("the word of {name}\n"))
}

/// An authority of the fleet's own, and what the web servers of both names show.
fn certificate(dir: &Path) {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -keyout ca.key -out ca.crt -days 30 -subj /CN=Fleet -addext basicConstraints=critical,CA:TRUE
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -CA ca.crt \
        -CAkey ca.key -keyout server.key -out server.crt -days 30 -subj /CN=images.example \
        -addext subjectAltName=DNS:images.example,DNS:lab.example \
        -addext basicConstraints=critical,CA:FALSE";
    let mut openssl = Command::new("sh");
    Ran::of(openssl.current_dir(dir).args(["-ec", script])).expect(0);
}
