//! The log of a system: what its processes print.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use crate::error::{Context, Result};
use crate::node::Node;
use crate::system::SystemName;

/// The longest log, in bytes; a longer one is set aside, and one older one is kept.
const LIMIT: u64 = 16 << 20;
/// The most bytes that an error message looks at.
const END: u64 = 64 << 10;

/// Opens the log to be written to; also says how long it is now.
pub(super) fn open(node: &Node<'_>, system: &SystemName) -> Result<(File, u64)> {
    let path = node.state.log_file(system);
    let reopen = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path)
    };
    let length = |file: &File| file.metadata().map(|found| found.len());
    let attempt = || -> std::io::Result<(File, u64)> {
        let file = reopen()?;
        let long = length(&file)?;
        if long <= LIMIT {
            return Ok((file, long));
        }
        fs::rename(&path, node.state.older_log_file(system))?;
        Ok((reopen()?, 0))
    };
    attempt().context(|| format!("cannot open the log {}", path.display()))
}

/// Sets a log aside that has grown too long while the app runs. The app goes on with the same file,
/// to whose end it writes: what it says between the copy and the cut is lost.
pub fn bound(node: &Node<'_>, system: &SystemName) -> Result<()> {
    let (path, older) = (
        node.state.log_file(system),
        node.state.older_log_file(system),
    );
    let attempt = || -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).open(&path)?;
        // Who watches and another command may look at once: the copy of a cut log is no log.
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        if file.metadata()?.len() <= LIMIT {
            return Ok(());
        }
        // On a full disk the newest lines count for more than the older ones.
        if fs::copy(&path, &older).is_err() {
            fs::remove_file(&older)?;
        }
        file.set_len(0)
    };
    match attempt() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.context(|| format!("cannot set the log {} aside", path.display())),
    }
}

/// The end of the log from `offset` on, for an error message.
pub(super) fn since(node: &Node<'_>, system: &SystemName, offset: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(node.state.log_file(system)) {
        let length = file.metadata().map_or(0, |found| found.len());
        let _ = file.seek(SeekFrom::Start(offset.max(length.saturating_sub(END))));
        let _ = file.take(END).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
