//! `lvm:VG/LV:SIZE[:FS[:SNAPSHOT]]`: what the procedure did.
//!
//! A volume for each generation, made with `lvcreate`, formatted and filled. The first is called LV,
//! as the operator said, the next ones LV.2, LV.3 and so on. schroot makes a session as an LVM
//! snapshot of the volume, which may grow to SNAPSHOT, 2G unless told otherwise.

use std::fmt;
use std::path::PathBuf;

use super::driver::{Driver, Staging, SystemContext};
use super::mount::{self, FileSystem};
use super::volume::{self, Size};
use crate::error::{Error, Kind, Result};
use crate::system::SystemName;
use crate::tree::open::OpenTree;

/// Volumes in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lvm {
    group: String,
    name: String,
    size: Size,
    kind: FileSystem,
    snapshot: Size,
}

impl Lvm {
    /// Reads the part of a target behind `lvm:`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let (group, name) = volume::names(parts.next().unwrap_or(""))?;
        let lvm = Self {
            group,
            name,
            size: parts.next().unwrap_or("").parse()?,
            kind: parts.next().unwrap_or("xfs").parse()?,
            snapshot: parts.next().unwrap_or("2G").parse()?,
        };
        volume::no_more(parts.next(), "lvm:VG/LV:SIZE:xfs|ext4:SNAPSHOT")?;
        Ok(lvm)
    }

    fn volume(&self, number: u64) -> String {
        match number {
            0 | 1 => self.name.clone(),
            _ => format!("{}.{number}", self.name),
        }
    }

    fn is_generation(&self, name: &str) -> bool {
        name.strip_prefix(&self.name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl Driver for Lvm {
    fn inspect(&self, context: &SystemContext<'_>, number: u64) -> Result<bool> {
        if number > 0 {
            volume::refuse_taken(&self.group, &self.volume(number), context)?;
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
        let free = self.free(context)?;
        if free < self.size.bytes() {
            return Err(Error::failed(format!(
                "not enough space in the volume group {}: {} needed, {free} bytes free",
                self.group, self.size
            ))
            .hint("remove old generations with imgnode gc, or extend the group"));
        }
        Ok(())
    }

    fn free(&self, context: &SystemContext<'_>) -> Result<u64> {
        volume::free(&self.group, context)
    }

    fn begin_staging(
        &self,
        context: &SystemContext<'_>,
        number: u64,
        _: Option<u64>,
    ) -> Result<Staging> {
        self.clear_staging(context, number)?;
        let (name, size) = (self.volume(number), self.size.to_string());
        volume::refuse_taken(&self.group, &name, context)?;
        let words = ["--wipesignatures", "y", "--size", &size, &self.group];
        volume::create(&name, &words, context)?;
        let device = volume::device(&self.group, &name);
        Ok(Staging {
            tree: volume::format(&device, self.kind, context)?,
            copied: false,
        })
    }

    fn publish(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        volume::publish(&self.group, &self.volume(number), context)
    }

    fn exists(&self, context: &SystemContext<'_>, number: u64) -> Result<bool> {
        let found = volume::find(&self.group, &self.volume(number), context)?;
        Ok(found.is_some_and(|volume| !volume.is_staging()))
    }

    fn activate(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        volume::activate(&self.group, &self.volume(number), context)
    }

    fn open(&self, context: &SystemContext<'_>, number: u64) -> Result<OpenTree> {
        self.activate(context, number)?;
        mount::volume(&self.location(context.system, number), self.kind, false)
    }

    fn remove(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        let holders = self.holders(context, number)?;
        if holders.is_empty() {
            return volume::remove(&self.group, &self.volume(number), context);
        }
        let name = format!("{}/{}", self.group, self.volume(number));
        Err(
            Error::new(Kind::Busy, format!("the volume {name} is in use"))
                .cause(format!("its snapshots: {}", holders.join(", ")))
                .hint("end the sessions: schroot --end-session --chroot NAME"),
        )
    }

    fn holders(&self, context: &SystemContext<'_>, number: u64) -> Result<Vec<String>> {
        volume::snapshots(&self.group, &self.volume(number), context)
    }

    fn clear_staging(&self, context: &SystemContext<'_>, number: u64) -> Result<()> {
        let name = self.volume(number);
        match volume::own(&self.group, &name, context)? {
            Some(volume) if volume.is_staging() => volume::remove(&self.group, &name, context),
            _ => Ok(()),
        }
    }

    fn close(&self, _: &SystemContext<'_>, _: bool) -> Result<()> {
        Ok(())
    }

    fn clean_session(&self, context: &SystemContext<'_>, id: &str) -> Result<()> {
        volume::remove_snapshot(&self.group, id, context, &|origin| {
            self.is_generation(origin)
        })
    }

    fn location(&self, _: &SystemName, number: u64) -> PathBuf {
        volume::device(&self.group, &self.volume(number))
    }

    fn chroot(&self, system: &SystemName, number: u64) -> Vec<(&'static str, String)> {
        let device = self.location(system, number).display().to_string();
        let mut keys = vec![("type", "lvm-snapshot".to_owned()), ("device", device)];
        let options = format!("--size {}", self.snapshot);
        keys.push(("lvm-snapshot-options", options));
        let mount = self.kind.mount_options();
        keys.extend(mount.map(|options| ("mount-options", options)));
        keys
    }
}

impl fmt::Display for Lvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group, name, size, ..
        } = self;
        let kind = self.kind.name();
        write!(f, "{group}/{name}:{size}:{kind}:{}", self.snapshot)
    }
}
