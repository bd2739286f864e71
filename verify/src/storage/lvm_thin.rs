//! `lvm-thin:VG/POOL:SIZE[:FS]`: generations as thin volumes of a pool.
//!
//! The pool is the operator's. The first generation is a thin volume of SIZE; each later one begins
//! as a thin snapshot of the one before and is only written to where it differs, so the pool keeps
//! what is common once. Volumes are called `imgnode-SYSTEM.NUMBER`. A session is a thin snapshot as
//! well and needs no size of its own.

use std::fmt;
use std::path::PathBuf;

use super::volume::{self, FileSystem, Size, Volume};
use super::{Desk, Keeper, Staging, Tree, mount};
use crate::error::{Error, Result};
use crate::system::SystemName;

/// Thin volumes in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thin {
    group: String,
    pool: String,
    size: Size,
    kind: FileSystem,
}

impl Thin {
    /// Reads the part of a target behind `lvm-thin:`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let (group, pool) = volume::names(parts.next().unwrap_or(""))?;
        let thin = Self {
            group,
            pool,
            size: parts.next().unwrap_or("").parse()?,
            kind: parts.next().unwrap_or("xfs").parse()?,
        };
        match parts.next() {
            None => Ok(thin),
            Some(more) => Err(Error::usage(format!(
                "`{}` is too much for a target",
                more.escape_debug()
            ))
            .hint("lvm-thin:VG/POOL:SIZE:xfs|ext4")),
        }
    }

    fn volume(system: &SystemName, number: u64) -> String {
        format!("imgnode-{system}.{number}")
    }

    fn pool(&self, desk: &Desk<'_>) -> Result<Volume> {
        let mut volumes = volume::list(&self.group, desk)?.into_iter();
        let pool = volumes.find(|volume| volume.name == self.pool);
        pool.ok_or_else(|| {
            Error::usage(format!(
                "there is no thin pool {}/{}",
                self.group, self.pool
            ))
            .hint(format!(
                "lvcreate --type thin-pool --name {} --size SIZE {}",
                self.pool, self.group
            ))
        })
    }
}

impl Keeper for Thin {
    fn inspect(&self, desk: &Desk<'_>, number: u64) -> Result<bool> {
        self.pool(desk)?;
        if number > 0 {
            let name = Self::volume(desk.system, number);
            volume::refuse_taken(&self.group, &name, desk)?;
        }
        Ok(false)
    }

    fn check_space(&self, desk: &Desk<'_>, bytes: u64, _: u64) -> Result<()> {
        if self.size.bytes() < bytes {
            return Err(Error::failed(format!(
                "a volume of {} is too small: {bytes} bytes needed",
                self.size
            ))
            .hint("give a larger size in --target"));
        }
        // An upgrade writes less, but how much less is not known before.
        let free = self.free(desk)?;
        if free < bytes {
            return Err(Error::failed(format!(
                "not enough space in the thin pool {}/{}: {bytes} bytes needed, {free} free",
                self.group, self.pool
            ))
            .hint("remove old generations with imgnode gc, or extend the pool: lvextend"));
        }
        Ok(())
    }

    fn free(&self, desk: &Desk<'_>) -> Result<u64> {
        self.pool(desk).map(|pool| pool.unused())
    }

    fn prepare(&self, desk: &Desk<'_>, number: u64, previous: Option<u64>) -> Result<Staging> {
        self.clear_staging(desk, number)?;
        let name = Self::volume(desk.system, number);
        volume::refuse_taken(&self.group, &name, desk)?;
        let device = volume::device(&self.group, &name);
        if let Some(previous) = previous {
            let origin = format!("{}/{}", self.group, Self::volume(desk.system, previous));
            // Thin snapshots are born inactive unless told otherwise.
            let words = ["--snapshot", "--setactivationskip", "n", &origin];
            volume::create(&name, &words, desk)?;
            return Ok(Staging {
                tree: mount::volume(&device, self.kind, true)?,
                copied: true,
            });
        }
        let (size, pool) = (
            self.size.to_string(),
            format!("{}/{}", self.group, self.pool),
        );
        volume::create(&name, &["--thin", "--virtualsize", &size, &pool], desk)?;
        Ok(Staging {
            tree: volume::format(&device, self.kind, desk)?,
            copied: false,
        })
    }

    fn place(&self, desk: &Desk<'_>, number: u64) -> Result<()> {
        volume::finish(&self.group, &Self::volume(desk.system, number), desk)
    }

    fn exists(&self, desk: &Desk<'_>, number: u64) -> Result<bool> {
        let found = volume::find(&self.group, &Self::volume(desk.system, number), desk)?;
        Ok(found.is_some_and(|volume| !volume.is_staging()))
    }

    fn open(&self, desk: &Desk<'_>, number: u64) -> Result<Tree> {
        mount::volume(&self.location(desk.system, number), self.kind, false)
    }

    fn remove(&self, desk: &Desk<'_>, number: u64) -> Result<()> {
        // Thin snapshots live on when their origin goes; a session keeps what it has.
        volume::remove(&self.group, &Self::volume(desk.system, number), desk)
    }

    fn clear_staging(&self, desk: &Desk<'_>, number: u64) -> Result<()> {
        let name = Self::volume(desk.system, number);
        match volume::own(&self.group, &name, desk)? {
            Some(volume) if volume.is_staging() => volume::remove(&self.group, &name, desk),
            _ => Ok(()),
        }
    }

    fn close(&self, _: &Desk<'_>, _: bool) -> Result<()> {
        Ok(())
    }

    fn sweep(&self, desk: &Desk<'_>, id: &str) -> Result<()> {
        let prefix = format!("imgnode-{}.", desk.system);
        volume::sweep(&self.group, id, desk, &|origin| origin.starts_with(&prefix))
    }

    fn location(&self, system: &SystemName, number: u64) -> PathBuf {
        volume::device(&self.group, &Self::volume(system, number))
    }

    fn chroot(&self, system: &SystemName, number: u64) -> Vec<(&'static str, String)> {
        let device = self.location(system, number).display().to_string();
        let mut keys = vec![("type", "lvm-snapshot".to_owned()), ("device", device)];
        keys.push(("lvm-snapshot-options", "--setactivationskip n".to_owned()));
        let mount = self.kind.mount_options();
        keys.extend(mount.map(|options| ("mount-options", options)));
        keys
    }
}

impl fmt::Display for Thin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group, pool, size, ..
        } = self;
        write!(f, "{group}/{pool}:{size}:{}", self.kind.name())
    }
}
