//! The main job, end to end: `recipes/fanery.toml` becomes an image, the image
//! a running application, and the machine is afterwards as it was before.

mod volumes;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tests::binaries::{Ran, imgbuild, imgnode, repository};
use tests::fixtures::process_scratch;
use tests::host::Host;
use tests::http;

const HEADER: &str = "X-Fanery-Call: true";
const SYSTEM: &str = "FaneryTest";

/// A directory with recipes, keys, and two stores: the first release, and both.
struct Bench {
    dir: PathBuf,
}

/// The one bench of this program; its tests take turns.
fn bench() -> MutexGuard<'static, Bench> {
    static BENCH: OnceLock<Mutex<Bench>> = OnceLock::new();
    let bench = BENCH.get_or_init(|| Mutex::new(Bench::new()));
    // A failed test must not fail the others.
    bench.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bench {
    /// Builds the recipe, then with one more file.
    fn new() -> Self {
        let bench = Self {
            dir: process_scratch().join("fanery"),
        };
        fs::create_dir(&bench.dir).expect("it is new");
        // Who serves it is nobody.
        bench.shell("chmod 755 .");
        bench.shell(&format!(
            "cp -R '{}' .",
            repository().join("recipes").display()
        ));
        // The test locks for itself.
        bench.shell("rm -f recipes/fanery.lock");
        let recipe = bench.path("recipes/fanery.toml");
        let text = fs::read_to_string(&recipe).expect("it was copied");
        // An emulated machine needs longer than the recipe gives.
        let health = "[service.health]\n";
        assert!(text.contains(health), "{text}");
        let text = text.replace(health, &format!("{health}within = \"10m\"\n"));
        fs::write(&recipe, &text).expect("it is ours");

        let before = Host::look();
        let built = bench.build(&["recipes/fanery.toml"]).expect(0);
        let image = built.stdout.trim().to_owned();
        assert!(image.starts_with("blake3:") && image.len() == 71, "{image}");
        assert!(
            built.stderr.contains("made the environment `dev`"),
            "{}",
            built.stderr
        );
        Host::look().assert_clean_since(&before);
        let again = bench.build(&["recipes/fanery.toml"]).expect(0);
        assert_eq!(again.stdout.trim(), image);
        assert!(again.stderr.contains("up to date"), "{}", again.stderr);

        bench.shell("cp -al store first");
        let second = "\n[[file]]\npath = \"/etc/second\"\ncontent = \"2\"\n";
        fs::write(&recipe, text + second).expect("it is ours");
        bench.build(&["recipes/fanery.toml"]).expect(0);
        bench.shell("touch store/second");
        bench
    }

    /// Lets `served` be the store with the first release, or the one with both.
    fn serve(&self, store: &str) {
        let new = self.path("new");
        symlink(store, &new).expect("it is not there");
        fs::rename(new, self.path("served")).expect("it is ours");
    }

    /// Runs lines of shell in the directory.
    fn shell(&self, script: &str) {
        let mut command = Command::new("sh");
        command.current_dir(&self.dir).args(["-euc", script]);
        Ran::of(&mut command).expect(0);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn build(&self, arguments: &[&str]) -> Ran {
        self.build_from("store", arguments)
    }

    fn build_from(&self, store: &str, arguments: &[&str]) -> Ran {
        Ran::of(
            Command::new(imgbuild())
                .current_dir(&self.dir)
                .args(arguments)
                .arg("--store")
                .arg(self.path(store))
                .arg("--work")
                .arg(self.path("work"))
                .arg("--keys")
                .arg(self.path("keys")),
        )
    }

    fn node(&self, arguments: &[&str]) -> Ran {
        self.node_in("node", arguments)
    }

    fn node_in(&self, state: &str, arguments: &[&str]) -> Ran {
        Ran::of(
            Command::new(imgnode())
                .arg("--state")
                .arg(self.path(state))
                .args(arguments),
        )
    }

    fn init(&self, state: &str, store: &Path) -> Ran {
        let root = store.join("env/dev/metadata/1.root.json");
        self.node_in(
            state,
            &[
                "init",
                "--env",
                "dev",
                "--repo",
                &store.display().to_string(),
                "--root",
                &root.display().to_string(),
            ],
        )
    }

    fn install(&self, state: &str, system: &str) -> Ran {
        let target = format!("dir:{}", self.path("images").display());
        self.node_in(
            state,
            &[
                "install",
                "fanery-node",
                "--as",
                system,
                "--target",
                &target,
            ],
        )
    }
}

#[test]
fn fanery_from_recipe_to_answer() {
    let bench = bench();
    let before = Host::look();
    bench.serve("first");
    refused_when_altered(&bench);

    bench.init("node", &bench.path("served")).expect(0);
    bench.install("node", SYSTEM).expect(0);
    serve_and_switch(&bench);
    bench.node(&["verify", SYSTEM]).expect(0);
    bench.node(&["uninstall", SYSTEM]).expect(0);
    Host::look().assert_clean_since(&before);
}

/// Start, ask; reload, upgrade and roll back under requests; stop.
fn serve_and_switch(bench: &Bench) {
    let port = http::free_port();
    let listen = format!("127.0.0.1:{port}");
    bench
        .node(&["start", SYSTEM, "--listen", &listen])
        .expect(0);
    let (status, body) =
        http::get(port, "/hello/x.json", HEADER).expect("it works, or start fails");
    assert_eq!((status, body.as_str()), (200, "\"hello x\""));
    let generation = || {
        let status = bench.node(&["status", "--json"]).expect(0).stdout;
        let status: serde_json::Value = serde_json::from_str(&status).expect("status is JSON");
        status["systems"][0]["session"]["generation"].as_u64()
    };
    assert_eq!(generation(), Some(1));

    bench.serve("store");
    let acts: [(&[&str], u64); 5] = [
        (&["reload", SYSTEM], 1),
        (&["upgrade", SYSTEM], 2),
        (&["rollback", SYSTEM], 1),
        (&["switch", SYSTEM, "2"], 2),
        // In a session that was switched to as well.
        (&["reload", SYSTEM], 2),
    ];
    for (words, after) in acts {
        let load = Load::start(port, "/hello/y.json");
        bench.node(words).expect(0);
        assert_eq!(generation(), Some(after));
        load.end(words[0]);
    }

    bench.node(&["stop", SYSTEM]).expect(0);
    assert!(
        http::get(port, "/hello/x.json", HEADER).is_err(),
        "somebody still answers"
    );
}

/// Four connections of wrk that ask all the time, for 30 seconds at least.
struct Load {
    wrk: Child,
    until: Instant,
}

impl Load {
    fn start(port: u16, path: &str) -> Self {
        // Until it is interrupted; then it says what it saw.
        let mut command = Command::new("wrk");
        command
            .args(["-t2", "-c4", "-d600s", "-H", HEADER])
            .arg(format!("http://127.0.0.1:{port}{path}"))
            .stdout(Stdio::piped());
        let child = command
            .spawn()
            .expect("wrk: run tests/run, which installs what it needs");
        std::thread::sleep(Duration::from_secs(1));
        Self {
            wrk: child,
            until: Instant::now() + Duration::from_secs(30),
        }
    }

    /// No request may have failed.
    #[track_caller]
    fn end(mut self, during: &str) {
        std::thread::sleep(Duration::from_secs(1));
        std::thread::sleep(self.until.saturating_duration_since(Instant::now()));
        let pid = rustix::process::Pid::from_child(&self.wrk);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        let mut said = String::new();
        let mut stdout = self.wrk.stdout.take().expect("it is piped");
        stdout.read_to_string(&mut said).expect("it prints text");
        self.wrk.wait().expect("it ends");
        let requests = said.lines().find(|line| line.contains(" requests in "));
        let requests = requests.unwrap_or_else(|| panic!("{during}: {said}"));
        println!("{during}: {}", requests.trim());
        assert!(
            !said.contains("Socket errors") && !said.contains("Non-2xx"),
            "{during}: {said}"
        );
        let count = requests
            .trim()
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok());
        assert!(
            count.is_some_and(|count: u64| count > 20),
            "{during}: {said}"
        );
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.wrk.kill();
        let _ = self.wrk.wait();
    }
}

/// One changed byte anywhere: exit code 3, one line, nothing installed.
fn refused_when_altered(bench: &Bench) {
    let whole = bench.path("first");
    let altered = bench.path("altered");
    // Part of the path of a file; of several, the largest is altered.
    let cases = [
        ("the manifest", "env/dev/targets/"),
        ("the metadata", ".targets.json"),
        ("the content", "packs/"),
    ];
    for (what, wanted) in cases {
        let status = Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .args([&whole, &altered])
            .status()
            .expect("cp runs");
        assert!(status.success());
        let file = find(&altered, &|path| {
            path.display().to_string().contains(wanted)
        })
        .unwrap_or_else(|| panic!("the store has a file for {what}"));
        flip_a_byte(&file);
        // Metadata is read by both, the rest only when it is needed.
        let refused = match bench.init("altered-node", &altered) {
            init if init.code == 0 => bench.install("altered-node", "FaneryAltered"),
            init => init,
        }
        .expect(3);
        let errors = refused
            .stderr
            .lines()
            .filter(|l| l.starts_with("error:"))
            .count();
        assert_eq!(errors, 1, "{what}: {}", refused.stderr);
        assert!(!Path::new("/etc/schroot/chroot.d/imgnode-FaneryAltered.conf").exists());
        assert!(
            !bench.path("images/FaneryAltered/1").exists(),
            "{what} was altered and a tree was installed"
        );
        fs::remove_dir_all(&altered).expect("the copy can be removed");
        // A refused init need not leave a state at all.
        let _ = fs::remove_dir_all(bench.path("altered-node"));
    }
}

/// The largest file below a directory that is wanted.
fn find(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut best: Option<(u64, PathBuf)> = None;
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).ok()?.flatten() {
            let path = entry.path();
            let meta = entry.metadata().ok()?;
            if meta.is_dir() {
                pending.push(path);
            } else if wanted(&path) && best.as_ref().is_none_or(|(size, _)| meta.len() > *size) {
                best = Some((meta.len(), path));
            }
        }
    }
    best.map(|(_, path)| path)
}

fn flip_a_byte(path: &Path) {
    use std::os::unix::fs::FileExt;
    use std::os::unix::fs::PermissionsExt;
    let meta = fs::metadata(path).expect("the file is there");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("it can be opened");
    let mut byte = [0];
    let at = meta.len() / 2;
    file.read_exact_at(&mut byte, at).expect("it can be read");
    file.write_all_at(&[byte[0] ^ 0x20], at)
        .expect("it can be written");
}
