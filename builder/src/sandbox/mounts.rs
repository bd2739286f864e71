//! A mount namespace of our own, private in every sense.
//!
//! Mounts made in it vanish with the process, and none of them propagates to
//! the host (`mount_namespaces(7)`, "Shared subtrees"). Inside a plain chroot the
//! root directory is no mount point, so its propagation cannot be changed; the
//! tree is then cloned, attached where it can be made private, and entered.

use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};

use super::own_executable;
use super::vary::caller;
use crate::error::{Context, Error, Result};
use crate::process::{PATH, Tool};

/// Tells the second run of the command line in which namespace the first was.
const MARK: &str = "IMGBUILD_PRIVATE_MOUNTS";
/// Any directory on a mount of its own that every system has.
const PERCH: &str = "/proc/sys";

/// Re-runs this very command line in a private mount namespace, so that every
/// mount of the build vanishes with the process. Returns when it is there. With
/// `vary` it becomes that of a stranger, see `vary::caller`.
pub fn enter_mount_namespace(vary: bool) -> Result<()> {
    let mine = std::fs::read_link("/proc/self/ns/mnt")
        .context(|| "cannot read /proc/self/ns/mnt (is /proc mounted?)".into())?;
    let own = own_executable()?;
    if std::env::var_os(MARK).is_some_and(|outer| Path::new(&outer) != mine) {
        if vary {
            caller::rename()?;
        }
        return make_private();
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let mut tool = Tool::inherit("unshare").args(["--mount", "--propagation", "unchanged"]);
    if vary {
        tool = caller::disguise(tool.arg("--uts"));
    }
    let tool = tool
        .arg("--")
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env("PATH", path)
        .env(MARK, mine);
    Err(tool.exec())
}

fn make_private() -> Result<()> {
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match mount_change("/", all) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::INVAL) => {}
        Err(e) => return Err(failed(e)),
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    mount_change("/proc", all).map_err(failed)?;
    let clone = open_tree(CWD, "/", flags).map_err(failed)?;
    move_mount(
        &clone,
        "",
        CWD,
        PERCH,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(failed)?;
    mount_change(PERCH, all).map_err(failed)?;
    let here = std::env::current_dir().context(|| "the current directory is gone".into())?;
    rustix::process::chroot(PERCH).map_err(failed)?;
    std::env::set_current_dir(&here).context(|| format!("cannot return to {}", here.display()))
}

fn failed(errno: rustix::io::Errno) -> Error {
    Error::failed("cannot make a private mount namespace")
        .because(&std::io::Error::from(errno))
        .hint(
            "building needs root with CAP_SYS_ADMIN, and /proc mounted as a file system of its own",
        )
}
