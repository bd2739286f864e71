//! What runs beside the start command of an image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::strict;

/// The most processes of one name.
pub const MAX_COUNT: u32 = 64;

/// Signals that a process may be told to stop or reload with, without their `SIG`.
pub const SIGNALS: [&str; 7] = ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "WINCH"];

/// A process that runs in a session beside the main one, such as a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its name.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The user that it runs as.
    pub user: String,
    /// Where.
    pub directory: String,
    /// Variables beside those of the service.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "strict::unique_map"
    )]
    pub environment: BTreeMap<String, String>,
    /// How many of it run.
    pub count: u32,
    /// The signal that asks it to end.
    pub stop_signal: String,
    /// The signal that makes it reload, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_signal: Option<String>,
    /// Whether it may run in two generations at once.
    pub overlap: bool,
}

impl Process {
    /// The labels of those that run: `worker.1`, `worker.2`.
    pub fn labels(&self) -> impl Iterator<Item = String> + '_ {
        (1..=self.count).map(|number| format!("{}.{number}", self.name))
    }
}

/// Refuses what a node could not run. The error says why.
pub(super) fn check(processes: &[Process]) -> Result<(), String> {
    for (at, process) in processes.iter().enumerate() {
        let Process { name, count, .. } = process;
        if !is_process_name(name) {
            let name = name.escape_debug();
            return Err(format!("`{name}` is not a name of a process"));
        }
        if processes[..at].iter().any(|other| other.name == *name) {
            return Err(format!("the process {name} is there twice"));
        }
        if process.command.is_empty() {
            return Err(format!("the process {name} has no command"));
        }
        if !(1..=MAX_COUNT).contains(count) {
            return Err(format!("{count} processes {name} cannot be"));
        }
        let signals = std::iter::once(&process.stop_signal).chain(&process.reload_signal);
        for signal in signals {
            if !SIGNALS.contains(&signal.as_str()) {
                let signal = signal.escape_debug();
                return Err(format!("`{signal}` is no signal for the process {name}"));
            }
        }
    }
    Ok(())
}

/// Whether a word can name a process: lower-case letters, digits and `-`, beginning with a letter.
pub fn is_process_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&name.len())
        && name.as_bytes()[0].is_ascii_lowercase()
        && name.bytes().all(fits)
}
