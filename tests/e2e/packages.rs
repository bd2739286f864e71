//! The Debian packages on a machine that has nothing but Debian: installed by apt with what they
//! depend on, used, removed, purged; and what is left is what docs/packages.md says.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tests::archive::{architecture, sources};
use tests::binaries::{Ran, imgbuild, imgnode, repository, run};
use tests::fixtures::scratch;

/// What is of interest but not of a package of ours: a real node has systemd, and people read
/// manuals and press Tab.
const BESIDES: &str = "bash-completion,man-db,systemd";

/// Where purging may leave something; docs/packages.md.
const LEFT: [&str; 6] = [
    "/etc/imgbuild",
    "/etc/schroot/chroot.d/imgnode-keep.conf",
    "/etc/schroot/imgnode",
    "/srv/imgnode",
    "/var/lib/imgbuild",
    "/var/lib/imgnode",
];

/// A root filesystem in memory, in namespaces of its own: whatever is mounted or runs there is gone
/// when this process is.
struct Machine {
    root: PathBuf,
    /// Reads a line of words, runs them, answers with their exit code.
    holder: Child,
    answers: RefCell<BufReader<ChildStdout>>,
    talk: PathBuf,
}

/// A shell that stays in the namespaces and runs there what it is told. Nobody enters them from
/// outside: in a plain chroot whoever does that leaves the chroot (setns(2)).
const HOLDER: &str = r#"mount -t proc proc /proc
    mount -t tmpfs -o mode=755,size=3g tmpfs "$1"
    echo ready
    while read -r directory; do
        code=0
        sh "$directory/run" </dev/null >"$directory/out" 2>"$directory/err" || code=$?
        echo $code
    done"#;

impl Machine {
    fn new(dir: &Path) -> Self {
        let root = dir.join("root");
        let talk = dir.join("talk");
        fs::create_dir(&root).unwrap();
        fs::create_dir(&talk).unwrap();
        let mut holder = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"])
            .args([HOLDER, "sh"])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there");
        let mut answers = BufReader::new(holder.stdout.take().unwrap());
        let mut ready = String::new();
        answers.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let machine = Self {
            root,
            holder,
            answers: RefCell::new(answers),
            talk,
        };
        machine.bootstrap(dir);
        machine
    }

    /// Runs words beside the root, with these variables set.
    fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut script = String::new();
        // What the tests are run with is not what a user has.
        for name in [
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "TMPDIR",
            "CARGO_TARGET_DIR",
        ] {
            let _ = writeln!(script, "unset {name}");
        }
        for (name, value) in variables {
            let _ = writeln!(script, "export {name}={}", quoted(value));
        }
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(script, "exec {}", words.join(" "));
        fs::write(self.talk.join("run"), script).unwrap();
        let mut stdin = self.holder.stdin.as_ref().unwrap();
        writeln!(stdin, "{}", self.talk.display()).unwrap();
        let mut code = String::new();
        self.answers.borrow_mut().read_line(&mut code).unwrap();
        let read = |name: &str| {
            let bytes = fs::read(self.talk.join(name)).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ran {
            stdout: read("out"),
            stderr: read("err"),
            code: code.trim().parse().expect("the shell answers with a code"),
        }
    }

    /// A minimal Debian of this machine's suite: programs built here run there.
    fn bootstrap(&self, dir: &Path) {
        let list = dir.join("sources.list");
        fs::write(&list, sources()).unwrap();
        let mut words = vec![
            "mmdebstrap".to_owned(),
            "--quiet".to_owned(),
            "--variant=minbase".to_owned(),
            format!("--include={BESIDES}"),
            // The next step installs.
            "--skip=cleanup/apt/lists".to_owned(),
            "--aptopt=Dpkg::Use-Pty \"false\"".to_owned(),
        ];
        // How this machine reaches its archive is how that one does.
        for option in run(Path::new("apt-config"), ["dump", "Acquire"])
            .stdout
            .lines()
        {
            if option.contains("Proxy") || option.contains("::Verify-") {
                words.push(format!("--aptopt={option}"));
            }
        }
        words.push(suite());
        for path in [&self.root, &list] {
            words.push(path.to_str().unwrap().to_owned());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.run(&words, &[]).expect(0);
        let root = self.root.display();
        let prepare = format!(
            "mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev
            for file in /etc/hosts /etc/resolv.conf /etc/apt/auth.conf /etc/apt/auth.conf.d \\
                /etc/ssl/certs/ca-certificates.crt; do
                [ ! -e $file ] || cp --recursive --dereference --parents $file {root}
            done
            printf '#!/bin/sh\\nexit 101\\n' > {root}/usr/sbin/policy-rc.d
            chmod 755 {root}/usr/sbin/policy-rc.d"
        );
        self.run(&["sh", "-ec", &prepare], &[]).expect(0);
    }

    /// Runs a script of a shell there and shows both.
    fn say(&self, script: &str) -> Ran {
        let root = self.root.to_str().unwrap();
        let ran = self.run(
            &["chroot", root, "bash", "-ec", script],
            &[
                ("DEBIAN_FRONTEND", "noninteractive"),
                ("HOME", "/root"),
                ("LC_ALL", "C.UTF-8"),
                (
                    "PATH",
                    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                ),
            ],
        );
        println!("# {script}\n{}{}", ran.stdout, ran.stderr);
        ran
    }

    fn hand_over(&self, file: &Path, path: &str) {
        let to = format!("{}{path}", self.root.display());
        let words = ["cp", "--", file.to_str().unwrap(), &to];
        self.run(&words, &[]).expect(0);
    }

    /// Every path there, without what installing anything changes.
    fn paths(&self) -> BTreeSet<String> {
        let script = "find / -xdev \\( -path /proc -o -path /dev -o -path /tmp -o -path /root \
            -o -path /var/log -o -path /var/cache/apt -o -path /var/cache/man -o -path /var/lib/apt \
            -o -path /var/lib/dpkg \\) -prune -o -print";
        let root = self.root.to_str().unwrap();
        let found = self
            .run(&["chroot", root, "sh", "-c", script], &[])
            .expect(0);
        found.stdout.lines().map(str::to_owned).collect()
    }
}

/// A word of sh(1) that means this text.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn suite() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap();
    let name = text
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="));
    name.expect("this is a Debian machine").to_owned()
}

/// How the programs in the packages are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    /// As `tests/run` has done already.
    ForTests,
    /// As people get them.
    Release,
}

/// Makes both packages; their files.
fn build(out: &Path, how: Build) -> [PathBuf; 2] {
    let target = imgbuild().parent().and_then(Path::parent).unwrap();
    assert!(imgnode().starts_with(target));
    let mut command = Command::new(repository().join("tests/package"));
    match how {
        Build::ForTests => {
            command.arg("--built");
        }
        // What looks at the sources of tests has no say in a release.
        Build::Release => {
            command.env_remove("RUSTC_WORKSPACE_WRAPPER");
        }
    }
    command.arg(out).env("CARGO_TARGET_DIR", target);
    let built = Ran::of(&mut command).expect(0);
    let version = env!("CARGO_PKG_VERSION");
    ["imgnode", "imgbuild"].map(|name| {
        let file = out.join(format!("{name}_{version}_{}.deb", architecture()));
        assert!(built.stdout.contains(file.to_str().unwrap()), "{built:?}");
        file
    })
}

/// Needs no dynamic loader: nothing of a node but its kernel.
fn assert_static(program: &Path) {
    let bytes = fs::read(program).unwrap();
    // Segments of the type PT_INTERP name a dynamic loader (elf(5)).
    let count = u16::from_le_bytes([bytes[56], bytes[57]]) as usize;
    let table = usize::try_from(u64::from_le_bytes(bytes[32..40].try_into().unwrap())).unwrap();
    let kinds: Vec<u8> = (0..count).map(|index| bytes[table + index * 56]).collect();
    assert!(kinds.contains(&1), "not an ELF program");
    assert!(!kinds.contains(&3), "it needs a dynamic loader");
}

mod soak {
    use super::*;

    /// The most that the node program may have, in bytes.
    const LARGEST: u64 = 8 << 20;

    #[test]
    fn the_node_program_is_static() {
        assert_static(imgnode());
    }

    #[test]
    fn both_packages_as_they_are_released() {
        let scratch = scratch();
        let debs = build(scratch.path(), Build::Release);
        let unpacked = scratch.path().join("unpacked");
        Ran::of(
            Command::new("dpkg-deb")
                .arg("-x")
                .args([&debs[0], &unpacked]),
        )
        .expect(0);
        let program = unpacked.join("usr/bin/imgnode");
        assert_static(&program);
        let size = fs::metadata(&program).unwrap().len();
        println!("imgnode has {size} bytes");
        assert!(size <= LARGEST, "{size} bytes");
        from_apt_to_purge(Build::Release);
    }
}

#[test]
fn both_packages_from_apt_to_purge() {
    from_apt_to_purge(Build::ForTests);
}

fn from_apt_to_purge(how: Build) {
    let scratch = scratch();
    let dir = scratch.path();
    let debs = build(&dir.join("one"), how);
    for (one, two) in debs.iter().zip(build(&dir.join("two"), how)) {
        let same = fs::read(one).unwrap() == fs::read(&two).unwrap();
        assert!(
            same,
            "two builds differ: diffoscope {} {}",
            one.display(),
            two.display()
        );
    }

    let machine = Machine::new(dir);
    machine.hand_over(&debs[0], "/root/imgnode.deb");
    machine.hand_over(&debs[1], "/root/imgbuild.deb");
    let install = "cd /root && apt-get -qq install --no-install-recommends \
        ./imgnode.deb ./imgbuild.deb";
    machine.say(install).expect(0);
    installed(&machine);

    // What the packages depend on stays; what they bring themselves must go without a trace.
    machine.say("apt-get -qq purge imgnode imgbuild").expect(0);
    let bare = machine.paths();
    let ours = |path: &&String| path.contains("imgnode") || path.contains("imgbuild");
    assert_eq!(bare.iter().find(ours), None);

    machine.say(install).expect(0);
    used(&machine);
    removed(&machine, install);
    purged(&machine, &bare);
    // All of it was in the machine's own namespaces; ours know nothing of it.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "{mounts}");
    assert_eq!(fs::read_dir(&machine.root).unwrap().count(), 0);
}

/// Everything is where people look for it, and nothing was started or enabled.
fn installed(machine: &Machine) {
    let version = env!("CARGO_PKG_VERSION");
    let said = machine
        .say("imgnode --version; imgbuild --version")
        .expect(0);
    assert_eq!(
        said.stdout,
        format!("imgnode {version}\nimgbuild {version}\n")
    );
    machine.say("imgbuild doctor").expect(0);

    let said = machine.say("man -w imgnode imgnode-install imgbuild imgbuild-env-root-save");
    assert_eq!(said.expect(0).stdout.lines().count(), 4);
    let page = machine.say("man --warnings imgnode-install").expect(0);
    assert_eq!(page.stderr, "");
    for part in [
        "SYNOPSIS",
        "lvm-thin:VG/POOL:SIZE",
        "EXIT STATUS",
        "EXAMPLES",
    ] {
        assert!(page.stdout.contains(part), "{part}");
    }
    // The pages, by the names that they link, and what the first one copies.
    for page in [
        "imgbuild/README.md",
        "imgbuild/docs/operators.md",
        "imgbuild/docs/keys.md",
        "imgbuild/examples/recipes/python-web.toml",
        "imgnode/docs/node.md",
        "imgnode/docs/operators.md",
    ] {
        let there = format!("test -s /usr/share/doc/{page}");
        machine.say(&there).expect(0);
    }
    let script = "shopt -s progcomp; source /usr/share/bash-completion/bash_completion
        for it in imgnode imgbuild; do _completion_loader $it || [ $? = 124 ]; complete -p $it; done
        COMP_WORDS=(imgnode inst); COMP_CWORD=1; _imgnode imgnode inst imgnode; echo ${COMPREPLY[@]}";
    let said = machine.say(script).expect(0).stdout;
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].ends_with(" imgnode") && lines[1].ends_with(" imgbuild"),
        "{said}"
    );
    assert_eq!(lines[2], "install");

    let units = "imgnode@web.service imgnode-upgrade@web.service imgnode-upgrade@web.timer \
        imgnode-receipts.service imgnode-receipts.timer \
        imgbuild-refresh@prod.service imgbuild-refresh@prod.timer";
    // As a machine does that boots for the first time.
    machine
        .say("systemctl preset imgnode-receipts.timer")
        .expect(0);
    let said = machine.say(&format!("systemctl is-enabled {units} || true"));
    assert_eq!(
        said.stdout,
        "disabled\nstatic\ndisabled\nstatic\ndisabled\nstatic\ndisabled\n"
    );
    // It also asks for the manual pages that the units name.
    let said = machine
        .say(&format!("systemd-analyze verify {units}"))
        .expect(0);
    assert_eq!(said.stderr, "");
    let hooks = "stat -c '%U %a %n' /etc/imgnode/hooks.d/*; dpkg -S /etc/imgnode/hooks.d/*";
    let said = machine.say(hooks).expect(0);
    assert!(said.stdout.starts_with("root 755 "), "{}", said.stdout);
}

/// A tree becomes an image, the image two systems, of which one goes again.
fn used(machine: &Machine) {
    let suite = suite();
    let arch = architecture();
    let mut script = format!(
        "mkdir -p /root/tree/etc && echo it works > /root/tree/etc/motd
        imgbuild import /root/tree --name web --suite {suite} --arch {arch}
        imgnode init --env dev --repo /var/lib/imgbuild \
            --root /var/lib/imgbuild/env/dev/metadata/1.root.json\n"
    );
    for system in ["web", "keep"] {
        let _ = writeln!(
            script,
            "imgnode install web --as {system} --target dir:/srv/imgnode\nimgnode verify {system}"
        );
    }
    script.push_str("imgnode uninstall web\nsystemctl enable imgnode@keep.service");
    machine.say(&script).expect(0);
}

/// Removing says what stays, and leaves it whole.
fn removed(machine: &Machine, install: &str) {
    let said = machine.say("apt-get -qq remove imgnode imgbuild").expect(0);
    let all = said.stdout + &said.stderr;
    assert!(all.contains("goes on: keep\n"), "{all}");
    machine
        .say("cat /srv/imgnode/keep/1/etc/motd; schroot --list")
        .expect(0);
    machine.say(install).expect(0);
    machine.say("imgnode verify keep").expect(0);
}

/// Purging leaves the data that is documented and nothing else.
fn purged(machine: &Machine, bare: &BTreeSet<String>) {
    machine
        .say("mkdir -p /var/lib/imgnode/kept /var/cache/imgbuild/log")
        .expect(0);
    let said = machine.say("apt-get -qq purge imgnode imgbuild").expect(0);
    let all = said.stdout + &said.stderr;
    for place in ["/var/lib/imgnode", "/var/lib/imgbuild", "/etc/imgbuild"] {
        assert!(all.contains(&format!(": {place} stays")), "{all}");
    }
    let now = machine.paths();
    let gone: Vec<_> = bare.difference(&now).collect();
    assert!(gone.is_empty(), "gone with our packages: {gone:?}");
    let left: Vec<&String> = now.difference(bare).collect();
    println!("{} paths are left:", left.len());
    for path in &left {
        println!("{path}");
        let documented = LEFT.iter().any(|place| Path::new(path).starts_with(place));
        assert!(documented, "purging leaves {path}");
    }
    for place in LEFT {
        assert!(now.contains(place), "purging took {place}");
    }
    for place in ["/var/lib/imgnode/kept", "/var/cache/imgbuild"] {
        assert!(!now.contains(place), "purging left {place}");
    }
    let docs = fs::read_to_string(repository().join("docs/packages.md")).unwrap();
    for place in LEFT {
        let place = place.replace("keep", "SYSTEM");
        let named = docs.contains(&format!("`{place}`")) || place == "/srv/imgnode";
        assert!(named, "docs/packages.md says nothing of {place}");
    }
}
