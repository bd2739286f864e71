//! Writing to the disk while more is unpacked.
//!
//! The kernel keeps what is written in memory until it must write it, so that a tree that fits
//! there reaches the disk only when it is synced at the end, while the processors wait. Here
//! another thread has it written all along. What went wrong is said at the end, when everything is
//! synced through a descriptor of its own: each of them learns of every error (syncfs(2)).

use std::os::fd::AsFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, OFlags, openat, syncfs};

/// Bytes after which the disk is set to work again, unless it still is.
const PORTION: u64 = 64 << 20;

/// Has what is written below a directory go to the disk.
#[derive(Default)]
pub(super) struct WriteBehind {
    waiting: u64,
    writer: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl WriteBehind {
    /// Counts bytes that were written below `root`.
    pub(super) fn wrote(&mut self, root: impl AsFd, bytes: u64) {
        self.waiting += bytes;
        if self.waiting < PORTION {
            return;
        }
        if self.writer.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // Without it the end takes longer, and nothing else.
            let Ok(root) = openat(root, ".", flags, Mode::empty()) else {
                return;
            };
            let (go, portions) = sync_channel(0);
            let writer = thread::spawn(move || {
                for () in portions {
                    let _ = syncfs(&root);
                }
            });
            self.writer = Some((go, writer));
        }
        let idle = self.writer.as_ref().map(|(go, _)| go.try_send(()));
        if matches!(idle, Some(Ok(()))) {
            self.waiting = 0;
        }
    }
}

impl Drop for WriteBehind {
    /// Waits for the writer, whose descriptor keeps the file system in use.
    fn drop(&mut self) {
        if let Some((go, writer)) = self.writer.take() {
            drop(go);
            let _ = writer.join();
        }
    }
}
