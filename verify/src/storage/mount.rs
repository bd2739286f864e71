//! Mounts that nobody else sees.
//!
//! A volume is mounted without a place in any mount table: `fsmount` (Linux 5.2) gives a descriptor
//! of the new mount, and names are resolved from that. It needs no mount point that something else
//! could be mounted over, no process can walk into it, and the kernel unmounts it when the last
//! descriptor is gone, however this process ends.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::error::{Error, Result};
use crate::tree::open::OpenTree;

/// The file system that a volume is formatted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    /// XFS, the procedure's default.
    Xfs,
    /// ext4.
    Ext4,
}

impl FileSystem {
    /// The name of the file system for mkfs and mount.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
        }
    }

    /// The options that schroot must add to mount a snapshot.
    pub(super) fn mount_options(self) -> Option<String> {
        // Two mounted snapshots have one UUID.
        (self == Self::Xfs).then(|| "-o nouuid".to_owned())
    }
}

impl FromStr for FileSystem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "xfs" => Ok(Self::Xfs),
            "ext4" => Ok(Self::Ext4),
            _ => Err(Error::usage(format!(
                "`{}` is no file system for a volume",
                text.escape_debug()
            ))
            .hint("use xfs or ext4")),
        }
    }
}

/// Mounts the file system on `device` where nobody else sees it.
pub(super) fn volume(device: &Path, kind: FileSystem, writable: bool) -> Result<OpenTree> {
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
    OpenTree::mounted(mount)
}
