//! Mounts that nobody else sees.
//!
//! A volume is mounted without a place in any mount table: `fsmount` (Linux 5.2) gives a descriptor
//! of the new mount, and names are resolved from that. It needs no mount point that something else
//! could be mounted over, no process can walk into it, and the kernel unmounts it when the last
//! descriptor is gone, however this process ends.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::{FileSystem, Tree};
use crate::error::{Context, Error, Result};

/// Mounts the file system on `device` for us alone.
pub(super) fn volume(device: &Path, kind: FileSystem, writable: bool) -> Result<Tree> {
    let attempt = || -> Result<OwnedFd, Errno> {
        let context = fsopen(kind.name(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", device)?;
        if kind == FileSystem::Xfs {
            // A snapshot has the UUID of its origin, which may be mounted as well.
            fsconfig_set_flag(&context, "nouuid")?;
        }
        if !writable {
            fsconfig_set_flag(&context, "ro")?;
        }
        fsconfig_create(&context)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        if !writable {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    let mount = attempt().map_err(|errno| {
        let error = Error::failed(format!(
            "cannot mount {} as {}",
            device.display(),
            kind.name()
        ))
        .source(&errno);
        match errno {
            Errno::NODEV => {
                error.hint(format!("this kernel has no {0}: modprobe {0}", kind.name()))
            }
            Errno::NOSYS => error.hint("imgnode needs Linux 5.2 or newer for volumes (fsmount)"),
            Errno::PERM => error.hint("imgnode needs root with CAP_SYS_ADMIN"),
            _ => error,
        }
    })?;
    Ok(Tree {
        root: directory(&mount)?,
        mount: Some(mount),
    })
}

/// The directory behind `root`, open for reading.
pub(super) fn directory(root: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(root, ".", flags, Mode::empty()).context(|| "cannot open the root of a tree")
}
