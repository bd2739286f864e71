//! One small Debian, bootstrapped once, as the base of many builds.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::binaries::{Ran, imgbuild};
use crate::fixtures::{copy, copy_places, fixture, scratch};

/// A directory with recipes, a store and a work directory, removed when dropped.
#[derive(Debug)]
pub struct Bench {
    dir: tempfile::TempDir,
    // The recipe and the lock that new ones begin with.
    start: Start,
    // Tests that are threads of one process take turns: they look at the whole machine.
    _turn: MutexGuard<'static, ()>,
}

/// What recipes of a bench begin with: all tests share one that is built.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// The smallest Debian.
    Base,
    /// The base with Debian's Python, locked and built up to there.
    Python,
}

impl Start {
    const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Python => "python",
        }
    }

    /// The files with the recipe and its lock.
    fn files(self) -> [String; 2] {
        ["toml", "lock"].map(|ending| format!("{}.{ending}", self.name()))
    }

    /// The directory in which it is built, made once.
    fn fixture(self) -> PathBuf {
        match self {
            Self::Base => fixture(self.name(), |dir| {
                write_recipe(dir, "base", "");
                Ran::of(command_in(dir, imgbuild()).arg("base.toml")).expect(0);
            }),
            Self::Python => {
                let base = Self::Base.fixture();
                fixture(self.name(), |dir| {
                    Self::Base.copy_from(&base, dir);
                    write_recipe(dir, "python", PYTHON);
                    fs::copy(dir.join("base.lock"), dir.join("python.lock")).unwrap();
                    Ran::of(command_in(dir, imgbuild()).arg("python.toml")).expect(0);
                    // The pip of its virtualenvs.
                    let small = "[[virtualenv]]\npath = \"/srv/venv\"\n\
                         requirements = [\"itsdangerous==2.2.0\"]\n";
                    write_recipe(dir, "pip", &format!("{PYTHON}{small}"));
                    fs::copy(dir.join("python.lock"), dir.join("pip.lock")).unwrap();
                    Ran::of(command_in(dir, imgbuild()).args(["lock", "pip.toml"])).expect(0);
                })
            }
        }
    }

    /// Makes a directory ready from its fixture.
    fn copy_from(self, fixture: &Path, dir: &Path) {
        for file in self.files() {
            fs::copy(fixture.join(&file), dir.join(file)).expect("it was built");
        }
        for places in ["store", "work"] {
            copy_places(&fixture.join(places), &dir.join(places));
        }
        copy(&fixture.join("keys"), &dir.join("keys"));
    }
}

/// What recipes with a virtualenv say first.
const PYTHON: &str = "[[packages]]\ninstall = [\"python3-venv\"]\n";

/// A bench on which the base image is built: a copy of the one that all tests share.
pub fn bench() -> Bench {
    Bench::start_from(Start::Base)
}

/// A work directory in which the smallest Debian is built, for [copies](copy_places).
pub fn base_work() -> PathBuf {
    Start::Base.fixture().join("work")
}

/// A bench whose recipes have Debian's Python, which is locked and installed already.
pub fn python_bench() -> Bench {
    Bench::start_from(Start::Python)
}

fn write_recipe(dir: &Path, name: &str, rest: &str) {
    let text = format!("name = \"{name}\"\n[bootstrap]\nsuite = \"bookworm\"\n{rest}");
    fs::write(dir.join(format!("{name}.toml")), text).expect("the directory is ours");
}

/// A program with a directory's places in its environment.
fn command_in(dir: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(dir)
        .env("IMGBUILD_STORE", dir.join("store"))
        .env("IMGBUILD_WORK", dir.join("work"))
        .env("IMGBUILD_KEYS", dir.join("keys"));
    command
}

impl Bench {
    fn start_from(start: Start) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        // A failed test must not fail the others.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let fixture = start.fixture();
        let dir = scratch();
        start.copy_from(&fixture, dir.path());
        Self {
            dir,
            start,
            _turn: turn,
        }
    }

    /// The directory itself, where programs run.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Writes a recipe on what the bench starts from, and the lock of that.
    pub fn write(&self, name: &str, rest: &str) {
        let first = match self.start {
            Start::Base => "",
            Start::Python => PYTHON,
        };
        write_recipe(self.dir(), name, &format!("{first}{rest}"));
        if name != self.start.name() {
            let [_, lock] = self.start.files();
            fs::copy(self.path(&lock), self.path(&format!("{name}.lock"))).unwrap();
        }
    }

    /// A program with the bench's places in its environment.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = command_in(self.dir(), program);
        command.args(arguments);
        command
    }

    /// Runs `imgbuild` to its end.
    pub fn imgbuild(&self, arguments: &[&str]) -> Ran {
        let program = imgbuild().to_str().unwrap();
        Ran::of(&mut self.command(program, arguments))
    }

    /// Builds a recipe of one step without the network.
    pub fn build_step(&self, name: &str, script: &str, more: &str) -> Ran {
        self.write(
            name,
            &format!("[[run]]\nname = \"it\"\nscript = '''{script}'''\n{more}"),
        );
        self.imgbuild(&["--frozen", &format!("{name}.toml")])
    }

    /// A second work directory, in which what the bench starts from is built.
    pub fn copy_of_work(&self, name: &str) -> PathBuf {
        let work = self.path(name);
        copy_places(&self.start.fixture().join("work"), &work);
        work
    }

    /// A second store, which has only the inputs of this one.
    pub fn copy_of_inputs(&self, name: &str) -> PathBuf {
        let store = self.path(name);
        fs::create_dir(&store).unwrap();
        for item in ["imgbuild-store", "inputs"] {
            let mut copy = self.command("cp", &["-al", "--"]);
            copy.arg(self.path("store").join(item)).arg(&store);
            Ran::of(&mut copy).expect(0);
        }
        store
    }

    /// Fails the test when an object of the store is not what its name says.
    pub fn assert_store_is_whole(&self) {
        assert_whole(&self.path("store"));
    }

    /// Starts a build and waits until one of its steps has the process with these words.
    pub fn start(&self, recipe: &str, process: &str) -> Running {
        let running = self.start_until(&["--frozen", recipe], "run ...\n");
        wait_for(process, || runs(process));
        running
    }

    /// Starts a build and waits until it says this.
    pub fn start_until(&self, arguments: &[&str], phrase: &str) -> Running {
        // Tests in the background of a script inherit an ignored Ctrl-C.
        let mut words = vec![
            "--default-signal=INT,HUP,TERM",
            imgbuild().to_str().unwrap(),
        ];
        words.extend(arguments);
        let mut command = self.command("env", &words);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(phrase) {
            let read = stderr.read_line(&mut said).unwrap();
            assert!(read > 0, "the build ended early: {said}");
        }
        Running { child, stderr }
    }
}

/// Reads every object of every image of a store, and fails the test when one
/// is not what its name says.
pub fn assert_whole(store: &Path) {
    let store = store::Store::open(Box::new(
        store::LocalReader::open(store).expect("the store is there"),
    ))
    .expect("the store opens");
    let images = store.images().expect("the store can be listed");
    assert!(!images.is_empty());
    for listed in images {
        let manifest = store.manifest(&listed.image).expect("its manifest reads");
        store
            .verify_objects(&manifest)
            .expect("its objects are whole");
        store.verify_image(&manifest).expect("the image is whole");
    }
}

/// A build that was started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    /// Waits until something is so while it runs.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut so: impl FnMut() -> bool) {
        wait_for(what, || {
            let ended = self.child.try_wait().expect("it is our child");
            so() || {
                assert!(ended.is_none(), "it ended too early: {what}");
                false
            }
        });
    }

    /// Sends it a signal, as kill(1) names it.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// The most memory it has had so far, in bytes (proc(5), `VmHWM`); none once
    /// it has ended.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(status).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes << 10)
    }

    /// The exit code (-1 after a signal) and the rest of stderr.
    pub fn end(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), rest)
    }
}

/// Waits until something is so. The bound is against hanging: no machine is so busy.
#[track_caller]
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process has these words in its arguments.
pub fn runs(words: &str) -> bool {
    processes().any(|(_, arguments)| arguments.join(" ").contains(words))
}

/// Ends the one process with exactly these arguments.
#[track_caller]
pub fn end_process(words: &[&str]) {
    let found: Vec<String> = processes()
        .filter_map(|(pid, arguments)| (arguments == words).then_some(pid))
        .collect();
    assert_eq!(found.len(), 1, "{words:?}: {found:?}");
    let sent = Command::new("kill").args(found).status();
    assert!(sent.expect("kill(1) is there").success());
}

/// PID and arguments of every process.
fn processes() -> impl Iterator<Item = (String, Vec<String>)> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    entries.filter_map(|process| {
        let pid = process.file_name().into_string().ok()?;
        let bytes = fs::read(process.path().join("cmdline")).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let words = text.trim_end_matches('\0').split('\0').map(str::to_owned);
        Some((pid, words.collect()))
    })
}
