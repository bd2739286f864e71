//! A store with an environment, a small image that can run, and a node that must be left clean.
//!
//! The image holds real programs of this machine (dash, setpriv, env, sleep) with their libraries,
//! and an app that says hello, says when it is told to reload, and ends when it is told to stop. The
//! node is this machine: real schroot, real mounts. Every system has a name of its own, and whatever
//! a test leaves behind is an error of the test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use store::keys::Signer;
use store::manifest::{Fences, Health, Manifest, Needs, Process, Run, SCHEMA, Timer, User};
use store::tuf::waves::Step;
use store::tuf::{Environment, Proposal, ReleaseOrigin, RoleKeys, WavePlan};
use store::{EnvName, Sha256, WritableStore};

pub(crate) const EPOCH: u64 = 1_600_000_000;

/// A process beside the app, which does what /etc/worker says.
const WORKER: &str = r#"#!/bin/sh
read mode < /etc/worker
read version < /etc/version
trap 'echo reloads' USR1
trap "echo ends in $version; exit 0" INT
[ "$mode" != stubborn ] || trap 'echo does not end' INT
[ "$mode" != crash ] || { echo "no queue"; exit 5; }
echo "works in $version: $IMGNODE_PROCESS $(id -u) $PWD $GREETING $QUEUE"
[ "$mode" != tires ] || { sleep 4; exit 6; }
while :; do sleep 1 & wait $!; done
"#;

const APP: &str = r#"#!/bin/sh
# A server without a port: it lives, reloads and ends.
pidfile=/home/op/app.pid
case "$1" in
    start)
        shift
        [ "$1" != crash ] || { echo "cannot bind: address in use" >&2; exit 7; }
        [ "$1" != quit ] || exit 0
        trap 'echo reloaded' HUP
        trap 'echo stopping; exit 0' TERM
        [ "$1" != family ] || { sleep 100000 & }
        [ "$1" != stubborn ] || trap '' TERM
        echo $$ > $pidfile
        echo "hello from $USER ($(id -u):$(id -g)) in $PWD, GREETING=$GREETING, words=$*"
        while :; do sleep 1 & wait $!; done
        ;;
    stop) kill -TERM $(cat $pidfile) ;;
    reload) kill -HUP $(cat $pidfile) ;;
    hang) while :; do sleep 1; done ;;
esac
"#;

/// Files of 96,000 bytes in the image; a virtual machine takes fewer.
pub(crate) fn files() -> u64 {
    std::env::var("IMGNODE_TEST_FILES").map_or(400, |text| text.parse().unwrap())
}

/// Everything a test needs, and the duty to leave nothing.
pub(crate) struct Farm {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) system: String,
    /// Where generations go; below `images` unless a test says otherwise.
    pub(crate) target: String,
    /// Whether the next release leaves stopping and reloading to signals.
    pub(crate) signals: bool,
    /// How the next release says that it works.
    pub(crate) health: Option<Health>,
    /// What the next release runs once before it starts.
    pub(crate) before_switch: Vec<String>,
    /// What the next release runs beside its app.
    pub(crate) processes: Vec<Process>,
    /// What the next release runs from time to time.
    pub(crate) timers: Vec<Timer>,
    /// What the next release needs from its node.
    pub(crate) needs: Needs,
    /// What bounds it.
    pub(crate) fences: Fences,
    /// The stages in which the next release reaches nodes.
    pub(crate) waves: Option<WavePlan>,
}

impl Farm {
    /// A store with one release of `web`, and a node that follows it.
    pub(crate) fn new(system: &str) -> Self {
        let farm = Self::without_init(system);
        farm.ok(&[
            "init",
            "--env",
            "dev",
            "--repo",
            farm.str("store"),
            "--root",
            farm.str("root.json"),
        ]);
        farm
    }

    pub(crate) fn without_init(system: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root() && Path::new("/usr/bin/schroot").exists(),
            "these tests register chroots: run them as root, with schroot installed (apt-get install schroot)"
        );
        let directory = tempfile::Builder::new()
            .prefix("imgnode-test-")
            .tempdir()
            .unwrap();
        let farm = Self {
            target: format!("dir:{}", directory.path().join("images").display()),
            directory,
            system: format!("{system}-{}", std::process::id()),
            signals: false,
            health: None,
            before_switch: Vec::new(),
            processes: Vec::new(),
            timers: Vec::new(),
            needs: Needs::default(),
            fences: Fences::default(),
            waves: None,
        };
        farm.clean_host();
        farm.plant();
        farm.release(1);
        farm
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    pub(crate) fn str(&self, part: &str) -> &'static str {
        // Tests are short-lived; a leaked path is simpler than lifetimes in every call.
        Box::leak(
            self.path(part)
                .into_os_string()
                .into_string()
                .unwrap()
                .into_boxed_str(),
        )
    }

    /// The tree of the image.
    fn plant(&self) {
        let tree = self.path("tree");
        for part in [
            "bin",
            "usr/bin",
            "etc",
            "proc",
            "sys",
            "dev",
            "tmp",
            "home/op",
            "srv",
            "var/lib/dpkg/info",
            "data",
        ] {
            fs::create_dir_all(tree.join(part)).unwrap();
        }
        for program in [
            "/usr/bin/dash",
            "/usr/bin/setpriv",
            "/usr/bin/env",
            "/usr/bin/sleep",
            "/usr/bin/cat",
            "/usr/bin/id",
        ] {
            install_program(&tree, Path::new(program));
        }
        symlink("../usr/bin/dash", tree.join("bin/sh")).unwrap();
        // A link that leads to the host when somebody follows it.
        symlink("/etc/shadow", tree.join("srv/shadow")).unwrap();
        fs::write(
            tree.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nop:x:4242:4242::/home/op:/bin/sh\n",
        )
        .unwrap();
        fs::write(tree.join("etc/group"), "root:x:0:\nop:x:4242:\n").unwrap();
        fs::write(tree.join("srv/app"), APP).unwrap();
        fs::write(tree.join("srv/worker"), WORKER).unwrap();
        fs::write(tree.join("var/lib/dpkg/info/app.list"), "/srv\n/srv/app\n").unwrap();
        fs::write(tree.join("usr/bin/suid"), "not really\n").unwrap();
        fs::hard_link(tree.join("srv/app"), tree.join("srv/app-too")).unwrap();
        // Enough content that an install can be interrupted: it does not compress.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for file in 0..files() {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .take(12_000)
            .flatten()
            .collect();
            fs::write(tree.join(format!("data/{file:03}")), bytes).unwrap();
        }
        for (path, mode) in [
            ("srv/app", 0o755),
            ("srv/worker", 0o755),
            ("usr/bin/suid", 0o4755),
            ("tmp", 0o1777),
            ("", 0o755),
        ] {
            fs::set_permissions(tree.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        chown(tree.join("home/op"), Some(4242), Some(4242)).unwrap();
    }

    /// Publishes the tree as it is now and releases it.
    pub(crate) fn release(&self, version: u32) {
        let now = Timestamp::now();
        let tree = self.path("tree");
        fs::write(tree.join("etc/version"), version.to_string()).unwrap();
        let store = WritableStore::open_or_create(self.path("store")).unwrap();
        let published = store.publish_tree(&tree, EPOCH, &|_| ()).unwrap();
        let words = |word: &str| match word {
            "stop" | "reload" if self.signals => Vec::new(),
            word => vec!["/srv/app".to_owned(), word.to_owned()],
        };
        let manifest = Manifest {
            schema: SCHEMA,
            name: "web".parse().unwrap(),
            image: published.image,
            sha256: published.sha256,
            size: published.size,
            entries: published.entries,
            layout: published.layout,
            arch: "amd64".to_owned(),
            suite: "bookworm".to_owned(),
            epoch: EPOCH,
            packages: vec![],
            wheels: vec![],
            users: vec![User {
                name: "op".to_owned(),
                uid: 4242,
                gid: 4242,
                home: "/home/op".to_owned(),
                shell: "/bin/sh".to_owned(),
            }],
            setuid: published.setuid,
            xattrs: published.xattrs,
            recipe: Sha256::of(b"recipe"),
            lock: Sha256::of(b"lock"),
            builder: "test".to_owned(),
            run: Some(Run {
                user: "op".to_owned(),
                directory: "/home/op".to_owned(),
                start: words("start"),
                stop: words("stop"),
                reload: words("reload"),
                environment: BTreeMap::from([("GREETING".to_owned(), "good day".to_owned())]),
                health: self.health.clone(),
                before_switch: self.before_switch.clone(),
                processes: self.processes.clone(),
                timers: self.timers.clone(),
                needs: self.needs.clone(),
                fences: self.fences,
            }),
        };
        store.put_manifest(&manifest).unwrap();
        let dev: EnvName = "dev".parse().unwrap();
        let keys = self.path("keys");
        if keys.exists() {
            let keys = RoleKeys::load(&keys, &dev).unwrap();
            let mut environment = Environment::open(&store, &dev).unwrap();
            let origin = ReleaseOrigin {
                waves: self.waves.clone(),
                ..ReleaseOrigin::default()
            };
            let drafted = environment.draft_release(&manifest, &origin, now).unwrap();
            if let Some((mut change, _)) = drafted {
                publish(&mut environment, &mut change, &keys);
            }
            return;
        }
        fs::create_dir(&keys).unwrap();
        let keys = RoleKeys::generate(&keys, &dev).unwrap();
        let mut environment = Environment::init(&store, &dev, &keys, now).unwrap();
        environment.release(&manifest, &keys, now).unwrap();
        fs::write(self.path("root.json"), environment.root_bytes()).unwrap();
    }

    /// Revokes the image of the release of that number.
    pub(crate) fn revoke(&self, seq: u64, reason: &str) {
        let now = Timestamp::now();
        let store = WritableStore::open_or_create(self.path("store")).unwrap();
        let dev: EnvName = "dev".parse().unwrap();
        let keys = RoleKeys::load(&self.path("keys"), &dev).unwrap();
        let mut environment = Environment::open(&store, &dev).unwrap();
        let releases = environment.releases().unwrap();
        let release = releases.iter().find(|one| one.seq == seq).unwrap();
        let mut change = environment
            .draft_revocation(&release.image, reason, None, now)
            .unwrap();
        publish(&mut environment, &mut change, &keys);
    }

    /// Takes the waves of the newest release on by a step.
    pub(crate) fn step(&self, step: &Step) {
        let store = WritableStore::open_or_create(self.path("store")).unwrap();
        let dev: EnvName = "dev".parse().unwrap();
        let keys = RoleKeys::load(&self.path("keys"), &dev).unwrap();
        let mut environment = Environment::open(&store, &dev).unwrap();
        let name = "web".parse().unwrap();
        let (mut change, _) = environment
            .draft_waves(&name, step, Timestamp::now())
            .unwrap();
        publish(&mut environment, &mut change, &keys);
    }

    /// Gives the next releases workers that behave as `mode` says.
    pub(crate) fn workers(&mut self, count: u32, mode: &str) {
        fs::write(self.path("tree/etc/worker"), format!("{mode}\n")).unwrap();
        self.processes = vec![Process {
            name: "worker".to_owned(),
            command: vec!["/srv/worker".to_owned()],
            user: "op".to_owned(),
            directory: "/srv".to_owned(),
            environment: BTreeMap::from([("QUEUE".to_owned(), "mail".to_owned())]),
            count,
            stop_signal: "INT".to_owned(),
            reload_signal: Some("USR1".to_owned()),
            overlap: false,
        }];
    }

    /// The further processes that run, as `status` has them: their numbers by name.
    pub(crate) fn further(&self) -> BTreeMap<String, Option<i64>> {
        let status = self.status();
        let further = &status["systems"][0]["session"]["further"];
        let further = further.as_array().cloned().unwrap_or_default();
        let one = |one: &serde_json::Value| {
            let name = one["name"].as_str().unwrap().to_owned();
            (name, one["pid"].as_i64())
        };
        further.iter().map(one).collect()
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        // A virtual machine has the program elsewhere than the machine that built it.
        let program = std::env::var_os("IMGNODE_TEST_PROGRAM");
        let mut command =
            Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_imgnode").into()));
        command
            .args(words)
            .env("IMGNODE_STATE", self.path("state"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs a command that must succeed; its stdout.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(
            output.status.success(),
            "imgnode {words:?}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must end with `code`; its stderr.
    pub(crate) fn fails(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "imgnode {words:?}\n{said}"
        );
        said
    }

    pub(crate) fn target(&self) -> String {
        self.target.clone()
    }

    /// The words that install the newest release.
    pub(crate) fn install_words(&self) -> [String; 6] {
        [
            "install",
            "web",
            "--as",
            &self.system,
            "--target",
            &self.target(),
        ]
        .map(str::to_owned)
    }

    pub(crate) fn install(&self) -> String {
        let words = self.install_words();
        self.ok(&words.each_ref().map(String::as_str))
    }

    pub(crate) fn install_fails(&self, code: i32) -> String {
        let words = self.install_words();
        self.fails(&words.each_ref().map(String::as_str), code)
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["status", "--json"])).unwrap()
    }

    /// Where the operation under way is noted.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path(&format!("state/journals/{}.json", self.system))
    }

    pub(crate) fn chroot_file(&self) -> PathBuf {
        PathBuf::from(format!(
            "/etc/schroot/chroot.d/imgnode-{}.conf",
            self.system
        ))
    }

    /// What of this system is on the host.
    pub(crate) fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        traces.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&self.system))
                .map(str::to_owned),
        );
        let sessions = Command::new("schroot")
            .args(["--list", "--all-sessions"])
            .output()
            .unwrap();
        let sessions = String::from_utf8(sessions.stdout).unwrap();
        traces.extend(
            sessions
                .lines()
                .filter(|line| line.contains(&self.system))
                .map(str::to_owned),
        );
        for directory in [
            "/etc/schroot/chroot.d",
            "/etc/schroot/imgnode",
            "/var/lib/schroot/session",
            "/var/lib/schroot/union/overlay",
            "/var/lib/schroot/union/underlay",
            "/run/schroot/mount",
        ] {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.path().display().to_string());
            traces.extend(names.filter(|name| name.contains(&self.system)));
        }
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            if let Ok(root) = fs::read_link(entry.path().join("root"))
                && root.to_string_lossy().contains(&self.system)
            {
                traces.push(format!(
                    "{} lives in {}",
                    entry.path().display(),
                    root.display()
                ));
            }
        }
        traces
    }

    pub(crate) fn assert_clean(&self) {
        let traces = self.traces();
        assert!(traces.is_empty(), "left behind:\n{}", traces.join("\n"));
    }

    /// Nothing of a failed or undone first install is left in the target.
    pub(crate) fn assert_nothing_installed(&self) {
        assert!(
            !self.path("images").exists(),
            "{:?}",
            fs::read_dir(self.path("images"))
                .unwrap()
                .collect::<Vec<_>>()
        );
        assert!(!self.journal().exists());
        assert_eq!(fs::read_dir(self.path("state/systems")).unwrap().count(), 0);
        assert_eq!(
            fs::read_dir(self.path("state/manifests")).unwrap().count(),
            0
        );
        self.assert_clean();
    }

    /// Ends a test in order: stop, uninstall, look.
    pub(crate) fn close(self) {
        self.ok(&["uninstall", &self.system]);
        self.assert_clean();
        assert!(!self.path("images").join(&self.system).exists());
        for part in [
            "systems", "sessions", "ending", "starts", "logs", "journals", "locks", "prepared",
            "commands", "timers", "watchers",
        ] {
            let left = fs::read_dir(self.path("state").join(part)).unwrap();
            assert_eq!(left.count(), 0, "{part}");
        }
    }

    fn clean_host(&self) {
        let sessions = Command::new("schroot")
            .args(["--list", "--all-sessions"])
            .output()
            .unwrap();
        for session in String::from_utf8_lossy(&sessions.stdout)
            .lines()
            .filter(|line| line.contains(&self.system))
        {
            let id = session.trim_start_matches("session:");
            let _ = Command::new("schroot")
                .args(["--end-session", "--force", "--chroot", id])
                .output();
        }
        let _ = fs::remove_file(self.chroot_file());
        let _ = fs::remove_dir_all(Path::new("/etc/schroot/imgnode").join(&self.system));
        let _ = fs::remove_dir("/etc/schroot/imgnode");
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.clean_host();
    }
}

/// Waits until `done` says so.
/// Signs and publishes a change.
fn publish(environment: &mut Environment<'_>, change: &mut Proposal, keys: &RoleKeys) {
    environment.sign(change, &[&*keys.targets]).unwrap();
    let online: &dyn Signer = &*keys.online;
    assert!(
        environment
            .publish(change, &[online], Timestamp::now())
            .unwrap()
    );
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    // Against hanging only: no machine is so busy.
    let until = Instant::now() + Duration::from_secs(600);
    while !done() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Copies a program and the libraries it needs.
pub(crate) fn install_program(tree: &Path, program: &Path) {
    let copy = |from: &Path| {
        let to = tree.join(from.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    copy(program);
    let listed = Command::new("ldd").arg(program).output().unwrap();
    for word in String::from_utf8_lossy(&listed.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        copy(Path::new(word));
    }
}
