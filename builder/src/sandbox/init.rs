//! The first process of a sandbox: arranges the namespaces, runs the command.
//!
//! It sees the host's file system, in a mount namespace of its own. It hides
//! the host's schroot configuration and state behind fresh tmpfs mounts, writes
//! a private profile there (the default one copies the host's user database
//! and resolver into the chroot), and lets schroot do the rest.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command as Process};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};
use rustix::process::{Pid, WaitOptions, wait};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{
    Command, HAND_IN, HOSTNAME, OWN_PROGRAM, Sandbox, blank, fence, loopback, own_executable,
    reach, vary,
};
use crate::error::{Context, Error, Result};
use crate::process::PATH;

/// The chroot's name in our private schroot configuration.
const CHROOT: &str = "imgbuild";
/// Where the device directory that the chroot sees is made.
const DEVICES: &str = "/run/imgbuild-dev";
/// Says which processors there are, in a varied sandbox.
const ONE_CPU: &str = "/run/imgbuild-cpu";

/// Runs as PID 1 of the sandbox that `spec` describes; returns the exit code.
pub fn run(spec: &Path) -> Result<u8> {
    let json = fs::read(spec).context(|| format!("cannot read {}", spec.display()))?;
    let sandbox: Sandbox =
        serde_json::from_slice(&json).context(|| format!("cannot read {}", spec.display()))?;
    blank::inherit_nothing()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::system::sethostname(HOSTNAME.as_bytes())
        .context(|| "cannot set the host name".into())?;
    if !sandbox.network {
        loopback::up().context(|| "cannot bring up the loopback device".into())?;
    }
    hide_host(&sandbox)?;
    hand_in(&sandbox)?;
    if sandbox.vary {
        one_cpu()?;
    }
    let mut process = match &sandbox.command {
        Command::Host { argv } => beside_tree(argv, &sandbox)?,
        Command::Chroot {
            argv,
            user,
            directory,
        } => {
            devices()?;
            if sandbox.network {
                place_for_resolver(&sandbox.root)?;
            }
            configure_schroot(&sandbox)?;
            inside_tree(argv, user, directory, &sandbox)
        }
    };
    if sandbox.vary {
        return vary::run(process);
    }
    if !sandbox.network {
        reach::watch(spec);
    }
    let child = process
        .spawn()
        .context(|| format!("cannot start {}", process.get_program().to_string_lossy()))?;
    reap_until(&child)
}

/// Waits for everything that ends, as PID 1 has to (a daemon's stopped children
/// are ours), until the command itself does; returns its exit code.
fn reap_until(child: &Child) -> Result<u8> {
    let wanted = Pid::from_child(child);
    loop {
        let ended = match wait(WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.context(|| "cannot wait for the command".into())?,
        };
        if let Some((pid, status)) = ended
            && pid == wanted
        {
            // 128+n as the shell counts signals.
            let signal = || status.terminating_signal().map(|s| 128 + s);
            let code = status.exit_status().or_else(signal).unwrap_or(1);
            return Ok(u8::try_from(code).unwrap_or(1));
        }
    }
}

/// Nothing of the host's runtime state, resolver and name is left to copy.
fn hide_host(sandbox: &Sandbox) -> Result<()> {
    let resolver = if sandbox.network {
        fs::read("/etc/resolv.conf").unwrap_or_default()
    } else {
        Vec::new()
    };
    let name = format!("{HOSTNAME}\n").into_bytes();
    let files = [("resolv.conf", resolver), ("hostname", name)].map(|(name, text)| {
        // Seen before /run is hidden: a resolver keeps its file there.
        let theirs = Path::new("/etc").join(name).canonicalize().ok();
        (Path::new("/run").join(name), text, theirs)
    });
    tmpfs("/run", "mode=755")?;
    make_dir(Path::new("/run/lock"))?;
    for (ours, text, theirs) in files {
        let failed = || format!("cannot write {}", ours.display());
        fs::write(&ours, text).context(failed)?;
        let Some(theirs) = theirs else { continue };
        if theirs.starts_with("/run") {
            if let Some(parent) = theirs.parent() {
                fs::create_dir_all(parent).context(failed)?;
            }
            fs::write(&theirs, "").context(failed)?;
        }
        bind(&ours, &theirs)?;
    }
    Ok(())
}

fn hand_in(sandbox: &Sandbox) -> Result<()> {
    for item in &sandbox.binds {
        let target = Path::new(HAND_IN).join(&item.name);
        make_dir(&target)?;
        bind(&item.source, &target)?;
        if !item.writable {
            mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, "")
                .context(|| format!("cannot make {} read-only", target.display()))?;
        }
    }
    Ok(())
}

/// From here on there is one processor.
fn one_cpu() -> Result<()> {
    let failed = || "cannot limit the sandbox to one processor".to_owned();
    let all = sched_getaffinity(None).context(failed)?;
    let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(first.unwrap_or(0));
    sched_setaffinity(None, &one).context(failed)?;
    put(Path::new(ONE_CPU), b"0\n")
}

/// The devices of a container, and no others.
fn devices() -> Result<()> {
    make_dir(Path::new(DEVICES))?;
    tmpfs(DEVICES, "mode=755")?;
    let dev = Path::new(DEVICES);
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        let path = dev.join(name);
        mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            Mode::empty(),
            makedev(major, minor),
        )
        .context(|| format!("cannot make the device {name}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
            .context(|| format!("cannot make the device {name}"))?;
    }
    for (target, name) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ] {
        symlink(target, dev.join(name)).context(|| format!("cannot make /dev/{name}"))?;
    }
    make_dir(&dev.join("pts"))?;
    make_dir(&dev.join("shm"))
}

/// Makes a plain file of the tree's resolv.conf, for the host's to be mounted on: systemd-resolved
/// and resolvconf make it a link into /run. The tree has a layer that is thrown away.
fn place_for_resolver(root: &Path) -> Result<()> {
    let path = root.join("etc/resolv.conf");
    let is_plain = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_file());
    let etc = root.join("etc").symlink_metadata();
    if is_plain(&path) || !etc.is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => fs::write(&path, ""),
    }
    .context(|| format!("cannot write {}", path.display()))
}

/// A schroot world with one chroot and a profile that copies nothing.
fn configure_schroot(sandbox: &Sandbox) -> Result<()> {
    let scripts = read_scripts(Path::new("/etc/schroot/setup.d"))?;
    tmpfs("/etc/schroot", "mode=755")?;
    tmpfs("/var/lib/schroot", "mode=755")?;
    for dir in [
        "session",
        "unpack",
        "mount",
        "union/overlay",
        "union/underlay",
    ] {
        make_dir(&Path::new("/var/lib/schroot").join(dir))?;
    }
    make_dir(Path::new("/run/schroot/mount"))?;
    let etc = Path::new("/etc/schroot");
    make_dir(&etc.join("setup.d"))?;
    make_dir(&etc.join("chroot.d"))?;
    make_dir(&etc.join(CHROOT))?;
    for (name, text) in scripts {
        let path = etc.join("setup.d").join(name);
        put(&path, &without_end(text))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .context(|| format!("cannot write {}", path.display()))?;
    }
    let root = sandbox.root.to_str().filter(|r| !r.contains(['\n', '#']));
    let Some(root) = root else {
        return Err(Error::failed(format!(
            "schroot cannot name the directory {}",
            sandbox.root.display()
        ))
        .hint("choose a work directory with a plain path: --work DIR"));
    };
    let chroot = format!(
        "[{CHROOT}]\ndescription=tree of a build\ntype=directory\ndirectory={root}\n\
         union-type=overlay\nusers=root\nroot-users=root\nsource-users=root\n\
         source-root-users=root\nprofile={CHROOT}\nmessage-verbosity=quiet\n"
    );
    put(&etc.join("schroot.conf"), b"")?;
    put(&etc.join("chroot.d").join(CHROOT), chroot.as_bytes())?;
    put(&etc.join(CHROOT).join("fstab"), fstab(sandbox).as_bytes())?;
    put(&etc.join(CHROOT).join("copyfiles"), b"")?;
    put(&etc.join(CHROOT).join("nssdatabases"), b"")
}

/// What is mounted in the chroot. No /home and no /tmp of the host.
fn fstab(sandbox: &Sandbox) -> String {
    let mut text = format!(
        "proc /proc proc nosuid,nodev,noexec 0 0\n\
         sysfs /sys sysfs ro,nosuid,nodev,noexec 0 0\n\
         {DEVICES} /dev none rw,bind 0 0\n\
         devpts /dev/pts devpts rw,nosuid,noexec,newinstance,gid=5,mode=620,ptmxmode=666 0 0\n\
         shm /dev/shm tmpfs rw,nosuid,nodev 0 0\n\
         run /run tmpfs rw,nosuid,nodev,mode=755 0 0\n\
         run /run/lock tmpfs rw,nosuid,nodev,noexec,mode=1777 0 0\n"
    );
    text.push_str(&fence::read_only_settings());
    text.push_str(&fence::masks(&format!("{DEVICES}/null")));
    if sandbox.vary {
        let _ = writeln!(
            text,
            "{ONE_CPU} /sys/devices/system/cpu/online none ro,bind 0 0"
        );
    }
    if sandbox.network {
        text.push_str("/run/resolv.conf /etc/resolv.conf none rw,bind 0 0\n");
    }
    for item in &sandbox.binds {
        let mode = if item.writable { "rw" } else { "ro" };
        let path = format!("{HAND_IN}/{}", item.name);
        let _ = writeln!(text, "{path} {path} none {mode},bind 0 0");
    }
    text
}

/// A set-up script that does nothing when the session ends: its mounts and processes end with the
/// namespaces, and some thirty programs less are started for it.
fn without_end(mut script: Vec<u8>) -> Vec<u8> {
    const SHELL: &[u8] = b"#!/bin/sh\n";
    if script.starts_with(SHELL) {
        let skip = *b"[ \"$1\" != setup-stop ] || exit 0\n";
        script.splice(SHELL.len()..SHELL.len(), skip);
    }
    script
}

fn read_scripts(dir: &Path) -> Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let missing = || format!("cannot read schroot's set-up scripts in {}", dir.display());
    let mut scripts = Vec::new();
    for entry in fs::read_dir(dir).context(missing)? {
        let entry = entry.context(missing)?;
        scripts.push((entry.file_name(), fs::read(entry.path()).context(missing)?));
    }
    Ok(scripts)
}

fn beside_tree(argv: &[String], sandbox: &Sandbox) -> Result<Process> {
    let mut process = fenced();
    process
        .args(argv)
        .env_clear()
        .env("PATH", PATH)
        .env(OWN_PROGRAM, own_executable()?)
        .envs(&sandbox.environment);
    Ok(process)
}

/// The command as schroot runs it. schroot itself would look the user up on
/// the host, so it enters as root and runuser(1) of the tree changes user.
fn inside_tree(argv: &[String], user: &str, directory: &str, sandbox: &Sandbox) -> Process {
    let mut process = fenced();
    process.env_clear().env("PATH", PATH).current_dir("/");
    process.args([
        "schroot",
        "--chroot",
        "source:imgbuild",
        "--user",
        "root",
        "--directory",
        directory,
    ]);
    process.arg("--");
    process.args(fence::inner(&sandbox.root).into_iter().flatten());
    if user != "root" {
        process.args(["runuser", "-u", user, "--"]);
    }
    if stdin_is_null() {
        // Opened in the tree: the descriptor that we have shows a path of the host, where the
        // host is a chroot itself.
        process.args(["sh", "-c", "exec \"$@\" </dev/null", "sh"]);
    }
    process.args(["env", "-i"]);
    process.args(
        sandbox
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    process.args(argv);
    process
}

/// Whether standard input is the null device, which is character device 1:3 (null(4)).
fn stdin_is_null() -> bool {
    let stat = rustix::fs::fstat(std::io::stdin());
    stat.is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(1, 3)
    })
}

/// A process of the host with what the sandbox's set-up needs and no more.
fn fenced() -> Process {
    let [setpriv, words @ ..] = fence::outer();
    let mut process = Process::new(setpriv);
    process.args(words);
    process
}

fn tmpfs(path: &str, data: &str) -> Result<()> {
    let data = std::ffi::CString::new(data).context(|| "bad mount data".into())?;
    mount(
        "imgbuild",
        path,
        "tmpfs",
        MountFlags::NOSUID,
        data.as_c_str(),
    )
    .context(|| format!("cannot mount a tmpfs on {path}"))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    mount_bind(source, target)
        .context(|| format!("cannot bind {} to {}", source.display(), target.display()))
}

fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .context(|| format!("cannot make {}", path.display()))
}

fn put(path: &Path, text: &[u8]) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_that_is_a_link_becomes_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/resolv.conf");
        place_for_resolver(dir.path()).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let stub = "../run/systemd/resolve/stub-resolv.conf";
        let outside = dir.path().join("outside");
        fs::write(&outside, "theirs").unwrap();
        for link in [Path::new(stub), &outside] {
            symlink(link, &path).unwrap();
            place_for_resolver(dir.path()).unwrap();
            assert!(path.symlink_metadata().unwrap().is_file());
            fs::remove_file(&path).unwrap();
        }
        assert_eq!(fs::read(&outside).unwrap(), b"theirs");
        place_for_resolver(dir.path()).unwrap();
        fs::write(&path, "nameserver ::1\n").unwrap();
        place_for_resolver(dir.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"nameserver ::1\n");
    }
}
