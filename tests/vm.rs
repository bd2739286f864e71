//! A Debian machine of its own, as a process: with device-mapper, systemd, and a plug that can be
//! pulled.
//!
//! Its kernel is User-Mode Linux, Debian's `user-mode-linux`: it needs no virtualisation, and what
//! runs in it runs on the processor as it is. Its root is made once in a run, by mmdebstrap from the
//! machine's own archive; each [`Machine`] writes to disks of its own over it. A boot runs one job:
//! the executable `run` of a directory, which is `/job` there and stays the host's. What the job
//! prints comes out at a serial port as it is printed; the console's log is kept when a test fails.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::archive::archive_address;
use crate::binaries::repository;
use crate::fixtures::{fixture, scratch};

const PACKAGES: &[&str] = &[
    "attr",
    "curl",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "lvm2",
    "nginx",
    "procps",
    "schroot",
    "systemd-sysv",
    "thin-provisioning-tools",
    "udev",
    "util-linux",
    "wrk",
    "xfsprogs",
    "xz-utils",
];

/// Runs the job, says how it ended, and switches the machine off.
const INIT: &str = "#!/bin/sh
exec </dev/null
ip link set lo up
mount -t hostfs -o ro hostfs /job
cd /root
{
    /job/run
    printf '\\n%s %s\\n' 'the job ended with' $?
} 2>&1 | cat >/dev/ttyS1
exec systemctl --no-block poweroff
";

const UNIT: &str = "[Unit]
Description=The job of this boot
After=basic.target lvm2-monitor.service
[Service]
ExecStart=/usr/local/sbin/job
[Install]
WantedBy=multi-user.target
";

/// What all machines have in common: a file system `root`, and a library `processor.so`.
fn common() -> PathBuf {
    fixture("machine", |dir| {
        let library = dir.join("processor.so");
        let source = repository().join("tests/processor.c");
        let mut compile = Command::new("cc");
        compile.args(["-O2", "-shared", "-fPIC", "-o"]);
        run(compile.arg(library).arg(source));
        let tree = dir.join("tree");
        bootstrap(&tree);
        furnish(&tree);
        file_system(&tree, &dir.join("root"), 8 << 30);
        fs::remove_dir_all(&tree).expect("it is ours");
    })
}

fn run(command: &mut Command) {
    let out = command.stdin(Stdio::null()).output();
    let out = out.unwrap_or_else(|error| panic!("{command:?}: {error}; run tests/run"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}");
}

/// Of the suite that this machine has: programs compiled here must run there.
fn bootstrap(tree: &Path) {
    let release = fs::read_to_string("/etc/os-release").expect("os-release(5)");
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let suite = suite.expect("Debian has code names");
    run(Command::new("mmdebstrap")
        .args(["--variant=minbase", "--dpkgopt=force-unsafe-io"])
        .arg("--aptopt=APT::Install-Recommends false")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(suite)
        .arg(tree)
        .arg(format!("deb {} {suite} main", archive_address("/debian/"))));
}

fn furnish(tree: &Path) {
    let write = |name: &str, text: &str| {
        fs::write(tree.join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    };
    fs::create_dir(tree.join("job")).expect("it is new");
    let modules = tree.join("lib/modules");
    fs::create_dir_all(&modules).expect("it is ours");
    let mut copy = Command::new("cp");
    run(copy
        .args(["-a", "/usr/lib/uml/modules/.", "--"])
        .arg(&modules));
    let kernel = fs::read_dir(&modules).expect("it can be read").next();
    let kernel = kernel
        .expect("user-mode-linux has modules")
        .expect("it can be read");
    let mut index = Command::new("chroot");
    run(index.arg(tree).arg("depmod").arg(kernel.file_name()));
    write("usr/local/sbin/job", INIT);
    run(Command::new("chmod")
        .arg("755")
        .arg(tree.join("usr/local/sbin/job")));
    write("etc/systemd/system/job.service", UNIT);
    write("etc/fstab", "");
    let units = tree.join("etc/systemd/system");
    let link = |name: &str, to: &str| {
        std::os::unix::fs::symlink(to, units.join(name)).expect("it is new");
    };
    link("multi-user.target.wants/job.service", "../job.service");
    // Nobody logs in, and nginx is for those who start it.
    for nobody in ["getty@tty1", "serial-getty@ttyS0", "nginx"] {
        link(&format!("{nobody}.service"), "/dev/null");
    }
}

/// A file with an ext4 of this size that has what the directory has.
fn file_system(tree: &Path, file: &Path, size: u64) {
    let _ = fs::remove_file(file);
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-E", "lazy_itable_init=1", "-d"])
        .arg(tree)
        .arg(file)
        .arg(format!("{}k", size >> 10)));
}

/// A machine that is switched off: its disks.
#[derive(Debug)]
pub struct Machine {
    dir: tempfile::TempDir,
    name: String,
}

impl Machine {
    /// A new one with an empty disk, `/dev/ubdb`, for volumes.
    pub fn new(name: &str) -> Self {
        let dir = scratch();
        // Sparse files: what nobody wrote takes no room.
        run(Command::new("cp")
            .args(["--sparse=always", "--reflink=auto", "--"])
            .arg(common().join("root"))
            .arg(dir.path().join("root")));
        let volumes = fs::File::create(dir.path().join("volumes")).expect("the directory is ours");
        volumes.set_len(32 << 30).expect("a sparse file");
        fs::create_dir(dir.path().join("memory")).expect("the directory is ours");
        Self {
            dir,
            name: name.to_owned(),
        }
    }

    /// Switches it on, to run the job in this directory.
    ///
    /// What it wrote to its disks is in files of this machine at once, and what it has in its own
    /// memory is lost with it, as that of any machine is.
    pub fn boot(&self, job: &Path) -> Boot<'_> {
        let file = |name: &str| fs::File::create(self.path(name)).expect("the directory is ours");
        let disk = |name: &str| self.path(name).display().to_string();
        // All of it ends with the first process of a namespace, soon after that was killed: so its
        // disks have a lock. Its memory is a file, on a tmpfs that allows programs: /dev/shm may be
        // small, and /tmp a disk.
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "unchanged"])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-euc"])
            .arg(
                "# The root of a chroot is no mount.
                 mount --make-rprivate / 2>/dev/null || true
                 exec 9>\"$1\" && flock 9
                 mount -t tmpfs -o size=2g tmpfs \"$TMPDIR\"
                 export LD_PRELOAD=\"$2\" && shift 2
                 exec linux.uml \"$@\"",
            )
            .args(["sh", &disk("lock")])
            .arg(common().join("processor.so"))
            .args(["mem=1536M", "root=/dev/ubda", "rw", "quiet"])
            .arg(format!("ubda={}", disk("root")))
            .arg(format!("ubdb={}", disk("volumes")))
            .arg(format!("hostfs={}", job.display()))
            .args(["con=null", "con0=null,fd:2", "ssl=null", "ssl1=null,fd:1"])
            .env("TMPDIR", self.path("memory"))
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("console"));
        let kernel = command.spawn();
        let kernel = kernel.unwrap_or_else(|error| panic!("unshare: {error}; run tests/run"));
        Boot {
            machine: self,
            kernel,
            started: Instant::now(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }
}

/// A machine that is on.
#[derive(Debug)]
pub struct Boot<'a> {
    machine: &'a Machine,
    kernel: Child,
    started: Instant,
}

impl Boot<'_> {
    /// What the job has printed so far.
    pub fn said(&self) -> String {
        self.machine.text("out")
    }

    /// Waits until the job prints this.
    #[track_caller]
    pub fn wait_for(&mut self, phrase: &str, limit: Duration) {
        while !self.said().contains(phrase) {
            assert!(
                self.is_on(),
                "{}",
                self.report(&format!("off without `{phrase}`"))
            );
            assert!(
                self.started.elapsed() < limit,
                "{}",
                self.report(&format!("no `{phrase}`"))
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it is off; what the job printed. A job that failed fails the test.
    #[track_caller]
    pub fn end(mut self, limit: Duration) -> String {
        self.wait_for("the job ended with ", limit);
        let said = self.said();
        let ended = said
            .lines()
            .find_map(|line| line.strip_prefix("the job ended with "));
        let code = ended.map(str::trim).unwrap_or_default();
        assert!(code == "0", "{}", self.report("the job failed"));
        while self.is_on() {
            assert!(
                self.started.elapsed() < limit,
                "{}",
                self.report("it stays on")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        said
    }

    /// Pulls the plug.
    pub fn cut(mut self) -> String {
        let said = self.said();
        let _ = self.kernel.kill();
        let _ = self.kernel.wait();
        said
    }

    fn is_on(&mut self) -> bool {
        self.kernel.try_wait().expect("it is our child").is_none()
    }

    /// What a failed test says; the whole logs are kept.
    fn report(&self, what: &str) -> String {
        let kept = repository().join("target/vm");
        fs::create_dir_all(&kept).expect("target/ is writable");
        let kept = kept.join(format!("{}.log", self.machine.name));
        let mut file = fs::File::create(&kept).expect("target/ is writable");
        for part in ["console", "out"] {
            let _ = write!(file, "== {part}\n{}\n", self.machine.text(part));
        }
        let last = |part: &str| {
            let text = self.machine.text(part);
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        format!(
            "{}, after {} s: {what}; {} has everything\n-- console\n{}\n-- job\n{}",
            self.machine.name,
            self.started.elapsed().as_secs(),
            kept.display(),
            last("console"),
            last("out"),
        )
    }
}

impl Drop for Boot<'_> {
    fn drop(&mut self) {
        let _ = self.kernel.kill();
        let _ = self.kernel.wait();
    }
}
