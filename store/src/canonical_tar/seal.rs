//! Telling a tree that is as it was from one that was changed, without reading its files.
//!
//! The seal of a tree is the digest of its entries and, of each file, of the device, the inode and
//! the time of its last change, which no program can set back (stat(2)). There is none where
//! that proves too little: on file systems whose times come from elsewhere, for a tree on several
//! file systems, and for one that was changed a moment ago, because what is written within one tick
//! of the clock leaves the same time.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Entry, Kind};
use crate::digest::Blake3;

/// How long a file must have been as it is: several ticks of the slowest kernel's clock.
const SETTLED: Duration = Duration::from_millis(100);

/// File systems whose times the kernel of this machine sets: ext2 to ext4, XFS, Btrfs, F2FS, tmpfs
/// and ZFS (statfs(2)).
const LOCAL: [i128; 6] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0x0102_1994,
    0x2fc1_2fc1,
];

/// A seal that is being made.
pub(super) struct TreeSeal {
    hasher: blake3::Hasher,
    device: u64,
    /// What changed later may change again unnoticed: seconds since 1970, nanoseconds.
    until: (i64, i64),
    /// Whether all that came so far is told from what it could become.
    holds: bool,
    line: Vec<u8>,
}

impl TreeSeal {
    /// Begins the seal of the tree at `root`, at this time.
    pub(super) fn begin(root: &Path, now: SystemTime) -> Option<Self> {
        let place = rustix::fs::statfs(root).ok()?;
        let kind = i128::from(place.f_type) & 0xffff_ffff;
        let until = now.checked_sub(SETTLED)?;
        let until = until.duration_since(UNIX_EPOCH).ok()?;
        let seconds = i64::try_from(until.as_secs()).ok()?;
        LOCAL.contains(&kind).then_some(Self {
            hasher: blake3::Hasher::new_derive_key("imgbuild tree seal 1"),
            device: root.metadata().ok()?.dev(),
            until: (seconds, until.subsec_nanos().into()),
            holds: true,
            line: Vec::new(),
        })
    }

    /// Adds the next entry.
    pub(super) fn add(&mut self, entry: &Entry, meta: &Metadata) {
        self.line.clear();
        self.text(&entry.path);
        for number in [entry.mode, entry.uid, entry.gid] {
            self.number(number.into());
        }
        self.number(entry.mtime);
        match &entry.kind {
            Kind::Directory => self.number(0),
            Kind::Symlink { target } => {
                self.number(1);
                self.text(target);
            }
            Kind::File { .. } | Kind::Hardlink { .. } => {
                self.number(2);
                for number in [meta.dev(), meta.ino(), meta.size()] {
                    self.number(number);
                }
                for time in [meta.ctime(), meta.ctime_nsec()] {
                    self.number(time.cast_unsigned());
                }
                self.holds &= (meta.ctime(), meta.ctime_nsec()) < self.until;
            }
        }
        self.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            self.text(name);
            self.text(value);
        }
        self.holds &= meta.dev() == self.device;
        self.hasher.update(&self.line);
    }

    /// The seal, if the tree has one.
    pub(super) fn finish(self) -> Option<Blake3> {
        self.holds.then(|| self.hasher.finalize().into())
    }

    fn number(&mut self, number: u64) {
        self.line.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.line.extend_from_slice(text);
    }
}
