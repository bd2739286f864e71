//! The one place that shows a build to people and programs.
//!
//! On a terminal each phase is one live line; elsewhere it is a line at its
//! start and one at its end; with `--json` every event is a JSON object on a
//! line of stdout. Everything but results and events goes to stderr.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::display::{escape, escape_json, is_hidden};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use store::copy::CopyProgress;

use crate::error::Error;

/// Version of the events' schema.
pub const SCHEMA: u32 = 1;

/// How a build is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Terminal,
    Plain,
    Json,
}

/// Shows what happens.
#[derive(Debug)]
pub struct Ui {
    mode: Mode,
    verbose: bool,
    color: bool,
    phases: Vec<(String, Duration)>,
    secrets: Vec<String>,
}

/// How the process's only [`Ui`] shows, for [`last_words`].
static SHOWN: OnceLock<(Mode, bool)> = OnceLock::new();

/// An event of `--json`, one a line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event<'a> {
    PhaseStart {
        phase: &'a str,
    },
    Progress {
        phase: &'a str,
        done: u64,
        total: u64,
        unit: &'a str,
    },
    Output {
        phase: &'a str,
        line: &'a str,
    },
    PhaseEnd {
        phase: &'a str,
        seconds: f64,
        summary: &'a str,
    },
    Note {
        text: &'a str,
    },
    Error {
        exit_code: u8,
        error: String,
        causes: &'a [String],
        hint: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Versioned<'a> {
    schema: u32,
    #[serde(flatten)]
    event: Event<'a>,
}

/// What a progress figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Bytes that move from one place to another: how fast, and how long still.
    Moved,
    /// Packages.
    Packages,
    /// Steps.
    Steps,
}

/// A running phase; ends with [`Phase::finish`] or, after a failure, by itself.
pub struct Phase<'u> {
    ui: &'u mut Ui,
    name: String,
    bar: Option<ProgressBar>,
    started: Instant,
    last_event: Option<Instant>,
    figures: String,
}

impl Ui {
    /// Chooses the way of showing by the flags and by what stderr is.
    pub fn new(json: bool, verbose: bool) -> Self {
        let terminal = std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let mode = match (json, terminal) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Terminal,
            (false, false) => Mode::Plain,
        };
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        SHOWN.get_or_init(|| (mode, color));
        Self {
            mode,
            verbose,
            color,
            phases: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// Strings that are never shown, whoever prints them.
    pub fn hide(&mut self, secrets: Vec<String>) {
        self.secrets = secrets;
        // Of two that overlap, the longer one goes first.
        self.secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
    }

    fn without_secrets<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), "****"));
            }
        }
        text
    }

    /// Whether results are wanted as JSON.
    pub fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// Phases so far with their times.
    pub fn phases(&self) -> &[(String, Duration)] {
        &self.phases
    }

    /// Begins a phase.
    pub fn phase(&mut self, name: &str) -> Phase<'_> {
        let bar = match self.mode {
            Mode::Terminal => {
                let bar = ProgressBar::new_spinner();
                let style = if self.color {
                    "{spinner:.cyan} {msg}"
                } else {
                    "{spinner} {msg}"
                };
                if let Ok(style) = ProgressStyle::with_template(style) {
                    bar.set_style(style);
                }
                bar.set_message(name.to_owned());
                bar.enable_steady_tick(Duration::from_millis(120));
                Some(bar)
            }
            Mode::Plain => {
                say(&format!("{name} ..."));
                None
            }
            Mode::Json => {
                emit(Event::PhaseStart { phase: name });
                None
            }
        };
        Phase {
            ui: self,
            name: name.to_owned(),
            bar,
            started: Instant::now(),
            last_event: None,
            figures: String::new(),
        }
    }

    /// Says something that a person should know.
    pub fn note(&self, text: &str) {
        match self.mode {
            Mode::Json => emit(Event::Note { text }),
            _ => say(text),
        }
    }

    /// Prints a line of the result itself.
    pub fn result(&self, text: &str) {
        // A closed pipe is the reader's business.
        let _ = writeln!(std::io::stdout(), "{}", escape(text));
    }

    /// Prints a result as JSON.
    pub fn result_json<T: Serialize>(&self, value: &T) {
        if let Ok(text) = serde_json::to_string(value) {
            self.result(&escape_json(&text));
        }
    }

    /// Shows an error as a sentence, its causes and its hint.
    pub fn error(&self, error: &Error) {
        show_error(self.mode, self.color, error, &|text| {
            self.without_secrets(text).into_owned()
        });
    }
}

/// Shows an error while another thread still owns the [`Ui`], right before the
/// process ends.
pub fn last_words(error: &Error) {
    let (mode, color) = SHOWN.get().copied().unwrap_or((Mode::Plain, false));
    if mode == Mode::Terminal {
        // Over the live line.
        let _ = write!(std::io::stderr(), "\r\x1b[2K");
    }
    show_error(mode, color, error, &str::to_owned);
}

fn show_error(mode: Mode, color: bool, error: &Error, clean: &dyn Fn(&str) -> String) {
    let clean = |text: &str| escape(&clean(text)).into_owned();
    let sentence = clean(&error.to_string());
    let causes: Vec<String> = error.causes().iter().map(|c| clean(c)).collect();
    if mode == Mode::Json {
        emit(Event::Error {
            exit_code: error.kind().exit_code(),
            error: sentence.clone(),
            causes: &causes,
            hint: error.advice(),
        });
    }
    let (red, bold, off) = if color {
        ("\x1b[1;31m", "\x1b[1m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let mut text = format!("{red}error:{off} {sentence}\n");
    for cause in causes {
        let _ = writeln!(text, "  {}", cause.replace('\n', "\n  "));
    }
    if let Some(hint) = error.advice() {
        let _ = writeln!(text, "{bold}hint:{off} {}", escape(hint));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

impl Phase<'_> {
    /// A line of output of what runs in this phase.
    pub fn output(&mut self, line: &str) {
        let line = &*self.ui.without_secrets(line).into_owned();
        match (self.ui.mode, &self.bar) {
            (Mode::Terminal, Some(bar)) if self.ui.verbose => {
                bar.suspend(|| say(&format!("  {line}")));
            }
            (Mode::Terminal, Some(bar)) => {
                bar.set_message(format!("{}{}  {}", self.name, self.figures, shorten(line)));
            }
            (Mode::Json, _) if self.ui.verbose => emit(Event::Output {
                phase: &self.name,
                line,
            }),
            _ if self.ui.verbose => say(&format!("  {line}")),
            _ => {}
        }
    }

    /// How far the phase is.
    pub fn progress(&mut self, done: u64, total: u64, unit: Unit) {
        self.figures = match unit {
            Unit::Bytes => format!("  {} of {}", size(done), size(total)),
            Unit::Moved => moved(done, total, self.started.elapsed()),
            Unit::Packages => format!("  {done} of {total} packages"),
            Unit::Steps => format!("  {done} of {total}"),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}{}", self.name, self.figures));
        }
        let due = self
            .last_event
            .is_none_or(|at| at.elapsed() > Duration::from_millis(500));
        if self.ui.mode == Mode::Json && (due || done == total) {
            self.last_event = Some(Instant::now());
            let unit = match unit {
                Unit::Bytes | Unit::Moved => "bytes",
                Unit::Packages => "packages",
                Unit::Steps => "steps",
            };
            emit(Event::Progress {
                phase: &self.name,
                done,
                total,
                unit,
            });
        }
    }

    /// How far a copy between stores is.
    pub fn copying(&mut self, progress: CopyProgress) {
        match progress {
            CopyProgress::Move { done, total } => self.progress(done, total, Unit::Moved),
            CopyProgress::Check { done, total } => {
                self.output(&format!("expanding: {} of {}", size(done), size(total)));
            }
            _ => {}
        }
    }

    /// Says something without ending the live line.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.ui.note(text)),
            None => self.ui.note(text),
        }
    }

    /// Ends the phase with a few words on what came of it.
    pub fn finish(mut self, summary: &str) {
        let took = self.started.elapsed();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let seconds = took.as_secs_f64();
        match self.ui.mode {
            Mode::Json => emit(Event::PhaseEnd {
                phase: &self.name,
                seconds,
                summary,
            }),
            _ => say(&format!("{:<28} {seconds:>7.1} s   {summary}", self.name)),
        }
        self.ui.phases.push((self.name.clone(), took));
    }
}

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn emit(event: Event<'_>) {
    if let Ok(text) = serde_json::to_string(&Versioned {
        schema: SCHEMA,
        event,
    }) {
        let _ = writeln!(std::io::stdout(), "{}", escape_json(&text));
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", escape(text));
}

/// Whether a person types the commands and reads what they say.
pub fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Enough of a line for the live display.
fn shorten(line: &str) -> String {
    line.chars().filter(|c| !is_hidden(*c)).take(60).collect()
}

/// How far, how fast and how long still.
fn moved(done: u64, total: u64, took: Duration) -> String {
    let mut text = format!("  {} of {}", size(done), size(total));
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    // The first moments say nothing about the rest.
    if millis >= 500 && done > 0 {
        let rate = (u128::from(done) * 1000 / u128::from(millis)) as u64;
        let left = total.saturating_sub(done).div_ceil(rate.max(1));
        let _ = write!(text, "  {}/s", size(rate));
        let _ = match left {
            0..60 => write!(text, "  {left} s left"),
            60..3600 => write!(text, "  {} min left", left.div_ceil(60)),
            _ => write!(text, "  {} h left", left.div_ceil(3600)),
        };
    }
    text
}

/// Bytes as people read them, in decimal units.
pub fn size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // one decimal is shown
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1000), "1.0 kB");
        assert_eq!(size(844_123_456), "844.1 MB");
        assert_eq!(size(12_000_000_000_000), "12.0 TB");
    }

    #[test]
    fn what_moves_has_a_rate_and_an_end() {
        let at = |done, millis| moved(done, 10_000_000, Duration::from_millis(millis));
        assert_eq!(at(0, 9000), "  0 B of 10.0 MB");
        assert_eq!(at(1_000_000, 100), "  1.0 MB of 10.0 MB");
        let text = "  1.0 MB of 10.0 MB  1.0 MB/s  9 s left";
        assert_eq!(at(1_000_000, 1000), text);
        let text = "  1.0 kB of 10.0 MB  1.0 kB/s  3 h left";
        assert_eq!(at(1000, 1000), text);
        let text = "  5.0 MB of 10.0 MB  50.0 kB/s  2 min left";
        assert_eq!(at(5_000_000, 100_000), text);
    }

    #[test]
    fn secrets_are_hidden_the_longest_first() {
        let mut ui = Ui::new(false, false);
        ui.hide(vec!["pass".into(), "user:pass@host".into()]);
        assert_eq!(
            ui.without_secrets("x user:pass@host pass y"),
            "x **** **** y"
        );
        assert!(matches!(
            ui.without_secrets("plain"),
            Cow::Borrowed("plain")
        ));
    }

    #[test]
    fn events_carry_the_schema_version() {
        let event = Versioned {
            schema: SCHEMA,
            event: Event::Note { text: "x" },
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"schema":1,"event":"note","text":"x"}"#);
    }
}
