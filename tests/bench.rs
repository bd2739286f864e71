//! One small Debian, bootstrapped once, as the ground of many builds.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use crate::binaries::{Ran, imgbuild};

/// A directory with recipes, a store and a work directory.
#[derive(Debug)]
pub struct Bench {
    dir: PathBuf,
    // Ours is the other end of its standard input.
    _janitor: Child,
}

/// The one bench of a test program, with the base image built. Its tests take
/// turns: they look at what the whole machine has.
pub fn bench() -> MutexGuard<'static, Bench> {
    static BENCH: OnceLock<Mutex<Bench>> = OnceLock::new();
    let bench = BENCH.get_or_init(|| {
        // Not below /tmp: it may be a tmpfs, too small for an image.
        let dir = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
        let dir = dir.keep();
        let bench = Bench {
            _janitor: janitor(&dir),
            dir,
        };
        bench.write("base", "");
        bench.imgbuild(&["base.toml"]).expect(0);
        Mutex::new(bench)
    });
    // A failed test must not fail the others.
    let guard = bench.lock();
    guard.unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Removes the directory when this process is gone, however it ends: nobody
/// drops what is in a static.
pub fn janitor(dir: &Path) -> Child {
    Command::new("setsid")
        .args(["sh", "-c", "cat; rm -rf -- \"$1\"", "sh"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("setsid is there")
}

impl Bench {
    /// The directory itself, where programs run.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a recipe on the base, and its lock where there is one to reuse.
    pub fn write(&self, name: &str, rest: &str) {
        let text = format!("name = \"{name}\"\n[bootstrap]\nsuite = \"bookworm\"\n{rest}");
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
        if name != "base" {
            let lock = self.path(&format!("{name}.lock"));
            fs::copy(self.path("base.lock"), lock).unwrap();
        }
    }

    /// A program with the bench's places in its environment.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .env("IMGBUILD_STORE", self.path("store"))
            .env("IMGBUILD_WORK", self.path("work"))
            .env("IMGBUILD_KEYS", self.path("keys"))
            .args(arguments);
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

    /// Starts a build and waits until it is in its free steps.
    pub fn start(&self, recipe: &str) -> Running {
        let running = self.start_until(&["--frozen", recipe], "run ...\n");
        std::thread::sleep(Duration::from_millis(700));
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

    /// The exit code (-1 after a signal), the rest of stderr, and how long it took.
    pub fn end(mut self) -> (i32, String, Duration) {
        let started = Instant::now();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), rest, started.elapsed())
    }
}

/// Whether a process has these words in its arguments.
pub fn runs(words: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments: Vec<u8> = arguments
            .iter()
            .map(|b| if *b == 0 { b' ' } else { *b })
            .collect();
        String::from_utf8_lossy(&arguments).contains(words)
    })
}
