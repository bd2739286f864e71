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

/// A job that runs in a session from time to time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
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
    /// How many seconds there are from one start to the next; or there is `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// The time of day at which it starts, `03:30` of UTC; or there is `every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// How many seconds it may run before it is ended; as long as it likes when there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

const DAY: u64 = 24 * 60 * 60;

impl Timer {
    /// The first moment after `moment` at which it is to start, in seconds since 1970.
    pub fn next(&self, moment: u64) -> u64 {
        match (self.every, self.at.as_deref().and_then(time_of_day)) {
            (Some(every), _) => moment.saturating_add(every),
            (None, Some(at)) => {
                let today = moment - moment % DAY + at;
                if today > moment { today } else { today + DAY }
            }
            // Refused when the manifest was read.
            (None, None) => u64::MAX,
        }
    }

    /// When it starts and how long it may run, in words.
    pub fn schedule(&self) -> String {
        let starts = match (self.every, &self.at) {
            (Some(every), _) => format!("every {}", duration(every)),
            (None, at) => format!("at {} UTC", at.as_deref().unwrap_or_default()),
        };
        match self.limit {
            Some(limit) => format!("{starts}, for at most {}", duration(limit)),
            None => starts,
        }
    }
}

/// Seconds as a recipe writes them: `15m`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0 => "0s".to_owned(),
        hours if hours % 3600 == 0 => format!("{}h", hours / 3600),
        minutes if minutes % 60 == 0 => format!("{}m", minutes / 60),
        _ => format!("{seconds}s"),
    }
}

/// The seconds of a day at a time such as `03:30`.
pub fn time_of_day(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, below: u64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().ok();
        let number = number.filter(|number| *number < below)?;
        digits.then_some(number)
    };
    Some(number(hours, 24)? * 3600 + number(minutes, 60)? * 60)
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

/// Says what is wrong with timers.
pub(super) fn check_timers(timers: &[Timer]) -> Result<(), String> {
    for (at, timer) in timers.iter().enumerate() {
        let name = &timer.name;
        if !is_process_name(name) {
            let name = name.escape_debug();
            return Err(format!("`{name}` is not a name of a timer"));
        }
        if timers[..at].iter().any(|other| other.name == *name) {
            return Err(format!("the timer {name} is there twice"));
        }
        if timer.command.is_empty() {
            return Err(format!("the timer {name} has no command"));
        }
        let fits = match (timer.every, &timer.at) {
            (Some(every), None) => every > 0,
            (None, Some(at)) => time_of_day(at).is_some(),
            _ => false,
        };
        if !fits {
            return Err(format!("when the timer {name} starts is not clear"));
        }
        if timer.limit == Some(0) {
            return Err(format!("the timer {name} has no time to run"));
        }
    }
    Ok(())
}

/// Whether a word can name a process or a timer: lower-case letters, digits and `-`, beginning with a letter.
pub fn is_process_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&name.len())
        && name.as_bytes()[0].is_ascii_lowercase()
        && name.bytes().all(fits)
}
