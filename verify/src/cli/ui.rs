//! The only place that prints.
//!
//! Data goes to stdout, everything else to stderr: phases and notes as plain lines, one line of
//! progress that is rewritten in place when stderr is a terminal, errors as
//!
//! ```text
//! error: what failed on what
//!   what lies behind it
//! hint: what to do
//! ```

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::display::{escape, escape_json};
use verify::error::{Error, Kind};
use verify::event::{Event, Observer};
use verify::host::commands::join;

/// The shortest time between two drawings of the progress.
const REDRAW: Duration = Duration::from_millis(100);

/// How much is said on stderr.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verbosity {
    Errors,
    Plain,
    Commands,
}

/// The output of the program: the terminal, or whatever takes its place.
pub(crate) struct Ui {
    stdout: io::Stdout,
    verbosity: Verbosity,
    live: bool,
    colour: bool,
    drawn: Mutex<Cell<Option<Instant>>>,
    lost: AtomicBool,
}

impl Ui {
    /// An output that fits where stderr goes.
    pub(crate) fn new(verbose: bool, quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
        let terminal = io::stderr().is_terminal() && !dumb;
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let verbosity = match (quiet, verbose) {
            (true, _) => Verbosity::Errors,
            (false, false) => Verbosity::Plain,
            (false, true) => Verbosity::Commands,
        };
        Self {
            stdout: io::stdout(),
            verbosity,
            live: terminal && verbosity != Verbosity::Errors,
            colour,
            drawn: Mutex::new(Cell::new(None)),
            lost: AtomicBool::new(false),
        }
    }

    /// Prints a line of data on stdout. A reader that went away is no failure of ours.
    pub(crate) fn data(&self, line: &str) {
        if let Err(error) = writeln!(self.stdout.lock(), "{}", escape(line))
            && error.kind() != io::ErrorKind::BrokenPipe
            && !self.lost.swap(true, Ordering::Relaxed)
        {
            self.line(&format!("error: cannot write to stdout: {error}"));
        }
    }

    /// Whether data could not be written.
    pub(crate) fn has_lost_data(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes bytes of data to stdout; false when the reader went away.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> bool {
        self.stdout.lock().write_all(bytes).is_ok()
    }

    /// Prints a value as JSON on stdout.
    pub(crate) fn json(&self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.data(&escape_json(&text)),
            Err(error) => self.line(&format!("cannot encode the result: {error}")),
        }
    }

    /// Prints a remark for the operator on stderr.
    pub(crate) fn note(&self, line: &str) {
        if self.verbosity != Verbosity::Errors {
            self.line(line);
        }
    }

    /// Prints an error and gives its exit code.
    pub(crate) fn fail(&self, error: &Error) -> ExitCode {
        let (red, plain) = if self.colour {
            ("\u{1b}[31m", "\u{1b}[0m")
        } else {
            ("", "")
        };
        self.coloured(&format!("{red}error:{plain} {}", escape(error.what())));
        for cause in error.causes() {
            self.line(&format!("  {cause}"));
        }
        if let Some(hint) = error.advice() {
            self.line(&format!("hint: {hint}"));
        }
        if error.kind() == Kind::Interrupted {
            self.note("nothing was changed");
        }
        ExitCode::from(error.exit_code())
    }

    fn line(&self, line: &str) {
        self.coloured(&escape(line));
    }

    fn coloured(&self, line: &str) {
        let mut stderr = io::stderr().lock();
        let clear = if self.drawn().take().is_some() {
            "\r\u{1b}[K"
        } else {
            ""
        };
        let _ = writeln!(stderr, "{clear}{line}");
    }

    fn drawn(&self) -> std::sync::MutexGuard<'_, Cell<Option<Instant>>> {
        self.drawn
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn progress(&self, done: u64, total: u64) {
        let drawn = self.drawn();
        if !self.live || drawn.get().is_some_and(|last| last.elapsed() < REDRAW) {
            return;
        }
        drawn.set(Some(Instant::now()));
        let percent = done.saturating_mul(100) / total.max(1);
        let _ = write!(
            io::stderr().lock(),
            "\r\u{1b}[K  {percent:3} %  {} of {} MB",
            done / 1_000_000,
            total / 1_000_000
        );
    }
}

impl Observer for Ui {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase(phase) => self.note(phase),
            Event::Note(note) => self.note(&format!("note: {note}")),
            Event::Command(words) if self.verbosity == Verbosity::Commands => {
                self.line(&format!("+ {}", join(words)));
            }
            Event::Command(_) => {}
            Event::Progress { done, total } => self.progress(done, total),
        }
    }
}
