//! What an image needs from its node: directories of data, secrets, settings, names of hosts, and what
//! runs before a new generation starts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use store::manifest::{Fences, Needs};

use crate::support::Farm;

const SECRET: &str = "correct horse\nbattery\n";

/// The files of a system in /etc/imgnode, removed when dropped.
struct Given {
    file: PathBuf,
    secrets: PathBuf,
}

impl Given {
    fn of(farm: &Farm) -> Self {
        let directory = Path::new("/etc/imgnode");
        fs::create_dir_all(directory.join("secrets")).unwrap();
        let given = Self {
            file: directory.join(format!("{}.toml", farm.system)),
            secrets: directory.join("secrets").join(&farm.system),
        };
        given.clean();
        given
    }

    fn write(&self, text: &str) {
        fs::write(&self.file, text).unwrap();
    }

    fn secret(&self, name: &str, text: &str) {
        let mut private = fs::DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(&self.secrets).unwrap();
        let path = self.secrets.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn clean(&self) {
        let _ = fs::remove_file(&self.file);
        let _ = fs::remove_dir_all(&self.secrets);
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.clean();
    }
}

fn assert_no_sessions(farm: &Farm) {
    let list = ["--list", "--all-sessions"];
    let listed = Command::new("schroot").args(list).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(!listed.contains(&farm.system), "{listed}");
}

fn needing(name: &str) -> Farm {
    let mut farm = Farm::new(name);
    farm.needs = Needs {
        state: vec!["/var/lib/app".into(), "/srv/uploads".into()],
        logs: vec!["/var/log/app".into()],
        secrets: vec!["key".into()],
        secret_environment: [("KEY".to_owned(), "key".to_owned())].into(),
        settings: vec!["SITE".into()],
        ..Needs::default()
    };
    let script = "echo prepared by $(id -u) for $SITE >> /var/lib/app/prepared; \
                  ! grep -q broken /etc/mode 2>/dev/null";
    farm.before_switch = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let tree = farm.path("tree");
    crate::support::install_program(&tree, Path::new("/usr/bin/grep"));
    farm.release(2);
    farm
}

#[test]
fn data_secrets_and_settings_are_the_nodes() {
    let farm = needing("given");
    let given = Given::of(&farm);
    let system = farm.system.clone();
    let target = farm.target();
    let install = ["install", "web", "--as", &system, "--target", &target];
    let output = farm.run(&install);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("needs what this node does not give"),
        "{said}"
    );
    // All that is missing at once, and nothing has begun.
    let said = farm.fails(&["start", &system], 2);
    for missing in [
        "SITE has no value",
        "the secret key: there is no /etc/imgnode",
    ] {
        assert!(said.contains(missing), "{said}");
    }
    assert!(!said.contains("/var/lib/app"), "{said}");
    assert_no_sessions(&farm);
    given.write("[environment]\nSITE = \"one two\"\n[bind]\n\"/srv/uploads\" = \"/nowhere\"\n");
    given.secret("key", SECRET);
    let said = farm.fails(&["start", &system], 2);
    assert!(said.contains("/nowhere"), "{said}");
    let uploads = farm.path("uploads");
    fs::create_dir(&uploads).unwrap();
    let bind = |site: &str| {
        let path = uploads.display();
        given.write(&format!(
            "[environment]\nSITE = \"{site}\"\n[bind]\n\"/srv/uploads\" = {{ path = \"{path}\", read-only = true }}\n"
        ));
    };
    bind("one two");
    farm.ok(&["start", &system]);
    let exec = |words: &[&str]| farm.ok(&[&["exec", &system, "--"], words].concat());
    let said = exec(&["sh", "-c", "echo \"$SITE/$KEY/$CREDENTIALS_DIRECTORY\""]);
    assert_eq!(said, "one two/correct horse\nbattery//run/credentials\n");
    assert_eq!(exec(&["cat", "/run/credentials/key"]), SECRET);
    // Only the service's user reads it, nobody changes it, and no command line has it.
    let status = farm.status();
    let session = &status["systems"][0]["session"];
    let root = Path::new("/run/schroot/mount").join(session["id"].as_str().unwrap());
    let place = fs::metadata(root.join("run/credentials")).unwrap();
    assert_eq!((place.uid(), place.mode() & 0o777), (4242, 0o500));
    assert!(fs::write(root.join("run/credentials/key"), "other").is_err());
    for process in session["processes"].as_array().unwrap() {
        let line = fs::read(format!("/proc/{}/cmdline", process["pid"])).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&line).contains("horse"),
            "{process}"
        );
    }
    // What is bound read-only is; data is the service's.
    let write = |path: &str| {
        [
            "exec",
            &system,
            "--",
            "sh",
            "-c",
            &format!("echo 1 > {path}"),
        ]
        .map(str::to_owned)
    };
    let refused = write("/srv/uploads/x");
    farm.fails(&refused.each_ref().map(String::as_str), 2);
    let allowed = write("/var/lib/app/kept");
    farm.ok(&allowed.each_ref().map(String::as_str));
    let data = farm.path(&format!("state/data/{system}/state/var-lib-app"));
    let found = fs::metadata(&data).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o777), (4242, 0o750));
    assert!(data.join("kept").exists());
    let listed = &status["systems"][0]["data"];
    assert_eq!(listed[0]["path"], "/var/lib/app", "{listed}");
    assert_eq!(listed[0]["directory"], data.display().to_string());
    assert_eq!(listed[1]["directory"], uploads.display().to_string());
    // The node's resolver, and its hosts as the image has none.
    let node = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(
        fs::read_to_string(root.join("etc/resolv.conf")).unwrap_or_default(),
        node
    );
    // Whoever enters, the data is the service's.
    farm.ok(&["exec", &system, "--fresh", "--user", "root", "--", "id"]);
    // What is not given any more hinders nobody in a session that runs.
    fs::rename(given.secrets.join("key"), given.secrets.join("away")).unwrap();
    assert_eq!(exec(&["id", "-u"]), "4242\n");
    farm.ok(&["reload", &system]);
    fs::rename(given.secrets.join("away"), given.secrets.join("key")).unwrap();
    // A command that comes with a session of its own has it all too, and leaves nothing.
    let said = farm.ok(&["exec", &system, "--fresh", "--", "cat", "/var/lib/app/kept"]);
    assert_eq!(said, "1\n");
    farm.fails(&["exec", &system, "--fresh", "--", "sh", "-c", "exit 9"], 9);
    // Metrics and the exit code say that it works.
    farm.ok(&["status", "--check"]);
    let metrics = farm.path("imgnode.prom");
    farm.ok(&["status", "--prometheus", metrics.to_str().unwrap()]);
    let text = fs::read_to_string(&metrics).unwrap();
    let line = format!(
        "imgnode_system_running{{system=\"{system}\",image=\"web\",environment=\"dev\"}} 1\n"
    );
    assert!(text.contains(&line), "{text}");
    farm.fails(&["status", "--prometheus", "/dev/null"], 2);
    // Its log can be followed.
    let mut follow = farm.command(&["logs", &system, "-f"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let script = "echo followed > /proc/$(cat /home/op/app.pid)/fd/1";
    farm.ok(&["exec", &system, "--user", "root", "--", "sh", "-c", script]);
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "followed"));
    follow.kill().unwrap();
    follow.wait().unwrap();
    // The next generation: the same data, prepared once in each.
    farm.ok(&["stop", &system]);
    farm.release(3);
    bind("three");
    farm.ok(&["upgrade", &system]);
    for _ in 0..2 {
        farm.ok(&["start", &system]);
        assert_eq!(exec(&["cat", "/var/lib/app/kept"]), "1\n");
        farm.ok(&["stop", &system]);
    }
    let prepared = fs::read_to_string(data.join("prepared")).unwrap();
    assert_eq!(
        prepared,
        "prepared by 4242 for one two\nprepared by 4242 for three\n"
    );
    // Users of another image may have other numbers.
    std::os::unix::fs::chown(&data, Some(7), Some(7)).unwrap();
    let said = farm.fails(&["start", &system], 1);
    assert!(said.contains("chown -R --from=7:7 4242:4242"), "{said}");
    assert_no_sessions(&farm);
    farm.ok(&["uninstall", &system]);
    assert!(data.join("kept").exists());
    // Nothing of the secret is left anywhere.
    let found = Command::new("grep")
        .args(["-rl", "correct horse"])
        .args([farm.path("state"), farm.path("images")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn what_fails_before_the_switch_switches_nothing() {
    let farm = needing("prepared");
    let given = Given::of(&farm);
    given.write("[environment]\nSITE = \"one\"\n");
    given.secret("key", SECRET);
    let system = farm.system.clone();
    farm.install();
    farm.ok(&["start", &system]);
    farm.ok(&["stop", &system]);
    fs::write(farm.path("tree/etc/mode"), "broken").unwrap();
    farm.release(3);
    farm.ok(&["upgrade", &system]);
    let said = farm.fails(&["start", &system], 1);
    assert!(said.contains("the before-switch command of"), "{said}");
    assert_no_sessions(&farm);
    farm.ok(&["rollback", &system]);
    farm.ok(&["start", &system]);
    farm.ok(&["stop", &system]);
    farm.close();
}

#[test]
fn a_service_stays_within_its_fences() {
    let mut farm = Farm::new("fenced");
    farm.needs.state = vec!["/home/op".into()];
    farm.fences = Fences {
        tasks: Some(100),
        open_files: Some(123),
        no_new_privileges: true,
        private_network: true,
        read_only: true,
        ..Fences::default()
    };
    crate::support::install_program(&farm.path("tree"), Path::new("/usr/bin/grep"));
    farm.release(2);
    let given = Given::of(&farm);
    let system = farm.system.clone();
    farm.install();
    let started = farm.run(&["start", &system]);
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(started.status.success(), "{said}");
    // Where systemd runs, it counts; the virtual machine of the tests has one. Else the kernel may.
    let status = farm.status();
    let pid = &status["systems"][0]["session"]["processes"][0]["pid"];
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let counted = Path::new("/run/systemd/system").exists() || groups.contains("/imgnode/");
    assert_eq!(
        said.contains("is not bounded by tasks 100: systemd does not run this machine, and "),
        !counted,
        "{said}"
    );
    let exec = |script: &str| farm.ok(&["exec", &system, "--", "sh", "-c", script]);
    let fence = "grep NoNewPrivs /proc/self/status; ulimit -n; grep -c : /proc/net/dev";
    assert_eq!(exec(fence), "NoNewPrivs:\t1\n123\n1\n");
    // Who comes as root is not the service.
    let script = "grep NoNewPrivs /proc/self/status";
    let root = ["exec", &system, "--user", "root", "--", "sh", "-c", script];
    assert_eq!(farm.ok(&root), "NoNewPrivs:\t0\n");
    // The tree cannot be written, not even by root; what the node gives, and /tmp, can.
    let written = "for place in /etc /srv /home/op /tmp /var/tmp; do\n\
                   [ -d $place ] && echo 1 2>/dev/null > $place/x && echo $place; done; :";
    let writes = ["exec", &system, "--user", "root", "--", "sh", "-c", written];
    assert_eq!(farm.ok(&writes), "/home/op\n/tmp\n/var/tmp\n");
    // Names of hosts still follow the node's.
    let status = farm.status();
    let id = status["systems"][0]["session"]["id"].as_str().unwrap();
    let root = Path::new("/run/schroot/mount").join(id);
    let inside = root.join("run/imgnode/resolv.conf");
    assert_eq!(
        fs::read_link(root.join("etc/resolv.conf")).unwrap(),
        Path::new("../run/imgnode/resolv.conf")
    );
    fs::write(&inside, "stale\n").unwrap();
    farm.ok(&["reload", &system]);
    assert_eq!(
        fs::read_to_string(&inside).unwrap(),
        fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
    );
    // The node's file says otherwise.
    farm.ok(&["stop", &system]);
    given.write("[fences]\nread-only = false\nprivate-network = false\nopen-files = 99\n");
    farm.ok(&["start", &system]);
    assert_eq!(
        exec("ulimit -n; echo 1 > /tmp/../tmp/y && echo y"),
        "99\ny\n"
    );
    farm.ok(&[
        "exec",
        &system,
        "--user",
        "root",
        "--",
        "sh",
        "-c",
        "echo 1 > /etc/x",
    ]);
    farm.ok(&["stop", &system]);
    assert_no_sessions(&farm);
    farm.ok(&["uninstall", &system]);
}

#[test]
fn without_systemd_the_kernel_counts_or_it_is_said() {
    let mut farm = Farm::new("counted");
    farm.fences = Fences {
        memory: Some(64 << 20),
        cpu: Some(50),
        tasks: Some(100),
        ..Fences::default()
    };
    farm.workers(1, "well");
    farm.release(2);
    let system = farm.system.clone();
    farm.install();
    let started = farm.run(&["start", &system]);
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(started.status.success(), "{said}");
    let group_of = |pid: &serde_json::Value| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let mut lines = groups.lines();
        let group = lines.find_map(|line| line.strip_prefix("0::/imgnode/"));
        group.map(|group| Path::new("/sys/fs/cgroup/imgnode").join(group))
    };
    let status = farm.status();
    let session = &status["systems"][0]["session"];
    let id = session["id"].as_str().unwrap();
    let main = group_of(&session["processes"][0]["pid"]);
    let worker = group_of(&session["further"][0]["pid"]);
    if Path::new("/run/systemd/system").exists() {
        assert!(!said.contains("is not bounded"), "{said}");
    } else if let Some(main) = main {
        assert!(!said.contains("is not bounded"), "{said}");
        assert!(main.ends_with(id), "{main:?}");
        let worker = worker.unwrap();
        assert!(worker.ends_with(format!("{id}.worker.1")), "{worker:?}");
        for group in [&main, &worker] {
            let told = |name: &str| fs::read_to_string(group.join(name)).unwrap();
            assert_eq!(told("memory.max"), "67108864\n");
            assert_eq!(told("cpu.max"), "50000 100000\n");
            assert_eq!(told("pids.max"), "100\n");
        }
        farm.ok(&["reload", &system]);
        farm.ok(&["stop", &system]);
        assert!(!main.exists() && !worker.exists());
        farm.ok(&["start", &system]);
    } else {
        let fault = format!(
            "{system} is not bounded by memory 64M, cpu 50%, tasks 100: systemd does not run this machine, and "
        );
        assert!(said.contains(&fault), "{said}");
    }
    farm.ok(&["stop", &system]);
    farm.close();
}
