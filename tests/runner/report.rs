//! What people read: each failure with its output, the phases, the slowest tests.

use std::time::Duration;

/// How many of the slowest tests are shown.
const SLOWEST: usize = 20;
/// Tests that take longer are announced when they end.
const NOTABLE: f64 = 5.0;

/// How a test ended.
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) seconds: f64,
    /// What it took of a processor; several tests share one.
    pub(crate) processor_seconds: f64,
    pub(crate) passed: bool,
    /// What it printed, where it failed.
    pub(crate) output: String,
}

impl Outcome {
    /// Prints a line about it, if it is worth one; of a failed one all that it said.
    pub(crate) fn announce(&self, done: usize, of: usize) {
        let at = format!("[{done}/{of}]");
        if !self.passed {
            println!(
                "\n== failed: {} {at} {:.1} s\n{}\nrepeat it alone: tests/run '{}'\n",
                self.id,
                self.seconds,
                self.output.trim_end(),
                self.id
            );
        } else if self.seconds > NOTABLE {
            println!(
                "{at} ok {} {:.1} s, {:.1} s of a processor",
                self.id, self.seconds, self.processor_seconds
            );
        }
    }
}

/// The report of a run.
pub(crate) struct Report {
    phases: Vec<(String, f64)>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Report {
    /// Begins with phases that are over: `NAME=SECONDS`.
    pub(crate) fn new(phases: &[String]) -> Self {
        let parsed = phases.iter().filter_map(|text| {
            let (name, seconds) = text.rsplit_once('=')?;
            Some((name.to_owned(), seconds.parse().ok()?))
        });
        Self {
            phases: parsed.collect(),
            outcomes: Vec::new(),
        }
    }

    pub(crate) fn phase(&mut self, name: &str, took: Duration) {
        self.phases.push((name.to_owned(), took.as_secs_f64()));
    }

    /// Prints all of it; whether no test failed.
    pub(crate) fn print(&self) -> bool {
        let mut failed: Vec<&Outcome> = self.outcomes.iter().filter(|o| !o.passed).collect();
        failed.sort_by(|a, b| a.id.cmp(&b.id));
        println!("\n== the slowest tests, and what they took of a processor");
        let mut slowest: Vec<&Outcome> = self.outcomes.iter().collect();
        slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        for outcome in slowest.iter().take(SLOWEST) {
            println!(
                "{:7.1} s {:7.1} s  {}",
                outcome.seconds, outcome.processor_seconds, outcome.id
            );
        }
        println!("\n== phases");
        let mut sum = 0.0;
        for (name, seconds) in &self.phases {
            println!("{seconds:7.1} s  {name}");
            sum += seconds;
        }
        println!("{sum:7.1} s  together");
        let passed = self.outcomes.len() - failed.len();
        println!("\n{passed} tests passed, {} failed", failed.len());
        for outcome in &failed {
            println!("failed, see above: {}", outcome.id);
        }
        failed.is_empty()
    }
}
