//! How fast a server has to be.

use std::time::{Duration, Instant};

use super::error::RequestError;

/// A server that sends less than this many bytes a second is given up.
const SLOWEST: u64 = 1024;

/// Notices when a server drips.
pub(super) struct Pace {
    patience: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: Instant::now(),
            bytes: 0,
        }
    }

    pub(super) fn took(&mut self, bytes: u64) -> Result<(), RequestError> {
        self.bytes += bytes;
        if self.since.elapsed() < self.patience {
            return Ok(());
        }
        if self.bytes < SLOWEST * self.patience.as_secs().max(1) {
            let seconds = self.patience.as_secs();
            return Err(RequestError::Permanent(
                format!("the server sent less than {SLOWEST} bytes a second for {seconds} s"),
                Some("IMGBUILD_PATIENCE is how many seconds a slow server is waited for"),
            ));
        }
        *self = Self::new(self.patience);
        Ok(())
    }
}
