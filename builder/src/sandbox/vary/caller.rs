//! The other half of a varied build: imgbuild as a stranger would run it.
//!
//! None of this reaches a step, whose host name, umask and environment are the
//! same in every build. If it did, the second build would have another digest.

use rustix::fs::Mode;

use crate::error::{Context, Result};
use crate::process::Tool;

/// The machine's name in the namespace of a varied build.
const NAME: &[u8] = b"somewhere-else";
/// A locale and a time zone far from most: other capital letters, other dates.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("LANG", "tr_TR.UTF-8"),
    ("LC_ALL", "tr_TR.UTF-8"),
    ("TZ", "Pacific/Kiritimati"),
];

/// What imgbuild inherits from the caller is somebody else's.
pub(in crate::sandbox) fn disguise(tool: Tool) -> Tool {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    ENVIRONMENT
        .into_iter()
        .fold(tool, |tool, (name, value)| tool.env(name, value))
}

/// The machine has another name, for this process and those that it starts.
pub(in crate::sandbox) fn rename() -> Result<()> {
    rustix::system::sethostname(NAME).context(|| "cannot set the host name".into())
}
