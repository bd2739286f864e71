//! `lvm-thin:VG/POOL:SIZE[:FS]`: generations as thin volumes of a pool.
//!
//! The pool is the operator's. The first generation is a thin volume of SIZE; each later one begins
//! as a thin snapshot of the one before and is only written to where it differs, so the pool keeps
//! what is common once. Volumes are called `imgnode-SYSTEM.NUMBER`. A session is a thin snapshot as
//! well and needs no size of its own.

use std::fmt;
use std::path::PathBuf;

use super::driver::{Driver, Staging, SystemContext};
use super::mount::{self, FileSystem};
use super::volume::{self, Size, Volume};
use crate::error::{Error, Result};
use crate::system::SystemName;
use crate::tree::open::OpenTree;

/// Thin volumes in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LvmThin {
    group: String,
    pool: String,
    size: Size,
    kind: FileSystem,
}

impl LvmThin {
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
        volume::no_more(parts.next(), "lvm-thin:VG/POOL:SIZE:xfs|ext4")?;
        Ok(thin)
    }

    fn volume(system: &SystemName, number: u64) -> String {
        format!("imgnode-{system}.{number}")
    }

    fn pool(&self, context: &SystemContext<'_>) -> Result<Volume> {
        let mut volumes = volume::list(&self.group, context)?.into_iter();
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

impl Driver for LvmThin {
    fn inspect(&self, context: &SystemContext<'_>, number: u64) -> Result<bool> {
        self.pool(context)?;
        if number > 0 {
            let name = Self::volume(context.system, number);
            volume::refuse_taken(&self.group, &name, context)?;
        }
        Ok(false)
    }

    fn check_space(&self, context: &SystemContext<'_>, bytes: u64, _: u64) -> Result<()> {
        if self.size.bytes() < bytes {
            return Err(Error::failed(format!(
                "a volume of {} is too small: {bytes} bytes needed",
                self.size
            ))
            .hint("give a larger size in --target"));
        }
        // An upgrade writes less, but how much less is not known before.
        let free = self.free(context)?;
        if free < bytes {
            return Err(Error::failed(format!(
                "not enough space in the thin pool {}/{}: {bytes} bytes needed, {free} free",
                self.group, self.pool
            ))
            .hint("remove old generations with imgnode gc, or extend the pool: lvextend"));
        }
        Ok(())
    }

    fn free(&self, context: &SystemContext<'_>) -> Result<u64> {
        self.pool(context).map(|pool| pool.unused())
    }

    fn begin_staging(
        &self,
        context: &SystemContext<'_>,
        number: u64,
        previous: Option<u64>,
    ) -> Result<Staging> {
        self.clear_staging(context, number)?;
        let name = Self::volume(context.system, number);
        volume::refuse_taken(&self.group, &name, context)?;
        let device = volume::device(&self.group, &name);
        if let Some(previous) = previous {
            let origin = format!("{}/{}", self.group, Self::volume(context.system, previous));
            // Thin snapshots are born inactive unless told otherwise.
            let words = ["--snapshot", "--setactivationskip", "n", &origin];
            volume::create(&name, &words, context)?;
            return Ok(Staging {
                tree: mount::volume(&device, self.kind, true)?,
                copied: true,
            });
        }
        let (size, pool) = (
            self.size.to_string(),
            format!("{}/{}", self.group, self.pool),
        );
        volume::create(&name, &["--thin", "--virtualsize", &size, &pool], context)?;
        Ok(Staging {
            tree: volume::format(&device, self.kind, context)?,
            copied: false,
        })
    }

    fn publish(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        volume::publish(&self.group, &Self::volume(context.system, number), context)
    }

    fn exists(&self, context: &SystemContext<'_>, number: u64) -> Result<bool> {
        let found = volume::find(&self.group, &Self::volume(context.system, number), context)?;
        Ok(found.is_some_and(|volume| !volume.is_staging()))
    }

    fn activate(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        volume::activate(&self.group, &Self::volume(context.system, number), context)
    }

    fn open(&self, context: &SystemContext<'_>, number: u64) -> Result<OpenTree> {
        self.activate(context, number)?;
        mount::volume(&self.location(context.system, number), self.kind, false)
    }

    fn remove(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        // Thin snapshots live on when their origin goes; a session keeps what it has.
        volume::remove(&self.group, &Self::volume(context.system, number), context)
    }

    fn clear_staging(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        let name = Self::volume(context.system, number);
        match volume::own(&self.group, &name, context)? {
            Some(volume) if volume.is_staging() => volume::remove(&self.group, &name, context),
            _ => Ok(()),
        }
    }

    fn close(&self, _: &SystemContext<'_>, _: bool) -> Result<()> {
        Ok(())
    }

    fn clean_session(&self, context: &SystemContext<'_>, id: &str) -> Result<()> {
        let prefix = format!("imgnode-{}.", context.system);
        volume::remove_snapshot(&self.group, id, context, &|origin| {
            origin.starts_with(&prefix)
        })
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

impl fmt::Display for LvmThin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group, pool, size, ..
        } = self;
        write!(f, "{group}/{pool}:{size}:{}", self.kind.name())
    }
}
