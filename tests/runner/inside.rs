//! The first process of a test's namespaces: makes the mounts private, runs the test, reaps.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind_recursive,
    mount_change, move_mount, open_tree,
};
use rustix::process::{Pid, WaitOptions, wait};

/// Directories of schroot in which a test writes. It gets others: the settings of the host, but
/// neither its chroots nor its sessions.
const SETTINGS: &str = "/etc/schroot";
const CHROOTS: &str = "chroot.d";
const SESSIONS: [&str; 2] = ["/var/lib/schroot", "/run/schroot"];

/// Runs the words with a machine of their own around them; their exit code, 255 after a signal.
pub(crate) fn run(scratch: &Path, words: &[OsString]) -> io::Result<u8> {
    // Started by hand, it would mount on the machine itself.
    if std::process::id() != 1 {
        return Err(io::Error::other("there are none: only `run` starts this"));
    }
    make_private()?;
    mount("proc", "/proc", "proc", MountFlags::empty(), None)?;
    let own = tempfile::tempdir_in(scratch.join("host"))?.keep();
    if Path::new(SETTINGS).is_dir() {
        let settings = own.join("settings");
        copy_all(Path::new(SETTINGS), &settings)?;
        for chroot in fs::read_dir(settings.join(CHROOTS))? {
            fs::remove_file(chroot?.path())?;
        }
        mount_bind_recursive(&settings, SETTINGS)?;
    }
    for (number, directory) in SESSIONS.iter().enumerate() {
        if Path::new(directory).is_dir() {
            let sessions = own.join(format!("sessions-{number}"));
            copy_directories(Path::new(directory), &sessions)?;
            mount_bind_recursive(&sessions, *directory)?;
        }
    }
    // The service manager of the host does not know the processes of this namespace.
    let manager = Path::new("/run/systemd/system");
    if manager.exists() {
        mount("tmpfs", manager, "tmpfs", MountFlags::empty(), None)?;
    }
    let mut child = Command::new("env");
    // What runs in the background of a script inherits signals that are ignored.
    child
        .arg("--default-signal=HUP,INT,QUIT,TERM,PIPE,USR1,USR2")
        .args(words)
        .env("TMPDIR", scratch.join("tmp"))
        .stdin(Stdio::null());
    let child = child.spawn()?;
    let child = Pid::from_child(&child);
    // Orphans of the test are ours too: whoever is PID 1 has to wait for them.
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => {
                let status = std::process::ExitStatus::from_raw(status.as_raw());
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                if let Some(signal) = status.signal() {
                    eprintln!("the test was ended by signal {signal}");
                }
                return Ok(code.unwrap_or(255));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Copies a directory with all that is in it.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    let status = Command::new("cp")
        .args(["--archive", "--no-target-directory"])
        .args([from, to])
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("cannot copy {}", from.display())))
}

/// Makes the directories that schroot has there, without the sessions in them.
fn copy_directories(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for name in [
        "mount",
        "session",
        "union",
        "union/overlay",
        "union/underlay",
        "unpack",
    ] {
        let directory = from.join(name);
        if directory.is_dir() {
            fs::create_dir(to.join(name))?;
            fs::set_permissions(to.join(name), fs::metadata(directory)?.permissions())?;
        }
    }
    Ok(())
}

/// Makes every mount private. In a plain chroot the root directory is no mount point and has no
/// propagation to change; then the whole tree is attached once more where it can be made private.
fn make_private() -> io::Result<()> {
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match mount_change("/", all) {
        Ok(()) => return Ok(()),
        Err(Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let perch = "/proc/sys";
    mount_change("/proc", all)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = open_tree(CWD, "/", flags)?;
    let from_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&clone, "", CWD, perch, from_descriptor)?;
    mount_change(perch, all)?;
    let here = std::env::current_dir()?;
    rustix::process::chroot(perch)?;
    std::env::set_current_dir(here)
}
