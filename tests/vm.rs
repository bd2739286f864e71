//! A Debian machine of its own, in QEMU: with device-mapper, systemd, and a plug that can be pulled.
//!
//! Its root is made once in a test program, by mmdebstrap from the machine's own archive; each
//! [`Machine`] writes to disks of its own over it. A boot runs one job: the executable `run` of a
//! directory, which is `/job` there. What the job prints comes out at a second serial port as it is
//! printed; the console's log is kept when a test fails.
//!
//! Emulation works everywhere and takes ten times as long as a processor. `IMGBUILD_VM_ACCEL=kvm` asks
//! for the latter, where it can be had.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::archive::archive_address;
use crate::binaries::{Ran, repository};
use crate::fixtures::{fixture, scratch};

/// How the machine sees the one it runs on.
pub const HOST: &str = "10.0.2.2";

const PACKAGES: &[&str] = &[
    "attr",
    "curl",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "lvm2",
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
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
mount -o ro /dev/vdb /job
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

/// The initial file system finds the root and has nothing else: it is unpacked at each boot.
const START: &str =
    "cd \"$1\" && mkdir -p etc/initramfs-tools/conf.d usr/share/initramfs-tools/modules.d
    echo MODULES=list >etc/initramfs-tools/conf.d/small
    printf 'virtio_pci\\nvirtio_blk\\next4\\n' >usr/share/initramfs-tools/modules.d/small";

/// Words for the kernel. Nobody attacks it, and emulated it pays dearly for being ready for that.
const APPEND: &str = "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet mitigations=off";

/// What all machines have in common: a file system `root`, a kernel `vmlinuz`, an initial file
/// system `initrd.img`.
fn common() -> PathBuf {
    fixture("machine", |dir| {
        let tree = dir.join("tree");
        bootstrap(&tree);
        furnish(&tree);
        for start in ["vmlinuz", "initrd.img"] {
            let names = fs::read_dir(tree.join("boot")).expect("a kernel was installed");
            let mut names = names.map(|entry| entry.expect("it can be read").file_name());
            let name = names.find(|name| name.to_string_lossy().starts_with(start));
            let name = name.unwrap_or_else(|| panic!("no {start} in /boot"));
            fs::copy(tree.join("boot").join(name), dir.join(start)).expect("it can be copied");
        }
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
        .arg(format!("--essential-hook={START}"))
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
    // Nobody logs in.
    link("serial-getty@ttyS0.service", "/dev/null");
    link("getty@tty1.service", "/dev/null");
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

/// How disks treat what they were told to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    /// As fast as possible; what is on them after a power cut is anybody's guess.
    Fast,
    /// What was flushed is there after a power cut.
    Honest,
}

/// A machine that is switched off: its disks.
#[derive(Debug)]
pub struct Machine {
    dir: tempfile::TempDir,
    name: String,
    disks: Disks,
}

impl Machine {
    /// A new one with an empty disk, `/dev/vdc`, for volumes.
    pub fn new(name: &str, disks: Disks) -> Self {
        let dir = scratch();
        // Sparse files: what nobody wrote takes no room.
        run(Command::new("cp")
            .args(["--sparse=always", "--reflink=auto", "--"])
            .arg(common().join("root"))
            .arg(dir.path().join("root")));
        let volumes = fs::File::create(dir.path().join("volumes")).expect("the directory is ours");
        volumes.set_len(32 << 30).expect("a sparse file");
        Self {
            dir,
            name: name.to_owned(),
            disks,
        }
    }

    /// Switches it on, to run the job in this directory.
    pub fn boot(&self, job: &Path) -> Boot<'_> {
        let (disk, console, out) = (self.path("job"), self.path("console"), self.path("out"));
        let out_of_du = Ran::of(Command::new("du").args(["-sk"]).arg(job))
            .expect(0)
            .stdout;
        let kilobytes = out_of_du
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        let kilobytes: u64 = kilobytes.expect("du prints a number");
        file_system(job, &disk, (kilobytes << 10) * 21 / 20 + (32 << 20));
        let _ = fs::remove_file(&out);
        let accelerator = std::env::var("IMGBUILD_VM_ACCEL");
        let accelerator = accelerator.unwrap_or_else(|_| "tcg,thread=multi".to_owned());
        let cache = match self.disks {
            Disks::Fast => "unsafe",
            Disks::Honest => "writeback",
        };
        let drive = |path: &Path, how: &str| format!("file={},if=virtio,{how}", path.display());
        let copy = format!("format=raw,cache={cache}");
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-accel",
                &accelerator,
                "-cpu",
                "max",
                "-smp",
                "2",
                "-m",
                "1536",
            ])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(common().join("vmlinuz"))
            .arg("-initrd")
            .arg(common().join("initrd.img"))
            .args(["-append", APPEND])
            .args(["-drive", &drive(&self.path("root"), &copy)])
            .args(["-drive", &drive(&disk, "format=raw,readonly=on")])
            .args(["-drive", &drive(&self.path("volumes"), &copy)])
            .args([
                "-netdev",
                "user,id=net",
                "-device",
                "virtio-net-pci,netdev=net",
            ])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-serial")
            .arg(format!("file:{}", out.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("qemu")).expect("the directory is ours"));
        let qemu = command.spawn();
        let qemu =
            qemu.unwrap_or_else(|error| panic!("qemu-system-x86_64: {error}; run tests/run"));
        Boot {
            machine: self,
            qemu,
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
    qemu: Child,
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
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        said
    }

    fn is_on(&mut self) -> bool {
        self.qemu.try_wait().expect("it is our child").is_none()
    }

    /// What a failed test says; the whole logs are kept.
    fn report(&self, what: &str) -> String {
        let kept = repository().join("target/vm");
        fs::create_dir_all(&kept).expect("target/ is writable");
        let kept = kept.join(format!("{}.log", self.machine.name));
        let mut file = fs::File::create(&kept).expect("target/ is writable");
        for part in ["qemu", "console", "out"] {
            let _ = write!(file, "== {part}\n{}\n", self.machine.text(part));
        }
        let last = |part: &str| {
            let text = self.machine.text(part);
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        format!(
            "{}, after {} s: {what}; {} has everything\n{}\n-- console\n{}\n-- job\n{}",
            self.machine.name,
            self.started.elapsed().as_secs(),
            kept.display(),
            last("qemu"),
            last("console"),
            last("out"),
        )
    }
}

impl Drop for Boot<'_> {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
